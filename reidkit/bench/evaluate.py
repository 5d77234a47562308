"""What evaluation costs: CPU time beside the bare matrix product, and memory on top of the features.

Product and evaluation are measured in turns, and the best of each is kept (see `clock`). Memory is the peak of the
process while evaluating minus its size with the features loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidkit.bench.clock import CPU, Seconds, best_of_turns, device_peak, peak_memory, using_threads
from reidkit.evaluation.ranking import evaluate_distance, evaluate_ranking
from reidkit.evaluation.reranking import rerank
from reidkit.evaluation.scores import Metric
from reidkit.training.device import choose_device


@dataclass(frozen=True)
class SyntheticSet:
    """Random features with the identities, cameras, junk and distractors of a test set shaped like Market-1501."""

    qf: Tensor
    gf: Tensor
    q_pids: np.ndarray
    g_pids: np.ndarray
    q_camids: np.ndarray
    g_camids: np.ndarray

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The four label arrays in the order of `evaluate_ranking`."""
        return self.q_pids, self.g_pids, self.q_camids, self.g_camids


def synthetic_market(
    num_query: int = 3368, num_gallery: int = 19732, dim: int = 3072, *, noise: float = 4.0, seed: int = 0
) -> SyntheticSet:
    """Clusters of features. Of the gallery 19.4 % are junk and 14.2 % distractors, as in Market-1501; an identity
    has about 4.5 queries, 17.5 gallery images and 6 cameras. noise: spread within an identity over that between.
    """
    rng = np.random.default_rng(seed)
    num_ids = max(2, round(num_query / 4.49))
    q_pids = np.arange(num_query) % num_ids + 1
    q_camids = (np.arange(num_query) // num_ids) % 6 + 1
    kind = rng.random(num_gallery)
    g_pids = np.where(kind < 0.194, -1, np.where(kind < 0.336, 0, rng.integers(1, num_ids + 1, num_gallery)))
    g_camids = rng.integers(1, 7, num_gallery)
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_ids + 1, dim, generator=generator)

    def features(pids: np.ndarray) -> Tensor:
        noisy = torch.randn(len(pids), dim, generator=generator).mul_(noise)
        for start in range(0, len(pids), 1024):  # in blocks: no second copy in memory
            ids = torch.from_numpy(pids[start : start + 1024]).clamp(min=0)
            noisy[start : start + 1024] += centres[ids]
        return noisy

    return SyntheticSet(features(q_pids), features(g_pids), q_pids, g_pids, q_camids, g_camids)


def bench_evaluate(
    num_query: int = 3368,
    num_gallery: int = 19732,
    dim: int = 3072,
    *,
    threads: Sequence[int] = (1, 2),
    repeats: int = 3,
    metric: Metric = "cosine",
    device: str = "cpu",
) -> dict[str, Any]:
    """`evaluate_ranking` beside the bare product of its features in blocks, where the features lie.

    Returns shapes, extra_mb (peak memory of the evaluation on top of the features: of the process, see `peak_memory`,
    or of the GPU) and one row a number of threads: cpu_s_matmul, cpu_s_eval (best of `repeats`; on a GPU the wall's
    seconds, wall_s_...), ratio.
    """
    place = choose_device(device)
    data = synthetic_market(num_query, num_gallery, dim)
    qf, gf = data.qf.to(place), data.gf.to(place)
    evaluate = lambda: evaluate_ranking(qf, gf, *data.labels, metric=metric)  # noqa: E731
    ways = {"matmul": lambda: block_products(qf, gf), "eval": evaluate}
    with using_threads(max(threads)):
        result, extra_mb = peak_memory(evaluate)  # first, so that BLAS buffers count as well
    extra_mb = extra_mb if place.type == "cpu" else device_peak(evaluate, place)
    runs = []
    for count in threads if place.type == "cpu" else threads[:1]:
        with using_threads(count):
            runs.append(_row(count, best_of_turns(ways, repeats, place), place))
    return {
        "shapes": {"query": num_query, "gallery": num_gallery, "dim": dim},
        "extra_mb": extra_mb,
        "metric": metric,
        "mAP": round(result.mAP, 4),
        "runs": runs,
    }


def bench_rerank(
    num_query: int = 3368,
    num_gallery: int = 19732,
    dim: int = 3072,
    *,
    threads: Sequence[int] = (1,),
    repeats: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """`rerank` beside the product of all N = Q + G features with themselves, which any implementation needs.

    full_matrix_mb is the size of one [N, N] float32 matrix; the usual implementation holds at least three.
    """
    data = synthetic_market(num_query, num_gallery, dim)
    total, runs = num_query + num_gallery, []
    ours = lambda: rerank(data.qf, data.gf, progress=progress)  # noqa: E731
    with using_threads(max(threads)):
        distance, extra_mb = peak_memory(ours)
        before = evaluate_ranking(data.qf, data.gf, *data.labels).mAP
        after = evaluate_distance(distance, *data.labels).mAP
    del distance
    for count in threads:
        with using_threads(count):
            best = best_of_turns({"matmul": lambda: all_products(data), "rerank": ours}, repeats)
        runs.append(_row(count, best))
    return {
        "shapes": {"query": num_query, "gallery": num_gallery, "dim": dim},
        "extra_mb": extra_mb,
        "full_matrix_mb": round(total * total * 4 / 2**20),
        "mAP_before": round(before, 4),
        "mAP_after": round(after, 4),
        "runs": runs,
    }


def _row(threads: int, best: dict[str, Seconds], device: torch.device = CPU) -> dict[str, float]:
    """Seconds of the product and of ours on this device, and how many products ours costs."""
    matmul, ours = (seconds.on(device) for seconds in best.values())
    hand = "wall" if device.type == "cuda" else "cpu"
    taken = {f"{hand}_s_{name}": round(seconds.on(device), 3) for name, seconds in best.items()}
    return {"threads": threads, **taken, "ratio": round(ours / matmul, 3)}


def block_products(qf: Tensor, gf: Tensor, block: int = 2048) -> None:
    """The product of all features [Q, D] and [G, D], `block` gallery rows at a time, thrown away."""
    for start in range(0, len(gf), block):
        _ = qf @ gf[start : start + block].T


def all_products(data: SyntheticSet, strip: int = 1024) -> None:
    """Every inner product among queries and gallery, a strip at a time, thrown away."""
    for left in (data.qf, data.gf):
        for start in range(0, len(left), strip):
            for right in (data.qf, data.gf):
                _ = left[start : start + strip] @ right.T
