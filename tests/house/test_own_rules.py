"""What holds for every test: no clock, no small limit, no folder by its depth, no package that CI may lack."""

import re

import pytest
from paths import REPO

FILES = sorted((REPO / "tests").rglob("*.py"))
OWN = {"test_own_rules.py"}
RULES = {  # pattern: (advice, files that have a reason to do it)
    r"\b(process_time|perf_counter|thread_time|monotonic)\w*\(": (
        "count work (see `counting`) and leave times to `reidkit bench`",
        {"servers.py", "panel_page.py", "test_dashboard.py"},
    ),  # limits; the last one only prints
    r"\bsleep\(|wait_for_timeout\(": (
        "wait for what you need, not for a time",
        {
            "servers.py",
            "panel_page.py",  # a step between two looks
            "test_notebooks.py",
            "drills.py",
        },
    ),  # a cell that takes too long
    r"timeout=(\d|[1-9]\d|1[01]\d)\b": ("a busy machine is slow: wait 120 seconds or more", set()),
    r"__file__\).*\.parents\[": ("REPO is in `paths`: tests move from folder to folder", set()),
    r"importorskip": ("`needs.need` skips on a reader's machine and fails in continuous integration", {"needs.py"}),
}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name not in OWN], ids=lambda path: str(path.relative_to(REPO / "tests"))
)
def test_rules(path):
    text = path.read_text()
    for pattern, (advice, allowed) in RULES.items():
        found = re.search(pattern, text)
        assert path.name in allowed or not found, f"{path.name}: {found[0]!r} ({advice})"
