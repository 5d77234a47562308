"""Things that stand before a person: crate, car, pole, bush, panel."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from reidkit.data.sidewalk.labels import OCCLUDER

OBJECTS = ("crate", "car", "pole", "bush", "panel")
BASE, DARK, LIGHT = OCCLUDER, OCCLUDER + 1, OCCLUDER + 2


def draw_occluder(rng: np.random.Generator, canvas: Image.Image, dy: float) -> tuple[str, np.ndarray]:
    """Draw a random object, dy pixels lower than chance puts it; -> (its name, [3, 3] its three colours)."""
    name = OBJECTS[int(rng.integers(len(OBJECTS)))]
    colour = rng.uniform(40, 210, 3)
    if name == "bush":
        colour = np.array((rng.uniform(30, 70), rng.uniform(80, 140), rng.uniform(30, 60)))
    (w, h), u = canvas.size, rng.random(4)
    draw = ImageDraw.Draw(canvas)

    def block(x0, y0, x1, y1, code):
        draw.rectangle((x0, y0 + dy, x1, y1 + dy), fill=code)

    floor = 2 * h  # objects reach below the image, so that a shift uncovers nothing
    if name == "crate":
        top, left, right = h * (0.82 - 0.30 * u[0]), w * (0.3 * u[1] - 0.05), w * (0.6 + 0.5 * u[2])
        block(left, top, right, floor, BASE)
        block(left, top, right, top + 0.04 * h, LIGHT)
        block(left + 0.46 * (right - left), top + 0.04 * h, left + 0.54 * (right - left), floor, DARK)
    elif name == "car":
        top, side = h * (0.80 - 0.16 * u[0]), 1 if u[1] < 0.5 else -1
        a, b = (w * (0.25 * u[2] - 0.1), 1.6 * w) if side > 0 else (-0.6 * w, w * (1.1 - 0.25 * u[2]))
        roof = [
            (a + 0.25 * (b - a), top),
            (a + 0.7 * (b - a), top),
            (b, top + 0.09 * h),
            (b, floor),
            (a, floor),
            (a, top + 0.09 * h),
        ]
        draw.polygon([(x, y + dy) for x, y in roof], fill=BASE)
        block(a + 0.28 * (b - a), top + 0.015 * h, a + 0.66 * (b - a), top + 0.07 * h, LIGHT)
        block(a, top + 0.10 * h, b, top + 0.115 * h, DARK)
    elif name == "pole":
        left, wide = w * (0.1 + 0.7 * u[0]), w * (0.08 + 0.14 * u[1])
        block(left, -h, left + wide, floor, BASE)
        block(left, -h, left + 0.35 * wide, floor, LIGHT)
    elif name == "bush":
        top, r = h * (0.85 - 0.25 * u[0]), 0.12 * w
        for x, y in rng.random((26, 2)):
            code = DARK if y > 0.5 else BASE
            x, y = x * w, top + y * (h - top) + dy
            draw.ellipse((x - r, y - r, x + r, y + r), fill=code)
        block(0, top + 0.35 * (h - top), w, floor, BASE)
    else:  # a door or wall from one side
        wide, top = w * (0.18 + 0.25 * u[0]), -h if u[1] < 0.5 else h * 0.3 * u[2]
        left = 0 if u[3] < 0.5 else w - wide
        block(left, top, left + wide, floor, BASE)
        inner = left + wide if u[3] < 0.5 else left
        block(inner - 0.03 * w, top, inner + 0.03 * w, floor, DARK)
    return name, np.clip(np.stack((colour, colour * 0.7, colour * 1.2)), 0, 255)
