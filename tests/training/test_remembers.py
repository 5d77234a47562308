"""A run remembers what made it: nothing is guessed later, nothing stale comes back, nothing given is dropped."""

import json
from dataclasses import replace

import numpy as np
import pytest
from market_folder import make_market_folder, write_image
from market_runs import FAST, SMOKE, call, start

from reidkit.data import load_dataset
from reidkit.errors import CheckpointError, ReIDKitError, TrainingError
from reidkit.models import zoo
from reidkit.training import RunFolder, evaluate_run, load_run, obtain_run, recipe_for, train


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


def test_runs_of_the_paper_are_tested_with_all_views_where_every_query_has_some(tmp_path):
    root = make_market_folder(tmp_path / "a")
    for pid in (101, 102):
        for box in (1, 2):
            write_image(root / "gt_bbox" / f"{pid:04d}_c1s1_000001_{box:02d}.jpg", np.random.default_rng(pid + box))
    small = {**FAST, "backbone": "small", "pretrained": False, "size": (96, 32), "num_instances": 2, "epochs": 1}
    small |= {"translation_copies": 1, "milestones": (), "model.part_dim": 8}
    recipe = recipe_for("mt-only", "paper", small)
    ds = load_dataset("market-layout", root=root)
    options = {"preset": "paper", "device": "cpu", "progress": False}
    result = train("mt-only", ds, recipe, tmp_path / "r", **options)
    form = {"flip": "sum", "ap": "trapezoid", "interpolation": "bicubic", "multi_query": True}
    again = evaluate_run(tmp_path / "r", ds, **form, device="cpu", progress=False)
    assert result["multi-query"] == {"test": again["test"], "metrics": again["metrics"]}

    from reidkit.reporting.report import collect_results, report_table

    results = collect_results(tmp_path / "r", tests=("ours", "released", "multi-query"))
    table = report_table("mpn-table5", results, systems=sorted(set(results.system)))
    assert [c.split(":")[0] for c in table.columns if c.endswith("mAP")] == ["released", "multi-query", "ours"]
    (root / "gt_bbox" / "0101_c1s1_000001_01.jpg").unlink()
    (root / "gt_bbox" / "0101_c1s1_000001_02.jpg").unlink()  # a query without a view: no such test, and no error
    fewer = train("mt-only", load_dataset("market-layout", root=root), recipe, tmp_path / "fewer", **options)
    assert "multi-query" not in fewer and fewer["released"]["metrics"] == result["released"]["metrics"]


def test_shipped_networks_say_what_they_were_trained_on(repo, sidewalk_tiny):
    shipped = repo / "results" / "sidewalk" / "checkpoints"
    for folder in shipped.glob("*/recipe.json"):
        settings = RunFolder(folder.parent).read_settings()
        size = "medium" if settings["preset"] == "hero" else "small"
        assert settings["source"] == {"name": "sidewalk", "options": {"size": size}} and "root" not in settings
    assert obtain_run  # used by the notebooks to find them
