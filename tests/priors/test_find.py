"""Before a training: are the priors of this grid there, or can they be made? Stale priors, and the one clear error."""

import os
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from map_folders import FIGURES, figure, write_figures, write_map
from market_folder import make_market_folder

from reidkit.data import load_dataset
from reidkit.errors import PriorError, UnknownNameError
from reidkit.priors import PriorTable, build_command, build_priors, default_file, find_priors, require_priors
from reidkit.priors.files import FileMaps
from reidkit.priors.find import make_priors, prior_work

GRID = (8, 4)


@pytest.fixture
def ds(tmp_path):
    return load_dataset("market-layout", root=make_market_folder(tmp_path / "set"))


@pytest.fixture
def maps(ds, tmp_path) -> dict[str, Path]:
    """Maps of the training images in a folder elsewhere."""
    write_figures(ds, ds.train, FIGURES["lip"], tmp_path / "maps")
    return {"parsing_dir": tmp_path / "maps" / "parsing", "segmentation_dir": tmp_path / "maps" / "segmentation"}


def build(ds, grid=GRID, **keys) -> PriorTable:
    return build_priors(ds, "files", grid=grid, progress=False, **keys)


def find(ds, grid=GRID, **keys) -> PriorTable:
    return find_priors(ds, "files", grid=grid, progress=False, **keys)


def redraw(ds, table, folder: Path, labels) -> None:
    """The parser ran again: new maps with new dates."""
    write_figures(ds, table, labels, folder)
    for kind in ("parsing", "segmentation"):
        for image in table.path:
            os.utime(folder / kind / Path(image).relative_to(ds.root).with_suffix(".png"), ns=(1, 1))


def test_one_error_says_what_is_needed_what_is_there_and_what_to_type(ds, maps):
    build(ds, grid=(6, 2), **maps)
    with pytest.raises(PriorError) as caught:
        require_priors(ds, "files", grid=(24, 8), splits=("train", "query"))
    text = str(caught.value)
    assert "grid 24x8" in text and "tool 'files'" in text
    assert "train: 24 of 24 images have no maps" in text and "query: 2 of 2 images have no maps" in text
    assert re.search(r"files-6x2\.npz \(tool files, grid 6x2, 24 images\)", text)
    command = (
        f"reidkit priors build market-layout --root {ds.root} --grid 24x8 --splits train,query "
        f"--parsing {maps['parsing_dir']} --segmentation {maps['segmentation_dir']}"
    )
    assert command in text
    assert "mt-only" in text and "--set model.prior=uniform" in text
    with pytest.raises(PriorError) as same:
        find(ds, grid=(24, 8), splits=("train", "query"))
    assert str(same.value) == text


def test_the_work_that_is_left_is_counted_and_then_done(ds, maps):
    """Of maps that are named, of a file that holds some of them, of maps that were drawn anew."""
    assert prior_work(ds, "files", grid=GRID, maps=maps) == (24, 24)
    with pytest.raises(PriorError, match="have no maps"):
        prior_work(ds, "files", grid=GRID)
    made = make_priors(ds, "files", grid=GRID, maps=maps, progress=False)
    assert len(made) == 24 and prior_work(ds, "files", grid=GRID, maps=maps) == (24, 0)
    assert prior_work(ds, "files", grid=GRID) == (24, 0)
    redraw(ds, ds.train[:5], maps["parsing_dir"].parent, FIGURES["lip"])
    assert prior_work(ds, "files", grid=GRID) == (24, 5)
    with pytest.warns(UserWarning, match="the maps of 5 of 24 images have changed"):
        again = make_priors(ds, "files", grid=GRID, progress=False)
    assert again.digest() == made.digest() and len(again) == 24


def test_without_any_file_the_command_leaves_the_folders_open(ds):
    with pytest.raises(PriorError, match=r"(?s)none in .*priors.*--splits train --parsing DIR --segmentation DIR"):
        require_priors(ds, "files", grid=GRID)
    with pytest.raises(UnknownNameError, match="files"):
        require_priors(ds, "fils", grid=GRID)
    with pytest.raises(UnknownNameError, match="train"):
        require_priors(ds, "files", grid=GRID, splits=("trian",))


def test_no_map_is_decoded_before_it_is_needed(ds, monkeypatch):
    write_figures(ds, ds.train, FIGURES["lip"])
    monkeypatch.setattr(FileMaps, "maps", lambda *_: pytest.fail("a map was decoded"))
    require_priors(ds, "files", grid=GRID)
    monkeypatch.undo()
    assert find(ds).reliable.all()
    split_by_split = r"(?s)train: 0 of 24.*query: 2 of 2.*gallery: 6 of 6(?!.*test:).*--splits all"
    with pytest.raises(PriorError, match=split_by_split):
        require_priors(ds, "files", grid=GRID, splits="all")


