"""Stripe groups: the one table behind CGPN, MGN, Pyramid and Fig. 3 and 4."""

from itertools import pairwise

import pytest
import torch
from needs import need

need("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from reidkit.errors import ReIDKitError
from reidkit.models.stripes import (
    BRANCH_1,
    BRANCH_2,
    BRANCH_3,
    BRANCH_4,
    BRANCH_5,
    StripeGroup,
    adjacent,
    coarse,
    fine,
    global_only,
    pool_groups,
)

BRANCHES = (BRANCH_1, BRANCH_2, BRANCH_3)


def rows(branch, height):
    return [group.rows(height) for group in branch.groups]


def test_stripe_rows_on_24_rows_are_those_of_figure_3():
    assert rows(BRANCH_1, 24) == [(0, 12), (12, 24)]
    assert rows(BRANCH_2, 24) == [(0, 16), (8, 24)]
    assert rows(BRANCH_3, 24) == [(0, 12), (6, 18), (12, 24), (0, 18), (6, 24)]


def test_stripe_rows_where_stripes_are_no_whole_rows():
    # 18 rows in quarters: borders at 0, 4.5, 9, 13.5, 18; halves of a row go to the even row border: 4 and 14
    assert rows(BRANCH_1, 18) == [(0, 9), (9, 18)]
    assert rows(BRANCH_2, 18) == [(0, 12), (6, 18)]
    assert rows(BRANCH_3, 18) == [(0, 9), (4, 14), (9, 18), (0, 14), (4, 18)]
    # 13 rows: half 6.5 -> 6; thirds 4.33 -> 4, 8.67 -> 9; quarters 3.25 -> 3, 6.5 -> 6, 9.75 -> 10
    assert rows(BRANCH_1, 13) == [(0, 6), (6, 13)]
    assert rows(BRANCH_2, 13) == [(0, 9), (4, 13)]
    assert rows(BRANCH_3, 13) == [(0, 6), (3, 10), (6, 13), (0, 10), (3, 13)]


def test_fine_stripes_are_those_of_figure_4():
    assert [rows(branch, 24) for branch in fine(2, 3, 4)] == [
        [(0, 12), (12, 24)],
        [(0, 8), (8, 16), (16, 24)],
        [(0, 6), (6, 12), (12, 18), (18, 24)],
    ]


@given(of=st.integers(1, 8), height=st.integers(8, 60))
def test_single_stripes_tile_the_map(of, height):
    borders = [group.rows(height) for group in adjacent(of, 1)]
    assert borders[0][0] == 0 and borders[-1][1] == height
    assert all(above[1] == below[0] for above, below in pairwise(borders))
    assert all(end > first and abs(end - first - height / of) <= 1 for first, end in borders)


def test_coarse_groups_are_the_rule_of_section_3_1():
    for of in range(2, 7):
        groups = coarse(of)
        runs = [(a, b) for a in range(of) for b in range(a + 1, of + 1)]
        assert {(g.start, g.stop) for g in groups} == {(a, b) for a, b in runs if of / 2 <= b - a < of}
    assert [g.name for g in BRANCH_3.groups] == ["1/2-1", "1/2-2", "1/2-3", "3/4-1", "3/4-2"]
    assert [g.name for g in BRANCH_4.groups] == ["3/5-1", "3/5-2", "3/5-3", "4/5-1", "4/5-2"]
    assert len(BRANCH_5.groups) == 4 + 3 + 2 and {g.of for g in BRANCH_5.groups} == {6}
    assert all(not branch.groups for branch in global_only(BRANCHES)) and BRANCH_1.groups


def test_bad_groups_and_low_maps_are_refused():
    with pytest.raises(ReIDKitError, match="3 to 3 of 4"):
        StripeGroup(3, 3, 4)
    with pytest.raises(ReIDKitError, match="of 3 rows is too low for 8 stripes"):
        StripeGroup(0, 1, 8).rows(3)


def test_pool_groups_takes_the_maximum_over_rows_and_columns():
    row_numbers = torch.arange(24.0).view(1, 1, 24, 1).expand(2, 3, 24, 8)
    pooled = pool_groups(row_numbers, BRANCH_3.groups)
    assert pooled.shape == (2, 5, 3)
    assert pooled[0, :, 0].tolist() == [11, 17, 23, 17, 23]  # the last row of each group
