"""What cannot be trained or tested is said before the first image is read."""

import os
import shutil
import warnings
from dataclasses import replace

import pytest
from map_folders import FIGURES, write_figures
from market_folder import make_market_folder
from market_runs import FAST, SMOKE, call, start
from PIL import Image

from reidkit.data import load_dataset
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.training import RunFolder, recipe_for, train
from reidkit.training.preflight import check_matches
from reidkit.training.suites import Entry, run_suite


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


def test_a_copy_of_a_query_in_the_gallery_is_told_without_the_camera_rule(tmp_path):
    root = make_market_folder(tmp_path / "a")
    query = root / "query" / "0101_c1s1_000001_00.jpg"
    shutil.copy(query, root / "bounding_box_test" / "0101_c1s1_000009_01.jpg")
    ds = load_dataset("market-layout", root=root)
    with pytest.warns(UserWarning, match=f"a: 1 queries are in the gallery too.*{query.name}"):
        check_matches(ds, camera_rule=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_matches(ds, camera_rule=True)  # it is of the query's own camera


def test_no_shared_person_is_said_before_the_training(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "a"))
    strangers = replace(ds, gallery=ds.gallery.assign(pid=7))
    with pytest.raises(DatasetError, match="none of their people are in the gallery"):
        train("ide", strangers, recipe_for("ide", "smoke", FAST), tmp_path / "r", device="cpu")


@pytest.mark.parametrize(
    "name,settings,words",
    [
        ("baseline", {"size": (100, 48)}, "no multiple of 8"),
        ("mpn", {"num_ids": 99}, "choose P"),
        ("cgpn", {"size": (8, 8)}, "too low for 2 stripes"),
        ("mt-only", {"loss.alignment": "class"}, "mt-only does not have both"),
        ("cgpn", {"loss.alignment": "sample-triplet", "loss.triplet": "embedding"}, "cgpn does not have both"),
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


def test_a_run_folder_whose_weights_could_not_be_read_is_refused(sidewalk_tiny, tmp_path):
    run = tmp_path / os.fsdecode(b"caf\xe9") / "r"
    with pytest.raises(ReIDKitError, match=r"caf.*is not UTF-8.*--run"):
        train("ide", sidewalk_tiny, recipe_for("ide", "smoke", FAST), run, device="cpu", preset="smoke", progress=False)
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("damage", ["text", "size"])
def test_a_map_that_cannot_be_used_is_found_before_the_ide_is_trained(tmp_path, damage):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "a"))
    write_figures(ds, ds.train, FIGURES["lip"])
    bad = sorted((tmp_path / "a" / "parsing").rglob("*.png"))[3]
    if damage == "text":
        bad.write_text("no picture")
    else:
        Image.new("L", (5, 9)).save(bad)
    recipe = recipe_for("mpn-no-ca", "smoke", {**FAST, "ide_init": True})
    with pytest.raises(ReIDKitError, match=bad.stem):
        train("mpn-no-ca", ds, recipe, tmp_path / "runs" / "r", device="cpu", preset="smoke", progress=False)
    assert list((tmp_path / "runs").glob("*")) == []
    order = ["--dataset", "market-layout", "--root", str(tmp_path / "a"), "--device", "cpu", "--no-progress"]
    rows, changes = (Entry("mpn-no-ca"), Entry("mpn")), {k: v for k, v in FAST.items() if k != "ide_init"}
    how = {"seeds": [0], "preset": "smoke", "settings": changes, "progress": False}
    report = run_suite(rows, ds, order, tmp_path / "suite", **how)
    assert not report.finished and len(report.failed) == 2 and all(bad.stem in why for why in report.failed.values())
    assert not list((tmp_path / "suite").glob("*/metrics.csv"))


@pytest.mark.parametrize("setting", ["batches_per_epoch", "translation_copies"])
def test_a_number_that_no_memory_holds_is_refused(setting):
    with pytest.raises(ReIDKitError, match=f"{setting}.*at least 1, at most 1,000"):
        recipe_for("ide", "smoke", {setting: 10**12})
