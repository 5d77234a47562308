"""The feed: an epoch stays what it was, bit for bit, and nothing on its way waits for the device."""

import hashlib
import os
import threading
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from refusing import NoWaiting, devices_of
from torch._subclasses.fake_tensor import FakeTensorMode

from reidkit.data import ReIDDataset, feed, sources, transforms
from reidkit.data.cache import ImageCache
from reidkit.data.feed import ahead, fits, send
from reidkit.data.images import relative_paths
from reidkit.data.loaders import test_batches as batches_of
from reidkit.data.loaders import train_loader
from reidkit.data.prior import PriorBatch
from reidkit.data.transforms import AugmentConfig, TestTransform, TrainAugment, draw_rectangles
from reidkit.errors import TrainingError

SIZE = (32, 12)
SETTINGS = {"size": SIZE, "num_ids": 3, "num_instances": 2, "seed": 5, "mode": "independent"}
AUGMENT = TrainAugment(AugmentConfig(size=SIZE))
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    """24 images of 8 people, stored without loss at the size of the network: no decoder can change a pixel."""
    root, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    rows = [(root / f"{pid}_{i}.png", pid, 1 + i % 2) for pid in range(8) for i in range(3)]
    for path, *_ in rows:
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)
    table = pd.DataFrame([(str(path), pid, camid) for path, pid, camid in rows], columns=["path", "pid", "camid"])
    return ReIDDataset("people", root, table, table, table)


@pytest.fixture(scope="module")
def cache(ds):
    return ImageCache.for_split(ds, "train", SIZE, progress=False)


class Priors:
    """Stands in for a PriorTable: masks by a pattern, every fifth image not reliable."""

    def lookup(self, paths):
        i = torch.tensor([3 * int(name[0]) + int(name[2]) for name in paths])  # "7_2.png" is image 23
        masks = (torch.arange(8 * 3) * (i[:, None] + 2) % 7 < 4).view(-1, 8, 3)
        return PriorBatch(masks, i / 100, 0.5 + i / 100, i % 5 != 0)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def tensors(batch):
    return [batch.images, batch.labels, batch.camids, batch.index, *(batch.prior or ())]


def same(a, b):
    pairs = list(zip(a, b, strict=True))
    return all(torch.equal(s, t) for x, y in pairs for s, t in zip(tensors(x), tensors(y), strict=True))


def digest(batches):
    """SHA-256 over every tensor of the batches."""
    total = hashlib.sha256()
    for batch in batches:
        for tensor in tensors(batch):
            total.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return total.hexdigest()[:16]


# What epochs held when a batch was cut and augmented image by image, with random numbers drawn batch by batch.
GOLDEN = {1: "5f5628c85b076be8", 4: "ee64eb45e20da021"}


@pytest.mark.parametrize("copies", GOLDEN)
@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_what_it_was(ds, cache, copies, planned, workers):
    """From files or the cache, with its random numbers drawn at once or batch by batch, with and without workers."""
    for images in (None, cache):
        options = {"priors": Priors(), "translation_copies": copies, "cache": images, "workers": workers}
        loader = train_loader(ds, **SETTINGS, **options)
        loader.sampler.set_epoch(3)
        draws = AUGMENT.plan(loader, rng(7)) if planned else rng(7)
        assert digest(AUGMENT(batch, draws) for batch in loader) == GOLDEN[copies]


# ---- random numbers --------------------------------------------------------------------------------------------------


def draw_slowly(count, config, generator):
    """Flips and rectangles of one batch, image by image, every kind of number drawn by a call of its own."""
    uniform = lambda *shape: torch.rand(shape, generator=generator)  # noqa: E731
    flips, areas, aspects = uniform(count), uniform(count, 100), uniform(count, 100)
    downs, rights, erased = uniform(count), uniform(count), uniform(count)
    rectangles, (H, W) = torch.zeros(count, 4, dtype=torch.long), config.size
    low, high = config.erasing_area
    flat, steep = config.erasing_aspect
    for b in range(count):
        for a, r in zip(areas[b], aspects[b]):
            area, aspect = H * W * (low + (high - low) * a), flat + (steep - flat) * r
            height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
            if height < H and width < W:
                if erased[b] < config.erasing:
                    top = min((downs[b] * (H - height + 1)).floor(), H - height)
                    left = min((rights[b] * (W - width + 1)).floor(), W - width)
                    rectangles[b] = torch.tensor([top, left, height, width])
                break
    return flips < config.flip, rectangles


