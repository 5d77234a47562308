"""Are these maps what they were announced as? What one map cannot show, a whole set of them does.

A map of ATR labels that is read as LIP raises nothing: 0..17 are LIP labels too, only other ones. But in a set of maps
every label has its place and its size. True sunglasses lie at the head and cover next to nothing; true shoes lie at
the bottom. Read ATR as LIP, and "sunglasses" (in ATR: upper clothes) cover a third of every body.

    `PLACES`             of each name of a label: where it may lie, how much of the body it may cover
    `implausible`        the labels of a census that lie elsewhere or cover more
    `doubt_labels`       parsing maps: None, or why they are not in the label set announced, and in which one they are
    `doubt_masks`        segmentation maps: None, or why they are not masks or probabilities
    `doubt`              both folders together: recognises that they were swapped

On Sidewalk true maps have less than 1 % implausible pixels, whichever half of the bodies is cut off; maps read in a
wrong label set have 50 % and more, and 6 % for the least conspicuous single person.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reidkit.priors.census import FEW_VALUES, LabelCensus, MapCensus, MaskCensus
from reidkit.priors.labels import HEAD_LABELS, LABEL_SETS, LabelSet, label_table

FEWEST = 4  # maps with a body; fewer prove nothing
EARLY = 64  # maps after which a set is judged for the first time
NO_SET = 0.2  # so much of the body implausible: the maps are not in this label set, whatever they are
OTHER_SET = 0.06  # the same if another label set explains the maps, with at most a third of this
LONE = 0.5  # so many parsing maps with one label alone: masks, no parsing maps
LABELLED = 0.2  # so many segmentation maps hold labels: the folder holds no masks


class Place(NamedTuple):
    """Where a label may lie on average over a set of maps, and how much it may cover.

    highest, lowest: fractions of the body's height, 0 at its top and 1 at its bottom. most: of the body's pixels.
    """

    highest: float
    lowest: float
    most: float


# Wide, because a set may show half bodies, people who sit or who are seen from behind. The sizes of small things
# (sunglasses, gloves, shoes) and the places of large ones (clothes) tell the label sets apart.
PLACES = {
    "hat": Place(0.0, 0.35, 0.12),
    "hair": Place(0.0, 0.35, 0.25),
    "sunglasses": Place(0.0, 0.4, 0.04),
    "face": Place(0.0, 0.45, 0.25),
    "head": Place(0.0, 0.45, 0.45),
    "scarf": Place(0.0, 0.5, 0.15),
    "upper-clothes": Place(0.0, 0.72, 1.0),
    "coat": Place(0.0, 0.75, 1.0),
    "torso": Place(0.0, 0.72, 1.0),
    "dress": Place(0.0, 0.8, 1.0),
    "jumpsuits": Place(0.0, 0.8, 1.0),
    "left-arm": Place(0.0, 0.9, 0.3),
    "right-arm": Place(0.0, 0.9, 0.3),
    "upper-arms": Place(0.0, 0.9, 0.4),
    "lower-arms": Place(0.0, 0.9, 0.4),
    "glove": Place(0.1, 1.0, 0.05),
    "belt": Place(0.1, 1.0, 0.08),
    "bag": Place(0.0, 1.0, 0.3),
    "skirt": Place(0.25, 1.0, 0.35),
    "pants": Place(0.25, 1.0, 1.0),
    "left-leg": Place(0.25, 1.0, 0.5),
    "right-leg": Place(0.25, 1.0, 0.5),
    "upper-legs": Place(0.2, 1.0, 1.0),
    "lower-legs": Place(0.4, 1.0, 0.7),
    "socks": Place(0.5, 1.0, 0.15),
    "left-shoe": Place(0.7, 1.0, 0.2),
    "right-shoe": Place(0.7, 1.0, 0.2),
}


def implausible(census: LabelCensus, label_set: LabelSet) -> dict[str, float]:
    """What cannot be, if the maps are in this label set: {what is seen: the share of the body's pixels it concerns}.

    Pixels of a label outside the set, of one that lies elsewhere, and those that a label covers beyond its most.
    """
    names = LABEL_SETS[label_set]
    body = max(int(census.pixels[1:].sum()), 1)
    found = {}
    for label in np.flatnonzero(census.pixels[1:]) + 1:
        share = float(census.pixels[label] / body)
        height = float(census.heights[label] / census.pixels[label])
        if label >= len(names):
            found[f"label {label} is not in this set"] = share
            continue
        place, what = PLACES[names[label]], f"label {label} is {names[label]!r} but"
        if share > place.most:
            found[f"{what} covers {share:.0%} of the body"] = share - place.most
        elif not place.highest <= height <= place.lowest:
            found[f"{what} lies at {height:.0%} of the body's height from its top"] = share
    return found


def fitting_set(census: LabelCensus, limit: float = NO_SET / 3) -> LabelSet | None:
    """The label set in which the least is implausible; None if that is more than `limit` of the body."""
    shares: dict[LabelSet, int | float] = {name: sum(implausible(census, name).values()) for name in LABEL_SETS}
    best = min(shares, key=lambda name: shares[name])
    return best if shares[best] <= limit else None


def shows_heads(census: LabelCensus, label_set: LabelSet) -> bool:
    """Whether a head label of this set covers at least 1 % of the body: without one, no set of maps is convincing."""
    heads = np.flatnonzero(np.isin(label_table(label_set), HEAD_LABELS))
    return 100 * census.pixels[heads].sum() >= census.pixels[1:].sum()


def holds_masks(census: LabelCensus) -> bool:
    """Whether most maps have a single label beside 0: masks, or constant pictures."""
    return census.lone >= max(LONE * census.bodies, 1)


def doubt_labels(census: LabelCensus, announced: LabelSet, *, whole: bool = False) -> str | None:
    """Why parsing maps are not in the label set `announced`, and what to do; None if nothing speaks against it.

    whole: the census holds every map of the set, so that maps without any label prove something too.
    """
    if not census.bodies and census.maps >= (FEWEST if whole else EARLY):
        return f"all {census.maps} parsing maps hold nothing but label 0: the parser found no body; write them again"
    if census.bodies < FEWEST:
        return None
    if holds_masks(census):
        shown = ", ".join(map(str, np.flatnonzero(census.pixels)[:12]))
        return (
            f"{census.lone} of {census.bodies} parsing maps hold a single label beside 0 (values found: {shown}): "
            "masks, no parsing maps; name the folder of the parsing maps with parsing_dir= (--parsing DIR)"
        )
    seen = implausible(census, announced)
    share, other = sum(seen.values()), fitting_set(census)
    if other == announced or (other is not None and 3 * sum(implausible(census, other).values()) > share):
        other = None  # it explains nothing
    if share < (OTHER_SET if other is not None and shows_heads(census, other) else NO_SET):
        return None
    worst = "; ".join(sorted(seen, key=lambda words: seen[words], reverse=True)[:3])
    advice = (
        f'They fit label_set="{other}" (--label-set {other})'
        if other is not None
        else f"They fit none of the label sets {', '.join(LABEL_SETS)} (are they grey pictures?): write the label "
        "indices of one of them"
    )
    return f"{census.maps} parsing maps are not labelled in the label set {announced!r}: {worst}. {advice}"


def doubt_masks(census: MaskCensus) -> str | None:
    """Why segmentation maps are neither masks nor probabilities, and what to do; None if nothing speaks against it."""
    if census.found < FEWEST:
        return None
    if census.pictures >= LABELLED * census.found:
        return (
            f"{census.pictures} of {census.found} segmentation maps are palette pictures of more than {FEW_VALUES} "
            "values, in which every value but 0 counts as person: write probabilities times 255 as grey PNGs"
        )
    values = np.flatnonzero(census.values)
    if census.labelled < LABELLED * census.found or len(values) > FEW_VALUES + 1:
        return None
    shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
    return (
        f"{census.labelled} of {census.found} segmentation maps hold labels (values {shown}), neither masks nor "
        "probabilities times 255: write masks in which the person alone is not 0 (0/1 or 0/255), or name "
        "their folder with segmentation_dir= (--segmentation DIR)"
    )


def doubt(census: MapCensus, announced: LabelSet, *, whole: bool = False) -> str | None:
    """Why the maps of the two folders cannot be used as announced, and what to do; None if they can."""
    labels, masks = doubt_labels(census.labels, announced, whole=whole), doubt_masks(census.masks)
    no_set = holds_masks(census.labels) or fitting_set(census.labels) is None
    if labels and masks and no_set:
        return (
            "the folder of the parsing maps holds masks or probabilities and that of the segmentation maps holds "
            "labels: the two are swapped, exchange parsing_dir= and segmentation_dir= (--parsing and "
            "--segmentation)"
        )
    return " Also: ".join(reason for reason in (labels, masks) if reason) or None
