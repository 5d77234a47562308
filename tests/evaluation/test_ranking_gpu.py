"""Ranking and re-ranking on a GPU give what they give on the CPU."""

import numpy as np
import pytest
import torch

from reidkit.bench.evaluate import synthetic_market
from reidkit.evaluation.ranking import evaluate_ranking
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


def test_reranking_on_a_gpu():
    data = synthetic_market(num_query=40, num_gallery=300, dim=16)
    on_cpu, on_gpu = (rerank(data.qf, data.gf, device=device, progress=False) for device in ("cpu", "cuda"))
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-4, rtol=1e-4)
