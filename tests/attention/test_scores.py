"""Scores of attention maps: hand-made maps with known answers, a planted network, a model on Sidewalk."""

import numpy as np
import pytest
import torch
from attention_networks import SIZE, make_model, planted_images, planted_model
from attention_truth import THIRDS, plain_truth

from reidkit.attention import part_attention
from reidkit.attention.scores import (
    area,
    background_energy,
    body_rows,
    diversity,
    own_stripe_argmax,
    part_energy,
    pointing_game,
    score_model,
    stripe_regions,
)
from reidkit.data.sidewalk import load_truth
from reidkit.errors import PriorError, ReIDKitError

NAN = float("nan")


def two_maps():
    """One image of 4x2 pixels, K=2. Map 0: 3 at (0,0), 1 at (3,1). Map 1: 2 at (2,0), 2 at (2,1)."""
    maps = np.zeros((1, 2, 4, 2))
    maps[0, 0, 0, 0], maps[0, 0, 3, 1] = 3, 1
    maps[0, 1, 2] = 2
    return maps


def halves():
    """Region 0: the upper two rows; region 1: the lower two."""
    regions = np.zeros((1, 2, 4, 2), bool)
    regions[0, 0, :2] = regions[0, 1, 2:] = True
    return regions


def test_energy_pointing_and_area_by_hand():
    np.testing.assert_allclose(part_energy(two_maps(), halves()), [[0.75, 1.0]])
    np.testing.assert_allclose(part_energy(torch.tensor(two_maps()), halves()), [[0.75, 1.0]])  # tensors too
    np.testing.assert_array_equal(pointing_game(two_maps(), halves()), [[1, 1]])
    swapped = halves()[:, ::-1]
    np.testing.assert_allclose(part_energy(two_maps(), swapped), [[0.25, 0.0]])
    np.testing.assert_array_equal(pointing_game(two_maps(), swapped), [[0, 0]])
    np.testing.assert_allclose(area(halves()), [[0.5, 0.5]])


def test_background_by_hand():
    person = np.ones((1, 4, 2), bool)
    person[0, :, 1] = False  # the right column is background
    np.testing.assert_allclose(background_energy(two_maps(), person), [[0.25, 0.5]])


def test_own_stripe_argmax_by_hand():
    rows = halves()[..., 0]
    np.testing.assert_array_equal(own_stripe_argmax(two_maps(), rows), [[1, 1]])
    np.testing.assert_array_equal(own_stripe_argmax(two_maps()[:, ::-1], rows), [[0, 0]])
    rows = rows.copy()
    rows[0, 1] = False  # stripe 1 is not in the picture
    np.testing.assert_array_equal(own_stripe_argmax(two_maps(), rows), [[1, NAN]])


def test_diversity_by_hand():
    maps = two_maps()
    assert diversity(maps) == pytest.approx([0])  # disjoint
    assert diversity(np.concatenate([maps[:, :1]] * 3, 1)) == pytest.approx([1])  # one map three times
    a, b, c = np.zeros((3, 1, 1, 2, 1))
    a[..., 0, 0] = b[..., 1, 0] = 1
    c[...] = 1  # at 45 degrees to both
    assert diversity(np.concatenate([a, b, c], 1)) == pytest.approx([2 * 0.5**0.5 / 3])
    assert np.isnan(diversity(maps[:, :1])).all()
    random = np.random.default_rng(0).random((2, 3, 100, 100))
    assert diversity(random) == pytest.approx([0.75, 0.75], abs=0.01)  # the docstring's chance level


def test_blank_maps_and_missing_regions_are_nan_not_zero():
    maps, regions = two_maps(), halves()
    maps[0, 0] = 0
    for score in (part_energy, pointing_game):
        np.testing.assert_array_equal(score(maps, regions), [[NAN, 1]])
    np.testing.assert_array_equal(own_stripe_argmax(maps, regions[..., 0]), [[NAN, 1]])
    np.testing.assert_array_equal(background_energy(maps, regions[:, 0]), [[NAN, 1]])
    regions[0, 1] = False
    for score in (part_energy, pointing_game):
        np.testing.assert_array_equal(score(two_maps(), regions)[0, 1], NAN)
    assert np.isnan(area(regions)[0, 1])


