"""part_features against a slow reference: crop and resize one image at a time (MPN Fig. 5b, Table 2)."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reidkit.errors import PriorError, UnknownNameError
from reidkit.priors import CoarsePrior, PriorBatch
from reidkit.priors.part_features import part_features


def make_prior(top, bottom, mask=None, height=24, width=8):
    top, bottom = torch.tensor(top), torch.tensor(bottom)
    mask = torch.ones(len(top), height, width, dtype=torch.bool) if mask is None else mask
    return PriorBatch(mask, top, bottom, torch.ones(len(top), dtype=torch.bool))


def random_map(batch=3, channels=4, height=24, width=8, dtype=torch.float64, seed=0):
    return torch.randn(batch, channels, height, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def slow_rows(image, top, bottom, rows):
    """[C, H, W] -> [C, rows, W]: bilinear resize of the crop [top, bottom), row by row, reading nothing outside."""
    height = image.shape[1]
    start, size = top * height, (bottom - top) * height
    out = []
    for i in range(rows):
        y = start + (i + 0.5) / rows * size - 0.5
        y = min(max(y, start), start + size - 1)
        y = min(max(y, 0.0), height - 1.0)
        low = min(int(np.floor(y)), height - 2)
        out.append((low + 1 - y) * image[:, low] + (y - low) * image[:, low + 1])
    return torch.stack(out, 1)


@pytest.mark.parametrize("mode", ["roi", "roi-mask"])
def test_whole_row_boundaries_equal_crop_and_interpolate(mode):
    maps = random_map()
    mask = torch.rand(3, 24, 8, generator=torch.Generator().manual_seed(1)) > 0.4
    rows = [(0, 24), (3, 21), (10, 11)]
    prior = make_prior([a / 24 for a, _ in rows], [b / 24 for _, b in rows], mask)
    result = part_features(maps, prior, 6, mode)
    assert result.shape == (3, 6, 4, 4, 8)
    for i, (a, b) in enumerate(rows):
        image = maps[i] * mask[i] if mode == "roi-mask" else maps[i]
        resized = F.interpolate(image[None, :, a:b], size=(24, 8), mode="bilinear", align_corners=False)[0]
        for k in range(6):
            torch.testing.assert_close(result[i, k], resized[:, 4 * k : 4 * k + 4], atol=1e-5, rtol=0)


@pytest.mark.parametrize("parts", [1, 2, 5, 6, 7, 12])
def test_fractional_boundaries_equal_the_loops(parts):
    maps = random_map()
    bounds = [(0.03, 0.97), (0.111, 0.62), (0.4, 0.99)]
    result = part_features(maps, make_prior(*map(list, zip(*bounds))), parts, "roi")
    per_part = -(-24 // parts)
    assert result.shape == (3, parts, 4, per_part, 8)
    for i, (top, bottom) in enumerate(bounds):
        whole = torch.cat(list(result[i]), dim=1)  # the stripes on top of each other
        torch.testing.assert_close(whole, slow_rows(maps[i], top, bottom, parts * per_part), atol=1e-5, rtol=0)


def test_uniform_is_a_plain_cut():
    maps = random_map(height=18, width=6)
    result = part_features(maps, None, 6, "uniform")
    for k in range(6):
        assert torch.equal(result[:, k], maps[:, :, 3 * k : 3 * k + 3])


@pytest.mark.parametrize("height", [18, 24])
@pytest.mark.parametrize("parts", range(1, 13))
def test_every_k_gets_equal_stripes_in_every_mode(height, parts):
    maps = random_map(height=height, width=6, dtype=torch.float32)
    prior = make_prior([0.0] * 3, [1.0] * 3, height=height, width=6)
    uniform = part_features(maps, None, parts, "uniform")
    assert uniform.shape == (3, parts, 4, -(-height // parts), 6)
    for mode in ("roi", "roi-mask"):  # an unreliable prior: whole image, full mask
        torch.testing.assert_close(part_features(maps, prior, parts, mode), uniform, atol=1e-5, rtol=0)
    whole = F.interpolate(maps, size=(parts * uniform.shape[3], 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(torch.cat(list(uniform.unbind(1)), 2), whole, atol=1e-5, rtol=0)


def test_by_hand():
    # rows 0..8; crop rows 2..5 (values 2, 3, 4), enlarge to 9 rows: steps of 1/3, clamped at the crop's own rows
    maps = torch.arange(9.0).view(1, 1, 9, 1)
    prior = make_prior([2 / 9], [5 / 9], height=9, width=1)
    result = part_features(maps, prior, 3, "roi").flatten()
    expected = [2, 2, 7 / 3, 8 / 3, 3, 10 / 3, 11 / 3, 4, 4]
    torch.testing.assert_close(result, torch.tensor(expected), atol=1e-5, rtol=0)


def test_shifting_image_and_boundaries_together_changes_nothing():
    # the reason for the prior: a person 4 rows lower gives the same parts
    maps = random_map(1)
    shifted = torch.zeros_like(maps)
    shifted[:, :, 4:] = maps[:, :, :-4]
    here = part_features(maps, make_prior([2 / 24], [18 / 24]), 6, "roi")
    there = part_features(shifted, make_prior([6 / 24], [22 / 24]), 6, "roi")
    torch.testing.assert_close(here, there, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["uniform", "roi", "roi-mask"])
@pytest.mark.parametrize("parts", [2, 4])
def test_differentiable(mode, parts):
    maps = random_map(2, 2, 6, 3).requires_grad_()
    mask = torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(1)) > 0.4
    prior = make_prior([0.1, 0.3], [0.9, 1.0], mask)
    assert torch.autograd.gradcheck(lambda x: part_features(x, prior, parts, mode), maps)


def test_channels_last_and_half_precision():
    maps = random_map(dtype=torch.float32)
    prior = make_prior([0.1, 0.2, 0.0], [0.9, 0.8, 1.0])
    plain = part_features(maps, prior, 6)
    torch.testing.assert_close(part_features(maps.contiguous(memory_format=torch.channels_last), prior, 6), plain)
    half = part_features(maps.bfloat16(), prior, 6)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, atol=0.05, rtol=0.02)


def test_errors_say_what_to_do():
    maps = random_map()
    prior = make_prior([0.0] * 3, [1.0] * 3)
    with pytest.raises(UnknownNameError, match="roi-mask"):
        part_features(maps, prior, 6, "mask")
    with pytest.raises(PriorError, match="uniform"):
        part_features(maps, None, 6, "roi")
    with pytest.raises(PriorError, match=r"grid \(24, 8\)"):
        part_features(maps, make_prior([0.0] * 3, [1.0] * 3, height=12, width=4), 6, "roi-mask")
    with pytest.raises(PriorError, match="3 feature maps"):
        part_features(maps, make_prior([0.0] * 2, [1.0] * 2), 6, "roi")


@pytest.mark.parametrize("num_parts", [0, -1, 2.0])
@pytest.mark.parametrize("mode", ["uniform", "roi-mask"])
def test_a_number_of_parts_is_a_whole_number_from_one_on(num_parts, mode):
    with pytest.raises(PriorError, match=f"num_parts={num_parts}:"):
        part_features(random_map(), make_prior([0.0] * 3, [1.0] * 3), num_parts, mode)


def test_the_prior_of_one_image_is_no_batch():
    one = CoarsePrior(np.ones((24, 8), bool), 0.0, 1.0, True)
    for prior, kind in ((one, "CoarsePrior"), ([one] * 3, "list"), (tuple(make_prior([0.0] * 3, [1.0] * 3)), "tuple")):
        with pytest.raises(PriorError, match=f"expected a PriorBatch.* not a {kind}:"):
            part_features(random_map(), prior, 6)
