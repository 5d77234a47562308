"""Static figures. Every function returns a matplotlib Figure and shows nothing by itself.

Right and wrong have a sign as well as a colour. matplotlib is imported inside: training needs no such package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reidkit.data.lip import LIP_COLOURS
from reidkit.errors import ReIDKitError
from reidkit.reporting.colours import COLOURS, line_styles, styles
from reidkit.training.runs import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI, PHOTO_DPI = 144, 110  # of a figure (8 inches fill a page, 8 points can be read from a projector); of photographs
RIGHT, WRONG, IGNORED = ("#0072B2", "+"), ("#D55E00", "x"), ("#7F7F7F", "o")  # colour, sign


def axes_of(rows: int, columns: int, width: float, height: float, **options) -> tuple[Figure, np.ndarray]:
    """A figure with a [rows, columns] array of axes; closed at once, so a notebook shows it once: when returned."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as e:
        raise ReIDKitError("figures need matplotlib: pip install matplotlib") from e
    options = {"dpi": DPI, "squeeze": False, "layout": "constrained"} | options
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), **options)
    plt.close(figure)
    return figure, axes


def _plain(ax: Axes, **labels: str) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    ax.set(**labels)
    return ax


def cmc_curve(curves: Mapping[str, Sequence[float]], max_rank: int = 20, title: str = "") -> Figure:
    """Cumulative match characteristic: the share of queries with a right image within rank k.

    curves: {name: cmc}, cmc[0] is Rank-1, fractions (`evaluate_ranking(...).cmc`).
    """
    figure, axes = axes_of(1, 1, 5, 3.4)
    ax = _plain(axes[0, 0], xlabel="rank k", ylabel="queries with a match (%)", title=title)
    for (name, cmc), style in zip(curves.items(), line_styles(list(curves))):
        values = 100 * np.asarray(cmc, dtype=float)[:max_rank]  # [k]
        ax.plot(np.arange(1, len(values) + 1), values, ms=4, label=name, **style)
    ax.set_xticks([k for k in (1, 5, 10, 15, 20, 50) if k <= max_rank])
    ax.legend(frameon=False)
    return figure


