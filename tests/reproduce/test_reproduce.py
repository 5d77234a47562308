"""`reidkit reproduce`: says what it will do, does it, goes on after interruptions, and refuses before the work."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from map_folders import FIGURES, write_figures
from market_folder import make_market_folder
from market_runs import FAST, call
from PIL import Image

from reidkit.data import load_dataset
from reidkit.training import RunFolder, suites

FAST_SETS = [a for k, v in FAST.items() for a in ("--set", f"{k}={json.dumps(v)}")]


@pytest.fixture
def ds(tmp_path):
    """A small folder in Market-1501's layout, with maps beside the images."""
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "set"))
    for table in (ds.train, ds.query, ds.gallery):
        write_figures(ds, table, FIGURES["lip"])
    return ds


def words(ds, tmp_path, *more, only="baseline,mt-only", sets=FAST_SETS):
    fixed = ["--dataset", "market-layout", "--root", ds.root, "--preset", "smoke", "--seeds", 1, "--device", "cpu"]
    return ["mpn-table1", *fixed, "--only", only, "--runs", tmp_path / "runs", "--no-progress", *sets, *more]


def reproduce(ds, tmp_path, *more, **options):
    return call("reproduce", *words(ds, tmp_path, *more, **options))


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in [folder, *folder.rglob("*")]}


def test_a_dry_run_says_all_and_changes_nothing(ds, tmp_path):
    before = tree(tmp_path)
    answer = reproduce(ds, tmp_path, "--dry-run", "--seeds", 2, sets=(), only="baseline,mt-only,mpn")
    assert answer.exit_code == 0, answer.exception
    assert tree(tmp_path) == before
    for said in (
        "rows    3: baseline, mt-only, mpn",
        "seeds   2: 0, 1",
        "runs    6: 0 finished, 6 to train",
        "IDE     2: 0 finished, 2 to train",
        "priors  tool files, grid 12x4, train: 24 images, 24 to be made here first",
        "measured: 2 batches measured now of ide, baseline, mt-only, mpn on cpu",
        "GB for checkpoints and weights of 8 runs",
        "for decoded images",
        "GB free",
        "mpn-table1-set-smoke.html",
    ):
        assert said in answer.output, (said, answer.output)


def test_from_maps_to_the_page_and_nothing_twice(ds, tmp_path):
    for kind in ("parsing", "segmentation"):
        (ds.root / kind).rename(tmp_path / kind)
    maps = ("--parsing", tmp_path / "parsing", "--segmentation", tmp_path / "segmentation")
    answer = reproduce(ds, tmp_path, *maps, "--out", tmp_path / "for" / "you.html", only="baseline,mpn")
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert "2 runs finished, 0 failed" in answer.output and "paper: market1501 mAP" in answer.output
    assert (ds.root / "priors" / "files-12x4.npz").is_file()
    runs = sorted(p for p in (tmp_path / "runs").iterdir() if p.is_dir())
    assert [RunFolder(run).read_settings()["variant"] for run in runs] == ["baseline", "mpn"]
    page = (tmp_path / "for" / "you.html").read_text()
    assert page.startswith("<!doctype html>") and 'name="viewport"' in page
    assert not re.search(r'(src|href)="(?!data:)', page) and "<link" not in page and "<script" not in page
    assert page.count("data:image/svg+xml;base64,") >= 2
    for part in (
        "paper: market1501 mAP",
        "Where this comes from",
        "fingerprint",
        "95 % interval",
        "epochs=1",
        "not run",
    ):
        assert part in page, part
    stored = RunFolder(runs[0]).read_result()["provenance"]["precision"]
    assert f">{'float32' if stored == 'no' else stored}<" in page
    before = {run.name: (run / "result.json").stat().st_mtime_ns for run in runs}
    again = reproduce(ds, tmp_path, *maps, only="baseline,mpn")
    assert again.exit_code == 0 and "runs    2: 2 finished, 0 to train" in again.output
    assert "nothing is left to train" in again.output
    assert before == {run.name: (run / "result.json").stat().st_mtime_ns for run in runs}


