"""`make coverage`: each core room on its own, all of it measured, and what is missing is named."""

import json
import subprocess
import sys
import tomllib
from fnmatch import fnmatch

import pytest
from covered import ROOMS, covered
from paths import REPO


def report(**branches):
    """Coverage's JSON of one file a room, {room: (branches taken, branches)}; all of them by default."""
    files = {}
    for room, patterns in ROOMS.items():
        taken, total = branches.get(room, (10, 10))
        missing = [[7, 9], [8, -1]][: total - taken]
        summary = {"covered_branches": taken, "num_branches": total}
        files[patterns[0].replace("*", "x")] = {"summary": summary, "missing_branches": missing}
    return {"files": files}


@pytest.mark.parametrize(("taken", "code"), [(10, 0), (9, 0), (8, 1)])
def test_a_room_below_nine_tenths_fails(tmp_path, taken, code):
    (tmp_path / "c.json").write_text(json.dumps(report(priors=(taken, 10))))
    command = [sys.executable, REPO / "tests" / "helpers" / "covered.py", tmp_path / "c.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code and ("below 90%: priors" in done.stdout) == bool(code)
    assert f"priors         {taken:2d} of   10 branches ({taken / 10:.1%})" in done.stdout
    assert ("reidkit/priors/x.py: 7->9" in done.stdout) == (taken < 10) and ("8->end" in done.stdout) == (taken < 9)


def test_a_room_that_was_not_measured_is_no_room_that_is_covered():
    found = report()
    del found["files"]["reidkit/losses.py"]
    with pytest.raises(SystemExit, match="losses: no file of it was measured"):
        covered(found)


def test_every_file_of_the_rooms_is_measured():
    """And what the Makefile names as their tests is there."""
    included = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["coverage"]["run"]["include"]
    for patterns in ROOMS.values():
        for pattern in patterns:
            files = sorted(REPO.glob(pattern))
            assert files, pattern
            for file in files:
                assert any(fnmatch(file.relative_to(REPO).as_posix(), i) for i in included), file