@pytest.mark.parametrize("chunk", [3, 64])
def test_a_plan_holds_the_numbers_of_batch_after_batch(ds, cache, monkeypatch, chunk):
    monkeypatch.setattr(transforms, "CHUNK", chunk)
    loader = train_loader(ds, **SETTINGS, cache=cache, translation_copies=2)
    one, other, third = rng(11), rng(11), rng(11)
    plan = AUGMENT.plan(loader, one)
    assert plan.flips.shape == (8, 6) and plan.rectangles.shape == (8, 6, 4)
    for flips, rectangles in zip(*plan):
        slow_flips, slow_rectangles = draw_slowly(6, AUGMENT.config, other)
        assert torch.equal(flips, slow_flips) and torch.equal(rectangles, slow_rectangles)
        torch.rand(6, generator=third)
        assert torch.equal(rectangles, draw_rectangles(6, AUGMENT.config, third))
    assert torch.equal(one.get_state(), other.get_state())  # and the generator stands where it stood


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 5, 8])
def test_a_run_goes_on_in_mid_epoch_with_the_same_pixels(ds, cache, workers, done):
    make = lambda: train_loader(  # noqa: E731
        ds, **SETTINGS, cache=cache, translation_copies=2, workers=workers, priors=Priors()
    )
    whole = make()
    whole.sampler.set_epoch(4)
    plan = AUGMENT.plan(whole, rng(1))
    expected = [AUGMENT(batch, plan) for batch in whole]
    first, second = make(), make()
    first.sampler.set_epoch(4)
    got = [AUGMENT(batch, plan) for _, batch in zip(range(done), first)]
    second.sampler.load_state_dict(first.sampler.state_dict())
    rest = [AUGMENT(batch, AUGMENT.plan(second, rng(1))) for batch in second] if done < 8 else []
    assert same(got + rest, expected)
    assert [batch.step for batch in got + rest] == list(range(8))
    assert (first if done == 8 else second).sampler.epoch == 5


def test_a_plan_of_another_loader_is_refused(ds, cache):
    batch = next(iter(train_loader(ds, **SETTINGS, cache=cache)))
    other = train_loader(ds, **{**SETTINGS, "num_ids": 2}, cache=cache)
    with pytest.raises(TrainingError, match="plan is of 6 batches of 4 images, this is batch 1 with 6"):
        AUGMENT(batch, AUGMENT.plan(other, rng()))
    with pytest.raises(TrainingError, match="this is batch 5 with 6"):
        AUGMENT(replace(batch, step=4), AUGMENT.plan(train_loader(ds, **SETTINGS, cache=cache), rng()))


# ---- nothing waits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("copies", [1, 4])
def test_an_epoch_reads_nothing_back(ds, cache, cached, copies):
    images = cache if cached else None
    loader = train_loader(ds, **SETTINGS, priors=Priors(), translation_copies=copies, cache=images)
    tests = batches_of(ds.query, size=SIZE, batch_size=7, cache=images, priors=Priors(), root=ds.root)
    with NoWaiting():
        plan = AUGMENT.plan(loader, rng())
        assert sum(len(AUGMENT(batch, plan)) for batch in loader) == 24 * copies
        assert sum(len(AUGMENT(batch, rng())) for batch in loader) == 24 * copies
        assert sum(len(TestTransform()(batch)) for batch in tests) == 24


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x[x > 1],
        lambda x: x[torch.tensor([0])],
        lambda x: x.unique(),
        lambda x: x[0].item(),
        lambda x: bool(x[0] > 1),
        lambda x: x.nonzero(),
    ],
)
def test_what_waits_is_refused(wait):
    with pytest.raises(AssertionError, match="waits for the device"), NoWaiting():
        wait(torch.arange(3))


