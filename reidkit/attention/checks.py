"""Can an attention map be trusted? Two checks that need no annotation.

consistency   the map must move with the person when the crop is shifted, scaled or partly covered
sanity_check  the map must change when the network's weights are replaced by random ones (Adebayo et al. 2018:
              "Sanity Checks for Saliency Maps"); a map that survives draws edges, not what was learned
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from reidkit.attention.cam import Method
from reidkit.attention.maps import part_attention, predicted_classes
from reidkit.errors import ReIDKitError, unknown_name
from reidkit.models import ReIDModel
from reidkit.models.parts import PartBatchNorm
from reidkit.priors import PriorBatch

# change -> (its usual amount, what the amount means)
CHANGES: dict[str, tuple[float, str]] = {
    "shift": (0.15, "the picture moves down by this fraction of its height; the top row is repeated above it"),
    "scale": (1.25, "the picture is magnified about its centre"),
    "occlude": (0.3, "this fraction of the height is covered with the mean colour, from the bottom upwards"),
}
Layers = Literal["heads", "all"]
LAYERS: tuple[Layers, ...] = get_args(Layers)  # what is randomised: from the top of the network downwards


# ---- similarity of two maps, [..., H, W] each -> [...]; NaN where one of them is constant ---------------------------


def pearson(a: np.ndarray | Tensor, b: np.ndarray | Tensor, valid: np.ndarray | Tensor | None = None) -> np.ndarray:
    """Correlation of the pixels of two stacks of maps, over the pixels `valid` ([H, W] bool). In [-1, 1], chance 0."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    keep = np.ones(a.shape[-2:], bool) if valid is None else np.asarray(valid, bool)
    return _correlation(a[..., keep], b[..., keep])


def spearman(a: np.ndarray | Tensor, b: np.ndarray | Tensor) -> np.ndarray:
    """Rank correlation of the pixels; equal pixels share the mean of their ranks. In [-1, 1], chance 0."""
    from scipy.stats import rankdata

    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return _correlation(*(rankdata(x.reshape(*x.shape[:-2], -1), axis=-1) for x in (a, b)))


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[..., P] and [..., P] -> [...]."""
    a, b = (x - x.mean(-1, keepdims=True) for x in (a, b))
    norm = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.divide((a * b).sum(-1), norm, out=np.full(norm.shape, np.nan), where=norm > 1e-12)


def ssim(a: np.ndarray | Tensor, b: np.ndarray | Tensor, window: int = 7) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of maps in [0, 1], uniform windows: 1 = equal, about 0 = unrelated."""
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    shape = a.shape[:-2]
    a, b = (x.reshape(-1, 1, *x.shape[-2:]) for x in (a, b))
    mean = lambda x: F.avg_pool2d(x, window, stride=1)  # noqa: E731
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return score.mean((1, 2, 3)).reshape(shape).numpy()


# ---- consistency ----------------------------------------------------------------------------------------------------


def consistency(
    model: ReIDModel,
    images: Tensor,
    change: str = "shift",
    amount: float | None = None,
    *,
    method: Method = "hirescam",
    prior: PriorBatch | None = None,
    maps: Tensor | None = None,
) -> np.ndarray:
    """[B, K] correlation between the map of the changed image and the map, changed likewise, of the image.

    1: attention goes with the person. About 0: it stays, or jumps. Only pixels that are in both pictures (and not
    covered) count. The classes explained are those predicted for the unchanged images.
    HiResCAM shows the cells that a classifier reads, so a network that looks at fixed rows is found out. Grad-CAM
    does not do that: it paints whole channels of F, which follow the person whatever is read of them (under a shift of
    1/6, the shipped stripe baseline on 64 queries of Sidewalk small: Grad-CAM 0.92, HiResCAM 0.09; MPNo 0.96 and 0.82).
    change, amount: see `CHANGES`. maps: `part_attention` of the images, when it is known already.
    NaN where a map is constant. Raises UnknownNameError, ReIDKitError for an amount out of range.
    """
    amount = _amount(change, amount)
    classes = predicted_classes(model, images, prior)
    if maps is None:
        maps = part_attention(model, images, method, prior, classes=classes)
    changed = change_images(images, change, amount)
    after = part_attention(model, changed, method, change_prior(prior, change, amount), classes=classes)
    expected, valid = change_maps(maps, change, amount)
    return pearson(expected, after, valid)


def change_images(images: Tensor, change: str, amount: float) -> Tensor:
    """[B, 3, H, W] normalised -> same shape. Beyond the picture its border is repeated."""
    if change == "occlude":
        out = images.clone()
        out[:, :, _first_covered(amount, images.shape[2]) :] = 0  # 0 is the mean colour of normalised images
        return out
    return _warp(images, change, amount, "border")


def change_maps(maps: Tensor, change: str, amount: float) -> tuple[Tensor, Tensor]:
    """Maps [B, K, H, W] moved as the picture, and the pixels that were in the picture and are seen: [H, W] bool."""
    valid = torch.ones(1, 1, *maps.shape[2:])
    if change == "occlude":
        valid[:, :, _first_covered(amount, maps.shape[2]) :] = 0
        return maps, valid[0, 0] > 0
    return _warp(maps, change, amount, "border"), _warp(valid, change, amount, "zeros")[0, 0] > 0.999


