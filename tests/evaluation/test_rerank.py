"""Re-ranking against a slow, literal implementation of Zhong et al., CVPR 2017."""

import numpy as np
import pytest
import torch
from counting import Operators

from reidkit.errors import ReIDKitError
from reidkit.evaluation import reranking
from reidkit.evaluation.ranking import evaluate_distance, evaluate_ranking
from reidkit.evaluation.reranking import rerank, stable_smallest


def reference(qf, gf, k1, k2, lam):
    """The paper with sets and loops, in float64, on the full distance matrix."""
    f = np.concatenate([qf, gf]).astype(np.float64)
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    n, num_query = len(f), len(qf)
    d = np.maximum(2 - 2 * f @ f.T, 0)
    d /= d.max(1, keepdims=True)
    order = np.argsort(d, axis=1, kind="stable")

    def nearest(i, k):  # N(i, k), the image itself included
        return [int(j) for j in order[i, : k + 1]]

    def reciprocal(i, k):  # Eq. 3
        return {j for j in nearest(i, k) if i in nearest(j, k)}

    v = np.zeros((n, n))
    for i in range(n):
        own = reciprocal(i, k1)
        star = set(own)
        for q in own:  # Eq. 4
            other = reciprocal(q, round(k1 / 2))
            if 3 * len(own & other) > 2 * len(other):
                star |= other
        for j in star:  # Eq. 7
            v[i, j] = np.exp(-d[i, j])
        if star:
            v[i] /= v[i].sum()
    v = np.stack([v[order[i, :k2]].mean(0) for i in range(n)])  # Eq. 11
    out = np.zeros((num_query, n - num_query))
    for q in range(num_query):
        for g in range(num_query, n):
            low, high = np.minimum(v[q], v[g]).sum(), np.maximum(v[q], v[g]).sum()
            jaccard = 1 - low / high if high else 1.0  # Eq. 10
            out[q, g - num_query] = (1 - lam) * jaccard + lam * d[q, g]  # Eq. 12
    return out