@pytest.fixture
def imagined_gpu(monkeypatch, free):
    """Tensors without values that say they are on a GPU: operators check that devices agree, and hold no result."""
    monkeypatch.setattr(feed, "pinned", lambda tensor, device: tensor)  # there is no driver to pin memory with
    monkeypatch.setattr(sources, "pinned", feed.pinned)
    monkeypatch.setattr(sources, "ahead", lambda cut, plan, **options: map(cut, plan))  # imagined in one thread only
    monkeypatch.setattr(feed, "free_memory", lambda device: free)
    transforms._per_channel.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    transforms._per_channel.cache_clear()


@pytest.mark.parametrize("free", [10**9, 0])
def test_batches_are_cut_and_augmented_on_a_gpu(ds, cache, imagined_gpu, free):
    options = {"cache": cache, "device": "cuda", "priors": Priors()}
    loader = train_loader(ds, **SETTINGS, **options, translation_copies=4)
    tests = batches_of(ds.query, size=SIZE, batch_size=7, root=ds.root, **options)
    with NoWaiting():
        plan = AUGMENT.plan(loader, rng())
        trained = [(batch, AUGMENT(batch, plan), AUGMENT(batch, rng())) for batch in loader]
        tested = [(batch, TestTransform()(batch)) for batch in tests]
    assert all(loader._cut.source.device.type == ("cuda" if free else "cpu") for loader in (loader, tests))
    assert len(trained) == 16 and [len(batch) for batch, _ in tested] == [7, 7, 7, 3]
    for batch in (batch for together in trained + tested for batch in together):
        assert devices_of(tensors(batch)) == {"cuda"}


# ---- where the decoded images lie ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "where"), [(2.6, "meta"), (2.5, "meta"), (2.4, "cpu"), (0, "cpu")])
def test_the_cache_moves_where_it_takes_two_fifths_of_the_free_memory(ds, cache, monkeypatch, free, where):
    """`meta` stands in for a GPU: tensors without values."""
    monkeypatch.setattr(feed, "free_memory", lambda device: int(free * cache.images.nbytes))
    placed = cache.near("meta")
    assert placed.images.device.type == where and placed.row is cache.row
    assert placed is cache or where == "meta"
    assert fits(cache.images.nbytes, torch.device("meta")) == (where == "meta")
    for loader in (
        train_loader(ds, **SETTINGS, cache=cache, device="meta", priors=Priors(), translation_copies=2),
        batches_of(ds.gallery, size=SIZE, batch_size=5, cache=cache, device="meta", priors=Priors(), root=ds.root),
    ):
        assert loader._cut.source.device.type == where  # images of the loader lie there, and batches arrive
        assert all(devices_of(tensors(batch)) == {"meta"} for batch in loader)


def test_a_cache_stays_where_it_was_put(cache, monkeypatch):
    monkeypatch.setattr(feed, "free_memory", lambda device: 10**12)
    assert cache.near("cpu") is cache or cache.near("cpu").images.data_ptr() == cache.images.data_ptr()
    there = cache.to("meta")
    assert there.near("cpu") is there


def test_a_device_of_another_kind_is_not_asked():
    assert feed.free_memory(torch.device("cpu")) == feed.free_memory(torch.device("mps")) == 0
    assert not fits(1, torch.device("cpu"))


def test_a_batch_arrives_as_it_was(ds, cache):
    loader = train_loader(ds, **SETTINGS, cache=cache, priors=Priors())
    batch = next(iter(loader))
    assert same([batch.to("cpu")], [batch]) and batch.to("cpu").step == batch.step
    there = batch.to("meta")
    assert devices_of([getattr(there, field.name) for field in fields(there)]) == {"meta"}
    assert send(batch.images, "cpu") is batch.images


# ---- ahead of the training -------------------------------------------------------------------------------------------


