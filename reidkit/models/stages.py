"""`Backbone`: a chain of named stages that a model may hold as one piece or cut in two.

CGPN and MGN cut theirs after res_conv4_1, the first block of the stage of ResNet-50 that reaches stride 16. For any
other chain `reidkit.models.cut` says what that is.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from reidkit.errors import ReIDKitError
from reidkit.models.cut import divide, find_cut

RESNETS = ("resnet18", "resnet34", "resnet50")
RESNET_CUT = "layer3.0"  # res_conv4_1


class Backbone(nn.Sequential):
    """A chain of named stages; the names, and so the state-dict keys, are those of a torchvision ResNet.

    channels: C of the feature map; stride: image pixels per row (and column) of the map. cut: the layer after which
    `split` cuts, None to find it. last_stride: the layers that carry the last down-sampling of the published
    network where this one goes without, as they were there (name -> layer; its weights do not count).
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        *,
        name: str,
        channels: int,
        stride: int,
        cut: str | None = None,
        last_stride: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__(OrderedDict(stages))
        self.name, self.channels, self.stride = name, channels, stride
        self._cut, self.last_stride = cut, dict(last_stride or {})

    @property
    def split_at(self) -> str:
        """The layer after which `split` cuts: "layer3.0" (res_conv4_1), "blocks_3.0" ...; see `reidkit.models.cut`.

        Raises ReIDKitError for a network that is no chain of stages.
        """
        if self._cut is None:
            self._cut = find_cut(self, self.name)
        return self._cut

    def split_path(self, whole_stage: bool = False) -> str:
        """Where `split` cuts: `split_at`, or with whole_stage the end of the stage that this layer begins."""
        stage, _, _ = self.split_at.rpartition(".")
        return stage if whole_stage and stage else self.split_at

    def split(self, whole_stage: bool = False) -> tuple[nn.Sequential, nn.Sequential]:
        """(shared, tail) with `tail(shared(x)) == self(x)`, cut after `split_at`; whole_stage: see `split_path`.

        Both parts hold the backbone's own modules, and their state-dict keys are the backbone's; a model with
        several branches deep-copies the tail. Raises ReIDKitError for a network that is no chain of stages.
        """
        return divide(self, self.split_path(whole_stage).split("."))


def restore_last_stride(tail: nn.Module, backbone: Backbone) -> None:
    """Give a tail of `backbone.split()` the last down-sampling of the published network back; the weights stay.

    Raises ReIDKitError where the tail lacks a layer that carried it.
    """
    for name, published in backbone.last_stride.items():
        where, _, last = name.rpartition(".")
        try:
            old = tail.get_submodule(name)
        except AttributeError:
            old = nn.Identity()
        if _shapes(old) != _shapes(published):
            raise ReIDKitError(
                f"the last stride of backbone {backbone.name!r} cannot be put back: its layer {name!r} carried it (in "
                f"a ResNet block a 3x3 convolution and the one on the shortcut), and there is {type(old).__name__} "
                f"instead of {type(published).__name__}. Use another backbone, such as {', '.join(RESNETS)} or small"
            )
        layer = copy.deepcopy(published)
        for key, value in (*old.named_parameters(), *old.named_buffers()):
            setattr(layer, key, value)
        setattr(tail.get_submodule(where), last, layer)


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in (*layer.named_parameters(), *layer.named_buffers())}
