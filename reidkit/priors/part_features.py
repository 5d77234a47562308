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

    Raises PriorError when the mode needs a prior and none is given, for another kind of prior than a batch, for
    num_parts that is not a whole number from 1 on, and where sizes do not fit; UnknownNameError.
    """
    if mode not in MODES:
        raise unknown_name("prior mode", mode, MODES)
    if not isinstance(num_parts, int) or num_parts < 1:
        raise PriorError(f"num_parts={num_parts!r}: expected a whole number of stripes, at least 1")
    batch, _, height, _ = feature_map.shape
    rows = -(-height // num_parts) * num_parts  # K * ceil(H/K)
    if mode == "uniform":
        if rows == height:
            return feature_map.unflatten(2, (num_parts, -1)).transpose(1, 2)  # P_k, Fig. 5b
        whole = feature_map.new_zeros(batch), feature_map.new_ones(batch)
        return _resized_stripes(feature_map, *whole, num_parts, rows // num_parts)
    prior = _checked(feature_map, prior, mode)
    if mode == "roi-mask":
        feature_map = feature_map * prior.mask.unsqueeze(1)  # F * M, each channel
    return _resized_stripes(feature_map, prior.top, prior.bottom, num_parts, rows // num_parts)


def _checked(feature_map: Tensor, prior: PriorBatch | None, mode: Mode) -> PriorBatch:
    if prior is None:
        raise PriorError(
            f"mode {mode!r} needs the coarse priors of the images: pass a PriorBatch (build them with "
            "`reidkit priors build`), or use mode='uniform'"
        )
    if not isinstance(prior, PriorBatch):
        raise PriorError(
            f"expected a PriorBatch, the priors of all images of the batch, not a {type(prior).__name__}: make one "
            "with `coarse_priors(parsings, segmentations)`, or take the loader's"
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
    top, bottom = (height * end.float().unsqueeze(1) for end in (top, bottom))  # in rows, [B, 1]
    centres = torch.arange(0.5, rows, device=top.device) / rows  # of the resized rows, in (0, 1)
    position = torch.addcmul(top, bottom - top, centres) - 0.5  # in the map, [B, rows]; 0 = centre of row 0
    position = position.clamp(top, torch.maximum(bottom - 1, top)).clamp_max(height - 1)  # of the crop, of the map
    distance = position.unsqueeze(2) - torch.arange(height, device=top.device)
    return (1 - distance.abs()).clamp_min(0)  # the bilinear hat


def _resized_stripes(feature_map: Tensor, top: Tensor, bottom: Tensor, num_parts: int, rows: int) -> Tensor:
    """[B, C, H, W] -> P_k, Fig. 5b: [B, K, C, rows, W]; one batched matrix product, in channels_last order."""
    batch, channels, height, width = feature_map.shape
    weights = row_weights(top, bottom, height, num_parts * rows).to(feature_map.dtype)
    flat = feature_map.permute(0, 2, 3, 1).flatten(2)  # [B, H, W*C]
    resized = torch.bmm(weights, flat)  # stripe k holds the rows k * rows .. (k + 1) * rows - 1
    return resized.view(batch, num_parts, rows, width, channels).permute(0, 1, 4, 2, 3)
