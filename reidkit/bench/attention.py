"""K attention maps from one backbone pass, beside K plain passes of the grad-cam package on the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reidkit.attention import part_attention
from reidkit.attention.cam import Method, find_method
from reidkit.bench.clock import best_of_turns, using_threads
from reidkit.models import ReIDModel, create_model
from reidkit.models.branches import BranchedModel
from reidkit.priors import PriorBatch


class WholeNetwork(nn.Module):
    """image -> logits of part k, [B, classes]: what one gives the package when one follows its README."""

    def __init__(self, model: ReIDModel, k: int, prior: PriorBatch | None = None):
        super().__init__()
        self.model, self.k, self.prior = model, k, prior

    def forward(self, images: Tensor) -> Tensor:
        prior = self.prior
        if prior is not None and len(prior.top) != len(images):  # ScoreCAM sends masked copies of one image
            prior = prior.expand(len(images))
        return self.model(images, prior).logits[self.k]


def plain_passes(
    model: ReIDModel,
    images: Tensor,
    method: Method = "gradcam",
    prior: PriorBatch | None = None,
    *,
    classes: Tensor | None = None,
) -> Tensor:
    """The same maps as `part_attention`, [B, K, H, W], by K passes of the package: the slow reference.

    The target layer of part k is the module that makes the feature map it reads. classes: [B], default predicted.
    """
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = None if classes is None else [ClassifierOutputTarget(int(c)) for c in classes]
    cams = []
    for k in range(model.num_parts):
        layer = model.tails[model.map_index(k)] if isinstance(model, BranchedModel) else model.backbone
        with find_method(method)(model=WholeNetwork(model, k, prior), target_layers=[layer]) as cam:
            cams.append(cam(input_tensor=images, targets=targets))
    return torch.from_numpy(np.stack(cams, axis=1))


def run(
    names: Sequence[str] = ("mpn",),
    backbone: str = "resnet50",
    size: tuple[int, int] = (384, 128),
    *,
    batch: int = 1,
    method: Method = "gradcam",
    repeats: int = 3,
    **overrides,
) -> dict[str, Any]:
    """CPU seconds of both ways for each network on one thread, best of `repeats` turns; largest difference of a pixel.

    cpu_s_backbone is a bare backbone pass without gradients, the least that any way can cost. Random weights: they
    change no time. overrides: fields of the variants' configs, e.g. num_parts=4.
    """
    with using_threads(1):
        rows = [compare(name, backbone, size, batch, method, repeats, **overrides) for name in names]
    return {"backbone": backbone, "size": list(size), "batch": batch, "method": method, "threads": 1, "rows": rows}


def compare(
    name: str, backbone: str, size: tuple[int, int], batch: int, method: Method, repeats: int, **overrides
) -> dict[str, Any]:
    """One network of `run`: how many parts it has, what both ways cost, and how far they differ."""
    torch.manual_seed(0)
    model = create_model(name, 751, backbone=backbone, **overrides).eval()
    images = torch.randn(batch, 3, *size)

    def backbone_alone() -> None:
        with torch.no_grad():
            model.feature_maps(images)

    difference = (plain_passes(model, images, method) - part_attention(model, images, method)).abs().max()
    ways = {
        "plain": lambda: plain_passes(model, images, method),
        "ours": lambda: part_attention(model, images, method),
        "backbone": backbone_alone,
    }
    best = best_of_turns(ways, repeats)
    return {
        "model": name,
        "parts": model.num_parts,
        **{f"cpu_s_{way}": round(seconds.cpu, 3) for way, seconds in best.items()},
        "ratio": round(best["plain"].cpu / best["ours"].cpu, 2),
        "largest_difference": float(difference),
    }
