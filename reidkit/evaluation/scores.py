"""Similarity of every query to every gallery image, a strip of queries at a time.

A strip is as many query rows as fit in 64 MB of scores, and it is filled block by block of the gallery: neither
the [Q, G] matrix nor a normalised or converted copy of the features ever exists. A larger score is a better match:

    cosine      (q . g) / |g|       the cosine similarity times |q|, which no ranking of one query sees
    euclidean   q . g - |g|^2 / 2   minus half the squared distance, plus |q|^2 / 2, likewise unseen

The Euclidean score is a small difference of large numbers, the larger the farther the features lie from the origin:
at 1,000 in every column float32 keeps nothing of it. So q and g are first moved by one `centre`, which changes no
distance, and the products run in float64, which leaves enough digits also where no centre is near (a few far rows,
two far groups, lengths of many sizes).

Cosine has no such difference and is computed in float32. Only where a tenth of the gallery or more points almost the
same way (a large common part in all rows, or in those of each of a few far groups) cosines differ by less than float32
resolves, and where the rows are so short that their squares underflow it says nothing: there float64 is used as well.
Both is read off a sample; a single row shorter than 1e-19 among longer ones may count as a row of zeros.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from reidkit.errors import ReIDKitError, unknown_name

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)
SQUARED_ROWS = 256  # of features, whose squares stay in a processor's cache
STRIP_BYTES = 64 * 2**20  # scores in memory at one time


def as_matrix(values, name: str) -> Tensor | np.ndarray:
    """Check that `values` is a two-dimensional matrix of numbers; a tensor or array is returned as it is (no copy)."""
    matrix = values.detach() if isinstance(values, Tensor) else np.asarray(values)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ReIDKitError(f"{name}: expected a matrix with one row an image, got shape {list(matrix.shape)}")
    if isinstance(matrix, Tensor):
        real = matrix.dtype != torch.bool and not matrix.is_complex()
    else:
        real = matrix.dtype.kind in "fiu" and matrix.dtype.itemsize <= 8
    if not real:
        raise ReIDKitError(f"{name}: expected real numbers of at most 64 bits, got {matrix.dtype}")
    return matrix


def working_dtype(*matrices: Tensor | np.ndarray) -> torch.dtype:
    """float32 for half and single precision, float64 as soon as one input is double (or integer)."""
    narrow = {"float16", "bfloat16", "float32"}
    return torch.float32 if all(str(m.dtype).split(".")[-1] in narrow for m in matrices) else torch.float64


def rows(
    matrix: Tensor | np.ndarray, start: int, stop: int, dtype: torch.dtype, device=None, origin: Tensor | None = None
) -> Tensor:
    """matrix[start:stop] as a tensor; a view where type and device allow one. Memory-mapped arrays are read here.

    origin: [D] to be subtracted from every row.
    """
    part = matrix[start:stop]
    if not isinstance(part, Tensor):
        part = np.ascontiguousarray(part, part.dtype.newbyteorder("="))
        part = torch.from_numpy(part if part.flags.writeable else part.copy())
    part = part.to(device or part.device)
    return part.to(dtype) if origin is None else part.to(dtype, copy=True).sub_(origin)


def sampled(matrix: Tensor | np.ndarray, device=None, count: int = 512) -> Tensor:
    """float64 [S, D]: at most `count` rows, evenly spread."""
    return rows(matrix[:: -(-len(matrix) // count)], 0, count, torch.float64, device)


def centre(picked: Tensor) -> Tensor:
    """[D] a point amid the rows of a sample [S, D]: their median in each column, rounded.

    For Euclidean distances any point would do. This one costs no pass over all rows, and unlike a mean it does not
    follow a few that lie far off. It is rounded to a power of two below the usual spread: a number of few digits
    leaves short numbers (whole ones, say) short, so distances that tie still do.
    """
    middle = picked.nanmedian(0).values
    spread = (picked - middle).abs().nanmedian()
    step = spread.log2().floor().exp2()
    rounded = torch.where(step > 0, (middle / step).round() * step, middle)
    return rounded.nan_to_num(0, 0, 0)  # rows that are not finite are named elsewhere


def beyond_float32(qf, gf) -> bool:
    """Can float32 not tell cosines apart? Of a sample: a row has a tenth of the gallery within 8 degrees of it, or is
    shorter than 1e-15 (but not zero), so that products of such rows underflow.
    """
    gallery, queries = (sampled(matrix, "cpu", 128) for matrix in (gf, qf))  # [S, D]
    lengths = torch.cat([gallery, queries]).norm(dim=1, keepdim=True)
    unit = gallery / lengths[: len(gallery)]  # a row of zeros becomes NaN, near to none
    near = (unit @ unit.T > 0.99).sum(1) - 1  # [S] without the row itself
    return bool((10 * near > len(gallery)).any() | ((lengths > 0) & (lengths < 1e-15)).any())


def refuse_rows(bad: Tensor, name: str) -> None:
    """Raise ReIDKitError naming the rows that `bad` [N] bool marks, if any."""
    if bad.any():
        first = bad.nonzero().flatten().tolist()
        more = f" (and {len(first) - 1} more rows: {first[1:6]}{' ...' if len(first) > 6 else ''})" if first[1:] else ""
        raise ReIDKitError(
            f"{name}: row {first[0]} of {len(bad)}{more} holds NaN, infinite or overflowing values; "
            "find the image of that row, or the layer that diverged"
        )


def squared_norms(
    matrix: Tensor | np.ndarray,
    name: str,
    dtype: torch.dtype,
    device=None,
    origin: Tensor | None = None,
) -> Tensor:
    """[N] squared length of every row, read a few at a time. Raises ReIDKitError naming a row that is not finite.

    origin: [D] the point that lengths are measured from (default: zero).
    """
    squared = torch.empty(len(matrix), dtype=dtype, device=device_of(device, matrix))
    for start in range(0, len(matrix), SQUARED_ROWS):
        part = rows(matrix, start, start + SQUARED_ROWS, dtype, device, origin)
        squared[start : start + SQUARED_ROWS] = (part * part).sum(1)
    refuse_rows(~squared.isfinite(), name)
    return squared


def feature_pair(qf, gf, metric: Metric) -> tuple[Tensor | np.ndarray, Tensor | np.ndarray]:
    """Check query and gallery features [Q, D], [G, D] and the metric's name."""
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    qf, gf = as_matrix(qf, "query features"), as_matrix(gf, "gallery features")
    if qf.shape[1] != gf.shape[1]:
        raise ReIDKitError(
            f"query features have {qf.shape[1]} columns, gallery features {gf.shape[1]}: "
            "extract both with the same model"
        )
    return qf, gf


