"""Pyramid: parts, sizes, parameters; its one-batch overfit is in test_cgpn.py."""

import pytest
import torch
from torch.nn import functional as F

from reidkit.errors import ReIDKitError
from reidkit.models import create_model
from reidkit.models.pyramid import PyramidConfig


def test_parameters_are_those_counted_for_mpn_table_9():
    model = create_model("pyramid", 751)
    assert round(model.count_parameters() / 1e6, 2) == 29.02  # the paper prints 29.1 M, from a backbone of 23.6 M
    assert model.count_parameters(classifiers=True) - model.count_parameters() == 21 * (128 + 1) * 751


def test_parts_from_fine_to_coarse():
    model = create_model("pyramid", 5, backbone="small").eval()
    rows = [group.rows(24) for group in model.groups]
    assert rows[:6] == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 24)]
    assert rows[6:11] == [(0, 8), (4, 12), (8, 16), (12, 20), (16, 24)]
    assert rows[-3:] == [(0, 20), (4, 24), (0, 24)]
    assert model.num_parts == 21 and model.part_names[0] == "1/6-1" and model.part_names[-1] == "whole"
    out = model(torch.randn(2, 3, 192, 64))
    assert out.embedding.shape == (2, 2688) and out.logits.shape == (21, 2, 5)


def test_features_equal_a_slow_reference():
    model = create_model("pyramid", 5, backbone="small", reduced_dim=8, num_stripes=3).eval()
    model.reduce.conv.bias.data.normal_(generator=torch.Generator().manual_seed(0))
    maps = torch.rand(2, 128, 13, 5)
    cuts = [(0, 4), (4, 9), (9, 13), (0, 9), (4, 13), (0, 13)]
    assert model.num_parts == len(cuts)
    for k, (first, end) in enumerate(cuts):
        cut, window = maps[:, :, first:end], (end - first, 5)
        pooled = F.avg_pool2d(cut, window) + F.max_pool2d(cut, window)
        y = F.conv2d(pooled, model.reduce.conv.weight[k][:, :, None, None], model.reduce.conv.bias[k])
        expected = F.relu(y / (1 + 1e-5) ** 0.5).flatten(1)  # fresh running statistics: mean 0, variance 1
        torch.testing.assert_close(model.heads(maps).part_features[:, k], expected, rtol=1e-4, atol=1e-5)


def test_configurations_that_mean_nothing_are_refused():
    with pytest.raises(ReIDKitError, match="num_stripes=0"):
        PyramidConfig(num_stripes=0)
