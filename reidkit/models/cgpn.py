"""CGPN: the coarse granularity part-level network, and its relatives of Tables 3 and 4.

    images -> shared trunk (to res_conv4_1) -> branch i, its own copy of the rest -> map [B, c, h, w]
    global part, in every branch:  1x1 conv p (c -> c), global max pooling -> fg_p;  fg_i = [fg_1, fg_2]  [B, 2c]
    local part:                    global max pooling of each coarse stripe group (Fig. 3)                [B, c]
    every feature:                 1x1 conv + batch norm -> 256, classifier
    test feature:                  all reduced features side by side, 12 * 256 = 3072

While training, fg_p is pulled to fgl_p, the pooled p-th horizontal part of the same map (Eq. 3): one global
feature learns to speak of the upper body, the other of the lower body. Nothing of this is left at test time.

What the paper leaves open, and what is built here
- Stripe groups of branch 3, and branches 4 and 5 of Table 4: see `reidkit.models.stripes`.
- "Max pooling with different kernel sizes" in the local part is the global max over a stripe group.
- The 1x1 convs of the global part are plain convolutions with bias: Sec. 3.1 names no batch norm and no ReLU.
- A reduction is a 1x1 conv without bias and a batch norm, its own for every feature. MGN adds a ReLU; CGPN names
  none, and none is built.
- Softmax and triplet loss read the reduced 256-d features, all twelve of them. Sec. 3.2 gives both losses to the
  global and to the local parts, and Sec. 3.1 uses the letters fg_i, fl_i for features before the reduction; but
  the reduced ones are what is compared at test time, and what the triplet loss of MGN, its model, sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from reidkit.errors import ReIDKitError
from reidkit.models.backbones import Backbone
from reidkit.models.base import ModelOutput
from reidkit.models.branches import BranchedModel, places
from reidkit.models.parts import PartClassifier, PartConv, PartConvBlock, max_pool
from reidkit.models.stripes import (
    BRANCH_1,
    BRANCH_2,
    BRANCH_3,
    BRANCH_4,
    BRANCH_5,
    Branch,
    adjacent,
    fine,
    global_only,
    pool_groups,
    pool_rows,
)
from reidkit.priors import PriorBatch

__all__ = [
    "BRANCH_1",
    "BRANCH_2",
    "BRANCH_3",
    "BRANCH_4",
    "BRANCH_5",
    "CGPN",
    "Branch",
    "CGPNConfig",
    "fine",
    "global_only",
]


@dataclass(frozen=True)
class CGPNConfig:
    """One system of CGPN's tables. The defaults are CGPN itself.

    branches:       a tail of the backbone each, with the stripe groups of its local part.
    global_parts:   1x1 convs of a global part, M of Eq. 3 (Table 4 tries 2, 3, 4, 8); 0 = local only (CGPN-3).
    supervised:     whether Eq. 3 teaches the global parts (CGPN-4: False).
    reduced_dim:    channels of a reduced feature, 256 in the paper.
    detach_targets: Eq. 3 moves both of its ends: fg_p to fgl_p, and the map under fgl_p to fg_p. True stops the
                    gradient through fgl_p, which makes it a fixed target. The paper does not mention it.
    """

    family: ClassVar[str] = "cgpn"
    branches: tuple[Branch, ...] = (BRANCH_1, BRANCH_2, BRANCH_3)
    global_parts: int = 2
    supervised: bool = True
    reduced_dim: int = 256
    detach_targets: bool = False

    def __post_init__(self):
        if not self.branches:
            raise ReIDKitError("CGPN needs at least one branch, e.g. branches=(BRANCH_1,)")
        names = [branch.name for branch in self.branches]
        if len(set(names)) < len(names):
            raise ReIDKitError(f"two branches have the same name: {names}. Give each its own")
        if self.global_parts < 0 or self.reduced_dim < 1:
            raise ReIDKitError(
                f"global_parts={self.global_parts} must be at least 0 and reduced_dim={self.reduced_dim} at least 1"
            )
        if self.global_parts == 0 and not all(branch.groups for branch in self.branches):
            raise ReIDKitError("global_parts=0 and a branch without stripe groups: the branch has no feature")

    def build(self, backbone: Backbone, num_classes: int) -> CGPN:
        """The network on a backbone, with `num_classes` training identities."""
        return CGPN(self, backbone, num_classes)


class CGPN(BranchedModel):
    """Sec. 3.1, Fig. 2. Features come in this order: global, one a branch; then local, branch by branch."""

    name = "cgpn"
    config: CGPNConfig
    classifier: PartClassifier
    reduce_global: PartConvBlock | None
    reduce_local: PartConvBlock | None

    def __init__(self, config: CGPNConfig, backbone: Backbone, num_classes: int):
        super().__init__(config, backbone, num_classes, len(config.branches))
        branches, parts, c = config.branches, config.global_parts, self.channels
        global_names = [f"{branch.name}-global" for branch in branches] if parts else []
        local_names = [f"{branch.name}-{group.name}" for branch in branches for group in branch.groups]
        self.part_names = (*global_names, *local_names)
        self.places = places(branches, with_global=bool(parts))
        self.supervision_groups = adjacent(parts, 1) if parts else ()

        self.global_convs = nn.ModuleList(PartConv(parts, c, c) for _ in global_names)
        self.reduce_global = _reduction(len(global_names), parts * c, config.reduced_dim)
        self.reduce_local = _reduction(len(local_names), c, config.reduced_dim)
        self.classifier = PartClassifier(self.num_parts, config.reduced_dim, num_classes)

    def heads(self, maps: tuple[Tensor, ...], prior: PriorBatch | None = None, with_aux: bool = False) -> ModelOutput:
        """Maps [B, c, h, w], one a branch -> K part features; with_aux adds the pairs of Eq. 3 (training)."""
        supervise = with_aux and self.config.supervised and bool(self.global_convs)
        striped = self.reduce_local is not None or supervise
        rows = [m.amax(3) for m in maps] if striped else []  # maxima of every row, [B, c, h] each
        reduced = []
        global_parts = [max_pool(conv(m)) for conv, m in zip(self.global_convs, maps)]  # fg_p, [B, P, c] each
        if self.reduce_global is not None:
            whole = torch.stack([fg.flatten(1) for fg in global_parts], dim=1)  # fg_i, [B, branches, P*c]
            reduced.append(self.reduce_global(whole))
        if self.reduce_local is not None:
            local = [pool_rows(r, b.groups) for r, b in zip(rows, self.config.branches) if b.groups]
            reduced.append(self.reduce_local(torch.cat(local, dim=1)))  # fl, [B, groups, c] -> 256
        features = torch.cat(reduced, dim=1)  # [B, K, 256]
        return ModelOutput(
            embedding=features.flatten(1),
            part_features=features,
            logits=self.classifier(features),
            triplet_features=list(features.unbind(1)),
            supervision=self._supervision(global_parts, rows) if supervise else [],
        )

    def part_head(self, k: int, maps: tuple[Tensor, ...], prior: PriorBatch | None = None) -> tuple[Tensor, Tensor]:
        """Feature k alone: [B, 256] and logits [B, classes]."""
        branch, group = self.places[k]
        if group is None:  # k = branch
            whole = max_pool(self.global_convs[branch](maps[branch])).flatten(1)  # fg_i, [B, P*c]
            feature = self.reduce_global.one(whole, branch)  # pyright: ignore[reportOptionalMemberAccess]
        else:
            local, place = pool_groups(maps[branch], (group,))[:, 0], k - len(self.global_convs)  # fl, [B, c]
            feature = self.reduce_local.one(local, place)  # pyright: ignore[reportOptionalMemberAccess]
        return feature, self.classifier.one(feature, k)

    def global_responses(self, maps: tuple[Tensor, ...]) -> Tensor:
        """[B, branches, P, c, h, w]: what the convs of the global parts answer, before pooling (Fig. 5)."""
        if not self.global_convs:
            raise ReIDKitError(f"{self.name} has no global part (global_parts=0): nothing to draw as in CGPN Fig. 5")
        return torch.stack([conv(m) for conv, m in zip(self.global_convs, maps)], dim=1)

    def _supervision(self, global_parts: list[Tensor], rows: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The pairs (fg_p, fgl_p), [B, c] each, over branches and their parts (Eq. 3). rows: [B, c, h] each."""
        pairs = []
        for fg, r in zip(global_parts, rows):
            fgl = pool_rows(r.detach() if self.config.detach_targets else r, self.supervision_groups)  # [B, P, c]
            pairs += zip(fg.unbind(1), fgl.unbind(1))
        return pairs


def _reduction(num_features: int, in_dim: int, out_dim: int) -> PartConvBlock | None:
    """1x1 conv + batch norm, its own for every feature; on pooled vectors [B, F, in] -> [B, F, out]."""
    return PartConvBlock(num_features, in_dim, out_dim, relu=False, bias=False) if num_features else None
