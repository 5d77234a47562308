"""Commands that are interrupted, by Ctrl-C, `kill` and `kill -9`: nobody is left behind, nothing that was finished is
lost, and the same command goes on. The table in docs/reliability.md lists them."""

import json
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import drills
import pytest
from attention_networks import write_run
from drills import ANEW, Moment, drilled, left_over
from map_folders import FIGURES, write_figures
from market_folder import make_market_folder
from paths import REPO

from reidkit.__main__ import main as entry_point
from reidkit.data import load_dataset
from reidkit.lifetime import SIGINT_CODE
from reidkit.priors import PriorTable
from reidkit.search.blocks import SUFFIX
from reidkit.training import RunFolder

only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are counted in /proc")
INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
SMOKE = ["--preset", "smoke", "--device", "cpu", "--no-progress", "--dataset", "market-layout"]
SHORT = {"precision": "no", "ide_init": "false", "epochs": 2, "batches_per_epoch": 1, "num_ids": 3}
TWO_EPOCHS = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def root(tmp_path):
    return make_market_folder(tmp_path / "set")


def resumed(run) -> int:
    """The epoch after which a finished run went on."""
    return RunFolder(run).read_result()["provenance"]["resumed_after_epoch"]


@only_linux
@pytest.mark.slow
def test_train_with_processes_that_read(root, tmp_path):
    run = tmp_path / "r"
    words = [
        "train",
        "ide",
        *SMOKE,
        *TWO_EPOCHS,
        "--root",
        str(root),
        "--run",
        str(run),
        "--no-cache",
        "--workers",
        "2",
    ]
    first = Moment("open", "*_c?s1_*.jpg", worker=True)
    second = first._replace(after=str(run / "last.ckpt"))
    drilled(words, {INT: first, TERM: first, KILL: second}, tmp_path / "drill")
    assert resumed(run) == 1 and not left_over(run, root)


@only_linux
@pytest.mark.slow
def test_ablate(root, tmp_path):
    runs = tmp_path / "runs"
    words = ["ablate", "mpn-table1", *SMOKE, *TWO_EPOCHS, "--root", str(root), "--runs", str(runs)]
    words += ["--only", "baseline,mt-only", "--seeds", "1", "--jobs", "1"]
    first = Moment("os.rename", "last.ckpt")
    second = first._replace(after=str(runs / "*" / "last.ckpt"))
    said = drilled(words, {INT: first, TERM: first, KILL: second}, tmp_path / "drill")
    assert "2 runs finished, 0 failed" in said
    assert sorted(resumed(run) for run in runs.iterdir()) == [0, 1] and not left_over(runs, root)


@only_linux
@pytest.mark.slow
def test_render(tmp_path):
    folder = tmp_path / "sidewalk-tiny"
    words = ["sidewalk", "render", "--size", "tiny", "--out", str(tmp_path), "--workers", "2"]
    moment = Moment("os.rename", "0????.npz", worker=True, after=str(folder / "truth" / "parts" / "*.npz"))
    marks = tmp_path / "drill"
    kept = []

    def parts():
        return {p.name: p.stat().st_mtime_ns for p in (folder / "truth" / "parts").glob("*.npz")}

    for sent in (INT, TERM, KILL):
        ended = drills.interrupted(words, sent, moment, marks / sent.name)
        assert ended.code == (-sent if sent is KILL else 128 + sent) and "Traceback" not in ended.said, ended.said
        kept.append(parts())
        held = Path((marks / sent.name / "there").read_text())
        assert held.exists() == (sent is not KILL), "what is being rendered is finished first"
    assert kept[0] and kept[0].items() <= kept[1].items() <= kept[2].items()  # no part is made twice
    drilled(words, {}, marks)
    assert len(load_dataset("sidewalk", root=tmp_path, size="tiny").train) == 148 and not left_over(folder)


@only_linux
@pytest.mark.slow
def test_priors_build(root, tmp_path):
    ds = load_dataset("market-layout", root=root)
    write_figures(ds, ds.train, FIGURES["lip"])
    words = ["priors", "build", "market-layout", "--root", str(root), "--grid", "8x4", "--no-progress"]
    moment = Moment("os.rename", "files-8x4.npz")
    drilled(words, dict.fromkeys((INT, TERM, KILL), moment), tmp_path / "drill")
    assert len(PriorTable.load(root / "priors" / "files-8x4.npz")) == 24 and not left_over(root)


@only_linux
@pytest.mark.slow
def test_search(root, tmp_path):
    query = next((root / "query").iterdir())
    words = ["search", str(write_run(tmp_path, "mpn-no-ca", 0)), str(query), "--gallery", str(root), "--device", "cpu"]
    words += ["--no-attention", "--no-progress", "--out", str(tmp_path / "page.html")]
    moment = Moment("os.rename", "broken.json")
    said = drilled(words, dict.fromkeys((INT, TERM, KILL), moment), tmp_path / "drill")
    assert re.search(r"32 pictures searched \(0 read now\)", said), said
    assert (tmp_path / "page.html").is_file() and not left_over(root)


