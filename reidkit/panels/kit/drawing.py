"""What the panels draw with, on top of a `Sketch` and of `reidkit.reporting.pictures`. Colours are those of
`reidkit.reporting.plots` (Okabe and Ito), which colour-blind readers can tell apart; right, wrong and ignored always
carry a sign as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from reidkit.panels.kit.sketch import Sketch
from reidkit.reporting.pictures import INK, MUTED, colour_map, fit_text, heat_overlay
from reidkit.reporting.plots import COLOURS, IGNORED, RIGHT, WRONG

__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "IGNORED",
    "INK",
    "LINE",
    "MUTED",
    "ORANGE",
    "RIGHT",
    "WRONG",
    "bar",
    "canvas",
    "cells",
    "colour_map",
    "fit",
    "fit_text",
    "frame",
    "heat_overlay",
    "heat_picture",
    "overlay",
    "paste",
    "photograph",
    "pictures_with_bars",
    "text",
]

BLUE, ORANGE, GREEN, GREY = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[6]
LINE = "#C8C8C8"  # thin lines


def canvas(size: tuple[int, int]) -> Sketch:
    """An empty drawing, (width, height) units."""
    return Sketch(size)


def text(picture: Sketch, xy: tuple[float, float], words: str, *style, **options) -> None:
    """Write a line, or lines separated by newlines: size, fill, anchor, bold as in PIL; room: see `sketch.Words`."""
    picture.text(xy, words, *style, **options)


def photograph(image: Image.Image | np.ndarray | torch.Tensor) -> Image.Image:
    """An image in its own pixels: PIL, uint8 array [H, W, 3] or [H, W], uint8 tensor [3, H, W]."""
    if isinstance(image, torch.Tensor):
        image = image.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(image)) if isinstance(image, np.ndarray) else image


def fit(size: tuple[float, float], room: tuple[float, float]) -> tuple[float, float]:
    """(width, height) as large as fits into a room, in the shape of `size`."""
    scale = min(room[0] / size[0], room[1] / size[1])
    return max(size[0] * scale, 1), max(size[1] * scale, 1)


def overlay(image: Image.Image | np.ndarray | torch.Tensor, values: np.ndarray | torch.Tensor) -> Image.Image:
    """A map [h, w] in [0, 1] over an image, in the image's own pixels."""
    picture = photograph(image)
    return heat_overlay(picture, values, picture.size)


def heat_picture(values: np.ndarray | torch.Tensor, name: str = "viridis") -> Image.Image:
    """A map [h, w] of values in [0, 1] as colours, a pixel a cell."""
    values = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float32)), 0, 1)
    return Image.fromarray(colour_map(name)[(values * 255).round().astype(np.uint8)])


def cells(
    picture: Sketch, values: np.ndarray, xy: tuple[float, float], size: tuple[float, float], name: str = "gray"
) -> None:
    """A small map [h, w] in [0, 1] drawn cell by cell with thin lines between the cells."""
    (x, y), (width, height), (h, w) = xy, size, np.shape(values)
    picture.photo(heat_picture(np.asarray(values, dtype=np.float32), name), xy, size, flat=True)
    for i in range(1, h):
        picture.line([(x, y + i * height / h), (x + width, y + i * height / h)], "#7F7F7F")
    for j in range(1, w):
        picture.line([(x + j * width / w, y), (x + j * width / w, y + height)], "#7F7F7F")


def paste(
    picture: Sketch,
    part: Image.Image | np.ndarray | torch.Tensor,
    xy: tuple[float, float],
    size: tuple[float, float],
    title: str = "",
    border: str = LINE,
    letters: float = 12,
    **options,
) -> None:
    """Put an image at xy, `size` large, with a thin border and, above it, a title. options: see `Sketch.photo`."""
    (x, y), (width, height) = xy, size
    picture.photo(photograph(part), xy, size, **options)
    picture.rectangle([x - 1, y - 1, x + width + 1, y + height + 1], outline=border)
    if title:
        text(picture, (x + width / 2, y - 5), title, letters, anchor="md")


def frame(picture: Sketch, box: Sequence[float], mark: tuple[str, str], width: int = 4) -> None:
    """A coloured frame and its sign in the corner. mark: RIGHT, WRONG or IGNORED. box: x0, y0, x1, y1."""
    colour, sign = mark
    x0, y0, x1, y1 = box
    picture.rectangle([x0 - width, y0 - width, x1 + width, y1 + width], outline=colour, width=width)
    picture.rectangle([x0, y0, x0 + 16, y0 + 16], fill=colour)
    text(picture, (x0 + 8, y0 + 8), {"+": "+", "x": "×", "o": "o"}.get(sign, sign), 14, "white", "mm", bold=True)


def bar(
    picture: Sketch,
    box: Sequence[float],
    value: float,
    label: str = "",
    fill: str = BLUE,
    low: float = 0.0,
    high: float = 1.0,
    size: float = 12,
) -> None:
    """A horizontal bar for `value` in low .. high, with a label to its right; grows from 0 if 0 lies inside."""
    x0, y0, x1, y1 = box
    place = lambda v: x0 + (x1 - x0) * (min(max(v, low), high) - low) / (high - low)  # noqa: E731
    picture.rectangle([x0, y0, x1, y1], fill="#EFEFEF")
    start, end = sorted((place(max(low, min(0.0, high))), place(value)))
    picture.rectangle([start, y0, end, y1], fill=fill)
    if label:
        text(picture, (x1 + 6, (y0 + y1) / 2), label, size, anchor="lm")


def pictures_with_bars(
    picture: Sketch,
    photos: Sequence[Image.Image],
    bars: Sequence[tuple[str, float, float]],
    xy: tuple[float, float],
    width: float,
    height: float,
    colour: str,
) -> None:
    """Photos in a row, each with a standing bar beside it. bars: (name, value in 0 .. 1, another that a line marks)."""
    step, thick = width / len(photos), 18
    for k, (photo, (name, value, mark)) in enumerate(zip(photos, bars)):
        w, h = fit(photo.size, (step - thick - 10, height))
        x, y = xy[0] + k * step + (step - w - thick - 10) / 2, xy[1]
        picture.photo(photo, (x, y), (w, h))
        left, right = x + w + 4, x + w + 4 + thick
        place = lambda v: y + h * (1 - min(max(v, 0.0), 1.0))  # noqa: E731, B023
        picture.rectangle([left, y, right, y + h], fill="#EFEFEF")
        picture.rectangle([left, place(value), right, y + h], fill=colour)
        picture.line([(left - 2, place(mark)), (right + 2, place(mark))], INK, 2)
        text(picture, ((x + right) / 2, y + h + 5), f"{name}:  {value:.2f}", 12, colour, "ma", room=step - 3)
