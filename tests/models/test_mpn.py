"""MPN and its relatives: grouped layers against K separate ones, sharing, priors, sizes of Table 9, learning."""

import pytest
import torch
from torch import nn

from reidkit.errors import PriorError, ReIDKitError, UnknownNameError
from reidkit.losses import total_loss
from reidkit.models import VARIANTS, create_backbone, create_model
from reidkit.models.classics import PCBConfig
from reidkit.models.mpn import MPNConfig
from reidkit.models.parts import PartAttention, PartBatchNorm, PartClassifier, PartConv, PartConvBlock
from reidkit.priors import PriorBatch
from reidkit.priors.part_features import part_features

K, C, D, B = 3, 5, 4, 6


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_prior(batch, grid, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, *grid, generator=g) > 0.3
    top, bottom = torch.rand(batch, generator=g) * 0.3, 1 - torch.rand(batch, generator=g) * 0.3
    return PriorBatch(mask, top, bottom, torch.ones(batch, dtype=torch.bool))


def tiny_model(name_or_config="mpn-no-ca", **overrides):
    torch.manual_seed(0)
    settings = {"part_dim": 8, "num_parts": 3} | overrides
    return create_model(name_or_config, num_classes=4, backbone="small", **settings)


# ---- K parts at once equal K parts one by one -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(B, C, 6, 2), (B, K, C, 2, 2), (B, K, C)])
def test_conv_block_equals_k_separate_modules(shape):
    torch.manual_seed(0)
    block = PartConvBlock(K, C, D)
    nn.init.normal_(block.conv.bias)
    nn.init.uniform_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    separate = []
    for k in range(K):
        conv, bn, part = nn.Conv2d(C, D, 1), nn.BatchNorm2d(D), slice(k * D, (k + 1) * D)
        conv.weight.data, conv.bias.data = block.conv.weight[k].data[:, :, None, None], block.conv.bias[k].data
        bn.weight.data, bn.bias.data = block.norm.weight[part].data, block.norm.bias[part].data
        separate.append(nn.Sequential(conv, bn, nn.ReLU()))
    x = random(*shape)
    inputs = [x if x.ndim == 4 else x[:, k] for k in range(K)]
    inputs = [i if i.ndim == 4 else i[:, :, None, None] for i in inputs]
    for training in (True, False):  # running statistics come from the first pass
        block.train(training)
        slow = torch.stack([m.train(training)(i) for m, i in zip(separate, inputs)], 1)
        torch.testing.assert_close(block(x), slow.flatten(2) if x.ndim == 3 else slow)
    torch.testing.assert_close(block.norm.running_var, torch.cat([m[1].running_var for m in separate]))


def test_batch_norm_equals_torch_batch_norm_over_all_channels():
    ours, theirs, x = PartBatchNorm(K, D), nn.BatchNorm2d(K * D), random(B, K, D, 4, 2)
    for training in (True, False):
        slow = theirs.train(training)(x.flatten(1, 2)).view_as(x)
        torch.testing.assert_close(ours.train(training)(x), slow)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)


def test_classifier_and_attention_equal_the_loops():
    torch.manual_seed(0)
    x, classifier, attention = random(B, K, D), PartClassifier(K, D, 7), PartAttention(K, D, 2).eval()
    slow = torch.stack([x[:, k] @ classifier.weight[k].T + classifier.bias[k] for k in range(K)])
    torch.testing.assert_close(classifier(x), slow)
    for k in range(K):  # Fig. 6, BN with its initial running statistics
        squeezed = torch.relu((x[:, k] @ attention.squeeze.conv.weight[k].T) / (1 + 1e-5) ** 0.5)
        weights = torch.sigmoid((squeezed @ attention.excite.conv.weight[k].T) / (1 + 1e-5) ** 0.5)
        torch.testing.assert_close(attention(x)[:, k], x[:, k] * weights)


