"""The tour's first pictures: one badly placed person, what two networks find, and what their part classifiers look at.

    answers = ask(load_dataset("sidewalk", size="medium").at_level("strong"))
    section(answers)                                         # HTML for the page
    finding(answers)                                         # the sentence that says what came out

The networks ship with the kit, so this needs no training: it is there while the rest of the tour still works. What the
sentence says is measured here and now; where an effect of the paper does not appear, it says that.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw

from reidkit.attention import part_attention
from reidkit.data import ReIDDataset
from reidkit.data.images import read_image
from reidkit.data.transforms import normalize
from reidkit.evaluation import evaluate_ranking, top_k
from reidkit.models import ReIDModel
from reidkit.reporting.fig8 import badly_placed, own_rows, part_scores
from reidkit.reporting.pictures import data_url, heat_overlay, thumbnail
from reidkit.tour.page import glossary
from reidkit.tour.words import SCORES, SYSTEMS, TEST_LEVELS, label
from reidkit.training.runs import find_run, load_run

NETWORKS = ("naive-mtl", "mpn")  # shipped: the network without MPN's idea, and MPN
PEOPLE = 40  # whose pictures are searched: the features of all 100 would take most of the two minutes
SHOWN = 8  # pictures of a ranked list
TILE = (128, 384)  # pixels (width, height) of a picture in the page: twice its own size, for screens of high density


@dataclass(frozen=True)
class Answer:
    """What one network makes of the query.

    first: the `SHOWN` best gallery pictures (path, score, correct). ap: average precision of the query's whole list.
    maps: [K, H, W] in [0, 1]. mAP: over all badly placed queries. pointing: how often the peak of a part's map
    lies in its own part of the body, over `Answers.scored` queries. Fractions in [0, 1].
    """

    first: pd.DataFrame
    ap: float
    maps: np.ndarray
    mAP: float
    pointing: float


@dataclass(frozen=True)
class Answers:
    """The query, how much was searched and measured, and {the paper's name of a network: its `Answer`}.

    picture: uint8 [3, H, W]. own: [K, H] bool, the rows of each part's share of the body. queries: badly placed ones.
    """

    query: pd.Series
    picture: torch.Tensor
    own: np.ndarray
    people: int
    gallery: int
    queries: int
    scored: int
    level: str
    networks: Mapping[str, Answer]


def ask(test: ReIDDataset, networks: tuple[str, ...] = NETWORKS, people: int = PEOPLE, images: int = 60) -> Answers:
    """Let shipped networks search for the first badly placed person of a rendered test set.

    people: so many persons of the test set are searched, in their order. images: queries whose part maps are scored.
    Raises CheckpointError for a network that does not ship, DatasetError for a set without ground truth.
    """
    known = test.query.pid.unique()[:people]
    query, gallery = (t[t.pid.isin(known)].reset_index(drop=True) for t in (test.query, test.gallery))
    few = replace(test, query=query, gallery=gallery)
    row = badly_placed(few.query)
    wrong = few.query.index[few.query.detector != "ok"]  # too large, or cut at head or legs
    nets = {label(net.name): net for net in map(load_run, networks)}
    size = find_run(networks[0]).recipe().size
    scores = part_scores(nets, test, size, images)
    picture = torch.from_numpy(read_image(few.query.path.iloc[row], size))
    return Answers(
        query=few.query.iloc[row],
        picture=picture,
        own=own_rows(few, row, next(iter(nets.values())), size),
        people=len(known),
        gallery=len(few.gallery),
        queries=len(wrong),
        scored=min(images, len(test.query)),
        level=test.level,
        networks={name: _answer(net, few, row, wrong, picture, scores[name]["pointing"]) for name, net in nets.items()},
    )


def _answer(
    net: ReIDModel, test: ReIDDataset, row: int, wrong: pd.Index, picture: torch.Tensor, pointing: float
) -> Answer:
    """One network's ranked list, part maps and scores; wrong: the rows of the badly placed queries."""
    asked, gallery = test.query.loc[wrong], test.gallery
    qf, gf = net.extract(asked.path, progress=False), net.extract(gallery.path, progress=False)  # [Q, D], [G, D]
    place, one = int(np.flatnonzero(wrong == row)[0]), test.query.loc[row]
    known = {"g_pids": gallery.pid, "g_camids": gallery.camid}
    first = top_k(qf[place], gf, SHOWN, q_pid=one.pid, q_camid=one.camid, **known)
    result = evaluate_ranking(qf, gf, asked.pid, gallery.pid, asked.camid, gallery.camid)
    return Answer(
        first=first.assign(path=gallery.path.iloc[first.gallery_index].to_numpy()),
        ap=float(result.per_query.ap.iloc[place]),
        maps=part_attention(net, normalize(picture[None]))[0].numpy(),
        mAP=float(result.mAP),
        pointing=float(pointing),
    )


OFTEN = {1: "more often than", 0: "as often as", -1: "less often than"}
WELL = {1: "better than", 0: "as well as", -1: "worse than"}


def finding(answers: Answers) -> str:
    """One sentence that says what came out for the second network beside the first, whichever way it went."""
    (other, before), (name, after) = answers.networks.items()
    peaks = [f"{100 * a.pointing:.0f}" for a in (after, before)]
    found = [f"{100 * a.mAP:.1f}" for a in (after, before)]
    looks, finds = _sign(peaks), _sign(found)
    return (
        f"{name}'s part classifiers look at their own part of the body {OFTEN[looks]} {other}'s ({peaks[0]} against "
        f"{peaks[1]} % of the part maps of {answers.scored} queries), {'and' if looks == finds else 'but'} {name} "
        f"finds badly placed people {WELL[finds]} {other} ({found[0]} against {found[1]} mAP)"
        + ("." if looks == finds == 1 else f"; in the paper {name} is better in both.")
    )


def _sign(pair: list[str]) -> int:
    """1 where the first of two printed numbers is larger, -1 where it is smaller, 0 where they read the same."""
    return int(np.sign(float(pair[0]) - float(pair[1])))


def section(answers: Answers) -> str:
    """The HTML of it all: the sentence, ranked lists, part maps, and what the names mean."""
    query, names = answers.query, list(answers.networks)
    searched = f"{answers.gallery} pictures of {answers.people} people"
    parts = [
        "<h2>One badly placed person, two networks</h2>",
        f"<p class=finding>{html.escape(finding(answers))}</p>",
        "<p>Person re-identification asks which pictures of a gallery show the person of a <b>query</b>. All people "
        "here are rendered, so that where each body part is, is known exactly. This query's box is too large, by a "
        f"detector's mistake: the body fills rows {100 * query.top:.0f} to {100 * query.bottom:.0f} % of the picture. "
        f"It is the first such query of the test level <i>{html.escape(answers.level)}</i>, chosen by that rule and "
        f"not by its outcome; it is looked for in {searched}, of which those of the same person by the same camera do "
        "not count.</p>",
    ]
    for name, answer in answers.networks.items():
        parts.append(
            f"<h3>{html.escape(name)}: the {len(answer.first)} most similar pictures</h3>{_list(answers, answer)}"
        )
    parts.append(
        "<h2>What six part classifiers look at</h2><p>The brighter, the more the classifier of a part relies on that "
        "place (Grad-CAM). Between the white lines is its own sixth of the body; the network is not told.</p>"
    )
    for name, answer in answers.networks.items():
        parts.append(
            f"<h3>{html.escape(name)}: {100 * answer.pointing:.0f} % of its maps peak in their part of the body</h3>"
            + _maps(answers, answer)
        )
    parts.append(
        glossary({n: SYSTEMS[n] for n in names} | {answers.level: TEST_LEVELS[answers.level], "mAP": SCORES["mAP"]})
    )
    parts.append(
        "<p class=soft>Networks that ship with the kit, one seed: a demonstration, not a comparison. mAP over the "
        f"{answers.queries} badly placed queries of these {answers.people} people.</p>"
    )
    return "".join(parts)


def _list(answers: Answers, answer: Answer) -> str:
    tiles = [_tile(thumbnail(answers.picture, TILE), "query", "the query", "query")]
    hits = zip(answer.first.path, answer.first.correct, answer.first.score)
    for place, (path, correct, score) in enumerate(hits, 1):
        words, kind = f"{place}. {'✓ same' if correct else '✗ another'}", "right" if correct else "wrong"
        with Image.open(path) as image:
            tiles.append(_tile(thumbnail(image, TILE), f"{words} person, likeness {score:.2f}", words, kind))
    said = f"{answer.first.correct.sum()} of {len(answer.first)} show the same person; average precision of the whole "
    said += f"list {100 * answer.ap:.1f}."
    return f"<div class=row>{''.join(tiles)}</div><p class=soft>{said}</p>"


def _maps(answers: Answers, answer: Answer) -> str:
    tiles, rows = [_tile(thumbnail(answers.picture, TILE), "the query", "the query", "query")], answers.picture.shape[1]
    for k, values in enumerate(answer.maps):
        one = heat_overlay(answers.picture, values, TILE, "inferno")
        for edge in np.flatnonzero(np.diff(answers.own[k])) + 1:  # the first row of another share
            y = round(edge * TILE[1] / rows)
            ImageDraw.Draw(one).line([(0, y), (TILE[0], y)], fill="white", width=2)
        tiles.append(_tile(one, f"what the classifier of part {k + 1} looks at", f"part {k + 1}", ""))
    return f"<div class=row>{''.join(tiles)}</div>"


def _tile(picture: Image.Image, alt: str, words: str, kind: str) -> str:
    """A picture with a line below it."""
    source = data_url(picture, quality=85)
    return (
        f'<figure class="tile {kind}"><img alt="{html.escape(alt)}" src="{source}" width={TILE[0]} height={TILE[1]}>'
        f"<figcaption>{html.escape(words)}</figcaption></figure>"
    )
