"""What the panels draw with: a few lines of PIL, on top of `reidkit.reporting.pictures`. Colours are those of
`reidkit.reporting.plots` (Okabe and Ito), which colour-blind readers can tell apart; right, wrong and ignored always
carry a sign as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from reidkit.reporting.pictures import (
    INK,
    MUTED,
    colour_map,
    fit_text,
    font,
    heat_overlay,
    text,
    text_width,
    thumbnail,
)
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
    "fit_text",
    "font",
    "frame",
    "heat_overlay",
    "heat_picture",
    "paste",
    "text",
    "text_width",
    "thumbnail",
]

BLUE, ORANGE, GREEN, GREY = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[6]
LINE = "#C8C8C8"  # thin lines


def canvas(size: tuple[int, int]) -> Image.Image:
    """A white picture, (width, height) pixels."""
    return Image.new("RGB", size, "white")


def heat_picture(
    values: np.ndarray | torch.Tensor, size: tuple[int, int], name: str = "viridis", smooth: bool = False
) -> Image.Image:
    """A map [h, w] of values in [0, 1] as colours, at (width, height) pixels; smooth=False keeps square cells."""
    values = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float32)), 0, 1)
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    grown = np.asarray(Image.fromarray(values).resize(size, how))
    return Image.fromarray(colour_map(name)[(grown * 255).round().astype(np.uint8)])


def cells(values: np.ndarray, size: tuple[int, int], name: str = "gray", lines: str | None = "#7F7F7F") -> Image.Image:
    """A small map [h, w] in [0, 1] drawn cell by cell with thin lines between the cells."""
    picture = heat_picture(np.asarray(values, dtype=np.float32), size, name)
    if lines:
        draw, (width, height), (h, w) = ImageDraw.Draw(picture), size, np.shape(values)
        for i in range(1, h):
            draw.line([(0, round(i * height / h)), (width, round(i * height / h))], fill=lines)
        for j in range(1, w):
            draw.line([(round(j * width / w), 0), (round(j * width / w), height)], fill=lines)
    return picture


def paste(
    picture: Image.Image,
    part: Image.Image,
    xy: tuple[float, float],
    title: str = "",
    border: str = LINE,
    size: int = 12,
) -> None:
    """Put a picture at xy with a thin border and, above it, a title."""
    x, y = round(xy[0]), round(xy[1])
    picture.paste(part, (x, y))
    ImageDraw.Draw(picture).rectangle([x - 1, y - 1, x + part.width, y + part.height], outline=border)
    if title:
        text(picture, (x + part.width / 2, y - 5), title, size, anchor="md")


def frame(picture: Image.Image, box: Sequence[float], mark: tuple[str, str], width: int = 4) -> None:
    """A coloured frame and its sign in the corner. mark: RIGHT, WRONG or IGNORED. box: x0, y0, x1, y1."""
    colour, sign = mark
    draw = ImageDraw.Draw(picture)
    x0, y0, x1, y1 = (round(v) for v in box)
    draw.rectangle([x0 - width, y0 - width, x1 + width - 1, y1 + width - 1], outline=colour, width=width)
    draw.rectangle([x0, y0, x0 + 15, y0 + 15], fill=colour)
    text(picture, (x0 + 8, y0 + 7), {"+": "+", "x": "×", "o": "o"}.get(sign, sign), 14, "white", "mm", bold=True)


def bar(
    picture: Image.Image,
    box: Sequence[float],
    value: float,
    label: str = "",
    fill: str = BLUE,
    low: float = 0.0,
    high: float = 1.0,
    size: int = 12,
) -> None:
    """A horizontal bar for `value` in low .. high, with a label to its right; grows from 0 if 0 lies inside."""
    draw = ImageDraw.Draw(picture)
    x0, y0, x1, y1 = box
    place = lambda v: x0 + (x1 - x0) * (min(max(v, low), high) - low) / (high - low)  # noqa: E731
    draw.rectangle([x0, y0, x1, y1], fill="#EFEFEF")
    start, end = sorted((place(max(low, min(0.0, high))), place(value)))
    draw.rectangle([start, y0, end, y1], fill=fill)
    if label:
        text(picture, (x1 + 6, (y0 + y1) / 2), label, size, anchor="lm")