def device_of(device, *matrices: Tensor | np.ndarray) -> torch.device:
    """The device asked for, else that of the first tensor among the inputs, else the CPU."""
    if device is not None:
        return named_device(device)
    return next((m.device for m in matrices if isinstance(m, Tensor)), torch.device("cpu"))


def named_device(device: str | torch.device, error: type[ReIDKitError] = ReIDKitError) -> torch.device:
    """A device that torch has here. Raises UnknownNameError for no device, `error` for a GPU that is not there."""
    try:
        found = torch.device(device)
    except RuntimeError:
        raise unknown_name("device", str(device), ("auto", "cpu", "cuda", "mps")) from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise error(f"device '{device}' was asked for, but torch sees no CUDA GPU here; use the device cpu")
    if found.type == "cuda" and found.index is not None and found.index >= torch.cuda.device_count():
        raise error(
            f"device '{device}' was asked for, but this machine has {torch.cuda.device_count()} CUDA GPUs, counted "
            "from cuda:0"
        )
    return found


def check_count(value: Any, name: str, optional: bool = False) -> None:
    """ReIDKitError unless a value is a whole number of at least 1, or None where it is `optional`."""
    if optional and value is None:
        return
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ReIDKitError(f"{name} must be at least 1, a whole number; got {value}")


