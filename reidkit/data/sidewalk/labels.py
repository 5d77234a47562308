"""One map of fragments, three labels: what every drawn piece means to each tool.

A picture is drawn as a map of fragment codes ("left shoe, dark side"). Colours are one look-up table over that
map; human parsing (LIP labels), body parts and whole-person segmentation are three more. Labels are therefore
exact by construction: nothing is annotated, nothing is estimated.

    code = 4 * fragment + shade           the person whom the image is about        4 .. 123
    code = OTHER + 4 * fragment + shade   a bystander                             128 .. 247
    OCCLUDER .. OCCLUDER + 2              something in front of the person        248 .. 250
    SHADOW                                the person's shadow on the ground             255
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reidkit.data.lip import LIP_LABELS

LIP = {name: label for label, name in enumerate(LIP_LABELS)}
LIP_HEAD = (LIP["hat"], LIP["hair"], LIP["sunglasses"], LIP["face"])
LIP_SHOES = (LIP["left-shoe"], LIP["right-shoe"])
LIP_LEGS = (LIP["socks"], LIP["pants"], LIP["left-leg"], LIP["right-leg"], *LIP_SHOES)
UNDEFINED = 255  # neck, bags, straps: on the person, but no LIP label (MPN Fig. 4a, 4b)

# Value 0 of a body-part map is "not the person"; value i + 1 is PART_NAMES[i].
PART_NAMES = ("head", "torso", "arms", "legs", "feet", "accessory")


@dataclass(frozen=True)
class Fragment:
    """A drawn piece: its name, its LIP label (None = undefined in LIP) and the body part it lies on."""

    name: str
    lip: str | None
    part: str


FRAGMENTS = (
    Fragment("face", "face", "head"),
    Fragment("hair", "hair", "head"),
    Fragment("hat", "hat", "head"),
    Fragment("sunglasses", "sunglasses", "head"),
    Fragment("neck", None, "head"),
    Fragment("scarf", "scarf", "accessory"),
    Fragment("upper", "upper-clothes", "torso"),
    Fragment("pattern", "upper-clothes", "torso"),
    Fragment("sleeve", "upper-clothes", "arms"),
    Fragment("coat", "coat", "torso"),
    Fragment("coat_tail", "coat", "legs"),
    Fragment("coat_sleeve", "coat", "arms"),
    Fragment("dress", "dress", "torso"),
    Fragment("dress_tail", "dress", "legs"),
    Fragment("dress_sleeve", "dress", "arms"),
    Fragment("arm_left", "left-arm", "arms"),
    Fragment("arm_right", "right-arm", "arms"),
    Fragment("pants", "pants", "legs"),
    Fragment("stripe", "pants", "legs"),
    Fragment("skirt", "skirt", "legs"),
    Fragment("leg_left", "left-leg", "legs"),
    Fragment("leg_right", "right-leg", "legs"),
    Fragment("sock", "socks", "legs"),
    Fragment("shoe_left", "left-shoe", "feet"),
    Fragment("shoe_right", "right-shoe", "feet"),
    Fragment("sole_left", "left-shoe", "feet"),
    Fragment("sole_right", "right-shoe", "feet"),
    Fragment("backpack", None, "accessory"),
    Fragment("bag", None, "accessory"),
    Fragment("strap", None, "accessory"),
)

SHADES = 4  # 0 deep shade, 1 dark side, 2 the colour itself, 3 light side
OTHER, OCCLUDER, SHADOW = 128, 248, 255
FRAGMENT_ID = {fragment.name: i + 1 for i, fragment in enumerate(FRAGMENTS)}  # 0 = background


def code_of(fragment: str, shade: int = 2) -> int:
    """The code of a fragment in one of its four shades."""
    return SHADES * FRAGMENT_ID[fragment] + shade


def _table(value_of) -> np.ndarray:
    """[256] uint8: code -> value, 0 outside the person."""
    table = np.zeros(256, np.uint8)
    for fragment in FRAGMENTS:
        start = code_of(fragment.name, 0)
        table[start : start + SHADES] = value_of(fragment)
    return table


LIP_OF_CODE = _table(lambda f: UNDEFINED if f.lip is None else LIP[f.lip])
PART_OF_CODE = _table(lambda f: PART_NAMES.index(f.part) + 1)
IS_PERSON = _table(lambda f: 1).astype(bool)
IS_OTHER = np.roll(IS_PERSON, OTHER)
LIP_OF_OTHER = np.roll(LIP_OF_CODE, OTHER)  # what a tool sees that mistakes the bystander for the person


def parsing_map(codes: np.ndarray) -> np.ndarray:
    """Exact human parsing: codes [..., H, W] uint8 -> LIP labels 0..19 (undefined pieces become 0)."""
    labels = LIP_OF_CODE[codes]
    labels[labels == UNDEFINED] = 0
    return labels


def part_map(codes: np.ndarray) -> np.ndarray:
    """Body parts: codes [..., H, W] uint8 -> 0 (not the person) or 1 + index into PART_NAMES."""
    return PART_OF_CODE[codes]


def segmentation_map(codes: np.ndarray) -> np.ndarray:
    """Whole person with accessories: codes [..., H, W] uint8 -> bool."""
    return IS_PERSON[codes]
