"""The prior pipeline of MPN Sec. 3.2 against a slow reference and examples worked by hand."""

from fractions import Fraction

import numpy as np
import pytest
from counting import function_calls
from needs import need

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.bench.priors import synthetic_maps
from reidkit.data.lip import LIP_COLOURS
from reidkit.errors import PriorError, ReIDKitError
from reidkit.priors import coarse_prior, coarse_priors, prior_steps
from reidkit.priors.coarse import area_weights
from reidkit.priors.labels import (
    ATR_LABELS,
    HEAD_LABELS,
    LEG_LABELS,
    LIP_LABELS,
    PASCAL_LABELS,
    label_table,
    to_lip_table,
)


def slow_prior(parsing, segmentation, grid, min_head, min_leg, threshold):
    """The pipeline pixel by pixel, with fractions: no rounding anywhere."""
    H, W = parsing.shape
    h, w = grid
    head = sum(int(v) in (1, 2, 4, 13) for v in parsing.flat)
    legs = sum(int(v) in (8, 9, 16, 17, 18, 19) for v in parsing.flat)
    mask = [[False] * w for _ in range(h)]
    for i in range(h):
        for j in range(w):
            area = Fraction(0)
            for y in range(H):
                for x in range(W):
                    dy = min(Fraction(y + 1), Fraction((i + 1) * H, h)) - max(Fraction(y), Fraction(i * H, h))
                    dx = min(Fraction(x + 1), Fraction((j + 1) * W, w)) - max(Fraction(x), Fraction(j * W, w))
                    if dy > 0 and dx > 0 and (parsing[y, x] > 0 or segmentation[y, x]):
                        area += dy * dx
            if area * h * w / (H * W) >= threshold:
                mask[i][j] = True
                if j + 1 < w:
                    mask[i][j + 1] = mask[i][j + 1] or "dilated"
    mask = np.array([[bool(v) for v in row] for row in mask])
    rows = [i for i in range(h) if mask[i].any()]
    if head <= min_head * H * W or legs <= min_leg * H * W or not rows:
        return np.ones(grid, bool), 0.0, 1.0, False
    return mask, rows[0] / h, (rows[-1] + 1) / h, True


@given(
    H=st.integers(3, 11),
    W=st.integers(2, 8),
    h=st.integers(1, 6),
    w=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    body=st.floats(0.1, 0.7),
)
@settings(max_examples=40, deadline=None)
def test_one_image_and_batches_agree_with_the_slow_reference(H, W, h, w, seed, body):
    rng = np.random.default_rng(seed)
    parsings = np.where(rng.random((3, H, W)) < body, rng.integers(0, 20, (3, H, W)), 0)
    segmentations = rng.random((3, H, W)) < body
    keys = {"min_head": 0.05, "min_leg": 0.1, "threshold": 0.5}
    batch = coarse_priors(parsings, segmentations, (h, w), **keys)
    for i in range(3):
        mask, top, bottom, reliable = slow_prior(parsings[i], segmentations[i], (h, w), *keys.values())
        one = coarse_prior(parsings[i], segmentations[i], (h, w), **keys)
        assert np.array_equal(one.mask, mask) and np.array_equal(batch.mask[i].numpy(), mask)
        assert (one.top, one.bottom, one.reliable) == pytest.approx((top, bottom, reliable))
        assert (batch.top[i].item(), batch.bottom[i].item()) == pytest.approx((top, bottom))
        assert batch.reliable[i].item() == reliable


def test_area_averaging_is_exact_where_the_grid_does_not_divide_the_image():
    image = np.random.default_rng(0).random((7, 5))
    h, w = 3, 4
    averaged = area_weights(7, h) @ image @ area_weights(5, w).T / 35
    fine = np.kron(image, np.ones((h, w)))  # each pixel h x w times: now the grid divides it
    assert np.allclose(averaged, fine.reshape(h, 7, w, 5).mean(axis=(1, 3)), atol=1e-6)
    assert np.allclose(area_weights(7, h).sum(axis=1), 7)
    assert area_weights(4, 8).tolist()[:2] == [[4, 0, 0, 0], [4, 0, 0, 0]]  # a finer grid repeats pixels