def test_a_single_map_that_is_missing_is_counted(ds):
    write_figures(ds, ds.train, FIGURES["lip"])
    (ds.root / "segmentation" / Path(ds.train.path[3]).relative_to(ds.root).with_suffix(".png")).unlink()
    with pytest.raises(PriorError, match=r"train: 1 of 24 images have no maps"):
        require_priors(ds, "files", grid=GRID)


@pytest.mark.parametrize("place", ["deeper", "higher", "flat", "above the set"])
def test_maps_one_level_away_are_pointed_at(ds, place):
    root = Path(ds.root)
    target = {
        "deeper": root / "parsing" / "schp",
        "higher": root,
        "flat": root / "parsing",
        "above the set": root.parent / "parsing",
    }[place]
    (root / "parsing").mkdir(exist_ok=True)
    for image in ds.train.path:
        name = Path(image).name if place == "flat" else image
        write_map(target, root, str(root / name), figure(*FIGURES["lip"]))
        write_map(root / "segmentation", root, image, (figure(*FIGURES["lip"]) > 0).astype(np.uint8))
    with pytest.raises(PriorError) as caught:
        require_priors(ds, "files", grid=GRID)
    text = str(caught.value)
    if place == "flat":
        assert f"to {root / 'parsing' / 'bounding_box_train'}" in text
    else:
        assert f"the parsing maps lie in {target}" in text and f"--parsing {target} " in text.splitlines()[-2] + " "
    with pytest.raises(PriorError, match="bounding_box_train" if place == "flat" else re.escape(str(target))):
        build(ds)
    if place != "flat":
        assert len(build(ds, parsing_dir=target)) == 24  # the hint is right


def test_a_built_file_is_used_from_whatever_folders(ds, maps):
    built = build(ds, **maps)
    require_priors(ds, "files", grid=GRID)
    assert np.array_equal(find(ds).masks, built.masks)
    shutil.rmtree(maps["parsing_dir"].parent)  # the maps were deleted since: nothing to compare with
    require_priors(ds, "files", grid=GRID)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(find(ds).masks, built.masks)
    with pytest.raises(PriorError, match="query: 2 of 2"):
        find(ds, splits=("train", "query"))


@pytest.mark.parametrize("inside", [True, False])
def test_stale_priors_are_made_again(ds, maps, tmp_path, inside):
    folder = Path(ds.root) if inside else tmp_path / "maps"
    if inside:
        write_figures(ds, ds.train, FIGURES["lip"])
        build(ds)
    else:
        build(ds, **maps)
    assert find(ds).reliable.all()
    redraw(ds, ds.train[:10], folder, (0, 5, 9, 18))  # no head any more
    with pytest.warns(UserWarning, match="the maps of 10 of 24 images have changed"):
        table = find(ds)
    assert (~table.reliable).sum() == 10 and not table.reliable[:10].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(find(ds).reliable, table.reliable)  # kept in the file
    redraw(ds, ds.train, folder, FIGURES["atr"])  # and with the wrong labels the old file stays
    with pytest.warns(UserWarning, match="24 of 24"), pytest.raises(PriorError, match='label_set="atr"'):
        find(ds)
    assert PriorTable.load(default_file(ds, "files", GRID)).reliable.sum() == 14


def test_thresholds_and_label_set_of_the_built_file_hold_for_what_is_made_again(ds, tmp_path):
    write_figures(ds, ds.train, FIGURES["pascal"], tmp_path / "maps")
    keys = {f"{kind}_dir": tmp_path / "maps" / kind for kind in ("parsing", "segmentation")}
    first = build(ds, **keys, label_set="pascal", threshold=0.2)
    redraw(ds, ds.train[:5], tmp_path / "maps", FIGURES["pascal"])
    with pytest.warns(UserWarning, match="5 of 24"):
        again = find(ds)
    assert np.array_equal(again.masks, first.masks) and again.manifest["threshold"] == 0.2
    write_figures(ds, ds.query, FIGURES["pascal"], tmp_path / "maps")  # the maps of a further split arrive
    require_priors(ds, "files", grid=GRID, splits=("train", "query"))
    assert find(ds, splits=("train", "query")).reliable.all()
    with pytest.raises(PriorError, match=r"--segmentation \S+ --label-set pascal"):
        require_priors(ds, "files", grid=GRID, splits=("gallery",))


