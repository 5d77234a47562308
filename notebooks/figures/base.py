"""What the figures share."""

from __future__ import annotations

import io

from IPython.display import Image as Jpeg
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from reidkit.reporting import plots
from reidkit.reporting.plots import axes_of as axes_of

GREY = "#7F7F7F"


def as_jpeg(figure: Figure, dpi: int = plots.PHOTO_DPI, quality: int = 82) -> Jpeg:
    """A figure of photographs, small."""
    file = io.BytesIO()
    options = {"dpi": dpi, "bbox_inches": "tight"}  # nothing cut, as where Jupyter draws it
    figure.savefig(file, format="jpeg", pil_kwargs={"quality": quality}, **options)
    return Jpeg(file.getvalue(), format="jpeg")


def small_jpeg(picture: Image.Image, quality: int = 85) -> Jpeg:
    """A PIL picture, small."""
    file = io.BytesIO()
    picture.save(file, format="jpeg", quality=quality)
    return Jpeg(file.getvalue(), format="jpeg")


def open_axes(ax: Axes, grid: bool = True) -> None:
    """No upper and right spine; a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(alpha=0.25)


def frame(ax: Axes, colour: str, sign: str = "", text: str = "") -> None:
    """A photograph's frame and title; a wrong match ("x") has a dashed frame."""
    for spine in ax.spines.values():
        spine.set(
            color=colour,
            linewidth=3,
            capstyle="butt",
            linestyle=(0, (2, 1)) if sign == "x" else "-",
        )
    ax.set_title(f"{text}{sign}", color=colour, fontsize=9, fontweight="bold", pad=3)


def legend_right(figure: Figure, ax: Axes, **options) -> None:
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside right center", frameon=False, **options
    )
