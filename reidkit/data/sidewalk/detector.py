"""How a pedestrian detector errs: boxes that are shifted, scaled, loose, or cut off head or legs.

The levels are the misalignment that MPN is about (its Fig. 1): training images are "medium", test sets are "mild"
and "strong". "unhidden" is "medium" with next to nothing in front of people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from reidkit.data.sidewalk.body import Placement
from reidkit.errors import unknown_name


@dataclass(frozen=True)
class Level:
    """Strength of the errors. Shifts are standard deviations in fractions of the box, the rest probabilities.

    log_scale: standard deviation of the logarithm of the box size.
    head, legs: probability that the box cuts off the head (6-24 % of the height) or the legs (12-40 %).
    loose: probability of a box that is 10-40 % too high; it never coincides with a cut.
    occluder: probability of an object in front of the person, and of a bystander standing before the person.
    bystander: probability of a second person in the image.
    """

    shift_x: float
    shift_y: float
    log_scale: float
    head: float
    legs: float
    loose: float
    occluder: float
    bystander: float


MEDIUM = Level(0.06, 0.040, 0.07, head=0.08, legs=0.12, loose=0.12, occluder=0.15, bystander=0.25)
LEVELS = {
    "none": Level(0.01, 0.005, 0.01, head=0.00, legs=0.00, loose=0.00, occluder=0.00, bystander=0.10),
    "mild": Level(0.04, 0.025, 0.04, head=0.03, legs=0.04, loose=0.05, occluder=0.05, bystander=0.15),
    "medium": MEDIUM,
    "unhidden": replace(MEDIUM, occluder=0.01),
    "strong": Level(0.09, 0.060, 0.12, head=0.18, legs=0.25, loose=0.22, occluder=0.45, bystander=0.35),
    # Boxes that overlap a person too little to count: the junk images (pid -1) of the gallery.
    "junk": Level(0.28, 0.200, 0.35, head=0.35, legs=0.35, loose=0.30, occluder=0.50, bystander=0.35),
}


def get_level(name: str) -> Level:
    """The level of that name. Raises UnknownNameError."""
    if name not in LEVELS:
        raise unknown_name("level of detector errors", name, LEVELS)
    return LEVELS[name]


@dataclass(frozen=True)
class Box:
    """A detected box in body units; its origin is the ground point between the feet, y goes up.

    error: "ok", "head" (head cut off), "legs" (legs cut off) or "loose".
    """

    x: float
    y: float
    width: float
    height: float
    error: str

    def placement(self, size: tuple[int, int], shift: float, light: int) -> Placement:
        """Where the body stands when the box fills a canvas of size (height, width) pixels.

        shift: the person lies lower by this fraction of the box height, all else equal.
        """
        h, w = size
        sx, sy = w / self.width, h / self.height
        return Placement(w / 2 - self.x * sx, h / 2 + self.y * sy + shift * h, sx, sy, light)


def detect(rng: np.random.Generator, level: Level, height: float, pitch: float) -> Box:
    """Draw a box around a person of `height` body units seen by a camera that looks down by `pitch` radians."""
    bottom, top, width = -0.04, 1.03 * height * math.cos(pitch), 0.52 * height
    tall = top - bottom
    which, amount, above = rng.random(3)
    stretch, up, across, wide = rng.standard_normal(4)
    error = "ok"
    if which < level.head:
        error, top = "head", top - (0.06 + 0.18 * amount) * height
    elif which < level.head + level.legs:
        error, bottom = "legs", bottom + (0.12 + 0.28 * amount) * height
    elif which < level.head + level.legs + level.loose:
        extra = 0.10 + 0.30 * amount
        error, top, bottom = "loose", top + extra * above * tall, bottom - extra * (1 - above) * tall
        width *= 1 + 0.8 * extra
    box_height = (top - bottom) * math.exp(stretch * level.log_scale)
    width = max(width, 0.34 * box_height) * math.exp(0.05 * wide)
    middle = (top + bottom) / 2 + up * level.shift_y * tall
    return Box(across * level.shift_x * width, middle, width, box_height, error)
