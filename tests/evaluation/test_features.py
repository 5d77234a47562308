"""Feature extraction against a picture-by-picture reference, and multi-query pooling by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from refusing import NoWaiting
from torch import Tensor, nn

from reidkit.data.cache import ImageCache
from reidkit.data.loaders import test_batches
from reidkit.errors import PriorError, ReIDKitError, UnknownNameError
from reidkit.evaluation import pool_queries
from reidkit.evaluation.features import extract_features
from reidkit.evaluation.forms import CGPN, RELEASED, TestForm
from reidkit.models import ModelOutput, ReIDModel, create_model

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SIZE = (24, 8)


class ToyModel(ReIDModel):
    """A convolution, batch norm and row means: the embedding depends on position, colour and mode."""

    def __init__(self, needs_prior=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.norm.running_mean.normal_()
        self.name, self.num_classes, self.part_names = "toy", 2, ("all",)
        self.needs_prior_at_test = needs_prior

    def feature_maps(self, images):
        return self.norm(self.conv(images)).relu()

    def heads(self, maps, prior=None, with_aux=False):
        if prior is not None:
            maps = maps * prior.mask[:, None]
        weight = torch.linspace(1, 2, maps.shape[-1])  # left and right count differently
        h = (maps * weight).mean(-1).flatten(1)
        return ModelOutput(h, h[:, None], h[None])


@pytest.fixture
def table(tmp_path):
    """Eleven noise images, already of the test size, in an order that is not alphabetical."""
    rng, rows = np.random.default_rng(0), []
    for i in rng.permutation(11):
        path = tmp_path / "query" / f"{i:04d}_c{i % 3 + 1}s1_000000_00.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)
        rows.append((str(path), int(i), int(i % 3 + 1)))
    return pd.DataFrame(rows, columns=["path", "pid", "camid"])


def pixels(path, size=SIZE, resample=Image.Resampling.BILINEAR):
    """[1, 3, H, W] normalised, by Pillow and numpy."""
    image = np.asarray(Image.open(path).resize(size[::-1], resample), np.float64) / 255
    return torch.from_numpy(((image - MEAN) / STD).transpose(2, 0, 1)[None]).float()


def slow(model, table, size=SIZE, resample=Image.Resampling.BILINEAR):
    """(image, mirror) features, one picture at a time."""
    with torch.no_grad():
        images = [pixels(path, size, resample) for path in table.path]
        return (
            torch.cat([model.eval().embed(x) for x in images]),
            torch.cat([model.eval().embed(x.flip(-1)) for x in images]),
        )


@pytest.mark.parametrize("batch_size, workers", [(1, 0), (4, 0), (128, 0), (4, 2)])
def test_rows_follow_the_table(table, batch_size, workers):
    model = ToyModel()
    got = extract_features(model, table, size=SIZE, batch_size=batch_size, workers=workers, progress=False)
    assert got.dtype == torch.float32 and got.device.type == "cpu" and not got.requires_grad
    torch.testing.assert_close(got, slow(model, table)[0], atol=1e-5, rtol=1e-5)


def test_flip_and_normalise(table):
    model = ToyModel()
    plain, mirror = slow(model, table)
    assert (plain - mirror).abs().max() > 0.01
    run = lambda **options: extract_features(model, table, size=SIZE, progress=False, **options)  # noqa: E731
    torch.testing.assert_close(run(flip="sum"), plain + mirror, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run(flip="mean"), (plain + mirror) / 2, atol=1e-5, rtol=1e-5)
    unit = (plain + mirror) / (plain + mirror).norm(dim=1, keepdim=True)
    torch.testing.assert_close(run(flip="sum", normalize=True), unit, atol=1e-5, rtol=1e-5)
    with pytest.raises(UnknownNameError, match="mean"):
        run(flip="avg")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize(table, interpolation):
    """Pillow's antialiased resize is the reference; bicubic and bilinear must not be the same."""
    model, size = ToyModel(), (36, 16)
    got = extract_features(model, table, size=size, interpolation=interpolation, progress=False)
    expected = slow(model, table, size, Image.Resampling[interpolation.upper()])[0]
    other = slow(model, table, size, Image.Resampling["BICUBIC" if interpolation == "bilinear" else "BILINEAR"])[0]
    assert (got - expected).abs().max() < 0.02 < (got - other).abs().max()


