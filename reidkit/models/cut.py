"""Where CGPN and MGN cut a backbone into a shared trunk and a tail that every branch copies.

The papers cut ResNet-50 after res_conv4_1. In any chain of stages that is, by strides alone:

    the end of the first block of the stage that reaches stride 16

or, in a network that never becomes so coarse (`small` stops at 8), of the stage that reaches its last stride. A block
holds two or more convolutions or linear layers; a lone down-sampling layer before it (ConvNeXt's) belongs to the trunk,
and where no block follows, the cut comes right after that layer.

Whether a network is a chain is seen while it runs once, on a small image and also without numbers (meta device): each
of its children has to take the very map that the one before it gave, and the last one's map has to be the result.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from reidkit.errors import ReIDKitError

STRIDE = 16  # of the stage that is cut
SIDE = 96  # pixels of the square image that a network is tried on: 3x3 cells at stride 32


@dataclass
class Call:
    """What a module took and gave, with torch's counts of in-place changes."""

    given: Tensor
    given_version: int
    gave: Tensor | None = None
    gave_version: int = -1

    def passes_on(self, other: Call) -> bool:
        """Whether `other` took what this call gave, unchanged."""
        return other.given is self.gave and other.given_version == self.gave_version


def find_cut(network: nn.Sequential, name: str) -> str:
    """The layer after which to cut, as its name in the network; `name` is for the message of an error.

    Raises ReIDKitError for a network that is no chain of stages, or has nothing left after the cut.
    """
    try:
        calls = _calls(network)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise _no_chain(
            name, f"it does not run on {SIDE}x{SIDE} images, where its strides are measured ({error})"
        ) from error
    units = [(path, unit, _stride(calls[unit])) for path, unit in _units(network, calls) if unit in calls]
    units = [(path, unit, stride) for path, unit, stride in units if stride]
    coarse = min(STRIDE, units[-1][2]) if units else STRIDE
    reached = [i for i, (_, _, stride) in enumerate(units) if stride >= coarse]
    cut = next((i for i in reached if _is_block(units[i][1])), reached[0] if reached else 0)
    if not any(_weighted(unit) for _, unit, _ in units[cut + 1 :]):
        last = units[cut][0] if units else "its first module"
        raise _no_chain(
            name, f"as a chain of modules it ends with {last!r}, and branches would have nothing of their own"
        )
    return units[cut][0]


def divide(network: nn.Module, path: Sequence[str]) -> tuple[nn.Sequential, nn.Sequential]:
    """(front, back) of a chain, cut after the layer `path`, as chains that keep every name."""
    children = OrderedDict(network.named_children())
    at = list(children).index(path[0])
    front = OrderedDict(list(children.items())[: at + 1])
    back = OrderedDict(list(children.items())[at + 1 :])
    if path[1:]:
        front[path[0]], rest = divide(children[path[0]], path[1:])
        if len(rest):
            back[path[0]] = rest
            back.move_to_end(path[0], last=False)
    return nn.Sequential(front), nn.Sequential(back)


def _no_chain(name: str, why: str) -> ReIDKitError:
    return ReIDKitError(
        f"backbone {name!r} cannot be split into branches: {why}. Branches need a chain of stages that passes one map "
        "on, as ResNet, EfficientNet, MobileNet and ConvNeXt do: use resnet18, resnet34, resnet50, small, lite0 or "
        "one of these families in timm"
    )


@torch.inference_mode(False)  # its tensors count no changes
@torch.no_grad()
def _calls(network: nn.Module) -> dict[nn.Module, Call]:
    """Run the network once on a small image: what every module that ran exactly once took and gave."""
    calls: dict[nn.Module, Call] = {}
    repeated: set[nn.Module] = set()

    def before(module, inputs):
        if module in calls or not inputs or not isinstance(inputs[0], Tensor):
            repeated.add(module)
        else:
            calls[module] = Call(inputs[0], inputs[0]._version)

    def after(module, inputs, output):
        map_ = output[-1] if isinstance(output, (list, tuple)) and output else output  # a feature extractor's last
        if isinstance(map_, Tensor) and module in calls:
            calls[module].gave, calls[module].gave_version = map_, map_._version

    hooks = [
        hook
        for m in network.modules()
        for hook in (m.register_forward_pre_hook(before), m.register_forward_hook(after))
    ]
    like = next(network.parameters())
    try:
        with _evaluating(network):
            network(torch.zeros(1, 3, SIDE, SIDE, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return {module: call for module, call in calls.items() if module not in repeated}


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _units(module: nn.Module, calls: dict[nn.Module, Call], path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of the links of the chain, in order: stages are opened down to their blocks, blocks stay whole."""
    if _is_stage(module) and _is_chain(module, calls):
        for name, child in module.named_children():
            yield from _units(child, calls, f"{path}.{name}".removeprefix("."))
    elif path:
        yield path, module


def _is_stage(module: nn.Module) -> bool:
    """Whether blocks are among the children, or timm has listed them (a ModuleDict).

    Squeeze and excitation is inside of a block, and is none itself: its layers are 1x1.
    """
    fewest = 1 if isinstance(module, nn.Sequential) else 3  # rows of the kernel
    blocks = any(isinstance(c, nn.Sequential) or _is_block(c, fewest) for c in module.children())
    return blocks or isinstance(module, nn.ModuleDict)


def _is_chain(module: nn.Module, calls: dict[nn.Module, Call]) -> bool:
    """Whether the children, in order, are all that the module does."""
    whole, parts = _call(module, calls), [_call(child, calls) for child in module.children()]
    if whole is None or module._parameters or module._buffers:
        return False
    entry = Call(whole.given, whole.given_version, whole.given, whole.given_version)
    links = [entry, *parts, Call(whole.gave, whole.gave_version)] if whole.gave is not None else [None]
    return all(one is not None and other is not None and one.passes_on(other) for one, other in pairwise(links))


def _call(module: nn.Module, calls: dict[nn.Module, Call]) -> Call | None:
    """The call of a module, or what it would have been for a Sequential whose parts were called one by one."""
    if module in calls or not isinstance(module, nn.Sequential) or not len(module):
        return calls.get(module)
    first, last = _call(module[0], calls), _call(module[-1], calls)
    return Call(first.given, first.given_version, last.gave, last.gave_version) if first and last else None


def _weighted(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def _is_block(module: nn.Module, fewest: int = 1) -> bool:
    """Two or more layers with weights, one of them a convolution of so many rows (or more)."""
    layers = _weighted(module)
    rows = [m.kernel_size[0] if isinstance(m, nn.Conv2d) else 1 for m in layers]
    return len(layers) > 1 and max(rows) >= fewest


def _stride(call: Call) -> int:
    """The stride of the map that a call gave, [B, C, h, w] or [B, h, w, C] (h = w here); 0 for anything else."""
    rows = call.gave.shape[-2] if call.gave is not None and call.gave.ndim == 4 else 0
    return 2 ** round(math.log2(SIDE / rows)) if rows else 0  # unpadded layers take a few rows more
