"""MGN: the multiple granularity network (Wang et al., ACM MM 2018), CGPN's nearest relative.

Three branches after res_conv4_1. The global branch keeps the backbone's last down-sampling (12x4 maps), the
others do not (24x8; where the backbone keeps its own strides, all three branches do); branch "P2" also looks at two
stripes, branch "P3" at three. Each of the three global and five stripe features has its own 1x1 conv + batch norm +
ReLU to 256; the test feature is 8 * 256 = 2048 long.

Public versions disagree on pooling, on what the losses read and on their weights. Built here is the paper's
network as CGPN cites it: max pooling, softmax on each reduced 256-d feature, batch-hard triplet loss on the three
global ones (margin 1.2), reductions that share no weights and have no bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reidkit.models.backbones import Backbone
from reidkit.models.base import ModelOutput
from reidkit.models.branches import BranchedModel, places
from reidkit.models.parts import PartClassifier, PartConvBlock, max_pool
from reidkit.models.stages import restore_last_stride
from reidkit.models.stripes import Branch, adjacent, pool_groups
from reidkit.priors import PriorBatch

BRANCHES = (Branch("G"), Branch("P2", adjacent(2, 1)), Branch("P3", adjacent(3, 1)))


@dataclass(frozen=True)
class MGNConfig:
    """reduced_dim: channels of a reduced feature, 256 in the paper."""

    family: ClassVar[str] = "cgpn"
    reduced_dim: int = 256

    def build(self, backbone: Backbone, num_classes: int) -> MGN:
        """The network on a backbone, with `num_classes` training identities."""
        return MGN(self, backbone, num_classes)


class MGN(BranchedModel):
    """Features come in this order: z_g of G, P2, P3; then the stripes of P2 (2) and of P3 (3)."""

    name = "mgn"
    config: MGNConfig
    classifier: PartClassifier

    def __init__(self, config: MGNConfig, backbone: Backbone, num_classes: int):
        super().__init__(config, backbone, num_classes, len(BRANCHES))
        restore_last_stride(self.tails[0], backbone)
        local_names = [f"{branch.name}-{group.name}" for branch in BRANCHES for group in branch.groups]
        self.part_names = (*(f"{branch.name}-global" for branch in BRANCHES), *local_names)
        self.places = places(BRANCHES)
        self.reduce = PartConvBlock(self.num_parts, self.channels, config.reduced_dim, bias=False)
        self.classifier = PartClassifier(self.num_parts, config.reduced_dim, num_classes)

    def heads(self, maps: tuple[Tensor, ...], prior: PriorBatch | None = None, with_aux: bool = False) -> ModelOutput:
        """Maps of G [B, c, h/2, w/2] and of P2, P3 [B, c, h, w] -> 8 part features [B, 8, 256]."""
        whole = torch.stack([max_pool(m) for m in maps], dim=1)  # z_g, [B, 3, c]
        stripes = [pool_groups(m, b.groups) for m, b in zip(maps, BRANCHES) if b.groups]  # z_p, [B, 2 or 3, c]
        features = self.reduce(torch.cat([whole, *stripes], dim=1))  # f, [B, 8, 256]
        return ModelOutput(
            embedding=features.flatten(1),
            part_features=features,
            logits=self.classifier(features),
            triplet_features=list(features[:, : len(BRANCHES)].unbind(1)),
        )  # f_g only

    def part_head(self, k: int, maps: tuple[Tensor, ...], prior: PriorBatch | None = None) -> tuple[Tensor, Tensor]:
        """Feature k alone: [B, 256] and logits [B, classes]."""
        branch, group = self.places[k]
        pooled = max_pool(maps[branch]) if group is None else pool_groups(maps[branch], (group,))[:, 0]  # [B, c]
        feature = self.reduce.one(pooled, k)
        return feature, self.classifier.one(feature, k)
