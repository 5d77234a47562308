"""Ranking and re-ranking on a GPU give what they give on the CPU."""

import numpy as np
import pytest
import torch

from reidkit.bench.evaluate import synthetic_market
from reidkit.evaluation.ranking import evaluate_distance, evaluate_ranking
from reidkit.evaluation.reranking import rerank

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_ranking_on_a_gpu(metric):
    data = synthetic_market(num_query=40, num_gallery=300, dim=16)
    features = data.qf.double(), data.gf.double()  # so that no two scores are as near as products may differ
    on_cpu, on_gpu = (
        evaluate_ranking(*features, *data.labels, metric=metric, device=device) for device in ("cpu", "cuda")
    )
    np.testing.assert_array_equal(on_cpu.per_query, on_gpu.per_query)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_large_set_in_float32(metric):
    """As features come out of `extract_features`; mAP to 1e-6, and little memory beside them."""
    data = synthetic_market(num_query=600, num_gallery=6000, dim=512, noise=2.0)
    qf, gf = data.qf.cuda(), data.gf.cuda()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    on_gpu = evaluate_ranking(qf, gf, *data.labels, metric=metric)
    assert torch.cuda.max_memory_allocated() - before < 400 * 2**20
    on_cpu = evaluate_ranking(data.qf, data.gf, *data.labels, metric=metric)
    assert on_gpu.mAP == pytest.approx(on_cpu.mAP, abs=1e-6) and on_gpu.mINP == pytest.approx(on_cpu.mINP, abs=1e-5)


def test_ready_distances_are_counted_on_a_gpu():
    data = synthetic_market(num_query=40, num_gallery=300, dim=16)
    distance = torch.cdist(data.qf, data.gf)
    on_cpu, on_gpu = (evaluate_distance(distance, *data.labels, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(on_cpu.per_query, on_gpu.per_query)


def test_reranked_map_on_a_gpu():
    data = synthetic_market(num_query=300, num_gallery=3000, dim=256)
    qf, gf = data.qf.double(), data.gf.double()  # in float32 a few of 3,300 neighbour lists may end differently
    maps = [
        evaluate_distance(rerank(q, g, progress=False), *data.labels).mAP for q, g in ((qf, gf), (qf.cuda(), gf.cuda()))
    ]
    assert maps[0] == pytest.approx(maps[1], abs=1e-6)


def test_reranking_on_a_gpu():
    data = synthetic_market(num_query=40, num_gallery=300, dim=16)
    on_cpu, on_gpu = (rerank(data.qf, data.gf, device=device, progress=False) for device in ("cpu", "cuda"))
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-4, rtol=1e-4)
