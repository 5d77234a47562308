"""A small line chart: values over whole numbers, a dot a seed, a line through the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reidkit.panels.kit.drawing import GREY, INK, LINE, MUTED, text
from reidkit.panels.kit.sketch import Sketch


@dataclass(frozen=True)
class Line:
    """points: {x: values, one a seed}; name: for the legend, short: for sentences. A chart's first line is drawn with
    discs, the second with squares."""

    short: str
    name: str
    colour: str
    points: Mapping[int, Sequence[float]]


def draw_chart(
    picture: Sketch,
    box: Sequence[float],
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    xs: Sequence[int],
    marks: Mapping[int, str],
    hidden: str | None = None,
) -> None:
    """Axes inside `box` (x0, y0, x1, y1), labels outside. marks: {x: words}, vertical lines. hidden: words instead
    of the values. The y axis spans the values, and does not start at zero (its labels say where)."""
    x0, y0, x1, y1 = box
    place = lambda x: x0 + (x - xs[0] + 0.5) / len(xs) * (x1 - x0)  # noqa: E731
    picture.rectangle([x0, y0, x1, y1], outline=LINE)
    for x in xs:
        text(picture, (place(x), y1 + 6), str(x), 14, INK, "ma")
    text(picture, ((x0 + x1) / 2, y1 + 22), x_label, 14, MUTED, "ma")
    text(picture, (x0, y0 - 6), y_label, 14, MUTED, "ld")
    values = [v for line in lines for points in line.points.values() for v in points]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    room = max(high - low, 1.0)
    low, high = low - 0.1 * room, high + 0.1 * room
    height = lambda v: y1 - (v - low) / (high - low) * (y1 - y0)  # noqa: E731
    for tick in _ticks(low, high) if values else ():
        picture.line([x0, height(tick), x1, height(tick)], "#ECECEC")
        text(picture, (x0 - 6, height(tick)), f"{tick:g}", 14, INK, "rm")
    for x, words in marks.items():
        for y in np.arange(y0, y1, 8):
            picture.line([place(x), y, place(x), min(y + 4, y1)], INK)
        left = place(x) < (x0 + x1) / 2
        text(picture, (place(x) + (5 if left else -5), y0 + 4), words, 14, INK, "la" if left else "ra")
    for i, line in enumerate(lines):
        means = [(place(x), height(float(np.mean(v)))) for x, v in sorted(line.points.items()) if len(v)]
        picture.line(means, line.colour, 2)
        for x, points in line.points.items():
            for v in points:
                _dot(picture, place(x), height(v), 2.5, line.colour, i)
        for x, y in means:
            _dot(picture, x, y, 5, line.colour, i)
        _dot(picture, x0 + 8, y1 + 46 + 18 * i, 5, line.colour, i)
        text(picture, (x0 + 20, y1 + 46 + 18 * i), line.name, 14, INK, "lm")
    if hidden:
        text(picture, ((x0 + x1) / 2, (y0 + y1) / 2), hidden, 14, GREY, "mm")


def _dot(picture: Sketch, x: float, y: float, r: float, colour: str, shape: int) -> None:
    (picture.ellipse if shape == 0 else picture.rectangle)([x - r, y - r, x + r, y + r], fill=colour)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers inside low .. high."""
    step = 10 ** np.floor(np.log10((high - low) / 5))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (step * f) <= 6)
    return [float(t) for t in np.arange(np.ceil(low / step), high / step) * step]
