"""Numbers for attention maps [N, K, H, W] and the regions where they should lie: plain functions on arrays.

`scores` says what each number means, and takes them for a model and for many runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from reidkit.data.sidewalk import PART_NAMES, Truth
from reidkit.errors import ReIDKitError

MIN_AREA = 0.003  # of the image: a region smaller than this is not in the picture


# ---- regions, from the ground truth ---------------------------------------------------------------------------------


def body_rows(top: np.ndarray, bottom: np.ndarray, extents: Sequence[tuple[float, float]], height: int) -> np.ndarray:
    """[N, K, height] bool: rows whose centre lies in part k's share of the true body.

    top, bottom: [N], where the body begins and ends, fractions of the image height; may lie outside of it.
    extents: (start, stop) of each part, fractions of the body: `model.part_extents`.
    """
    top, bottom = (np.asarray(x, np.float64)[:, None, None] for x in (top, bottom))
    centre = (np.arange(height) + 0.5) / height
    body = (centre - top) / (bottom - top)  # 0 head .. 1 feet, [N, 1, H]
    start, stop = np.asarray(extents, np.float64).T[:, None, :, None]  # [1, K, 1] each
    return (body >= start) & (body < stop)


def stripe_regions(truth: Truth, extents: Sequence[tuple[float, float]], size: Sequence[int]) -> np.ndarray:
    """[N, K, H, W] bool: the person's pixels in part k's own stripe of the true body."""
    rows = body_rows(truth.top, truth.bottom, extents, size[0])
    return large_enough(rows[..., None] & (resized(truth.parts, size) > 0)[:, None])


def body_part_regions(
    truth: Truth, extents: Sequence[tuple[float, float]], size: Sequence[int]
) -> tuple[np.ndarray, list[str]]:
    """([N, K, H, W] bool, K names): the body part (head, torso, ...) that each part is about, wherever it is.

    Which one that is: the one that covers most of part k's stripe, summed over all images.
    """
    parts, stripes = resized(truth.parts, size), stripe_regions(truth, extents, size)
    counts = [[((parts == i + 1) & stripes[:, k]).sum() for i in range(len(PART_NAMES))] for k in range(len(extents))]
    best = np.argmax(counts, axis=1)  # [K]
    regions = parts[:, None] == (best + 1)[None, :, None, None]
    return large_enough(regions), [PART_NAMES[i] for i in best]


def large_enough(regions: np.ndarray) -> np.ndarray:
    """The same regions [..., H, W] bool, empty where they are smaller than `MIN_AREA`: not in the picture."""
    return regions & (regions.mean((-2, -1), keepdims=True) >= MIN_AREA)


def resized(labels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Label maps [N, h, w] -> [N, H, W], nearest pixel."""
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, labels.shape[1:]))
    return labels[:, rows[:, None], columns]


# ---- scores of maps [N, K, H, W] ------------------------------------------------------------------------------------


def part_energy(maps: np.ndarray | Tensor, regions: np.ndarray) -> np.ndarray:
    """[N, K] share of map k's energy inside region k. regions: bool [N, K, H, W]. Chance: `area(regions)`."""
    maps, regions = _checked(maps, regions)
    return _answered(_energy(maps, regions), regions)


def pointing_game(maps: np.ndarray | Tensor, regions: np.ndarray) -> np.ndarray:
    """[N, K] 1 where the highest pixel of map k lies in region k, else 0 (Zhang et al. 2018); the mean is the hit rate.

    regions: bool [N, K, H, W]. Chance: `area(regions)`. Of equal pixels the first counts.
    """
    maps, regions = _checked(maps, regions)
    peak = maps.reshape(*maps.shape[:2], -1).argmax(2)[..., None]
    hit = np.take_along_axis(regions.reshape(*maps.shape[:2], -1), peak, 2)[..., 0].astype(float)
    return _answered(np.where(blank(maps), np.nan, hit), regions)


def own_stripe_argmax(maps: np.ndarray | Tensor, rows: np.ndarray) -> np.ndarray:
    """[N, K] 1 where map k has more energy in stripe k than in any other stripe, else 0. Chance: 1 / K.

    rows: bool [N, K, H] from `body_rows`; background counts. Only for parts that divide the body among themselves.
    """
    maps = np.asarray(maps, np.float64)
    rows = np.asarray(rows, bool)
    if rows.shape != maps.shape[:3]:
        raise ReIDKitError(f"maps {maps.shape} need rows {maps.shape[:3]}, got {rows.shape}")
    energy = np.einsum("nkh,njh->nkj", maps.sum(3), rows)  # map k in stripe j
    best = (energy.argmax(2) == np.arange(maps.shape[1])).astype(float)
    return np.where((energy.sum(2) > 0) & rows.any(2), best, np.nan)


def diversity(maps: np.ndarray | Tensor) -> np.ndarray:
    """[N] mean cosine similarity of all pairs of the K maps: 0 = disjoint, 1 = the same map K times (low = diverse).

    Blank maps are left out; NaN with fewer than two maps. Chance: maps of independent pixels uniform in [0, 1]
    have a similarity of 3/4; compare with a trained network, not with 0.
    """
    flat = np.asarray(maps, np.float64).reshape(*maps.shape[:2], -1)
    norm = np.linalg.norm(flat, axis=2)
    unit = flat / np.where(norm > 0, norm, 1)[..., None]
    count = (norm > 0).sum(1)
    total = np.square(unit.sum(1)).sum(1) - count  # sum over pairs k != j
    return np.divide(total, count * (count - 1), out=np.full(len(flat), np.nan), where=count > 1)


def background_energy(maps: np.ndarray | Tensor, person: np.ndarray) -> np.ndarray:
    """[N, K] share of map k's energy beside the person. person: bool [N, H, W]. Chance: 1 - the person's share."""
    maps, beside = _checked(maps, ~np.asarray(person, bool)[:, None])
    return _energy(maps, beside)


def area(regions: np.ndarray) -> np.ndarray:
    """[N, K] share of the image that a region covers, the chance level of energy; NaN where it is not there."""
    return _answered(np.asarray(regions, bool).mean((2, 3)), regions)


def _energy(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    total = maps.sum((2, 3))
    return np.divide((maps * regions).sum((2, 3)), total, out=np.full(total.shape, np.nan), where=total > 0)


def blank(maps: np.ndarray) -> np.ndarray:
    """[N, K] whether a map holds no evidence at all."""
    return maps.sum((2, 3)) <= 0


def _answered(score: np.ndarray, regions: np.ndarray) -> np.ndarray:
    return np.where(regions.any((2, 3)), score, np.nan)


def _checked(maps: np.ndarray | Tensor, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    maps, regions = np.asarray(maps, np.float64), np.asarray(regions, bool)
    fits = maps.ndim == regions.ndim == 4 and regions.shape[1] in (1, maps.shape[1])
    if not fits or (maps.shape[0], *maps.shape[2:]) != (regions.shape[0], *regions.shape[2:]):
        raise ReIDKitError(f"maps {maps.shape} and regions {regions.shape} do not fit: expected [N, K, H, W] both")
    if not (maps >= 0).all():
        raise ReIDKitError("attention maps are not negative and not NaN: scale them to [0, 1] first")
    return maps, np.broadcast_to(regions, maps.shape)
