"""Rankings of features far from the origin, spread over many sizes or pointing one way, against float64 differences."""

import numpy as np
import pytest
import torch
from needs import need
from slow_ranking import compare, distances, reference

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.errors import ReIDKitError
from reidkit.evaluation import evaluate_ranking, rank, rerank, top_k
from reidkit.evaluation import scores as scores_module

OFFSETS = (0, 30, 300, 1000, 1e4)


def people(offset=0.0, dtype=np.float32, seed=0, dim=64):
    """Features of 20 people, all moved by `offset`, and labels without junk."""
    rng = np.random.default_rng(seed)
    q_pids, g_pids = np.arange(40) % 20, np.arange(300) % 20
    centres = 0.5 * rng.normal(size=(20, dim))
    q, g = (centres[p] + rng.normal(size=(len(p), dim)) + offset for p in (q_pids, g_pids))
    return q.astype(dtype), g.astype(dtype), (q_pids, g_pids, 0 * q_pids, 0 * g_pids + 1)


def equals_reference(q, g, labels, metric="euclidean", **options):
    result = evaluate_ranking(q, g, *labels, metric=metric, **options)
    compare(result, reference(distances(q, g, metric), *labels))
    order = rank(q, g, metric=metric, **options)
    assert np.array_equal(order, np.argsort(distances(q, g, metric), axis=1, kind="stable"))
    return result


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_offset_changes_no_euclidean_ranking(offset, dtype):
    q, g, labels = people(offset, dtype, dim=256)
    got = equals_reference(q, g, labels)
    if dtype != np.float16:  # which keeps little of them beside 1,000
        q, g, labels = people(0, np.float64, dim=256)
        assert got.mAP == pytest.approx(evaluate_ranking(q, g, *labels, metric="euclidean").mAP, abs=1e-3)


def test_the_case_of_a_constant_in_every_column():
    """200 queries, 1,000 images, 256 columns: at an offset of 1,000 plain float32 products give Rank-1 0.03."""
    r = np.random.default_rng(0)
    pid_q, pid_g = np.arange(200) % 100, np.arange(1000) % 100
    c = 0.35 * r.normal(size=(100, 256))
    q, g = c[pid_q] + r.normal(size=(200, 256)), c[pid_g] + r.normal(size=(1000, 256))
    for offset in (0, 30, 300, 1000):
        got = evaluate_ranking(
            (q + offset).astype("f4"),
            (g + offset).astype("f4"),
            pid_q,
            pid_g,
            0 * pid_q,
            0 * pid_g + 1,
            metric="euclidean",
        )
        assert got.rank(1) == pytest.approx(0.35)


def test_bfloat16_and_a_sum_beyond_float16():
    """300 rows of 60,000: their sum, and so a mean taken in float16, overflows."""
    q, g, labels = people(0)
    q, g = (torch.from_numpy(f).mul(8).to(torch.bfloat16).add(500) for f in (q, g))
    equals_reference(q.double().numpy(), g.double().numpy(), labels)
    assert np.array_equal(rank(q, g, metric="euclidean"), rank(q.double(), g.double(), metric="euclidean"))
    q, g, labels = people(0)
    q, g = ((32 * np.round(f) + 60000).astype(np.float16) for f in (q, g))
    assert np.isfinite(g).all() and g.astype(np.float64).sum(0).min() > 65504
    equals_reference(q, g, labels)


@pytest.mark.parametrize("far", [1e3, 1e6, 1e8])
def test_a_few_far_rows_disturb_nobody(far):
    q, g, labels = people(1000)
    g[[5, 100, 200]] += np.float32(far)
    q[7] += np.float32(far)  # and a query that lies among them
    equals_reference(q, g, labels)


def test_two_far_groups_and_lengths_of_many_sizes():
    q, g, labels = people(0)
    rng = np.random.default_rng(1)
    side_q, side_g = (np.sign(rng.normal(size=(len(f), 1))).astype(np.float32) for f in (q, g))
    equals_reference(q + 1000 * side_q, g + 1000 * side_g, labels)
    scale_q, scale_g = (10 ** rng.uniform(-4, 4, size=(len(f), 1)).astype(np.float32) for f in (q, g))
    equals_reference(q * scale_q, g * scale_g, labels)
    equals_reference(q * scale_q, g * scale_g, labels, metric="cosine")


