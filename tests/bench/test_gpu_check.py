"""`data_scripts/gpu_check.py`: its commands are ones that the kit understands, and its time is limited."""

import functools
import importlib.util
import subprocess
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from reidkit.bench import BENCHES
from reidkit.cli.options import parse_settings


@pytest.fixture
def script(repo):
    spec = importlib.util.spec_from_file_location("gpu_check", repo / "data_scripts" / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_step_is_a_command_of_the_kit(script, tmp_path, monkeypatch):
    """Settings have the types that their benchmark asks for; files are called as `results/benchmarks/` wants them."""
    asked = {}
    for what in BENCHES:
        module, _, name = BENCHES[what].partition(":")
        if what in script.SMALL:
            monkeypatch.setattr(f"{module}.{name}", stand_in(module, name, asked))
    from reidkit.bench import run_bench

    for rehearse in (True, False):
        monkeypatch.setattr("reidkit.bench.choose_device", lambda name: "cpu", raising=False)
        monkeypatch.setattr("reidkit.training.device.choose_device", lambda name: "cpu")
        for name, command in script.commands(tmp_path, "a-card", rehearse).items():
            if name == "pytest -m gpu":
                assert command[1:6] == ["-m", "pytest", "-q", "-m", "gpu"]
                continue
            bench, file = command[4], Path(command[-1])
            assert file.name in (f"{bench}-a-card.json", f"{bench}-a-card-compiled.json")
            run_bench(bench, parse_settings([w for a, w in pairwise(command) if a == "--set"]))
            assert asked.get("preset") == ("smoke" if rehearse and bench == "train" else None)


def stand_in(module, name, asked):
    """A benchmark of the same arguments that only notes what it was asked."""

    function = getattr(import_module(module), name)

    @functools.wraps(function)
    def noted(**arguments):
        asked.clear()
        asked.update(arguments)
        return {}

    return noted


def test_the_worst_step_decides_and_time_is_limited(script, monkeypatch, capsys):
    codes, limits = iter([0, 1, None, 0]), []

    def run(command, cwd, timeout):
        limits.append(timeout)
        code = next(codes)
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(script.subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--rehearse", "--limit", "50"])
    assert script.main() == 124 and len(limits) == 4 and max(limits) <= 50
    assert "evaluate: stopped, the 50 s are over" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(script, monkeypatch, capsys):
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_check.py"])
    assert script.main() == 2 and "--rehearse" in capsys.readouterr().err