@only_linux
@pytest.mark.slow
def test_evaluate(root, tmp_path):
    run, file = tmp_path / "r", tmp_path / "result" / "r.json"
    drilled(["train", "ide", *SMOKE, *TWO_EPOCHS, "--root", str(root), "--run", str(run)], {}, tmp_path / "train")
    words = ["evaluate", str(run), "--no-cache", "--workers", "2", "--device", "cpu", "--no-progress"]
    words += ["--save", str(file)]
    reading, writing = Moment("open", "*_c?s1_*.jpg", worker=True), Moment("os.rename", file.name)
    for moment in (reading, writing):
        said = drilled(words, dict.fromkeys((INT, TERM, KILL), moment), tmp_path / moment.event, ANEW)
        assert "mAP" in said and json.loads(file.read_text())["metrics"] and not left_over(run, root, file.parent)


@only_linux
@pytest.mark.slow
def test_export(tmp_path):
    file = tmp_path / "net" / "mpn.pt2"
    words = ["export", str(write_run(tmp_path, "mpn-no-ca", 0)), "--to", "torch-export", "--out", str(file)]
    moment = Moment("os.rename", file.name)
    drilled(words, dict.fromkeys((INT, TERM, KILL), moment), tmp_path / "drill", ANEW)
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, f"{file.name}.json"]


@only_linux
@pytest.mark.slow
def test_bench(tmp_path):
    """What is measured lies in a folder of the system, which only kill -9 may leave."""
    folder = tmp_path / "synthetic"
    folder.mkdir()
    words = ["bench", "search", "--set", f"folder={folder}", "--set", "sizes=4096,8192", "--set", "dim=16"]
    words += ["--set", "kinds=", "--set", "nearest_size=4096"]
    moment = Moment("open", f"*{SUFFIX}", worker=True)
    drilled(words, dict.fromkeys((INT, TERM), moment), tmp_path / "drill", ANEW)
    assert not any(folder.iterdir())
    drilled(words, {KILL: moment}, tmp_path / "killed", ANEW)


@only_linux
@pytest.mark.slow
def test_report(tmp_path):
    runs, file = tmp_path / "runs", tmp_path / "tables" / "runs.csv"
    write_run(runs, "mpn-no-ca", 0)
    words, moment = ["report", str(runs), "--save", str(file)], Moment("os.rename", file.name)
    drilled(words, dict.fromkeys((INT, TERM, KILL), moment), tmp_path / "drill", ANEW)
    assert [path.name for path in file.parent.iterdir()] == [file.name] and not left_over(runs)


@only_linux
@pytest.mark.slow
def test_compare(root, tmp_path):
    runs, file = [tmp_path / "a", tmp_path / "b"], tmp_path / "tables" / "queries.csv"
    for seed, run in enumerate(runs):
        words = ["train", "ide", *SMOKE, *TWO_EPOCHS, "--seed", str(seed), "--root", str(root), "--run", str(run)]
        drilled(words, {}, tmp_path / "train")
    words = ["compare", *map(str, runs), "--device", "cpu", "--no-progress", "--save", str(file)]
    moment = Moment("os.rename", file.name)
    drilled(words, dict.fromkeys((INT, TERM, KILL), moment), tmp_path / "drill", ANEW)
    assert [path.name for path in file.parent.iterdir()] == [file.name] and not left_over(root, *runs)


@only_linux
@pytest.mark.slow
def test_data_check(root, tmp_path):
    tables = tmp_path / "tables"
    words = ["data", "check", "market-layout", "--root", str(root), "--out", str(tables)]
    moment = Moment("os.rename", "report.txt")
    drilled(words, dict.fromkeys((INT, TERM, KILL), moment), tmp_path / "drill", ANEW)
    assert (tables / "report.txt").is_file() and not left_over(root, tables)


IMPORTING = """
import runpy, sys
class CtrlC:
    def find_spec(self, name, *rest):
        if name == "torch":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
runpy.run_module("reidkit", run_name="__main__")
"""


def test_ctrl_c_while_the_command_is_still_imported_is_one_line_too():
    ended = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, cwd=REPO)
    assert (ended.returncode, ended.stderr) == (SIGINT_CODE, "interrupted: nothing had begun\n")
    entry = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]["reidkit"]
    assert entry == f"{entry_point.__module__}:{entry_point.__name__}"


def test_the_page_lists_the_drills():
    page = drills.PAGE.read_text()
    listed = page.partition(drills.BEGIN)[2].partition(drills.END)[0].strip()
    assert listed == drills.table().strip(), "write it again: python tests/helpers/drills.py"
    for drill in drills.DRILLS:
        file, name = drill.test.split("::")
        assert f"def {name}(" in (REPO / file).read_text(), drill.test
