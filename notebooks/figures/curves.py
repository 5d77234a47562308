"""Lines and areas: schedules, losses, precision and recall, sweeps over a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reidkit.reporting import colours, plots

from .base import axes_of, legend_right, open_axes


def curves(
    panels: Mapping[str, Mapping[str, tuple]],
    xlabel: str,
    ylabel: str = "",
    *,
    log: Sequence[str] = (),
    shared: bool = False,
) -> Figure:
    """A panel a title, a line a name. panels: {title: {name: (x, y)}}.

    log: titles of panels with a logarithmic y axis; the others start at 0. shared: one y axis.
    """
    figure, axes = axes_of(1, len(panels), 8.4, 3.2, sharey=shared)
    for ax, (title, lines) in zip(axes[0], panels.items()):
        for (name, (x, y)), (colour, marker) in zip(lines.items(), plots.styles(list(lines))):
            many = len(x) > 20  # points that need no mark and no tick of their own
            ax.plot(x, y, color=colour, marker="" if many else marker, lw=2, ms=5, label=name)
        ax.set(title=title, xlabel=xlabel)
        if not many:
            ax.set_xticks(x)
        ax.set_yscale("log") if title in log else ax.set_ylim(0, None)
        open_axes(ax)
    axes[0, 0].set_ylabel(ylabel)
    if len(axes[0, 0].lines) > 1:
        legend_right(figure, axes[0, 0])
    return figure


def batch_losses(losses: pd.Series, once_round: int | None, guess: float) -> Figure:
    """The loss of each batch of an epoch, and the mean of ten.

    once_round: batches until every identity was shown, None: not drawn. guess: the loss of a guess.
    """
    figure, axes = axes_of(1, 1, 8.4, 3.2)
    ax, batches = axes[0, 0], losses.index + 1
    if once_round:
        label = "every identity\nwas shown once"
        ax.axvline(once_round + 0.5, color="#333333", lw=1, ls="--", label=label)
    ax.plot(batches, losses, ".", color=plots.COLOURS[6], label="a batch")
    means = losses.rolling(10, min_periods=1).mean()
    ax.plot(batches, means, color=plots.COLOURS[0], label="mean of the last 10")
    ax.axhline(guess, color=plots.COLOURS[1], lw=1, label="identity loss of\na pure guess")
    ax.set(xlabel="batch", ylabel="loss (Eq. 10)", title="one epoch by hand")
    legend_right(figure, ax, fontsize=9)
    open_axes(ax)
    return figure


def precision_areas(ranks: Sequence[int], areas: Mapping[str, float]) -> Figure:
    """AP of one list as an area over recall. ranks: of its right images; areas: {form: AP}."""
    figure, axes = axes_of(1, len(areas), 8.4, 3.2, sharey=True)
    n = len(ranks)
    for ax, (form, area), colour in zip(axes[0], areas.items(), plots.COLOURS):
        for j, r in enumerate(ranks):
            now, before = (j + 1) / r, j / (r - 1) if r > 1 else 1.0
            left, x = now if form == "step" else before, [j / n, j / n, (j + 1) / n, (j + 1) / n]
            ax.fill(x, [0, left, now, 0], color=colour, alpha=0.35, ec=colour, lw=2)
            ax.plot(x[-1], now, "o", color="black")
            text = f"rank {r}: {j + 1}/{r}"
            ax.annotate(text, (x[-1], now), (-4, 6), textcoords="offset points", ha="right")
        ax.set(xlabel="recall", ylim=(0, 1.15), title=f"{form}: area {area:.3f}")
        open_axes(ax, grid=False)
    axes[0, 0].set_ylabel("precision")
    return figure


def sweep(
    panels: Mapping[str, Mapping[str, pd.DataFrame]], system: str, xlabel: str, title: str
) -> Figure:
    """A system's means over seeds against a setting: a panel a level, a line a metric (the second
    one dashed), a bar of one sd.

    panels: {level: {metric: a table with the columns mean and sd, its index the setting}}.
    """
    figure, axes = axes_of(1, len(panels), 8.4, 3.6, sharey=True)
    colour, marker = colours.SYSTEMS[system]
    for ax, (level, lines) in zip(axes[0], panels.items()):
        for (name, t), line, face in zip(lines.items(), ("-", "--"), (colour, "white")):
            style = {"color": colour, "marker": marker, "ms": 6, "capsize": 3, "label": name}
            style |= {"ls": line, "markerfacecolor": face}
            ax.errorbar(t.index, t["mean"], t["sd"].fillna(0), **style)
        ax.set(title=level, xlabel=xlabel, xticks=t.index)
        open_axes(ax)
    axes[0, 0].set_ylabel("%")
    legend_right(figure, axes[0, 0])
    figure.suptitle(title, fontsize=10)
    return figure


def soft_against_hard(panels: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """mAP against the weight of soft sharing; dashed: hard sharing, the last row (MPN Fig. 10).

    panels: {title: a table with the columns mean and sd, its index the names on the x axis}.
    """
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = axes_of(rows, columns, 8.4, 2.5 * rows + 0.3, sharex=True, sharey="row")
    for ax, (name, t) in zip(axes.flat, panels.items()):
        x = np.arange(len(t))
        ax.errorbar(x, t["mean"], t["sd"].fillna(0), fmt="o", color="#333333", ms=6, capsize=3)
        ax.plot(x[:-1], t["mean"].iloc[:-1], color="#333333", lw=1)
        ax.axhline(t["mean"].iloc[-1], color=plots.COLOURS[0], lw=1.5, ls="--")
        ax.set(title=name, xticks=x, xticklabels=t.index)
        open_axes(ax)
    for ax in axes[:, 0]:
        ax.set_ylabel("mAP (%)")
    for ax in axes[-1]:
        ax.set_xlabel("weight of the penalty")
    figure.suptitle(title, fontsize=10)
    return figure


def percentages(panels: Mapping[str, np.ndarray], columns: Sequence[str]) -> Figure:
    """Shares [rows, columns] in [0, 1], written into their cells in per cent; a panel a title."""
    figure, axes = axes_of(1, len(panels), 10.4, 3.4, sharey=True)
    for ax, (title, shares) in zip(axes[0], panels.items()):
        ax.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        rows = range(len(shares))
        ax.set(title=title, xticks=range(len(columns)), yticks=rows)
        ax.set_yticklabels([k + 1 for k in rows])
        ax.set_xticklabels(columns, fontsize=9, rotation=40)
        for (k, i), v in np.ndenumerate(shares):
            style = {"ha": "center", "va": "center", "fontsize": 9}
            ax.text(i, k, f"{100 * v:.0f}", color="white" if v < 0.6 else "black", **style)
    axes[0, 0].set_ylabel("stripe")
    return figure