def prior_table(table, root, seed=1):
    from reidkit.priors.store import make_table

    rng, n = np.random.default_rng(seed), len(table)
    paths = [str(p)[len(str(root)) + 1 :] for p in table.path][::-1]  # another order than the table's
    masks = rng.random((n, *SIZE)) < 0.5
    zero = np.zeros(n, np.float32)
    return make_table(paths, masks, zero, zero + 1, np.ones(n, bool), np.ones(n, np.uint64), settings={})


def test_priors_follow_their_images_and_their_mirror(table, tmp_path):
    model, priors = ToyModel(needs_prior=True), prior_table(table, tmp_path)
    masks = torch.from_numpy(priors.masks[::-1].copy())  # [N, h, w] in the table's order
    got = extract_features(
        model, table, size=SIZE, priors=priors, root=tmp_path, batch_size=4, flip="sum", progress=False
    )
    expected = []
    with torch.no_grad():
        for path, mask in zip(table.path, masks):
            x = pixels(path)
            prior = lambda m: type("P", (), {"mask": m[None]})()  # noqa: E731
            expected.append(model.eval().embed(x, prior(mask)) + model.embed(x.flip(-1), prior(mask.flip(-1))))
    torch.testing.assert_close(got, torch.cat(expected), atol=1e-5, rtol=1e-5)


def test_a_missing_prior_is_an_error(table, tmp_path):
    with pytest.raises(PriorError, match="toy rectifies"):
        extract_features(ToyModel(needs_prior=True), table, size=SIZE, progress=False)
    with pytest.raises(PriorError, match="have no prior"):
        some = prior_table(table.iloc[:5], tmp_path)
        extract_features(ToyModel(needs_prior=True), table, size=SIZE, priors=some, root=tmp_path, progress=False)


def test_every_module_keeps_its_mode(table):
    model = ToyModel().train()
    model.norm.eval()  # a frozen layer in a training model
    extract_features(model, table, size=SIZE, progress=False)
    assert model.training and model.conv.training and not model.norm.training
    model.conv.weight.data.fill_(float("nan"))
    with pytest.raises(ReIDKitError):
        extract_features(model, table, size=SIZE, progress=False)
    assert model.training and not model.norm.training


@pytest.mark.parametrize("amp", ["no", "bf16"])
def test_a_network_is_tested_in_one_memory_format(table, amp):
    """At the end of a training the weights lie in channels_last, where bf16 rounds differently on a CPU."""
    torch.manual_seed(0)
    model = create_model("ide", 4, backbone="small", part_dim=16)
    options = {"size": (96, 32), "amp": amp, "progress": False}
    usual = extract_features(model, table, **options)
    model = model.to(memory_format=torch.channels_last)
    before = {name: (weight.data_ptr(), weight.stride()) for name, weight in model.named_parameters()}
    assert torch.equal(extract_features(model, table, **options), usual)
    assert {name: (weight.data_ptr(), weight.stride()) for name, weight in model.named_parameters()} == before


def test_a_feature_that_is_not_finite_names_its_image(table, monkeypatch):
    model, plain = ToyModel(), ToyModel.heads
    dark = table.path.iloc[6]
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(dark)

    def heads(self, maps, prior=None, with_aux=False):
        out = plain(self, maps, prior, with_aux)
        out.embedding[(maps[:, :, 5:20, 2:6].std((2, 3)) < 1e-6).all(1)] = float("inf")  # constant pictures only
        return out

    monkeypatch.setattr(ToyModel, "heads", heads)
    with pytest.raises(ReIDKitError) as error:
        extract_features(model, table, size=SIZE, batch_size=4, progress=False)
    assert str(error.value).startswith(dark) and "1 of 4 images" in str(error.value)


