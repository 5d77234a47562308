"""Panel 2: two trained networks side by side. Is the difference real, and which queries make it?

VariantComparator(["runs/mpn-s0", "runs/baseline-s0"], dataset, results="runs")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from traitlets import Int, Unicode

from reidkit.data import ReIDDataset
from reidkit.data.images import decode
from reidkit.evaluation.ranking import QUERY_METRICS
from reidkit.panels.kit.base import Choice, Panel, Sketch, Slider
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
    fit,
    frame,
    overlay,
    paste,
    photograph,
    text,
)
from reidkit.panels.kit.interval import draw_interval
from reidkit.panels.kit.layout import Layout, Piece, Row, Stack, Text
from reidkit.panels.kit.pair import Pair
from reidkit.panels.kit.runs import PanelRun, image_name
from reidkit.panels.kit.sketch import Box
from reidkit.priors import PriorTable

VIEWS = {"where each part looks": "attention", "how each part matches rank 1": "match"}
BEST = 6  # thumbnails of gains, and of losses
CHART, THUMBS, THUMB = (106, 160), 186, (64, 120)  # where the curve is, where thumbnails begin, room for one
CHOSEN = THUMBS + THUMB[1] + 30  # where the chosen query begins
LINE_HIGH, LISTS = 178, 424  # height of a run's line, and where its list begins


class VariantComparator(Pair, Panel):
    """VariantComparator(runs, dataset, results): the difference of two runs, its interval over seeds, its queries.

    runs: two or more finished run folders (or {name: folder}, or `PanelRun`s). dataset: what they are compared on, at
        any of its levels. results: where the seeds are, for the interval and for the whole test sets: a folder of runs,
        a CSV of `collect_results` or its table; a run that is not in there adds its own `result.json`.
    level: where to open; by default where A is furthest ahead of B by the results.
    priors: for networks that rectify test images. Features are extracted when a run is first chosen.
    """

    title = "Variant comparator"
    prompt = (
        "Predict: will the variants differ on all queries a little, or on a few a lot? Choose two, look at the "
        "curve and the interval, then click a winner and a loser and explain them."
    )
    size = (940, CHOSEN + 30 + 2 * LINE_HIGH)

    a, b, level, metric, view = Unicode(), Unicode(), Unicode(), Unicode("mAP"), Unicode("attention")
    place, length = Int(1), Int(8)

    def __init__(
        self,
        runs: Mapping[str, str | Path | PanelRun] | Sequence[str | Path | PanelRun],
        dataset: ReIDDataset,
        results: pd.DataFrame | str | Path | None = None,
        *,
        priors: PriorTable | None = None,
        level: str | None = None,
    ) -> None:
        self.open(runs, dataset, results, priors)
        self.a, self.b = list(self.runs)[:2]
        self.level = level if level is not None else self._clearest()
        super().__init__()

    def controls(self) -> Mapping[str, Slider | Choice]:
        names = tuple(self.runs)
        return {
            "a": Choice("A", names),
            "b": Choice("B", names),
            "level": Choice("level", tuple(self.tests)),
            "metric": Choice("metric", QUERY_METRICS),
            "place": Slider("query", 1, self._valid()),
            "view": Choice("show", VIEWS),
            "length": Slider("list length", 3, 8),
        }

    def _on_change(self, change) -> None:
        """Another level may have fewer queries."""
        if change["name"] == "level" and change["new"] in self.tests and not self._quiet:
            self.set(place=min(self.place, self._valid()))
        else:
            super()._on_change(change)

    # ---- picture -----------------------------------------------------------------------------------------------------

    def layout(self, state) -> Layout:
        wide = self.size[0]
        left, right = self._groups(self.differences(state))
        rows = [
            part
            for y in (CHOSEN + 26, CHOSEN + 26 + LINE_HIGH)
            for part in (
                Text((0, y, wide, y + 22)),
                Row(
                    Piece((0, y + 22, 76, y + LINE_HIGH)),
                    Piece((76, y + 22, LISTS - 8, y + LINE_HIGH)),
                    Piece((LISTS - 8, y + 22, wide, y + LINE_HIGH)),
                ),
            )
        ]
        return Stack(
            Row(Text((0, 0, 480, 82)), Stack(Text((480, 0, wide, 20)), Piece((480, 20, wide, 82)))),
            Text((0, 82, wide, CHART[0] - 4)),
            Piece((0, CHART[0] - 4, wide, CHART[1] + 2), flat=True),
            Row(Piece(left), Piece(right)),
            Text((0, CHOSEN, wide, CHOSEN + 24)),
            *rows,
        )

    def draw(self, state) -> Sketch:
        picture, change = canvas(self.size), self.differences(state)
        queries, _ = self.tests[state.level]
        self._headline(picture, state, change)
        self._curve(picture, state, change)
        (x0, y0, _, _), (_, _, x1, _) = self._groups(change)
        text(picture, (x0 + 2, y0 + 2), "gained most (click one)", 12, MUTED)
        text(picture, (x1 - 2, y0 + 2), "lost most", 12, MUTED, "ra")
        for x, place in self._thumbs(change):
            photo = self._photo(queries["path"].iloc[change.index[place - 1]])
            value, (w, h) = change.iloc[place - 1], fit(photo.size, THUMB)
            left = x + (THUMB[0] - w) / 2
            paste(picture, photo, (left, THUMBS), (w, h))
            if place == state.place:
                picture.rectangle((left - 4, THUMBS - 4, left + w + 4, THUMBS + h + 4), outline=INK, width=3)
            below, colour = (x + THUMB[0] / 2, THUMBS + THUMB[1] + 6), BLUE if value > 0 else ORANGE
            text(picture, below, f"{value:+.2f}", 12, colour, "ma", bold=place == state.place)
        query = int(change.index[state.place - 1])
        words = f"Query {state.place} of {len(change)}: {image_name(queries.iloc[query])}"
        text(picture, (0, CHOSEN + 2), words, bold=True)
        for i, name in enumerate((state.a, state.b)):
            self._row(picture, state, "AB"[i], name, query, CHOSEN + 26 + LINE_HIGH * i)
        return picture

    def _photo(self, path: str) -> Image.Image:
        return self._recent(("photo", path), lambda: photograph(np.asarray(decode(path))))

    def _headline(self, picture: Sketch, state, change: pd.Series) -> None:
        for i, (letter, name) in enumerate((("A", state.a), ("B", state.b))):
            s = self.ranking(name, state.level).summary()
            numbers = f"mAP {100 * s['mAP']:.1f}   Rank-1 {100 * s['rank1']:.1f}   mINP {100 * s['mINP']:.1f}"
            text(picture, (0, 4 + 20 * i), f"{letter}   {name}:   {numbers}", bold=True, room=470)
        gallery = self.tests[state.level][1]
        words = f"Level {state.level}: {len(change)} queries, {len(gallery)} gallery images of {self.dataset.name}"
        text(picture, (0, 45), words, 12, MUTED, room=470)
        words = f"Whole test sets, {state.metric}, A − B in points: {self.levels(state)}"
        text(picture, (0, 62), words, 12, INK, room=470)
        seeds = self.seeds(state)
        words = f"Over seeds, whole test set, {state.level}: {seeds.words}"
        text(picture, (486, 2), words, 12, INK, room=450)
        draw_interval(picture, (492, 30, 928, 70), seeds, f"{state.metric}, A − B in points")

    def _curve(self, picture: Sketch, state, change: pd.Series) -> None:
        """One column a query, sorted: the area is the difference of the metric."""
        (top, bottom), width, values = CHART, self.size[0], change.to_numpy()
        middle, reach = (top + bottom) / 2, max(np.abs(values).max(), 1e-9)
        step = width / len(values)
        for i, v in enumerate(values):
            if v:
                end = middle - v / reach * (bottom - top) / 2
                box = (i * step, min(middle, end), (i + 1) * step, max(middle, end))
                picture.rectangle(box, fill=BLUE if v > 0 else ORANGE)
        picture.line([0, middle, width, middle], GREY)
        x = min(max((state.place - 0.5) * step, 6), width - 7)
        picture.line([x, top, x, bottom], INK, 2)
        better, worse = int((values > 0).sum()), int((values < 0).sum())
        words = f"A better on {better} queries (blue), equal on {len(values) - better - worse}, B better on {worse}"
        text(picture, (0, 85), f"{words} (orange). A click on the curve chooses a query.", 12, MUTED)

    def _thumbs(self, change: pd.Series) -> list[tuple[int, int]]:
        """(left border, place in the order) of the thumbnails: the first places left, the last ones right."""
        n, slot = len(change), THUMB[0] + 8
        left = [(4 + i * slot, i + 1) for i in range(min(BEST, (n + 1) // 2))]
        right = [(self.size[0] - (i + 1) * slot + 4, n - i) for i in range(min(BEST, n // 2))]
        return left + right[::-1]

    def _groups(self, change: pd.Series) -> tuple[Box, Box]:
        """The boxes of the thumbnails of gains, and of losses."""
        half, top, end = BEST * (THUMB[0] + 8) + 6, CHART[1] + 2, CHOSEN
        return (0, top, half, end), (self.size[0] - half, top, self.size[0], end)

    def _row(self, picture: Sketch, state, letter: str, name: str, query: int, y: float) -> None:
        """One run on the chosen query: what its parts say, and its list."""
        r = self.ranking(name, state.level).per_query.iloc[query]
        queries, gallery = self.tests[state.level]
        found = f"first true match at rank {int(r.first_hit_rank)} ({int(r.matches)} in the gallery)"
        text(picture, (0, y + 2), f"{letter}   {name}:   AP {r.ap:.3f}   {found}", bold=True)
        photo = self._photo(queries["path"].iloc[query])
        paste(picture, photo, (2, y + 28), fit(photo.size, (68, 128)))
        if state.view == "attention":
            self._attention(picture, name, queries["path"].iloc[query], (82, y + 28))
        else:
            matches = self.part_matches(name, query, state.level).tolist()
            step = min(22, 140 / len(matches))
            for k, value in enumerate(matches):
                top = y + 28 + step * k
                text(picture, (82, top + step / 2), self.runs[name].model.part_names[k], min(12, step), anchor="lm")
                bar(picture, (170, top + 1, 360, top + step - 2), value, f"{value:.2f}", size=min(12, step))
        for i, hit in enumerate(self.ranked_list(name, query, state.length, state.level).to_dict("records")):
            image = self._photo(gallery["path"].iloc[hit["gallery_index"]])
            w, h = fit(image.size, (56, 128))
            x = LISTS + 65 * i + (56 - w) / 2
            picture.photo(image, (x, y + 28), (w, h))
            frame(picture, (x, y + 28, x + w, y + 28 + h), RIGHT if hit["correct"] else WRONG)
            text(picture, (x + w / 2, y + 162), f"{hit['score']:.2f}", 12, MUTED, "ma")

    def _attention(self, picture: Sketch, name: str, path: str, corner: tuple[float, float]) -> None:
        """The part maps in one, two or three rows."""
        maps, run, room = self.part_maps(name, path), self.runs[name], LISTS - 96
        lines = 1 if len(maps) <= 6 else 2 if len(maps) <= 14 else 3
        columns, image = -(-len(maps) // lines), self._photo(path)
        w, h = fit(image.size, (room / columns - 4, {1: 128, 2: 58, 3: 42}[lines]))
        for k, one in enumerate(maps):
            x, y = corner[0] + k % columns * room / columns, corner[1] + k // columns * (h + 16)
            paste(picture, overlay(image, one), (x, y), (w, h))
            if lines < 3:
                label = str(k + 1) if lines == 1 else run.model.part_names[k].replace("global", "g")
                text(picture, (x + w / 2, y + h + 2), label, 11, MUTED, "ma", room=room / columns)

    def status(self, state) -> str:
        change, query = self.differences(state), int(self.differences(state).index[state.place - 1])
        ap = [self.ranking(n, state.level).per_query.ap[query] for n in (state.a, state.b)]
        return (
            f"level {state.level}, {state.metric} A − B: {100 * change.mean():+.2f} points on {len(change)} queries; "
            f"seeds: {self.seeds(state).words}; by level, whole test sets: {self.levels(state)}; "
            f"this query: AP {ap[0]:.3f} and {ap[1]:.3f}"
        )

    def on_pointer(self, x: float, y: float, phase: str) -> None:
        """A click on a thumbnail, or anywhere on the curve, chooses that query."""
        change = self.differences(self.state())
        if phase == "down" and THUMBS <= y <= THUMBS + THUMB[1] + 18:
            for left, place in self._thumbs(change):
                if left <= x < left + THUMB[0]:
                    self.place = place
        elif phase != "up" and CHART[0] - 8 <= y <= CHART[1]:
            self.place = min(int(x / self.size[0] * len(change)) + 1, len(change)) if x > 0 else 1
