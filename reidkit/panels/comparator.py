"""Panel 2: two trained networks side by side. Is the difference real, and which queries make it?

VariantComparator(["runs/mpn-s0", "runs/baseline-s0"], dataset, results="runs")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from traitlets import Int, Unicode

from reidkit.attention import attention_from_maps
from reidkit.data import ReIDDataset
from reidkit.data.transforms import normalize
from reidkit.errors import ReIDKitError
from reidkit.evaluation import RankingResult, evaluate_ranking, top_k
from reidkit.panels.kit.base import Choice, Panel, Slider
from reidkit.panels.kit.drawing import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    RIGHT,
    WRONG,
    bar,
    canvas,
    fit_text,
    frame,
    heat_overlay,
    paste,
    text,
    thumbnail,
)
from reidkit.panels.kit.interval import Seeds, draw_interval, read_results, run_row, seed_differences
from reidkit.panels.kit.runs import PanelRun, Recent, image_name, open_runs
from reidkit.priors import PriorTable

METRICS = {"mAP": "ap", "rank1": "first", "mINP": "inp"}  # metric -> its value for one query
VIEWS = {"where each part looks": "attention", "how each part matches rank 1": "match"}
BEST = 6  # thumbnails of gains, and of losses
CHART, THUMBS, THUMB = (96, 150), 172, (64, 90)  # rows of pixels; room for a thumbnail


class VariantComparator(Panel):
    """VariantComparator(runs, dataset, results): the difference of two runs, its interval over seeds, its queries.

    runs: two or more finished run folders (or {name: folder}, or `PanelRun`s). dataset: what they are compared on,
        at its current level: choose one where they differ. results: where the seeds are, for the interval and for
        the other levels: a folder of runs, a CSV of `collect_results` or its table; a run that is not in there adds its
        own `result.json`.
    priors: for networks that rectify test images. Features are extracted when a run is first chosen.
    """

    title = "Variant comparator"
    prompt = (
        "Predict: will the variants differ on all queries a little, or on a few a lot? Choose two, look at the "
        "curve and the interval, then click a winner and a loser and explain them."
    )
    size = (940, 720)

    a, b, metric, view = Unicode(), Unicode(), Unicode("mAP"), Unicode("attention")
    place, length = Int(1), Int(8)

    def __init__(
        self,
        runs: Mapping[str, str | Path | PanelRun] | Sequence[str | Path | PanelRun],
        dataset: ReIDDataset,
        results: pd.DataFrame | str | Path | None = None,
        *,
        priors: PriorTable | None = None,
    ) -> None:
        self.runs, self.dataset = open_runs(runs, dataset, priors), dataset
        if len(self.runs) < 2:
            raise ReIDKitError(f"a comparison needs two runs, got {list(self.runs)}: train another variant")
        folders = {name: run.weights.parent for name, run in self.runs.items() if run.weights is not None}
        self.results = read_results(results, list(folders.values()))
        self.rows = {name: run_row(self.results, folder.name) for name, folder in folders.items()}
        self._recent, self._maps = Recent(256), Recent(48)
        self.a, self.b = list(self.runs)[:2]
        super().__init__()

    def controls(self) -> Mapping[str, Slider | Choice]:
        names = tuple(self.runs)
        return {
            "a": Choice("A", names),
            "b": Choice("B", names),
            "metric": Choice("metric", tuple(METRICS)),
            "place": Slider("query", 1, self._valid()),
            "view": Choice("show", VIEWS),
            "length": Slider("list length", 3, 8),
        }

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def ranking(self, name: str) -> RankingResult:
        """All queries of one run against the gallery."""
        q, g, run = self.dataset.query, self.dataset.gallery, self.runs[name]
        ids = (q.pid, g.pid, q.camid, g.camid)

        def make() -> RankingResult:
            qf, gf = (run.features(table).flatten(1) for table in (q, g))  # [Q, D], [G, D]
            return evaluate_ranking(qf, gf, *ids, junk_pids=self.dataset.junk_pids)

        return self._recent(("ranking", name), make)

    def _valid(self) -> int:
        """How many queries have a true match (the same for every run)."""
        return int((self.ranking(next(iter(self.runs))).per_query.matches > 0).sum())

    def differences(self, state) -> pd.Series:
        """A - B for every query that has a match, the largest gain first; the index is the row of the query."""

        def value(name: str) -> pd.Series:
            table = self.ranking(name).per_query
            table = table.loc[table.matches > 0]
            column = METRICS[state.metric]
            return (table.first_hit_rank == 1).astype(float) if column == "first" else table[column]

        def make() -> pd.Series:
            if state.a == state.b:
                raise ReIDKitError(f"A and B are both {state.a!r}: choose two different runs")
            return (value(state.a) - value(state.b)).sort_values(ascending=False, kind="stable")

        return self._recent(("differences", state.a, state.b, state.metric), make)

    def seeds(self, state) -> Seeds:
        """The same difference over seeds, from the results."""
        return self._recent(
            ("seeds", state.a, state.b, state.metric),
            lambda: seed_differences(
                self.results, self.rows.get(state.a), self.rows.get(state.b), state.metric, self.dataset.level
            ),
        )

    def levels(self, state) -> str:
        """A - B in points on the whole test set of every level that the results have, the mean over seeds."""
        a, b = self.rows.get(state.a), self.rows.get(state.b)
        known = [] if a is None or b is None else dict.fromkeys(self.results.loc[self.results.run == a.run, "level"])
        found = {level: seed_differences(self.results, a, b, state.metric, level).difference for level in known}
        return ", ".join(f"{level} {100 * d.mean:+.1f}" for level, d in found.items() if d) or "not known"

    def ranked_list(self, name: str, query: int, length: int) -> pd.DataFrame:
        """The first gallery images of one query."""
        q, g, run = self.dataset.query.iloc[query], self.dataset.gallery, self.runs[name]
        feature = run.features(self.dataset.query)[query].flatten()  # [D]
        ids = {"q_pid": q.pid, "q_camid": q.camid, "g_pids": g.pid, "g_camids": g.camid}

        def make() -> pd.DataFrame:
            return top_k(feature, run.features(g).flatten(1), 8, **ids, junk_pids=self.dataset.junk_pids)

        return self._recent(("list", name, query), make)[:length]

    def part_maps(self, name: str, query: int) -> torch.Tensor:
        """[K, H, W] in [0, 1]: where the K part classifiers look on the query."""
        run, path = self.runs[name], self.dataset.query["path"].iloc[query]
        return self._maps(
            (name, query),
            lambda: attention_from_maps(
                run.model, run.maps(path), normalize(run.image(path)[None]), prior=run.prior(path)
            )[0],
        )

    def part_matches(self, name: str, query: int) -> torch.Tensor:
        """[K] cosine similarity of the query's part features and those of the first image of its list."""
        run, first = self.runs[name], self.ranked_list(name, query, 1).gallery_index.iloc[0]
        pair = run.features(self.dataset.query)[query], run.features(self.dataset.gallery)[first]  # [K, d] each
        return torch.nn.functional.cosine_similarity(*pair, dim=1)

    # ---- picture -----------------------------------------------------------------------------------------------------

    def render(self, state) -> Image.Image:
        picture, change = canvas(self.size), self.differences(state)
        self._headline(picture, state, change)
        self._curve(picture, state, change)
        for x, place in self._thumbs(change):
            query = change.index[place - 1]
            image = self._fit(state.a, self.dataset.query["path"].iloc[query], THUMB)
            value, left = change.iloc[place - 1], x + (THUMB[0] - image.width) // 2
            paste(picture, image, (left, THUMBS))
            if place == state.place:
                edge = (left - 4, THUMBS - 4, left + image.width + 3, THUMBS + image.height + 3)
                ImageDraw.Draw(picture).rectangle(edge, outline=INK, width=3)
            below, colour = (x + THUMB[0] / 2, THUMBS + THUMB[1] + 6), BLUE if value > 0 else ORANGE
            text(picture, below, f"{value:+.2f}", 12, colour, "ma", bold=place == state.place)
        query = int(change.index[state.place - 1])
        y = THUMBS + THUMB[1] + 34
        row = self.dataset.query.iloc[query]
        text(picture, (0, y), f"Query {state.place} of {len(change)}: {image_name(row)}", bold=True)
        image = self._fit(state.a, row.path, (92, 270))
        paste(picture, image, (1, y + 50))
        for i, name in enumerate((state.a, state.b)):
            self._row(picture, state, "AB"[i], name, query, y + 28 + 192 * i)
        return picture

    def _fit(self, name: str, path: str, room: tuple[int, int]) -> Image.Image:
        """An image as the network sees it, as large as fits into (width, height)."""
        height, width = self.runs[name].size
        scale = min(room[0] / width, room[1] / height)
        return thumbnail(self.runs[name].image(path), (round(width * scale), round(height * scale)))

    def _headline(self, picture: Image.Image, state, change: pd.Series) -> None:
        for i, (letter, name) in enumerate((("A", state.a), ("B", state.b))):
            s = self.ranking(name).summary()
            text(picture, (0, 4 + 20 * i), fit_text(f"{letter}   {name}", 200), bold=True)
            numbers = f"mAP {100 * s['mAP']:.1f}   Rank-1 {100 * s['rank1']:.1f}   mINP {100 * s['mINP']:.1f}"
            text(picture, (210, 4 + 20 * i), numbers)
        ds = self.dataset
        words = f"These two runs, {len(change)} queries, {len(ds.gallery)} gallery images ({ds.name}, {ds.level})"
        words += f"\nA − B by level, on the whole test sets: {self.levels(state)}"
        text(picture, (0, 43), words, 12, MUTED)
        draw_interval(picture, (500, 4, 936, 66), self.seeds(state), f"{state.metric}, A − B in points")

    def _curve(self, picture: Image.Image, state, change: pd.Series) -> None:
        """One column a query (or several queries a column), sorted: the area is the difference of the metric."""
        draw, (top, bottom), width = ImageDraw.Draw(picture), CHART, self.size[0]
        middle, values = (top + bottom) / 2, change.to_numpy()
        reach = max(np.abs(values).max(), 1e-9)
        columns = (np.arange(width) * len(values) // width).clip(max=len(values) - 1)
        for x, v in enumerate(values[columns]):
            if v:
                draw.line([x, middle, x, middle - v / reach * (bottom - top) / 2], fill=BLUE if v > 0 else ORANGE)
        draw.line([0, middle, width, middle], fill=GREY)
        x = min(max((state.place - 0.5) / len(values) * width, 6), width - 7)
        draw.polygon([(x - 6, top - 10), (x + 6, top - 10), (x, top - 1)], fill=INK)
        draw.line([x, top, x, bottom], fill=INK)
        better, worse = int((values > 0).sum()), int((values < 0).sum())
        text(picture, (0, 74), f"A better: {better} queries", 12, BLUE)
        text(picture, (width / 2, 74), f"equal: {len(values) - better - worse}", 12, MUTED, "ma")
        text(picture, (width, 74), f"B better: {worse} queries", 12, ORANGE, "ra")
        text(picture, (0, THUMBS - 18), "gained most (click one)", 12, MUTED)
        text(picture, (width, THUMBS - 18), "lost most", 12, MUTED, "ra")

    def _thumbs(self, change: pd.Series) -> list[tuple[int, int]]:
        """(left border, place in the order) of the thumbnails: the first places left, the last ones right."""
        n, slot = len(change), THUMB[0] + 8
        left = [(i * slot, i + 1) for i in range(min(BEST, (n + 1) // 2))]
        right = [(self.size[0] - (i + 1) * slot + 8, n - i) for i in range(min(BEST, n // 2))]
        return left + right[::-1]

    def _row(self, picture: Image.Image, state, letter: str, name: str, query: int, y: int) -> None:
        """One run on the chosen query: what its parts say, and its list."""
        r = self.ranking(name).per_query.iloc[query]
        text(picture, (110, y), fit_text(f"{letter}   {name}", 290), bold=True)
        words = f"AP {r.ap:.3f}   first true match at rank {int(r.first_hit_rank)} ({int(r.matches)} in the gallery)"
        text(picture, (420, y), words)
        if state.view == "attention":
            self._attention(picture, name, query, (110, y + 24))
        else:
            for k, value in enumerate(matches := self.part_matches(name, query).tolist()):
                step = min(22, 156 // len(matches))
                top = y + 26 + step * k
                text(picture, (110, top + step / 2), self.runs[name].model.part_names[k], min(12, step), anchor="lm")
                bar(picture, (200, top + 1, 350, top + step - 2), value, f"{value:.2f}", size=min(12, step))
        for i, hit in enumerate(self.ranked_list(name, query, state.length).to_dict("records")):
            image = self._fit(name, self.dataset.gallery["path"].iloc[hit["gallery_index"]], (56, 128))
            x = 424 + 65 * i
            picture.paste(image, (x, y + 28))
            frame(picture, (x, y + 28, x + image.width, y + 28 + image.height), RIGHT if hit["correct"] else WRONG)
            text(picture, (x + image.width / 2, y + 164), f"{hit['score']:.2f}", 12, MUTED, "ma")

    def _attention(self, picture: Image.Image, name: str, query: int, corner: tuple[int, int]) -> None:
        """The part maps in one, two or three rows."""
        maps, run = self.part_maps(name, query), self.runs[name]
        lines = 1 if len(maps) <= 6 else 2 if len(maps) <= 14 else 3
        columns, (height, width) = -(-len(maps) // lines), run.size
        tall = {1: 132, 2: 64, 3: 42}[lines]
        wide = min(round(tall * width / height), 290 // columns - 2)
        image = run.image(self.dataset.query["path"].iloc[query])
        for k, one in enumerate(maps):
            x, y = corner[0] + k % columns * (290 // columns), corner[1] + k // columns * (tall + 16)
            paste(picture, heat_overlay(image, one, (wide, tall)), (x, y))
            if lines < 3:
                label = str(k + 1) if lines == 1 else run.model.part_names[k].replace("global", "g")
                text(picture, (x + wide / 2, y + tall + 2), fit_text(label, 290 / columns, 11), 11, MUTED, "ma")

    def status(self, state) -> str:
        change, query = self.differences(state), int(self.differences(state).index[state.place - 1])
        ap = [self.ranking(n).per_query.ap[query] for n in (state.a, state.b)]
        return (
            f"{state.metric} A − B: {100 * change.mean():+.2f} points on {len(change)} queries; seeds: "
            f"{self.seeds(state).words}; by level {self.levels(state)}; this query: AP {ap[0]:.3f} and {ap[1]:.3f}"
        )

    def on_pointer(self, x: float, y: float, phase: str) -> None:
        """A click on a thumbnail, or anywhere on the curve, chooses that query."""
        change = self.differences(self.state())
        if phase == "down" and THUMBS <= y <= THUMBS + THUMB[1] + 18:
            for left, place in self._thumbs(change):
                if left <= x < left + THUMB[0]:
                    self.place = place
        elif phase != "up" and CHART[0] - 12 <= y <= CHART[1]:
            self.place = min(int(x / self.size[0] * len(change)) + 1, len(change)) if x > 0 else 1