def clusters(num_ids=8, per_id=9, dim=16, noise=0.9, seed=0):
    """Features of `num_ids` people, with identities and two alternating cameras."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(num_ids), per_id)
    features = rng.normal(size=(num_ids, dim))[pids] + noise * rng.normal(size=(len(pids), dim))
    cams = np.tile(np.arange(per_id) % 3 + 1, num_ids)
    is_query = np.tile(np.arange(per_id) < 2, num_ids)
    return features, pids, cams, is_query


SETTINGS = [(20, 6, 0.3), (6, 3, 0.3), (5, 1, 0.0), (1, 1, 0.5), (4, 9, 1.0), (200, 4, 0.2)]


@pytest.mark.parametrize("k1, k2, lam", SETTINGS)
def test_matches_the_slow_reference(k1, k2, lam):
    f, _, _, is_query = clusters()
    expected = reference(f[is_query], f[~is_query], k1, k2, lam)
    got = rerank(f[is_query], f[~is_query], k1=k1, k2=k2, lambda_value=lam)
    assert got.shape == expected.shape and got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-12)
    single = rerank(f[is_query].astype(np.float32), f[~is_query].astype(np.float32), k1, k2, lam)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_k2_of_one_is_no_expansion_also_for_a_row_of_zeros():
    """Which is equally far from all and so has row 0, the query, for its first neighbour."""
    q = np.array([[1.0, 0, 0]])
    g = np.array([[0, 0, 0], [1, 0.1, 0], [0, 1, 0.2], [0.9, 0.3, 0], [0, 0, 1]])
    found = rerank(q, g, k1=3, k2=1, lambda_value=0)[0]
    assert found[0] == pytest.approx(0.740, abs=1e-3) and np.argsort(found).tolist().index(0) == 2


def test_equal_distances_are_ordered_by_row_number():
    rng = np.random.default_rng(1)
    one_hot = np.eye(4)[rng.integers(0, 4, size=30)]  # distances are exactly 0 or 2: ties everywhere
    expected = reference(one_hot[:7], one_hot[7:], 5, 3, 0.3)
    np.testing.assert_allclose(rerank(one_hot[:7], one_hot[7:], 5, 3, 0.3), expected, atol=1e-12)


def test_stable_smallest_is_a_stable_argsort():
    d = torch.randint(0, 4, (50, 23), generator=torch.Generator().manual_seed(0)).float()
    for k in (1, 5, 22, 23, 40):
        assert torch.equal(stable_smallest(d, k), d.argsort(dim=1, stable=True)[:, :k])


def test_strips_do_not_change_the_result(monkeypatch):
    from reidkit.evaluation import reranking

    f, _, _, is_query = clusters(num_ids=30)
    whole = rerank(f[is_query], f[~is_query])
    monkeypatch.setattr(reranking, "STRIP_BYTES", 1)  # 64 rows a strip, queries and gallery in one of them
    np.testing.assert_allclose(rerank(f[is_query], f[~is_query]), whole, atol=1e-12)


def test_scale_of_features_is_irrelevant_and_kind_is_kept():
    f, _, _, is_query = clusters()
    q, g = torch.from_numpy(f[is_query]), torch.from_numpy(f[~is_query])
    got = rerank(q * 7, g * 0.1)
    assert isinstance(got, torch.Tensor)
    np.testing.assert_allclose(got.numpy(), rerank(f[is_query], f[~is_query]), atol=1e-9)
    assert torch.equal(q, torch.from_numpy(f[is_query]))  # inputs are left alone


def test_improves_clustered_features():
    f, pids, cams, is_query = clusters(num_ids=20, per_id=12, dim=64, noise=1.6)
    labels = pids[is_query], pids[~is_query], cams[is_query], cams[~is_query]
    before = evaluate_ranking(f[is_query], f[~is_query], *labels)
    after = evaluate_distance(rerank(f[is_query], f[~is_query], k1=8, k2=3), *labels)
    assert after.mAP > before.mAP + 0.1


def test_bad_input_is_named():
    f, _, _, is_query = clusters()
    q, g = f[is_query], f[~is_query].copy()
    g[11, 3] = np.nan
    with pytest.raises(ReIDKitError, match=r"gallery features: row 11"):
        rerank(q, g)
    for name in ("k1", "k2"):
        for value in (0, 2.5, "3"):
            with pytest.raises(ReIDKitError, match=f"{name} must be at least 1, a whole number"):
                rerank(q, q, **{name: value})
    with pytest.raises(ReIDKitError, match=r"lambda_value must be from 0 to 1, got 1\.5"):
        rerank(q, q, lambda_value=1.5)
    with pytest.raises(ReIDKitError, match="16 columns, gallery features 5"):
        rerank(q, q[:, :5])


def test_no_matrix_of_all_images(monkeypatch):
    """[N, N] would be 16 MB: what is made at one time is a strip of it, and the entries of the sparse V."""
    rng = np.random.default_rng(0)
    q, g = rng.normal(size=(100, 8)).astype(np.float32), rng.normal(size=(1900, 8)).astype(np.float32)
    monkeypatch.setattr(reranking, "STRIP_BYTES", 64 * 4 * 2000)
    with Operators() as operators:
        rerank(q, g, k1=4, k2=2, progress=False)
    assert operators.largest < 2000 * 2000


def test_memory_does_not_grow_with_the_cube_of_k1(monkeypatch):
    """Neighbours' neighbours are looked at a few rows at a time, however many they are: PAIRS of them, or one row's."""
    f, _, _, is_query = clusters(num_ids=10, per_id=20)
    largest, gather = [], torch.Tensor.gather
    monkeypatch.setattr(
        torch.Tensor, "gather", lambda t, dim, index: largest.append(index.numel()) or gather(t, dim, index)
    )
    monkeypatch.setattr(reranking, "PAIRS", 2**14)
    found = rerank(f[is_query], f[~is_query], k1=10**9, k2=3)
    row = len(f) ** 2
    assert max(largest) <= max(2**14, row)
    monkeypatch.undo()
    np.testing.assert_allclose(found, rerank(f[is_query], f[~is_query], k1=len(f) - 1, k2=3), atol=1e-12)
