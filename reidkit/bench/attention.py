"""K attention maps from one backbone pass, beside K plain passes of the grad-cam package on the whole network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reidkit.attention import part_attention
from reidkit.attention.cam import Method, find_method
from reidkit.bench.evaluate import best_cpu_seconds, using_threads
from reidkit.models import ReIDModel, create_model
from reidkit.models.branches import BranchedModel
from reidkit.priors import PriorBatch
from reidkit.provenance import provenance


class WholeNetwork(nn.Module):
    """image -> logits of part k, [B, classes]: what one gives the package when one follows its README."""

    def __init__(self, model: ReIDModel, k: int, prior: PriorBatch | None = None):
        super().__init__()
        self.model, self.k, self.prior = model, k, prior

    def forward(self, images: Tensor) -> Tensor:
        prior = self.prior
        if prior is not None and len(prior.top) != len(images):  # ScoreCAM sends masked copies of one image
            prior = PriorBatch(*(t.expand(len(images), *t.shape[1:]) for t in prior))
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
    name: str = "mpn",
    backbone: str = "resnet50",
    size: tuple[int, int] = (384, 128),
    *,
    batch: int = 1,
    method: Method = "gradcam",
    repeats: int = 3,
    **overrides,
) -> dict[str, Any]:
    """Process time of both ways on one thread, best of `repeats` turns, and the largest difference of a pixel.

    cpu_s_backbone is a bare backbone pass without gradients, the least that any way can cost. Random weights: they
    change no time. overrides: fields of the variant's config, e.g. num_parts=4.
    """
    torch.manual_seed(0)
    model = create_model(name, 751, backbone=backbone, **overrides).eval()
    images = torch.randn(batch, 3, *size)

    def backbone_alone() -> None:
        with torch.no_grad():
            model.feature_maps(images)

    with using_threads(1):
        difference = (plain_passes(model, images, method) - part_attention(model, images, method)).abs().max()
        plain, ours = best_cpu_seconds(
            lambda: plain_passes(model, images, method), lambda: part_attention(model, images, method), repeats=repeats
        )
        alone, _ = best_cpu_seconds(backbone_alone, lambda: None, repeats=repeats)
        where = provenance("cpu")
    return {
        "bench": "attention",
        "model": name,
        "backbone": backbone,
        "size": size,
        "batch": batch,
        "parts": model.num_parts,
        "method": method,
        "cpu_s_plain": round(plain, 3),
        "cpu_s_ours": round(ours, 3),
        "ratio": round(plain / ours, 2),
        "cpu_s_backbone": round(alone, 3),
        "largest_difference": float(difference),
        "provenance": where,
    }
