"""MPN: multi-task part-aware network (Ding, Wang, Wang, Tao), and its relatives of Tables 1-4 and Fig. 10.

For each of K body parts there are two tasks that identify the person (Fig. 3):

    main task MT       reads the whole feature map F         -> f_k    kept at test time
    auxiliary task AT  reads P_k, the stripe of part k in F  -> z_k    training only, knows where the part is

Both are: 1x1 conv, global max pooling, optional channel attention, 1x1 conv, classifier (Sec. 3.3). Sharing the
convs between MT and AT teaches the MT which channels belong to its part: parameter space alignment (PSA).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from reidkit.errors import PriorError, ReIDKitError, unknown_name
from reidkit.models.backbones import Backbone, load_backbone_weights
from reidkit.models.base import ModelOutput, TrunkModel
from reidkit.models.parts import PartAttention, PartClassifier, PartConvBlock, max_pool
from reidkit.priors import PriorBatch
from reidkit.priors.part_features import MODES, Mode, part_features

Layer = Literal["conv1", "conv2", "attention"]
SHAREABLE: tuple[Layer, ...] = get_args(Layer)
SoftLayer = Literal["conv1", "conv2"]


@dataclass(frozen=True)
class MPNConfig:
    """One system of MPN's tables. The defaults are MPNo, MPN without channel attention (Table 1).

    num_parts:         K, Fig. 7.
    part_dim:          channels of both convs, 512 in the paper.
    main, aux:         which tasks exist. main=False is the paper's stripe baseline: ATs at train and test time.
    share:             layers that MT and AT share (hard sharing, with their batch norm): any of "conv1" (C1-S),
                       "conv2" (C2-S), "attention". Naming "attention" without channel attention changes nothing.
    soft_share:        "conv1" or "conv2": separate weights, pulled together by a penalty (`regularization`, Fig. 10).
    share_bn:          one batch norm (scale, shift, running statistics) for both tasks behind a shared conv? None:
                       with hard sharing yes, as in the released code; with soft sharing no, its penalty is on the
                       conv. Then two things differ in Fig. 10. True: one for either kind; False: two for either kind;
                       so the conv alone differs. (`separate_bn` below parts the running statistics only.)
    channel_attention: the CA module of Fig. 6; attention_dim: its hidden channels, None = part_dim / 4 (128).
    prior:             where the ATs' stripes come from: "uniform", "roi", "roi-mask" (Table 2).
    separate_bn:       a shared batch norm keeps separate running statistics for MT and AT. The paper has one pair:
                       whole maps and stripes update it in turn, and the MTs are tested with that mixture.
    spatial_attention: None, "rga" or "rga:HxW", RGA-S in the backbone (MPN*, Table 5); see `reidkit.models.rga`.
    """

    family: ClassVar[str] = "mpn"
    num_parts: int = 6
    part_dim: int = 512
    main: bool = True
    aux: bool = True
    share: tuple[Layer, ...] = SHAREABLE
    soft_share: SoftLayer | None = None
    share_bn: bool | None = None
    channel_attention: bool = False
    attention_dim: int | None = None
    prior: Mode = "roi-mask"
    separate_bn: bool = False
    spatial_attention: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "share", tuple(self.share))  # JSON gives lists
        for layer in self.share:
            if layer not in SHAREABLE:
                raise unknown_name("shared layer", layer, SHAREABLE)
        if self.soft_share not in (None, *get_args(SoftLayer)):
            raise unknown_name("soft_share", self.soft_share, get_args(SoftLayer))
        if self.soft_share in self.share or (self.soft_share and not (self.main and self.aux)):
            raise ReIDKitError(
                f"soft_share={self.soft_share!r} needs a main and an auxiliary task that do not share "
                f"this layer (share={self.share}, main={self.main}, aux={self.aux})"
            )
        if not (self.share_bn is None or isinstance(self.share_bn, bool)):
            raise ReIDKitError(f"share_bn={self.share_bn!r}: expected true, false or none")
        if self.share_bn is not None and not ((self.share or self.soft_share) and self.main and self.aux):
            raise ReIDKitError(
                f"share_bn={self.share_bn!r} needs a main and an auxiliary task that share a layer, "
                f"hard or soft (share={self.share}, main={self.main}, aux={self.aux})"
            )
        if self.prior not in MODES:
            raise unknown_name("prior", self.prior, MODES)
        if self.num_parts < 1 or self.part_dim < 1:
            raise ReIDKitError(f"num_parts={self.num_parts} and part_dim={self.part_dim} must be at least 1")
        if not (self.main or self.aux):
            raise ReIDKitError("main=False and aux=False leave no task to train")

    def aux_own(self, layer: str) -> tuple[str, ...]:
        """What the ATs have for themselves of a layer: "conv" and "norm" (nothing is shared), one of them, or none."""
        if not (self.main and self.aux):
            return ()
        if layer in self.share:
            return ("norm",) if self.share_bn is False else ()
        return ("conv",) if layer == self.soft_share and self.share_bn else ("conv", "norm")

    def build(self, backbone: Backbone, num_classes: int) -> MPN:
        """The network on a backbone, with `num_classes` training identities."""
        return MPN(self, backbone, num_classes)


class MPN(TrunkModel):
    """MPN and its relatives; see `MPNConfig`.

    Layers without prefix belong to the main tasks, `aux_*` to the auxiliary tasks; an auxiliary layer that is
    shared does not exist a second time (where only its conv or only its batch norm is shared, the other one is in
    the main tasks' layer as `aux_conv` or `aux_norm`). With main=False the only tasks are stripe tasks and own the
    layers without prefix.
    """

    name = "mpn"
    config: MPNConfig
    conv1: PartConvBlock
    attention: PartAttention | None
    conv2: PartConvBlock
    classifier: PartClassifier

    def __init__(self, config: MPNConfig, backbone: Backbone, num_classes: int):
        super().__init__(config, backbone, num_classes)
        self.part_names = tuple(f"part {k}" for k in range(1, config.num_parts + 1))
        two_tasks = config.main and config.aux
        self.needs_prior = config.prior != "uniform" and (two_tasks or not config.main)
        self.needs_prior_at_test = config.prior != "uniform" and not config.main

        self.twice = tuple(layer for layer in SHAREABLE if len(config.aux_own(layer)) == 2)  # nothing of it shared
        self.conv1 = self._new("conv1")
        self.attention = self._new("attention")
        self.conv2 = self._new("conv2")
        self.classifier = self._new("classifier")
        if two_tasks:
            for layer in SHAREABLE:
                self.add_module(f"aux_{layer}", self._new(layer) if layer in self.twice else None)
            self.aux_classifier = self._new("classifier")  # W_k^at: never shared, Eq. 1

    def _new(self, layer: str) -> Any:
        """A fresh copy of a layer of the K tasks (Sec. 3.3, Fig. 6)."""
        config = self.config
        parts, dim = config.num_parts, config.part_dim
        options: dict[str, Any] = {
            "separate_bn": config.separate_bn,
            "aux_own": () if layer in self.twice else config.aux_own(layer),
        }
        if layer == "conv1":
            return PartConvBlock(parts, self.backbone.channels, dim, **options)
        if layer == "conv2":
            return PartConvBlock(parts, dim, dim, **options)
        if layer == "classifier":
            return PartClassifier(parts, dim, self.num_classes)
        if not config.channel_attention:
            return None
        return PartAttention(parts, dim, config.attention_dim or max(dim // 4, 1), **options)

    def _aux(self, layer: str) -> Any:
        """The layer that the auxiliary tasks use: their own, or the shared one (PSA)."""
        return getattr(self, f"aux_{layer}" if layer in self.twice else layer)

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Start from an IDE's trunk (Sec. 5.1); spatial attention, which an IDE has not, keeps its initial values."""
        load_backbone_weights(self.backbone, state)

    def heads(self, maps: Tensor, prior: PriorBatch | None = None, with_aux: bool = False) -> ModelOutput:
        """F -> f_k, h and logits of the main tasks; with_aux adds z_k, g and logits of the auxiliary tasks.

        Raises PriorError when the auxiliary (or, with main=False, the only) tasks need a prior and none is given.
        """
        if not self.config.main:
            return self._task(self._stripes(maps, prior), self.conv1, self.attention, self.conv2, self.classifier)
        out = self._task(maps, self.conv1, self.attention, self.conv2, self.classifier)
        if with_aux and self.config.aux:
            conv1, attention, conv2 = (self._aux(layer) for layer in ("conv1", "attention", "conv2"))
            out.aux = self._task(self._stripes(maps, prior), conv1, attention, conv2, self.aux_classifier, aux=True)
        return out

    def _stripes(self, maps: Tensor, prior: PriorBatch | None) -> Tensor:
        if prior is None and self.config.prior != "uniform":
            raise PriorError(
                f"{self.name} with prior={self.config.prior!r} needs the coarse priors of the images "
                f"{'at training and test time' if self.needs_prior_at_test else 'in training'}: pass "
                "prior=PriorBatch(...), or build the model with prior='uniform'"
            )
        return part_features(maps, prior, self.config.num_parts, self.config.prior)  # P_k, [B, K, C, h/K, w]

    @staticmethod
    def _task(
        x: Tensor,
        conv1: PartConvBlock,
        attention: PartAttention | None,
        conv2: PartConvBlock,
        classifier: PartClassifier,
        aux: bool = False,
    ) -> ModelOutput:
        """K tasks at once. x: F [B, C, h, w], or stripes P_k [B, K, C, h/K, w]."""
        x = conv1(x, aux)  # part-relevant channels, [B, K, d, *, w]
        x = max_pool(x)  # GMP, [B, K, d]
        if attention is not None:
            x = attention(x, aux)
        x = conv2(x, aux)  # f_k (or z_k), [B, K, d]
        logits = classifier(x)  # [K, B, classes]
        return ModelOutput(embedding=x.flatten(1), part_features=x, logits=logits)  # h, Eq. 2 (g, Eq. 5)

    def part_head(self, k: int, maps: Tensor, prior: PriorBatch | None = None) -> tuple[Tensor, Tensor]:
        """Task k alone: feature [B, d] and logits [B, classes], a K-th of the work of `heads`."""
        x = maps if self.config.main else self._stripes(maps, prior)[:, k]
        x = max_pool(self.conv1.one(x, k))  # GMP, [B, d]
        if self.attention is not None:
            x = self.attention.one(x, k)
        x = self.conv2.one(x, k)  # f_k, [B, d]
        return x, self.classifier.one(x, k)

    def part_maps(self, maps: Tensor, prior: PriorBatch | None = None) -> Tensor:
        """Responses of conv1 before pooling: [B, K, d, h, w], where each part looks on F.

        With main=False part k sees its stripe only, and the result is [B, K, d, h/K, w].
        """
        return self.conv1(maps if self.config.main else self._stripes(maps, prior))

    def _soft_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """The MTs' and the ATs' weights, and biases, of the softly shared conv; empty without one."""
        layer = self.config.soft_share
        if layer is None:
            return []
        main = getattr(self, layer)
        aux = getattr(self, f"aux_{layer}").conv if layer in self.twice else main.aux_conv
        return [(main.conv.weight, aux.weight), (main.conv.bias, aux.bias)]

    def regularization(self) -> Tensor:
        """Soft sharing, Sec. 5.3.2: squared L2 distance between the MTs' and the ATs' weights and biases."""
        return sum(((m - a).square().sum() for m, a in self._soft_pairs()), start=super().regularization())

    @torch.no_grad()
    def proximal_step(self, step: float) -> None:
        """One implicit step on |m - a|^2, `regularization()`: m, a become the minimum of

            step |m - a|^2 + 1/2 |m - m0|^2 + 1/2 |a - a0|^2,    m0, a0: the weights before.

        The derivatives vanish: m - m0 + 2 step (m - a) = 0 and a - a0 - 2 step (m - a) = 0. Their sum says that the
        mean stays, m + a = m0 + a0; their difference that m - a = (m0 - a0) / (1 + 4 step). That shrinks for every
        step >= 0, while the explicit step multiplies by 1 - 4 step and diverges above 1/2 (with momentum, earlier).
        """
        for main, aux in self._soft_pairs():
            move = (main - aux) * (0.5 - 0.5 / (1 + 4 * step))  # each goes half of the way that the difference loses
            main -= move
            aux += move

    def count_parameters(self, classifiers: bool = False) -> int:
        """Parameters of the test-time network: auxiliary tasks dropped. `classifiers` adds the K main ones."""
        own = ((name, p) for name, p in self.named_parameters() if not name.startswith("backbone."))
        return super().count_parameters(classifiers) - sum(p.numel() for name, p in own if "aux_" in name)
