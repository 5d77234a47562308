"""Figures of the notebooks that are not the lesson themselves: a cell computes, a function draws.

Each returns a matplotlib Figure and shows nothing by itself, or a JPEG where it holds photographs
(a tenth of the bytes of PNG). Figures of general use stand in `reidkit.reporting.plots`.
"""

from .base import as_jpeg, small_jpeg
from .curves import (
    batch_losses,
    curves,
    percentages,
    precision_areas,
    soft_against_hard,
    sweep,
)
from .photos import grid, lists, maps_over, match_by_part, part_heat, sheet, two_lists
from .results import by_count, dots, leads, measure_dots, shares, stacked_shares, with_levels
from .steps import (
    against_broken_priors,
    alignments,
    cgpn_structure,
    local_channels,
    part_steps,
    stripe_groups,
    triplets,
)

__all__ = [
    "against_broken_priors",
    "alignments",
    "as_jpeg",
    "batch_losses",
    "by_count",
    "cgpn_structure",
    "curves",
    "dots",
    "grid",
    "leads",
    "lists",
    "local_channels",
    "maps_over",
    "match_by_part",
    "measure_dots",
    "part_heat",
    "part_steps",
    "percentages",
    "precision_areas",
    "shares",
    "sheet",
    "small_jpeg",
    "soft_against_hard",
    "stacked_shares",
    "stripe_groups",
    "sweep",
    "triplets",
    "two_lists",
    "with_levels",
]