def test_images_counted_as_unreliable_on_request_stay_so(ds, maps):
    (maps["parsing_dir"] / Path(ds.train.path[0]).relative_to(ds.root).with_suffix(".png")).unlink()
    with pytest.raises(PriorError, match="1 of 24"):
        build(ds, **maps)
    build(ds, **maps, missing="unreliable")
    require_priors(ds, "files", grid=GRID)
    assert find(ds).missing == ["bounding_box_train/0002_c1s1_000000_01.jpg"]
    shutil.rmtree(maps["parsing_dir"])
    maps["parsing_dir"].mkdir()
    with pytest.raises(PriorError, match="24 of 24"):  # all of them missing is a wrong folder
        build(ds, **maps, missing="unreliable", rebuild=True)


def test_a_cache_folder_keeps_the_data_set_as_it_is(tmp_path):
    root = make_market_folder(tmp_path / "set")
    ds = load_dataset("market-layout", root=root, cache_dir=tmp_path / "cache")
    write_figures(ds, ds.train, FIGURES["lip"])
    assert find(ds).reliable.all()
    assert not (root / "priors").exists() and default_file(ds, "files", GRID).is_relative_to(tmp_path / "cache")
    with pytest.raises(PriorError, match=rf"--cache-dir {tmp_path / 'cache'} --grid 6x3"):
        require_priors(ds, "files", grid=(6, 3), splits="query")
    plain = load_dataset("market-layout", root=root)
    build(plain)  # a file beside the images is found too
    shutil.rmtree(tmp_path / "cache")
    require_priors(ds, "files", grid=GRID)
    assert find(ds).reliable.all() and not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_is_named_before_any_map_is_read(ds, monkeypatch):
    write_figures(ds, ds.train, FIGURES["lip"])
    (ds.root / "priors").write_text("in the way")
    monkeypatch.setattr(FileMaps, "maps", lambda *_: pytest.fail("a map was decoded"))
    for call in (require_priors, find_priors, build_priors):
        with pytest.raises(PriorError, match=r"cannot be written.*--cache-dir DIR.*--out FILE"):
            call(ds, "files", grid=GRID)


@pytest.mark.filterwarnings("ignore:the maps of 24")  # they are written anew for each spelling
def test_relative_and_linked_roots(tmp_path, monkeypatch):
    root = make_market_folder(tmp_path / "disk" / "set")
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    for spelt in ("link", "disk/set", "disk/../link"):
        ds = load_dataset("market-layout", root=spelt)
        write_figures(ds, ds.train, FIGURES["lip"])
        assert find(ds).reliable.all()
    linked = replace(ds, root=tmp_path / "link")  # paths spelt one way, the root another
    assert find(linked).reliable.all()
    monkeypatch.chdir("/")
    assert find(load_dataset("market-layout", root=tmp_path / "link")).reliable.all()


def test_a_map_folder_that_is_a_link_to_other_maps_today(ds, tmp_path):
    for name, labels in (("old", FIGURES["lip"]), ("new", (0, 5, 9, 18))):
        write_figures(ds, ds.train, labels, tmp_path / name)
    for kind in ("parsing", "segmentation"):
        (ds.root / kind).symlink_to(tmp_path / "old" / kind)
    assert build(ds).reliable.all()
    for kind in ("parsing", "segmentation"):
        (ds.root / kind).unlink()
        (ds.root / kind).symlink_to(tmp_path / "new" / kind)
    with pytest.warns(UserWarning, match="24 of 24"):
        assert not find(ds).reliable.any()


def test_sidewalk_needs_no_file(sidewalk_tiny, tmp_path):
    ds = replace(sidewalk_tiny, cache_dir=tmp_path)
    require_priors(ds, "sidewalk", grid=(12, 4), splits="all")
    table = find_priors(ds, "sidewalk", grid=(12, 4), splits="all", progress=False)
    assert table.grid == (12, 4) and 0.5 < table.reliable.mean() < 1
    command = build_command(ds, "sidewalk", (12, 4), "all")
    assert f"build sidewalk --root {ds.root.parent} --size tiny" in command and "--tool sidewalk" in command


def test_a_file_on_another_grid_than_its_name_is_not_taken(ds, maps):
    build(ds, grid=(6, 2), **maps).save(default_file(ds, "files", GRID))
    with pytest.raises(PriorError, match=r"files-8x4\.npz \(tool files, grid 6x2"):
        find(ds)
