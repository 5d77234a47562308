"""Every kind of file that the kit reads back, damaged at random: it is read as what it must be, or refused in the
kit's own words. `make fuzz` damages more of them and writes the table in docs/reliability.md."""

import os
import sys

import pytest
from needs import need

need("h5py")
need("scipy")
if not sys.platform.startswith("linux"):
    pytest.skip("bounds on a process's memory need Linux", allow_module_level=True)

from fuzzing import Kind, fuzz
from kept_files import kept_files
from paths import REPO

MUTANTS = 40


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, sidewalk_tiny):
    folder = REPO / "build"  # the rendered set is linked, which needs the same disk
    folder.mkdir(exist_ok=True)
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder) as home:
        from pathlib import Path

        yield kept_files(Path(home), sidewalk_tiny)


@pytest.mark.xdist_group("damaged")
def test_no_damage_is_told_in_foreign_words(kinds):
    faults = {}
    for kind in kinds:
        outcome = fuzz(kind, max(2, MUTANTS // kind.cost))
        assert sum(outcome.counts.values()) == max(2, MUTANTS // kind.cost)
        assert outcome.counts["refused"] or kind.name.startswith(("image cache, built", "block of"))
        if outcome.faults:
            faults[kind.name] = outcome.faults
    assert not faults


@pytest.mark.parametrize(
    "act, fault",
    [
        (lambda: os.kill(os.getpid(), 11), "killed by signal 11"),
        (lambda: bytearray(3 << 30), "MemoryError"),
        (lambda: {}["a"], "KeyError"),
        (lambda: os._exit(3), "ended with code 3"),
    ],
)
def test_the_harness_sees_every_fault(tmp_path, act, fault):
    (tmp_path / "f").write_bytes(b"whole")
    outcome = fuzz(Kind("x", tmp_path / "f", act, lambda whole, rng: rng.randbytes(3)), 2)
    assert outcome.counts == {fault: 2} and fault in outcome.faults
    assert (tmp_path / "f").read_bytes() == b"whole"
