"""What the names on the tour's page mean, in a line each."""

from __future__ import annotations

from collections.abc import Iterable

from reidkit.data.sidewalk.detector import LEVELS
from reidkit.models.zoo import variant

SYSTEMS = {
    "Baseline": "Six horizontal stripes, each with a classifier of its own, wherever the body stands in the picture.",
    "MT Only": "MPN's main tasks alone: six part classifiers that look at the whole picture. Nobody tells them which "
    "part of the body is theirs.",
    "Naive MTL": "Main tasks, and beside them auxiliary tasks that see one body part each while they learn. The two "
    "share nothing but the backbone.",
    "MPNo": "MPN without channel attention: main and auxiliary tasks also share their layers, and their features of "
    "one person are drawn together. So the main tasks learn where to look, and testing needs no body parts.",
    "MPN": "The paper's network: MPNo with channel attention, which weights the backbone's channels for each part.",
}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _wrong_boxes(name: str) -> str:
    level = LEVELS[name]
    return _percent(level.head + level.legs + level.loose)


TEST_LEVELS = {
    "mild": f"The detector's boxes are nearly right: {_wrong_boxes('mild')} are too large or cut off head or legs; "
    f"something stands before (occludes) {_percent(LEVELS['mild'].occluder)} of the people.",
    "strong": f"{_wrong_boxes('strong')} of the boxes are too large or cut off head or legs, the others are moved; "
    f"{_percent(LEVELS['strong'].occluder)} of the people are occluded.",
    "shift": "The mild queries again, with the box moved so that the person stands 0, 5, 10, 15 and 20 % of its height "
    "lower; the table has the mean of the five.",
}
SCORES = {
    "Rank-1": "In how many queries of a hundred the most similar gallery picture shows the right person.",
    "mAP": "Mean average precision: 100 where all right pictures come before all wrong ones, in every query.",
}


def label(name: str) -> str:
    """What the paper calls a variant: "mpn-no-ca" is "MPNo"."""
    return variant(name).row.rpartition(": ")[2]


def explained(systems: Iterable[str], levels: Iterable[str]) -> dict[str, str]:
    """{name: its line} for a table of these systems, by the paper's names, and test levels; and of its scores."""
    return {s: SYSTEMS[s] for s in systems} | {v: TEST_LEVELS[v] for v in levels} | SCORES