def figure() -> tuple[np.ndarray, np.ndarray]:
    """8 x 4 pixels: face in row 1, coat in rows 2-3, trousers in rows 4-5, a bag that only segmentation sees."""
    parsing = np.zeros((8, 4), int)
    parsing[1, 1:3], parsing[2:4, 1:3], parsing[4:6, 1:3] = 13, 7, 9
    segmentation = np.zeros((8, 4), bool)
    segmentation[2:4, 0] = True
    return parsing, segmentation


def test_example_by_hand():
    steps = prior_steps(*figure(), grid=(4, 2), min_head=0.05, min_leg=0.1)
    assert (steps.head_pixels, steps.leg_pixels) == (2, 4)
    assert (steps.head_needed, steps.leg_needed) == pytest.approx((1.6, 3.2))
    # cells are 2 x 2 pixels: 1 of 4 body pixels in row 0, the coat and the bag in row 1, trousers in row 2
    assert steps.resized.tolist() == [[0.25, 0.25], [1.0, 0.5], [0.5, 0.5], [0, 0]]
    assert steps.binarised.tolist() == [[False, False], [True, True], [True, True], [False, False]]
    assert steps.rows == (1, 2)
    assert (steps.top, steps.bottom, steps.reliable, steps.reason) == (0.25, 0.75, True, "")
    assert steps.stripes.tolist() == pytest.approx([0.25 + 0.5 * k / 6 for k in range(7)])
    assert steps.prior.mask.tolist() == steps.dilated.tolist()


def test_dilation_widens_to_the_right_by_one():
    parsing = np.zeros((4, 8), int)
    parsing[0, 2], parsing[1:, 2] = 2, 16
    prior = coarse_prior(parsing, parsing > 0, grid=(4, 8))
    assert np.flatnonzero(prior.mask[1]).tolist() == [2, 3]
    both = coarse_priors(parsing[None], parsing[None] > 0, (4, 8))
    assert np.array_equal(both.mask[0].numpy(), prior.mask)
    steps = prior_steps(parsing, parsing > 0, grid=(4, 8))  # the picture before stays as it was
    assert np.flatnonzero(steps.binarised[1]).tolist() == [2] and np.array_equal(steps.dilated, prior.mask)


@pytest.mark.parametrize("labels, reason", [(HEAD_LABELS, "no head"), (LEG_LABELS, "no leg")])
def test_without_head_or_legs_the_whole_image_is_divided(labels, reason):
    parsing, segmentation = figure()
    parsing[np.isin(parsing, labels)] = 0
    steps = prior_steps(parsing, segmentation, grid=(4, 2))
    assert steps.reason == reason and not steps.reliable
    assert steps.mask.all() and (steps.top, steps.bottom) == (0.0, 1.0)
    assert steps.union.any() and not steps.dilated.all()  # the pictures on the way are still there
    batch = coarse_priors(parsing[None], segmentation[None], (4, 2))
    assert batch.mask.all() and (batch.top.item(), batch.bottom.item(), batch.reliable.item()) == (0, 1, False)


def test_head_and_legs_but_an_empty_mask_is_not_reliable():
    parsing = np.zeros((8, 8), int)
    parsing[0, 0], parsing[7, 0] = 2, 16  # one pixel each: present, but no 4 x 4 cell is half full
    steps = prior_steps(parsing, np.zeros((8, 8), bool), grid=(2, 2), min_head=0.01, min_leg=0.01)
    assert steps.reason == "empty mask" and steps.mask.all() and steps.rows is None
    assert not coarse_priors(parsing[None], np.zeros((1, 8, 8), bool), (2, 2)).reliable.item()


def test_present_means_more_than_the_threshold():
    parsing, segmentation = figure()  # 2 of 32 pixels are head
    assert coarse_prior(parsing, segmentation, (4, 2), min_head=1.9 / 32).reliable
    assert not coarse_prior(parsing, segmentation, (4, 2), min_head=2 / 32).reliable
    parsing[1, 1:3] = 0  # even a threshold of 0 asks for one pixel
    assert not coarse_prior(parsing, segmentation, (4, 2), min_head=0).reliable


