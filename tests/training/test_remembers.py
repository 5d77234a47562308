"""A run remembers what made it: nothing is guessed later, nothing stale comes back, nothing given is dropped."""

import json
from dataclasses import replace

import pytest
import torch
from market_folder import make_market_folder
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.data import load_dataset
from reidkit.errors import CheckpointError, DatasetError, ReIDKitError, TrainingError
from reidkit.models import zoo
from reidkit.training import RunFolder, evaluate_run, load_run, obtain_run, recipe_for, train

SMOKE = ["--preset", "smoke", "--no-progress", "--device", "cpu"]
FAST = {"precision": "no", "ide_init": False, "epochs": 1, "batches_per_epoch": 1, "num_ids": 3}


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def start(tmp_path, folder="a", run="r", *more, **make):
    """`reidkit train ide` on a small folder in Market-1501's layout."""
    root = make_market_folder(tmp_path / folder, **make)
    result = call(
        "train",
        "ide",
        "--dataset",
        "market-layout",
        "--root",
        root,
        *SMOKE,
        "--set",
        "precision=no",
        "--run",
        tmp_path / run,
        *more,
    )
    return root, result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("market")
    root, result = start(path)
    assert result.exit_code == 0, result.exception
    return root, path / "r"


def test_evaluate_knows_how_the_data_were_loaded(trained):
    root, run = trained
    result = call("evaluate", run, "--no-progress")  # from where they lay
    assert result.exit_code == 0 and "ide on a, step AP" in result.output
    assert call("evaluate", run, "--no-progress", "--root", root).exit_code == 0


def test_a_folder_named_like_sidewalk_is_not_the_rendered_set(tmp_path):
    root, result = start(tmp_path, "sidewalk-cafe")
    assert result.exit_code == 0 and RunFolder(tmp_path / "r").read_settings()["prior_tool"] == "files"
    again = call("evaluate", tmp_path / "r", "--root", root, "--no-progress")
    assert again.exit_code == 0 and "on sidewalk-cafe" in again.output


def test_train_on_one_set_test_on_another(trained, tmp_path, data_root):
    _, run = trained
    other = make_market_folder(tmp_path / "b", train_ids=4, seed=5)
    result = call(
        "evaluate", run, "--dataset", "market-layout", "--root", other, "--no-progress", "--save", tmp_path / "e.json"
    )
    assert result.exit_code == 0 and "on b, trained on a" in result.output
    saved = json.loads((tmp_path / "e.json").read_text())
    assert (saved["dataset"], saved["trained_on"], saved["test"]["ap"]) == ("b", "a", "step")
    result = call("evaluate", run, "--dataset", "sidewalk", "--size", "tiny", "--root", data_root, "--no-progress")
    assert result.exit_code == 0 and "sidewalk-tiny, trained on a" in result.output


def test_resume_refuses_what_it_would_drop(trained):
    root, run = trained
    result = call(
        "train",
        "mgn",
        "--resume",
        run,
        "--dataset",
        "market1501",
        "--root",
        root,
        "--seed",
        7,
        "--preset",
        "quick",
        "--set",
        "epochs=5",
        "--set",
        "lr=0.3",
    )
    message = str(result.exception)
    assert isinstance(result.exception, ReIDKitError)
    for word in (
        "variant mgn (the run has ide)",
        "--seed 7 (the run has 0)",
        "--set epochs=5 (the run has 2)",
        "--set lr=0.3",
        "--dataset market1501 (the run has market-layout)",
        "--preset quick (the run has smoke)",
    ):
        assert word in message
    same = call("train", "ide", "--resume", run, "--root", root, "--seed", 0, "--set", "epochs=2", "--no-progress")
    assert same.exit_code == 0, same.exception
    assert call("train", "--resume", run).exit_code == 0  # everything from the run


def test_a_start_that_was_refused_leaves_no_folder(tmp_path):
    _, result = start(tmp_path, "a", "r", "--set", "num_ids=9")
    assert "choose P <= 6" in str(result.exception) and "--set num_ids" in str(result.exception)
    assert not (tmp_path / "r").exists()
    assert start(tmp_path, "a", "r", "--set", "num_ids=6")[1].exit_code == 0


