"""Sidewalk: rendered pedestrians with exact ground truth, in Market-1501 layout. No photograph of a person in it."""

from reidkit.data.sidewalk.dataset import load_sidewalk
from reidkit.data.sidewalk.labels import PART_NAMES
from reidkit.data.sidewalk.sheet import truth_sheet
from reidkit.data.sidewalk.tools import ToolRates
from reidkit.data.sidewalk.truth import Truth, load_truth
from reidkit.data.sidewalk.writer import render_sidewalk

__all__ = [
    "PART_NAMES",
    "ToolRates",
    "Truth",
    "load_sidewalk",
    "load_truth",
    "render_sidewalk",
    "truth_sheet",
]
