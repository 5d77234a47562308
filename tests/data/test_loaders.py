"""Loaders: decoding, batches, priors by path, workers, resuming, broken files."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from market_folder import make_market_folder
from PIL import Image

from reidkit.data import load_dataset
from reidkit.data.cache import ImageCache
from reidkit.data.images import decode, read_image, relative_path, relative_paths
from reidkit.data.loaders import test_batches as batches_of
from reidkit.data.loaders import train_loader
from reidkit.data.prior import PriorBatch
from reidkit.data.transforms import translate_images
from reidkit.errors import DatasetError, PriorError, TrainingError, UnknownNameError

SIZE = (24, 8)
SETTINGS = {"size": SIZE, "num_ids": 2, "num_instances": 2, "seed": 0}


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    return load_dataset("market1501", root=make_market_folder(tmp_path_factory.mktemp("market")))


class Priors:
    """Stands in for reidkit.priors.PriorTable: `top` of an image is its place in the table / 100."""

    def __init__(self, ds, grid=(6, 2)):
        self.names = relative_paths(ds.train.path, ds.root)
        self.masks = torch.rand(len(self.names), *grid, generator=torch.Generator().manual_seed(0)) < 0.5

    def lookup(self, paths):
        missing = set(paths) - set(self.names)
        if missing:
            raise PriorError(f"no prior of {missing}")
        i = torch.tensor([self.names.index(p) for p in paths])
        return PriorBatch(self.masks[i], i / 100, 0.5 + i / 100, torch.ones(len(i), dtype=torch.bool))


def same(a, b):
    keys = ("images", "labels", "camids", "index")
    return len(a) == len(b) and all(torch.equal(getattr(x, k), getattr(y, k)) for x, y in zip(a, b) for k in keys)


def test_training_batches(ds):
    loader = train_loader(ds, **SETTINGS)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    for b in batches:
        assert b.images.dtype == torch.uint8 and b.images.shape == (4, 3, *SIZE) and b.prior is None
        rows = ds.train.iloc[b.index.numpy()]
        assert torch.equal(b.labels, torch.tensor(ds.train_labels()[b.index.numpy()]))
        assert b.camids.tolist() == rows.camid.tolist()
        for image, path in zip(b.images, rows.path):
            slow = Image.open(path).convert("RGB").resize((8, 24), Image.Resampling.BILINEAR)
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(slow))


def test_test_batches_keep_the_order(ds):
    loader = batches_of(ds.gallery, size=SIZE, batch_size=4, interpolation="bicubic")
    batches = list(loader)
    assert [len(b) for b in batches] == [4, 2] and len(loader) == 2
    assert torch.cat([b.labels for b in batches]).tolist() == ds.gallery.pid.tolist()
    assert torch.cat([b.index for b in batches]).tolist() == list(range(6))
    assert np.array_equal(batches[0].images[0].numpy(), read_image(ds.gallery.path[0], SIZE, "bicubic"))
    assert same(list(loader), batches)


def test_labels_are_optional_in_tests(ds):
    """Integers are labels, missing or not; anything else is -1, and the table keeps what it held."""
    q, n = ds.query, len(ds.query)
    some = [int(q.pid[0])] + [None] * (n - 1)
    for pid, expected in (
        (q.pid, q.pid.tolist()),
        ("anna", [-1] * n),
        (q.pid + 0.5, [-1] * n),
        (pd.array(some, dtype="Int64"), [some[0]] + [-1] * (n - 1)),
        (pd.Series(some, dtype=object), [some[0]] + [-1] * (n - 1)),
        (q.pid.astype(object), q.pid.tolist()),
        (q.pid.astype("uint8"), q.pid.tolist()),
    ):
        loader = batches_of(q[["path"]].assign(pid=pid), size=SIZE, batch_size=4)
        batches = list(loader)
        assert torch.cat([b.labels for b in batches]).tolist() == expected
        assert torch.cat([b.camids for b in batches]).tolist() == [-1] * n
        assert loader.table.pid.equals(q.assign(pid=pid).pid)
    for images in (q.path.tolist(), q[["path"]]):
        bare = list(batches_of(images, size=SIZE, batch_size=4))
        assert all((b.labels == -1).all() and (b.camids == -1).all() for b in bare)
        assert all(torch.equal(a.images, b.images) for a, b in zip(bare, batches, strict=True))


def test_workers_and_the_cache_change_nothing(ds, tmp_path):
    cache = ImageCache.build(ds.train, ds.root, SIZE, tmp_path / "train.u8", progress=False)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for copies in (1, 3):
        plain = list(train_loader(ds, **SETTINGS, translation_copies=copies))
        assert same(plain, list(train_loader(ds, **SETTINGS, translation_copies=copies, cache=cache)))
        assert same(plain, list(train_loader(ds, **SETTINGS, translation_copies=copies, workers=2)))
    assert torch.equal(state, torch.get_rng_state())  # nobody touched the global random numbers
    assert same(
        list(batches_of(ds.train, size=SIZE, batch_size=7)),
        list(batches_of(ds.train, size=SIZE, batch_size=7, cache=cache)),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_in_mid_epoch(ds, workers):
    """Workers fetch ahead; the state counts what was handed out."""
    whole = list(train_loader(ds, **SETTINGS))
    first = train_loader(ds, **SETTINGS, workers=workers)
    got = [next(iter(first))]
    second = train_loader(ds, **SETTINGS, workers=workers)
    second.sampler.load_state_dict(first.sampler.state_dict())
    second.sampler.set_epoch(0)
    assert same(got + list(second), whole)
    assert second.sampler.state_dict()["epoch"] == 1


def test_priors_follow_their_images(ds):
    priors = Priors(ds)
    for b in train_loader(ds, **SETTINGS, priors=priors):
        assert torch.equal(b.prior.mask, priors.masks[b.index]) and torch.equal(b.prior.top, b.index / 100)
    with pytest.raises(PriorError):
        batches_of(ds.query, size=SIZE, batch_size=2, priors=priors, root=ds.root)
    with pytest.raises(DatasetError, match="root="):
        batches_of(ds.train, size=SIZE, batch_size=2, priors=priors)
    moved = next(iter(batches_of(ds.train, size=SIZE, batch_size=2, priors=priors, root=ds.root))).to("cpu")
    assert moved.prior.top.tolist() == pytest.approx([0.0, 0.01])


def test_translated_copies_move_image_and_prior(ds):
    priors = Priors(ds)
    loader = train_loader(ds, **SETTINGS, priors=priors, translation_copies=5, mode="independent")
    assert len(loader.table) == 5 * len(ds.train) and len(loader) == 5 * len(ds.train) // 4
    moved = 0
    for b in loader:
        rows = loader.table.iloc[b.index.numpy()]
        original = torch.stack([torch.from_numpy(read_image(p, SIZE)) for p in rows.path])
        dx, dy = (torch.tensor(rows[c].to_numpy(), dtype=torch.float32) for c in ("dx", "dy"))
        assert torch.equal(b.images, translate_images(original, dx, dy))
        expected = priors.lookup(relative_paths(rows.path, ds.root)).translate(dx, dy)
        assert all(map(torch.equal, b.prior, expected))
        moved += int((b.images != original).any())
    assert moved


def test_processes_share_an_epoch(ds):
    parts = [list(train_loader(ds, **SETTINGS, rank=r, world_size=3)) for r in range(3)]
    assert [len(p) for p in parts] == [1, 1, 1]
    labels = torch.cat([b.labels for p in parts for b in p])
    assert len(labels.unique()) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_does_not_decode_is_named(tmp_path, workers):
    ds = load_dataset("market1501", root=make_market_folder(tmp_path))
    bad = ds.train.path[3]
    with open(bad, "r+b") as file:
        file.truncate(200)
    with pytest.raises(DatasetError) as caught:
        list(train_loader(ds, **SETTINGS, workers=workers, batches_per_epoch=30))
    assert bad in str(caught.value) and "reidkit data check" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_broken_files(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(DatasetError, match=r"x\.jpg"):
        decode(tmp_path / "x.jpg")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DatasetError, match="FileNotFoundError"):
        decode(tmp_path / "no.jpg")
    with pytest.raises(DatasetError):
        decode(tmp_path)


def test_relative_paths_see_through_links(ds, tmp_path):
    """A folder may be spelt in two ways; an image that is itself a link keeps its own name."""
    link = tmp_path / "link"
    link.symlink_to(ds.root)
    expected = relative_paths(ds.train.path, ds.root)
    assert expected[0].startswith("bounding_box_train/")
    assert relative_paths(ds.train.path, link) == expected
    assert relative_paths([f"{link}/{name}" for name in expected], ds.root) == expected
    (tmp_path / "set" / "query").mkdir(parents=True)
    (tmp_path / "set" / "query" / "a.jpg").symlink_to(ds.train.path[0])
    assert relative_path(f"{tmp_path}/set/query/a.jpg", tmp_path / "set") == "query/a.jpg"
    for outside in (f"{ds.root}-2/a.jpg", f"{ds.root}/../a.jpg"):
        with pytest.raises(DatasetError, match="does not lie below"):
            relative_paths([outside], ds.root)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    red = Image.new("RGB", (8, 16), (200, 200, 200)).convert(mode)
    red.save(tmp_path / "x.tif")
    image = read_image(tmp_path / "x.tif", (16, 8))
    assert image.shape == (3, 16, 8) and image.dtype == np.uint8 and image.mean() > 100


def test_sixteen_bits_keep_their_brightness(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", (4, 256))[0, 0].tolist() == (ramp[0] >> 8).tolist()


def test_exif_rotation_is_respected(tmp_path):
    pixels = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side; turn it by 90 degrees clockwise
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", exif=exif)
    (tmp_path / "x.png").write_bytes(data.getvalue())
    assert np.array_equal(read_image(tmp_path / "x.png", (16, 8)).transpose(1, 2, 0), np.rot90(pixels, -1))


def test_settings_that_cannot_work(ds, tmp_path):
    with pytest.raises(UnknownNameError, match="bicubic, bilinear"):
        read_image(ds.train.path[0], SIZE, "cubic")
    with pytest.raises(TrainingError, match="the training set has 6"):
        train_loader(ds, **{**SETTINGS, "num_ids": 7})
    with pytest.raises(TrainingError, match="batch_size"):
        batches_of(ds.query, size=SIZE, batch_size=0)
    with pytest.raises(DatasetError, match="does not lie below"):
        relative_paths(ds.train.path, tmp_path)
    cache = ImageCache.build(ds.query, ds.root, SIZE, tmp_path / "q.u8", progress=False)
    with pytest.raises(DatasetError, match="is not in the cache"):
        train_loader(ds, **SETTINGS, cache=cache)
    with pytest.raises(DatasetError, match="holds 24x8 bilinear images, the loader asks for 48x16"):
        batches_of(ds.query, size=(48, 16), batch_size=2, cache=cache)


def test_sidewalk_with_its_priors(sidewalk_tiny, tmp_path):
    """The rendered set and a real table of priors, from files to an augmented batch."""
    from reidkit.data.transforms import AugmentConfig, TrainAugment
    from reidkit.priors.build import build_priors

    table = build_priors(sidewalk_tiny, "sidewalk", grid=(12, 4), out=tmp_path / "p.npz", progress=False)
    loader = train_loader(sidewalk_tiny, size=(96, 32), num_ids=4, num_instances=4, seed=0, priors=table)
    batch = next(iter(loader))
    expected = table.lookup(relative_paths(sidewalk_tiny.train.path.iloc[batch.index.numpy()], sidewalk_tiny.root))
    assert torch.equal(batch.prior.mask, expected.mask)
    assert torch.equal(batch.prior.bottom, expected.bottom)
    out = TrainAugment(AugmentConfig(size=(96, 32)))(batch, torch.Generator().manual_seed(0))
    assert out.images.shape == (16, 3, 96, 32) and out.images.isfinite().all()
    assert not torch.equal(out.prior.mask, batch.prior.mask)
