"""What evaluation costs: CPU time beside the bare matrix product, and memory on top of the features.

CPU time is process time (all threads), so a busy machine disturbs it little; still, product and evaluation are
measured in turns and the best of each is kept. Memory is the peak of the process while evaluating minus its size
with the features loaded.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidkit.evaluation.ranking import evaluate_distance, evaluate_ranking
from reidkit.evaluation.reranking import rerank
from reidkit.evaluation.scores import Metric


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
) -> dict[str, Any]:
    """`evaluate_ranking` beside `qf @ gf.T`, both on the CPU in this process.

    Returns shapes, torch version, extra_mb (peak memory of the evaluation on top of the features, see `peak_memory`)
    and one row a number of threads: cpu_s_matmul, cpu_s_eval (best of `repeats`), ratio.
    """
    data = synthetic_market(num_query, num_gallery, dim)
    evaluate = lambda: evaluate_ranking(data.qf, data.gf, *data.labels, metric=metric)  # noqa: E731
    with using_threads(max(threads)):
        result, extra_mb = peak_memory(evaluate)  # first, so that BLAS buffers count as well
    runs = []
    for count in threads:
        with using_threads(count):
            matmul, ours = best_cpu_seconds(lambda: data.qf @ data.gf.T, evaluate, repeats=repeats)
        runs.append(
            {
                "threads": count,
                "cpu_s_matmul": round(matmul, 3),
                "cpu_s_eval": round(ours, 3),
                "ratio": round(ours / matmul, 3),
            }
        )
    return {
        "bench": "evaluate",
        "shapes": {"query": num_query, "gallery": num_gallery, "dim": dim},
        "extra_mb": extra_mb,
        "metric": metric,
        "torch": torch.__version__,
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
            matmul, seconds = best_cpu_seconds(lambda: all_products(data), ours, repeats=repeats)
        runs.append(
            {
                "threads": count,
                "cpu_s_matmul": round(matmul, 3),
                "cpu_s_rerank": round(seconds, 3),
                "ratio": round(seconds / matmul, 3),
            }
        )
    return {
        "bench": "rerank",
        "shapes": {"query": num_query, "gallery": num_gallery, "dim": dim},
        "extra_mb": extra_mb,
        "full_matrix_mb": round(total * total * 4 / 2**20),
        "torch": torch.__version__,
        "mAP_before": round(before, 4),
        "mAP_after": round(after, 4),
        "runs": runs,
    }


def all_products(data: SyntheticSet, strip: int = 1024) -> None:
    """Every inner product among queries and gallery, a strip at a time, thrown away."""
    for left in (data.qf, data.gf):
        for start in range(0, len(left), strip):
            for right in (data.qf, data.gf):
                _ = left[start : start + strip] @ right.T


def best_cpu_seconds(bare: Callable[[], Any], ours: Callable[[], Any], *, repeats: int) -> tuple[float, float]:
    """Least process time of each of two functions, called in turns."""
    seconds = []
    for _ in range(repeats):
        row = []
        for function in (bare, ours):
            start = time.process_time()
            function()
            row.append(time.process_time() - start)
        seconds.append(row)
    first, second = np.min(seconds, axis=0)
    return float(first), float(second)


def peak_memory(function: Callable[[], Any]) -> tuple[Any, float | None]:
    """(result, MB of resident memory that the call needed at its peak on top of what was there; None without /proc).

    Linux keeps a high-water mark a process; writing 5 to clear_refs sets it back to the present size. Only the first
    call of a process is honest: later ones find memory that the allocator kept.
    """
    if not sys.platform.startswith("linux"):
        return function(), None
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_kb("VmRSS")
    result = function()
    return result, round((resident_kb("VmHWM") - before) / 1024, 1)


def resident_kb(field: str) -> int:
    """A memory field of /proc/self/status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field + ":")).split()[1])


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """torch with `count` threads, then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
