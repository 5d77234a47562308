"""DSA-reID: densely semantically aligned re-identification (Zhang et al., CVPR 2019), a row of MPN Table 9.

Two streams in training, the first alone at test:

    main full-image stream (MF)   the image -> trunk -> two copies of res_conv5: a global feature, and local ones
    aligned guiding stream (DSA)  the image warped onto 24 charts of the body's surface -> a network of its own, of the
                                  same build -> a global feature, and one for each group of charts

Late fusion: the features of the two streams are added, global to global and local to local; classifiers and the triplet
loss read the sums too. The aligned stream so teaches the main one what belongs to which part of the body.

From MPN (Sec. 5.3.3, [10]): "we sum the features h and g in an element-wise manner for each image, then apply the
triplet loss to the summed features". Not in the papers of the kit and chosen here: the guiding stream reads the charts
as one mosaic through one trunk; four groups of charts, so four local features, on the main stream's side four stripes;
average pooling for the global feature, max pooling for the local ones; a batch norm on each; MPN's recipe.

The two copies of res_conv5 agree with Table 9: 23.51 M + 14.96 M = 38.5 M at test. In training it prints 187.8 M, which
leaves 149.3 M for the guiding stream, several networks side by side (a trunk and a res_conv5 for the whole and for each
of eight groups of charts would be 143 M; MPN does not say). Ours is as large as the main stream: 77.0 M in all.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from reidkit.data.texture import CHARTS, SIZE, TextureBatch
from reidkit.data.transforms import normalize
from reidkit.errors import PriorError, ReIDKitError
from reidkit.models.backbones import Backbone
from reidkit.models.base import ModelOutput, PriorKind
from reidkit.models.branches import BranchedModel
from reidkit.models.parts import PartBatchNorm, PartClassifier, PartConvBlock, max_pool
from reidkit.priors import PriorBatch
from reidkit.priors.part_features import part_features

GROUPS = (
    ("head", ("head",)),
    ("torso and arms", ("torso", "upper arm", "lower arm", "hand")),
    ("upper legs", ("upper leg",)),
    ("lower legs and feet", ("lower leg", "foot")),
)  # from top to bottom, as the main stream's stripes; a chart belongs to a group by a word of its name
MOSAIC = (6, 4)  # charts down and across in the picture that the guiding stream reads
GLOBAL, LOCAL = 0, 1  # the branches of a stream


def charts_of(words: tuple[str, ...]) -> tuple[int, ...]:
    """Indices, from 0, of the charts whose names hold one of these words."""
    return tuple(i for i, name in enumerate(CHARTS) if any(word in name for word in words))


@dataclass(frozen=True)
class DSAConfig:
    """reduced_dim: channels of each feature after a 1x1 conv; None: those of the map, 2048 with ResNet-50 (Table 9)."""

    family: ClassVar[str] = "mpn"
    main: ClassVar[bool] = True  # two kinds of tasks, as in MPN; the auxiliary ones read textures
    aux: ClassVar[bool] = True
    prior: ClassVar[str] = "dense"
    reduced_dim: int | None = None

    def __post_init__(self):
        if self.reduced_dim is not None and self.reduced_dim < 1:
            raise ReIDKitError(f"reduced_dim={self.reduced_dim} must be at least 1, or none")

    def build(self, backbone: Backbone, num_classes: int) -> DSA:
        """The network on a backbone, with `num_classes` training identities."""
        return DSA(self, backbone, num_classes)


class DSA(BranchedModel):
    """The main stream is the `BranchedModel` itself (`shared`, two `tails`); `aux_guide` is the other one. What only
    training needs is named aux_*, as in MPN.

    Parts: "global", then four stripes, from top to bottom. Test feature: all five, main stream only.
    """

    name = "dsa"
    config: DSAConfig
    classifier: PartClassifier
    needs_prior = True  # in training: a `TextureBatch`
    prior_kind: PriorKind = "dense"
    whole_stage = True

    def __init__(self, config: DSAConfig, backbone: Backbone, num_classes: int):
        super().__init__(config, backbone, num_classes, 2)
        self.part_names = ("global", *(f"stripe {k + 1} ({name})" for k, (name, _) in enumerate(GROUPS)))
        self.places = ((GLOBAL, None), *((LOCAL, None) for _ in GROUPS))
        dim = config.reduced_dim or self.channels
        self.reduce = reduction(config, self.channels)
        self.classifier = PartClassifier(self.num_parts, dim, num_classes)
        self.aux_guide = Guide(config, copy.deepcopy(backbone), num_classes)  # no layer in common with the main stream
        self.aux_classifier = PartClassifier(self.num_parts, dim, num_classes)  # of the summed features

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """The same weights for both streams, and for both copies of res_conv5 in each."""
        super().load_backbone(state)
        self.aux_guide.load_backbone(state)

    def backbone_modules(self) -> list[nn.Module]:
        """Trunks and tails of both streams, as opposed to the heads."""
        return [*super().backbone_modules(), *self.aux_guide.backbone_modules()]

    @property
    def part_extents(self) -> tuple[tuple[float, float], ...]:
        """(start, stop) of the body's height: all of it for the global feature, then equal stripes."""
        k = len(GROUPS)
        return ((0.0, 1.0), *((i / k, (i + 1) / k) for i in range(k)))

    def heads(
        self,
        maps: tuple[Tensor, ...],
        prior: PriorBatch | TextureBatch | None = None,
        with_aux: bool = False,
    ) -> ModelOutput:
        """Maps of the two branches -> five features; with_aux adds the guiding stream's.

        aux: embedding g and part features of the guiding stream; its logits are those of the *summed* features.
        Raises PriorError in training without a `TextureBatch`.
        """
        features = self.reduce(self._pooled(maps))  # [B, 1 + K, d]
        out = ModelOutput(features.flatten(1), features, self.classifier(features))
        if with_aux:
            if not isinstance(prior, TextureBatch):
                raise PriorError(
                    f"{self.name} learns beside the textures of the training images: pass prior=TextureBatch(...)"
                )
            guide = self.aux_guide.features(prior)  # [B, 1 + K, d]
            fused = self.aux_classifier(features + guide)  # late fusion
            out.aux = ModelOutput(guide.flatten(1), guide, fused)
        return out

    @staticmethod
    def _pooled(maps: tuple[Tensor, ...]) -> Tensor:
        stripes = part_features(maps[LOCAL], num_parts=len(GROUPS), mode="uniform")  # [B, K, c, h/K, w]
        whole = maps[GLOBAL].mean((-2, -1))  # [B, c]
        return torch.cat([whole[:, None], max_pool(stripes)], dim=1)

    def count_parameters(self, classifiers: bool = False) -> int:
        """Parameters of the test-time network: the main stream."""
        dropped = [*self.aux_guide.parameters(), *self.aux_classifier.parameters()]
        return super().count_parameters(classifiers) - sum(p.numel() for p in dropped)

    def example_prior(self, count: int, grid: tuple[int, int]) -> TextureBatch:
        """Textures without content, to try a step with."""
        return TextureBatch(torch.zeros(count, len(CHARTS), 4, SIZE, SIZE, dtype=torch.uint8))