def test_wrong_maps_are_refused():
    for maps in (two_maps() - 1, two_maps() * NAN):
        with pytest.raises(ReIDKitError, match="not negative and not NaN"):
            part_energy(maps, halves())
    with pytest.raises(ReIDKitError, match=r"\(1, 2, 4, 2\).*\(1, 2, 4, 1\)"):
        part_energy(two_maps(), halves()[..., :1])
    with pytest.raises(ReIDKitError, match="need rows"):
        own_stripe_argmax(two_maps(), halves()[:, :, :3, 0])


def test_chance_levels():
    """Random maps score what the docstrings call chance."""
    rng = np.random.default_rng(0)
    maps, regions = rng.random((300, 4, 12, 6)), np.zeros((300, 4, 12, 6), bool)
    for k in range(4):
        regions[:, k, 3 * k : 3 * k + 3] = True
    assert part_energy(maps, regions).mean() == pytest.approx(0.25, abs=0.01)
    assert pointing_game(maps, regions).mean() == pytest.approx(0.25, abs=0.03)
    assert own_stripe_argmax(maps, regions[..., 0]).mean() == pytest.approx(0.25, abs=0.03)
    assert background_energy(maps, regions[:, 0]).mean() == pytest.approx(0.75, abs=0.01)


def test_planted_network_scores():
    """Colours at rows 0-1, 4-5, 9-10 of 12 on a person of columns 1-2; one image is shifted down by a row of cells."""
    first, second = ((0, 2), (4, 6), (9, 11)), ((1, 3), (5, 7), (10, 12))
    images = torch.cat([planted_images(first, 1), planted_images(second, 1)])
    parts = np.zeros((2, *SIZE), np.uint8)
    parts[0, :88, 8:24] = parts[1, 8:, 8:24] = 1
    truth = plain_truth(parts, 0.0, 1.0)
    truth.top[:], truth.bottom[:] = [0, 1 / 12], [11 / 12, 1]
    maps = part_attention(planted_model(), images)
    regions = stripe_regions(truth, THIRDS, SIZE)
    assert part_energy(maps, regions).min() > 0.6  # columns: the interpolation's border spills over
    assert pointing_game(maps, regions).min() == 1
    rows = body_rows(truth.top, truth.bottom, THIRDS, SIZE[0])
    assert own_stripe_argmax(maps, rows).min() == 1
    assert diversity(maps).max() < 0.05
    assert background_energy(maps, parts > 0).max() < 0.35
    wrong = maps.flip(1)
    assert part_energy(wrong, regions)[:, [0, 2]].max() < 0.1 and own_stripe_argmax(wrong, rows)[:, 0].max() == 0


def test_score_model_on_sidewalk(sidewalk_tiny):
    table = sidewalk_tiny.query.iloc[:6]
    truth = load_truth(sidewalk_tiny, table)
    model = make_model("mpn")
    scores = score_model(model, table, truth, size=SIZE, batch_size=4, progress=False)
    assert {
        "own_energy",
        "pointing",
        "own_argmax",
        "similarity",
        "background",
        "blank",
        "shift",
        "scale",
        "occlude",
        "random_heads",
        "random_all",
        "body_part_energy",
    } <= scores.keys()
    assert all(np.isfinite(v) for v in scores.values()), scores
    assert scores["own_argmax_chance"] == pytest.approx(1 / 6)
    assert 0.02 < scores["own_energy_chance"] < 0.12
    assert scores["background_chance"] == pytest.approx(1 - (truth.parts > 0).mean())
    whole = score_model(model, table, truth, size=SIZE, checks=False, progress=False)  # another batch size
    assert whole.keys() < scores.keys()
    for name, value in whole.items():
        assert value == pytest.approx(scores[name], abs=1e-3), name
    classes = np.arange(6) % 7
    other = score_model(model, table, truth, size=SIZE, checks=False, classes=classes, progress=False)
    assert other["own_energy"] != pytest.approx(whole["own_energy"], abs=1e-6)
    with pytest.raises(ReIDKitError, match="6 images and the truth of 3"):
        score_model(model, table, load_truth(sidewalk_tiny, table[:3]), size=SIZE)
    with pytest.raises(PriorError, match="pass priors="):
        score_model(make_model("baseline-ub"), table, truth, size=SIZE)


@pytest.mark.parametrize("name", ["cgpn", "ide"])
def test_overlapping_parts_have_no_own_argmax(name, sidewalk_tiny):
    table = sidewalk_tiny.query.iloc[:2]
    scores = score_model(
        make_model(name), table, load_truth(sidewalk_tiny, table), size=SIZE, checks=False, progress=False
    )
    assert np.isnan(scores["own_argmax"]) and np.isfinite(scores["own_energy"])
