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
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from reidkit.errors import ReIDKitError
from reidkit.evaluation.scores import STRIP_BYTES, feature_pair, rows, squared_norms, working_place

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PROGRESS_FROM = 5000  # images; smaller problems take a second or so


@torch.no_grad()
def rerank(
    qf, gf, k1: int = 20, k2: int = 6, lambda_value: float = 0.3, *, device=None, progress: bool | None = None
) -> np.ndarray | Tensor:
    """[Q, G] re-ranked distance (smaller is better), float32 (float64 for double features and for those that
    all point almost one way, see `scores`).

    qf [Q, D], gf [G, D]: tensors or arrays; the result is of the same kind as qf, on the CPU.
    k1: size of the reciprocal neighbourhood; k2: images averaged in the local query expansion (1: none);
    lambda_value: weight of the original distance in the result. Pass the result to `evaluate_distance`.
    device: where products and neighbour search run. progress: None shows a bar from 5,000 images on.

    Memory: one normalised copy of the features, the result, and some 300 MB at Market-1501's size (0.8 GB in all);
    never the [N, N] matrix (2 GB).
    Equal distances are ordered by row number. Raises ReIDKitError for NaN features and for settings out of range.
    """
    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise ReIDKitError(
            f"re-ranking needs k1 >= 1, k2 >= 1 and 0 <= lambda_value <= 1, "
            f"got k1={k1}, k2={k2}, lambda_value={lambda_value}"
        )
    features, num_query = normalised_union(qf, gf, device)
    show = len(features) >= PROGRESS_FROM if progress is None else progress
    neighbours, largest, distance = nearest_neighbours(features, num_query, max(k1 + 1, k2), show)
    encoding = reciprocal_encoding(features, neighbours, largest, k1, show)  # V, Eq. 7
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
    neighbours = torch.empty(total, min(k, total), dtype=torch.long)
    largest = torch.empty(total, dtype=features.dtype, device=features.device)
    distance = np.empty((num_query, total - num_query), dtype=str(features.dtype).split(".")[-1])
    strip = max(64, STRIP_BYTES // (features.element_size() * total))
    for start in tqdm(range(0, total, strip), desc="neighbours", disable=not progress):
        d = features[start : start + strip] @ features.T  # [b, N] cosine
        d = d.mul_(-2).add_(2).clamp_(min=0)  # |f_i - f_j|^2
        stop = start + len(d)
        neighbours[start:stop] = stable_smallest(d, k).cpu()
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


def is_reciprocal(neighbours: Tensor, chunk: int = 2048) -> Tensor:
    """[N, k] bool: is image i among the neighbours of its a-th neighbour? R(i, k) of Eq. 3."""
    parts = []
    for start in range(0, len(neighbours), chunk):
        own = neighbours[start : start + chunk]  # [b, k]
        image = torch.arange(start, start + len(own)).view(-1, 1, 1)
        parts.append((neighbours[own] == image).any(-1))  # [b, k, k] -> [b, k]
    return torch.cat(parts)


def expanded_sets(neighbours: Tensor, k1: int, chunk: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (image, member) index pairs of the sets R*(i, k1), Eq. 4, chunk by chunk in ascending order.

    A reciprocal neighbour q of i contributes its own set R(q, k1/2) if more than 2/3 of that set is in R(i, k1).
    """
    total = len(neighbours)
    full, half = neighbours[:, : k1 + 1], neighbours[:, : round(k1 / 2) + 1]
    in_full, in_half = is_reciprocal(full), is_reciprocal(half)
    for start in range(0, total, chunk):
        own, own_in = full[start : start + chunk], in_full[start : start + chunk]  # [b, k]   R(i, k1)
        other, other_in = half[own], in_half[own]  # [b, k, h] R(q, k1/2)
        shared = ((other.unsqueeze(-1) == own[:, None, None]) & own_in[:, None, None]).any(-1)  # [b, k, h]
        common, size = (shared & other_in).sum(-1), other_in.sum(-1)  # [b, k]
        adopted = own_in & (3 * common > 2 * size)  # [b, k]
        members = torch.cat([own, other.flatten(1)], 1)  # [b, k + k*h]
        keep = torch.cat([own_in, (other_in & adopted.unsqueeze(-1)).flatten(1)], 1)
        image = torch.arange(start, start + len(own)).unsqueeze(1)
        pairs = (image * total + members)[keep].unique()  # a set: no repeats
        yield pairs // total, pairs % total


def reciprocal_encoding(
    features: Tensor, neighbours: Tensor, largest: Tensor, k1: int, progress: bool, chunk: int = 512
) -> csr_array:
    """V, sparse [N, N]: exp(-d(i, j)) for j in R*(i, k1), else 0 (Eq. 7); each row sums to one."""
    from scipy.sparse import csr_array

    total = len(neighbours)
    pairs = [torch.cat(p) for p in zip(*expanded_sets(neighbours, k1))]
    weight = torch.empty(len(pairs[0]), dtype=features.dtype)
    for start in tqdm(range(0, len(weight), chunk), desc="encoding", disable=not progress):
        i, j = (p[start : start + chunk].to(features.device) for p in pairs)
        d = (2 - 2 * torch.einsum("pd,pd->p", features[i], features[j])).clamp(min=0) / largest[i]
        weight[start : start + chunk] = torch.exp(-d).cpu()
    row_sum = torch.zeros(total, dtype=weight.dtype).index_add_(0, pairs[0], weight)
    weight /= row_sum[pairs[0]]
    return csr_array((weight.numpy(), [p.numpy() for p in pairs]), shape=(total, total))


def local_query_expansion(encoding: csr_array, nearest: Tensor) -> csr_array:
    """The mean encoding of an image's k2 nearest images, itself included (Eq. 11); sparse [N, N]."""
    from scipy.sparse import csr_array

    total, k2 = nearest.shape
    share = np.full(total * k2, 1 / k2, encoding.dtype)
    mean = csr_array((share, nearest.flatten().numpy(), np.arange(0, total * k2 + 1, k2)), shape=(total, total))
    return mean @ encoding  # row i: mean over N(i, k2)


def mix_with_jaccard(distance: np.ndarray, encoding: csr_array, lambda_value: float, progress: bool) -> None:
    """distance [Q, G] becomes (1 - lambda) d_J + lambda d, in place (Eq. 10 and 12).

    Rows of V sum to one, so sum_j max(a_j, b_j) = 2 - sum_j min(a_j, b_j). The sum of minima of one query with
    every gallery image is collected over an inverted index: for each image j, which gallery rows of V contain it.
    """
    num_query, num_gallery = distance.shape
    contains = encoding[num_query:].T.tocsr()  # [N, G], row j: who contains image j
    for query in tqdm(range(num_query), desc="Jaccard", disable=not progress):
        own = encoding[[query]]  # [1, N] a_j
        shared = contains[own.indices]  # [non-zero j, G] b_j
        smaller = np.minimum(shared.data, np.repeat(own.data, np.diff(shared.indptr)))
        overlap = np.bincount(shared.indices, smaller, minlength=num_gallery)  # [G] sum of minima
        distance[query] = (1 - lambda_value) * (1 - overlap / (2 - overlap)) + lambda_value * distance[query]
