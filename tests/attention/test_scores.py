"""Scores of attention maps: hand-made maps with known answers, a planted network, and what must destroy a map."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from attention_networks import SIZE, Planted, make_images, make_model, make_prior, planted_images, planted_model
from needs import need
from typer.testing import CliRunner

from reidkit.attention import part_attention
from reidkit.attention.checks import change_images, change_maps, change_prior, pearson, spearman, ssim
from reidkit.attention.scores import (
    area,
    background_energy,
    body_part_regions,
    body_rows,
    consistency,
    diversity,
    own_stripe_argmax,
    part_energy,
    pointing_game,
    randomised,
    sanity_check,
    score_model,
    score_runs,
    stripe_regions,
)
from reidkit.cli import app
from reidkit.data.sidewalk import PART_NAMES, Truth, load_truth
from reidkit.errors import CheckpointError, PriorError, ReIDKitError, UnknownNameError
from reidkit.models import create_model
from reidkit.priors import PriorBatch

THIRDS = ((0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1))
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


def plain_truth(parts, top, bottom):
    parts = np.asarray(parts, np.uint8)
    n = len(parts)
    blank = np.zeros_like(parts)
    return Truth(
        codes=blank,
        parts=parts,
        parsing=blank,
        segmentation=parts > 0,
        top=np.full(n, top),
        bottom=np.full(n, bottom),
        visibility=np.ones((n, len(PART_NAMES))),
    )


# ---- hand-made maps -------------------------------------------------------------------------------------------------


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


# ---- regions --------------------------------------------------------------------------------------------------------


def test_body_rows_by_hand():
    rows = body_rows([0.0, 0.25], [1.0, 1.0], THIRDS, 12)
    assert [np.flatnonzero(r).tolist() for r in rows[0]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert [np.flatnonzero(r).tolist() for r in rows[1]] == [[3, 4, 5], [6, 7, 8], [9, 10, 11]]
    cut = body_rows([-0.5], [1.0], THIRDS, 12)  # the crop begins a third down the body
    assert [len(np.flatnonzero(r)) for r in cut[0]] == [0, 6, 6]
    assert not body_rows([NAN], [NAN], THIRDS, 12).any()
    whole = body_rows([0.0], [1.0], ((0, 1), (0, 2 / 3)), 12)
    assert whole[0].sum(1).tolist() == [12, 8]


def test_regions_from_truth():
    parts = np.zeros((1, 12, 4))
    parts[0, :3, 1:3], parts[0, 3:7, 1:3], parts[0, 7:, 1:3] = 1, 2, 4  # head, torso, legs
    truth = plain_truth(parts, 0.0, 1.0)
    stripes = stripe_regions(truth, THIRDS, (12, 4))
    assert stripes.sum((2, 3)).tolist() == [[8, 8, 8]] and not stripes[..., 0].any()
    assert stripes[0, 0, :4, 1:3].all()
    regions, names = body_part_regions(truth, THIRDS, (12, 4))
    assert names == ["head", "torso", "legs"]
    np.testing.assert_array_equal(regions[0, 2], parts[0] == 4)
    double = stripe_regions(truth, THIRDS, (24, 8))  # maps larger than the truth
    np.testing.assert_array_equal(double, stripes.repeat(2, 2).repeat(2, 3))


def test_tiny_regions_are_not_in_the_picture():
    parts = np.zeros((1, 40, 20))
    parts[0, 0, 0] = 1  # 1 of 800 pixels
    parts[0, 20:, :] = 4
    assert stripe_regions(plain_truth(parts, 0.0, 1.0), THIRDS, (40, 20)).any((2, 3)).tolist() == [[False, True, True]]


def test_regions_of_sidewalk(sidewalk_tiny):
    truth = load_truth(sidewalk_tiny, sidewalk_tiny.train.iloc[:40])
    extents = tuple((k / 6, (k + 1) / 6) for k in range(6))
    stripes = stripe_regions(truth, extents, SIZE)
    assert stripes.shape == (40, 6, *SIZE)
    assert (stripes.sum(1) <= 1).all() and not (stripes.any(1) & ~truth.segmentation).any()
    _, names = body_part_regions(truth, extents, SIZE)
    assert names[0] == "head" and names[1] == "torso" and names[4] == "legs"


# ---- similarities and changes ---------------------------------------------------------------------------------------


def test_spearman_against_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 3, 9, 7)) / 5, rng.random((2, 3, 9, 7))  # a has many ties
    b += a
    spearmanr = need("scipy.stats").spearmanr
    slow = [[spearmanr(a[i, k].ravel(), b[i, k].ravel())[0] for k in range(3)] for i in range(2)]
    np.testing.assert_allclose(spearman(a, b), slow, atol=1e-12)
    np.testing.assert_allclose(spearman(a, a**3), 1)  # only the order counts
    assert np.isnan(spearman(a * 0, b)).all()


def test_pearson_and_ssim():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 20, 12))
    slow = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b)]
    np.testing.assert_allclose(pearson(a, b), slow)
    valid = np.zeros((20, 12), bool)
    valid[:5] = True
    b[:, :5] = 3 * a[:, :5] + 1
    np.testing.assert_allclose(pearson(a, b, valid), 1)
    np.testing.assert_allclose(ssim(a, a), 1)
    assert (ssim(a, rng.random(a.shape)) < 0.3).all() and ssim(a[0], a[0]).shape == ()


def test_ssim_of_one_window_by_hand():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 7, 7))
    cov = np.cov(a.ravel(), b.ravel(), bias=True)
    top = (2 * a.mean() * b.mean() + 1e-4) * (2 * cov[0, 1] + 9e-4)
    bottom = (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (cov[0, 0] + cov[1, 1] + 9e-4)
    assert ssim(a, b) == pytest.approx(top / bottom)


def test_shift_moves_whole_pixels():
    images = make_images(1, (20, 6))
    moved = change_images(images, "shift", 0.25)  # 5 rows
    torch.testing.assert_close(moved[:, :, 5:], images[:, :, :-5])
    torch.testing.assert_close(moved[:, :, :5], images[:, :, :1].expand(-1, -1, 5, -1))
    maps, valid = change_maps(images.abs(), "shift", 0.25)
    torch.testing.assert_close(maps[:, :, 5:], images.abs()[:, :, :-5])
    assert valid.sum(1).tolist() == [0] * 5 + [6] * 15


def test_scale_and_occlude():
    image = torch.zeros(1, 3, 40, 20)
    image[:, :, 18:22, 8:12] = 1  # 4x4 about the centre
    grown = change_images(image, "scale", 2.0)
    assert grown[0, 0].sum() == pytest.approx(64, abs=1e-3) and grown[0, 0, 17:23, 7:13].min() == 1
    _, valid = change_maps(image, "scale", 2.0)
    assert valid.all()
    assert not change_maps(image, "scale", 0.5)[1][:10].any()  # around the smaller picture
    covered = change_images(image + 1, "occlude", 0.25)
    assert (covered[:, :, :30] >= 1).all() and not covered[:, :, 30:].any()
    assert change_maps(image, "occlude", 0.25)[1].sum(1).tolist() == [20] * 30 + [0] * 10


def test_priors_move_with_the_picture():
    mask = torch.zeros(2, 20, 4, dtype=torch.bool)
    mask[0, 4:12], mask[1] = True, True
    prior = PriorBatch(mask, torch.tensor([0.2, 0]), torch.tensor([0.6, 1]), torch.tensor([True, False]))
    moved = change_prior(prior, "shift", 0.25)
    assert moved.top.tolist() == pytest.approx([0.45, 0]) and moved.bottom.tolist() == pytest.approx([0.85, 1])
    assert moved.mask[0].any(1).nonzero()[:, 0].tolist() == list(range(9, 17)) and moved.mask[1].all()
    grown = change_prior(prior, "scale", 2.0)
    assert grown.top.tolist() == pytest.approx([0, 0]) and grown.bottom.tolist() == pytest.approx([0.7, 1])
    assert grown.mask[0].any(1).nonzero()[:, 0].tolist() == list(range(14))
    assert change_prior(prior, "occlude", 0.3) is prior and change_prior(None, "shift", 0.1) is None


@pytest.mark.parametrize(("change", "amount"), [("shift", 1.0), ("shift", -0.1), ("scale", 0), ("occlude", 1.5)])
def test_amounts_out_of_range(change, amount):
    with pytest.raises(ReIDKitError, match=change):
        consistency(make_model("mpn"), make_images(), change, amount)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="shift"):
        consistency(make_model("mpn"), make_images(), "shft")
    with pytest.raises(UnknownNameError, match="heads"):
        randomised(make_model("mpn"), make_images(), layers="backbone")
    with pytest.raises(ReIDKitError, match="2 or more"):
        randomised(make_model("mpn"), make_images(1))


# ---- a planted network: its parts follow colours, those of fixed stripes do not --------------------------------------


def planted_stripes():
    """The planted network as a stripe baseline: part k reads colour 0 in stripe k, wherever the person stands."""
    from reidkit.models.mpn import MPNConfig

    model = MPNConfig(num_parts=3, part_dim=2, main=False, prior="uniform").build(Planted(), num_classes=4).eval()
    model.load_state_dict(planted_model().state_dict())
    with torch.no_grad():
        model.conv1.conv.weight.zero_()
        model.conv1.conv.weight[:, 0, 0] = 1
    return model


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


def test_planted_network_is_consistent_and_stripes_are_not():
    images = planted_images(((1, 3), (4, 6), (7, 9)))
    for change, amount in (("shift", 2 / 12), ("scale", 1.2), ("occlude", 0.1)):
        assert consistency(planted_model(), images, change, amount, method="gradcam").min() > 0.85, change
    assert consistency(planted_model(), images, "shift", 2 / 12).min() > 0.7  # of equal cells max pooling takes one
    red = planted_images(((0, 12), (0, 0), (0, 0)))
    red[:, 0] *= torch.linspace(1, 2, SIZE[0])[:, None]  # brighter downwards: each stripe peaks at its end
    shifted = consistency(planted_stripes(), red, "shift", 0.25)
    assert shifted[:, :2].max() < 0.3 and np.isnan(shifted[:, 2]).all()  # the last peak has left the picture
    assert consistency(planted_stripes(), red, "shift", 0.0).min() > 0.999
    painted = consistency(planted_stripes(), red, "shift", 0.25, method="gradcam")
    assert np.nanmin(painted) > 0.9  # Grad-CAM paints the channel, not what is read


def test_consistency_needs_the_prior_to_move():
    model, images = make_model("baseline-ub"), make_images()
    prior = make_prior()
    scores = consistency(model, images, "shift", 0.0, prior=prior)
    assert scores.shape == (2, 6) and np.nanmin(scores) > 0.999
    assert np.isfinite(consistency(model, images, "shift", prior=prior)).any()
    with pytest.raises(PriorError):
        consistency(model, images)


# ---- random weights destroy the map ---------------------------------------------------------------------------------


def test_random_weights_destroy_the_map():
    """The planted parts see one colour each; with random weights they see any."""
    model, images = make_model("mpn"), make_images(4)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    table = sanity_check(model, images)
    assert list(table.index) == ["heads", "all"] and list(table.columns) == ["spearman", "ssim"]
    assert table.spearman.abs().max() < 0.5 and (table < 0.6).all().all()
    pd.testing.assert_frame_equal(table, sanity_check(model, images))  # deterministic in the seed
    assert (table != sanity_check(model, images, seed=1)).any().any()
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_sanity_check_catches_a_map_that_ignores_the_classifier():
    """EigenCAM asks no head: random heads leave it as it is, and the check says so."""
    table = sanity_check(make_model("mpn"), make_images(4), "eigencam", layers=["heads"])
    assert table.spearman["heads"] == pytest.approx(1, abs=1e-6) and table.ssim["heads"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["mpn", "cgpn", "ide"])
def test_randomised_networks_are_alive(name):
    """Fresh weights, statistics from the images: features spread like those of a trained network."""
    model, images = make_model(name).train(), make_images(8)
    heads, everything = (randomised(model, images, layers=layers) for layers in ("heads", "all"))
    trunk = {key for module in model.backbone_modules() for key in module.state_dict()}
    assert trunk and model.training and not heads.training
    old, new = model.backbone_modules()[-1].state_dict(), heads.backbone_modules()[-1].state_dict()
    assert all(torch.equal(old[k], new[k]) for k in old)
    assert not torch.equal(
        old["layer4.0.conv1.weight"], everything.backbone_modules()[-1].state_dict()["layer4.0.conv1.weight"]
    )
    assert not torch.equal(model.classifier.weight, heads.classifier.weight)
    for control in (heads, everything):
        with torch.no_grad():
            features = control(images).part_features
        assert 0.1 < features.std() < 10 and part_attention(control, images).amax((2, 3)).mean() > 0.5
        momenta = {m.momentum for m in control.modules() if hasattr(m, "running_mean")}
        assert momenta == {0.1} and not any(m.training for m in control.modules())


# ---- a model, many runs ---------------------------------------------------------------------------------------------


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


def write_run(folder, variant, seed):
    """A finished run of a network that was never trained."""
    from reidkit.training.recipes import recipe_for
    from reidkit.training.runs import RunFolder, write_json

    recipe = recipe_for(variant, "quick", {"size": list(SIZE), "model.part_dim": 8})
    run = RunFolder(folder / f"{variant}-s{seed}")
    write_json(
        run.settings,
        {
            "variant": variant,
            "seed": seed,
            "num_classes": 5,
            "prior_tool": "sidewalk",
            "recipe": json.loads(recipe.to_json()),
        },
    )
    torch.manual_seed(seed)
    run.save_weights(create_model(variant, 5, backbone=recipe.backbone, **recipe.model))
    write_json(run.result, {})
    return run.path


def test_score_runs_is_a_table_and_resumes(sidewalk_tiny, tmp_path):
    runs = [write_run(tmp_path, "mpn-no-ca", 0), write_run(tmp_path, "baseline-ub", 1)]
    out = tmp_path / "scores.csv"
    settings = {"images": 5, "checks": False, "out": out, "progress": False}
    first = score_runs(runs[:1], sidewalk_tiny, **settings)
    assert first.variant.tolist() == ["mpn-no-ca"] and first.level.tolist() == ["strong"]
    (runs[0] / "model.safetensors").unlink()  # scored already: not opened again
    table = score_runs(runs, sidewalk_tiny, **settings)
    assert table.variant.tolist() == ["mpn-no-ca", "baseline-ub"] and table.seed.tolist() == [0, 1]
    assert table.own_energy[0] == pytest.approx(first.own_energy[0])
    pd.testing.assert_frame_equal(pd.read_csv(out), table, check_dtype=False)
    assert table.commit.notna().all() and (table.device.str.startswith("cpu")).all()
    with pytest.raises(CheckpointError):  # other settings: it must be opened
        score_runs(runs, sidewalk_tiny, **settings | {"method": "layercam"})


def test_commits_that_look_like_numbers_stay_commits(sidewalk_tiny, tmp_path):
    runs = [write_run(tmp_path, name, 0) for name in ("mpn-no-ca", "mt-only")]
    for run in runs:
        (run / "result.json").write_text('{"provenance": {"commit": "93e4831"}}')  # read as a number: inf
    settings = {"images": 4, "checks": False, "out": tmp_path / "scores.csv", "progress": False}
    score_runs(runs[:1], sidewalk_tiny, **settings)
    assert score_runs(runs, sidewalk_tiny, **settings).trained.tolist() == ["93e4831", "93e4831"]
    assert (tmp_path / "scores.csv").read_text().count(",93e4831,") == 2


def test_the_command_adds_rows_to_a_table(sidewalk_tiny, data_root, tmp_path):
    runs = [str(write_run(tmp_path, name, 0)) for name in ("mpn-no-ca", "mt-only")]
    fixed = [
        "--root",
        str(data_root),
        "--size",
        "tiny",
        "--images",
        "4",
        "--no-checks",
        "--no-progress",
        "--out",
        str(tmp_path / "scores.csv"),
    ]
    for some in (runs[:1], runs):
        answer = CliRunner().invoke(app, ["attention-scores", *some, *fixed])
        assert answer.exit_code == 0, answer.output
    table = pd.read_csv(tmp_path / "scores.csv")
    assert table.variant.tolist() == ["mpn-no-ca", "mt-only"]
    assert "mt-only" in answer.output and "2 runs" in answer.output
