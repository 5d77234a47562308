"""Panel 5: the ranked list of one query, with the protocol's rule on and off, and its AP worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from traitlets import Bool, Float, Int, Unicode

from reidkit.data import ReIDDataset
from reidkit.data.images import decode
from reidkit.errors import ReIDKitError
from reidkit.evaluation import average_precision
from reidkit.evaluation.protocol import GroundTruth
from reidkit.panels.kit.base import Choice, Panel, Sketch, Slider, Toggle
from reidkit.panels.kit.drawing import (
    IGNORED,
    INK,
    LINE,
    MUTED,
    RIGHT,
    WRONG,
    canvas,
    fit,
    frame,
    photograph,
    text,
)
from reidkit.panels.kit.layout import Layout, Piece, Stack, Text, Tiles
from reidkit.panels.kit.runs import PanelRun, Recent, image_name, open_runs
from reidkit.panels.kit.sketch import Box
from reidkit.priors import PriorTable

PER_ROW, CELL, LEFT, TOP = 10, (72, 210), 112, 34  # cells a row, size of a cell, where the gallery begins
STEP, EDGE = (84, 240), 6  # from cell to cell; room for a cell's frame
JUNK_ON = "this person under the query's own camera is left out"
JUNK_OFF = "this person under the query's own camera counts as right"


class RankedList(Panel):
    """Query, gallery images in order, right (+), wrong (×) and ignored (o) ones, and the sum that gives the AP.

    runs: finished run folders (or {name: folder}). dataset: its query and gallery tables are ranked; pass
    `dataset.at_level("strong")` for another level. priors: for networks that need them at test time.
    gallery_size: rank against that many images only (every true match of the queries kept), for large sets on a
    CPU; the AP is then that of the smaller gallery. Features are extracted here, once a run.
    """

    title = "Ranked list"
    prompt = (
        "Predict the AP from the frames before you read it. Then switch the rule off: the list looks better. "
        "Is the network better? Can you help one query by weighting its parts, and what do the others say?"
    )
    size = (960, 590)

    run = Unicode()
    query = Int(0)
    top_k = Int(2 * PER_ROW)
    junk_rule = Bool(True)

    def __init__(
        self,
        runs: Mapping[str, str | Path] | Sequence[str | Path],
        dataset: ReIDDataset,
        *,
        priors: PriorTable | None = None,
        gallery_size: int | None = None,
        checks: int = 24,
    ):
        self.runs = open_runs(runs, dataset, priors)
        self.queries = dataset.query.reset_index(drop=True)
        self.gallery = smaller_gallery(self.queries, dataset.gallery, gallery_size).reset_index(drop=True)
        self.truth = GroundTruth(
            self.queries.pid, self.gallery.pid, self.queries.camid, self.gallery.camid, dataset.junk_pids
        )
        self.checks = np.unique(np.linspace(0, len(self.queries) - 1, min(checks, len(self.queries))).astype(int))
        self.weight_names = [f"weight_{k + 1}" for k in range(max(r.num_parts for r in self.runs.values()))]
        for run in self.runs.values():
            for table in (self.queries, self.gallery):
                run.features(table)
        self._products, self._pictures = Recent(200), Recent(400)
        self.run = next(iter(self.runs))
        self.add_traits(**{name: Float(1.0) for name in self.weight_names})
        super().__init__()

    def controls(self):
        table = {
            "run": Choice("run", list(self.runs)),
            "query": Slider("query", 0, len(self.queries) - 1),
            "top_k": Slider("top k", 1, 2 * PER_ROW),
            "junk_rule": Toggle("junk rule"),
        }
        return table | {n: Slider(f"weight {n.split('_')[1]}", 0.0, 2.0, 0.1) for n in self.weight_names}

    def hidden(self):
        return self.weight_names[self.runs[self.run].num_parts :] if self.run in self.runs else ()

    # ---- the numbers ------------------------------------------------------------------------------------------------

    def weights(self, state: SimpleNamespace) -> Tensor:
        """[K] of the chosen run."""
        names = self.weight_names[: self.runs[state.run].num_parts]
        weights = torch.tensor([getattr(state, n) for n in names])
        if not weights.any():
            raise ReIDKitError("every part has weight 0: nothing is left to compare. Give one part a weight")
        return weights

    def scores(self, state: SimpleNamespace, query: int) -> np.ndarray:
        """[G] cosine similarity of the weighted embeddings: each part's feature times the root of its weight."""
        run, weights = self.runs[state.run], self.weights(state)
        dots, own, norms = self._products((run.name, query), lambda: self._parts(run, query))  # [G, K], [K], [G, K]
        length = ((own * weights).sum() * (norms * weights).sum(1)).sqrt()
        return ((dots * weights).sum(1) / length.clamp_min(1e-12)).numpy()

    def _parts(self, run: PanelRun, query: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inner products and squared lengths, part by part: all that the weights act on."""
        q, g = run.features(self.queries)[query], run.features(self.gallery)  # [K, d], [G, K, d]
        norms = self._products(run.name, lambda: g.square().sum(2))
        return torch.einsum("gkd,kd->gk", g, q), q.square().sum(1), norms

    def ranking(self, state: SimpleNamespace, query: int | None = None) -> pd.DataFrame:
        """gallery_index, score, kind ("right", "wrong", "junk"), best first. The rule removes the junk.

        Without the rule same-camera images of the query's person count as right, and other junk as wrong.
        """
        query = int(state.query if query is None else query)
        scores = self.scores(state, query)
        right, ignored = self.truth.of(query)
        kind = np.full(len(scores), "wrong", dtype=object)
        kind[right], kind[ignored] = "right", "junk"
        order = np.argsort(-scores, kind="stable")
        if state.junk_rule:
            order = order[kind[order] != "junk"]
        return pd.DataFrame({"gallery_index": order, "score": scores[order], "kind": kind[order]})

    def counted_right(self, state: SimpleNamespace, ranking: pd.DataFrame, query: int | None = None) -> np.ndarray:
        """Ranks, from 1, of what counts as right."""
        pid = self.queries.pid[state.query if query is None else query]
        same = self.gallery.pid.to_numpy()[ranking.gallery_index] == pid
        return np.flatnonzero((ranking.kind == "right") | (ranking.kind == "junk") & same) + 1

    def ap(self, state: SimpleNamespace, query: int | None = None) -> float:
        """AP of one query; NaN where nothing counts as right."""
        ranks = self.counted_right(state, self.ranking(state, query), query)
        return average_precision(ranks) if len(ranks) else float("nan")

    def mean_ap(self, state: SimpleNamespace) -> float:
        """Mean AP of `checks` queries spread over the set, under the same weights and rule."""
        return float(np.nanmean([self.ap(state, int(q)) for q in self.checks]))

    def by_hand(self, state: SimpleNamespace, terms: int = 7) -> str:
        """The AP as a sum that a reader can check: at each right image, right ones so far / rank."""
        ranks = self.counted_right(state, self.ranking(state))
        if not len(ranks):
            return "no image of this person under another camera: the protocol leaves this query out"
        shown = " + ".join(f"{i}/{r}" for i, r in enumerate(ranks[:terms], start=1))
        rest = f" + … {len(ranks) - terms} more" if len(ranks) > terms else ""
        return f"AP = ({shown}{rest}) / {len(ranks)} = {average_precision(ranks):.3f}"

    def status(self, state: SimpleNamespace) -> str:
        rule = "rule on" if state.junk_rule else "rule off"
        return (
            f"query {state.query}: {image_name(self.queries.loc[state.query])} | {rule} | {self.by_hand(state)} | "
            f"mean AP of {len(self.checks)} queries {self.mean_ap(state):.3f}"
        )

    # ---- the picture ------------------------------------------------------------------------------------------------

    def _places(self, state: SimpleNamespace) -> list[tuple[float, float]]:
        """Where the gallery's cells stand."""
        return [(LEFT + i % PER_ROW * STEP[0], TOP + i // PER_ROW * STEP[1]) for i in range(state.top_k)]

    def layout(self, state: SimpleNamespace) -> Layout:
        query = Piece((10 - EDGE, TOP - EDGE, 10 - EDGE + STEP[0], TOP - EDGE + STEP[1]))
        found = [Piece((x - EDGE, y - EDGE, x - EDGE + STEP[0], y - EDGE + STEP[1])) for x, y in self._places(state)]
        below = TOP + 2 * STEP[1] - EDGE
        return Stack(
            Text((0, 0, self.size[0], TOP - EDGE)),
            Tiles([query, *found], PER_ROW + 1),
            Text((0, below, self.size[0], self.size[1])),
        )

    def draw(self, state: SimpleNamespace) -> Sketch:
        picture, ranking = canvas(self.size), self.ranking(state)
        row = self.queries.loc[state.query]
        self._cell(picture, row.path, (10, TOP), LINE)
        text(picture, (10, TOP + CELL[1] + 5), "query", 11, bold=True)
        text(picture, (10 + CELL[0], TOP + CELL[1] + 5), f"c{row.camid}", 11, MUTED, "ra")
        rule = f"junk rule on: {JUNK_ON}" if state.junk_rule else f"junk rule off: {JUNK_OFF}"
        title = f"{image_name(row)}; {state.run}, the first {state.top_k} of {len(ranking)}. {rule}"
        text(picture, (10, 8), title, 13, bold=True, room=self.size[0] - 20)
        marks = {"right": RIGHT, "wrong": WRONG, "junk": IGNORED}
        for i, ((x, y), found) in enumerate(zip(self._places(state), ranking.to_dict("records"))):
            image = self.gallery.loc[found["gallery_index"]]
            frame(picture, self._cell(picture, image.path, (x, y)), marks[found["kind"]], width=3)
            text(picture, (x - 2, y + CELL[1] + 5), f"{i + 1}", 12, bold=True)
            text(picture, (x + CELL[0] + 2, y + CELL[1] + 5), f"c{image.camid}  {found['score']:.2f}", 11, MUTED, "ra")
        self._sums(picture, state, TOP + 2 * STEP[1] + 4)
        return picture

    def _cell(self, picture: Sketch, path: str, xy: tuple[float, float], border: str = "") -> Box:
        """An image in its own shape, in the middle of a cell; returns where it is."""
        image = self._pictures(path, lambda: photograph(np.asarray(decode(path))))
        wide, tall = fit(image.size, CELL)
        x, y = xy[0] + (CELL[0] - wide) / 2, xy[1] + (CELL[1] - tall) / 2
        picture.photo(image, (x, y), (wide, tall))
        if border:
            picture.rectangle((x - 1, y - 1, x + wide + 1, y + tall + 1), outline=border)
        return x, y, x + wide, y + tall

    def _sums(self, picture: Sketch, state: SimpleNamespace, y: float) -> None:
        weights = "  ".join(f"{w:.1f}" for w in self.weights(state))
        text(picture, (10, y), self.by_hand(state), 15, INK, bold=True, room=940)
        mean = f"mean AP of {len(self.checks)} queries under the same weights: {self.mean_ap(state):.3f}"
        text(picture, (10, y + 25), mean, 13)
        text(picture, (460, y + 25), f"weights {weights}", 12, MUTED, room=480)
        marks = "+ right    × wrong    o same person and same camera, or junk    c: camera, then the similarity"
        text(picture, (10, y + 46), marks, 12, MUTED)


def smaller_gallery(queries: pd.DataFrame, gallery: pd.DataFrame, size: int | None) -> pd.DataFrame:
    """Every gallery image of the queries' people, filled up with others, evenly spread, to `size` images."""
    if size is None or size >= len(gallery):
        return gallery
    needed = gallery["pid"].isin(list(queries["pid"].unique())).to_numpy()
    others = np.flatnonzero(~needed)
    count = min(max(size - int(needed.sum()), 0), len(others))
    chosen = others[np.linspace(0, len(others) - 1, count).astype(int)] if count else others[:0]
    return gallery.iloc[np.sort(np.concatenate([np.flatnonzero(needed), chosen]))]
