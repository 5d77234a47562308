"""Re-ranking with k-reciprocal encoding, Zhong et al., CVPR 2017 (arXiv:1701.08398); the equations are theirs.

Two images are probably of one person if each is among the k nearest of the other. Every image (queries and gallery
together, N of them) is described by the set of its k-reciprocal neighbours, and images are compared by how much
their sets overlap (Jaccard distance), mixed with the original distance.

What d stands for here. d(i, j) = |f_i - f_j|^2 of L2-normalised features = 2 - 2 cos, and each row is divided by its
maximum over all N images, as in the authors' released code. It is squared once: code that hands an already squared
distance to a routine that squares again ranks by d^2 and does not reproduce the paper.

Where text and released code differ, the code is followed, since every published number comes from it:
neighbour lists hold k + 1 images because an image is its own first neighbour, and Eq. 4 asks for *more* than
two thirds (the text: at least).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from reidkit.errors import ReIDKitError
from reidkit.evaluation.scores import STRIP_BYTES, check_count, feature_pair, rows, squared_norms, working_place

PROGRESS_FROM = 5000  # images; smaller problems take a second or so
PAIRS = 2**21  # entries looked at together: of sparse rows, of neighbours' neighbours


@torch.no_grad()
def rerank(
    qf, gf, k1: int = 20, k2: int = 6, lambda_value: float = 0.3, *, device=None, progress: bool | None = None
) -> np.ndarray | Tensor:
    """[Q, G] re-ranked distance (smaller is better), float32 (float64 for double features and where
    float32 cannot tell cosines apart, see `scores`).

    qf [Q, D], gf [G, D]: tensors or arrays; the result is of the same kind as qf, on the CPU.
    k1: size of the reciprocal neighbourhood; k2: images averaged in the local query expansion (1: none);
    lambda_value: weight of the original distance in the result. Pass the result to `evaluate_distance`.
    device: where all of it runs, strip by strip (default: that of the features). progress: None shows a bar from
    5,000 images on.

    Memory: one normalised copy of the features, the result, and some 300 MB at Market-1501's size (0.8 GB in all);
    never the [N, N] matrix (2 GB).
    Equal distances (the same bits) are ordered by row number; copies of a row may differ in the last bit, as the matrix
    product rounds by position, and then are ordered by it: among more than k1 of them neighbours are arbitrary.
    Raises ReIDKitError for NaN features and for settings out of range.
    """
    check_count(k1, "k1")
    check_count(k2, "k2")
    if not 0 <= lambda_value <= 1:
        raise ReIDKitError(f"lambda_value must be from 0 to 1, got {lambda_value}")
    features, num_query = normalised_union(qf, gf, device)
    show = len(features) >= PROGRESS_FROM if progress is None else progress
    neighbours, largest, distance = nearest_neighbours(features, num_query, max(k1 + 1, k2), show)
    encoding = reciprocal_encoding(features, neighbours, largest, k1, show)  # V, Eq. 7
    if k2 > 1:  # a lone first neighbour is the image itself, or for a row of zeros (equally far from all) another one
        encoding = local_query_expansion(encoding, neighbours[:, :k2])  # Eq. 11
    mix_with_jaccard(distance, encoding, lambda_value, show)  # Eq. 12
    return torch.from_numpy(distance) if isinstance(qf, Tensor) else distance


def normalised_union(qf, gf, device) -> tuple[Tensor, int]:
    """([N, D] unit-length features, queries first; number of queries). Raises ReIDKitError naming a NaN row."""
    qf, gf = feature_pair(qf, gf, "cosine")
    dtype, device = working_place("cosine", device, qf, gf)
    norms = [
        squared_norms(m, f"{name} features", dtype, device=device).sqrt()
        for m, name in ((qf, "query"), (gf, "gallery"))
    ]
    features = torch.cat([rows(m, 0, len(m), dtype, device) for m in (qf, gf)])  # [N, D]
    norm = torch.cat(norms)  # [N]
    return features.div_(torch.where(norm > 0, norm, 1).unsqueeze(1)), len(qf)


def nearest_neighbours(features: Tensor, num_query: int, k: int, progress: bool) -> tuple[Tensor, Tensor, np.ndarray]:
    """N(i, k) for all images, strip by strip (Eq. 2).

    Returns neighbours [N, min(k, N)] (nearest first, the image itself among them), largest [N] (the row maxima that
    d is divided by) and the scaled distances [Q, G] of the queries.
    """
    total = len(features)
    neighbours = torch.empty(total, min(k, total), dtype=torch.long, device=features.device)
    largest = torch.empty(total, dtype=features.dtype, device=features.device)
    distance = np.empty((num_query, total - num_query), dtype=str(features.dtype).split(".")[-1])
    strip = max(64, STRIP_BYTES // (features.element_size() * total))
    for start in tqdm(range(0, total, strip), desc="neighbours", disable=not progress):
        d = features[start : start + strip] @ features.T  # [b, N] cosine
        d = d.mul_(-2).add_(2).clamp_(min=0)  # |f_i - f_j|^2
        stop = start + len(d)
        neighbours[start:stop] = stable_smallest(d, k)
        largest[start:stop] = d.amax(1).clamp(min=torch.finfo(d.dtype).tiny)
        queries = max(0, min(stop, num_query) - start)
        if queries:
            scaled = d[:queries, num_query:] / largest[start : start + queries, None]
            distance[start : start + queries] = scaled.cpu().numpy()
    return neighbours, largest, distance


def stable_smallest(d: Tensor, k: int) -> Tensor:
    """[b, min(k, N)] columns of the smallest entries of each row, in the order of a stable argsort."""
    values, index = d.topk(min(k + 1, d.shape[1]), dim=1, largest=False, sorted=True)  # one more shows a tie at k
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero().flatten()
    for row in tied.tolist():
        index[row] = d[row].argsort(stable=True)[: index.shape[1]]
    return index[:, :k]


def is_reciprocal(neighbours: Tensor) -> Tensor:
    """[N, k] bool: is image i among the neighbours of its a-th neighbour? R(i, k) of Eq. 3."""
    parts, chunk = [], max(1, PAIRS // neighbours.shape[1] ** 2)
    for start in range(0, len(neighbours), chunk):
        own = neighbours[start : start + chunk]  # [b, k]
        image = torch.arange(start, start + len(own), device=own.device).view(-1, 1, 1)
        parts.append((neighbours[own] == image).any(-1))  # [b, k, k] -> [b, k]
    return torch.cat(parts)


def expanded_sets(neighbours: Tensor, k1: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (image, member) index pairs of the sets R*(i, k1), Eq. 4, chunk by chunk in ascending order.

    A reciprocal neighbour q of i contributes its own set R(q, k1/2) if more than 2/3 of that set is in R(i, k1).
    """
    total = len(neighbours)
    full, half = neighbours[:, : k1 + 1], neighbours[:, : round(k1 / 2) + 1]
    in_full, in_half = is_reciprocal(full), is_reciprocal(half)
    chunk = max(1, min(256, STRIP_BYTES // total, PAIRS // (full.shape[1] * half.shape[1])))
    for start in range(0, total, chunk):
        own, own_in = full[start : start + chunk], in_full[start : start + chunk]  # [b, k]   R(i, k1)
        other, other_in = half[own], in_half[own]  # [b, k, h] R(q, k1/2)
        reciprocal = torch.zeros(len(own), total, dtype=torch.bool, device=own.device).scatter_(1, own, own_in)
        shared = reciprocal.gather(1, other.flatten(1)).view_as(other)  # [b, k, h] which of them are in R(i, k1)
        common, size = (shared & other_in).sum(-1), other_in.sum(-1)  # [b, k]
        adopted = own_in & (3 * common > 2 * size)  # [b, k]
        members = torch.cat([own, other.flatten(1)], 1)  # [b, k + k*h]
        keep = torch.cat([own_in, (other_in & adopted.unsqueeze(-1)).flatten(1)], 1)
        image = torch.arange(start, start + len(own), device=own.device).unsqueeze(1)
        pairs = (image * total + members)[keep].unique()  # a set: no repeats
        yield pairs // total, pairs % total


class SparseRows(NamedTuple):
    """A sparse [N, M] matrix. Row i: `column` and `value` [nnz] from `first[i]` up to `first[i + 1]`; first [N + 1]."""

    first: Tensor
    column: Tensor
    value: Tensor

    @classmethod
    def of(cls, row: Tensor, column: Tensor, value: Tensor, count: int) -> SparseRows:
        """From entries [nnz] that are sorted by row; count: rows of the matrix."""
        first = torch.zeros(count + 1, dtype=torch.long, device=row.device)
        first[1:] = torch.bincount(row, minlength=count).cumsum(0)
        return cls(first, column, value)

    def entries(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Of some rows [n], one after another: (which of the n, place in `column` and `value`), both [entries]."""
        start = self.first[chosen]
        length = self.first[chosen + 1] - start  # [n]
        which = torch.arange(len(chosen), device=chosen.device).repeat_interleave(length)
        within = torch.arange(len(which), device=chosen.device) - (length.cumsum(0) - length)[which]
        return which, start[which] + within


def reciprocal_encoding(
    features: Tensor, neighbours: Tensor, largest: Tensor, k1: int, progress: bool, chunk: int = 512
) -> SparseRows:
    """V, sparse [N, N]: exp(-d(i, j)) for j in R*(i, k1), else 0 (Eq. 7); each row sums to one."""
    i, j = (torch.cat(p) for p in zip(*expanded_sets(neighbours, k1)))
    weight = torch.empty(len(i), dtype=features.dtype, device=features.device)
    for start in tqdm(range(0, len(weight), chunk), desc="encoding", disable=not progress):
        a, b = i[start : start + chunk], j[start : start + chunk]
        d = (2 - 2 * torch.einsum("pd,pd->p", features[a], features[b])).clamp(min=0) / largest[a]
        weight[start : start + chunk] = torch.exp(-d)
    row_sum = torch.zeros(len(neighbours), dtype=weight.dtype, device=weight.device).index_add_(0, i, weight)
    return SparseRows.of(i, j, weight / row_sum[i], len(neighbours))


def local_query_expansion(encoding: SparseRows, nearest: Tensor, chunk: int = 512) -> SparseRows:
    """The mean encoding of an image's k2 nearest images [N, k2], itself included (Eq. 11); sparse [N, N]."""
    total, k2 = nearest.shape
    parts = []
    for start in range(0, total, chunk):
        which, place = encoding.entries(nearest[start : start + chunk].flatten())
        key = (start + which // k2) * total + encoding.column[place]  # image and column in one number
        pairs, entry = key.unique(return_inverse=True)  # ascending
        value = torch.zeros(len(pairs), dtype=encoding.value.dtype, device=key.device)
        parts.append((pairs, value.index_add_(0, entry, encoding.value[place] / k2)))
    pairs, value = (torch.cat(p) for p in zip(*parts))
    return SparseRows.of(pairs // total, pairs % total, value, total)


def mix_with_jaccard(distance: np.ndarray, encoding: SparseRows, lambda_value: float, progress: bool) -> None:
    """distance [Q, G] becomes (1 - lambda) d_J + lambda d, in place (Eq. 10 and 12).

    Rows of V sum to one, so sum_j max(a_j, b_j) = 2 - sum_j min(a_j, b_j). The sums of minima of some queries with
    every gallery image are collected over an inverted index: for each image j, which gallery rows of V contain it.
    """
    num_query, num_gallery = distance.shape
    contains = inverted(encoding, num_query)  # [N, G], row j: who contains image j
    images = encoding.column[: encoding.first[num_query]]  # of the queries' rows
    pairs = torch.zeros(len(images) + 1, dtype=torch.long, device=images.device)
    pairs[1:] = (contains.first[images + 1] - contains.first[images]).cumsum(0)
    pairs = pairs[encoding.first[: num_query + 1]].tolist()  # entries to look at before each query
    most = max(1, STRIP_BYTES // (distance.itemsize * num_gallery))  # queries in one strip
    start = 0
    with tqdm(total=num_query, desc="Jaccard", disable=not progress) as bar:
        while start < num_query:
            stop = start + 1
            while stop < min(num_query, start + most) and pairs[stop + 1] - pairs[start] <= PAIRS:
                stop += 1
            overlap = minima(encoding, contains, start, stop, num_gallery).cpu().numpy()  # [b, G]
            part = distance[start:stop]
            part *= lambda_value
            part += (1 - lambda_value) * (1 - overlap / (2 - overlap))
            bar.update(stop - start)
            start = stop


def inverted(encoding: SparseRows, num_query: int) -> SparseRows:
    """The gallery's rows of V [N, N] turned over: sparse [N, G]."""
    total, start = len(encoding.first) - 1, int(encoding.first[num_query])
    image = torch.arange(total - num_query, device=encoding.first.device)
    row = image.repeat_interleave(encoding.first[num_query:].diff())  # [nnz] the gallery image of each entry
    column, order = encoding.column[start:].sort(stable=True)
    return SparseRows.of(column, row[order], encoding.value[start:][order], total)


def minima(encoding: SparseRows, contains: SparseRows, start: int, stop: int, num_gallery: int) -> Tensor:
    """[b, G] sum_j min(a_j, b_j) of the queries from `start` to `stop` with every gallery image."""
    query, own = encoding.entries(torch.arange(start, stop, device=encoding.first.device))  # entries a_j
    entry, theirs = contains.entries(encoding.column[own])  # entries b_j of the same j
    smaller = torch.minimum(encoding.value[own][entry], contains.value[theirs])
    overlap = torch.zeros((stop - start) * num_gallery, dtype=smaller.dtype, device=smaller.device)
    return overlap.index_add_(0, query[entry] * num_gallery + contains.column[theirs], smaller).view(-1, num_gallery)
