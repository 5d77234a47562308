"""CGPN (its stripe groups: test_stripes.py), and a one-batch overfit of every branch model of the table."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from reidkit.errors import CheckpointError, ReIDKitError
from reidkit.losses import supervision_mse, total_loss
from reidkit.models import create_backbone, create_model
from reidkit.models.cgpn import BRANCH_1, BRANCH_2, BRANCH_3, CGPNConfig, global_only
from reidkit.models.zoo import VARIANTS, variant

BRANCHES = (BRANCH_1, BRANCH_2, BRANCH_3)
NAMES = [name for name in VARIANTS if name.startswith("cgpn")]


def small(name="cgpn", classes=5, **overrides):
    torch.manual_seed(0)
    return create_model(name, classes, backbone="small", **{"reduced_dim": 8, **overrides})


def images(batch=4, size=(96, 32), seed=0):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


# --- the network ---------------------------------------------------------------------------------------------------

FEATURES = {
    "cgpn": 12,
    "cgpn-1": 3,
    "cgpn-2": 12,
    "cgpn-3": 9,
    "cgpn-4": 12,
    "cgpn-b1": 3,
    "cgpn-b2": 3,
    "cgpn-b3": 6,
    "cgpn-b12": 6,
    "cgpn-b13": 9,
    "cgpn-b23": 9,
    "cgpn-b1234": 18,
    "cgpn-b12345": 28,
    "cgpn-global-2": 1,
    "cgpn-global-3": 1,
    "cgpn-global-4": 1,
    "cgpn-global-8": 1,
}


def test_every_row_of_tables_3_and_4_is_covered():
    assert set(FEATURES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_feature_count_and_sizes(name):
    model, k = small(name), FEATURES[name]
    out = model(images())
    assert model.name == name and model.num_parts == k and len(set(model.part_names)) == k
    assert out.part_features.shape == (4, k, 8) and out.logits.shape == (k, 4, 5)
    assert torch.equal(out.embedding, out.part_features.flatten(1))
    assert [tuple(f.shape) for f in out.triplet_features] == [(4, 8)] * k
    maps = model.feature_maps(images())
    assert len(maps) == len(model.config.branches) and all(m.shape == (4, 128, 12, 4) for m in maps)


def test_paper_sizes_and_order():
    model = create_model("cgpn", 751, backbone="small").eval()
    assert model.embed(images(2)).shape == (2, 3072)
    assert model.part_names == (
        "b1-global",
        "b2-global",
        "b3-global",
        "b1-1/2-1",
        "b1-1/2-2",
        "b2-2/3-1",
        "b2-2/3-2",
        "b3-1/2-1",
        "b3-1/2-2",
        "b3-1/2-3",
        "b3-3/4-1",
        "b3-3/4-2",
    )


def conv_bn(vector, block, k, dim):
    """One reduction alone: 1x1 conv without bias, batch norm with running statistics."""
    s = slice(k * dim, (k + 1) * dim)
    norm = block.norm
    y = F.conv2d(vector[:, :, None, None], block.conv.weight[k][:, :, None, None])
    y = F.batch_norm(y, norm.running_mean[s], norm.running_var[s], norm.weight[s], norm.bias[s])
    return y.flatten(1)


def test_features_equal_a_slow_reference():
    """Feature by feature, with plain convolutions, on maps of 13 rows and batch norms with statistics of their own."""
    model = small().eval()
    torch.manual_seed(1)
    for block in (model.reduce_global, model.reduce_local):
        block.norm.running_mean.normal_()
        block.norm.running_var.uniform_(0.5, 2)
        block.norm.weight.data.normal_()
        block.norm.bias.data.normal_()
    maps = tuple(torch.rand(2, 128, 13, 5) for _ in range(3))
    expected = []
    for i, (conv, m) in enumerate(zip(model.global_convs, maps)):
        fg = [F.conv2d(m, conv.weight[p][:, :, None, None], conv.bias[p]).flatten(2).max(2).values for p in range(2)]
        expected.append(conv_bn(torch.cat(fg, 1), model.reduce_global, i, 8))
    groups = [(0, 0, 6), (0, 6, 13), (1, 0, 9), (1, 4, 13), (2, 0, 6), (2, 3, 10), (2, 6, 13), (2, 0, 10), (2, 3, 13)]
    for k, (branch, first, end) in enumerate(groups):
        fl = maps[branch][:, :, first:end].flatten(2).max(2).values
        expected.append(conv_bn(fl, model.reduce_local, k, 8))
    out = model.heads(maps)
    torch.testing.assert_close(out.embedding, torch.cat(expected, 1), rtol=1e-4, atol=1e-5)
    logits = torch.stack([f @ w.T + b for f, w, b in zip(expected, model.classifier.weight, model.classifier.bias)])
    torch.testing.assert_close(out.logits, logits, rtol=1e-4, atol=1e-6)


# --- supervision, Eq. 3 --------------------------------------------------------------------------------------------


def test_supervision_pairs_and_their_mse_against_a_loop():
    model = small()
    maps = tuple(torch.rand(3, 128, 13, 5, generator=torch.Generator().manual_seed(i)) for i in range(3))
    pairs = model.heads(maps, with_aux=True).supervision
    assert len(pairs) == 2 * 3  # M = 2, B = 3
    slow = 0.0
    for i, m in enumerate(maps):
        for p, (first, end) in enumerate([(0, 6), (6, 13)]):
            fg, fgl = pairs[2 * i + p]
            torch.testing.assert_close(fgl, m[:, :, first:end].flatten(2).max(2).values)
            conv = model.global_convs[i]
            slow_fg = torch.einsum("dc,nchw->ndhw", conv.weight[p], m) + conv.bias[p][:, None, None]
            torch.testing.assert_close(fg, slow_fg.flatten(2).max(2).values, rtol=1e-4, atol=1e-5)
            for n in range(3):
                slow += sum((fg[n, c].item() - fgl[n, c].item()) ** 2 for c in range(128)) / (3 * 128)
    assert supervision_mse(pairs).item() == pytest.approx(slow, rel=1e-4)


def test_supervision_is_off_at_test_time_and_where_the_table_says_so():
    model = small()
    assert model.train()(images()).supervision
    assert model.eval()(images()).supervision == []
    assert model.heads(model.feature_maps(images())).supervision == []
    for name, pairs in (("cgpn-1", 6), ("cgpn-3", 0), ("cgpn-4", 0), ("cgpn-global-8", 8)):
        assert len(small(name).train()(images()).supervision) == pairs


@pytest.mark.parametrize("detach", [False, True])
def test_detached_targets_pass_no_gradient_to_the_map(detach):
    model = small(detach_targets=detach)
    with torch.no_grad():
        for conv in model.global_convs:
            conv.weight.zero_()  # so that the map moves Eq. 3 through its targets alone
    maps = tuple(torch.rand(2, 128, 12, 4, requires_grad=True) for _ in range(3))
    supervision_mse(model.heads(maps, with_aux=True).supervision).backward()
    assert all((m.grad.abs().sum() > 0) != detach for m in maps)
    assert all(conv.bias.grad.abs().sum() > 0 for conv in model.global_convs)


def test_supervision_does_not_change_the_test_network():
    with_it, without = small("cgpn").eval(), small("cgpn-4").eval()
    without.load_state_dict(with_it.state_dict())
    assert torch.equal(with_it.embed(images()), without.embed(images()))


# --- branches ------------------------------------------------------------------------------------------------------


def test_branches_start_equal_to_the_backbone_and_part_ways_after_one_step():
    torch.manual_seed(0)
    backbone = create_backbone("small")
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    plain = backbone.eval()(images())
    model = CGPNConfig(reduced_dim=8).build(backbone, 5)
    for m in model.eval().feature_maps(images()):
        assert torch.equal(m, plain)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    out = model.train()(images())
    total_loss(out, torch.tensor([0, 0, 1, 1]), variant("cgpn").loss)[0].backward()
    optimizer.step()
    weights = [tail.layer4[0].conv1.weight for tail in model.tails]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    assert all(not torch.equal(w, state["layer4.0.conv1.weight"]) for w in weights)

    model.load_backbone(state)  # and start equal again from the weights of another run
    for m in model.eval().feature_maps(images()):
        assert torch.equal(m, plain)


def test_weights_of_another_backbone_are_refused():
    with pytest.raises(CheckpointError, match="another backbone"):
        small().load_backbone(create_backbone("resnet18").state_dict())


def test_trunk_and_heads_are_told_apart():
    model = small()
    trunk = sum(p.numel() for module in model.backbone_modules() for p in module.parameters())
    heads = (model.global_convs, model.reduce_global, model.reduce_local)
    assert trunk + sum(p.numel() for m in heads for p in m.parameters()) == model.count_parameters()
    assert model.stride == 8


def test_parameters_with_resnet50():
    """Counted by hand: trunk 2.96 M, 3 tails of 20.55 M, 6 convs 2048 -> 2048, reductions 4096 and 2048 -> 256."""
    model = create_model("cgpn", 751)
    tail = 5 * 1_117_184 + 14_964_736  # layer3[1..5] and layer4 of ResNet-50
    backbone = 23_508_032
    convs = 6 * (2048 * 2048 + 2048)
    reductions = 3 * (4096 * 256 + 512) + 9 * (2048 * 256 + 512)
    assert model.count_parameters() == backbone + 2 * tail + convs + reductions == 97_657_920
    assert model.count_parameters(classifiers=True) == 97_657_920 + 12 * (256 + 1) * 751
    assert model.stride == 16


def test_configurations_that_mean_nothing_are_refused():
    for wrong in (
        {"branches": ()},
        {"branches": (BRANCH_1, BRANCH_1)},
        {"global_parts": -1},
        {"reduced_dim": 0},
        {"branches": global_only(BRANCHES), "global_parts": 0},
    ):
        with pytest.raises(ReIDKitError):
            CGPNConfig(**wrong)


# --- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "mgn", "pyramid"])
def test_one_batch_overfit(name):
    """Every classifier of every variant learns one batch, from a loss in the proportions of the quick preset."""
    torch.manual_seed(0)
    model = create_model(name, 4, backbone="small", reduced_dim=48).train()
    x, labels = images(8, (64, 32)), torch.arange(4).repeat_interleave(2)
    config = replace(variant(name).loss, identity="mean", identity_weight=6.0, supervision_weight=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    first = None
    for _ in range(20):
        out = model(x)
        loss, _ = total_loss(out, labels, config)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
    assert (out.logits.argmax(2) == labels).all()
    assert loss.item() < 0.5 * first


@pytest.mark.parametrize("name", ["cgpn", "mgn", "pyramid"])
def test_the_plain_sum_of_losses_has_finite_gradients_even_for_repeated_images(name):
    """Eq. 4, unweighted. An identity with few images is drawn with replacement: equal features, distance 0."""
    torch.manual_seed(0)
    model = create_model(name, 4, backbone="small", reduced_dim=8).train()
    x, labels = images(4).repeat_interleave(2, dim=0), torch.arange(4).repeat_interleave(2)
    total_loss(model(x), labels, variant(name).loss)[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