def test_ahead_is_map_by_other_threads_and_keeps_its_distance():
    started, names = [], set()

    def double(i):
        started.append(i)
        names.add(threading.current_thread().name)
        return 2 * i

    results = ahead(double, iter(range(20)), threads=3, count=2)
    for i in range(20):
        assert next(results) == 2 * i
        assert len(started) <= i + 3  # at most two more than were asked for
    assert list(results) == [] and sorted(started) == list(range(20))
    assert threading.current_thread().name not in names
    assert list(ahead(double, [], threads=1, count=1)) == []
    unused = ahead(double, range(9), threads=2, count=2)
    next(unused)
    unused.close()  # what was not begun is not computed
    assert len(started) <= 20 + 3


def test_an_error_ahead_comes_in_its_turn():
    results = ahead(lambda i: 1 / i, [1, 2, 0, 4], threads=2, count=3)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(
    ("workers", "device", "others"), [(0, "cpu", False), (1, "cpu", True), (3, "cpu", True), (0, "meta", True)]
)
def test_workers_cut_from_the_cache(ds, cache, monkeypatch, workers, device, others):
    """With a cache `workers` are threads; for another device than the CPU there is always one."""
    names, cut = [], sources.Cut.__call__

    def look(self, rows):
        names.append(threading.current_thread() is not threading.main_thread())
        return cut(self, rows)

    monkeypatch.setattr(sources.Cut, "__call__", look)
    loader = train_loader(ds, **SETTINGS, cache=cache, translation_copies=4, workers=workers, device=device)
    assert len(list(loader)) == len(names) == 16
    assert set(names) == {others}


def test_processes_that_read_end_with_the_one_that_started_them(ds, tmp_path, monkeypatch):
    """Also one that was still starting when its parent ended: each asks at its start (see `lifetime.end_with`)."""
    monkeypatch.setattr(sources, "end_with", lambda parent: (tmp_path / str(os.getpid())).write_text(str(parent)))
    assert len(list(train_loader(ds, **SETTINGS, workers=2))) == 4
    assert [path.read_text() for path in tmp_path.iterdir()] == [str(os.getpid())] * 2
    assert not (tmp_path / str(os.getpid())).exists()


# ---- on a GPU --------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("fitting", [True, False])
@pytest.mark.parametrize("copies", GOLDEN)
def test_an_epoch_on_a_gpu_is_the_cpus(ds, cache, monkeypatch, fitting, copies):
    """From the GPU's memory and from main memory: the same pixels as on the CPU, and the host never waits."""
    if not fitting:
        monkeypatch.setattr(feed, "free_memory", lambda device: 0)
    options = {"cache": cache, "priors": Priors(), "translation_copies": copies}
    here, there = train_loader(ds, **SETTINGS, **options), train_loader(ds, **SETTINGS, **options, device="cuda")
    assert there._cut.source.device.type == ("cuda" if fitting else "cpu")
    torch.cuda.set_sync_debug_mode("error")
    try:
        plan = AUGMENT.plan(there, rng(7))
        got = [AUGMENT(batch, plan) for batch in there]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    generator = rng(7)
    expected = [AUGMENT(batch, generator) for batch in here]
    for a, b in zip(got, expected, strict=True):
        assert devices_of(tensors(a)) == {"cuda"}
        torch.testing.assert_close(a.images.cpu(), b.images, rtol=0, atol=1e-6)
        assert all(torch.equal(s.cpu(), t) for s, t in zip(tensors(a)[1:], tensors(b)[1:], strict=True))


@pytest.mark.gpu
@needs_cuda
def test_a_small_cache_moves_to_a_gpu(ds, cache):
    device = torch.device("cuda")
    assert 0 < feed.free_memory(device) <= torch.cuda.mem_get_info(device)[1]
    assert cache.near("cuda").images.is_cuda
    for images in (cache, cache.to("cuda"), None):
        loader = batches_of(ds.gallery, size=SIZE, batch_size=5, cache=images, device="cuda")
        pixels = torch.cat([batch.images for batch in loader])
        assert pixels.is_cuda and torch.equal(
            pixels.cpu(), cache.images[cache.rows(relative_paths(ds.gallery.path, ds.root))]
        )
