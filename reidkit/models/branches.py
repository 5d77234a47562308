"""What CGPN and MGN share: one trunk, then one copy of the rest of the backbone for every branch."""

from __future__ import annotations

import copy
from typing import ClassVar

from torch import Tensor, nn

from reidkit.errors import CheckpointError
from reidkit.models.backbones import Backbone
from reidkit.models.base import Config, ReIDModel
from reidkit.models.stripes import Branch, StripeGroup


def places(branches: tuple[Branch, ...], with_global: bool = True) -> tuple[tuple[int, StripeGroup | None], ...]:
    """Where every feature comes from: (index of its branch, its stripe group; None = the whole map).

    In the order of CGPN and MGN: the global features, one a branch, then the local ones, branch by branch.
    """
    whole = tuple((i, None) for i in range(len(branches))) if with_global else ()
    return whole + tuple((i, group) for i, branch in enumerate(branches) for group in branch.groups)


class BranchedModel(ReIDModel):
    """`shared` runs once an image, up to res_conv4_1; each of `tails` continues from there (CGPN Sec. 3.1).

    In other backbones the place is found by their strides (`reidkit.models.cut`); `split_at` names the last layer of
    the trunk, and so does the model's repr.

    The tails start as equal copies of the backbone's layers ("initialized with the same pre-trained weights",
    Sec. 4.2). Their losses differ, so they part ways at the first step. A subclass sets `classifier` and `places`.
    """

    places: tuple[tuple[int, StripeGroup | None], ...]
    whole_stage: ClassVar[bool] = False  # share all of res_conv4 (layer3), not its first block alone

    def __init__(self, config: Config, backbone: Backbone, num_classes: int, num_branches: int):
        super().__init__()
        self.config, self.num_classes = config, num_classes
        self.channels, self._stride = backbone.channels, backbone.stride
        self.split_at = backbone.split_path(self.whole_stage)
        self.shared, tail = backbone.split(self.whole_stage)
        self.tails = nn.ModuleList(copy.deepcopy(tail) for _ in range(num_branches))

    @property
    def stride(self) -> int:
        """Input pixels a cell of the feature maps, vertically and horizontally."""
        return self._stride

    def extra_repr(self) -> str:
        """Where the trunk ends, for print(model)."""
        return f"split_at={self.split_at!r}"

    def backbone_modules(self) -> list[nn.Module]:
        """The trunk and the tails, as opposed to the heads."""
        return [self.shared, *self.tails]

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Load the weights of one backbone into the trunk and, again equal, into every tail.

        Raises CheckpointError when the keys are not those of this backbone.
        """
        tail_keys = self.tails[0].state_dict().keys()
        expected = self.shared.state_dict().keys() | tail_keys
        if state.keys() != expected:
            raise CheckpointError(
                f"these weights belong to another backbone: {len(expected - state.keys())} tensors "
                f"are missing {sorted(expected - state.keys())[:3]}, {len(state.keys() - expected)} "
                f"are unknown {sorted(state.keys() - expected)[:3]}"
            )
        self.shared.load_state_dict({key: state[key] for key in self.shared.state_dict()})
        for tail in self.tails:
            tail.load_state_dict({key: state[key] for key in tail_keys})

    def feature_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, H, W] -> one map [B, C, h, w] a branch."""
        trunk = self.shared(images)  # [B, C', h', w']
        return tuple(tail(trunk) for tail in self.tails)

    def map_index(self, k: int) -> int:
        """The branch that feature k reads."""
        return self.places[k][0]

    @property
    def part_extents(self) -> tuple[tuple[float, float], ...]:
        """(start, stop) of each feature's stripe group, fractions of the height; (0, 1) for the global ones."""
        return tuple((0.0, 1.0) if group is None else group.extent for _, group in self.places)
