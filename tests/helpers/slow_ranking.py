"""A slow, independent evaluator of rankings, and problems to set it: by hand, at random, and full of ties."""

import numpy as np
import pytest
from needs import need

need("hypothesis")
from hypothesis import strategies as st


def reference(distance, q_pids, g_pids, q_cams, g_cams, ap="step", junk_pids=(-1,)):
    """Sort, drop, walk down the list. Returns (mAP, mINP, cmc, per-query list of (ap, inp, first rank) or None)."""
    rows, num_gallery = [], len(g_pids)
    for i in range(len(q_pids)):
        order = np.argsort(distance[i], kind="stable")
        hits = []
        for g in order:
            if g_pids[g] in junk_pids or (g_pids[g] == q_pids[i] and g_cams[g] == q_cams[i]):
                continue
            hits.append(bool(g_pids[g] == q_pids[i]))
        if not any(hits):
            rows.append(None)
            continue
        area, old_recall, old_precision, found = 0.0, 0.0, 1.0, 0
        for position, hit in enumerate(hits, 1):
            found += hit
            recall, precision = found / sum(hits), found / position
            if ap == "trapezoid":
                area += (recall - old_recall) * (old_precision + precision) / 2
            else:
                area += (recall - old_recall) * precision
            old_recall, old_precision = recall, precision
        last = max(p for p, hit in enumerate(hits, 1) if hit)
        rows.append((area, sum(hits) / last, hits.index(True) + 1))
    valid = [r for r in rows if r]
    cmc = [np.mean([r[2] <= k for r in valid]) for k in range(1, num_gallery + 1)] if valid else None
    return *(np.mean([r[c] for r in valid]) if valid else None for c in (0, 1)), cmc, rows


def compare(result, expected):
    mean_ap, mean_inp, cmc, rows = expected
    assert result.mAP == pytest.approx(mean_ap, abs=1e-12)
    assert result.mINP == pytest.approx(mean_inp, abs=1e-12)
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-12)
    assert result.excluded == rows.count(None)
    for got, row in zip(result.per_query.itertuples(), rows, strict=True):
        if row is None:
            assert np.isnan([got.ap, got.inp, got.first_hit_rank]).all() and got.matches == 0
        else:
            assert (got.ap, got.inp, got.first_hit_rank) == pytest.approx(row, abs=1e-12)


# A query of identity 7, camera 1. Sorted by distance: match, junk, other, same camera, match, other, other, match.
# Without junk and same camera the matches stand at ranks 1, 3 and 6.
HAND = {
    "distance": [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]],
    "q_pids": [7],
    "g_pids": [7, -1, 5, 7, 7, 0, 3, 7],
    "q_camids": [1],
    "g_camids": [2, 2, 1, 1, 3, 1, 2, 2],
}


@st.composite
def problems(draw):
    """Small problems full of ties, junk, distractors, single-camera identities and queries without a match."""
    num_query, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 17))
    ints = lambda low, high, n: np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n)))  # noqa: E731
    distance = ints(0, 3, num_query * num_gallery).reshape(num_query, num_gallery)
    return (distance, ints(-1, 3, num_query), ints(-1, 3, num_gallery), ints(1, 3, num_query), ints(1, 3, num_gallery))


def random_problem(num_query=37, num_gallery=211, dim=13, seed=0, integer=False):
    rng = np.random.default_rng(seed)
    draw = (
        (lambda n: rng.integers(-2, 3, size=(n, dim)).astype(np.float32))
        if integer
        else (lambda n: rng.normal(size=(n, dim)).astype(np.float32))
    )
    labels = (
        rng.integers(0, 9, num_query),
        rng.integers(-1, 9, num_gallery),
        rng.integers(1, 5, num_query),
        rng.integers(1, 5, num_gallery),
    )
    return draw(num_query), draw(num_gallery), labels


def distances(qf, gf, metric):
    qf, gf = np.asarray(qf, np.float64), np.asarray(gf, np.float64)
    if metric == "euclidean":
        return ((qf[:, None] - gf[None]) ** 2).sum(-1)
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (qf, gf)]
    return 1 - unit[0] @ unit[1].T