def test_grouped_layers_reject_other_shapes_and_start_as_stated():
    with pytest.raises(ValueError, match="expected"):
        PartConv(K, C, D)(random(B, K + 1, C))
    torch.manual_seed(0)
    classifier = PartClassifier(6, 512, 100)
    assert classifier.weight.std().item() == pytest.approx(0.001, rel=0.01) and not classifier.bias.any()


# ---- the two tasks --------------------------------------------------------------------------------------------------


def test_heads_follow_section_3_3():
    """f_k and z_k written out for one part, without the kit's layers."""
    model = tiny_model(channel_attention=True).eval()
    maps, prior = random(B, 128, 9, 4).abs(), make_prior(B, (9, 4))
    out = model.heads(maps, prior, with_aux=True)
    stripes = part_features(maps, prior, 3, "roi-mask")
    scale = (1 + 1e-5) ** -0.5  # BN in its initial state

    def conv(block, k, x):  # x [B, C, ...] -> [B, D, ...]
        return torch.einsum("bc...,dc->bd...", x, block.conv.weight[k]) * scale

    for k in range(3):
        for x, task in ((maps, out), (stripes[:, k], out.aux)):
            v = conv(model.conv1, k, x).relu().amax((2, 3))
            attention = conv(model.attention.excite, k, conv(model.attention.squeeze, k, v).relu()).sigmoid()
            feature = conv(model.conv2, k, v * attention).relu()
            torch.testing.assert_close(task.part_features[:, k], feature, atol=1e-4, rtol=1e-4)
            classifier = model.classifier if task is out else model.aux_classifier
            torch.testing.assert_close(task.logits[k], feature @ classifier.weight[k].T, atol=1e-5, rtol=1e-4)
    assert torch.equal(out.embedding, out.part_features.flatten(1))  # h, Eq. 2
    torch.testing.assert_close(model.part_maps(maps)[:, 1], conv(model.conv1, 1, maps).relu(), atol=1e-4, rtol=1e-4)
    assert model.part_maps(maps).shape == (B, 3, 8, 9, 4)


@pytest.mark.parametrize("share", [(), ("conv1",), ("conv2",), ("attention",), ("conv1", "conv2", "attention")])
def test_each_layer_is_shared_on_its_own(share):
    model = tiny_model(share=share, channel_attention=True)
    for layer in ("conv1", "conv2", "attention"):
        assert (getattr(model, f"aux_{layer}") is None) == (layer in share)
    maps, prior = random(B, 128, 9, 4).abs(), make_prior(B, (9, 4))
    model.heads(maps, prior, with_aux=True).aux.logits.square().sum().backward()  # the auxiliary tasks alone
    for layer in ("conv1", "conv2", "attention"):
        touched = any(p.grad is not None for p in getattr(model, layer).parameters())
        assert touched == (layer in share), layer
    assert model.classifier.weight.grad is None and model.aux_classifier.weight.grad is not None
    names = [k for k in model.state_dict() if k.startswith("aux_")]
    assert not any(k.startswith(f"aux_{layer}.") for k in names for layer in share)  # nothing is stored twice


def test_running_statistics_mix_or_separate():
    maps, prior = random(B, 128, 9, 4).abs(), make_prior(B, (9, 4))
    after_main, after_both = [], []
    for separate in (False, True):
        model = tiny_model(separate_bn=separate)
        model.train().heads(maps, prior, with_aux=False)
        after_main.append(model.conv1.norm.running_mean.clone())
        model = tiny_model(separate_bn=separate)
        model.train().heads(maps, prior, with_aux=True)
        after_both.append(model.conv1.norm.running_mean.clone())
    assert torch.equal(after_main[0], after_main[1])
    assert not torch.allclose(after_both[0], after_main[0])  # the stripes' statistics are mixed in
    assert torch.equal(after_both[1], after_main[1])  # kept apart
    assert model.conv1.norm.aux_running_mean.abs().sum() > 0


def test_auxiliary_tasks_run_in_training_only():
    model, images = tiny_model(), random(4, 3, 72, 32)
    assert model.train()(images, make_prior(4, (9, 4))).aux is not None
    out = model.eval()(images)
    assert out.aux is None and torch.equal(out.embedding, model.embed(images))
    mt_only = tiny_model("mt-only").train()
    assert mt_only(images).aux is None