def test_no_batch_waits_for_the_one_before(table, tmp_path, monkeypatch):
    """Features are looked at once, however many batches there are: on a GPU the host only queues work."""
    calls, looked, batches = [], Tensor.cpu, test_batches
    monkeypatch.setattr(Tensor, "cpu", lambda self: calls.append(self.shape) or looked(self))
    monkeypatch.setattr("reidkit.evaluation.features.check_finite", lambda *a: calls.append("checked"))
    cache = ImageCache.build(table, tmp_path, SIZE, tmp_path / "x.u8", progress=False)
    refused = Refused()

    def watched(*args, **options):
        for batch in batches(*args, **options):
            with refused:  # while the model works on it
                yield batch

    monkeypatch.setattr("reidkit.evaluation.features.test_batches", watched)
    options = {"size": SIZE, "batch_size": 2, "cache": cache, "progress": False}
    extract_features(ToyModel(), table, **options)
    assert refused.seen > 20 and calls == ["checked", (11, 5 * 24)]
    calls.clear()
    there = extract_features(ToyModel(), table, **options, to_cpu=False)
    assert calls == ["checked"] and there.shape == (11, 5 * 24)


class Refused(NoWaiting):
    """Counts the operators of the block, too."""

    seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen += 1
        return super().__torch_dispatch__(function, types, args, kwargs)


def test_bad_arguments(table):
    with pytest.raises(ReIDKitError, match="no rows"):
        extract_features(ToyModel(), table.iloc[:0], size=SIZE, progress=False)
    with pytest.raises(UnknownNameError, match="bf16"):
        extract_features(ToyModel(), table, size=SIZE, amp="bf15", progress=False)


def test_autocast_changes_little_and_returns_float32(table):
    model = ToyModel()
    got = extract_features(model, table, size=SIZE, amp="bf16", flip="mean", progress=False)
    expected = sum(slow(model, table)) / 2
    assert got.dtype == torch.float32
    assert 0 < (got - expected).abs().max() < 0.05
    exact = extract_features(model, table, size=SIZE, amp="no", progress=False)
    torch.testing.assert_close(exact, slow(model, table)[0], atol=1e-5, rtol=1e-5)


def test_recipes(table):
    assert TestForm().extraction == {"interpolation": "bilinear", "flip": "none"}
    assert CGPN.extraction == {"interpolation": "bilinear", "flip": "mean"}
    assert RELEASED.extraction == {"interpolation": "bicubic", "flip": "sum"}
    few, size = table.iloc[:2], (384, 128)
    plain = extract_features(ToyModel(), few, size=size, **RELEASED.extraction, progress=False)
    assert (plain.norm(dim=1) - 1).abs().min() > 0.1  # normalised on request only
    got = extract_features(ToyModel(), few, size=size, **RELEASED.extraction, normalize=True, progress=False)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(2))


def test_images_may_be_paths(table):
    model = ToyModel()
    expected = extract_features(model, table, size=SIZE, progress=False)
    paths = table.path.tolist()
    for images in (
        paths,
        [Path(p) for p in paths],
        tuple(paths),
        table.path,
        np.array(paths),
        iter(paths),
        table[["path"]],
        table.assign(pid="anna", camid=[None] * 11),
        table.assign(pid=0.5),
        table.assign(path=[Path(p) for p in paths]),
        table.set_index("camid"),
    ):
        assert torch.equal(extract_features(model, images, size=SIZE, progress=False), expected)
    for one in (paths[3], Path(paths[3]), paths[3:4]):
        got = extract_features(model, one, size=SIZE, progress=False)
        torch.testing.assert_close(got, expected[3:4], atol=1e-6, rtol=1e-6)


def test_paths_with_priors_a_cache_and_workers(table, tmp_path):
    paths, model = table.path.tolist(), ToyModel(needs_prior=True)
    options = {"size": SIZE, "priors": prior_table(table, tmp_path), "root": tmp_path, "progress": False}
    expected = extract_features(model, table, **options)
    cache = ImageCache.build(table[["path"]], tmp_path, SIZE, tmp_path / "x.u8", progress=False)
    for more in ({}, {"cache": cache}, {"workers": 2}):
        assert torch.equal(extract_features(model, paths, **options, **more), expected)