def test_unasked_more_than_four_and_ten_pixels_of_a_thousand_are_present():
    """On the grid of 24 x 8 cells that both papers have."""
    for heads, legs, reliable in ((5, 11, True), (4, 11, False), (5, 10, False)):
        parsing = np.zeros((50, 20), int)
        parsing[10:40, 5:15] = 5
        parsing[10, 5 : 5 + heads], parsing[30, 5:15], parsing[31, 5 : legs - 5] = 2, 9, 9
        one, batch = coarse_prior(parsing, parsing > 0), coarse_priors(parsing[None], parsing[None] > 0)
        assert (one.reliable, batch.reliable.tolist()) == (reliable, [reliable])
        assert one.mask.shape == (24, 8) and batch.mask.shape == (1, 24, 8)
        assert prior_steps(parsing, parsing > 0).dilated.shape == (24, 8)


def test_more_than_means_more_than_in_batches_too():
    parsing, segmentation = (m[None] for m in figure())  # 2 of 32 pixels are head, 4 leg
    for limits, reliable in (
        ({"min_head": 2 / 32, "min_leg": 0}, False),
        ({"min_head": 1.9 / 32, "min_leg": 3.9 / 32}, True),
        ({"min_head": 0, "min_leg": 4 / 32}, False),
        ({"min_head": 1, "min_leg": 0}, False),
        ({"min_head": 0, "min_leg": 1}, False),
    ):
        assert coarse_priors(parsing, segmentation, (4, 2), **limits).reliable.item() is reliable
        assert coarse_prior(parsing[0], segmentation[0], (4, 2), **limits).reliable is reliable


def test_the_threshold_may_be_none_or_all_of_a_cell():
    parsing, segmentation = figure()
    limits = {"min_head": 0, "min_leg": 0}
    for threshold, cells in ((0, [[1, 1]] * 4), (1, [[0, 0], [1, 1], [0, 0], [0, 0]])):
        one = coarse_prior(parsing, segmentation, (4, 2), threshold=threshold, **limits)
        batch = coarse_priors(parsing[None], segmentation[None], (4, 2), threshold=threshold, **limits)
        assert one.mask.tolist() == batch.mask[0].tolist() == np.array(cells, bool).tolist()