def test_which_variants_need_a_prior():
    needs = {
        n: (tiny_model(n).needs_prior, tiny_model(n).needs_prior_at_test)
        for n in ("mpn", "mt-only", "baseline", "baseline-ub", "mpn-no-ca-uniform", "naive-mtl")
    }
    assert needs == {
        "mpn": (True, False),
        "mt-only": (False, False),
        "baseline": (False, False),
        "baseline-ub": (True, True),
        "mpn-no-ca-uniform": (False, False),
        "naive-mtl": (True, False),
    }
    images = random(4, 3, 72, 32)
    with pytest.raises(PriorError, match="training"):
        tiny_model("mpn").train()(images)
    with pytest.raises(PriorError, match="test time"):
        tiny_model("baseline-ub").eval().embed(images)


def test_baseline_sees_its_stripe_only():
    model = tiny_model("baseline").eval()
    maps = random(2, 128, 9, 4).abs()
    changed = maps.clone()
    changed[:, :, 3:6] = 0  # the second of three stripes
    before, after = model.heads(maps).part_features, model.heads(changed).part_features
    assert torch.equal(before[:, 0], after[:, 0]) and torch.equal(before[:, 2], after[:, 2])
    assert not torch.equal(before[:, 1], after[:, 1])
    assert model.part_maps(maps).shape == (2, 3, 8, 3, 4)


def test_upper_bound_undoes_a_shift_that_the_prior_knows():
    model = tiny_model("baseline-ub").eval()
    maps = random(1, 128, 12, 4).abs()
    shifted = torch.zeros_like(maps)
    shifted[:, :, 3:] = maps[:, :, :9]
    whole = torch.ones(1, 12, 4, dtype=torch.bool)
    yes = torch.ones(1, dtype=torch.bool)
    here = model.heads(maps, PriorBatch(whole, torch.tensor([0.0]), torch.tensor([0.75]), yes)).embedding
    there = model.heads(shifted, PriorBatch(whole, torch.tensor([0.25]), torch.tensor([1.0]), yes)).embedding
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_soft_sharing_penalises_one_conv(layer):
    model = tiny_model("naive-mtl", soft_share=layer)
    main, aux = getattr(model, layer).conv, getattr(model, f"aux_{layer}").conv
    with torch.no_grad():
        aux.weight.copy_(main.weight)
        aux.bias.copy_(main.bias)
    assert model.regularization().item() == 0
    with torch.no_grad():
        aux.weight[0, 1, 2] += 3
        aux.bias[2, 1] -= 1
    assert model.regularization().item() == pytest.approx(10, rel=1e-5)
    model.regularization().backward()
    assert main.weight.grad[0, 1, 2].item() == pytest.approx(-6, rel=1e-5)
    assert tiny_model("mpn").regularization().item() == 0


def test_configs_reject_nonsense():
    with pytest.raises(UnknownNameError, match="conv2"):
        MPNConfig(share=("conv3",))
    with pytest.raises(UnknownNameError, match="roi-mask"):
        MPNConfig(prior="mask")
    with pytest.raises(ReIDKitError, match="soft_share"):
        MPNConfig(soft_share="conv1")  # already shared
    with pytest.raises(ReIDKitError, match="num_parts"):
        MPNConfig(num_parts=0)
    with pytest.raises(ReIDKitError, match="no task"):
        MPNConfig(main=False, aux=False)
    assert MPNConfig(share=["conv1"]) == MPNConfig(share=("conv1",))


