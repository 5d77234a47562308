"""How MPN (notebook 03) and CGPN (07) work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image as Jpeg
from matplotlib.figure import Figure

from reidkit.reporting import plots

from .base import GREY, as_jpeg, axes_of, legend_right, open_axes


def local_channels(pictures: Sequence, maps: Sequence, titles: Sequence[str], title: str) -> Jpeg:
    """Rows: images [3, H, W] uint8; columns: their responses of some channels, maps[row] [channels,
    h, w]."""
    columns = len(titles)
    figure, axes = axes_of(len(pictures), columns + 1, 0.95 * (columns + 1), 9)
    for row, picture, responses in zip(axes, pictures, maps):
        photo = picture.permute(1, 2, 0)
        extent = (0, photo.shape[1], photo.shape[0], 0)
        row[0].imshow(photo)
        for ax, response in zip(row[1:], responses):
            ax.imshow(photo.float().mean(2), cmap="gray", vmax=400)
            ax.imshow(
                response, cmap="inferno", alpha=0.7, extent=extent, interpolation="bilinear", vmin=0
            )
        for ax in row:
            ax.set(xticks=[], yticks=[])
    for ax, name in zip(axes[0], ["image", *titles]):
        ax.set_title(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return as_jpeg(figure)


def part_steps(
    picture, mask, steps: Mapping, boundaries: Sequence[float], num_parts: int
) -> Figure:
    """From F to the parts (MPN Fig. 5b): image [3, H, W], mask M [h, w], {name: map [h, w]}, the
    last one cut.

    boundaries: upper and lower end of the body, as fractions of the height.
    """
    height, width = picture.shape[1:]
    largest = next(iter(steps.values())).max().item()
    figure, axes = axes_of(1, 5, 8, 3.6)
    axes = axes[0]
    axes[0].imshow(picture.permute(1, 2, 0))
    axes[1].imshow(mask, cmap="gray", extent=(0, width, height, 0))
    for ax, step in zip(axes[2:], steps.values()):
        ax.imshow(step, cmap="inferno", extent=(0, width, height, 0), vmin=0, vmax=largest)
    for ax in axes[:4]:
        ax.hlines([height * b for b in boundaries], 0, width, color="#56B4E9", lw=2)
    axes[4].hlines(
        [height * j / num_parts for j in range(1, num_parts)], 0, width, color="#56B4E9", lw=1.5
    )
    for ax, name in zip(axes, ["image, boundaries", "mask M", *steps]):
        ax.set_title(name, fontsize=9)
        ax.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    return figure


def triplets(
    points, people: Sequence[int], pairs: Sequence[tuple], titles: Mapping[int, str]
) -> Figure:
    """Features on a circle [N, 2]; a panel an anchor, with its hardest positive and negative.
    titles: {anchor: ...}."""
    figure, axes = axes_of(1, len(titles), 9, 3.3)
    for ax, (a, title) in zip(axes[0], titles.items()):
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="#BBBBBB"))
        for person, (colour, marker) in enumerate(zip(plots.COLOURS, "os^")):
            own = [j for j, p in enumerate(people) if p == person]
            ax.plot(*points[own].T, marker, color=colour, ms=8, label=f"identity {person}")
        for j, style, name in zip(pairs[a], ("-", ":"), ("hardest positive", "hardest negative")):
            ax.plot(*points[[a, j]].T, style, color="black", lw=1.6, label=name, zorder=0)
        ax.plot(*points[a], "o", ms=15, mfc="none", mec="black")
        ax.set(aspect="equal", xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), xticks=[], yticks=[])
        ax.set_title(title, fontsize=9)
    legend_right(figure, axes[0, 0], fontsize=8)
    return figure


def alignments(h, g, who) -> Figure:
    """Sample-wise and class-wise alignment of two-dimensional features h and g [N, 2] of identities
    who [N]."""
    figure, axes = axes_of(1, 2, 7.6, 3.4)
    for ax, title in zip(axes[0], ("sample-wise: each h to its g", "class-wise: mean to mean")):
        by_class = title.startswith("class")
        for p, colour in enumerate(plots.COLOURS[:2]):
            own, faint = who == p, 0.25 if by_class else 1.0
            ax.plot(*h[own].T, "o", color=colour, ms=7, alpha=faint, label=f"h, identity {p}")
            ax.plot(
                *g[own].T,
                "^",
                color=colour,
                ms=10,
                mfc="none",
                mew=1.5,
                alpha=faint,
                label=f"g, identity {p}",
            )
            pairs = [(h[own].mean(0), g[own].mean(0))] if by_class else zip(h[own], g[own])
            for a, b in pairs:
                ax.plot([a[0], b[0]], [a[1], b[1]], color="black", lw=1)
                if by_class:
                    ax.plot(*a, "o", color=colour, ms=12)
                    ax.plot(*b, "^", color=colour, ms=13, mfc="none", mew=2)
        ax.plot(0, 0, "+", color=GREY, ms=9)
        ax.set(aspect="equal", xticks=[], yticks=[], xlim=(-0.9, 1.3), ylim=(-1.15, 1.25))
        ax.set_title(title, fontsize=9)
    legend_right(figure, axes[0, 0], fontsize=8)
    return figure


def against_broken_priors(table: pd.DataFrame) -> Figure:
    """The columns from the third on against `broken priors`, a line a `loss`, with one standard
    deviation."""
    figure, axes = axes_of(1, 2, 8, 3.2)
    for ax, column in zip(axes[0], table.columns[2:]):
        for colour, marker, (kind, t) in zip(plots.COLOURS, "os", table.groupby("loss")):
            mean, sd = (
                getattr(t.groupby("broken priors")[column], what)() for what in ("mean", "std")
            )
            ax.errorbar(
                100 * mean.index, mean, sd, color=colour, marker=marker, ms=5, capsize=3, label=kind
            )
        ax.set(
            xlabel="broken priors (%)",
            ylabel="cosine " + ("distance" if "far" in column else "similarity"),
        )
        ax.set_title(column, fontsize=10)
        open_axes(ax)
    axes[0, 0].legend(frameon=False)
    return figure


def cgpn_structure(branches: Sequence, channels: int, num_parts: int) -> Figure:
    """CGPN's Fig. 2, from the branches of a model: trunk, tails, global parts (blue), stripe groups
    (yellow)."""
    figure, axes = axes_of(1, 1, 10, 4.6)
    ax, grey, blue, yellow = axes[0, 0], "#EEEEEE", "#CBE3F5", "#FBE7BD"

    def box(x, y, w, h, text, colour):
        ax.add_patch(plt.Rectangle((x, y), w, h, facecolor=colour, edgecolor="#333333", lw=0.8))
        ax.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=7.5)

    def arrow(x0, y0, x1, y1):
        ax.annotate(
            "", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-|>", "lw": 0.8, "color": "#555555"}
        )

    box(0, 1.1, 1.3, 0.8, "trunk\nto res_conv4_1", grey)
    for i, branch in enumerate(branches):
        y = 2 - i
        arrow(1.3, 1.5, 1.9, y + 0.5)
        box(1.9, y + 0.2, 1.2, 0.6, f"tail {i + 1}\nmap {channels}x24x8", grey)
        arrow(3.1, y + 0.5, 3.6, y + 0.73)
        box(3.6, y + 0.58, 3.0, 0.32, "1x1 conv, GMP: fg_1   |   1x1 conv, GMP: fg_2", blue)
        arrow(6.6, y + 0.74, 7.1, y + 0.74)
        box(7.1, y + 0.58, 2.0, 0.32, f"fg of {branch.name}: {2 * channels} -> 256", blue)
        arrow(3.1, y + 0.5, 3.6, y + 0.27)
        names = ", ".join(group.name for group in branch.groups)
        box(3.6, y + 0.1, 3.0, 0.32, f"GMP of stripes  {names}", yellow)
        arrow(6.6, y + 0.26, 7.1, y + 0.26)
        box(7.1, y + 0.1, 2.0, 0.32, f"{len(branch.groups)} fl: {channels} -> 256 each", yellow)
    length = f"{num_parts} features\nside by side:\n{num_parts} x 256\n= {num_parts * 256}"
    ax.text(9.25, 1.5, length, va="center", fontsize=9)
    ax.set(
        xlim=(-0.1, 10.6),
        ylim=(0, 3.05),
        title="CGPN, Fig. 2 (blue: global part, yellow: local part)",
    )
    ax.axis("off")
    return figure


def stripe_groups(branches: Sequence, title: str) -> Figure:
    """One picture a stripe group (CGPN Fig. 3), the branches side by side; a filled part is what
    one feature sees."""
    count = sum(len(b.groups) for b in branches)
    figure, axes = axes_of(1, count, 0.95 * count, 2.6)
    panels = iter(axes[0])
    for branch, colour in zip(branches, plots.COLOURS):
        for group in branch.groups:
            ax, (top, bottom) = next(panels), group.extent
            ax.add_patch(plt.Rectangle((0, top), 1, bottom - top, facecolor=colour, alpha=0.75))
            ax.hlines(np.arange(1, group.of) / group.of, 0, 1, color="#333333", lw=0.8, ls=":")
            for stripe in range(group.of):
                inside = group.start <= stripe < group.stop
                ax.text(
                    0.5,
                    (stripe + 0.5) / group.of,
                    stripe + 1,
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if inside else "#333333",
                    fontweight="bold" if inside else None,
                )
            ax.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect=2)
            ax.set_title(f"{branch.name}\n{group.height} of h", fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure
