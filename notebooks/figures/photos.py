"""Photographs: maps over them, and ranked lists (notebooks 08, 10, 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image as Jpeg
from matplotlib.figure import Figure
from PIL import Image

from reidkit.reporting import plots

from .base import as_jpeg, axes_of, frame


def grid(images: Sequence, titles: Sequence[str] | None = None, **shape) -> Jpeg:
    """`plots.image_grid` in one row, or as `shape` says; small."""
    return as_jpeg(plots.image_grid(images, titles, **{"columns": len(images)} | shape))


def sheet(
    rows: Mapping[str, Sequence],
    titles: Sequence[str],
    fontsize: int = 8,
    dpi: int = 78,  # many such sheets fit in one notebook
) -> Jpeg:
    """Rows of pictures. rows: {label: [picture, ...]}, arrays or PIL images; titles: of the
    columns."""
    across = max(map(len, rows.values()))
    figure, axes = axes_of(len(rows), across, 0.2 + 0.95 * across, 2.75 * len(rows) + 0.3)
    for line, (label, row) in zip(axes, rows.items()):
        for ax, picture in zip(line, row):
            ax.imshow(np.asarray(picture), extent=(0, 1, 3, 0), interpolation="nearest")
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(label, fontsize=fontsize + 1)
    for ax, title in zip(axes[0], titles):
        ax.set_title(title, fontsize=fontsize)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)
    return as_jpeg(figure, dpi, quality=78)


def maps_over(
    pictures: Sequence, captions: Sequence[str], columns: Mapping[str, Sequence], title: str
) -> Figure:
    """Rows: images [H, W, 3]; columns: {heading: maps [B, H, W]} over the grey image, bright is
    strong."""
    size = 0.85 * (len(columns) + 1), 2.1 * len(pictures)
    figure, axes = axes_of(len(pictures), len(columns) + 1, *size, dpi=plots.PHOTO_DPI)
    for i, (row, picture) in enumerate(zip(axes, pictures)):
        row[0].imshow(picture)
        row[0].set_ylabel(captions[i], fontsize=8)
        for ax, heat in zip(row[1:], columns.values()):
            ax.imshow(np.asarray(picture, dtype=float).mean(2), cmap="gray", vmin=0, vmax=400)
            ax.imshow(heat[i], cmap="inferno", alpha=0.65, vmin=0, vmax=1)
        for ax in row:
            ax.set(xticks=[], yticks=[])
    for ax, heading in zip(axes[0, 1:], columns):
        ax.set_title(heading, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def two_lists(queries: Sequence[tuple], title: str) -> Figure:
    """Ranked lists of two networks side by side, four images each (CGPN Fig. 6).

    queries: (caption, query file, [(file, right), ...] of the first network, the second's).
    """
    widths = {"width_ratios": [1, 0.2, 1, 1, 1, 1, 0.2, 1, 1, 1, 1]}
    shape = len(queries), 11, 8.2, 2.3 * len(queries)
    figure, axes = axes_of(*shape, gridspec_kw=widths, dpi=plots.PHOTO_DPI)
    for row, (caption, query, first, second) in zip(axes, queries):
        row[0].imshow(Image.open(query))
        frame(row[0], "black", text="query")
        row[0].set_ylabel(caption, fontsize=8)
        for places, found in ((row[2:6], first), (row[7:11], second)):
            for rank, (ax, (file, right)) in enumerate(zip(places, found), start=1):
                ax.imshow(Image.open(file))
                frame(ax, *(plots.RIGHT if right else plots.WRONG), f"{rank} ")
        for ax in row:
            ax.set(xticks=[], yticks=[])
        row[1].axis("off"), row[6].axis("off")
    figure.suptitle(title, fontsize=10)
    return figure


def lists(rows: Sequence[tuple], length: int = 8, height: float = 1.55) -> Jpeg:
    """Ranked lists. rows: (label, query, [(gallery row, right, similarity), ...]); rows have `path`
    and `camid`."""
    figure, axes = axes_of(
        len(rows), length + 1, 0.95 * (length + 1), 0.2 + (height + 0.75) * len(rows)
    )
    for line, (label, query, found) in zip(axes, rows):
        for n, (ax, (row, right, score)) in enumerate(
            zip(line, [(query, None, None), *found[:length]])
        ):
            colour, sign = ("#000000", "") if n == 0 else plots.RIGHT if right else plots.WRONG
            ax.imshow(Image.open(row.path))
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{n} {sign}" if n else label, color=colour, fontsize=8, fontweight="bold")
            ax.set_xlabel(f"cam {row.camid}" + (f"  {score:.2f}" if n else ""), fontsize=7)
            for spine in ax.spines.values():
                spine.set(
                    color=colour, linewidth=2.5, linestyle=(0, (3, 1)) if sign == "x" else "-"
                )
    return as_jpeg(figure, dpi=90)  # many small photographs


def match_by_part(query: str, right: tuple, wrong: tuple) -> Jpeg:
    """A query's best right and best wrong image, and their similarities part by part.

    right, wrong: (file, similarity of each part [K], similarity of the whole).
    """
    figure, axes = axes_of(1, 4, 8, 3, width_ratios=[1, 1, 1, 4])
    axes = axes[0]
    axes[0].imshow(Image.open(query))
    axes[0].set_title("query", fontsize=9, fontweight="bold")
    for ax, (file, parts, whole), (colour, sign), name in zip(
        axes[1:], (right, wrong), (plots.RIGHT, plots.WRONG), ("right", "wrong")
    ):
        ax.imshow(Image.open(file))
        ax.set_title(f"{sign} {name}", color=colour, fontsize=9, fontweight="bold")
        axes[3].plot(
            parts,
            np.arange(1, len(parts) + 1),
            color=colour,
            marker=sign,
            ms=9,
            mew=2.5,
            label=f"{name}, whole: {whole:.3f}",
        )
    for ax in axes[:3]:
        ax.axis("off")
    K = len(right[1])
    axes[3].set(
        ylim=(K + 0.5, 0.5), yticks=range(1, K + 1), ylabel="part", xlabel="similarity of the part"
    )
    axes[3].legend(frameon=False, fontsize=8)
    axes[3].grid(alpha=0.25)
    return as_jpeg(figure)


def part_heat(
    tables: Mapping[str, pd.DataFrame], boxes: Mapping[str, Mapping], names: Mapping[str, str]
) -> Figure:
    """What each part notices, a panel a network. tables: {network: [kinds, K]}; boxes: {network:
    {kind: part}}."""
    largest = max(t.max().max() for t in tables.values())
    figure, axes = axes_of(1, len(tables), 8.6, 3.8, sharey=True)
    for ax, (label, t) in zip(axes[0], tables.items()):
        ax.imshow(t, cmap="cividis", aspect="auto", vmin=0, vmax=largest)
        for y, (kind, row) in enumerate(t.iterrows()):
            if (x := boxes[label].get(kind)) is not None:
                ax.add_patch(
                    plt.Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, ec="white", lw=2)
                )
            for k, v in enumerate(row):
                colour = "black" if v > 0.6 * largest else "white"
                ax.text(k, y, f"{v:.2f}", ha="center", va="center", fontsize=7, color=colour)
        ax.set(
            title=f"{label}: right - sibling",
            xlabel="part",
            xticks=range(t.shape[1]),
            xticklabels=range(1, t.shape[1] + 1),
            yticks=range(len(t)),
            yticklabels=[names[k] for k in t.index],
        )
    return figure