@pytest.mark.parametrize("images", [1, 2, 5])
def test_chunks_change_nothing(monkeypatch, images):
    parsings, segmentations = synthetic_maps(5, 48, 16)
    parsings[3] = 0  # not reliable
    whole = coarse_priors(parsings, segmentations)
    monkeypatch.setattr("reidkit.priors.coarse.CHUNK_PIXELS", images * 48 * 16)
    parts = coarse_priors(parsings, segmentations)
    assert parts.reliable.tolist() == [True, True, True, False, True]
    for name in ("mask", "top", "bottom", "reliable"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()


def test_no_images_no_priors():
    none = coarse_priors(np.zeros((0, 8, 4), int), np.zeros((0, 8, 4), np.float32), (4, 2))
    assert none.mask.shape == (0, 4, 2) and none.top.shape == none.reliable.shape == (0,)


def test_weights_of_cells_are_shared_and_cannot_be_written():
    assert area_weights(8, 4) is area_weights(8, 4)
    with pytest.raises(ValueError, match="read-only"):
        area_weights(8, 4)[0, 0] = 1


def test_stripes_are_as_many_as_asked():
    assert prior_steps(*figure(), grid=(4, 2), num_parts=2).stripes.tolist() == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("label, refused", [(0, False), (19, False), (20, True)])
def test_labels_end_at_19(label, refused):
    parsing = np.full((8, 4), label)
    if refused:
        with pytest.raises(PriorError, match="label 20 "):
            coarse_prior(parsing, parsing > 0)
    else:
        assert not coarse_prior(parsing, parsing > 0).reliable


def test_a_soft_map_may_touch_both_ends_of_its_range():
    parsing, segmentation = figure()
    soft = segmentation.astype(np.float32)
    one, other = (coarse_prior(parsing, maps, (4, 2)).mask for maps in (soft, segmentation))
    assert one.tolist() == other.tolist()
    for wrong in (-0.25, 1.25):
        with pytest.raises(PriorError, match=str(wrong)):
            coarse_prior(parsing, np.where(segmentation, wrong, 0.5), (4, 2))


def test_soft_segmentation_counts_by_its_value():
    parsing, _ = figure()
    soft = np.full((8, 4), 0.4, np.float32)
    assert coarse_prior(parsing, soft, (4, 2), threshold=0.5).bottom == 0.75
    assert coarse_prior(parsing, soft, (4, 2), threshold=0.39).bottom == 1.0


def test_label_sets():
    assert {LIP_LABELS[i] for i in HEAD_LABELS} == {"hat", "hair", "sunglasses", "face"}
    assert {LIP_LABELS[i] for i in LEG_LABELS} == {"socks", "pants", "left-leg", "right-leg", "left-shoe", "right-shoe"}
    assert label_table("lip").tolist() == list(range(20))
    atr = label_table("atr")
    same = {name: LIP_LABELS[atr[i]] for i, name in enumerate(ATR_LABELS)}
    assert same.pop("belt") == "upper-clothes" and same.pop("bag") == "background"
    assert all(name == lip for name, lip in same.items()) and len(atr) == 18
    pascal = label_table("pascal")
    heads = [n for n, lip in zip(PASCAL_LABELS, pascal) if lip in HEAD_LABELS]
    legs = [n for n, lip in zip(PASCAL_LABELS, pascal) if lip in LEG_LABELS]
    assert (heads, legs) == (["head"], ["upper-legs", "lower-legs"])
    assert len(np.unique(LIP_COLOURS, axis=0)) == 20
    with pytest.raises(ReIDKitError, match="lip"):
        label_table("lipp")
    with pytest.raises(PriorError, match="'Wing'"):
        to_lip_table(["Background", "Wing"])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p, s: (p, s[:-1]), "8x4.*7x4"),
        (lambda p, s: (p + 11, s), "label 24"),
        (lambda p, s: (p - 1, s), "label -1"),
        (lambda p, s: (np.where(p == 7, 19, p - 1), s), "label -1"),
        (lambda p, s: (np.where(p == 7, 20, p), s), "label 20"),
        (lambda p, s: (p.astype(float), s), "float64"),
        (lambda p, s: (p, s * 255.0), "255"),
        (lambda p, s: (p, np.where(s, np.nan, 0)), r"\[0, 1\]"),
    ],
)
def test_bad_maps_are_refused(change, message):
    parsing, segmentation = change(*figure())
    with pytest.raises(PriorError, match=message):
        coarse_prior(parsing, segmentation)
    with pytest.raises(PriorError, match=message):
        coarse_priors(parsing[None], segmentation[None])


@pytest.mark.parametrize(
    "bad",
    [
        {"grid": (0, 8)},
        {"grid": (4, 2, 1)},
        {"grid": (2.5, 8)},
        {"grid": 24},
        {"grid": "ab"},
        {"threshold": 1.5},
        {"min_head": -0.1},
        {"min_leg": 2},
    ],
)
def test_senseless_settings_are_refused(bad):
    with pytest.raises(PriorError, match="got"):
        coarse_prior(*figure(), **bad)
    with pytest.raises(PriorError, match="got"):
        coarse_priors(*(m[None] for m in figure()), **bad)


def test_no_work_an_image():
    """Eight images take as many calls as one, and many images few chunks (`reidkit bench priors`: the rate)."""
    one, eight = synthetic_maps(1, 48, 16), synthetic_maps(8, 48, 16)
    assert coarse_priors(*eight).reliable.all()
    assert function_calls(lambda: coarse_priors(*eight)) == function_calls(lambda: coarse_priors(*one))
    many = [np.repeat(m, 16, axis=0) for m in synthetic_maps(8, 384, 128)]  # 128 images
    assert function_calls(lambda: coarse_priors(*many)) < 128