def test_the_refusal_names_only_what_differs(trained):
    root, run = trained
    ds = load_dataset("market-layout", root=root)
    with pytest.raises(TrainingError) as error:
        train("ide", ds, recipe_for("ide", "smoke", {"precision": "no", "lr": 0.5}), run, preset="smoke", device="cpu")
    assert "lr: 0.06 there, 0.5 asked for" in str(error.value) and "epochs" not in str(error.value)


def test_another_folder_with_the_same_names_and_counts_is_another_set(trained, tmp_path):
    root, run = trained
    other = make_market_folder(tmp_path / "a", seed=9)
    recipe = recipe_for("ide", "smoke", {"precision": "no"})
    with pytest.raises(TrainingError, match="the files of the data set: "):
        train("ide", load_dataset("market-layout", root=other), recipe, run, preset="smoke", device="cpu")
    moved = root.parent / "moved" / "a"
    moved.parent.mkdir()
    root.rename(moved)
    try:  # a moved set is the same one
        train("ide", load_dataset("market-layout", root=moved), recipe, run, preset="smoke", device="cpu")
    finally:
        moved.rename(root)


def test_a_variant_that_changed_since_gives_no_old_numbers(trained, monkeypatch, tmp_path):
    root, run = trained
    ds, recipe = load_dataset("market-layout", root=root), recipe_for("ide", "smoke", {"precision": "no"})
    old = zoo.VARIANTS["ide"]
    monkeypatch.setitem(zoo.VARIANTS, "ide", replace(old, config=replace(old.config, slope=0.2)))
    with pytest.raises(
        TrainingError, match=r"the line 'ide' of zoo\.py has changed.*model\.slope: 0\.1 there, 0\.2 now"
    ):
        train("ide", ds, recipe, run, preset="smoke", device="cpu")
    with pytest.raises(CheckpointError, match=r"has changed since this run was trained \(model\.slope"):
        load_run(run)
    monkeypatch.setitem(zoo.VARIANTS, "ide", replace(old, loss=replace(old.loss, identity_weight=0.5)))
    load_run(run)  # the losses do not matter to a trained network
    with pytest.raises(TrainingError, match=r"loss\.identity_weight"):
        train("ide", ds, recipe, run, preset="smoke", device="cpu")


def test_a_new_variant_is_one_line(sidewalk_tiny, monkeypatch, tmp_path):
    line = zoo.Variant(replace(zoo.VARIANTS["mt-only"].config, num_parts=3), zoo.MPN_LOSS, "mine")
    monkeypatch.setitem(zoo.VARIANTS, "mine", line)
    train("mine", sidewalk_tiny, recipe_for("mine", "smoke", FAST), tmp_path / "r", device="cpu", progress=False)
    assert load_run(tmp_path / "r").num_parts == 3


def test_an_own_folder_is_never_called_market1501(tmp_path):
    for name, label in (
        ("my_campus", "my_campus"),
        ("Market-1501-v15.09.15", "Market-1501-v15.09.15-other"),
        ("market1501", "market1501-other"),
        ("sidewalk-tiny", "sidewalk-tiny-other"),
    ):
        root = make_market_folder(tmp_path / name)
        for loader in ("market1501", "market-layout"):
            assert load_dataset(loader, root=root).label == label
    result = call(
        "train", "ide", "--dataset", "market1501", "--root", tmp_path / "my_campus", *SMOKE, "--run", tmp_path / "r"
    )
    assert result.exit_code == 0 and RunFolder(tmp_path / "r").read_settings()["dataset"] == "my_campus"


def test_derived_files_go_where_they_are_told(trained, tmp_path):
    root, run = trained
    before = {p for p in root.rglob("*")}
    shelf = tmp_path / "shelf"
    for arguments in (
        ("train", "ide", "--dataset", "market-layout", "--root", root, *SMOKE, "--run", tmp_path / "r"),
        ("evaluate", run, "--root", root, "--ap", "trapezoid", "--no-progress"),
    ):
        result = call(*arguments, "--cache-dir", shelf)
        assert result.exit_code == 0, result.exception
    assert {p for p in root.rglob("*")} == before and list(shelf.rglob("*.u8"))
    assert call("evaluate", run, "--root", root, "--no-cache", "--no-progress").exit_code == 0
    assert {p for p in root.rglob("*")} == before


