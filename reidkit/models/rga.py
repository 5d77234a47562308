"""Spatial relation-aware attention, RGA-S, for the backbone of MPN* (MPN Table 5).

Zhang, Lan, Zeng, Jin, Chen: "Relation-Aware Global Attention for Person Re-identification", CVPR 2020, Sec. 3.2.
Each position of a map is judged by its affinities with all N = h * w positions, in raster order, and by its own
feature. The number of positions fixes the size of a layer, so the module is built for one image size:
"rga" means 384x128 images, "rga:144x48" any other. RGA-SC is spatial and channel attention; MPN* borrows the
spatial one, after each of the four stages of the ResNet, with the RGA paper's ratios s1 = s2 = 8.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import Tensor, nn

from reidkit.errors import ReIDKitError, unknown_name

REDUCTION = 8  # s1 (embeddings) and s2 (the last two convs)


def _conv_bn(before: int, after: int, *activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), *activation)


class SpatialRelationAttention(nn.Module):
    """RGA-S on a map of a fixed size: x [B, C, h, w] -> x * a, with one weight a in (0, 1) a position."""

    def __init__(self, channels: int, size: tuple[int, int], reduction: int = REDUCTION):
        super().__init__()
        self.size = size
        positions = size[0] * size[1]  # N
        embedded, relations = max(channels // reduction, 1), max(positions // reduction, 1)
        self.theta = _conv_bn(channels, embedded, nn.ReLU(inplace=True))
        self.phi = _conv_bn(channels, embedded, nn.ReLU(inplace=True))
        self.embed_feature = _conv_bn(channels, embedded, nn.ReLU(inplace=True))
        self.embed_relation = _conv_bn(2 * positions, relations, nn.ReLU(inplace=True))
        hidden = max((1 + relations) // reduction, 1)
        self.weigh = nn.Sequential(_conv_bn(1 + relations, hidden, nn.ReLU(inplace=True)), _conv_bn(hidden, 1))

    def attention(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 1, h, w] in (0, 1)."""
        height, width = x.shape[2:]
        if (height, width) != tuple(self.size):
            raise ReIDKitError(
                f"RGA attention was built for {self.size[0]}x{self.size[1]} maps and got "
                f"{height}x{width}: set spatial_attention='rga:HxW' to the size of your images"
            )
        affinity = self.theta(x).flatten(2).transpose(1, 2) @ self.phi(x).flatten(2)  # r_ij, [B, N, N]
        stacked = torch.cat([affinity.transpose(1, 2), affinity], 1)  # r_i = [R(i, :), R(:, i)], [B, 2N, N]
        relation = self.embed_relation(stacked.unflatten(2, (height, width)))  # [B, N/8, h, w]
        feature = self.embed_feature(x).mean(1, keepdim=True)  # [B, 1, h, w]
        return torch.sigmoid(self.weigh(torch.cat([feature, relation], 1)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


def _image_size(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"rga(?::(\d+)x(\d+))?", name)
    if not match:
        raise unknown_name("spatial attention", name, ("rga", "rga:HEIGHTxWIDTH"))
    return (384, 128) if match[1] is None else (int(match[1]), int(match[2]))


@torch.no_grad()
def add_spatial_attention(backbone: nn.Sequential, name: str) -> None:
    """Insert RGA-S after each of layer1 .. layer4 of a backbone, in place, as stages rga1 .. rga4.

    name: "rga" (384x128 images) or "rga:HxW". Raises UnknownNameError for another name, ReIDKitError for a
    backbone without these stages.
    """
    height, width = _image_size(name)
    stages = OrderedDict(backbone.named_children())
    if not all(f"layer{i}" in stages for i in range(1, 5)):
        raise ReIDKitError(
            "spatial_attention='rga' needs a backbone with stages layer1 .. layer4 (resnet18, "
            "resnet34, resnet50, small)"
        )
    was_training = backbone.training
    x = torch.zeros(1, 3, height, width)
    backbone.eval()
    attentions = {}
    for stage, module in stages.items():
        x = module(x)
        if stage.startswith("layer"):
            attentions[stage] = SpatialRelationAttention(x.shape[1], tuple(x.shape[2:]))
    backbone.train(was_training)
    for stage in list(backbone._modules):
        del backbone._modules[stage]
    for stage, module in stages.items():
        backbone.add_module(stage, module)
        if stage in attentions:
            backbone.add_module(f"rga{stage[-1]}", attentions[stage])