@pytest.mark.parametrize("parts", [1, 5, 7, 12])
@pytest.mark.parametrize("height", [144, 192])
def test_any_number_of_parts(parts, height):
    model = tiny_model(num_parts=parts).train()
    maps = random(4, 128, height // 8, 6)
    out = model.heads(maps, make_prior(4, (height // 8, 6)), with_aux=True)
    assert out.part_features.shape == out.aux.part_features.shape == (4, parts, 8)
    assert out.logits.shape == (parts, 4, 4) and len(model.part_names) == model.num_parts == parts


def test_bf16_autocast_and_channels_last_stay_close():
    model, images, prior = tiny_model("mpn").eval(), random(4, 3, 72, 32), make_prior(4, (9, 4))
    with torch.no_grad():
        plain = model.heads(model.feature_maps(images), prior, with_aux=True)
        model.to(memory_format=torch.channels_last)
        nhwc = images.contiguous(memory_format=torch.channels_last)
        last = model.heads(model.feature_maps(nhwc), prior, with_aux=True)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.heads(model.feature_maps(images), prior, with_aux=True)
    torch.testing.assert_close(last.aux.embedding, plain.aux.embedding, atol=1e-4, rtol=1e-3)
    cosine = torch.cosine_similarity(half.embedding.float(), plain.embedding)
    assert cosine.min() > 0.99


# ---- sizes ----------------------------------------------------------------------------------------------------------


def test_parameter_counts_of_table_9():
    """Table 9 prints 31.5 M for MPNo and 26.8 M for PCB; built as described they have 31.39 M and 26.66 M."""
    backbone = create_backbone("resnet50")
    mpno = MPNConfig().build(backbone, 751)
    assert mpno.count_parameters() == 31_390_784
    assert MPNConfig(share=()).build(backbone, 751).count_parameters() == 31_390_784  # auxiliary tasks are dropped
    assert MPNConfig(main=False).build(backbone, 751).count_parameters() == 31_390_784  # "exactly the same", Sec. 5.2.4
    assert mpno.count_parameters(classifiers=True) == 31_390_784 + 6 * (512 * 751 + 751)
    assert round(PCBConfig().build(backbone, 751).count_parameters() / 1e6, 2) == 26.66
    attention = 6 * (512 * 128 + 128 + 2 * 128 + 128 * 512 + 512 + 2 * 512)
    assert MPNConfig(channel_attention=True).build(backbone, 751).count_parameters() == 31_390_784 + attention


def test_resnet50_shapes():
    model = create_model("mpn", num_classes=3).eval()
    with torch.no_grad():
        maps = model.feature_maps(random(1, 3, 384, 128))
        out = model.heads(maps)
    assert maps.shape == (1, 2048, 24, 8) and out.embedding.shape == (1, 3072)
    assert out.part_features.shape == (1, 6, 512) and out.logits.shape == (6, 1, 3)


# ---- learning -------------------------------------------------------------------------------------------------------

FAMILY = [name for name, v in VARIANTS.items() if isinstance(v.config, MPNConfig)]


@pytest.mark.parametrize("name", [*FAMILY, "pcb", "ide"])
def test_every_variant_learns_one_batch_by_heart(name):
    torch.manual_seed(0)
    settings = {"part_dim": 16}
    if name not in ("ide", "pcb"):
        settings["num_parts"] = 3
    if name == "mpn-rga":
        settings["spatial_attention"] = "rga:48x16"
    model = create_model(name, num_classes=4, backbone="small", **settings).train()
    images, labels, prior = random(8, 3, 48, 16), torch.arange(8) // 2, make_prior(8, (6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    first = None
    for _ in range(40):
        out = model(images, prior if model.needs_prior else None)
        loss, terms = total_loss(out, labels, VARIANTS[name].loss, model.regularization())
        first = first or {k: v.item() for k, v in terms.items()}
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 20.0)
        optimizer.step()
        if terms["identity"] < 0.1 * first["identity"] and (out.logits.argmax(2) == labels).all():
            break
    assert (out.logits.argmax(2) == labels).all(), (first, terms)
    assert terms["identity"] < 0.1 * first["identity"]
    if "identity_aux" in terms:
        assert terms["identity_aux"] < 0.5 * first["identity_aux"]
    trained = [n for n, p in model.named_parameters() if p.grad is None]
    assert not trained, f"no gradient reached {trained}"