def test_results_say_how_they_were_tested(trained, tmp_path):
    _, run = trained
    result = RunFolder(run).read_result()
    assert (
        result["test"]
        == {
            "ap": "step",
            "flip": "none",
            "interpolation": "bilinear",
            "rerank": False,
            "multi_query": False,
            "camera_rule": True,
        }
        and "released" not in result
    )


def test_runs_of_the_paper_are_tested_both_ways(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "a"))
    small = {
        **FAST,
        "backbone": "small",
        "pretrained": False,
        "size": (96, 32),
        "num_instances": 2,
        "translation_copies": 1,
        "epochs": 1,
        "milestones": (),
        "model.part_dim": 8,
    }
    result = train(
        "mt-only",
        ds,
        recipe_for("mt-only", "paper", small),
        tmp_path / "r",
        preset="paper",
        device="cpu",
        progress=False,
    )
    assert result["test"]["ap"] == "step" and result["test"]["interpolation"] == "bilinear"
    released = result["released"]
    assert (released["test"]["ap"], released["test"]["interpolation"], released["test"]["flip"]) == (
        "trapezoid",
        "bicubic",
        "sum",
    )
    for ap, interpolation, flip, metrics in (
        ("step", "bilinear", "none", result["metrics"]),
        ("trapezoid", "bicubic", "sum", released["metrics"]),
    ):
        again = evaluate_run(
            tmp_path / "r", ds, ap=ap, interpolation=interpolation, flip=flip, device="cpu", progress=False
        )
        assert again["metrics"] == metrics
    from reidkit.reporting.report import collect_results, report_table

    both = collect_results(tmp_path / "r", tests=("ours", "released"))
    assert set(both.form) == {"step AP", "trapezoid AP, flip sum, bicubic"}
    assert set(collect_results(tmp_path / "r").test) == {"ours"}
    columns = list(report_table("mpn-table1", both, systems=sorted(set(both.system))).columns)
    assert sorted(c.split(" ")[0] for c in columns) == ["ours:"] * 2 + ["released:"] * 2
    assert len(columns) == len(set(columns)) and all("AP" in c for c in columns)


# ---------------------------------------------------------------- the camera rule
def test_one_camera_is_said_before_the_training(tmp_path):
    root, result = start(tmp_path, "one", "r", cameras=1)
    assert isinstance(result.exception, DatasetError) and "--no-camera-rule" in str(result.exception)
    assert not (tmp_path / "r").exists() and not (root / "cache").exists()
    root, result = start(tmp_path, "one", "r", "--no-camera-rule", cameras=1)
    assert result.exit_code == 0, result.exception
    assert "no camera rule" in result.output
    assert RunFolder(tmp_path / "r").read_result()["test"]["camera_rule"] is False
    again = call("evaluate", tmp_path / "r", "--no-progress")  # the run remembers
    assert again.exit_code == 0 and "no camera rule" in again.output
    from reidkit.reporting.report import collect_results

    table = collect_results(tmp_path / "r")
    assert set(table.form) == {"step AP, no camera rule"} and set(table.system) == {
        "ide camera_rule=False precision=no"
    }


def test_without_the_camera_rule_no_picture_is_its_own_match(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "a"))
    mixed = replace(ds, gallery=ds.query)
    with pytest.raises(DatasetError, match="its own match"):
        train("ide", mixed, recipe_for("ide", "smoke", {**FAST, "camera_rule": False}), tmp_path / "r", device="cpu")


def test_no_shared_person_is_said_before_the_training(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "a"))
    strangers = replace(ds, gallery=ds.gallery.assign(pid=7))
    with pytest.raises(DatasetError, match="none of their people are in the gallery"):
        train("ide", strangers, recipe_for("ide", "smoke", FAST), tmp_path / "r", device="cpu")