def test_double_features_farther_still():
    """At 10 million float64 products alone fail as well; the centre is needed."""
    q, g, labels = people(1e7, np.float64)
    equals_reference(q, g, labels)
    order, scores = rank(q, g, metric="euclidean", return_scores=True)
    np.testing.assert_allclose(scores**2, np.take_along_axis(distances(q, g, "euclidean"), order, 1), rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(OFFSETS), st.integers(1, 90), st.sampled_from(["f2", "f4", "f8"]))
def test_moved_and_repeated_rows(seed, offset, block, dtype):
    """Quarters, so that distances tie exactly, and rows that occur several times."""
    rng = np.random.default_rng(seed)
    if dtype == "f2":
        offset = min(offset, 300)  # quarters up to 512 are exact there
    kinds = rng.integers(-6, 7, size=(12, 5)) / 4 + offset
    q, g = (kinds[rng.integers(0, 12, n)].astype(dtype) for n in (9, 60))
    labels = rng.integers(0, 4, 9), rng.integers(-1, 4, 60), rng.integers(0, 3, 9), rng.integers(0, 3, 60)
    expected = reference(distances(q, g, "euclidean"), *labels)
    if expected[0] is not None:
        compare(evaluate_ranking(q, g, *labels, metric="euclidean", block=block), expected)
    order, scores = rank(q, g, metric="euclidean", return_scores=True, block=block)
    assert np.array_equal(order, np.argsort(distances(q, g, "euclidean"), axis=1, kind="stable"))
    assert np.array_equal(scores == 0, (q[:, None] == g[order]).all(-1))


