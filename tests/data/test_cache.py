"""The cache of decoded images: pixels, staleness, interrupted builds, several processes."""

import multiprocessing
import os

import numpy as np
import pytest
import torch
from market_folder import make_market_folder

import reidkit.data.cache as cache_module
from reidkit.data import load_dataset
from reidkit.data.cache import ImageCache
from reidkit.data.images import read_image, relative_paths
from reidkit.errors import DatasetError

SIZE = (24, 8)


@pytest.fixture
def ds(tmp_path):
    return load_dataset("market1501", root=make_market_folder(tmp_path / "market"))


@pytest.fixture
def reads(monkeypatch):
    """The paths that were decoded."""
    seen = []

    def counted(path, size, interpolation):
        seen.append(path)
        return read_image(path, size, interpolation)

    monkeypatch.setattr(cache_module, "read_image", counted)
    return seen


def build(ds, path, **options):
    return ImageCache.build(ds.train, ds.root, SIZE, path, progress=False, **options)


@pytest.mark.parametrize("workers", [0, 3])
def test_pixels_are_those_of_the_files(ds, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(cache_module, "CHUNK", 5)
    cache = build(ds, tmp_path / "c.u8", workers=workers)
    assert cache.images.shape == (24, 3, *SIZE) and cache.images.dtype == torch.uint8 and len(cache) == 24
    rows = cache.rows(relative_paths(ds.train.path[::-1], ds.root))
    for row, path in zip(rows, ds.train.path[::-1]):
        assert np.array_equal(cache.images[row].numpy(), read_image(path, SIZE))
    assert torch.equal(cache.to("cpu").images, cache.images)


def test_is_built_once(ds, tmp_path, reads):
    build(ds, tmp_path / "c.u8")
    build(ds, tmp_path / "c.u8")
    assert len(reads) == 24
    assert sorted(p.name for p in tmp_path.glob("c.u8*")) == ["c.u8"]


def test_a_row_that_comes_twice_is_kept_once(ds, tmp_path, reads):
    double = ds.train.loc[[0, 1, 0, 1]]
    assert len(ImageCache.build(double, ds.root, SIZE, tmp_path / "c.u8", progress=False)) == 2 == len(reads)


def change_one(ds):
    os.utime(ds.train.path[0], ns=(1, 1))
    return ds


def remove_one(ds):
    os.unlink(ds.train.path[0])
    return load_dataset("market1501", root=ds.root)


@pytest.mark.parametrize("change", [change_one, remove_one])
def test_a_stale_cache_is_noticed_and_rebuilt(ds, tmp_path, change, reads):
    build(ds, tmp_path / "c.u8")
    ds = change(ds)
    with pytest.raises(DatasetError, match=r"stale: fingerprint.*ImageCache.build"):
        ImageCache.open(tmp_path / "c.u8", ds.train, ds.root, SIZE)
    assert len(build(ds, tmp_path / "c.u8")) == len(ds.train)
    assert len(ImageCache.open(tmp_path / "c.u8", ds.train, ds.root, SIZE)) == len(ds.train)
    assert len(reads) == 24 + len(ds.train)


def test_open_says_what_differs(ds, tmp_path):
    with pytest.raises(DatasetError, match="no image cache"):
        ImageCache.open(tmp_path / "c.u8", ds.train, ds.root, SIZE)
    build(ds, tmp_path / "c.u8")
    with pytest.raises(DatasetError, match="stale: size, interpolation differ"):
        ImageCache.open(tmp_path / "c.u8", ds.train, ds.root, (8, 8), "bicubic")


def test_damaged_files(ds, tmp_path, reads):
    path = tmp_path / "c.u8"
    build(ds, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="wrong length"):
        ImageCache.open(path, ds.train, ds.root, SIZE)
    assert len(build(ds, path)) == 24 and len(reads) == 48  # cut off: built again
    path.write_bytes(b"something else")
    assert len(build(ds, path)) == 24 and len(reads) == 72
    damaged = bytearray(path.read_bytes())
    start = len(cache_module.MAGIC)
    damaged[start : start + 8] = b"\xff" * 8
    path.write_bytes(damaged)  # a header that is longer than any file
    assert len(build(ds, path)) == 24 and len(reads) == 96


@pytest.mark.parametrize("extra_bytes", [0, 100])
def test_an_interrupted_build_goes_on(ds, tmp_path, monkeypatch, extra_bytes):
    """Stop after 10 images (and part of the 11th); the second build decodes the other 14 only."""
    monkeypatch.setattr(cache_module, "CHUNK", 5)
    reads = []

    def read(path, size, interpolation):
        if len(reads) == 10 and not (tmp_path / "go").exists():
            raise KeyboardInterrupt
        reads.append(path)
        return read_image(path, size, interpolation)

    monkeypatch.setattr(cache_module, "read_image", read)
    with pytest.raises(KeyboardInterrupt):
        build(ds, tmp_path / "c.u8")
    assert not (tmp_path / "c.u8").exists()
    with open(tmp_path / "c.u8.part", "ab") as file:
        file.write(b"\0" * extra_bytes)
    (tmp_path / "go").touch()
    cache = build(ds, tmp_path / "c.u8")
    assert reads == ds.train.path.tolist()
    assert all(np.array_equal(i.numpy(), read_image(p, SIZE)) for i, p in zip(cache.images, ds.train.path))


def test_an_image_that_does_not_decode_is_named(ds, tmp_path):
    with open(ds.train.path[7], "wb"):
        pass
    with pytest.raises(DatasetError, match=r"0003_c2s1_000001_01\.jpg"):
        build(ds, tmp_path / "c.u8", workers=2)
    assert not (tmp_path / "c.u8").exists()


def test_a_full_disk_is_one_clear_line(ds, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DatasetError, match="make room, name another folder"):
        build(ds, tmp_path / "c.u8")


def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(ds, tmp_path, monkeypatch, reads):
    def full(file):
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(DatasetError, match=r"c\.u8: No space left.*make room.*--no-cache"),
    ):
        patch.setattr(cache_module.os, "fsync", full)
        build(ds, tmp_path / "c.u8")
    assert len(reads) == 24 and sorted(p.name for p in tmp_path.glob("*c.u8*")) == ["c.u8.part"]
    assert len(build(ds, tmp_path / "c.u8")) == 24 and len(reads) == 24  # what is decoded is kept


