"""The imperfect tools fail in the documented ways, at the documented rates."""

import numpy as np
import pytest

from reidkit.data.sidewalk.detector import LEVELS
from reidkit.data.sidewalk.identity import make_identities
from reidkit.data.sidewalk.labels import (
    IS_OTHER,
    LIP_HEAD,
    LIP_LEGS,
    LIP_OF_CODE,
    LIP_SHOES,
    UNDEFINED,
    parsing_map,
    segmentation_map,
)
from reidkit.data.sidewalk.plan import Settings, plan, take
from reidkit.data.sidewalk.render import render
from reidkit.data.sidewalk.scene import clean_camera
from reidkit.data.sidewalk.tools import ToolRates, tool_outputs
from reidkit.errors import DatasetError
from reidkit.priors import coarse_prior

RELIABLE = dict.fromkeys(("no_head", "no_legs", "no_shoes", "merged", "empty", "band", "bleed"), 0.0)


@pytest.fixture(scope="module")
def codes():
    """A person in full view with a backpack, seen from behind."""
    person = next(p for p in make_identities(200, (3, 1)) if p.bag == "backpack" and not p.scarf)
    for seed in range(100):
        picture = render(person, clean_camera(128, 64), np.random.default_rng(seed), LEVELS["none"], (128, 64))
        if 2.8 < picture.yaw < 3.5:
            return picture.codes
    raise AssertionError("nobody walks away")


def outputs(codes, seed, **rates):
    return tool_outputs(codes, np.random.default_rng(seed), ToolRates(**{**RELIABLE, **rates}))


def test_parsing_ignores_accessories_and_neck_but_segmentation_holds_them(codes):
    parsing, segmentation, faults = outputs(codes, 0)
    undefined = LIP_OF_CODE[codes] == UNDEFINED
    assert faults == [] and undefined.sum() > 100
    sampled = np.zeros_like(undefined)
    sampled[::2, ::2] = True  # parsing borders are coarse; here it looked
    assert (parsing[undefined & sampled] == 0).all()
    assert np.array_equal(parsing[sampled], parsing_map(codes)[sampled])
    assert segmentation[undefined].mean() > 0.9
    assert (segmentation == segmentation_map(codes)).mean() > 0.97


@pytest.mark.parametrize(
    ("fault", "labels"), [("no_head", LIP_HEAD), ("no_legs", LIP_LEGS), ("no_shoes", LIP_SHOES)], ids=lambda v: str(v)
)
def test_parsing_loses_parts(codes, fault, labels):
    parsing, _, faults = outputs(codes, 1, **{fault: 1.0})
    assert faults == [fault.replace("_", "-")]
    assert not np.isin(parsing, labels).any() and np.isin(parsing_map(codes), labels).any()
    assert (parsing > 0).sum() > 100  # the rest is still there


def test_segmentation_is_empty_or_loses_a_band_or_bleeds(codes):
    truth = segmentation_map(codes)
    _, empty, faults = outputs(codes, 1, empty=1.0)
    assert faults == ["empty"] and not empty.any()
    _, band, faults = outputs(codes, 1, band=1.0)
    lost = truth.any(axis=1) & ~band.any(axis=1)
    assert faults == ["band"] and 0.2 < lost.sum() / truth.any(axis=1).sum() < 0.4
    _, bleed, faults = outputs(codes, 1, bleed=1.0)
    assert faults == ["bleed"] and (bleed & ~truth).mean() > 0.01


def test_parsing_merges_a_person_who_stands_in_front():
    people = make_identities(40, (3, 2))
    crowded = LEVELS["strong"]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        picture = render(people[seed % 40], clean_camera(128, 64), rng, crowded, (128, 64), people)
        if picture.occluder == "person" and IS_OTHER[picture.codes].mean() > 0.1:
            break
    other = IS_OTHER[picture.codes]
    for merged in (0.0, 1.0):
        rates = ToolRates(**{**RELIABLE, "merged": merged})
        parsing, _, faults = tool_outputs(picture.codes, np.random.default_rng(0), rates, occluder="person")
        assert faults == ["merged"] * int(merged)
        assert (parsing[other] > 0).mean() > 0.5 if merged else (parsing[other] > 0).mean() < 0.2


@pytest.mark.parametrize(("quality", "occluder", "factor"), [(1.0, "none", 1), (0.5, "none", 3), (0.5, "crate", 4)])
def test_rates_are_as_documented(codes, quality, occluder, factor):
    small, rates, rng, n = codes[::4, ::4], ToolRates(), np.random.default_rng(0), 3000
    struck = [fault for _ in range(n) for fault in tool_outputs(small, rng, rates, quality, occluder)[2]]
    for name in ("no_head", "no_legs", "no_shoes", "empty", "band", "bleed"):
        p = getattr(rates, name) * factor
        assert struck.count(name.replace("_", "-")) / n == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5), name
    assert "merged" not in struck


def test_other_rates_do_not_change_the_pixels():
    shot = plan(Settings("tiny"))[0][3]
    a, b = (take(Settings("tiny", 0, rates), shot) for rates in (ToolRates(), ToolRates(no_head=1.0)))
    assert np.array_equal(a[0].image, b[0].image) and "no-head" in b[3]


def test_nine_of_ten_training_images_give_a_reliable_prior():
    settings = Settings("small")
    shots = [shot for chunk in plan(settings) for shot in chunk if shot.folder == "bounding_box_train"][::5]
    reliable = [coarse_prior(*take(settings, shot)[1:3], grid=(24, 8)).reliable for shot in shots]
    assert len(reliable) > 500 and 0.86 < np.mean(reliable) < 0.94


def test_rates_out_of_range_are_named():
    with pytest.raises(DatasetError, match=r"band=1\.5"):
        ToolRates(band=1.5)
