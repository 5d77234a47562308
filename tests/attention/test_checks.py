"""Checks of attention maps: how alike two are, what moves with the picture, what random weights destroy."""

import numpy as np
import pandas as pd
import pytest
import torch
from attention_networks import SIZE, Planted, make_images, make_model, make_prior, planted_images, planted_model
from needs import need

from reidkit.attention import part_attention
from reidkit.attention.checks import change_images, change_maps, change_prior, pearson, spearman, ssim
from reidkit.attention.scores import consistency, randomised, sanity_check
from reidkit.errors import PriorError, ReIDKitError, UnknownNameError
from reidkit.priors import PriorBatch


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


def planted_stripes():
    """The planted network as a stripe baseline: part k reads colour 0 in stripe k, wherever the person stands."""
    from reidkit.models.mpn import MPNConfig

    model = MPNConfig(num_parts=3, part_dim=2, main=False, prior="uniform").build(Planted(), num_classes=4).eval()
    model.load_state_dict(planted_model().state_dict())
    with torch.no_grad():
        model.conv1.conv.weight.zero_()
        model.conv1.conv.weight[:, 0, 0] = 1
    return model


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
