"""MGN: sizes, order, parameters; its one-batch overfit is in test_cgpn.py."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reidkit.errors import ReIDKitError
from reidkit.models import create_backbone, create_model
from reidkit.models.mgn import MGNConfig


def test_parameters_are_those_of_mpn_table_9():
    model = create_model("mgn", 751)
    assert round(model.count_parameters() / 1e6, 2) == 68.81  # the paper prints 68.8 M
    assert model.count_parameters(classifiers=True) - model.count_parameters() == 8 * (256 + 1) * 751
    assert model.reduce.conv.bias is None


def test_sizes_and_order():
    model = create_model("mgn", 5, backbone="small").eval()
    maps = model.feature_maps(torch.randn(2, 3, 192, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(128, 12, 4), (128, 24, 8), (128, 24, 8)]  # Table 1 of MGN
    out = model.heads(maps)
    assert out.embedding.shape == (2, 2048) and out.logits.shape == (8, 2, 5)
    assert model.part_names == (
        "G-global",
        "P2-global",
        "P3-global",
        "P2-1/2-1",
        "P2-1/2-2",
        "P3-1/3-1",
        "P3-1/3-2",
        "P3-1/3-3",
    )
    assert len(out.triplet_features) == 3 and out.supervision == []
    for k in range(3):
        assert torch.equal(out.triplet_features[k], out.part_features[:, k])


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_only_the_global_branch_keeps_the_last_stride(name):
    model = create_model("mgn", 5, backbone=name).eval()
    with torch.no_grad():
        maps = model.feature_maps(torch.randn(1, 3, 96, 32))
    assert [tuple(m.shape[2:]) for m in maps] == [(3, 1), (6, 2), (6, 2)]
    assert model.stride == 16


def test_features_equal_a_slow_reference():
    model = create_model("mgn", 5, backbone="small", reduced_dim=8).eval()
    norm = model.reduce.norm
    torch.manual_seed(0)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    maps = (torch.rand(2, 128, 7, 3), torch.rand(2, 128, 13, 5), torch.rand(2, 128, 13, 5))
    cuts = [(0, 0, 7), (1, 0, 13), (2, 0, 13), (1, 0, 6), (1, 6, 13), (2, 0, 4), (2, 4, 9), (2, 9, 13)]
    for k, (branch, first, end) in enumerate(cuts):
        pooled = F.max_pool2d(maps[branch][:, :, first:end], (end - first, maps[branch].shape[3]))
        s = slice(8 * k, 8 * k + 8)
        y = F.batch_norm(
            F.conv2d(pooled, model.reduce.conv.weight[k][:, :, None, None]),
            norm.running_mean[s],
            norm.running_var[s],
            norm.weight[s],
            norm.bias[s],
        )
        torch.testing.assert_close(model.heads(maps).part_features[:, k], F.relu(y).flatten(1), rtol=1e-4, atol=1e-5)


def test_a_backbone_without_a_strided_shortcut_is_refused():
    backbone = create_backbone("small")
    backbone.layer4[0].downsample = nn.Sequential(nn.AvgPool2d(1), nn.Conv2d(96, 128, 1))  # the form of ResNet-D
    with pytest.raises(ReIDKitError, match="shortcut"):
        MGNConfig().build(backbone, 5)