def test_a_failing_row_stops_no_other_and_is_listed(ds, tmp_path, monkeypatch):
    whole = suites._train_process
    broken = lambda path, arguments: "exit <code> 3" if arguments[0] == "mt-only" else whole(path, arguments)  # noqa: E731
    monkeypatch.setattr("reidkit.training.suites._train_process", broken)
    answer = reproduce(ds, tmp_path, only="mt-only,baseline")
    assert answer.exit_code == 1 and "1 run finished, 1 failed" in answer.output
    assert "exit <code> 3" in answer.output and "mt-only" in answer.output
    page = (tmp_path / "runs" / "mpn-table1-set-smoke.html").read_text()
    assert "What failed" in page and "exit &lt;code&gt; 3" in page
    monkeypatch.undo()
    assert "2 runs finished, 0 failed" in reproduce(ds, tmp_path, only="mt-only,baseline").output


def test_rows_of_a_failed_ide_are_not_tried(ds, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(
        "reidkit.training.suites._train_process", lambda path, arguments: tried.append(arguments[0]) or "no"
    )
    answer = reproduce(ds, tmp_path, sets=())
    assert tried == ["ide"] and answer.exit_code == 1
    assert answer.output.count("the IDE that it starts from failed") == 2


def test_a_dense_body_map_that_cannot_be_used_is_found_before_the_ide_is_trained(ds, tmp_path, monkeypatch):
    for path in ds.train.path:
        image = Path(path)
        file = (ds.root / "dense" / image.relative_to(ds.root)).with_suffix(".npz")
        file.parent.mkdir(parents=True, exist_ok=True)
        width, height = Image.open(image).size
        np.savez(file, iuv=np.zeros((3, height, width), np.float32))
    file.write_bytes(b"no map")
    tried = []
    monkeypatch.setattr(
        "reidkit.training.suites._train_process", lambda path, arguments: tried.append(arguments[0]) or "no"
    )
    order = ["mpn-table5", *words(ds, tmp_path, only="dsa", sets=["--set", "epochs=1"])[1:]]
    answer = call("reproduce", *order)
    assert answer.exit_code == 1 and file.name in answer.output and tried == []


def test_a_damaged_result_is_a_failure_of_its_row_alone(ds, tmp_path):
    assert reproduce(ds, tmp_path).exit_code == 0
    run = next((tmp_path / "runs").glob("mt-only*"))
    (run / "result.json").write_text('{"metrics": ')
    answer = reproduce(ds, tmp_path)
    assert answer.exit_code == 1 and "1 run finished, 1 failed" in answer.output and run.name in answer.output


@pytest.mark.parametrize(
    "change, said",
    [
        (["mpn-table"], "mpn-table1"),
        (["mpn-table1", "--only", "baseline,pcb"], "row of mpn-table1 'pcb'"),
        (["mpn-table1", "--dataset", "market"], "market1501"),
        (["mpn-table1", "--preset", "papr"], "paper"),
        (["mpn-table1", "--root", "nowhere"], "nowhere: no such folder"),
        (["mpn-table1", "--dataset", "sidewalk", "--root", "nowhere"], "nowhere: no such folder"),
        (["mpn-table1", "--out", "."], "is a folder"),
        (["mpn-table1", "--out", "file/page.html"], "file is no folder"),
        (["mpn-table1", "--runs", "file"], "file is no folder"),
        (["mpn-table1", "--set", "epochs=2.5"], "whole number"),
        (["mpn-table1", "--prior-tool", "fils"], "files"),
        (["mpn-table1", "--label-set", "lap"], "lip"),
        (["mpn-table1", "--prior-tool", "torchvision+segformer", "--parsing", "x"], "only the prior tool 'files'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(ds, tmp_path, monkeypatch, change, said):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    monkeypatch.setattr("reidkit.reproduce.run.run_plan", lambda *a, **k: pytest.fail("work was begun"))
    before = tree(tmp_path)
    fixed = ["--dataset", "market-layout", "--root", ds.root, "--preset", "smoke", "--seeds", 1, "--device", "cpu"]
    answer = call("reproduce", change[0], *fixed, "--only", "baseline,mpn", *change[1:])
    assert answer.exit_code and said in str(answer.exception) + answer.output
    assert tree(tmp_path) == before


def test_missing_maps_are_refused_with_the_remedy_and_the_rows_that_need_none(ds, tmp_path):
    (ds.root / "parsing").rename(tmp_path / "elsewhere")
    answer = reproduce(ds, tmp_path, only="baseline,mt-only,mpn")
    said = str(answer.exception)
    assert answer.exit_code and "24 of 24 images have no maps" in said and "reidkit priors build market-layout" in said
    assert "--only baseline,mt-only needs none" in said and not (tmp_path / "runs").exists()
    assert reproduce(ds, tmp_path, "--dry-run").exit_code == 0


def test_a_sidewalk_that_is_not_rendered_is_not_rendered_by_a_dry_run(tmp_path):
    answer = call("reproduce", "mpn-table1", "--size", "tiny", "--root", tmp_path, "--dry-run")
    assert answer.exit_code and "reidkit sidewalk render --size tiny" in str(answer.exception)
    assert not list(tmp_path.iterdir())


def test_too_small_a_disk_is_refused_before_the_start(ds, tmp_path, monkeypatch):
    """One training would fit, all of them do not."""
    import shutil

    free = 12_000_000  # bytes; a checkpoint with its weights has about 2.6 million
    monkeypatch.setattr("shutil.disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9 - free, free))
    assert reproduce(ds, tmp_path, "--dry-run", only="baseline").exit_code == 0
    answer = reproduce(ds, tmp_path, "--seeds", 5)
    said = str(answer.exception)
    assert answer.exit_code and "0.01 GB, all that is asked for needs" in said and "--only" in said and "--runs" in said
    assert not (tmp_path / "runs").exists()


# interruptions: a training that has just written its first checkpoint does something to the process that started it

MEDDLING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
def watch(event, arguments):
    if event == "os.rename" and os.path.basename(os.fspath(arguments[1])) == "last.ckpt":
        watch.seen += 1
        if watch.seen == 2:
            {act}
watch.seen = 0
if "train" in sys.orig_argv and os.path.exists({mark!r}):
    os.unlink({mark!r})
    sys.addaudithook(watch)
"""
TWO_EPOCHS = ["--set", "ide_init=false", "--set", "epochs=2", "--set", "batches_per_epoch=1", "--set", "num_ids=3"]


def meddled(ds, tmp_path, act):
    """The whole command as a process of its own, whose first training does `act` before its second checkpoint."""
    mark = tmp_path / "mark"
    mark.write_text("")
    (tmp_path / "sitecustomize.py").write_text(MEDDLING.format(act=act, mark=str(mark)))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "reidkit.cli", "reproduce", "--jobs", "1"]
    typed = words(ds, tmp_path, sets=TWO_EPOCHS)
    process = subprocess.Popen(
        [*command, *map(str, typed)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process.communicate()[0], process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_an_interrupted_command_goes_on_from_the_last_epoch(ds, tmp_path, sent):
    act = f"os.kill(os.getppid(), signal.{sent}); signal.pause()"
    said, code = meddled(ds, tmp_path, act)
    assert code == 128 + getattr(signal, sent), said
    assert "interrupted: what is finished is kept" in said and "Traceback" not in said
    runs = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
    assert len(runs) == 1 and not RunFolder(runs[0]).finished  # no other training was started
    assert "1 go on from their last epoch" in reproduce(ds, tmp_path, "--dry-run", sets=TWO_EPOCHS).output
    answer = reproduce(ds, tmp_path, sets=TWO_EPOCHS)
    assert answer.exit_code == 0 and "2 runs finished, 0 failed" in answer.output
    assert RunFolder(runs[0]).read_result()["provenance"]["resumed_after_epoch"] == 1


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's end")
def test_a_training_ends_with_its_killed_command_and_the_next_command_goes_on(ds, tmp_path):
    said, code = meddled(ds, tmp_path, "os.kill(os.getppid(), signal.SIGKILL); signal.pause()")
    assert code == -signal.SIGKILL, said
    answer = reproduce(ds, tmp_path, sets=TWO_EPOCHS)
    assert answer.exit_code == 0 and "2 runs finished, 0 failed" in answer.output
    run = next((tmp_path / "runs").glob("baseline*"))
    assert RunFolder(run).read_result()["provenance"]["resumed_after_epoch"] == 1
