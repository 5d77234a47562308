"""Panel 3: how many parts? Guess first. MPN Fig. 7, with the stripes of any K cut from a real feature map.

KSweep("runs/ide-s0", dataset, results="runs")      # results of `reidkit ablate mpn-fig7`, where there are some
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from traitlets import Bool, Int, Unicode

from reidkit.attention import attention_from_maps
from reidkit.data import ReIDDataset
from reidkit.data.images import relative_path
from reidkit.data.loaders import test_batches
from reidkit.data.transforms import normalize
from reidkit.evaluation import RankingResult, evaluate_ranking
from reidkit.models.stripes import adjacent, pool_rows
from reidkit.panels.kit.base import Choice, Panel, Sketch, Slider, Toggle
from reidkit.panels.kit.chart import Line, draw_chart
from reidkit.panels.kit.drawing import (
    BLUE,
    COLOURS,
    MUTED,
    ORANGE,
    canvas,
    heat_picture,
    overlay,
    paste,
    text,
)
from reidkit.panels.kit.interval import read_results
from reidkit.panels.kit.k_curve import MAX_K, systems_of, trained_curve
from reidkit.panels.kit.layout import Layout, Piece, Row, Stack, Text
from reidkit.panels.kit.runs import PanelRun, Recent, image_name, open_runs
from reidkit.priors import PriorBatch, PriorTable
from reidkit.priors.part_features import part_features

MODES = {"evenly (uniform)": "uniform", "inside the person (roi)": "roi", "roi, masked": "roi-mask"}
TOP, TALL = 44, 400  # where the pictures begin, and their height
TRAINED, END = 190, 480  # room of the part maps of a trained run; where the charts end


class KSweep(Panel):
    """KSweep(run, dataset, results): stripes for every K; mAP and Rank-1 against K once you have guessed.

    run: a finished run (or `PanelRun`) whose feature map is cut; a network that was not made for parts (ide) is the
        fairest. dataset: what is ranked, at its current level; `subset(dataset, ids)` keeps it fast.
    results: a folder of runs, a CSV of `collect_results`, or its table. Runs of the suite mpn-fig7 in it are the
        curve of trained networks; if it is a folder, their part maps are shown too.
    priors: of the test images, on the grid of the feature map; without them the map is cut evenly only.
    """

    title = "How many parts?"
    prompt = (
        "Predict: which K ranks best, and what goes wrong with K = 1 and with K = 12? Set your guess, look at "
        "the stripes, then reveal and explain."
    )
    size = (940, 572)

    parts, guess, image = Int(6), Int(3), Int(1)
    mode, metric, reveal = Unicode("uniform"), Unicode("mAP"), Bool(False)

    def __init__(
        self,
        run: str | Path | PanelRun,
        dataset: ReIDDataset,
        results: pd.DataFrame | str | Path | None = None,
        *,
        priors: PriorTable | None = None,
    ) -> None:
        self.run, self.dataset, self.priors = next(iter(open_runs([run], dataset, priors).values())), dataset, priors
        self.results = None if results is None else read_results(results, [])
        self.folder = Path(results) if isinstance(results, (str, Path)) and Path(results).is_dir() else None
        self._maxima = [row_maxima(self.run, table) for table in (dataset.query, dataset.gallery)]  # [N, C, h] each
        self._maps, self._recent = Recent(32), Recent(64)
        self.max_parts = min(MAX_K, self._maxima[0].shape[2])
        self.cut = {k: self.cut_only(k) for k in range(1, self.max_parts + 1)}
        super().__init__()

    def controls(self) -> Mapping[str, Slider | Choice | Toggle]:
        modes = MODES if self.priors is not None else {"evenly (uniform)": "uniform"}
        return {
            "guess": Slider("guess: best K", 1, self.max_parts),
            "reveal": Toggle("reveal the numbers"),
            "parts": Slider("show K", 1, self.max_parts),
            "metric": Choice("metric", ("mAP", "rank1")),
            "mode": Choice("cut", modes),
            "image": Slider("query image", 1, len(self.dataset.query)),
        }

    def hidden(self) -> tuple[str, ...]:
        return () if self.priors is not None else ("mode",)

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def cut_only(self, parts: int) -> RankingResult:
        """Rank with the map of `run` cut in K stripes, max-pooled, side by side: nothing is trained for this K.

        Evenly, whatever the picture's cut is. Where K does not divide the rows, stripes end at the nearest row border
        (`StripeGroup.rows`), while the picture's are resized to equal heights as MPN trains them (`part_features`).
        """
        q, g, groups = self.dataset.query, self.dataset.gallery, adjacent(parts, 1)
        qf, gf = (pool_rows(rows, groups).flatten(1) for rows in self._maxima)  # [N, K*C]
        return evaluate_ranking(qf, gf, q.pid, g.pid, q.camid, g.camid, junk_pids=self.dataset.junk_pids)

    def trained(self, metric: str) -> dict[int, pd.Series]:
        """{K: value of every seed} of the runs of mpn-fig7 on this data set and level; empty without results."""
        return self._recent(
            ("trained", metric),
            lambda: {} if self.results is None else trained_curve(self.results, metric, self.dataset),
        )

    def part_maps(self, parts: int, path: str) -> Tensor | None:
        """[K, H, W]: where the classifiers of a trained MPN with K parts look; None if there is no such run here."""
        folder = self._run_of(parts)
        if folder is None:
            return None
        run = self._recent(("run", parts), lambda: next(iter(open_runs([folder], self.dataset).values())))
        return self._maps(
            ("attention", parts, path),
            lambda: attention_from_maps(run.model, run.maps(path), normalize(run.image(path)[None]))[0],
        )

    def _run_of(self, parts: int) -> Path | None:
        """A run folder of mpn-fig7 with K parts."""
        if self.folder is None or self.results is None:
            return None
        rows = self.results.loc[
            self.results.system.isin(systems_of(parts)) & (self.results.dataset == self.dataset.label)
        ]
        found = (path.parent for name in dict.fromkeys(rows.run) for path in self.folder.rglob(f"{name}/result.json"))
        return next(found, None)

    # ---- picture -----------------------------------------------------------------------------------------------------

    def prior(self, path: str) -> PriorBatch | None:
        """The coarse prior of one image, [1, ...]."""
        return None if self.priors is None else self.priors.lookup([relative_path(path, self.dataset.root)])

    def stripes(self, state) -> Tensor:
        """[K, rows, w]: P_k of the image (MPN Fig. 5b), the positive responses averaged over channels."""
        path = self.dataset.query["path"].iloc[state.image - 1]
        parts = part_features(first_map(self.run.maps(path)), self.prior(path), state.parts, state.mode)
        return parts[0].relu().mean(1)  # [K, C, rows, w] -> mean of C

    def _sides(self) -> tuple[float, float]:
        """(width, height) of the image's pictures."""
        height, width = self.run.size
        return min(TALL * width / height, 140), TALL

    def layout(self, state) -> Layout:
        wide, tall = self.size
        pair, left = 2 * self._sides()[0] + 24, self._left(state)
        images = [Piece((0, 0, pair, END)), *([Piece((pair, 0, left, END))] if left > pair else [])]
        count = len(self._charts(state))
        charts = [Piece((left, i * END / count, wide, (i + 1) * END / count)) for i in range(count)]
        return Stack(Row(*images, Stack(*charts)), Text((0, END, wide, tall)))

    def _left(self, state) -> float:
        """Where the charts begin: to the right of the part maps of a trained run, where there is one."""
        shown = self.part_maps(state.parts, self.dataset.query["path"].iloc[state.image - 1]) is not None
        return 2 * self._sides()[0] + 24 + (TRAINED if shown else 0)

    def draw(self, state) -> Sketch:
        picture, row, wide = canvas(self.size), self.dataset.query.iloc[state.image - 1], self._sides()[0]
        text(picture, (1, 2), f"Query {state.image}: {image_name(row)}", bold=True)
        self._striped(picture, state, row.path)
        self._pooled(picture, state, (wide + 16, TOP))
        self._trained_maps(picture, state, row.path, (2 * wide + 30, TOP))
        charts = self._charts(state)
        for i, (line, where) in enumerate(charts):
            tall = END / len(charts)
            draw_chart(
                picture,
                (self._left(state) + 46, TOP - 18 + i * tall, self.size[0] - 8, (i + 1) * tall - 62),
                [line] if state.reveal else [],
                x_label="K, number of parts",
                y_label={"mAP": "mAP (%)", "rank1": "Rank-1 (%)"}[state.metric] + f" on {where}",
                xs=range(1, self.max_parts + 1),
                marks={state.guess: "your guess"},
                hidden=None if state.reveal else "guess, then tick “reveal the numbers”",
            )
        for i, words in enumerate(self.verdict(state).split("\n")):
            text(picture, (1, END + 6 + 19 * i), words)
        return picture

    def _charts(self, state) -> list[tuple[Line, str]]:
        """[(a chart's line, what it ranks)]: two test sets never share an axis."""
        here = f"{len(self.dataset.query)} queries, {len(self.dataset.gallery)} gallery images"
        return list(zip(self._lines(state), (here, f"the whole test set, level {self.dataset.level}")))

    def _lines(self, state) -> list[Line]:
        """The map that is cut, then networks trained for each K, where there are some."""
        value = lambda r: 100 * (r.mAP if state.metric == "mAP" else r.rank(1))  # noqa: E731
        live = Line(
            "cut only",
            f"cut only: map of {self.run.name}, not trained for K",
            ORANGE,
            {k: [value(r)] for k, r in self.cut.items()},
        )
        trained = {k: list(100 * v) for k, v in self.trained(state.metric).items()}
        return [live, *([Line("trained", "trained: MPN with K parts, a dot a seed", BLUE, trained)] if trained else [])]

    def verdict(self, state) -> str:
        """What the picture's chart says in words."""
        if not state.reveal:
            return "The numbers appear when you reveal them."
        lines = []
        for line in self._lines(state):
            means = {k: sum(v) / len(v) for k, v in line.points.items()}
            best = max(means, key=lambda k: means[k])
            gap = f"{means[best] - means[state.guess]:.1f} points below" if state.guess in means else "not run"
            lines.append(
                f"{line.short}: best K = {best} ({means[best]:.1f}); "
                + ("as you guessed" if best == state.guess else f"your guess K = {state.guess}: {gap}")
            )
        if not self.trained(state.metric):
            lines.append("Trained for each K: no runs here (reidkit ablate mpn-fig7)")
        lines.append("The paper uses K = 6 (paper, Fig. 7)")
        return "\n".join(lines)

    def _striped(self, picture: Sketch, state, path: str) -> None:
        """The image with K numbered stripes, over its height or between the person's boundaries."""
        (wide, tall), prior = self._sides(), self.prior(path)
        paste(picture, self.run.image(path), (1, TOP), (wide, tall), f"K = {state.parts} stripes")
        if state.mode == "uniform" or prior is None:
            top, bottom = 0.0, 1.0
        else:
            top, bottom = float(prior.top[0]), float(prior.bottom[0])
        for group in adjacent(state.parts, 1):
            y0, y1 = (TOP + (top + edge * (bottom - top)) * tall for edge in group.extent)
            colour = COLOURS[group.start % 6]
            picture.rectangle([1, y0, 1 + wide, max(y1, y0 + 1)], outline=colour, width=2)
            picture.rectangle([1, y0, 21, y0 + 16], fill=colour)
            text(picture, (11, y0 + 8), str(group.start + 1), 11, "white", "mm", bold=True)

    def _pooled(self, picture: Sketch, state, corner: tuple[float, float]) -> None:
        """The K pieces of the feature map that the parts pool, one below the other."""
        pieces, wide, gap = self.stripes(state), self._sides()[0], 4
        scale = float(pieces.max().clamp_min(1e-9))
        for k, piece in enumerate(pieces):
            y0 = corner[1] + k * (TALL + gap) / len(pieces)
            y1 = corner[1] + (k + 1) * (TALL + gap) / len(pieces) - gap
            paste(picture, heat_picture(piece / scale), (corner[0], y0), (wide, y1 - y0), flat=True)
        text(picture, (corner[0] + wide / 2, corner[1] - 5), "its map, cut in K", 12, anchor="md")
        rows, of = pieces.shape[1], self._maxima[0].shape[2]
        words = f"{rows} {'row' if rows == 1 else 'rows'} × {pieces.shape[2]} cells a part"
        if rows * len(pieces) != of:
            words = f"{rows} rows a part ({of} → {rows * len(pieces)})"
        text(picture, (corner[0], corner[1] + TALL + 8), words, 12, MUTED)

    def _trained_maps(self, picture: Sketch, state, path: str, corner: tuple[float, float]) -> None:
        maps, (height, width) = self.part_maps(state.parts, path), self.run.size
        if maps is None:
            return
        text(picture, (corner[0], corner[1] - 5), "trained parts look here", 12, anchor="ld")
        columns = 4 if len(maps) > 6 else min(len(maps), 3)
        wide = min(168 // columns - 4, 124 * width / height)
        tall = wide * height / width
        for k, one in enumerate(maps):
            xy = corner[0] + k % columns * (wide + 5), corner[1] + k // columns * (tall + 7)
            paste(picture, overlay(self.run.image(path), one), xy, (wide, tall))

    def status(self, state) -> str:
        rows, of = self.stripes(state).shape[1], self._maxima[0].shape[2]
        shown = f"K = {state.parts}: {rows} rows of the map a part"
        if rows * state.parts != of:
            shown += f", resized from {of} to {rows * state.parts}"
        if not state.reveal:
            return f"{shown}; your guess: K = {state.guess}"
        r = self.cut[state.parts]
        return (
            f"{shown}; cut only: mAP {100 * r.mAP:.1f}, Rank-1 {100 * r.rank(1):.1f} on {len(self.dataset.query)} "
            f"queries, {len(self.dataset.gallery)} gallery images"
        )


def first_map(maps: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The map of the first branch, for networks that have several."""
    return maps[0] if isinstance(maps, tuple) else maps


@torch.no_grad()
def row_maxima(run: PanelRun, table: pd.DataFrame) -> Tensor:
    """[N, C, h]: the maximum of every row of the feature maps. Max pooling of any stripes needs no more."""

    def make() -> Tensor:
        batches = test_batches(table, size=run.size, batch_size=64)
        return torch.cat([first_map(run.maps_of(batch.images)).amax(3) for batch in batches])

    return run.kept("rows", table, make)
