"""Tables as text: they fit, they say the numbers of the tables they come from, and nothing is lost."""

import re

import pandas as pd
import pytest

from reidkit.errors import UnknownNameError
from reidkit.reporting.report import collect_results, no_results, report_table
from reidkit.reporting.text import fitted, report_blocks, wrapped
from reidkit.training.suites import SUITES


@pytest.fixture(scope="module")
def shipped(repo):
    return collect_results(repo / "results" / "sidewalk" / "runs.csv")


def test_a_small_table_by_hand():
    t = pd.DataFrame({"A": ["1.0", "10.0"], "word": ["yes", "no"]}, index=pd.Index(["mild", "strong"], name="level"))
    assert fitted(t, left=["word"]).splitlines() == ["level      A  word", "mild     1.0  yes", "strong  10.0  no"]


def test_what_is_too_wide_goes_below_by_groups():
    names = ["one rank1", "one mAP", "two rank1", "two mAP"]
    t = pd.DataFrame([["1", "2", "3", "4"], ["5", "6", "-", "-"]], index=["a", "b"], columns=names)
    first, second = (part.splitlines() for part in fitted(t, width=16).split("\n\n"))
    assert first == ["     one  one", "   rank1  mAP", "a      1    2", "b      5    6"]
    assert second == ["     two  two", "   rank1  mAP", "a      3    4"]  # b has nothing there


@pytest.mark.parametrize("width", [80, 120])
def test_any_table_fits(width):
    label = "mpn " + " ".join(f"model.setting_{i}=[{i},{i}]" for i in range(12)) + " " + "x" * 150
    names = [f"sidewalk-many_{i} level_{i} mAP" for i in range(9)]
    t = pd.DataFrame([[f"{i}.{j} ± 0.1 (3)" for j in range(9)] for i in range(2)], index=[label, "ide"], columns=names)
    text = fitted(t, width=width)
    assert max(map(len, text.splitlines())) <= width
    for cell in t.to_numpy().flatten():
        assert text.count(cell) == 1
    assert all(f"model.setting_{i}" in text for i in range(12))


def test_no_path_is_cut():
    path = "/a/" + "very-long/" * 20
    assert path in wrapped(f"left out: {path} for a reason", indent="  ")


@pytest.mark.parametrize("suite", SUITES)
def test_blocks_hold_the_numbers_of_the_table(shipped, suite):
    """Every cell of `report_table`, ours and the paper's, once, in its row; and not a column more than 120."""
    table, blocks = report_table(suite, shipped), list(report_blocks(shipped, suite, paper=True))
    cells = sorted((row, value) for row, line in table.iterrows() for value in line if value != "-")
    shown = sorted((row, value) for _, b in blocks for row, line in b.iterrows() for value in line if value != "-")
    assert shown == cells
    for title, block in blocks:
        text = fitted(block)
        assert max(map(len, [wrapped(title), *text.splitlines()])) <= 120
        for value in block.to_numpy().flatten():
            assert value in text


def test_all_runs_are_all_systems(shipped):
    blocks = dict(report_blocks(shipped))
    assert {s for b in blocks.values() for s in b.index} == set(shipped.system)
    assert all(re.match(r"ours: sidewalk-\w+, preset \w+, step AP", title) for title in blocks)
    assert list(report_blocks(no_results(), "mpn-table1")) == []
    with pytest.raises(UnknownNameError, match="mpn-table1"):
        list(report_blocks(shipped, "mpn-tabel1"))