class Guide(BranchedModel):
    """The densely semantically aligned stream: textures -> one global and K local features. It is dropped at test."""

    name = "dsa's guiding stream"
    whole_stage = True

    def __init__(self, config: DSAConfig, backbone: Backbone, num_classes: int):
        super().__init__(config, backbone, num_classes, 2)
        self.reduce = reduction(config, self.channels)

    def features(self, textures: TextureBatch) -> Tensor:
        """[B, 24, 4, S, S] -> [B, 1 + K, d]."""
        whole, local = self.feature_maps(mosaic(textures))
        tiles = nn.functional.adaptive_max_pool2d(local, MOSAIC).flatten(2)  # a chart each, [B, c, 24]
        charts = tiles.unbind(-1)
        groups = [torch.stack([charts[i] for i in charts_of(words)]).amax(0) for _, words in GROUPS]
        return self.reduce(torch.stack([whole.mean((-2, -1)), *groups], dim=1))


def reduction(config: DSAConfig, channels: int) -> nn.Module:
    """What follows pooling, for each of the 1 + K features: a batch norm, after a 1x1 conv where they are reduced."""
    if config.reduced_dim is None:
        return PartBatchNorm(1 + len(GROUPS), channels)
    return PartConvBlock(1 + len(GROUPS), channels, config.reduced_dim, relu=False, bias=False)


def mosaic(textures: TextureBatch) -> Tensor:
    """[B, 24, 4, S, S] uint8 -> one normalised picture [B, 3, 6 S, 4 S] of all charts; what was not seen is 0."""
    colour, seen = textures.texture[:, :, :3], textures.texture[:, :, 3:] > 0
    colour = normalize(colour.flatten(0, 1)).unflatten(0, colour.shape[:2]) * seen  # [B, 24, 3, S, S]
    grid = colour.unflatten(1, MOSAIC)  # [B, 6, 4, 3, S, S]
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
