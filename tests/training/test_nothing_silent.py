"""Nothing typed is dropped, nothing of another data set is passed off as this one's, nothing is refused too late."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from map_folders import FIGURES, write_figures
from market_folder import make_market_folder, write_image
from market_runs import FAST, SMOKE, call, start
from PIL import Image

from reidkit.data import ReIDDataset, load_dataset
from reidkit.errors import CheckpointError, DatasetError, ReIDKitError, TrainingError, UnknownNameError
from reidkit.evaluation.forms import TestForm
from reidkit.losses import LossConfig
from reidkit.reporting.report import collect_results
from reidkit.training import evaluate_run, obtain_run, recipe_for, train
from reidkit.training.recipes import read_settings
from reidkit.training.settings import MAX_SEED
from reidkit.training.suites import Entry, run_suite


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("market")
    root, result = start(path)
    assert result.exit_code == 0, result.exception
    return root, path / "r"


# ---------------------------------------------------------------- what is typed
@pytest.mark.parametrize("number", ["9" * 400, "1e400", "-" + "9" * 30])
def test_a_number_past_every_limit_is_refused(number):
    with pytest.raises(ReIDKitError, match="epochs"):
        recipe_for("ide", "smoke", {"epochs": number})
    assert recipe_for("ide", "smoke", {"lr": "9" * 30}).lr == pytest.approx(1e30)


@pytest.mark.parametrize("text", ["96x32x", "x96x32", "[96, 32", "96,,32", ",96,32"])
def test_half_a_tuple_is_no_tuple(text):
    with pytest.raises(ReIDKitError, match="size"):
        read_settings("ide", {"size": text})
    assert read_settings("ide", {"milestones": "40,"}) == {"milestones": (40,)}  # as Python writes it


def test_a_setting_typed_twice_is_refused(trained):
    root, _ = trained
    order = ["train", "ide", "--dataset", "market-layout", "--root", root, *SMOKE]
    for twice in (["--set", "epochs=1", "--set", "epochs=2"], ["--set", "camera_rule=true", "--no-camera-rule"]):
        assert "given twice" in str(call(*order, *twice).exception)


def test_a_seed_that_torch_cannot_take_is_refused(trained, tmp_path):
    root, _ = trained
    order = ["train", "ide", "--dataset", "market-layout", "--root", root, *SMOKE, "--run", tmp_path / "r"]
    assert call(*order, "--seed", MAX_SEED + 1).exit_code == 2
    with pytest.raises(TrainingError, match="seed"):
        train("ide", load_dataset("market-layout", root), recipe_for("ide", "smoke"), tmp_path / "r", seed=2**63)
    assert not (tmp_path / "r").exists()


def test_sizes_of_sidewalk_are_not_taken_for_other_sets(trained, tmp_path):
    root, run = trained
    folder = ["--dataset", "market-layout", "--root", root]
    for order in (
        ["train", "ide", *folder, *SMOKE, "--run", tmp_path / "r"],
        ["ablate", "cgpn-table1", *folder, "--runs", tmp_path],
        ["evaluate", run],  # not: Sidewalk rendered into ./data and scored
        ["evaluate", run, *folder],
        ["data", "check", "market-layout", "--root", root],
        ["priors", "build", "market-layout", "--root", root],
    ):
        assert "has no sizes" in str(call(*order, "--size", "tiny").exception), order
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variant", "settings"),
    [("ide", {"part_dim": -1}), ("ide", {"dropout": 2}), ("mgn", {"reduced_dim": -1}), ("mpn", {"attention_dim": -1})],
)
def test_widths_that_no_layer_has_are_refused(trained, tmp_path, variant, settings):
    root, _ = trained
    recipe = recipe_for(variant, "smoke", {f"model.{k}": v for k, v in settings.items()})
    with pytest.raises(TrainingError, match=next(iter(settings))):
        train(variant, load_dataset("market-layout", root), recipe, tmp_path / "r", device="cpu")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("field", ["margin", "identity_weight", "triplet_weight", "alignment_weight"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_no_loss_has_a_negative_weight(field, value):
    with pytest.raises(TrainingError, match=field):
        LossConfig(**{field: value})


def test_a_form_of_testing_is_checked_before_an_image_is_read(trained, monkeypatch, tmp_path):
    root, run = trained
    for wrong in ({"ap": "foo"}, {"flip": "max"}, {"interpolation": "cubic"}):
        with pytest.raises(UnknownNameError):
            TestForm(**wrong)
    monkeypatch.setattr("reidkit.training.evaluate.extract_features", lambda *a, **k: pytest.fail("images were read"))
    with pytest.raises(DatasetError, match="gt_bbox"):
        evaluate_run(run, load_dataset("market-layout", root), multi_query=True, device="cpu", progress=False)
    with pytest.raises(UnknownNameError, match="foo"):
        evaluate_run(run, load_dataset("market-layout", root), ap="foo", device="cpu", progress=False)
    some = make_market_folder(tmp_path / "some")
    write_image(some / "gt_bbox" / "0101_c1s1_000001_01.jpg", np.random.default_rng(0))
    with pytest.raises(DatasetError, match=r"1 of 2 queries have none \(first: pid 102, camera 1\)"):
        evaluate_run(run, load_dataset("market-layout", some), multi_query=True, device="cpu", progress=False)


# ---------------------------------------------------------------- what is compared
def bmp_folder(root: Path, seed: int) -> Path:
    """A market folder of uncompressed images: files of equal length, whatever they show."""
    for file in list(make_market_folder(root, seed=seed).rglob("*.jpg")):
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    return root


def test_other_pictures_of_equal_length_are_another_set(tmp_path):
    one, same, other = (
        load_dataset("market-layout", bmp_folder(tmp_path / f / "a", seed)).fingerprint()
        for f, seed in (("x", 0), ("y", 0), ("z", 1))
    )
    assert one == same != other


def test_a_suite_does_not_pass_off_runs_on_other_images(tmp_path, monkeypatch):
    """Two folders with one name: the finished runs of the first are not those of the second."""
    rows, arguments = (Entry("ide"),), ["--dataset", "market-layout", "--device", "cpu"]
    first, second = (
        load_dataset("market-layout", make_market_folder(tmp_path / f / "a", seed=s)) for s, f in enumerate("xy")
    )
    suite = {"runs": tmp_path / "runs", "seeds": [0], "preset": "smoke", "progress": False}
    folder = tmp_path / "runs" / "ide-a-smoke-s0"
    train("ide", first, recipe_for("ide", "smoke"), folder, device="cpu", preset="smoke", progress=False)
    monkeypatch.setattr("reidkit.training.suites._train_process", lambda path, a: "")
    assert run_suite(rows, first, arguments, **suite).finished == [folder]
    report = run_suite(rows, second, arguments, **suite)
    assert not report.finished and "the files of the data set" in report.failed[folder]


def test_a_suite_keeps_the_difference_of_its_rows(trained, tmp_path):
    root, _ = trained
    order = [
        "ablate",
        "mpn-fig7",
        "--dataset",
        "market-layout",
        "--root",
        root,
        "--runs",
        tmp_path,
        "--preset",
        "smoke",
    ]
    assert "differ in model.num_parts" in str(call(*order, "--set", "model.num_parts=3").exception)


def test_a_report_tells_data_sets_of_one_name_apart(tmp_path):
    for seed, folder in enumerate("xyz"):
        ds = load_dataset("market-layout", make_market_folder(tmp_path / folder / "a", seed=seed // 2))
        recipe = recipe_for("ide", "smoke", FAST)
        train("ide", ds, recipe, tmp_path / "runs" / folder, seed=seed, device="cpu", preset="smoke", progress=False)
    results = collect_results(tmp_path / "runs")
    names = results.groupby("run").dataset.unique().map(list)
    assert names["x"] == names["y"] != names["z"]
    assert all(name[0].startswith("a (") for name in names)
    assert set(collect_results(tmp_path / "runs" / "z").dataset) == {"a"}


def test_a_renamed_folder_is_the_same_set_and_other_images_of_its_name_are_not(tmp_path):
    root, result = start(tmp_path, "a")
    assert result.exit_code == 0, result.exception
    run, renamed = tmp_path / "r", root.rename(tmp_path / "b")
    assert call("train", "--resume", run, "--root", renamed, "--no-progress").exit_code == 0
    assert "trained on" not in call("evaluate", run, "--root", renamed, "--no-progress").output
    other = make_market_folder(tmp_path / "x" / "a", seed=1)
    assert "trained on other images called a" in call("evaluate", run, "--root", other, "--no-progress").output
    assert "the files of the data set" in str(call("train", "--resume", run, "--root", other).exception)


def test_a_notebook_is_not_given_a_run_on_other_images(tmp_path):
    one, other = (
        load_dataset("market-layout", make_market_folder(tmp_path / f / "a", seed=s)) for s, f in enumerate("xy")
    )
    run = tmp_path / "runs" / "ide-a-smoke-s0"
    train("ide", one, recipe_for("ide", "smoke"), run, device="cpu", preset="smoke", progress=False)
    options = {"runs": tmp_path / "runs", "preset": "smoke", "device": "cpu", "progress": False}
    assert obtain_run("ide", one, **options) == run
    with pytest.raises(TrainingError, match="other images"):
        obtain_run("ide", other, **options)


# ---------------------------------------------------------------- what is wrong
@pytest.mark.parametrize("split", ["bounding_box_train", "query", "bounding_box_test"])
def test_a_broken_image_is_found_before_training_without_a_cache_too(tmp_path, split):
    root = make_market_folder(tmp_path / "a")
    file = sorted((root / split).iterdir())[0]
    file.write_bytes(file.read_bytes()[:300])
    run = tmp_path / "r"
    order = ["train", "ide", "--dataset", "market-layout", "--root", root, *SMOKE, "--no-cache", "--run", run]
    assert file.name in str(call(*order, "--set", "num_ids=3").exception)
    assert not run.exists()  # so that the same command runs once the file is mended


def test_a_run_on_tables_of_your_own_says_how_to_go_on(trained, tmp_path):
    root, _ = trained
    ds = load_dataset("market-layout", root)
    own = ReIDDataset("own", ds.root, ds.train, ds.query, ds.gallery)
    train("ide", own, recipe_for("ide", "smoke", FAST), tmp_path / "r", device="cpu", preset="smoke", progress=False)
    for order in (["evaluate", tmp_path / "r"], ["train", "--resume", tmp_path / "r"]):  # not: Sidewalk rendered
        assert "in Python from tables of your own" in str(call(*order).exception)


def test_a_missing_data_set_is_asked_for_in_the_words_of_the_command_line(tmp_path):
    for name in ("market1501", "cuhk03-detected", "msmt17"):
        assert "--root FOLDER" in str(call("train", "ide", "--dataset", name, "--root", tmp_path, *SMOKE).exception)


@pytest.mark.parametrize(
    "entry",
    [
        {"num_classes": -5},
        {"source": 7},
        {"source": {"name": "market-layout"}},
        {"resolved": 5},
        {"resolved": {"model": 5}},
        {"root": 9},
        {"preset": None},
        {"level": 3},
        {"prior_tool": 4},
    ],
)
def test_an_entry_of_recipe_json_that_makes_no_sense_is_named(trained, tmp_path, entry):
    _, run = trained
    settings = json.loads((run / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps({**settings, **entry}))
    for order in (["evaluate", tmp_path], ["train", "--resume", tmp_path]):
        error = call(*order).exception
        assert isinstance(error, CheckpointError) and next(iter(entry)) in str(error)


def test_a_checkpoint_of_anything_else_is_named(trained, tmp_path):
    _, run = trained
    good = torch.load(run / "last.ckpt", weights_only=True)
    shutil.copy(run / "recipe.json", tmp_path)
    broken = [{**good, "rows": 5}, {k: v for k, v in good.items() if k != "optimizer"}, {**good, "model": {"a": 1}}]
    for content in ([1], {"version": 1}, {**good, "optimizer": {}}, *broken):
        torch.save(content, tmp_path / "last.ckpt")
        error = call("train", "--resume", tmp_path, "--no-progress").exception
        assert isinstance(error, CheckpointError) and "train from the start" in str(error), content


def test_a_set_to_test_on_needs_no_maps_of_its_training_images(tmp_path):
    one, other = (load_dataset("market-layout", make_market_folder(tmp_path / folder)) for folder in "ab")
    for table in (one.train, one.query, one.gallery):
        write_figures(one, table, FIGURES["lip"])
    for table in (other.query, other.gallery):
        write_figures(other, table, FIGURES["lip"])
    recipe = recipe_for("baseline-ub", "smoke", FAST)
    train("baseline-ub", one, recipe, tmp_path / "r", device="cpu", preset="smoke", progress=False)
    assert evaluate_run(tmp_path / "r", other, device="cpu", progress=False)["dataset"] == "b"


def test_rows_may_be_typed_with_spaces_but_not_be_none(trained, tmp_path, monkeypatch):
    root, _ = trained
    started = []
    monkeypatch.setattr("reidkit.training.suites._train_process", lambda path, _: started.append(path.name) or "")
    order = ["ablate", "mpn-table1", "--dataset", "market-layout", "--root", root, "--runs", tmp_path, "--seeds", 1]
    order += ["--set", "ide_init=false", "--set", "num_ids=3", "--preset", "smoke", "--no-progress"]
    assert "unknown row" in str(call(*order, "--only", "").exception) and not started
    assert call(*order, "--only", "baseline, mt-only").exit_code == 0
    assert [name.split("-ide_init")[0] for name in sorted(started)] == ["baseline", "mt-only"]
