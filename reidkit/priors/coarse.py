"""From a parsing map and a segmentation map to the coarse prior of one image (MPN Sec. 3.2, Fig. 4 and 5a).

    1 are the head and at least one leg in the parsing map?            count pixels
    2 union of both maps                                               a more reliable body mask
    3 resize to the feature grid, 24 x 8                               area averaging
    4 binarise, 5 dilate with a 1 x 2 kernel                           -> mask M
    6 first and last occupied row                                      -> upper and lower boundary, the ROI

`prior_steps` keeps every picture on the way, `coarse_prior` keeps the result, and `coarse_priors` computes
many images at once. What the paper leaves open is settled here:

- "present" means more than `MIN_HEAD` (`MIN_LEG`) of the image area carries a head (leg) label of `labels.py`;
- the resize averages over the exact area of each grid cell, also when the grid does not divide the image;
- a cell is body when at least half of it is (`THRESHOLD`);
- the 1 x 2 dilation widens the mask to the right neighbour: a cell is set if it or its left neighbour was;
- head and legs counted, but no cell left after binarising: not reliable either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from reidkit.data.prior import PriorBatch
from reidkit.errors import PriorError
from reidkit.priors.labels import HEAD_LABELS, LEG_LABELS

MIN_HEAD = 0.004  # of the image area: 33 pixels of 128x64; a head in full view covers about 0.03
MIN_LEG = 0.01  # of the image area: 82 pixels of 128x64; one leg in full view covers about 0.06
THRESHOLD = 0.5  # of a grid cell
CHUNK_PIXELS = 1 << 20  # pixels that `coarse_priors` handles at once: small enough to stay in the CPU caches


@dataclass(frozen=True)
class CoarsePrior:
    """The prior of one image.

    mask: [h, w] bool, the final mask M on the feature grid; all ones when not reliable.
    top, bottom: upper and lower boundary of the person, fractions of the image height in [0, 1].
    reliable: False = head or both legs missing, the whole image is divided evenly.
    """

    mask: np.ndarray
    top: float
    bottom: float
    reliable: bool


@dataclass(frozen=True)
class PriorSteps:
    """Every picture of Fig. 5a for one image, computed also where the pipeline would have stopped.

    head, legs [H, W] bool: pixels with a head or leg label; head_pixels, leg_pixels: how many.
    head_needed, leg_needed: present means more pixels than this.
    union [H, W] float32; resized [h, w] float32 area averages; binarised, dilated [h, w] bool.
    rows: first and last occupied row of `dilated` (None if empty).
    top, bottom, reliable, mask: the outcome, as in `CoarsePrior`; reason: why it is not reliable, or "".
    stripes [K+1]: boundaries of the K equal stripes, fractions of the image height.
    """

    head: np.ndarray
    legs: np.ndarray
    head_pixels: int
    leg_pixels: int
    head_needed: float
    leg_needed: float
    union: np.ndarray
    resized: np.ndarray
    binarised: np.ndarray
    dilated: np.ndarray
    rows: tuple[int, int] | None
    mask: np.ndarray
    top: float
    bottom: float
    reliable: bool
    reason: str
    stripes: np.ndarray

    @property
    def prior(self) -> CoarsePrior:
        """The outcome alone."""
        return CoarsePrior(self.mask, self.top, self.bottom, self.reliable)


def prior_steps(
    parsing: np.ndarray,
    segmentation: np.ndarray,
    grid: tuple[int, int] = (24, 8),
    *,
    min_head: float = MIN_HEAD,
    min_leg: float = MIN_LEG,
    threshold: float = THRESHOLD,
    num_parts: int = 6,
) -> PriorSteps:
    """The pipeline of Fig. 5a, step by step. Arguments and errors as in `coarse_prior`."""
    parsing, segmentation = _checked(np.asarray(parsing)[None], np.asarray(segmentation)[None])
    _check_settings(grid, min_head, min_leg, threshold)
    parsing, segmentation = parsing[0], segmentation[0]  # [H, W]
    H, W = parsing.shape
    h, w = grid
    head, legs = np.isin(parsing, HEAD_LABELS), np.isin(parsing, LEG_LABELS)  # step 1
    head_found, legs_found = head.sum() > min_head * H * W, legs.sum() > min_leg * H * W
    union = np.maximum(parsing > 0, segmentation).astype(np.float32)  # step 2, soft maps keep their values
    resized = area_weights(H, h) @ union @ area_weights(W, w).T / (H * W)  # step 3: [h, w]
    binarised = resized >= threshold  # step 4
    dilated = binarised.copy()  # step 5
    dilated[:, 1:] |= binarised[:, :-1]
    occupied = np.flatnonzero(dilated.any(axis=1))  # step 6
    rows = (int(occupied[0]), int(occupied[-1])) if len(occupied) else None
    problems = (("no head", not head_found), ("no leg", not legs_found), ("empty mask", rows is None))
    reason = ", ".join(name for name, present in problems if present)
    reliable = not reason
    top, bottom = (rows[0] / h, (rows[1] + 1) / h) if reliable and rows is not None else (0.0, 1.0)
    return PriorSteps(
        head=head,
        legs=legs,
        head_pixels=int(head.sum()),
        leg_pixels=int(legs.sum()),
        head_needed=min_head * H * W,
        leg_needed=min_leg * H * W,
        union=union,
        resized=resized,
        binarised=binarised,
        dilated=dilated,
        rows=rows,
        mask=dilated if reliable else np.ones((h, w), bool),
        top=top,
        bottom=bottom,
        reliable=reliable,
        reason=reason,
        stripes=np.linspace(top, bottom, num_parts + 1),
    )


def coarse_prior(
    parsing: np.ndarray,
    segmentation: np.ndarray,
    grid: tuple[int, int] = (24, 8),
    *,
    min_head: float = MIN_HEAD,
    min_leg: float = MIN_LEG,
    threshold: float = THRESHOLD,
) -> CoarsePrior:
    """The coarse prior of one image (MPN Sec. 3.2).

    parsing: [H, W] integers, LIP labels 0..19. segmentation: [H, W] bool, or person probability in [0, 1].
    grid: (rows, columns) of the feature map. min_head, min_leg: fractions of the image area that head and leg
    labels must exceed. threshold: share of a cell that must be body.
    Raises PriorError for maps of different sizes, labels above 19, values outside [0, 1], senseless settings.
    """
    return prior_steps(parsing, segmentation, grid, min_head=min_head, min_leg=min_leg, threshold=threshold).prior


def coarse_priors(
    parsings: np.ndarray,
    segmentations: np.ndarray,
    grid: tuple[int, int] = (24, 8),
    *,
    min_head: float = MIN_HEAD,
    min_leg: float = MIN_LEG,
    threshold: float = THRESHOLD,
) -> PriorBatch:
    """`coarse_prior` for N images of one size at once: parsings [N, H, W], segmentations [N, H, W]."""
    parsings, segmentations = _checked(np.asarray(parsings), np.asarray(segmentations))
    _check_settings(grid, min_head, min_leg, threshold)
    N, H, W = parsings.shape
    step = max(1, CHUNK_PIXELS // (H * W))
    mask = np.zeros((N, *grid), bool)
    present = np.zeros(N, bool)
    for i in range(0, N, step):
        chunk = slice(i, i + step)
        kinds = _KINDS[parsings[chunk].reshape(-1, H * W)]  # [n, HW], one byte a pixel
        heads, legs = (kinds == _HEAD).sum(axis=1), (kinds == _LEG).sum(axis=1)
        present[chunk] = (heads > min_head * H * W) & (legs > min_leg * H * W)
        union = np.maximum(kinds.reshape(-1, H, W) > 0, segmentations[chunk]).astype(np.float32)  # [n, H, W]
        resized = (area_weights(H, grid[0]) @ union) @ area_weights(W, grid[1]).T / (H * W)  # [n, h, w]
        mask[chunk] = resized >= threshold
    mask[:, :, 1:] |= mask[:, :, :-1].copy()  # the copy keeps the dilation from running on to the right edge
    return _bounded(mask, present)


def _bounded(mask: np.ndarray, present: np.ndarray) -> PriorBatch:
    """Boundaries of the dilated masks [N, h, w]; whole image where `present` [N] is False or the mask is empty."""
    h = mask.shape[1]
    occupied = np.asarray(mask.any(axis=2))  # [N, h]
    reliable = present & occupied.any(axis=1)
    top = np.where(reliable, occupied.argmax(axis=1) / h, 0.0)
    bottom = np.where(reliable, 1.0 - occupied[:, ::-1].argmax(axis=1) / h, 1.0)
    mask[~reliable] = True
    return PriorBatch(
        torch.from_numpy(mask),
        torch.from_numpy(top.astype(np.float32)),
        torch.from_numpy(bottom.astype(np.float32)),
        torch.from_numpy(reliable),
    )


@lru_cache(maxsize=256)
def area_weights(size: int, cells: int) -> np.ndarray:
    """[cells, size] float32: how much of pixel r lies in cell i, in units of 1/cells of a pixel.

    Cell i covers the pixels [i * size/cells, (i+1) * size/cells), so a pixel on a border is shared. In these
    units every weight is a whole number and a row sums to `size`: sums over 0/1 maps are exact in float32 and
    a cell that is exactly half body compares equal to 0.5.

    >>> area_weights(3, 2).tolist()  # the middle one of three pixels belongs to both cells
    [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    start, pixel = np.arange(cells)[:, None] * size, np.arange(size)[None] * cells
    overlap = np.minimum(start + size, pixel + cells) - np.maximum(start, pixel)
    weights = np.maximum(overlap, 0).astype(np.float32)
    weights.flags.writeable = False  # shared between calls
    return weights


_BODY, _HEAD, _LEG = 1, 2, 3
_KINDS = np.zeros(256, np.uint8)  # LIP label -> background, other body part, head, leg
_KINDS[1:20] = _BODY
_KINDS[list(HEAD_LABELS)], _KINDS[list(LEG_LABELS)] = _HEAD, _LEG


def _checked(parsings: np.ndarray, segmentations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maps [N, H, W] as uint8 labels and bool or float32 values; PriorError if they cannot be that."""
    if parsings.ndim != 3 or parsings.shape != segmentations.shape:
        raise PriorError(
            f"the parsing map is {_size(parsings)} and the segmentation map {_size(segmentations)}: expected two "
            "maps [H, W] of one size; make both from the same image (labels may only be resized by nearest pixel)"
        )
    if not np.issubdtype(parsings.dtype, np.integer):
        raise PriorError(f"a parsing map holds integer labels 0..19, not {parsings.dtype} values")
    if parsings.size and (parsings.max() > 19 or parsings.min() < 0):
        worst = parsings.max() if parsings.max() > 19 else parsings.min()
        raise PriorError(
            f"label {worst} in a parsing map: LIP labels are 0..19; is it of another label set (atr, pascal), "
            "a colour picture, or does it mark ignored pixels with 255?"
        )
    if segmentations.dtype != bool:
        segmentations = segmentations.astype(np.float32, copy=False)
        low, high = (segmentations.min(), segmentations.max()) if segmentations.size else (0, 0)
        if not (low >= 0 and high <= 1):  # also False for NaN
            raise PriorError(f"a segmentation map is bool or lies in [0, 1]; found values from {low} to {high}")
    return parsings.astype(np.uint8, copy=False), segmentations


def _check_settings(grid: tuple[int, int], min_head: float, min_leg: float, threshold: float) -> None:
    whole = isinstance(grid, tuple | list) and all(isinstance(n, int | np.integer) and n >= 1 for n in grid)
    if not whole or len(grid) != 2:
        raise PriorError(f"grid must be (rows, columns) of the feature map in cells, such as (24, 8); got {grid!r}")
    for name, value in (("min_head", min_head), ("min_leg", min_leg), ("threshold", threshold)):
        if not 0 <= value <= 1:
            raise PriorError(f"{name} is a fraction in [0, 1]; got {value}")


def _size(maps: np.ndarray) -> str:
    return "x".join(map(str, maps.shape[1:])) or "a single number"