def test_images_that_are_none(table, tmp_path):
    run = lambda images: extract_features(ToyModel(), images, size=SIZE, progress=False)  # noqa: E731
    for images, message in (
        ([], "there is no image"),
        (tmp_path / "query", "query' is a folder; pass its"),
        ([table.path[0], str(tmp_path) + "/"], "is a folder"),
        (table[["pid"]], r"needs a column 'path'; it has \['pid'\]"),
        ([table.path[0], None], "image 1 is a NoneType"),
        (7, "image 0 is a int"),
        ([np.zeros((4, 4, 3))], "image 0 is a ndarray; expected the path"),
        (tmp_path / "no.jpg", "no.jpg"),
    ):
        with pytest.raises(ReIDKitError, match=message):
            run(images)


def test_a_cache_of_another_interpolation_is_refused(table, tmp_path):
    """The released recipe resizes bicubically; a cache decoded bilinearly must not pass for it."""
    caches = {
        i: ImageCache.build(table, tmp_path, SIZE, tmp_path / f"{i}.u8", progress=False, interpolation=i)
        for i in ("bilinear", "bicubic")
    }

    def run(**options):
        return extract_features(ToyModel(), table, size=SIZE, **RELEASED.extraction, progress=False, **options)

    with pytest.raises(ReIDKitError, match=r"holds 24x8 bilinear images, the loader asks for 24x8 bicubic.*interpol"):
        run(cache=caches["bilinear"])
    assert torch.equal(run(cache=caches["bicubic"]), run())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(table):
    from reidkit.models import create_model

    model = create_model("ide", 5, backbone="small")
    on_cpu = extract_features(model, table, size=(96, 32), progress=False)
    on_gpu = extract_features(model, table, size=(96, 32), device="cuda", progress=False)
    there = extract_features(model, table, size=(96, 32), device="cuda", to_cpu=False, progress=False)
    assert there.device.type == "cuda" and torch.equal(there.cpu(), on_gpu)
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=1e-3)


def test_pool_queries_by_hand():
    """Identity 1 has two boxes under camera 1 and one under camera 2; lengths do not matter."""
    boxes = torch.tensor([[2.0, 0.0], [0.0, 5.0], [3.0, 4.0], [9.0, 9.0]])
    pids, camids = [1, 1, 1, 2], [1, 1, 2, 1]
    got = pool_queries(boxes, pids, camids, [1, 1], [2, 1])
    torch.testing.assert_close(got, torch.tensor([[0.6, 0.8], [0.5, 0.5]]))
    again = pool_queries(boxes.numpy().astype(np.float16), pd.Series(pids), np.array(camids), [1, 1], [2, 1])
    torch.testing.assert_close(again, got, atol=1e-3, rtol=1e-3)
    with pytest.raises(ReIDKitError, match=r"1 of 2 queries have no box.*query 1 \(pid 2, camera 3\)"):
        pool_queries(boxes, pids, camids, [1, 2], [1, 3])
    with pytest.raises(ReIDKitError, match="gt_bbox features: row 1"):
        pool_queries(boxes.where(boxes != 5, torch.nan), pids, camids, [1], [1])


def test_pool_queries_equals_a_loop():
    rng = np.random.default_rng(0)
    boxes, pids, camids = rng.normal(size=(200, 6)), rng.integers(0, 8, 200), rng.integers(1, 4, 200)
    pairs = sorted({(p, c) for p, c in zip(pids, camids)}, reverse=True)
    got = pool_queries(boxes, pids, camids, *np.array(pairs).T)
    unit = boxes / np.linalg.norm(boxes, axis=1, keepdims=True)
    expected = np.stack([unit[(pids == p) & (camids == c)].mean(0) for p, c in pairs])
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)
