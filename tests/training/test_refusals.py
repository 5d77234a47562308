"""What cannot be trained or tested is said before the first image is read."""

import shutil
import warnings
from dataclasses import replace

import pytest
from market_folder import make_market_folder
from market_runs import FAST, SMOKE, call, start

from reidkit.data import load_dataset
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.training import RunFolder, recipe_for, train
from reidkit.training.preflight import check_matches


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
