"""From a feature map F and coarse priors to part-specific maps P_1 .. P_K (MPN Sec. 3.3, Fig. 5b, Table 2).

Three steps: multiply F by the mask M, crop the rows between the person's boundaries and resize them bilinearly
to the height of F, cut the result in K equal stripes. Resizing rows is linear, so the second step is one small
[R, H] matrix an image, with two non-zero entries a row.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from reidkit.data.prior import PriorBatch
from reidkit.errors import PriorError, unknown_name

Mode = Literal["uniform", "roi", "roi-mask"]
MODES: tuple[Mode, ...] = get_args(Mode)


def part_features(
    feature_map: Tensor, prior: PriorBatch | None = None, num_parts: int = 6, mode: Mode = "roi-mask"
) -> Tensor:
    """[B, C, H, W] -> [B, K, C, H/K, W], the inputs P_k of the K auxiliary tasks. Differentiable in the map.

    mode: "uniform" cuts F itself (no prior needed); "roi" crops and resizes, no mask; "roi-mask" is the paper's.
    prior: mask [B, H, W]; top, bottom [B], fractions of the height. Images that are not reliable have a full
        mask and boundaries 0 and 1, and so are divided evenly.

    How rows are shared out: when K divides H every part gets H/K rows. Otherwise (24 rows, K = 5) the person is
    resized to K * ceil(H/K) rows (25) instead of H, so that the K parts stay equally high; the result is
    [B, K, C, ceil(H/K), W].

    Resizing follows `torch.nn.functional.interpolate(crop, mode="bilinear", align_corners=False)`: row i of the
    crop has its centre at i + 0.5, and nothing outside the crop is read. The two are equal where both boundaries
    fall between rows; a fractional boundary gives a crop that starts at a fraction of a row. A crop of less than
    one row repeats the row at its top.

    Raises PriorError when the mode needs a prior and none is given, or sizes do not fit; UnknownNameError.
    """
    if mode not in MODES:
        raise unknown_name("prior mode", mode, MODES)
    batch, _, height, _ = feature_map.shape
    rows = -(-height // num_parts) * num_parts  # K * ceil(H/K)
    if mode == "uniform":
        if rows != height:
            whole = feature_map.new_zeros(batch), feature_map.new_ones(batch)
            feature_map = _resize_rows(feature_map, *whole, rows)
        return _stripes(feature_map, num_parts)
    prior = _checked(feature_map, prior, mode)
    if mode == "roi-mask":
        feature_map = feature_map * prior.mask.unsqueeze(1).to(feature_map.dtype)  # F * M, each channel
    return _stripes(_resize_rows(feature_map, prior.top, prior.bottom, rows), num_parts)


def _checked(feature_map: Tensor, prior: PriorBatch | None, mode: Mode) -> PriorBatch:
    if prior is None:
        raise PriorError(
            f"mode {mode!r} needs the coarse priors of the images: pass a PriorBatch (build them with "
            "`reidkit priors build`), or use mode='uniform'"
        )
    batch, _, height, width = feature_map.shape
    if prior.top.shape != (batch,) or prior.bottom.shape != (batch,):
        raise PriorError(
            f"{batch} feature maps came with boundaries of shape {tuple(prior.top.shape)}, expected ({batch},)"
        )
    if mode == "roi-mask" and prior.mask.shape != (batch, height, width):
        raise PriorError(
            f"masks have shape {tuple(prior.mask.shape)}, the feature maps need "
            f"{(batch, height, width)}: build the priors on the grid ({height}, {width})"
        )
    return prior


def row_weights(top: Tensor, bottom: Tensor, height: int, rows: int) -> Tensor:
    """The matrices A [B, rows, height] of "crop rows top..bottom, resize to `rows`": resized = A @ map."""
    top, bottom = top.float() * height, bottom.float() * height  # in rows
    step = (torch.arange(rows, device=top.device) + 0.5) / rows  # centres in (0, 1)
    position = top[:, None] + (bottom - top)[:, None] * step - 0.5  # 0 = centre of row 0
    first = top[:, None]  # centre of the crop's first row
    last = torch.maximum(bottom[:, None] - 1, first)
    position = position.clamp(first, last).clamp(0, height - 1)
    centres = torch.arange(height, device=top.device)
    return (1 - (position[..., None] - centres).abs()).clamp_min(0)  # the bilinear hat


def _resize_rows(feature_map: Tensor, top: Tensor, bottom: Tensor, rows: int) -> Tensor:
    """[B, C, H, W] -> [B, C, rows, W]; one batched matrix product, in channels_last order."""
    _, channels, height, width = feature_map.shape
    weights = row_weights(top, bottom, height, rows).to(feature_map.dtype)
    flat = feature_map.permute(0, 2, 3, 1).flatten(2)  # [B, H, W*C]
    return torch.bmm(weights, flat).unflatten(2, (width, channels)).permute(0, 3, 1, 2)


def _stripes(feature_map: Tensor, num_parts: int) -> Tensor:
    """[B, C, K*s, W] -> [B, K, C, s, W]: stripe k holds the rows k*s .. k*s + s - 1."""
    return feature_map.unflatten(2, (num_parts, -1)).transpose(1, 2)  # P_k, Fig. 5b
