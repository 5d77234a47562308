"""The table of variants: every name builds, runs and keeps the promises of the base class."""

import pytest
import torch

from reidkit.data.texture import TextureBatch
from reidkit.errors import UnknownNameError
from reidkit.losses import LossConfig, total_loss
from reidkit.models import VARIANTS, ModelOutput, ReIDModel, create_model
from reidkit.priors import PriorBatch


def build(name):
    fields = type(VARIANTS[name].config).__dataclass_fields__
    narrow = {k: 8 for k in ("part_dim", "reduced_dim") if k in fields}
    if getattr(VARIANTS[name].config, "spatial_attention", None):
        narrow["spatial_attention"] = "rga:96x32"
    torch.manual_seed(0)
    return create_model(name, num_classes=5, backbone="small", **narrow)


def batch():
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(4, 12, 4, generator=g) > 0.3
    prior = PriorBatch(mask, torch.full((4,), 0.1), torch.full((4,), 0.9), torch.ones(4, dtype=torch.bool))
    return torch.randn(4, 3, 96, 32, generator=g), torch.tensor([0, 0, 3, 3]), prior


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_keeps_the_contract(name):
    model, (images, labels, prior) = build(name), batch()
    assert isinstance(model, ReIDModel) and model.name == name and model.num_classes == 5
    if model.prior_kind == "dense":
        prior = TextureBatch(torch.randint(0, 256, (4, 24, 4, 32, 32), dtype=torch.uint8))
    config = VARIANTS[name].config  # auxiliary tasks read stripes that a prior places; the rest sees the whole image
    assert model.needs_prior == (getattr(config, "aux", False) and getattr(config, "prior", "uniform") != "uniform")
    assert model.needs_prior_at_test == (model.needs_prior and not config.main)

    out = model.train()(images, prior if model.needs_prior else None)
    assert isinstance(out, ModelOutput)
    assert out.logits.shape == (model.num_parts, 4, 5)
    assert out.part_features.shape[:2] == (4, model.num_parts)
    total, terms = total_loss(out, labels, VARIANTS[name].loss, model.regularization())
    total.backward()
    assert torch.isfinite(total) and all(torch.isfinite(t) for t in terms.values())
    silent = [n for n, p in model.named_parameters() if p.grad is None]
    assert not silent, f"no gradient reaches {silent}"

    model.eval()
    with torch.no_grad():
        test_prior = prior if model.needs_prior_at_test else None
        embedding = model.embed(images, test_prior)
        again = model.heads(model.feature_maps(images), test_prior)
    assert embedding.ndim == 2 and torch.equal(embedding, again.embedding) and again.aux is None
    assert 0 < model.count_parameters() < model.count_parameters(classifiers=True)
    assert model.count_parameters(classifiers=True) <= sum(p.numel() for p in model.parameters())


def test_names_of_the_papers_tables():
    required = """baseline baseline-ub mt-only naive-mtl psa-c1 psa-c2 psa fsa mpn-no-ca mpn mpn-rga ide pcb mgn pyramid
        cgpn cgpn-1 cgpn-2 cgpn-3 cgpn-4""".split()
    assert set(required) <= set(VARIANTS)
    rows = [v.row for v in VARIANTS.values()]
    assert len(set(rows)) == len(rows)
    assert all(isinstance(v.loss, LossConfig) for v in VARIANTS.values())


def test_overrides_and_unknown_names():
    model = create_model("mpn", 5, backbone="small", num_parts=4, part_dim=8, prior="roi")
    assert model.config.num_parts == model.num_parts == 4 and model.config.prior == "roi"
    assert VARIANTS["mpn"].config.num_parts == 6  # the table is not touched
    with pytest.raises(UnknownNameError, match="Did you mean 'mpn'"):
        create_model("mpm", 5, backbone="small")
    with pytest.raises(UnknownNameError, match="num_parts"):
        create_model("mpn", 5, backbone="small", num_part=4)


def test_models_are_reproducible_from_a_seed():
    first, second = build("mpn").state_dict(), build("mpn").state_dict()
    assert all(torch.equal(v, second[k]) for k, v in first.items())
