"""Numbers: results over seeds, shares with intervals, losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reidkit.reporting import colours, plots

from .base import GREY, axes_of, legend_right, open_axes


def dots(
    results: pd.DataFrame, systems: Sequence[str], metric: str = "mAP", title: str = ""
) -> Figure | None:
    """One panel a level: a dot a seed, the mean, one sd. Systems without a run are named, left out.

    results: rows of `report.collect_results` of one data set and preset. None if no system was run.
    """
    levels = list(dict.fromkeys(results.level))
    data = results[(results.metric == metric) & results.system.isin(systems)]
    present = [s for s in systems if s in set(data.system)]
    if lacking := [s for s in systems if s not in present]:
        print("not run yet:", ", ".join(lacking))
    if not present:
        return None
    figure, axes = axes_of(1, len(levels), 8, 0.3 * len(present) + 1.1, sharey=True)
    for ax, level in zip(axes[0], levels):
        for y, (system, (colour, _)) in enumerate(zip(present, plots.styles(present))):
            values = 100 * data.value[(data.system == system) & (data.level == level)]
            spread = values.std() if len(values) > 1 else None
            ax.errorbar(values.mean(), y, xerr=spread, fmt="D", ms=7, color=colour, elinewidth=2)
            ax.plot(values, [y] * len(values), "o", color=colour, mec="white", ms=4.5, zorder=3)
        ax.set(title=level, xlabel=f"{metric} (%)", yticks=range(len(present)), yticklabels=present)
        ax.set_ylim(len(present) - 0.5, -0.5)
        open_axes(ax)
    figure.suptitle(title, fontsize=10)
    return figure


def measure_dots(
    scores: pd.DataFrame, variants: Sequence[str], measures: Mapping[str, tuple], title: str
) -> Figure:
    """Six measures of attention: a dot a seed, a diamond for the mean; dashed: chance.

    measures: {column: (name, chance: a number, a column or None, which end is better)}.
    """
    here = [v for v in variants if v in set(scores.variant)]
    known = [(c, about) for c, about in list(measures.items())[:6] if scores[c].notna().any()]
    figure, axes = axes_of(2, 3, 9, 0.42 * len(here) + 2.6, sharey=True)
    for ax in axes.flat[len(known) :]:
        ax.axis("off")
    for ax, (column, (name, chance, better)) in zip(axes.flat, known):
        for y, (variant, (colour, _)) in enumerate(zip(here, plots.styles(here))):
            values = scores[column][scores.variant == variant]
            ax.plot(values.mean(), y, "D", color=colour, ms=7)
            ax.plot(values, [y] * len(values), "o", color=colour, mec="white", ms=4.5)
        if chance is not None:
            ax.axvline(
                scores[chance].mean() if isinstance(chance, str) else chance,
                color="#333333",
                ls="--",
                lw=1,
            )
        ax.set_title(f"{name}\n({better} is better)", fontsize=8)
        ax.set(yticks=range(len(here)), yticklabels=here, ylim=(len(here) - 0.5, -0.5))
        open_axes(ax)
    figure.suptitle(title, fontsize=10)
    return figure


def leads(panels: Mapping[str, Mapping[str, tuple]]) -> Figure:
    """CGPN's lead on occluded against that on whole people. panels: {title: {system: (x, y), one a
    seed}}."""
    figure, axes = axes_of(1, len(panels), 8.2, 3.4)
    for ax, (title, points) in zip(axes[0], panels.items()):
        for (system, (x, y)), (colour, marker) in zip(points.items(), plots.styles(list(points))):
            ax.plot(x, y, marker, color=colour, ms=7, alpha=0.85, label=system)
        ends = [min(0, *ax.get_xlim(), *ax.get_ylim()), max(1, *ax.get_xlim(), *ax.get_ylim())]
        ax.plot(ends, ends, color=GREY, lw=1, ls=":")
        ax.axhline(0, color="#333333", lw=0.8)
        ax.axvline(0, color="#333333", lw=0.8)
        ax.set(xlabel="CGPN's lead on whole people", ylabel="CGPN's lead on occluded people")
        ax.set_title(title, fontsize=10)
        open_axes(ax, grid=False)
    legend_right(figure, axes[0, 0], title="over")
    return figure


def by_count(
    ax: Axes,
    groups: Mapping[int, Sequence[str]],
    values: pd.Series,
    spread: pd.Series | None = None,
) -> None:
    """mAP against a count on the given axes. groups: {count: systems}; dotted: the mean of a
    group."""
    places = [
        (n, s, n + 0.27 * (i - (len(systems) - 1) / 2))
        for n, systems in groups.items()
        for i, s in enumerate(systems)
        if s in values
    ]
    for _, s, x in places:
        up = 0.0 if spread is None or np.isnan(spread[s]) else spread[s]
        ax.errorbar(
            x,
            values[s],
            yerr=up or None,
            fmt="o",
            ms=6,
            color="#333333" if spread is None else colours.SYSTEMS["cgpn"][0],
        )
        ax.annotate(
            s.removeprefix("cgpn-"),
            (x, values[s] + up),
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=7,
            ha="center",
        )
    counts = sorted({n for n, _, _ in places})
    ax.plot(
        counts,
        [np.mean([values[s] for m, s, _ in places if m == n]) for n in counts],
        ":",
        color=GREY,
        lw=1,
    )
    ax.set(ylabel="mAP (%)", xticks=list(groups), xlim=(min(groups) - 0.6, max(groups) + 0.6))
    ax.margins(y=0.15)
    ax.title.set_fontsize(10)
    open_axes(ax, grid=False)
    if not places:
        ax.text(0.5, 0.5, "not run yet", transform=ax.transAxes, ha="center", color=GREY)
        ax.set_yticks([])


def shares(
    groups: Mapping[str, Mapping],
    networks: Sequence[str],
    xlabel: str,
    interval: Callable,
    chance: Mapping | None = None,
) -> Figure:
    """Shares of two networks with intervals (11), one picture a title.

    groups: {title: {name: {network: (hits, n)}}}. networks: their names, in order.
    interval: (hits, n) -> (low, high).
    chance: {name: share}, the dashed lines.
    """
    tallest = max(map(len, groups.values()))
    figure, axes = axes_of(1, len(groups), max(5.5, 3.1 * len(groups)), 0.42 * tallest + 1.3)
    for ax, (title, names) in zip(axes[0], groups.items()):
        for y, (name, found) in enumerate(names.items()):
            for d, (label, (colour, marker)) in enumerate(zip(networks, plots.styles(networks))):
                hits, n = found[label]
                at, ends = y + 0.3 * (d - 0.5), 100 * np.array(interval(hits, n))
                ax.plot(ends, [at, at], color=colour, lw=1.5)
                ax.plot(
                    100 * hits / n, at, marker, color=colour, ms=5, label=label if y == 0 else None
                )
            if chance is not None:
                ax.plot(
                    [100 * chance[name]] * 2,
                    [y - 0.4, y + 0.4],
                    color="#333333",
                    ls="--",
                    lw=1.2,
                    label=None if y else "blind to this part",
                )
        ax.set(title=title, xlabel=xlabel, yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
        ax.set_yticklabels(
            [f"{name} ({next(iter(v.values()))[1]})" for name, v in names.items()], fontsize=8
        )
        open_axes(ax)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def stacked_shares(shares: Mapping[str, pd.Series], xlabel: str) -> Figure:
    """Bars of shares of a whole of 1, a bar a name; the first share of each is written beside
    it."""
    figure, axes = axes_of(1, 1, 7.5, 2.4)
    ax = axes[0, 0]
    for y, share in enumerate(shares.values()):
        left = share.cumsum() - share
        for (term, value), start, colour, hatch in zip(
            share.items(), left, plots.COLOURS, ("", "///", "..")
        ):
            ax.barh(
                y,
                value,
                left=start,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                alpha=0.85,
                label=None if y else term,
            )
        first = share.index[0].split(",")[0]
        ax.text(1.01, y, f"{first} {share.iloc[0]:.1%}", va="center", fontsize=8)
    ax.set(yticks=range(len(shares)), yticklabels=list(shares), xlim=(0, 1.16), xlabel=xlabel)
    ax.invert_yaxis()
    open_axes(ax, grid=False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure


def with_levels(figure: Figure, marks: Sequence[tuple], dashed: str = "") -> Figure:
    """Dotted lines on the panels of a figure. marks: (level, text, offset in points, side); dashed:
    a line's label."""
    for ax, (level, text, offset, side) in zip(figure.axes, marks):
        ax.axhline(level, color="#333333", lw=1, ls=":")
        ax.annotate(
            text,
            (1, level),
            xytext=(0, offset),
            textcoords="offset points",
            fontsize=8,
            ha="left",
            va=side,
        )
        ax.set_ylim(0, max(ax.get_ylim()[1], 1.12 * level))
    for line in (line for ax in figure.axes for line in ax.lines if line.get_label() == dashed):
        # it often hides another one
        line.set(linestyle="--", markerfacecolor="white", markersize=5)
    return figure