def change_prior(prior: PriorBatch | None, change: str, amount: float) -> PriorBatch | None:
    """The coarse prior of the changed picture: mask and boundaries move along; a cover leaves them alone."""
    if prior is None or change == "occlude":
        return prior
    move = (lambda y: y + amount) if change == "shift" else (lambda y: 0.5 + (y - 0.5) * amount)
    top, bottom = (torch.where(prior.reliable, move(y).clamp(0, 1), y) for y in (prior.top, prior.bottom))
    mask = _warp(prior.mask.unsqueeze(1).float(), change, amount, "zeros")[:, 0] > 0.5
    return prior._replace(mask=mask | ~prior.reliable[:, None, None], top=top, bottom=bottom)


def _warp(x: Tensor, change: str, amount: float, padding: str) -> Tensor:
    """Bilinear; output pixel y reads the input at y - shift, or at centre + (y - centre) / scale."""
    shift, scale = (2 * amount, 1.0) if change == "shift" else (0.0, amount)  # height is 2 in grid units
    theta = torch.tensor([[1 / scale, 0.0, 0.0], [0.0, 1 / scale, -shift]], dtype=x.dtype, device=x.device)
    grid = F.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _first_covered(amount: float, height: int) -> int:
    return height - round(amount * height)


def _amount(change: str, amount: float | None) -> float:
    if change not in CHANGES:
        raise unknown_name("change", change, CHANGES)
    amount = CHANGES[change][0] if amount is None else amount
    if not (amount > 0 if change == "scale" else 0 <= amount < 1):
        raise ReIDKitError(
            f"{change} by {amount}: expected {'> 0' if change == 'scale' else '0 .. 1'}; {CHANGES[change][1]}"
        )
    return amount


# ---- random weights -------------------------------------------------------------------------------------------------


def sanity_check(
    model: ReIDModel,
    images: Tensor,
    method: Method = "gradcam",
    *,
    prior: PriorBatch | None = None,
    layers: Sequence[Layers] = LAYERS,
    seed: int = 0,
    maps: Tensor | None = None,
) -> pd.DataFrame:
    """Similarity of the maps with those of randomised networks: one row a step of `layers`, columns spearman, ssim.

    Means over images and parts; near 0 is a pass, near 1 means that the map does not depend on what was learned.
    "heads" replaces the weights of the part heads, "all" those of the backbone too. Maps explain the classes that
    the trained network predicts. Needs two images at least, see `randomised`. maps: of the images, when known.
    """
    classes = predicted_classes(model, images, prior)
    if maps is None:
        maps = part_attention(model, images, method, prior, classes=classes)
    rows = {}
    for step in layers:
        control = randomised(model, images, layers=step, seed=seed, prior=prior)
        random_maps = part_attention(control, images, method, prior, classes=classes)
        rows[step] = {name: _mean(f(maps, random_maps)) for name, f in (("spearman", spearman), ("ssim", ssim))}
    return pd.DataFrame.from_dict(rows, orient="index")


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else math.nan


@torch.no_grad()
def randomised(
    model: ReIDModel, images: Tensor, *, layers: Layers = "all", seed: int = 0, prior: PriorBatch | None = None
) -> ReIDModel:
    """A copy with fresh random weights (He et al. 2015), batch norms without scale or bias, in eval mode.

    layers: "heads" or "all". The running statistics of the fresh batch norms are those of `images` [B, 3, H, W]:
    a random network with the statistics of a trained one gives blank maps, which proves nothing. So B >= 2.
    The model is left alone. Deterministic in `seed`.
    """
    if layers not in LAYERS:
        raise unknown_name("layers to randomise", layers, LAYERS)
    if len(images) < 2:
        raise ReIDKitError("a randomised network takes its batch norm statistics from the images: pass 2 or more")
    control = copy.deepcopy(model).eval()
    trunk = {id(m) for module in control.backbone_modules() for m in module.modules()}
    fresh = [m for m in control.modules() if layers == "all" or id(m) not in trunk]
    generator = torch.Generator().manual_seed(seed)
    for module in fresh:
        for name, p in module.named_parameters(recurse=False):
            p.copy_(_fresh(name, p, generator))
    norms = [m for m in fresh if isinstance(m, _BatchNorm | PartBatchNorm)]
    _set_statistics(control, norms, images.to(next(control.parameters()).device), prior)
    return control


def _fresh(name: str, p: Tensor, generator: torch.Generator) -> Tensor:
    if name.endswith("bias"):
        return torch.zeros_like(p)
    if p.ndim == 1:
        return torch.ones_like(p)  # the scale of a norm
    fan_in = p[0].numel() if p.ndim == 4 else p.shape[-1]  # convs [out, in, h, w]; linear, parts [(K,) out, in]
    return torch.randn(p.shape, generator=generator).to(p) * math.sqrt(2 / fan_in)


def _set_statistics(model: ReIDModel, norms: Sequence[Any], images: Tensor, prior: PriorBatch | None) -> None:
    """One pass in which these norms, and nothing else, are in training mode and forget what they knew."""
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    model.heads(model.feature_maps(images), prior and prior.to(images.device))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()