def working_place(metric: Metric, device, qf, gf) -> tuple[torch.dtype, torch.device]:
    """Type and device of the products: float64 where the top of the file says so; Apple's GPUs lack it, so the CPU."""
    dtype, device = working_dtype(qf, gf), device_of(device, gf, qf)
    if metric == "euclidean" or beyond_float32(qf, gf):
        dtype = torch.float64
    return dtype, torch.device("cpu") if device.type == "mps" and dtype == torch.float64 else device


def apply_metric(products: Tensor, squared: Tensor, metric: Metric, out: Tensor | None = None) -> Tensor:
    """Inner products [..., G] -> scores, given the squared gallery norms [G]; in place unless `out` is given."""
    out = products if out is None else out
    if metric == "euclidean":
        return torch.sub(products, squared / 2, out=out)
    return torch.mul(products, torch.where(squared > 0, squared, 1).rsqrt(), out=out)  # an all-zero row scores 0


def score_strips(qf, gf, metric: Metric, block: int = 2048, device=None) -> Iterator[tuple[int, np.ndarray]]:
    """`tensor_strips` as arrays on the CPU."""
    for start, strip in tensor_strips(qf, gf, metric, block, device):
        yield start, strip.cpu().numpy()


@torch.no_grad()
def tensor_strips(qf, gf, metric: Metric, block: int = 2048, device=None) -> Iterator[tuple[int, Tensor]]:
    """Yield (first query row, scores [b, G]) strip by strip. The tensor is reused: read it before the next one.

    qf [Q, D], gf [G, D]: tensors or arrays of float16, bfloat16, float32 or float64. Cosine is computed in float32
    (float64 for double features and where float32 cannot tell cosines apart), Euclidean in float64.
    block: gallery rows in one matrix product. device: where the products run and the scores stay.
    """
    check_count(block, "block")
    qf, gf = feature_pair(qf, gf, metric)
    dtype, device = working_place(metric, device, qf, gf)
    origin = centre(sampled(gf, device)) if metric == "euclidean" else None
    squared_norms(qf, "query features", dtype, device)  # for its check
    squared = squared_norms(gf, "gallery features", dtype, device, origin)  # [G]
    yield from product_strips(qf, gf, metric, squared, origin, block)


def product_strips(
    qf, gf, metric: Metric, squared: Tensor, origin: Tensor | None, block: int
) -> Iterator[tuple[int, Tensor]]:
    """`tensor_strips` of checked features, in the type and on the device of `squared`.

    squared: [G] lengths of the gallery's rows, measured from `origin` ([D] or None) like the scores.
    """
    num_query, num_gallery, dtype, device = len(qf), len(gf), squared.dtype, squared.device
    strip = min(num_query, max(64, STRIP_BYTES // (dtype.itemsize * num_gallery)))
    scores = torch.empty(strip, num_gallery, dtype=dtype, device=device)
    for start in range(0, num_query, strip):
        queries = rows(qf, start, start + strip, dtype, device, origin)  # [b, D]
        view = scores[: len(queries)]  # [b, G]
        for left in range(0, num_gallery, block):
            gallery = rows(gf, left, left + block, dtype, device, origin)  # [block, D]
            # Straight into the long rows of `view` the same product takes a quarter longer (MKL, AVX-512).
            apply_metric(queries @ gallery.T, squared[left : left + block], metric, out=view[:, left : left + block])
        yield start, view


def distance_strips(distance, device: str | torch.device = "cpu") -> Iterator[tuple[int, Tensor]]:
    """Yield (first query row, scores [b, G]) of a ready matrix of distances [Q, G]: minus the distance.

    device: where the scores go.
    """
    distance = as_matrix(distance, "distance matrix")
    dtype, (num_query, num_gallery) = working_dtype(distance), distance.shape
    strip = max(1, STRIP_BYTES // (dtype.itemsize * num_gallery))
    for start in range(0, num_query, strip):
        scores = -rows(distance, start, start + strip, dtype, device)  # a copy: the caller's matrix stays as it is
        bad = torch.zeros(num_query, dtype=torch.bool, device=device)
        bad[start : start + strip] = ~scores.isfinite().all(1)
        refuse_rows(bad, "distance matrix")
        yield start, scores
