"""Augmentation of batches, held against slow loops over single images."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torchvision.transforms import v2

from reidkit.data.loaders import Batch
from reidkit.data.prior import PriorBatch
from reidkit.data.transforms import (
    AugmentConfig,
    TestTransform,
    TrainAugment,
    draw_rectangles,
    erase,
    flip_images,
    normalize,
    translate_images,
    translate_table,
)
from reidkit.errors import TrainingError

SIZE = (12, 6)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_batch(n=5, grid=(6, 3), seed=0, size=SIZE):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        images=torch.randint(0, 256, (n, 3, *size), generator=g, dtype=torch.uint8),
        labels=torch.arange(n),
        camids=torch.ones(n, dtype=torch.long),
        index=torch.arange(n),
        prior=PriorBatch(
            mask=torch.rand(n, *grid, generator=g) < 0.5,
            top=torch.full((n,), 0.25),
            bottom=torch.full((n,), 0.75),
            reliable=torch.arange(n) != 1,  # image 1 has no reliable prior
        ),
    )


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_normalize_is_torchvisions():
    images = make_batch().images
    reference = v2.Normalize(MEAN, STD)(v2.ToDtype(torch.float32, scale=True)(images))
    torch.testing.assert_close(normalize(images), reference, rtol=0, atol=1e-6)
    batch = make_batch()
    torch.testing.assert_close(TestTransform()(batch).images, normalize(batch.images))
    assert batch.images.dtype == torch.uint8  # the batch handed in is left alone


def test_flip_moves_image_and_mask_columns():
    batch, flips = make_batch(), torch.tensor([True, False, True, False, False])
    images, prior = flip_images(batch.images, flips), batch.prior.flip(flips)
    for i, flipped in enumerate(flips):
        order = range(5, -1, -1) if flipped else range(6)
        assert torch.equal(images[i], torch.stack([batch.images[i, :, :, j] for j in order], dim=2))
        order = range(2, -1, -1) if flipped else range(3)
        assert torch.equal(prior.mask[i], torch.stack([batch.prior.mask[i, :, j] for j in order], dim=1))
    for name in ("top", "bottom", "reliable"):
        assert torch.equal(getattr(prior, name), getattr(batch.prior, name))
    assert torch.equal(batch.prior.flip().mask, batch.prior.mask.flip(-1))  # without flips: all
    without = TrainAugment(AugmentConfig(size=SIZE))(replace(batch, prior=None), rng())
    assert without.prior is None


def test_erase_against_a_loop_over_pixels():
    images = torch.randn(3, 3, 5, 4)
    rectangles = torch.tensor([[1, 0, 2, 3], [0, 0, 0, 0], [4, 3, 1, 1]])  # top, left, height, width
    fill = (0.1, 0.2, 0.3)
    expected = images.clone()
    for b, (top, left, height, width) in enumerate(rectangles.tolist()):
        for y in range(top, top + height):
            for x in range(left, left + width):
                expected[b, :, y, x] = torch.tensor(fill)
    assert torch.equal(erase(images, rectangles, fill), expected)
    assert (erase(images, rectangles, fill) != images).any(1).sum().item() == 6 + 0 + 1


def test_rectangles_keep_to_their_ranges():
    config = AugmentConfig(size=(384, 128))
    boxes = draw_rectangles(20_000, config, rng()).double()
    erased = boxes[:, 2] > 0
    assert abs(erased.double().mean() - 0.5) < 0.02
    top, left, height, width = boxes[erased].T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 384).all() and (left + width <= 128).all() and (width < 128).all()
    area, aspect = height * width / (384 * 128), height / width
    assert 0.015 < area.min() < 0.03 and 0.35 < area.max() < 0.41
    assert 0.25 < aspect.min() < 0.35 and 3.2 < aspect.max() < 3.5
    assert (top + height == 384).any() and (top == 0).any()  # the borders are reached
    assert (draw_rectangles(100, AugmentConfig(erasing=0.0), rng()) == 0).all()


def test_rectangles_follow_the_authors_loop():
    """Same distribution as drawing one rectangle after another: mean area, height, width and top agree."""
    config, g, loop = AugmentConfig(size=(48, 16), erasing=1.0), rng(1), []
    uniform = lambda low, high: low + (high - low) * torch.rand((), generator=g).item()  # noqa: E731
    while len(loop) < 4000:
        area, aspect = uniform(*config.erasing_area) * 48 * 16, uniform(*config.erasing_aspect)
        height, width = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if height < 48 and width < 16:
            top = torch.randint(0, 48 - height + 1, (), generator=g).item()
            left = torch.randint(0, 16 - width + 1, (), generator=g).item()
            loop.append((top, left, height, width))
    ours = draw_rectangles(4000, config, rng(2)).double()
    reference = torch.tensor(loop).double()
    error = (ours.std(0) ** 2 + reference.std(0) ** 2).sqrt() / 4000**0.5
    assert ((ours.mean(0) - reference.mean(0)).abs() < 4 * error).all()


def test_train_augment_order_and_reproducibility():
    """Flip, normalise, erase: the fill is a value of normalised space."""
    config = AugmentConfig(size=SIZE, flip=1.0, erasing=1.0, erasing_area=(0.2, 0.3))
    batch = make_batch()
    out = TrainAugment(config)(batch, rng(7))
    again = TrainAugment(config)(batch, rng(7))
    assert torch.equal(out.images, again.images) and out.images.dtype == torch.float32
    expected = normalize(batch.images.flip(-1))
    filled = (out.images == torch.tensor(config.erasing_fill)[:, None, None]).all(1)  # [B, H, W]
    assert filled.any(2).any(1).all()
    assert torch.equal(out.images[~filled[:, None].expand_as(expected)], expected[~filled[:, None].expand_as(expected)])
    assert torch.equal(out.prior.mask, batch.prior.mask.flip(-1))
    assert torch.equal(out.labels, batch.labels) and batch.images.dtype == torch.uint8
    assert not torch.equal(TrainAugment(config)(batch, rng(8)).images, out.images)


def test_flip_alone_changes_half_of_the_images():
    batch = make_batch(400)
    out = TrainAugment(AugmentConfig(size=SIZE, erasing=0.0))(batch, rng())
    straight = (out.images == normalize(batch.images)).flatten(1).all(1)
    mirrored = (out.images == normalize(batch.images.flip(-1))).flatten(1).all(1)
    assert (straight | mirrored).all() and 160 < mirrored.sum() < 240
    assert torch.equal(out.prior.mask[mirrored], batch.prior.mask.flip(-1)[mirrored])


def test_the_size_must_fit():
    with pytest.raises(TrainingError, match=r"\(12, 6\), AugmentConfig.size is \(384, 128\)"):
        TrainAugment()(make_batch(), rng())


def shift_slowly(image, dx, dy, outside):
    """One map [..., H, W], pixel by pixel; outside(y, x) gives the value of a place off the image."""
    H, W = image.shape[-2:]
    out = torch.empty_like(image)
    for y in range(H):
        for x in range(W):
            sy, sx = y - dy, x - dx
            inside = 0 <= sy < H and 0 <= sx < W
            out[..., y, x] = image[..., sy, sx] if inside else outside(sy, sx)
    return out


def test_translation_against_a_loop_over_pixels():
    batch = make_batch()
    pixels = [(0, 0), (1, 3), (-2, 1), (2, -12), (-6, -1)]  # (dx, dy) in pixels of a 12 x 6 image
    dx = torch.tensor([x / 6 for x, _ in pixels])
    dy = torch.tensor([y / 12 for _, y in pixels])
    moved = translate_images(batch.images, dx, dy)
    for image, out, (x, y) in zip(batch.images, moved, pixels):
        edge = lambda sy, sx: image[:, min(max(sy, 0), 11), min(max(sx, 0), 5)]  # noqa: B023, E731
        assert torch.equal(out, shift_slowly(image, x, y, edge))


def test_translation_moves_the_prior_with_the_image():
    prior = make_batch().prior
    dx, dy = torch.tensor([1 / 3, 1 / 3, 0.0, -1 / 3, 0.02]), torch.tensor([0.05, 0.05, -0.3, 1 / 6, -0.04])
    moved = prior.translate(dx, dy)
    cells = [(1, 0), None, (0, -2), (-1, 1), (0, 0)]  # nearest whole cells of the 6 x 3 grid
    for i, cell in enumerate(cells):
        mask = prior.mask[i]
        expected = mask if cell is None else shift_slowly(mask, *cell, lambda y, x: torch.tensor(False))
        assert torch.equal(moved.mask[i], expected)
    expected_top = [0.30, 0.25, 0.0, 0.25 + 1 / 6, 0.21]  # exactly dy; image 1 is unreliable; 0.25 - 0.3 stops at 0
    torch.testing.assert_close(moved.top, torch.tensor(expected_top))
    torch.testing.assert_close(moved.bottom, torch.tensor([0.80, 0.75, 0.45, 0.75 + 1 / 6, 0.71]))
    assert torch.equal(moved.reliable, prior.reliable)


def test_translate_table():
    table = pd.DataFrame({"path": ["a", "b"], "pid": [1, 2], "camid": [1, 1]})
    out = translate_table(table, copies=5, max_shift=0.05, seed=1)
    assert out.path.tolist() == ["a", "b"] * 5 and len(table.columns) == 3
    assert (out[["dx", "dy"]].iloc[:2] == 0).to_numpy().all()
    rest = out[["dx", "dy"]].iloc[2:]
    assert (rest != 0).to_numpy().all() and rest.abs().to_numpy().max() <= 0.05
    pd.testing.assert_frame_equal(out, translate_table(table, copies=5, max_shift=0.05, seed=1))
    assert not out.equals(translate_table(table, seed=2))
    with pytest.raises(TrainingError, match="at least 1"):
        translate_table(table, copies=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_cpu_generator_gives_the_same_batch_on_the_gpu():
    augment = TrainAugment(AugmentConfig(size=SIZE))
    on_cpu, on_gpu = augment(make_batch(), rng(3)), augment(make_batch().to("cuda"), rng(3))
    torch.testing.assert_close(on_gpu.images.cpu(), on_cpu.images, rtol=0, atol=1e-6)
    assert torch.equal(on_gpu.prior.mask.cpu(), on_cpu.prior.mask)
