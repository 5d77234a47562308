"""The two classics that part-based work starts from: IDE (one global feature) and PCB (uniform stripes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from reidkit.errors import ReIDKitError
from reidkit.models.backbones import Backbone
from reidkit.models.base import ModelOutput, TrunkModel
from reidkit.models.parts import PartClassifier, PartConvBlock
from reidkit.priors import PriorBatch
from reidkit.priors.part_features import part_features


@dataclass(frozen=True)
class IDEConfig:
    """IDE [MPN 56] as MPN starts from it (Sec. 5.1): global average pooling, Linear, BN, LeakyReLU, dropout.

    part_dim: width of the one feature; dropout: its rate; slope: of the LeakyReLU.
    """

    family: ClassVar[str] = "ide"
    part_dim: int = 512
    dropout: float = 0.5
    slope: float = 0.1

    def build(self, backbone: Backbone, num_classes: int) -> IDE:
        """The network on a backbone of this width, for `num_classes` identities."""
        return IDE(self, backbone, num_classes)


class IDE(TrunkModel):
    """One classifier on one global feature; test feature [B, 512], dropout off."""

    name = "ide"

    def __init__(self, config: IDEConfig, backbone: Backbone, num_classes: int):
        super().__init__(config, backbone, num_classes)
        self.part_names = ("whole body",)
        linear = nn.Linear(backbone.channels, config.part_dim)
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.embedding = nn.Sequential(
            linear,
            nn.BatchNorm1d(config.part_dim),
            nn.LeakyReLU(config.slope),
            nn.Dropout(config.dropout),
        )
        self.classifier = PartClassifier(1, config.part_dim, num_classes)

    def heads(self, maps: Tensor, prior: PriorBatch | None = None, with_aux: bool = False) -> ModelOutput:
        """[B, C, h, w] -> embedding [B, D], part_features [B, 1, D], logits [1, B, classes]."""
        embedding = self.embedding(maps.mean((2, 3)))  # [B, D]
        part = embedding.unsqueeze(1)  # [B, 1, D]
        return ModelOutput(embedding=embedding, part_features=part, logits=self.classifier(part))


@dataclass(frozen=True)
class PCBConfig:
    """PCB [MPN 19] (Sun et al. 2018): K uniform stripes, average pooling, one 1x1 conv each, one classifier each.

    num_parts: K. part_dim: channels after the 1x1 conv, 256 in the paper. The K convs are separate, as in most
    re-implementations and as MPN's Table 9 counts them (26.66 M parameters); the PCB paper leaves it open.
    """

    family: ClassVar[str] = "mpn"
    num_parts: int = 6
    part_dim: int = 256

    def __post_init__(self):
        if self.num_parts < 1 or self.part_dim < 1:
            raise ReIDKitError(f"num_parts={self.num_parts} and part_dim={self.part_dim} must be at least 1")

    def build(self, backbone: Backbone, num_classes: int) -> PCB:
        """The network on a backbone of this width, for `num_classes` identities."""
        return PCB(self, backbone, num_classes)


class PCB(TrunkModel):
    """K stripe classifiers; the test feature joins the K reduced column vectors ("h" in the PCB paper).

    MPN's `baseline` is this network with max pooling, a second conv and the triplet loss on the joined feature.
    """

    name = "pcb"
    config: PCBConfig
    classifier: PartClassifier

    def __init__(self, config: PCBConfig, backbone: Backbone, num_classes: int):
        super().__init__(config, backbone, num_classes)
        self.part_names = tuple(f"stripe {k}" for k in range(1, config.num_parts + 1))
        self.reduce = PartConvBlock(config.num_parts, backbone.channels, config.part_dim)
        self.classifier = PartClassifier(config.num_parts, config.part_dim, num_classes)

    def heads(self, maps: Tensor, prior: PriorBatch | None = None, with_aux: bool = False) -> ModelOutput:
        """[B, C, h, w] -> part_features [B, K, d], embedding [B, K*d], logits [K, B, classes]."""
        stripes = part_features(maps, num_parts=self.config.num_parts, mode="uniform")  # [B, K, C, h/K, w]
        columns = stripes.mean((-2, -1))  # g_k, [B, K, C]
        parts = self.reduce(columns)  # h_k, [B, K, d]
        return ModelOutput(embedding=parts.flatten(1), part_features=parts, logits=self.classifier(parts))

    def part_head(self, k: int, maps: Tensor, prior: PriorBatch | None = None) -> tuple[Tensor, Tensor]:
        """Stripe k alone: feature [B, d] and logits [B, classes]."""
        stripe = part_features(maps, num_parts=self.config.num_parts, mode="uniform")[:, k]  # [B, C, h/K, w]
        part = self.reduce.one(stripe.mean((-2, -1)), k)
        return part, self.classifier.one(part, k)
