"""State dicts of the released MPN training code, in and out.

That code keeps one module a part (Sec. 3.3 without channel attention; uniform stripes; all convs shared):

    base.{0..7}.*                children of ResNet-50 in order: conv1 bn1 relu maxpool layer1 .. layer4
    local_conv_list.{k}.{0,1}    conv1 of part k: Conv2d with bias, BatchNorm2d
    local_conv_list2.{k}.{0,1}   conv2 of part k: the same
    Sfc_list.{k}, Tfc_list.{k}   classifiers of the main and the auxiliary task of part k
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from reidkit.errors import CheckpointError
from reidkit.models.backbones import create_backbone, read_state_dict
from reidkit.models.mpn import MPN, MPNConfig

BASE = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
CONVS = {"conv1": "local_conv_list", "conv2": "local_conv_list2"}
CLASSIFIERS = {"classifier": "Sfc_list", "aux_classifier": "Tfc_list"}


def load_released_mpn(path: str | Path, num_classes: int | None = None) -> MPN:
    """Build MPN from a state dict saved by the released code (ResNet-50); it gives that network's features exactly.

    num_classes: checked when given, otherwise read from the file (as are K and the widths). "module." prefixes
    and a wrapping dict ({"state_dict": ...}) are accepted; files are read with weights_only. The model comes in
    eval mode, for 384x128 images, with prior="uniform" (the released code divides F evenly).
    Raises CheckpointError that names missing, unexpected or misshapen tensors.
    """
    state = {k: v for k, v in read_state_dict(path).items() if not k.endswith("num_batches_tracked")}
    parts, dim, classes = _read_sizes(state, path)
    if num_classes is not None and num_classes != classes:
        raise CheckpointError(
            f"{path} was trained with {classes} classes, not num_classes={num_classes}: pass "
            f"num_classes={classes}, or leave it out"
        )
    config = MPNConfig(num_parts=parts, part_dim=dim, prior="uniform")
    model = config.build(create_backbone("resnet50"), classes)
    model.load_state_dict(_convert(model, state, path))
    model.name = "mpn-no-ca-uniform"
    return model.eval()


def export_released_mpn(model: MPN) -> dict[str, Tensor]:
    """The state dict of a model in the released code's layout, ready for `torch.save`.

    BatchNorm's `num_batches_tracked` counters, which that code does not use, are left out; `load_state_dict` of a
    dict without them is strict-clean.

    The model must be MPN on ResNet-50 with both tasks, hard sharing of both convs and no channel or spatial
    attention; how its stripes were made does not matter. Raises CheckpointError otherwise.
    """
    config = getattr(model, "config", None)
    fits = (
        isinstance(config, MPNConfig)
        and config.main
        and config.aux
        and {"conv1", "conv2"} <= set(config.share)
        and not (config.channel_attention or config.spatial_attention or config.separate_bn or config.share_bn is False)
        and model.backbone.name == "resnet50"
    )
    if not fits:
        raise CheckpointError(
            f"model {getattr(model, 'name', model)!r} has no place in the released layout, which is "
            "MPN on resnet50 with conv1 and conv2 shared and without attention (mpn-no-ca)"
        )
    state, exported = model.state_dict(), {}
    for key, pieces in _layout(model).items():
        for tensor, (name, shape) in zip(state[key].detach().reshape(len(pieces), -1), pieces):
            exported[name] = tensor.reshape(shape).clone()
    return exported


def _convert(model: MPN, state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """The released tensors in our names, the K parts stacked; every mismatch is reported at once."""
    layout = _layout(model)
    wanted = {name: shape for pieces in layout.values() for name, shape in pieces}
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} {tuple(state[name].shape)}, expected {shape}"
        for name, shape in wanted.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if missing or unexpected or shapes:
        raise CheckpointError(
            f"{path} does not fit the released MPN layout: {len(missing)} missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}, {len(shapes)} of another shape "
            f"{shapes[:3]}"
        )
    ours = model.state_dict()
    return {
        key: torch.stack([state[name] for name, _ in pieces]).reshape(ours[key].shape) for key, pieces in layout.items()
    }


def _read_sizes(state: Mapping[str, Tensor], path: str | Path) -> tuple[int, int, int]:
    """(K, d, number of classes) from the file's own shapes."""
    first, classifier = state.get("local_conv_list.0.0.weight"), state.get("Sfc_list.0.weight")
    if first is None or classifier is None:
        raise CheckpointError(
            f"{path} is not a state dict of the released MPN code: expected keys such as "
            f"local_conv_list.0.0.weight and Sfc_list.0.weight, found {sorted(state)[:4]} ..."
        )
    parts = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("local_conv_list."))
    return parts, first.shape[0], classifier.shape[0]


def _layout(model: MPN) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """For each tensor of our model: the tensors of the released layout that it is made of, with their shapes."""
    parts, layout = range(model.config.num_parts), {}
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    for key, shape in shapes.items():
        if key.startswith("backbone."):
            _, child, rest = key.split(".", 2)
            layout[key] = [(f"base.{BASE.index(child)}.{rest}", shape)]
    for ours, theirs in CONVS.items():
        _, out_dim, in_dim = shapes[f"{ours}.conv.weight"]
        layout[f"{ours}.conv.weight"] = [(f"{theirs}.{k}.0.weight", (out_dim, in_dim, 1, 1)) for k in parts]
        layout[f"{ours}.conv.bias"] = [(f"{theirs}.{k}.0.bias", (out_dim,)) for k in parts]
        for field in ("weight", "bias", "running_mean", "running_var"):
            layout[f"{ours}.norm.{field}"] = [(f"{theirs}.{k}.1.{field}", (out_dim,)) for k in parts]
    for ours, theirs in CLASSIFIERS.items():
        for field in ("weight", "bias"):
            layout[f"{ours}.{field}"] = [(f"{theirs}.{k}.{field}", shapes[f"{ours}.{field}"][1:]) for k in parts]
    return layout
