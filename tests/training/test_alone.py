"""Two processes at one run folder or one CSV, and processes that are ended: nothing is lost, nobody stays behind."""

import os
import signal
import subprocess
import sys

import pytest
from market_folder import make_market_folder
from market_runs import SMOKE

from reidkit.attention.score_table import added, written
from reidkit.attention.scores import CHECKED
from reidkit.errors import TrainingError
from reidkit.locks import held, locked
from reidkit.training import RunFolder

TRAIN = [sys.executable, "-m", "reidkit.cli", "train", "ide", "--dataset", "market-layout", *SMOKE]
# Stops before the first checkpoint gets its name, and says so; goes on when its standard input ends.
STOPPING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
def watch(event, arguments):
    if event == "os.rename" and os.fspath(arguments[1]).endswith("last.ckpt"):
        print("at the checkpoint", flush=True)
        sys.stdin.read()
sys.addaudithook(watch)
from reidkit.cli import main
main()
"""


def held_up(root, run, **options):
    """A training that has stopped before its first checkpoint."""
    command = [sys.executable, "-c", STOPPING, *TRAIN[3:], "--root", str(root), "--run", str(run)]
    command += ["--set", "precision=no"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    assert process.stdout.readline() == "at the checkpoint\n"
    return process


@pytest.mark.slow
def test_the_second_training_of_a_folder_is_refused_and_a_dead_one_followed(tmp_path):
    root, run = make_market_folder(tmp_path / "m"), tmp_path / "r"
    first = held_up(root, run)
    command = [*TRAIN, "--root", str(root), "--run", str(run), "--set", "precision=no"]
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 2 and f"is being trained by process {first.pid} on" in second.stderr
    first.kill()
    first.communicate()
    third = subprocess.run(command, capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    assert RunFolder(run).finished and not [p.name for p in run.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_training_with_one_line(tmp_path, number, code):
    process = held_up(make_market_folder(tmp_path / "m"), tmp_path / "r")
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == code and "interrupted" in said and "Traceback" not in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the signal of a parent's death is Linux's")
def test_a_child_ends_with_its_parent():
    child = "from reidkit.lifetime import end_with_caller; end_with_caller(); print('here', flush=True); input()"
    parent = f"""
import subprocess, sys
from reidkit.lifetime import with_me
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE, env=with_me())
child.wait()
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.kill()
    assert process.stdout.read() == ""  # the end of the pipe: the child, which has it too, has ended
    process.wait()


def test_a_lock_names_its_holder_and_may_be_held_twice_by_one_process(tmp_path):
    lock = tmp_path / "l"
    code = "import sys\nfrom reidkit.locks import held\nwith held(sys.argv[1], 'taken by {pid}', ValueError):\n    pass"
    with held(lock, "taken by {pid}", TrainingError), held(lock, "taken by {pid}", TrainingError):
        other = subprocess.run([sys.executable, "-c", code, str(lock)], capture_output=True, text=True)
        assert f"ValueError: taken by process {os.getpid()} on" in other.stderr
    assert not lock.exists()
    assert subprocess.run([sys.executable, "-c", code, str(lock)]).returncode == 0


def test_a_row_that_another_process_wrote_meanwhile_is_kept(tmp_path):
    out = tmp_path / "a.csv"
    same = {"level": "strong", "method": "gradcam", "images": 8, "checks": False, "data": "x", "draw": 0}
    row = {"variant": "ide", "seed": 0, "weights": "e3b0", **same, "commit": "93e4831", "trained": None}
    for run in ("a", "b", "a"):
        added(out, [{"run": run, **row}], {"run": run, **same}, CHECKED)
    assert [r["run"] for r in written(out, CHECKED)] == ["a", "b"]
    assert not list(tmp_path.glob(".*"))
    with locked(tmp_path / ".a.csv.lock", "waiting"):
        arguments = ([{"run": "c", **row}], {"run": "c", **same})
        code = "from pathlib import Path; from reidkit.attention.score_table import added\n"
        code += f"added(Path({str(out)!r}), *{arguments!r}, {{'checks': bool}})"
        other = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        assert "waiting for it" in other.stderr.readline()
        assert len(written(out, CHECKED)) == 2
    assert other.wait() == 0 and len(written(out, CHECKED)) == 3
    other.stderr.close()
