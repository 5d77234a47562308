"""What a map is made from: one part's head alone, the feature map it reads, and the rows of it."""

import pytest
import torch
from attention_networks import GRID, MODELS, make_images, make_model, make_prior

from reidkit.models.base import ReIDModel
from reidkit.priors import PriorBatch


@pytest.mark.parametrize("name", MODELS)
def test_part_head_equals_all_heads(name):
    model, prior = make_model(name), make_prior()
    with torch.no_grad():
        maps = model.feature_maps(make_images())
        out = model.heads(maps, prior)
        for k in range(model.num_parts):
            feature, logits = model.part_head(k, maps, prior)
            torch.testing.assert_close(feature, out.part_features[:, k], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(logits, out.logits[k], rtol=1e-4, atol=1e-4)
            default = ReIDModel.part_head(model, k, maps, prior)
            torch.testing.assert_close((feature, logits), default, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mgn", "cgpn", "cgpn-2", "cgpn-3"])
def test_map_index_names_the_map_that_the_gradient_reaches(name):
    model = make_model(name)
    maps = tuple(m.detach().requires_grad_() for m in model.feature_maps(make_images()))
    for k in range(model.num_parts):
        grads = torch.autograd.grad(model.heads(maps).logits[k].sum(), maps, allow_unused=True)
        reached = [i for i, grad in enumerate(grads) if grad is not None and grad.any()]
        assert reached == [model.map_index(k)]


@pytest.mark.parametrize("name", MODELS)
def test_part_extents_are_the_rows_that_the_gradient_reaches(name):
    """Stripe models read exactly their rows; MPN's main tasks read every row, and are only meant for theirs."""
    model = make_model(name)
    with torch.no_grad():
        maps = model.feature_maps(make_images(8))
    for m in maps if isinstance(maps, tuple) else [maps]:
        m.requires_grad_()
    full = PriorBatch(torch.ones(8, *GRID, dtype=torch.bool), torch.zeros(8), torch.ones(8), torch.ones(8).bool())
    assert len(model.part_extents) == model.num_parts
    for k, (start, stop) in enumerate(model.part_extents):
        leaf = maps[model.map_index(k)] if isinstance(maps, tuple) else maps
        grad = torch.autograd.grad(model.part_head(k, maps, full)[1].square().sum(), leaf)[0]
        rows = grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
        height = leaf.shape[2]
        if name.startswith("mpn"):
            assert rows.min() < height // 3 and rows.max() >= 2 * height // 3
        else:
            assert rows.min() >= round(start * height) and rows.max() < round(stop * height)
