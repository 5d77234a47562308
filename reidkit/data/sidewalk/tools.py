"""Imperfect outputs of two tools: human parsing and whole-person segmentation, derived from the exact maps.

They fail in the ways of MPN Fig. 4: parsing ignores accessories (a) and the neck (b); each tool may fail on images
of low quality (c, d), sometimes both (e); and boxes that miss body parts leave little to find (f).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from reidkit.data.sidewalk.labels import (
    IS_OTHER,
    IS_PERSON,
    LIP_HEAD,
    LIP_LEGS,
    LIP_OF_OTHER,
    LIP_SHOES,
    UNDEFINED,
    parsing_map,
)
from reidkit.errors import DatasetError

LOW_QUALITY = 0.75


@dataclass(frozen=True)
class ToolRates:
    """How often the tools fail: probabilities on a sharp image of an unoccluded person.

    Parsing: no_head, no_legs (at most one of the two), no_shoes; merged: when a bystander stands in front, the
    probability that parsing takes both for one person.
    Segmentation: empty (finds nothing), band (loses a band of 30 % of the height), bleed (a patch of street is
    taken for the person).
    low_quality, occluded: add this much to the factor 1 that multiplies every rate but `merged`, when the image
    quality is below 0.75 and when something stands in front of the person.

    With the defaults about 90 % of the training images (level medium) give a reliable prior: most of the rest
    are boxes that cut off the head or the legs, where nothing is left to find.
    """

    no_head: float = 0.008
    no_legs: float = 0.008
    no_shoes: float = 0.15
    merged: float = 0.5
    empty: float = 0.01
    band: float = 0.03
    bleed: float = 0.08
    low_quality: float = 2.0
    occluded: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            limit = float("inf") if name in ("low_quality", "occluded") else 1.0
            if not 0 <= value <= limit:
                raise DatasetError(f"ToolRates: {name}={value} is out of range, expected 0 to {limit}")


def tool_outputs(
    codes: np.ndarray,
    rng: np.random.Generator,
    rates: ToolRates,
    quality: float = 1.0,
    occluder: str = "none",
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """What two tools would say about one image.

    codes: [H, W] uint8 exact fragment codes. -> parsing [H, W] uint8 LIP labels, segmentation [H, W] bool, and the
    failures that struck: "no-head", "no-legs", "no-shoes", "merged", "empty", "band", "bleed".
    """
    factor = 1 + rates.low_quality * (quality < LOW_QUALITY) + rates.occluded * (occluder != "none")
    parsing, faults = _parse(codes, rng, rates, factor, occluder)
    segmentation, more = _segment(codes, rng, rates, factor)
    return parsing, segmentation, faults + more


def _parse(codes, rng, rates: ToolRates, factor: float, occluder: str) -> tuple[np.ndarray, list[str]]:
    H, W = codes.shape
    parsing = parsing_map(codes)
    merge, lose, shoes = rng.random(3)
    faults = []
    if occluder == "person" and merge < rates.merged:
        second = LIP_OF_OTHER[codes]
        parsing = np.where(IS_OTHER[codes] & (second != UNDEFINED), second, parsing)
        faults.append("merged")
    parsing = parsing[::2, ::2].repeat(2, 0).repeat(2, 1)[:H, :W]  # borders are coarse: half the resolution
    if lose < rates.no_head * factor:
        parsing[np.isin(parsing, LIP_HEAD)] = 0
        faults.append("no-head")
    elif lose < (rates.no_head + rates.no_legs) * factor:
        parsing[np.isin(parsing, LIP_LEGS)] = 0
        faults.append("no-legs")
    if shoes < rates.no_shoes * factor:
        parsing[np.isin(parsing, LIP_SHOES)] = 0
        faults.append("no-shoes")
    return parsing, faults


def _segment(codes, rng, rates: ToolRates, factor: float) -> tuple[np.ndarray, list[str]]:
    H, W = codes.shape
    found = IS_PERSON[codes]
    lose, at, bleed, top, left, smooth = rng.random(6)
    faults = []
    if lose < rates.empty * factor:
        found = np.zeros_like(found)
        faults.append("empty")
    elif lose < (rates.empty + rates.band) * factor:
        start = int(0.6 * H * at)
        found[start : start + int(0.3 * H)] = False
        faults.append("band")
    if bleed < rates.bleed * factor:
        y, x = int(0.75 * H * top), int(0.6 * W * left)
        found[y : y + H // 4, x : x + int(0.4 * W)] = True
        faults.append("bleed")
    if smooth < 0.5:  # half of the maps come from a coarser network
        coarse = Image.fromarray(found).convert("L").resize((W // 4, H // 4), Image.Resampling.BILINEAR)
        found = np.asarray(coarse.resize((W, H), Image.Resampling.BILINEAR)) > 127
    return found, faults
