"""`Backbone`: a chain of named stages that a model may hold as one piece or cut in two."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from reidkit.errors import ReIDKitError

RESNETS = ("resnet18", "resnet34", "resnet50")


class Backbone(nn.Sequential):
    """A chain of named stages; the names, and so the state-dict keys, are those of a torchvision ResNet.

    channels: C of the feature map; stride: image pixels per row (and column) of the map.
    """

    def __init__(self, stages: Mapping[str, nn.Module], *, name: str, channels: int, stride: int):
        super().__init__(OrderedDict(stages))
        self.name, self.channels, self.stride = name, channels, stride

    def split(self, blocks: int | None = 1) -> tuple[nn.Module, nn.Module]:
        """(shared, tail) with `tail(shared(x)) == self(x)`, cut after layer3[0], which CGPN calls res_conv4_1.

        blocks: of layer3 that are shared; None for all of them (DSA-reID).
        Both parts hold the backbone's own modules; a model with several branches deep-copies the tail.
        Raises ReIDKitError for a network that has no `layer3`.
        """
        stages = OrderedDict(self.named_children())
        layer3 = stages.get("layer3")
        if not isinstance(layer3, nn.Sequential):
            raise ReIDKitError(
                f"backbone {self.name!r} cannot be split into branches: it has no stage 'layer3'. "
                f"Use one of {', '.join(RESNETS)}, small, or a ResNet-like timm network"
            )
        names = list(stages)
        cut = names.index("layer3")
        shared = OrderedDict((n, stages[n]) for n in names[:cut])
        tail = OrderedDict((n, stages[n]) for n in names[cut + 1 :])
        shared["layer3"] = layer3[:blocks]
        if blocks is not None and len(layer3) > blocks:
            tail["layer3"] = layer3[blocks:]
            tail.move_to_end("layer3", last=False)
        return nn.Sequential(shared), nn.Sequential(tail)
