"""MPN's Fig. 3, drawn from a model: which layers there are, what is shared, and the shapes that flow.

Nothing is typed in: the layers and their sharing are those of the model, the shapes those of a pass without numbers.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from reidkit.errors import ReIDKitError
from reidkit.losses import LossConfig
from reidkit.models.mpn import MPN
from reidkit.reporting.plots import axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAIN, AUX, SHARED = "#0072B2", "#D55E00", "#009E73"
# in the order of a task
NAMES = {"conv1": "1x1 conv, BN,\nReLU, then GMP", "attention": "channel\nattention", "conv2": "1x1 conv,\nBN, ReLU"}


def task_layers(model: MPN) -> list[tuple[str, str]]:
    """(layer, "main and auxiliary share it" | "each its own" | "main" | "auxiliary") in the order of a task.

    A softly shared layer, or one whose batch norms are separate, is "each its own". Layers that the model lacks are
    left out.
    """
    both = model.config.main and model.config.aux
    found = []
    for layer in NAMES:
        if getattr(model, layer) is not None:
            whole = both and not model.config.aux_own(layer)
            alone = "main" if model.config.main else "auxiliary"
            found.append((layer, "shared" if whole else "each its own" if both else alone))
    return found


def shapes(model: MPN, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """{"F", "conv1", ..., "classifier"}: the shape that leaves each layer for one image of `size`, without [B].

    A pass of two images on torch's meta device: shapes, no numbers.
    """
    sketch, found = copy.deepcopy(model).to("meta").eval(), {}

    def note(key: str, batch_at: int):
        def hook(_, __, out: torch.Tensor) -> None:
            found[key] = tuple(n for i, n in enumerate(out.shape) if i != batch_at)

        return hook

    for name, module in sketch.named_children():
        if name in (*NAMES, "classifier", "backbone"):
            key, batch_at = ("F" if name == "backbone" else name), (1 if name == "classifier" else 0)
            module.register_forward_hook(note(key, batch_at))
    with torch.no_grad():
        grid = (size[0] // model.stride, size[1] // model.stride)
        prior = sketch.example_prior(2, grid).to("meta") if sketch.needs_prior_at_test else None
        sketch(torch.empty(2, 3, *size, device="meta"), prior)
    return found


def mpn_diagram(model: MPN, loss: LossConfig, size: tuple[int, int] = (384, 128)) -> Figure:
    """MPN Fig. 3 of this model. loss: what it is trained with; size: (height, width) of its images in pixels.

    One lane a kind of task; a layer that both share is one box over both. Raises ReIDKitError for another network.
    """
    if not isinstance(model, MPN):
        raise ReIDKitError(f"{getattr(model, 'name', type(model).__name__)} is no network with MPN's tasks")
    flow, layers = shapes(model, size), task_layers(model)
    lanes = ({"main": 1.0} if model.config.main else {}) | ({"auxiliary": 0.0} if model.config.aux else {})
    figure, axes = axes_of(1, 1, 11, 1.2 + 1.3 * len(lanes), dpi=110)
    ax = axes[0, 0]
    middle = sum(lanes.values()) / len(lanes)
    _box(ax, 0, middle, f"images\n3 x {size[0]} x {size[1]}", "#555555")
    _box(ax, 1.3, middle, f"{model.backbone.name}\nF: {_text(flow['F'])}", "#555555")
    _arrow(ax, 0, middle, 1.3, middle)
    for lane, y in lanes.items():
        colour, x = (MAIN if lane == "main" else AUX), 2.6
        reads = "F" if lane == "main" else f"P_k: {model.config.prior}"
        _box(ax, x, y, f"{lane} tasks\nread {reads}", colour)
        _arrow(ax, 1.3, middle, x, y)
        for layer, sharing in layers:
            x += 1.3
            _arrow(ax, x - 1.3, y, x, y)
            if sharing != "shared":
                out = f"\n{_text(flow[layer])}" if lane == "main" or len(lanes) == 1 else ""
                _box(ax, x, y, NAMES[layer] + out, colour)
        _box(ax, x + 1.3, y, f"{model.num_parts} classifiers\n{model.num_classes} identities", colour)
        _arrow(ax, x, y, x + 1.3, y)
    for i, (layer, sharing) in enumerate(layers, start=1):
        if sharing == "shared":
            _box(
                ax,
                2.6 + 1.3 * i,
                middle,
                f"{NAMES[layer]}\n{_text(flow[layer])}\nshared",
                SHARED,
                tall=1 + len(lanes) * 0.3,
            )
    ends = [f"triplet on {loss.triplet}"] if loss.triplet else []
    ends += [f"alignment of h and g: {loss.alignment}"] if loss.alignment else []
    ax.set_title("; ".join([f"{model.name}: cross entropy", *ends]), fontsize=10)
    ax.set(
        xlim=(-0.7, 4.6 + 1.3 * len(layers)), ylim=(middle - 0.5 * len(lanes) - 0.2, middle + 0.5 * len(lanes) + 0.2)
    )
    ax.axis("off")
    return figure


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _box(ax: Axes, x: float, y: float, text: str, colour: str, tall: float = 0.62) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (x - 0.5, y - tall / 2)
    ax.add_patch(FancyBboxPatch(corner, 1.0, tall, "round,pad=0.02", fc="white", ec=colour, lw=1.6, zorder=2))
    ax.text(x, y, text, ha="center", va="center", fontsize=9, zorder=3)


def _arrow(ax: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    ax.annotate("", (x1 - 0.52, y1), (x0 + 0.52, y0), arrowprops={"arrowstyle": "->", "color": "#333333"}, zorder=1)