def rank1_under_shift(
    results: pd.DataFrame, systems: Sequence[str] | None = None, metric: str = "rank1", title: str = ""
) -> Figure:
    """A metric against the controlled shift of the query crop: mean over seeds, band of one standard deviation.

    results: the table of `report.collect_results` (rows with a `shift`). Raises ReIDKitError if there is none.
    """
    from reidkit.reporting.report import mean_spread

    rows = results.loc[results["shift"].notna() & (results["metric"] == metric)]
    if rows.empty:
        raise ReIDKitError(f"no {metric} under controlled shift in these results; evaluate a set with a shift level")
    spread = mean_spread(rows).sort_values("shift")
    figure, axes = axes_of(1, 1, 8, 4.2)
    ax = _plain(axes[0, 0], xlabel="shift of the crop (fraction of its height)", ylabel=f"{metric} (%)", title=title)
    names = list(systems or dict.fromkeys(rows["system"]))
    for name, (colour, marker) in zip(names, styles(names)):
        t = spread.loc[spread["system"] == name]
        mean, sd = 100 * t["mean"], 100 * t["sd"].fillna(0)
        seeds = t["n"].max()
        label = f"{name} ({seeds} seed{'s' if seeds > 1 else ''})"
        ax.plot(t["shift"], mean, color=colour, marker=marker, ms=5, label=label)
        ax.fill_between(t["shift"], mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
    ax.set_xticks(sorted(rows["shift"].unique()))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def training_curves(runs: Mapping[str, pd.DataFrame | str | Path], columns: Sequence[str] = ("loss",)) -> Figure:
    """What a run wrote after each epoch; one picture a column, one line a run.

    runs: {name: a table, or the path of a metrics.csv}. Runs without a column are left out of its picture.
    """
    tables = {n: t if isinstance(t, pd.DataFrame) else read_metrics(Path(t)) for n, t in runs.items()}
    figure, axes = axes_of(1, len(columns), max(6.5, 4.2 * len(columns)), 3.4)
    for ax, column in zip(axes[0], columns):
        _plain(ax, xlabel="epoch", ylabel=column)
        for (name, t), style in zip(tables.items(), line_styles(list(tables))):
            if column in t:
                t = t[["epoch", column]].dropna()
                ax.plot(t["epoch"], t[column], ms=3, label=name, **style)
        if not ax.lines:
            raise ReIDKitError(f"no run has the column {column!r}; there are {sorted(set().union(*tables.values()))}")
    axes[0, 0].legend(frameon=False)
    return figure


def image_grid(images: Sequence, titles: Sequence[str] | None = None, columns: int = 8, height: float = 1.7) -> Figure:
    """Images in rows. images: arrays [H, W, 3] uint8 or PIL images; height: inches of one image."""
    if not len(images):
        raise ReIDKitError("image_grid got no image")
    arrays = [np.asarray(im) for im in images]
    rows, columns = -(-len(arrays) // columns), min(columns, len(arrays))
    ratio = max(a.shape[1] / a.shape[0] for a in arrays)
    extra = 0.25 if titles else 0.05
    figure, axes = axes_of(rows, columns, columns * (height * ratio + 0.1), rows * (height + extra), dpi=PHOTO_DPI)
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < len(arrays):
            ax.imshow(arrays[i], cmap="gray")
            if titles:
                ax.set_title(titles[i], fontsize=7, pad=2)
    return figure


def prior_steps(image, parsing: np.ndarray, segmentation: np.ndarray, prior, num_parts: int = 6) -> Figure:
    """The prior of one image step by step (MPN Fig. 5a): image, both maps, their union, M, the K parts.

    image [H, W, 3]; parsing [H, W] LIP labels; segmentation [H, W] in [0, 1]; prior: a `CoarsePrior`.
    """
    image, parsing = np.asarray(image), np.asarray(parsing)
    person = np.asarray(segmentation, dtype=float)
    union = (parsing > 0) | (person >= 0.5)  # [H, W]
    height, width = image.shape[:2]
    pictures = [image, LIP_COLOURS[parsing], person, union, prior.mask, image]
    names = [
        "image",
        "parsing map",
        "segmentation",
        "union",
        f"M, {'x'.join(map(str, prior.mask.shape))}",
        f"{num_parts} parts" if prior.reliable else f"{num_parts} parts, even: not reliable",
    ]
    figure, axes = axes_of(1, len(pictures), 1.55 * len(pictures), 1.45 * height / width + 0.4)
    for ax, picture, name in zip(axes[0], pictures, names):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="nearest")
        ax.set_title(name, fontsize=8)
        ax.axis("off")
    edges = np.linspace(prior.top, prior.bottom, num_parts + 1) * height  # Sec. 3.2: K equal stripes between them
    for ax in axes[0, -2:]:
        for k, y in enumerate(edges):
            ax.axhline(y, color=COLOURS[1] if k in (0, num_parts) else "#56B4E9", lw=2 if k in (0, num_parts) else 1)
    return figure


def ranked_list(
    query, gallery: Sequence, right: Sequence[bool | None], captions: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """A query and its best matches (CGPN Fig. 6): "+" in blue is the same person, "x" in vermilion another one.

    query, gallery: images; right: one entry a gallery image, None for images that the protocol ignores ("o").
    """
    if len(right) != len(gallery):
        raise ReIDKitError(f"ranked_list got {len(gallery)} gallery images but {len(right)} marks")
    figure, axes = axes_of(1, len(gallery) + 1, 1.05 * (len(gallery) + 1), 2.9, dpi=PHOTO_DPI)
    marks = [("#000000", "query")] + [IGNORED if r is None else RIGHT if r else WRONG for r in right]
    for i, (ax, image, (colour, sign)) in enumerate(zip(axes[0], [query, *gallery], marks)):
        ax.imshow(np.asarray(image))
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(color=colour, linewidth=3, linestyle="-" if sign != "x" else (0, (2, 1)), capstyle="butt")
        ax.set_title(sign if i == 0 else f"{i} {sign}", color=colour, fontsize=9, fontweight="bold")
        if captions and i:
            ax.set_xlabel(captions[i - 1], fontsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def bars(
    values: pd.Series | Mapping[str, float],
    spread: pd.Series | Mapping[str, float] | None = None,
    *,
    unit: str = "",
    title: str = "",
    points: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Horizontal bars, one a name, from the first at the top. The axis does not start at zero, and says so.

    spread: half length of the error bar (NaN: none); points: single values (one a seed) drawn on the bar.
    """
    values = pd.Series(values, dtype=float)
    error = pd.Series({} if spread is None else spread, dtype=float).reindex(values.index)
    figure, axes = axes_of(1, 1, 6, 0.32 * len(values) + 0.9)
    ax = _plain(axes[0, 0], xlabel=f"{unit}  (the axis does not start at 0)", title=title)
    y = np.arange(len(values))
    low, high = (values - error.fillna(0)).min(), (values + error.fillna(0)).max()
    room = max(high - low, 1e-9)
    ax.barh(y, values, xerr=error.fillna(0) if error.notna().any() else None, color=COLOURS[5], ecolor="#333333")
    for i, (name, value) in enumerate(values.items()):
        ax.text(low - 0.28 * room, i, f" {value:.1f}", va="center", fontsize=8)
        seeds = list((points or {}).get(str(name), ()))
        ax.plot(seeds, [i] * len(seeds), "o", color="#333333", ms=3)
    ax.set(yticks=y, yticklabels=values.index, xlim=(low - 0.3 * room, high + 0.08 * room))
    ax.invert_yaxis()
    return figure


def variant_bars(
    results: pd.DataFrame,
    systems: Sequence[str],
    metric: str = "mAP",
    *,
    level: str,
    dataset: str | None = None,
    preset: str | None = None,
    title: str = "",
) -> Figure:
    """Bars of several systems: mean over seeds, a bar of one standard deviation, a dot a seed (percent)."""
    from reidkit.reporting.report import _series

    where = {"level": level, "dataset": dataset, "preset": preset}
    values = {s: 100 * _series(results, s, metric, **where) for s in systems}
    mean = pd.Series({s: v.mean() for s, v in values.items()})
    sd = pd.Series({s: v.std() for s, v in values.items()})
    label = f"{metric} (%), {level}, mean and sd over {max(map(len, values.values()))} seeds"
    return bars(mean, sd, unit=label, title=title, points={s: v.tolist() for s, v in values.items()})


VERDICT_MARKS = {
    "appears": (COLOURS[0], "^"),
    "reversed": (COLOURS[1], "v"),
    "undecided": ("#7F7F7F", "o"),
    "one seed": ("#000000", "x"),
}  # colour, marker


def differences(table: pd.DataFrame, title: str = "", unit: str = "points") -> Figure:
    """Paired differences with their intervals, one line a claim: `claims.check_claims` or `report.ordering`.

    Upward triangles: the claim appears; downward: reversed; circles: undecided; a cross: one seed, no interval.
    Claims that were not run are left out. Raises ReIDKitError if that leaves none.
    """
    t = table.loc[table["verdict"].isin(VERDICT_MARKS)].reset_index(drop=True)
    if t.empty:
        raise ReIDKitError("none of these differences was run; train both systems of a claim with the same seed")
    figure, axes = axes_of(1, 1, 7, 0.24 * len(t) + 1.3)
    ax = _plain(axes[0, 0], xlabel=f"difference in {', '.join(sorted(set(t.metric)))} ({unit})")
    figure.suptitle(title, fontsize=10)
    ax.axvline(0, color="#333333", lw=1)
    _intervals(ax, t, range(len(t)))
    names = t["better in the paper"] + " over " + t["worse in the paper"]
    ax.set(yticks=t.index, yticklabels=[f"{name} ({n})" for name, n in zip(names, t.seeds)])
    ax.tick_params(axis="y", labelsize=8)
    ax.invert_yaxis()
    figure.legend(frameon=False, loc="outside lower right", fontsize=8, ncols=4)
    return figure


def _intervals(ax: Axes, table: pd.DataFrame, heights: Sequence[int]) -> None:
    """The differences of a table, a line and a mark each, at these heights; one label a verdict."""
    places = np.asarray(heights)
    for verdict, (colour, marker) in VERDICT_MARKS.items():
        chosen = (table.verdict == verdict).to_numpy()
        rows, y = table.loc[chosen], places[chosen]
        ax.hlines(y, rows.low, rows.high, color=colour, lw=1.5)
        if len(rows):
            face, label = "white" if marker == "o" else colour, f"{verdict} ({len(rows)})"
            ax.plot(rows.difference, y, marker, color=colour, ms=6, markerfacecolor=face, label=label)


def differences_by_scale(table: pd.DataFrame, title: str = "", columns: int = 3, unit: str = "points") -> Figure:
    """The table of `claims.by_scale`: one panel a pair, one line a scale, marks as in `differences`.

    All panels share their axis. Raises ReIDKitError for an empty table.
    """
    if table.empty:
        raise ReIDKitError("none of these differences was run; train both systems of a pair with the same seed")
    averaged = table.scale.str.startswith("mean of ")
    scales = [*dict.fromkeys(table.scale[~averaged]), *(["mean of them"] if averaged.any() else [])]
    pairs = list(table.groupby(["better in the paper", "worse in the paper"], sort=False))
    rows = -(-len(pairs) // columns)
    height = (0.24 * len(scales) + 0.5) * rows + 1
    figure, axes = axes_of(rows, columns, 2.6 * columns + 2, height, sharex=True, sharey=True)
    for ax, (_, part) in zip(axes.flat, pairs):
        first = part.iloc[0]
        _plain(ax).axvline(0, color="#333333", lw=1)
        ax.set_title(f"{first['better in the paper']} over {first['worse in the paper']}", fontsize=9)
        _intervals(ax, part, [scales.index(s) if s in scales else len(scales) - 1 for s in part.scale])
    for ax in axes.flat[len(pairs) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(0, len(pairs) - columns) : len(pairs)]:  # the lowest of each column
        ax.tick_params(labelbottom=True)
    axes[0, 0].set(yticks=range(len(scales)), yticklabels=scales, ylim=(len(scales) - 0.5, -0.5))
    marks = {text.split(" (")[0]: handle for ax in axes.flat for handle, text in zip(*ax.get_legend_handles_labels())}
    names = [verdict for verdict in VERDICT_MARKS if verdict in marks]
    figure.legend([marks[name] for name in names], names, frameon=False, loc="outside lower right", fontsize=8, ncols=4)
    figure.supxlabel(f"difference in {', '.join(sorted(set(table.metric)))} ({unit})", fontsize=9, x=0.02, ha="left")
    figure.suptitle(title, fontsize=10)
    return figure
