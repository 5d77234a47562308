"""Prior tables: reading map folders, the cache, resuming, stale rows, bad input."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reidkit.bench.priors import synthetic_maps
from reidkit.data.dataset import ReIDDataset
from reidkit.data.lip import LIP_COLOURS
from reidkit.errors import PriorError, ReIDKitError
from reidkit.priors import PriorTable, build_priors, coarse_prior, open_source, prior_quality, prior_sheet
from reidkit.priors import build as build_module
from reidkit.priors.files import FileMaps, read_parsing, read_segmentation
from reidkit.priors.labels import label_table


@pytest.fixture
def ds(tmp_path) -> ReIDDataset:
    """Twelve images of two sizes with maps: 6 train, 2 query, 2 gallery, a level "strong" of 1 + 1."""
    folders = ["train"] * 6 + ["query"] * 2 + ["gallery"] * 2 + ["query_strong", "gallery_strong"]
    names = [f"{folder}/{i:04d}_c1s1_000001_01.jpg" for i, folder in enumerate(folders)]
    maps = [*zip(*synthetic_maps(8, 64, 32)), *zip(*synthetic_maps(4, 70, 30, seed=1))]
    for name, (parsing, segmentation) in zip(names, maps):
        files = [tmp_path / name] + [tmp_path / f / Path(name).with_suffix(".png") for f in ("parsing", "segmentation")]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(LIP_COLOURS[parsing]).save(files[0])
        palette = Image.fromarray(parsing).convert("L")
        palette.putpalette(LIP_COLOURS.ravel().tolist())
        palette.save(files[1])
        Image.fromarray(segmentation.astype(np.uint8) * 255).save(files[2])

    def table(rows: slice) -> pd.DataFrame:
        return pd.DataFrame({"path": [str(tmp_path / n) for n in names[rows]], "pid": 1, "camid": 1})

    levels = {"strong": (table(slice(10, 11)), table(slice(11, 12)))}
    tables = (table(slice(0, 6)), table(slice(6, 8)), table(slice(8, 10)))
    return ReIDDataset("made", tmp_path, *tables, levels=levels, level="mild")


def build(ds, **keys) -> PriorTable:
    return build_priors(ds, **{"grid": (8, 4), "progress": False, **keys})


def files_of(ds, row=0) -> tuple[Path, Path]:
    """Parsing and segmentation file of a training image."""
    name = Path(ds.train.path[row]).relative_to(ds.root).with_suffix(".png")
    return ds.root / "parsing" / name, ds.root / "segmentation" / name


def test_table_holds_the_prior_of_every_image(ds):
    table = build(ds, splits="all")
    assert len(table) == 12 and table.grid == (8, 4) and table.reliable.all()
    assert table.manifest["images"] == 12 and table.manifest["unreliable"] == table.manifest["missing"] == 0
    for row, path in enumerate(table.paths):
        png = Path(path).with_suffix(".png")
        maps = np.array(Image.open(ds.root / "parsing" / png)), np.array(Image.open(ds.root / "segmentation" / png))
        prior = coarse_prior(maps[0], maps[1] > 0, (8, 4))
        assert np.array_equal(prior.mask, table.masks[row])
        assert (prior.top, prior.bottom) == pytest.approx((table.top[row], table.bottom[row]))
    assert (ds.root / "priors" / "sidewalk-8x4.npz").stat().st_size < 4000


def test_splits(ds):
    assert len(build(ds)) == 6
    assert len(build(ds, splits=("train", "query"))) == 8
    assert [p.split("/")[0] for p in build(ds, splits=("strong",)).paths] == ["query_strong", "gallery_strong"]
    assert len(build(ds.at_level("strong"), splits=("query", "gallery"))) == 2
    with pytest.raises(ReIDKitError, match="strong"):
        build(ds, splits=("strnog",))


def test_lookup_keeps_the_order_and_names_what_is_absent(ds):
    table = build(ds)
    batch = table.lookup([table.paths[4], table.paths[1]])
    assert batch.mask.shape == (2, 8, 4) and batch.mask.dtype.is_floating_point is False
    assert np.array_equal(batch.mask.numpy(), table.masks[[4, 1]])
    assert batch.top.tolist() == table.top[[4, 1]].tolist()
    with pytest.raises(PriorError, match=r"1 of 2.*query/x\.jpg.*splits"):
        table.lookup([table.paths[0], "query/x.jpg"])


def test_save_and_load(ds, tmp_path):
    table = build(ds)
    table.save(tmp_path / "deep" / "t.npz")
    other = PriorTable.load(tmp_path / "deep" / "t.npz")
    assert other.paths == table.paths and dict(other.manifest) == dict(table.manifest)
    for name in ("masks", "top", "bottom", "reliable", "stamps"):
        assert np.array_equal(getattr(other, name), getattr(table, name))
        assert getattr(other, name).dtype == getattr(table, name).dtype
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["t.npz"]  # no temporary file left


def test_names_that_are_not_utf8(ds):
    """Those of an archive that was packed on an old Windows."""
    name = os.fsdecode(b"caf\xe9.jpg")
    for file in (Path(ds.train.path[0]), *files_of(ds)):
        file.rename(file.with_name(name).with_suffix(file.suffix))
    odd = replace(ds, train=ds.train.assign(path=[str(ds.root / "train" / name), *ds.train.path[1:]]))
    table = build(odd)
    assert table.paths[0] == f"train/{name}" and table.reliable.all()
    assert PriorTable.load(ds.root / "priors" / "sidewalk-8x4.npz").paths == table.paths
    assert prior_sheet(odd, table).mode == "RGB"


class Counting:
    """Counts the images that are really read."""

    def __init__(self, monkeypatch):
        self.read = []
        original = FileMaps.maps
        monkeypatch.setattr(
            FileMaps, "maps", lambda source, paths: (self.read.extend(paths), original(source, paths))[1]
        )


def test_cache_is_used_extended_and_renewed_by_row(ds, monkeypatch):
    counter = Counting(monkeypatch)
    first = build(ds)
    assert len(counter.read) == 6
    again = build(ds)
    assert len(counter.read) == 6 and again.manifest["fingerprint"] == first.manifest["fingerprint"]
    build(ds, splits="all")
    assert len(counter.read) == 12  # only the six new ones
    parsing, _ = files_of(ds, 2)
    Image.fromarray(np.zeros((64, 32), np.uint8)).save(parsing)  # the tool ran again and found nothing
    os.utime(parsing, ns=(1, 1))
    changed = build(ds)
    assert counter.read[12:] == [first.paths[2]] and not changed.reliable[2]
    assert changed.manifest["fingerprint"] != first.manifest["fingerprint"] and changed.manifest["unreliable"] == 1
    assert len(PriorTable.load(ds.root / "priors" / "sidewalk-8x4.npz")) == 12
    build(ds, rebuild=True)
    assert len(counter.read) == 19


def test_other_settings_rebuild_with_a_warning(ds, tmp_path):
    build(ds, out=tmp_path / "p.npz")
    with pytest.warns(UserWarning, match=r"threshold was 0\.5, now 0\.3"):
        table = build(ds, out=tmp_path / "p.npz", threshold=0.3)
    assert table.manifest["threshold"] == 0.3
    (tmp_path / "p.npz").write_bytes((tmp_path / "p.npz").read_bytes()[:300])
    with pytest.raises(PriorError, match=r"p\.npz is not a whole prior table"):
        PriorTable.load(tmp_path / "p.npz")
    with pytest.warns(UserWarning, match="built anew"):
        assert len(build(ds, out=tmp_path / "p.npz")) == 6


def test_a_moved_data_set_keeps_its_cache(ds, tmp_path_factory, monkeypatch):
    build(ds)
    new = tmp_path_factory.mktemp("moved") / "set"
    ds.root.rename(new)
    paths = [path.replace(str(ds.root), str(new)) for path in ds.train.path]
    moved = replace(ds, root=new, train=ds.train.assign(path=paths))
    counter = Counting(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(build(moved)) == 6
    assert not counter.read


def test_truncated_map_is_named_and_nothing_is_lost(ds, monkeypatch):
    parsing, _ = files_of(ds, 4)
    whole = parsing.read_bytes()
    parsing.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PriorError, match=rf"{parsing.name}.*does not decode.*write it again"):
        build(ds, batch_size=2)
    assert len(PriorTable.load(ds.root / "priors" / "sidewalk-8x4.npz")) == 4
    parsing.write_bytes(whole)
    counter = Counting(monkeypatch)
    assert build(ds).reliable.all() and len(counter.read) == 2


def test_a_failing_rebuild_does_not_touch_the_cache(ds):
    build(ds)
    parsing, _ = files_of(ds, 0)
    parsing.write_bytes(parsing.read_bytes()[:50])
    with pytest.warns(UserWarning, match="built anew"), pytest.raises(PriorError, match="does not decode"):
        build(ds, threshold=0.3)
    assert PriorTable.load(ds.root / "priors" / "sidewalk-8x4.npz").manifest["threshold"] == 0.5


def test_an_empty_table_is_a_table(ds, tmp_path):
    build(ds).subset([]).save(tmp_path / "e.npz")
    assert len(PriorTable.load(tmp_path / "e.npz")) == 0


def test_interrupted_build_goes_on(ds, monkeypatch):
    original, calls = build_module.batch_table, []

    def interrupted(paths, *rest):
        calls.append(paths)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(paths, *rest)

    monkeypatch.setattr(build_module, "batch_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(ds, batch_size=2)
    build(ds, batch_size=2)
    assert len(calls) == 4 and calls[3] == calls[2]  # only the batch that was cut off is done again


@pytest.mark.parametrize("rebuild", [False, True])
def test_rows_that_another_process_adds_meanwhile_are_kept(ds, monkeypatch, rebuild):
    build(ds, splits=("strong",))
    whole = build_module.batch_table

    def meanwhile(*arguments):
        monkeypatch.setattr(build_module, "batch_table", whole)
        build(ds, splits=("query",))
        return whole(*arguments)

    monkeypatch.setattr(build_module, "batch_table", meanwhile)
    assert len(build(ds, rebuild=rebuild)) == 6
    held = {path.split("/")[0] for path in PriorTable.load(ds.root / "priors" / "sidewalk-8x4.npz").paths}
    assert held == {"train", "query", "query_strong", "gallery_strong"}  # the other one kept the first rows
    assert [p.name for p in (ds.root / "priors").iterdir()] == ["sidewalk-8x4.npz"]


def test_images_without_maps(ds):
    for row in (1, 3):
        files_of(ds, row)[1].unlink()
    with pytest.raises(PriorError, match=r"(?s)2 of 6 images have no maps.*0001_c1.*0003_c1.*missing=\"unreliable\""):
        build(ds)
    table = build(ds, missing="unreliable")
    assert table.missing == [table.paths[1], table.paths[3]]
    assert table.manifest["missing"] == table.manifest["unreliable"] == 2
    assert table.masks[1].all() and (table.top[1], table.bottom[1], table.reliable[1]) == (0, 1, False)
    with pytest.raises(PriorError, match="2 of 6"):  # the cache does not hide them
        build(ds)
    parsing, segmentation = files_of(ds, 1)
    Image.fromarray(np.array(Image.open(parsing)) > 0).save(segmentation)  # the map arrives: a 1-bit PNG
    assert build(ds, missing="unreliable").reliable.tolist() == [True, True, True, False, True, True]
    with pytest.raises(ReIDKitError, match="unreliable"):
        build(ds, missing="skip")


def test_maps_of_another_size_or_label_set(ds, tmp_path):
    parsing, segmentation = files_of(ds)
    labels = np.array(Image.open(parsing))
    Image.fromarray(labels[:-4]).save(parsing)
    with pytest.raises(PriorError, match=rf"{parsing}.*60x32.*64x32.*nearest"):
        build(ds)
    keys = {"tool": "files", "parsing_dir": parsing.parents[1], "segmentation_dir": segmentation.parents[1]}
    Image.fromarray(labels).save(parsing)
    with pytest.raises(PriorError, match=rf"{parsing}: label 18 .*'atr'.*label_set=\"lip\""):
        build(ds, **keys, label_set="atr")
    Image.fromarray(np.where(labels > 0, labels, 255).astype(np.uint8)).save(parsing)
    with pytest.raises(PriorError, match="label 255"):
        build(ds, **keys)
    Image.fromarray(LIP_COLOURS[labels]).save(parsing)
    with pytest.raises(PriorError, match=r"mode RGB.*indices, not colours"):
        build(ds, **keys)
    (segmentation.parents[1]).rename(tmp_path / "elsewhere")
    with pytest.raises(PriorError, match=r"segmentation: no such folder.*--segmentation DIR.*model.prior=uniform"):
        build(ds, tool="files", parsing_dir=parsing.parents[1])
    with pytest.raises(PriorError, match=r"nowhere: no such folder"):
        build(ds, **{**keys, "parsing_dir": tmp_path / "nowhere"})
    with pytest.raises(ReIDKitError, match="torchvision"):
        build(ds, tool="torchvison+segformer")


@pytest.mark.parametrize("label_set", ["atr", "pascal"])
def test_other_label_sets_are_converted(ds, label_set, tmp_path):
    table = label_table(label_set)
    for file in (ds.root / "parsing").rglob("*.png"):
        lip = np.array(Image.open(file))
        back = {2: 2, 13: 11, 5: 4, 9: 6, 18: 9} if label_set == "atr" else {2: 1, 13: 1, 5: 2, 9: 5, 18: 6}
        other = np.zeros_like(lip)
        for a, b in back.items():
            other[lip == a] = b
            assert (table[b] > 0) == (a > 0)
        target = tmp_path / label_set / file.relative_to(ds.root / "parsing")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(other).save(target)
    keys = {"parsing_dir": tmp_path / label_set, "segmentation_dir": ds.root / "segmentation"}
    assert np.array_equal(build(ds, tool="files", label_set=label_set, **keys).masks, build(ds).masks)


def test_ways_to_store_a_map(tmp_path):
    mask = np.eye(4, dtype=np.uint8)
    for name, image in {
        "index": Image.fromarray(mask),
        "white": Image.fromarray(mask * 255),
        "bit": Image.fromarray(mask > 0),
    }.items():
        image.save(tmp_path / f"{name}.png")
        assert np.array_equal(read_segmentation(tmp_path / f"{name}.png"), mask > 0), name
    Image.fromarray(mask * 51).save(tmp_path / "soft.png")
    assert read_segmentation(tmp_path / "soft.png").max() == pytest.approx(0.2)
    palette = Image.fromarray(mask * 15)
    palette.putpalette([7, 8, 9] * 256)  # colours are not looked at
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_segmentation(tmp_path / "palette.png"), mask > 0)
    assert np.array_equal(read_parsing(tmp_path / "palette.png"), mask * 15)
    assert np.array_equal(read_parsing(tmp_path / "palette.png", "atr"), mask * label_table("atr")[15])


def test_contact_sheet(ds):
    files_of(ds)[1].unlink()
    table = build(ds, missing="unreliable")
    quality = prior_quality(table)
    assert quality[0] == 0 and (quality[1:] > 0).all() and (quality <= 1).all()
    plain = prior_sheet(ds, table, count=2)
    full = prior_sheet(ds, table, count=2, source=open_source(ds, "sidewalk"))
    assert full.width > plain.width and full.mode == "RGB"
    assert len(np.unique(np.asarray(full).reshape(-1, 3), axis=0)) > 20
    with pytest.raises(PriorError, match="empty"):
        prior_sheet(ds, table.subset([]))
