"""A machine with torch and little else (see `bare`): the rooms import, GPU tests run; CI has every package."""

import os
import re
import subprocess
import sys

import pytest
from paths import REPO

TESTS = REPO / "tests"
ROOMS = [path for path in sorted((REPO / "reidkit").rglob("*.py")) if "panels" not in path.parts]  # panels draw widgets


def run(*arguments, **variables) -> subprocess.CompletedProcess:
    """Python in another process, with nothing of pytest's but what the machine would have."""
    environment = (
        os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(TESTS / "helpers"), *sys.path]),
            "CI": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        | variables
    )
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, cwd=REPO
    )


def test_rooms_import_on_a_bare_machine():
    """All but the panels, which need traitlets; `plots` needs matplotlib when it draws, not when it is imported."""
    names = [".".join(p.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__") for p in ROOMS]
    done = run(
        "-c",
        f"""
import bare, importlib, sys
absent = bare.absent_packages()
assert absent >= {{"ipywidgets", "traitlets", "IPython", "jupyterlab", "pytorch_grad_cam", "matplotlib"}}, absent
bare.hide(absent)
for name in {names!r}:
    importlib.import_module(name)
found = {{name.partition(".")[0] for name in sys.modules}} & absent
assert not found, found
""",
    )
    assert done.returncode == 0, done.stderr[-1500:]


def test_gpu_tests_are_there_on_a_bare_machine():
    """Every file with a GPU test is collected, and none of its GPU tests stays behind with a missing package."""
    is_marked = re.compile(r"^(@|pytestmark = \[?)pytest\.mark\.gpu", re.M).search
    marked = {str(path.relative_to(REPO)) for path in TESTS.rglob("test_*.py") if is_marked(path.read_text())}
    assert len(marked) >= 4
    done = run("-m", "pytest", "-p", "bare", "-p", "no:cacheprovider", "--collect-only", "-q", "-m", "gpu", TESTS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    collected = {name for name, count in re.findall(r"^(\S+\.py): (\d+)$", done.stdout, re.M)}
    assert collected == marked, done.stdout


@pytest.mark.parametrize("where", ["file", "test"])
def test_a_missing_package_is_a_failure_in_ci(tmp_path, where):
    asks = 'from needs import need\nneed("hypothesis")\n\ndef test_it():\n    pass\n'
    if where == "test":
        asks = 'from needs import need\n\ndef test_it():\n    need("hypothesis")\n'
    (tmp_path / "test_it.py").write_text(asks)
    command = ["-m", "pytest", "-p", "bare", "-p", "no:cacheprovider", "-c", tmp_path / "none.ini", tmp_path]
    (tmp_path / "none.ini").write_text("[pytest]\n")
    reader, ci = run(*command).stdout, run(*command, CI="true").stdout
    assert "1 skipped" in reader
    assert re.search("1 (failed|error)", ci) and "No module named 'hypothesis'" in ci and "skipped" not in ci