# ---------------------------------------------------------------- before the first image
@pytest.mark.parametrize(
    "name,settings,words",
    [
        ("baseline", {"size": (100, 48)}, "no multiple of 8"),
        ("mpn", {"num_ids": 99}, "choose P"),
        ("cgpn", {"size": (8, 8)}, "too low for 2 stripes"),
    ],
)
def test_refusals_come_before_the_work(sidewalk_tiny, tmp_path, monkeypatch, name, settings, words):
    monkeypatch.setattr("reidkit.data.cache.read_image", lambda *a: pytest.fail("an image was read"))
    with pytest.raises(ReIDKitError, match=words):
        train(
            name,
            replace(sidewalk_tiny, cache_dir=tmp_path / "c"),
            recipe_for(name, "smoke", settings),
            tmp_path / "r",
            preset="smoke",
            device="cpu",
            progress=False,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mpn", "baseline-ub"])
def test_missing_maps_are_said_before_the_ide(tmp_path, name):
    root = make_market_folder(tmp_path / "a")
    result = call("train", name, "--dataset", "market-layout", "--root", root, *SMOKE, "--run", tmp_path / "runs" / "r")
    message = str(result.exception)
    assert result.exit_code and "reidkit priors build" in message and "12x4" in message, message
    assert not (tmp_path / "runs").exists() and not (root / "cache").exists()


def test_a_disk_without_room_is_said_first(sidewalk_tiny, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(ReIDKitError, match=r"GB in .* the disk has 0\.00 GB"):
        train("ide", sidewalk_tiny, recipe_for("ide", "smoke"), tmp_path / "r", device="cpu", progress=False)
    assert not (tmp_path / "r").exists()


def test_a_broken_test_image_is_found_before_the_training(tmp_path, monkeypatch):
    root = make_market_folder(tmp_path / "a")
    broken = next((root / "query").glob("*.jpg"))
    broken.write_bytes(broken.read_bytes()[:100])
    monkeypatch.setattr("reidkit.training.loop.fit", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(DatasetError, match=broken.name):
        train(
            "ide",
            load_dataset("market-layout", root=root),
            recipe_for("ide", "smoke", FAST),
            tmp_path / "r",
            device="cpu",
            progress=False,
        )
    assert not (tmp_path / "r").exists()


# ---------------------------------------------------------------- damaged and foreign run folders
@pytest.mark.parametrize("content", ["[]", "{", '{"variant": "ide"}', "null", '{"variant": 3}'])
def test_a_foreign_recipe_json_is_named(trained, tmp_path, content):
    (tmp_path / "recipe.json").write_text(content)
    for act in (load_run, lambda p: RunFolder(p).recipe(), lambda p: RunFolder(p).read_settings()):
        with pytest.raises(CheckpointError, match=r"recipe\.json"):
            act(tmp_path)


def test_a_cut_off_result_is_named(trained, tmp_path):
    root, run = trained
    for name in ("recipe.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "result.json").write_bytes((run / "result.json").read_bytes()[:80])
    with pytest.raises(CheckpointError, match=r"result\.json cannot be read"):
        train(
            "ide",
            load_dataset("market-layout", root=root),
            recipe_for("ide", "smoke", {"precision": "no"}),
            tmp_path,
            preset="smoke",
            device="cpu",
        )


def test_a_run_of_an_older_kit_asks_for_its_data(trained, tmp_path):
    root, run = trained
    old = json.loads((run / "recipe.json").read_text())
    for key in ("source", "changes", "resolved", "fingerprint", "root", "precision"):
        del old[key]
    del old["recipe"]["camera_rule"]
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    result = call("evaluate", tmp_path, "--root", root)
    assert "name it with --dataset and --root" in str(result.exception)
    assert call("evaluate", tmp_path, "--dataset", "market-layout", "--root", root, "--no-progress").exit_code == 0


# ---------------------------------------------------------------- devices and suites
def test_the_second_gpu_is_the_second_gpu(monkeypatch):
    from reidkit.training.device import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(TrainingError, match="has 2 CUDA GPUs"):
        choose_device("cuda:2")
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(
        "reidkit.training.loop.Accelerator", lambda **k: type("A", (), {"device": torch.device("cuda:1")})
    )
    from reidkit.training.loop import make_accelerator

    make_accelerator(torch.device("cuda:1"), "no")
    assert chosen == [torch.device("cuda", 1)]


def test_a_suite_means_what_train_means(data_root, tmp_path):
    """`ablate --set epochs=1 --set ide_init=false`: one epoch, no IDE."""
    result = call(
        "ablate",
        "mpn-table1",
        "--only",
        "baseline,mpn-no-ca",
        "--set",
        "epochs=1",
        "--set",
        "ide_init=false",
        "--preset",
        "smoke",
        "--size",
        "tiny",
        "--root",
        data_root,
        "--runs",
        tmp_path,
        "--seeds",
        1,
        "--no-progress",
        "--device",
        "cpu",
        "--no-cache",
        "--jobs",
        2,
    )
    assert result.exit_code == 0, result.output
    runs = sorted(p for p in tmp_path.iterdir() if p.is_dir())
    assert [RunFolder(p).read_settings()["variant"] for p in runs] == ["baseline", "mpn-no-ca"]
    for run in runs:
        settings = RunFolder(run).read_settings()
        assert settings["changes"] == {"epochs": 1, "ide_init": False}
        assert len(RunFolder(run).metrics.read_text().splitlines()) == 2


def test_a_suite_names_rows_that_cannot_run_before_it_starts(tmp_path, monkeypatch):
    root = make_market_folder(tmp_path / "a", train_ids=6)
    started = []
    monkeypatch.setattr("reidkit.training.suites._train_process", lambda path, arguments: started.append(path) or "")
    result = call(
        "ablate",
        "mpn-table1",
        "--only",
        "baseline,mpn",
        "--preset",
        "smoke",
        "--dataset",
        "market-layout",
        "--root",
        root,
        "--runs",
        tmp_path / "runs",
        "--seeds",
        1,
        "--no-progress",
    )
    assert result.exit_code == 1 and "1 runs finished, 1 failed" in result.output
    assert [p.name.split("-")[0] for p in started] == ["ide", "baseline"]


def test_a_suite_hands_everything_on(tmp_path, monkeypatch):
    root = make_market_folder(tmp_path / "a", train_ids=6)
    handed = []
    monkeypatch.setattr(
        "reidkit.training.suites._train_process", lambda path, arguments: handed.append(arguments) or ""
    )
    call(
        "ablate",
        "cgpn-table1",
        "--only",
        "ide",
        "--preset",
        "smoke",
        "--dataset",
        "market-layout",
        "--root",
        root,
        "--runs",
        tmp_path / "runs",
        "--seeds",
        1,
        "--compile",
        "--workers",
        3,
        "--prior-tool",
        "files",
        "--cache-dir",
        tmp_path / "c",
        "--evaluate-every",
        2,
        "--no-camera-rule",
        "--no-progress",
    )
    (arguments,) = handed
    line = " ".join(arguments)
    for part in (
        "--compile",
        "--workers 3",
        "--prior-tool files",
        f"--cache-dir {tmp_path / 'c'}",
        "--evaluate-every 2",
        "--set camera_rule=false",
    ):
        assert part in line


def test_one_job_on_a_gpu(monkeypatch):
    from reidkit.training import suites

    monkeypatch.setattr(suites, "choose_device", lambda name: torch.device("cuda"))
    assert suites.default_jobs(["--device", "auto"]) == 1
    monkeypatch.undo()
    assert suites.default_jobs(["--device", "cpu"]) >= 1


def test_shipped_networks_say_what_they_were_trained_on(repo, sidewalk_tiny):
    shipped = repo / "results" / "sidewalk" / "checkpoints"
    for folder in shipped.glob("*/recipe.json"):
        settings = RunFolder(folder.parent).read_settings()
        assert settings["source"] == {"name": "sidewalk", "options": {"size": "small"}} and "root" not in settings
    assert obtain_run  # used by the notebooks to find them
