"""`make mutants`: what it changes, that it tells killed from living mutants, and that each survivor is explained."""

import ast
import json
import os
import re
from dataclasses import asdict, replace

import pytest
from mutation import PAGE, STORED, Mutant, Row, mutants, mutate, table
from paths import REPO

SMALL = '''"""A module."""
from typing import Literal

Kind = Literal["a", "b"]
SIZE = 3


def clamp(x: float = 0, *, strict: bool = True) -> float:
    """At least 1."""
    if x < 1 and strict:
        raise ValueError(f"{x + 1} is too small")
    return -x.real if 0 <= x <= 2 else x.conjugate()
'''


def test_the_changes_that_are_made():
    """Annotations, docstrings, texts and what is raised stay as they are."""
    assert {(m.function, m.line, m.before, m.after) for m, _ in mutants(SMALL)} == {
        ("(module)", 5, "SIZE = 3", "SIZE = 4"),
        ("clamp", 8, "x: float=0, *, strict: bool=True", "x: float=1, *, strict: bool=True"),
        ("clamp", 8, "x: float=0, *, strict: bool=True", "x: float=0, *, strict: bool=False"),
        ("clamp", 10, "if x < 1 and strict:", "if not (x < 1 and strict):"),
        ("clamp", 10, "x < 1 and strict", "x < 1 or strict"),
        ("clamp", 10, "x < 1", "x <= 1"),
        ("clamp", 10, "x < 1", "x < 2"),
        ("clamp", 12, "0 <= x <= 2", "0 < x <= 2"),
        ("clamp", 12, "0 <= x <= 2", "0 <= x < 2"),
        ("clamp", 12, "0 <= x <= 2", "1 <= x <= 2"),
        ("clamp", 12, "0 <= x <= 2", "0 <= x <= 3"),
        ("clamp", 12, "-x.real", "x.real"),
        ("clamp", 12, "x.conjugate()", "x"),
    }
    whole = ast.unparse(ast.parse(SMALL))
    for mutant, tree in mutants(SMALL):
        compile(tree, "small", "exec")
        assert mutant.source == SMALL.splitlines()[mutant.line - 1].strip() and ast.unparse(tree) != whole


COUNT = "def count(n):\n    k = 0\n    while k < n:\n        k += 1\n    return k\n"
TEST = "from toy_counted import count\n\ndef test_it():\n    assert count({}) {}\n"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder with a module that has a loop, which tests there may import."""
    (tmp_path / "toy_counted.py").write_text(COUNT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("mutation.PATIENCE", 2)
    monkeypatch.setattr("mutation.AT_LEAST", 1)
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_and_living_mutants_are_told_apart(toy):
    """`k -= 1` never ends and is stopped; the others give 4."""
    file, tests = toy / "toy_counted.py", [toy / "test_toy.py"]
    tests[0].write_text(TEST.format(3, "== 3"))
    keys = {mutant.key for mutant, _ in mutants(COUNT)}
    found = list(mutate(file, "toy_counted", tests, keys))
    assert [m.source for m, noticed in found if not noticed] == ["k = 0"]  # 1, 2, 3 ends at 3 as well
    assert [m.key in keys for m, _ in found] == [True] * 4
    tests[0].write_text(TEST.format(0, "< 2"))
    living = [m for m, noticed in mutate(file, "toy_counted", tests, keys) if not noticed]
    assert [(m.source, m.after) for m in living] == [
        ("k = 0", "k = 1"),
        ("while k < n:", "k <= n"),
        ("k += 1", "k -= 1"),
        ("k += 1", "k += 2"),
    ]
    assert list(mutate(file, "toy_counted", tests, [living[2].key])) == [(living[2], False)]
    tests[0].write_text("def test_it():\n    assert 0\n")
    with pytest.raises(SystemExit, match="its tests fail without a change"):
        list(mutate(file, "toy_counted", tests, keys))


def test_what_was_tried_holds_until_a_line_reads_differently():
    """A result of an interrupted call is kept, whatever moves; a line that changed, or is new, is to be tried."""
    before, after = (
        [m for m, _ in mutants(code)] for code in (COUNT, f"# moved\n{COUNT.replace('k += 1', 'k += 1 * 1')}")
    )
    row = Row.of(before, {})
    assert (row.mutants, row.killed, row.survivors) == (4, set(), {})
    for mutant in before:
        row.add(mutant, noticed=mutant.source != "k = 0")
    stored = json.loads(json.dumps(row.as_json()))
    assert Row.of(before, stored) == row and len(row.killed) == 3
    later = Row.of(after, stored)
    assert later.mutants == len(after) == 6 and later.killed == {before[1].key}
    assert list(later.survivors.values()) == [replace(before[0], line=before[0].line + 1)]
    later.add(after[0], noticed=True)  # after a test was added
    assert later.killed == {before[0].key, before[1].key} and later.as_json()["survivors"] == []
    later.add(after[0], noticed=False)
    assert later.killed == {before[1].key} and later.as_json()["survivors"] == [asdict(after[0])]


def test_changes_that_read_the_same_are_told_apart():
    """Both sums of one line become `sum(1)` of the first, of the second."""
    found = [m for m, _ in mutants("a, b = sum(0), sum(0)\n")]
    assert [(m.before, m.after, m.nth) for m in found] == [("sum(0)", "sum(1)", 0), ("sum(0)", "sum(1)", 1)]
    assert found[0].key != found[1].key


def test_every_survivor_is_explained():
    """docs/mutants.md names each change that no test notices, and says why."""
    rows, page = json.loads(STORED.read_text())["rows"], PAGE.read_text()
    assert table(rows) in page
    explained = re.findall(r"^\| `([\w.()]+)` \| `(.+?)` \| `(.+?)` → `(.+?)` \| (.+) \|$", page, flags=re.M)
    assert all(len(why.split()) >= 4 for *_, why in explained)
    named = {entry[:4] for entry in explained}
    living = {
        tuple(m[key].replace("|", "\\|") for key in ("function", "source", "before", "after"))
        for row in rows
        for m in row["survivors"]
    }
    assert named == living


def test_files_and_tests_of_the_stored_rows_exist():
    rows = json.loads(STORED.read_text())["rows"]
    assert [row["room"] for row in rows] == ["losses", "ranking", "counting", "coarse priors", "sampler"]
    for row in rows:
        assert all((REPO / name).is_file() for name in [row["file"], *row["tests"]])
        lived = {Mutant(**mutant).key for mutant in row["survivors"]}
        assert lived.isdisjoint(row["killed"]) and len(lived) + len(row["killed"]) <= row["mutants"]