@pytest.mark.parametrize("offset", OFFSETS)
def test_equal_rows_are_at_distance_zero(offset):
    q, g, _ = people(offset)
    g[[3, 77]] = q[0]
    table = top_k(q[0], g, 3, metric="euclidean")
    assert table.gallery_index[:2].tolist() == [3, 77] and table.score[:2].tolist() == [0, 0]
    order, scores = rank(q[:1], g, metric="euclidean", return_scores=True)
    assert order[0, :2].tolist() == [3, 77] and scores[0, :2].tolist() == [0, 0] and (scores[0, 2:] < 0).all()
    np.testing.assert_allclose(-(scores[0] ** 2), -distances(q[:1], g, "euclidean")[0, order[0]], rtol=1e-9)
    np.testing.assert_allclose(table.score, scores[0, :3], rtol=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_top_k_rank_and_evaluation_agree(metric, offset):
    q, g, labels = people(offset)
    order = rank(q, g, 25, metric)
    result = evaluate_ranking(q, g, *labels, metric=metric)
    for i in range(0, 40, 8):
        table = top_k(q[i], g, 25, q_pid=labels[0][i], q_camid=0, g_pids=labels[1], g_camids=labels[3], metric=metric)
        assert table.gallery_index.tolist() == order[i].tolist()
        assert np.flatnonzero(table.correct)[0] + 1 == result.per_query.first_hit_rank[i]


@pytest.mark.parametrize("offset", [30, 100, 1000])
def test_cosine_of_features_that_point_one_way(offset):
    """Their cosines differ by 1e-3 and less: float32 features are ranked in float64, re-ranking included."""
    q, g, labels = people(offset)
    equals_reference(q, g, labels, metric="cosine")
    wide = rerank(q.astype(np.float64), g.astype(np.float64), k1=8, k2=3)
    np.testing.assert_allclose(rerank(q, g, k1=8, k2=3), wide, atol=1e-12)


@pytest.mark.parametrize("num_groups", [2, 5])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_cosine_of_a_few_far_groups(num_groups, kind):
    """Rows far out on an axis each: within a group cosines differ by 1e-7 and less."""
    q, g, labels = people(0)
    for rows, pids in ((q, labels[0]), (g, labels[1])):
        rows[np.arange(len(rows)), pids % num_groups] += 10_000
    result = equals_reference(kind(q), kind(g), labels, metric="cosine")
    wide = evaluate_ranking(q.astype(np.float64), g.astype(np.float64), *labels)
    assert result.mAP == wide.mAP
    assert isinstance(rerank(q, g), np.ndarray) and rerank(q, g).dtype == np.float64


@pytest.mark.parametrize("scale", [1e-18, 1e-20, 1e-23, 1e-30])
def test_cosine_of_rows_whose_squares_underflow(scale):
    q, g, labels = people(0)
    q, g = (rows.astype(np.float64) * scale for rows in (q, g))
    ours = equals_reference(q.astype(np.float32), g.astype(np.float32), labels, metric="cosine")
    assert ours.mAP == pytest.approx(evaluate_ranking(q, g, *labels).mAP, abs=1e-3)


def test_rows_of_zeros_alone_keep_cosine_in_float32():
    q, g, _ = people(0)
    q[3], g[::3] = 0, 0
    ((_, strip),) = scores_module.score_strips(q, g, "cosine")
    assert strip.dtype == np.float32 and not strip[:, ::3].any()


def test_ordinary_cosine_stays_in_float32():
    q, g, _ = people(0)
    ((_, strip),) = scores_module.score_strips(q, g, "cosine")
    assert strip.dtype == np.float32 and rerank(q, g).dtype == np.float32
    products = torch.from_numpy(q) @ torch.from_numpy(g).T
    norms = (torch.from_numpy(g) * torch.from_numpy(g)).sum(1)
    assert np.array_equal(strip, (products * norms.rsqrt()).numpy())


def test_memory_mapped_features_far_from_the_origin(tmp_path):
    q, g, labels = people(1000)
    np.save(tmp_path / "g.npy", g)
    mapped = np.load(tmp_path / "g.npy", mmap_mode="r")
    equals_reference(q, mapped, labels, block=50)
    assert np.array_equal(np.load(tmp_path / "g.npy"), g)
    assert top_k(q[0], mapped, 1, metric="euclidean").gallery_index[0] == rank(q[:1], g, 1, "euclidean")[0, 0]


def test_inputs_are_left_alone():
    q, g, labels = people(1000, np.float64)
    before = q.copy(), g.copy()
    evaluate_ranking(q, g, *labels, metric="euclidean"), rank(q, g, metric="euclidean", return_scores=True)
    assert np.array_equal(q, before[0]) and np.array_equal(g, before[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", [3, slice(None)])
def test_rows_that_are_not_finite_are_named(value, column):
    q, g, labels = people(1000)
    g[150:, column] = value  # half of the rows, so of the sample as well
    with pytest.raises(ReIDKitError, match=r"gallery features: row 150 of 300 \(and 149 more rows"):
        evaluate_ranking(q, g, *labels, metric="euclidean")
    with pytest.raises(ReIDKitError, match=r"gallery features: row 150 of 300 \(and 149 more rows"):
        top_k(q[0], g, metric="euclidean")
    with pytest.raises(ReIDKitError, match="query features: row 150"):
        rank(g, q, metric="euclidean")


def test_memory_is_bounded_for_euclidean_too(monkeypatch):
    """One strip of scores and one moved block are alive at a time, never [Q, G]."""
    q, g, _ = people(1000)
    monkeypatch.setattr(scores_module, "STRIP_BYTES", 1)
    sizes, seen = [], scores_module.rows
    monkeypatch.setattr(
        scores_module,
        "rows",
        lambda m, start, stop, *a, **k: sizes.append(stop - start) or seen(m, start, stop, *a, **k),
    )
    strips = [strip.shape for _, strip in scores_module.score_strips(np.concatenate([q] * 4), g, "euclidean", block=32)]
    assert strips == [(64, 300)] * 2 + [(32, 300)]
    assert max(s for s in sizes if s not in (512, 256)) == 64  # 512: the sample of the centre, 256: for the lengths
