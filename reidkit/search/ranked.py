"""Ranked lists of a gallery. Half precision decides who may be on a list; full precision decides the list.

The index keeps rows in half precision, and knows by how much each score may be wrong. Every picture that could belong
to the first `top` within that error is read and embedded again, in the run's own precision, and `evaluation.rank`
orders them: the list is the one that `rank` gives for the features of all pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reidkit.errors import ReIDKitError
from reidkit.evaluation.ranked_list import best, rank
from reidkit.evaluation.scores import check_count
from reidkit.search.index import GalleryIndex
from reidkit.search.nearest import SPARE, Kind, candidates, check_kind, describe, open_nearest, recall
from reidkit.search.network import PictureNetwork
from reidkit.search.pictures import Picture

TOGETHER = 32  # queries whose scores of the whole gallery are in memory
MOST_AGAIN = 256  # pictures that are read again for one list, beyond SPARE times its length


@dataclass(frozen=True)
class Hit:
    """One place of a list. row: of the index. name: path in the gallery. score: cosine similarity of the whole
    features. parts: [K], part by part."""

    rank: int
    row: int
    name: str
    score: float
    parts: np.ndarray


@dataclass
class Search:
    """Ranked lists of some pictures in one gallery. hits: a list a query. kind: of the index. notes: what to know."""

    index: GalleryIndex
    queries: list[Picture]
    hits: list[list[Hit]]
    kind: Kind
    notes: list[str] = field(default_factory=list)


def search(
    network: PictureNetwork, index: GalleryIndex, queries: Sequence[Picture], *, top: int = 20, kind: Kind = "exact"
) -> Search:
    """The `top` pictures of the gallery that are most like each query, best first; all of a smaller gallery.

    kind: "exact" compares every picture. "ivf" and "hnsw" ask FAISS, and a note says what recall that costs.
    Raises ReIDKitError for top < 1 and where FAISS is needed and missing, UnknownNameError for another kind.
    """
    check_kind(kind)
    check_count(top, "top")
    if not queries:
        raise ReIDKitError("there is nothing to search for: name one picture or more")
    features = network.features(network.pixels(q.image for q in queries), [str(q.path) for q in queries])  # [Q, D]
    found = Search(index, list(queries), [], kind)
    top_here = min(top, len(index))
    if kind == "exact":
        everything = np.arange(len(index))
        rows = [
            shortlist(scores, everything, index, top_here)
            for some in features.split(TOGETHER)
            for scores in index.scores(some)  # [N]
        ]
        found.notes.append(describe(kind, None, top_here))
    else:
        nearest = open_nearest(index, kind)
        near = nearest.find(F.normalize(features, dim=1).numpy(), candidates(top_here, len(index)))
        near = [np.sort(at) for at in near]
        rows = [shortlist(index.scores(f[None], at)[0], at, index, top_here) for f, at in zip(features, near)]
        found.notes.append(describe(kind, recall(index, nearest, top_here), top_here))
    for feature, (at, left_out) in zip(features, rows):
        found.hits.append(_ordered(network, index, feature, at, top_here, found.notes))
        if left_out:
            found.notes.append(
                f"{left_out} more pictures are as like the query as the last places of the list, within what half "
                "precision can tell: near copies of each other"
            )
    return found


def shortlist(scores: np.ndarray, at: np.ndarray, index: GalleryIndex, top: int) -> tuple[np.ndarray, int]:
    """(rows, in ascending order, that may be among the `top`; how many more there were than are read again).

    scores: [n] of the rows `at` [n], ascending. A row may be on the list if its score, plus its error, reaches the
    `top`-th largest of the scores minus their errors.
    """
    if not len(at):
        return at, 0
    top = min(top, len(at))
    worst = index.worst_rounding  # of any row: enough to find those whose own error matters
    near = np.flatnonzero(scores >= scores[best(scores, top)[-1]] - 2 * worst)
    error = index.rounding(at[near])
    low = np.sort(scores[near] - error)[-top]
    near = near[scores[near] + error >= low]
    most = SPARE * top + MOST_AGAIN
    kept = np.sort(near[best(scores[near], min(most, len(near)))])
    return at[kept], len(near) - len(kept)


def _ordered(
    network: PictureNetwork, index: GalleryIndex, feature: Tensor, at: np.ndarray, top: int, notes: list[str]
) -> list[Hit]:
    """The list of one query [D] among the rows `at`, from their pictures."""
    pixels, places, broken = network.read([index.path(row) for row in at])
    notes += [f"left out, it changed while the gallery was searched: {why}" for why in broken.values()]
    if not places:
        return []
    names = [str(index.path(at[i])) for i in places]
    gallery = torch.cat([network.features(p, names[64 * i :]) for i, p in enumerate(pixels.split(64))])  # [n, D]
    order, scores = rank(feature[None], gallery, top, return_scores=True)
    parts = F.cosine_similarity(network.parts(feature)[None], network.parts(gallery), dim=-1)  # [n, K]
    return [
        Hit(n, int(at[places[i]]), index.files[at[places[i]]].name, float(score), parts[i].numpy())
        for n, (i, score) in enumerate(zip(order[0], scores[0]), 1)
    ]
