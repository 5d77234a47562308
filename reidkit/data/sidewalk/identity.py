"""Who walks here: identities made of clothing and body shape, and siblings who differ in one part only.

All clothes share one palette of 14 colours, so that two strangers often wear the same colours and only *where*
they wear them tells them apart. About seven in ten people have siblings: the same person but for one part (other
shoes, another hat ...). Telling siblings apart is what a part-aware model is for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from reidkit.data.sidewalk.labels import FRAGMENT_ID, OTHER, SHADES

PALETTE = {
    "black": (28, 28, 32),
    "white": (232, 232, 228),
    "grey": (128, 130, 134),
    "navy": (34, 44, 88),
    "blue": (52, 98, 190),
    "red": (188, 40, 44),
    "green": (46, 120, 66),
    "yellow": (226, 196, 60),
    "brown": (104, 68, 44),
    "beige": (204, 180, 146),
    "pink": (226, 134, 164),
    "purple": (108, 60, 134),
    "orange": (222, 120, 44),
    "teal": (38, 134, 140),
}
COLOURS = tuple(PALETTE)
SKIN = ((238, 200, 170), (214, 164, 128), (164, 112, 80), (104, 70, 52))
HAIR = ((26, 22, 22), (58, 38, 26), (112, 74, 40), (180, 146, 84), (130, 128, 126))
# How often each colour of the palette is worn where (relative weights, in the palette's order).
WORN = {
    "upper": (3, 3, 2, 1.5, 1.5, 1.5, 1, 1, 0.7, 1, 1, 0.7, 0.8, 0.8),
    "lower": (4, 1, 2, 3, 2, 0.3, 0.4, 0.1, 1, 1, 0.2, 0.2, 0.1, 0.3),
    "shoes": (3, 3, 1.5, 1, 0.8, 1, 0.5, 0.5, 1.5, 0.8, 0.5, 0.2, 0.5, 0.3),
    "extra": (3, 0.5, 1.5, 1, 1, 1.5, 0.8, 0.8, 1, 0.8, 0.8, 0.5, 0.8, 0.5),
}
HAIR_STYLES = {"short": 0.44, "long": 0.24, "bun": 0.1, "ponytail": 0.1, "curly": 0.06, "bald": 0.06}
PATTERNS = {"plain": 0.42, "rings": 0.13, "stripes": 0.08, "halves": 0.12, "logo": 0.17, "check": 0.08}
LOWER_GARMENTS = {"trousers": 0.68, "shorts": 0.18, "skirt": 0.14}
OUTER_GARMENTS = {"none": 0.76, "coat": 0.15, "dress": 0.09}
BAGS = {"none": 0.42, "backpack": 0.26, "handbag": 0.17, "crossbody": 0.15}
HATS = {"none": 0.84, "cap": 0.09, "beanie": 0.07}
SHADE_GAIN = (0.58, 0.78, 1.0, 1.14)  # the four shades of labels.py


@dataclass(frozen=True)
class Identity:
    """One person. Lengths are fractions of the mean body height; colours are names of the palette.

    group ties siblings; differs names the one part in which a sibling differs from the first of its group
    ("-" for the first). tint seeds small colour deviations, shared by siblings.
    """

    height: float
    shoulder: float
    hip: float
    depth: float
    leg: float
    head: float
    limb: float
    flare: float
    skin: int
    hair: int
    hair_style: str
    hat: str
    hat_colour: str
    sunglasses: bool
    scarf: bool
    scarf_colour: str
    upper: str
    upper2: str
    pattern: str
    sleeve: str
    outer: str
    outer_colour: str
    lower_garment: str
    lower: str
    side_stripe: bool
    socks: bool
    shoes: str
    boots: bool
    bag: str
    bag_colour: str
    bag_side: int
    logo_at: float
    logo_behind: bool
    tint: int
    group: int = 0
    differs: str = "-"


# Which fields of an identity a sibling of each kind may change.
SIBLING_FIELDS = {
    "shoes": ("shoes", "boots"),
    "bag": ("bag", "bag_colour"),
    "sleeve": ("sleeve",),
    "lower": ("lower",),
    "lower_garment": ("lower_garment",),
    "upper": ("upper", "outer_colour"),
    "pattern": ("pattern", "upper2"),
    "hat": ("hat", "hat_colour"),
    "hair": ("hair", "hair_style"),
}


def _choose(rng: np.random.Generator, odds: dict[str, float], but: str | None = None) -> str:
    names = [name for name in odds if name != but]
    weights = np.array([odds[name] for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _colour(rng: np.random.Generator, where: str, but: str | None = None) -> str:
    return _choose(rng, dict(zip(COLOURS, WORN[where])), but)


def stranger(rng: np.random.Generator, group: int = 0) -> Identity:
    """A new person, unrelated to anybody."""
    upper = _colour(rng, "upper")
    lower_garment = _choose(rng, LOWER_GARMENTS)
    outer = _choose(rng, OUTER_GARMENTS)
    return Identity(
        height=float(np.clip(rng.normal(1.0, 0.04), 0.9, 1.1)),
        shoulder=rng.uniform(0.105, 0.138),
        hip=rng.uniform(0.080, 0.106),
        depth=rng.uniform(0.060, 0.095),
        leg=rng.uniform(0.455, 0.505),
        head=rng.uniform(0.056, 0.065),
        limb=rng.uniform(0.85, 1.2),
        flare=rng.uniform(0.9, 1.5),
        skin=int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))),
        hair=int(rng.choice(5, p=(0.4, 0.25, 0.15, 0.1, 0.1))),
        hair_style=_choose(rng, HAIR_STYLES),
        hat=_choose(rng, HATS),
        hat_colour=_colour(rng, "extra"),
        sunglasses=bool(rng.random() < 0.08),
        scarf=bool(rng.random() < 0.08),
        scarf_colour=_colour(rng, "extra", but=upper),
        upper=upper,
        upper2=_colour(rng, "upper", but=upper),
        pattern="plain" if outer == "dress" else _choose(rng, PATTERNS),
        sleeve="long" if rng.random() < 0.5 else "short",
        outer=outer,
        outer_colour=_colour(rng, "upper", but=upper),
        lower_garment=lower_garment,
        lower=_colour(rng, "lower"),
        side_stripe=bool(rng.random() < 0.1),
        socks=bool(rng.random() < 0.5),
        shoes=_colour(rng, "shoes"),
        boots=bool(rng.random() < 0.15),
        bag=_choose(rng, BAGS),
        bag_colour=_colour(rng, "extra"),
        bag_side=int(rng.choice((-1, 1))),
        logo_at=rng.uniform(0.2, 0.45),
        logo_behind=bool(rng.random() < 0.33),
        tint=int(rng.integers(1 << 30)),
        group=group,
    )


def sibling_kinds(person: Identity) -> list[str]:
    """The parts in which a sibling of this person can *visibly* differ."""
    hidden = set()
    if person.outer == "dress":
        hidden |= {"lower", "lower_garment", "pattern"}
    if person.outer == "coat":
        hidden |= {"sleeve", "pattern"}
    if person.hat != "none":
        hidden |= {"hair"}  # a hat hides most of it
    return [kind for kind in SIBLING_FIELDS if kind not in hidden]


def sibling(rng: np.random.Generator, person: Identity, kind: str) -> Identity:
    """The same person but for one part (`SIBLING_FIELDS[kind]`)."""
    p = person
    change: dict[str, object]
    if kind == "shoes":
        change = {"shoes": _colour(rng, "shoes", but=p.shoes), "boots": p.boots ^ (rng.random() < 0.4)}
    elif kind == "bag":
        change = {"bag_colour": _colour(rng, "extra", but=p.bag_colour)}
        if p.bag == "none":
            change["bag"] = _choose(rng, BAGS, but="none")
    elif kind == "sleeve":
        change = {"sleeve": "long" if p.sleeve == "short" else "short"}
    elif kind == "lower":
        change = {"lower": _colour(rng, "lower", but=p.lower)}
    elif kind == "lower_garment":
        change = {"lower_garment": _choose(rng, LOWER_GARMENTS, but=p.lower_garment)}
    elif kind == "upper":
        field = "upper" if p.outer == "none" else "outer_colour"
        change = {field: _colour(rng, "upper", but=getattr(p, field))}
    elif kind == "pattern":
        change = {
            "pattern": _choose(rng, PATTERNS, but=p.pattern),
            "upper2": _colour(rng, "upper", but=p.upper),
        }
    elif kind == "hat":
        change = {"hat": _choose(rng, HATS, but=p.hat), "hat_colour": _colour(rng, "extra", but=p.hat_colour)}
    elif kind == "hair":
        style = _choose(rng, HAIR_STYLES, but=p.hair_style)
        change = {"hair_style": style, "hair": (p.hair + int(rng.integers(1, 5))) % 5}
    else:
        raise KeyError(kind)
    return replace(p, differs=kind, **change)


def make_identities(
    count: int,
    seed: tuple[int, ...],
    sibling_rate: float = 0.5,
    siblings: int | None = None,
    first_group: int = 0,
) -> list[Identity]:
    """`count` people in order of their group; a group never straddles two calls.

    sibling_rate: the probability that a new person gets siblings. siblings: how many; None = one with 60 %, two with
    40 %. At most four: nobody has fewer than five parts that can differ visibly.
    """
    rng = np.random.default_rng(seed)
    people: list[Identity] = []
    group = first_group
    while len(people) < count:
        person = stranger(rng, group)
        people.append(person)
        if rng.random() < sibling_rate:
            size = siblings or 1 + int(rng.random() < 0.4)
            kinds = rng.choice(sibling_kinds(person), size=size, replace=False)
            people += [sibling(rng, person, str(kind)) for kind in kinds]
        group += 1
    return people[:count]


@lru_cache(maxsize=4096)
def colour_table(person: Identity, offset: int = 0) -> np.ndarray:
    """[256, 3] uint8: code -> colour of this person; zeros elsewhere. offset=OTHER colours a bystander.

    Do not write into the result: it is computed once a person.
    """
    rng = np.random.default_rng(person.tint)

    def dyed(name: str) -> np.ndarray:
        return np.clip(np.array(PALETTE[name], float) + rng.normal(0, 5, 3), 8, 247)

    upper, upper2, outer, lower = map(dyed, (person.upper, person.upper2, person.outer_colour, person.lower))
    shoes, bag, hat, scarf = map(dyed, (person.shoes, person.bag_colour, person.hat_colour, person.scarf_colour))
    skin, hair = np.array(SKIN[person.skin], float), np.array(HAIR[person.hair], float)
    dark_lower, dark_shoes = lower.sum() < 380, shoes.sum() < 520
    colour = {
        "face": skin,
        "hair": hair,
        "hat": hat,
        "sunglasses": (22, 22, 26),
        "neck": skin * 0.9,
        "scarf": scarf,
        "upper": upper,
        "pattern": upper2,
        "sleeve": upper,
        "coat": outer,
        "coat_tail": outer,
        "coat_sleeve": outer,
        "dress": outer,
        "dress_tail": outer,
        "dress_sleeve": outer,
        "arm_left": skin,
        "arm_right": skin,
        "pants": lower,
        "stripe": (235,) * 3 if dark_lower else (30,) * 3,
        "skirt": lower,
        "leg_left": skin,
        "leg_right": skin,
        "sock": (222, 222, 218),
        "shoe_left": shoes,
        "shoe_right": shoes,
        "sole_left": (215, 215, 210) if dark_shoes else (60, 60, 60),
        "sole_right": (215, 215, 210) if dark_shoes else (60, 60, 60),
        "backpack": bag,
        "bag": bag,
        "strap": bag * 0.8,
    }
    table = np.zeros((256, 3), np.uint8)
    for name, fragment in FRAGMENT_ID.items():
        start = offset + SHADES * fragment
        shades = np.asarray(colour[name], float) * np.array(SHADE_GAIN)[:, None]  # [4, 3]
        table[start : start + SHADES] = np.clip(shades, 0, 255)
    return table


def bystander_colours(person: Identity) -> np.ndarray:
    """[256, 3] uint8: the colour table of a person who is not the subject of the image."""
    return colour_table(person, OTHER)
