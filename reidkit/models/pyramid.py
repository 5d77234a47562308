"""Pyramid: the coarse-to-fine pyramidal model of Zheng et al. (CVPR 2019), a row of MPN Table 9.

The map is cut in 6 stripes; every group of 1, 2, ..., 6 adjacent stripes is a part: 6 + 5 + 4 + 3 + 2 + 1 = 21.
Each part: average pooling + max pooling, 1x1 conv (c -> 128) + batch norm + ReLU, classifier. The test feature
joins the 21 parts, 2688 numbers. The paper's schedule that switches between softmax and triplet loss during
training is not built: the kit compares architectures, and trains this one with the plain sum of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from reidkit.errors import ReIDKitError
from reidkit.models.backbones import Backbone
from reidkit.models.base import ModelOutput, TrunkModel
from reidkit.models.parts import PartClassifier, PartConvBlock
from reidkit.models.stripes import StripeGroup, adjacent, pool_groups, pool_rows
from reidkit.priors import PriorBatch


@dataclass(frozen=True)
class PyramidConfig:
    """num_stripes: height of the pyramid, 6; reduced_dim: channels of a part feature, 128."""

    family: ClassVar[str] = "mpn"
    num_stripes: int = 6
    reduced_dim: int = 128

    def __post_init__(self):
        if self.num_stripes < 1 or self.reduced_dim < 1:
            raise ReIDKitError(f"num_stripes={self.num_stripes} and reduced_dim={self.reduced_dim} must be at least 1")

    def build(self, backbone: Backbone, num_classes: int) -> Pyramid:
        """The network on a backbone, with `num_classes` training identities."""
        return Pyramid(self, backbone, num_classes)


class Pyramid(TrunkModel):
    """Parts come from fine to coarse, each level from top to bottom; the last part is the whole map."""

    name = "pyramid"
    classifier: PartClassifier

    def __init__(self, config: PyramidConfig, backbone: Backbone, num_classes: int):
        super().__init__(config, backbone, num_classes)
        levels = range(1, config.num_stripes + 1)
        self.groups = tuple(group for size in levels for group in adjacent(config.num_stripes, size))
        self.part_names = tuple(group.name for group in self.groups)
        self.reduce = PartConvBlock(self.num_parts, backbone.channels, config.reduced_dim)
        self.classifier = PartClassifier(self.num_parts, config.reduced_dim, num_classes)

    def heads(self, maps: Tensor, prior: PriorBatch | None = None, with_aux: bool = False) -> ModelOutput:
        """[B, C, h, w] -> part_features [B, 21, 128], embedding [B, 2688], logits [21, B, classes]."""
        pooled = _average_plus_max(maps, self.groups)  # [B, K, C]
        features = self.reduce(pooled)  # [B, K, d]
        return ModelOutput(embedding=features.flatten(1), part_features=features, logits=self.classifier(features))

    def part_head(self, k: int, maps: Tensor, prior: PriorBatch | None = None) -> tuple[Tensor, Tensor]:
        """Part k alone: feature [B, d] and logits [B, classes]."""
        pooled = _average_plus_max(maps, self.groups[k : k + 1])[:, 0]  # [B, C]
        feature = self.reduce.one(pooled, k)
        return feature, self.classifier.one(feature, k)

    @property
    def part_extents(self) -> tuple[tuple[float, float], ...]:
        """(start, stop) of each group of stripes, fractions of the height."""
        return tuple(group.extent for group in self.groups)


def _average_plus_max(maps: Tensor, groups: tuple[StripeGroup, ...]) -> Tensor:
    """[B, C, h, w] -> [B, groups, C]."""
    return pool_rows(maps.mean(3), groups, _average) + pool_groups(maps, groups)


def _average(x: Tensor) -> Tensor:
    return x.mean(-1)