def test_a_folder_that_cannot_be_written(ds, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="name another folder"):
        build(ds, tmp_path / "file" / "c.u8")


def test_default_places(ds):
    train = ImageCache.for_split(ds, "train", SIZE, progress=False)
    again = ImageCache.for_table(ds.train, ds.root, SIZE, progress=False)
    assert len(train) == 24 and torch.equal(train.images, again.images)
    ImageCache.for_table(ds.train[:5], ds.root, SIZE, progress=False)
    with pytest.raises(DatasetError, match="no rows"):
        ImageCache.for_table(ds.train[:0], ds.root, SIZE)
    names = sorted(p.name for p in (ds.root / "cache").glob("*.u8"))
    assert len(names) == 2 and all(n.startswith("bounding_box_train-24x8-") for n in names)
    assert len(load_dataset("market1501", root=ds.root).train) == 24  # the folder does not disturb the parser


def test_writing_into_the_images_does_not_reach_the_file(ds, tmp_path):
    cache = build(ds, tmp_path / "c.u8")
    before = (tmp_path / "c.u8").read_bytes()
    cache.images[0] = 0
    assert (tmp_path / "c.u8").read_bytes() == before


def _build_in_process(root, path, queue):
    calls = []
    original = cache_module._write
    cache_module._write = lambda *a: (calls.append(1), original(*a))
    ds = load_dataset("market1501", root=root)
    queue.put((len(calls), int(build(ds, path).images.long().sum()), len(calls)))


def test_several_processes_build_one_cache(ds, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_build_in_process, args=(ds.root, tmp_path / "c.u8", queue)) for _ in range(3)]
    for p in processes:
        p.start()
    results = [queue.get(timeout=600) for _ in processes]
    for p in processes:
        p.join()
    expected = sum(int(read_image(path, SIZE).astype(int).sum()) for path in ds.train.path)
    assert {total for _, total, _ in results} == {expected}
    assert sum(written for _, _, written in results) == 1  # one built, the others waited
