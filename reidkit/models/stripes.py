"""Stripes of a feature map, and the one table of stripe groups of CGPN (Fig. 3 and 4).

Everything that speaks of "the upper 2/3 of the map" reads this file: CGPN, MGN, Pyramid, the drawings of
Fig. 3 and 4, and the CGPN panel.

    cut the map in 4 stripes    0 | 1 | 2 | 3
    StripeGroup(0, 2, of=4)     stripes 0 and 1, the upper half
    StripeGroup(1, 4, of=4)     stripes 1, 2 and 3, the lower three quarters
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from reidkit.errors import ReIDKitError


@dataclass(frozen=True)
class StripeGroup:
    """Adjacent stripes start, start + 1, ..., stop - 1 of a map that is cut evenly into `of` stripes."""

    start: int
    stop: int
    of: int

    def __post_init__(self):
        if not 0 <= self.start < self.stop <= self.of:
            raise ReIDKitError(
                f"stripes {self.start} to {self.stop} of {self.of} are no group: expected 0 <= start < stop <= of"
            )

    @property
    def height(self) -> Fraction:
        """The share of the map's height that the group covers, in (0, 1]."""
        return Fraction(self.stop - self.start, self.of)

    @property
    def extent(self) -> tuple[float, float]:
        """(start, stop) as fractions of the map's height."""
        return self.start / self.of, self.stop / self.of

    @property
    def name(self) -> str:
        """ "2/3-1" is the first (uppermost) of the groups that cover 2/3 of the height; "whole" covers it all."""
        return "whole" if self.height == 1 else f"{self.height}-{self.start + 1}"

    def rows(self, height: int) -> tuple[int, int]:
        """First row and one past the last row of the group on a map of `height` rows.

        A border that falls inside a row moves to the nearest row border, round(start * height / of); one that
        halves a row goes to the even neighbour (Python's rounding). 24 rows need no rounding for 2, 3, 4 or 6
        stripes. Raises ReIDKitError when the group would get no row.
        """
        first, end = round(self.start * height / self.of), round(self.stop * height / self.of)
        if first == end:
            raise ReIDKitError(
                f"a feature map of {height} rows is too low for {self.of} stripes: stripe group "
                f"{self.name} gets no row. Use taller images or fewer stripes"
            )
        return first, end


@dataclass(frozen=True)
class Branch:
    """One branch of CGPN or MGN: its short name and the stripe groups of its local part (none: global only)."""

    name: str
    groups: tuple[StripeGroup, ...] = ()


def adjacent(of: int, size: int) -> tuple[StripeGroup, ...]:
    """Every group of `size` adjacent stripes out of `of`, from top to bottom."""
    return tuple(StripeGroup(start, start + size, of) for start in range(of - size + 1))


def coarse(of: int) -> tuple[StripeGroup, ...]:
    """The coarse-grained part-level strategy (CGPN Sec. 3.1) as one rule.

    "The combined part stripes must be adjacent and the minimum height proportion of combined local features
    should be no less than half": all groups of adjacent stripes that cover half of the map or more, but not all.
    """
    return tuple(group for size in range((of + 1) // 2, of) for group in adjacent(of, size))


# Fig. 3. The rule gives the paper's groups: two halves; two of 2h/3; three of h/2 and two of 3h/4. For branch 3
# the paper's sizes (three 3h/4, two h/2) contradict its text (three 1/2, two "2/3"): adjacency decides.
BRANCH_1 = Branch("b1", coarse(2))
BRANCH_2 = Branch("b2", coarse(3))
BRANCH_3 = Branch("b3", coarse(4))
# Table 4 adds branches 4 and 5 and does not describe them. Assumed: the series goes on, branch n cuts the map in
# n + 1 stripes (four stripes are branch 3 already), and the same rule picks the groups.
BRANCH_4 = Branch("b4", coarse(5))  # three of 3h/5, two of 4h/5
BRANCH_5 = Branch("b5", coarse(6))  # four of h/2, three of 2h/3, two of 5h/6


def fine(*stripes: int) -> tuple[Branch, ...]:
    """Branches whose groups are single stripes: `fine(2, 3, 4)` is CGPN-2 (Fig. 4)."""
    return tuple(Branch(f"b{i}", adjacent(of, 1)) for i, of in enumerate(stripes, start=1))


def global_only(branches: tuple[Branch, ...]) -> tuple[Branch, ...]:
    """The same branches without their local parts (CGPN-1, Branch1-Global)."""
    return tuple(replace(branch, groups=()) for branch in branches)


def pool_groups(maps: Tensor, groups: tuple[StripeGroup, ...]) -> Tensor:
    """Max-pool every stripe group of a map: [B, C, h, w] -> [B, groups, C]."""
    return pool_rows(maps.amax(3), groups)


def largest(rows: Tensor) -> Tensor:
    """[..., h] -> [...], the maximum. Of equal rows one takes the gradient: half the operators of an even share."""
    return rows.max(-1).values


def pool_rows(rows: Tensor, groups: tuple[StripeGroup, ...], pool: Callable[[Tensor], Tensor] = largest) -> Tensor:
    """Pool every stripe group of a map whose rows are pooled already, so that a map is read once for all groups.

    rows [B, C, h] -> [B, groups, C]. pool: [B, C, n] -> [B, C], the same that made one number of each row.
    """
    height = int(rows.shape[2])  # torch.jit.trace hands out sizes as tensors
    ends = [group.rows(height) for group in groups]
    return torch.stack([pool(rows[:, :, first:end]) for first, end in ends], dim=1)
