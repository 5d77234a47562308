"""Ranking metrics: a hand-worked example, a slow independent reference, and properties."""

import dataclasses
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from counting import Operators
from needs import need
from slow_ranking import HAND, compare, distances, problems, random_problem, reference

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from reidkit.bench.evaluate import synthetic_market
from reidkit.errors import ReIDKitError, UnknownNameError
from reidkit.evaluation import ranking as ranking_module
from reidkit.evaluation import scores as scores_module
from reidkit.evaluation import screening
from reidkit.evaluation.protocol import GroundTruth
from reidkit.evaluation.ranked_list import top_k
from reidkit.evaluation.ranking import (
    QUERY_METRICS,
    RankingResult,
    average_precision,
    evaluate_distance,
    evaluate_ranking,
    positive_ranks,
)


def test_by_hand():
    step = evaluate_distance(**HAND)
    assert step.mAP == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    assert step.mINP == pytest.approx(3 / 6)
    assert step.cmc.tolist() == [1.0] * 8 and step.rank(1) == 1.0 and step.excluded == 0
    assert step.per_query.to_dict("records") == [
        {"ap": pytest.approx(13 / 18), "inp": 0.5, "first_hit_rank": 1.0, "matches": 3}
    ]
    trapezoid = evaluate_distance(**HAND, ap="trapezoid")
    assert trapezoid.mAP == pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 5 + 3 / 6) / 2) / 3)
    assert trapezoid.mAP < step.mAP
    kept = evaluate_distance(**HAND, junk_pids=())  # pid -1 becomes a distractor: ranks 1, 4, 7
    assert kept.mAP == pytest.approx((1 / 1 + 2 / 4 + 3 / 7) / 3)


def test_cmc_by_hand():
    """First matches at ranks 1, 3 and 2; max_rank cuts the curve."""
    distance = np.array([[1, 2, 3, 4], [3, 2, 1, 4], [2, 1, 4, 3]], float)
    labels = {"q_pids": [1, 1, 1], "g_pids": [1, 2, 3, 4], "q_camids": [1, 1, 1], "g_camids": [2, 2, 2, 2]}
    result = evaluate_distance(distance, **labels)
    np.testing.assert_allclose(result.cmc, [1 / 3, 2 / 3, 1, 1])
    assert result.per_query.first_hit_rank.tolist() == [1, 3, 2]
    assert result.summary() == {
        "mAP": pytest.approx((1 + 1 / 3 + 1 / 2) / 3),
        "mINP": result.mINP,
        "rank1": pytest.approx(1 / 3),
        "rank5": 1.0,
        "rank10": 1.0,
    }
    assert len(evaluate_distance(distance, **labels, max_rank=2).cmc) == 2


def test_a_result_in_words_and_at_the_ends_of_its_curve():
    distance = np.array([[1, 2, 3, 4], [3, 2, 1, 4], [2, 1, 4, 3]], float)
    result = evaluate_distance(distance, [1, 1, 9], [1, 2, 3, 4], [1, 1, 1], [2, 2, 2, 2])
    assert repr(result) == (
        "RankingResult(mAP=0.6667, mINP=0.6667, rank1=0.5000, ap='step', camera_rule=True; 2 of 3 queries have a match)"
    )
    assert (result.rank(2), result.rank(3), result.rank(4), result.rank(99)) == (0.5, 1.0, 1.0, 1.0)
    for wrong in (0, -1):
        with pytest.raises(ReIDKitError, match=f"must be at least 1.*got {wrong}"):
            result.rank(wrong)
    short = evaluate_distance(distance, [1, 1, 9], [1, 2, 3, 4], [1, 1, 1], [2, 2, 2, 2], max_rank=1)
    assert short.cmc.tolist() == [0.5] and short.rank(10) == 1.0


def test_ready_distances_on_a_cpu_are_swept_there(monkeypatch):
    """Whole strips are compared at once on a GPU only (`counting`): on a CPU that reads each score many times."""
    monkeypatch.setattr(ranking_module, "device_ranks", lambda *a: pytest.fail("counted as on a GPU"))
    assert evaluate_distance(**HAND).mAP == evaluate_distance(**HAND, device="cpu").mAP == pytest.approx(13 / 18)


def test_average_precision_of_a_perfect_list_is_one():
    ranks = np.arange(1, 6)
    assert average_precision(ranks, "step") == average_precision(ranks, "trapezoid") == 1.0


def test_ties_follow_gallery_order():
    scores = np.array([5, 7, 5, 5, -np.inf, 1], np.float32)
    assert positive_ranks(scores, np.array([2, 3])).tolist() == [3, 4]
    assert positive_ranks(scores, np.array([0, 5])).tolist() == [2, 5]


@settings(max_examples=300, deadline=None)
@given(problems(), st.sampled_from(["step", "trapezoid"]), st.sampled_from([(-1,), (), (-1, 0)]))
def test_equals_the_slow_reference(problem, ap, junk_pids):
    expected = reference(*problem, ap, junk_pids)
    if expected[0] is None:
        with pytest.raises(ReIDKitError, match="true match"):
            evaluate_distance(*problem, ap=ap, junk_pids=junk_pids)
    else:
        compare(evaluate_distance(*problem, ap=ap, junk_pids=junk_pids), expected)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("ap", ["step", "trapezoid"])
@pytest.mark.parametrize("block", [1, 10, 64, 211, 5000])
def test_features_equal_the_slow_reference(metric, ap, block, monkeypatch):
    monkeypatch.setattr(scores_module, "STRIP_BYTES", 1)  # the shortest strips
    qf, gf, labels = random_problem(num_query=150)
    result = evaluate_ranking(qf, gf, *labels, metric=metric, ap=ap, block=block)
    compare(result, reference(distances(qf, gf, metric), *labels, ap))


@pytest.mark.parametrize("metric, apart", [("cosine", 0), ("euclidean", 0), ("euclidean", 1e5)])
def test_features_of_a_large_set_equal_the_slow_reference(metric, apart, monkeypatch):
    """Euclidean distances are screened first; of two far groups float32 leaves queries undecided."""
    monkeypatch.setattr(screening, "PAYS_FROM", 0)
    qf, gf, labels = random_problem(num_query=20, num_gallery=120)
    qf[::2] += apart
    gf[::2] += apart
    compare(evaluate_ranking(qf, gf, *labels, metric=metric), reference(distances(qf, gf, metric), *labels))


def test_tied_features_keep_gallery_order():
    """Small integers: products are exact, so equal distances are equal bits and many tie."""
    qf, gf, labels = random_problem(dim=3, integer=True)
    compare(
        evaluate_ranking(qf, gf, *labels, metric="euclidean", block=50),
        reference(distances(qf, gf, "euclidean"), *labels),
    )
    signs_q, signs_g = np.where(qf > 0, 1, -1), np.where(gf > 0, 1, -1)  # equal norms: cosines tie exactly
    compare(evaluate_ranking(signs_q, signs_g, *labels), reference(-(signs_q @ signs_g.T), *labels))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_types_of_input(dtype):
    qf, gf, labels = random_problem()
    q, g = torch.from_numpy(qf).to(getattr(torch, dtype)), torch.from_numpy(gf).to(getattr(torch, dtype))
    expected = reference(distances(q.double(), g.double(), "cosine"), *labels)
    compare(evaluate_ranking(q, g, *(torch.from_numpy(x) for x in labels)), expected)
    if dtype != "bfloat16":
        compare(evaluate_ranking(q.numpy(), g.numpy(), *(pd.Series(x) for x in labels)), expected)
    compare(
        evaluate_ranking(q[:, ::2], g[:, ::2], *map(list, labels)),  # not contiguous
        reference(distances(q[:, ::2].double(), g[:, ::2].double(), "cosine"), *labels),
    )


def test_memory_mapped_gallery_and_untouched_inputs(tmp_path, recwarn):
    qf, gf, labels = random_problem()
    np.save(tmp_path / "gf.npy", gf)
    mapped = np.load(tmp_path / "gf.npy", mmap_mode="r")
    expected = evaluate_ranking(qf, gf, *labels)
    assert evaluate_ranking(qf, mapped, *labels, block=20).mAP == expected.mAP
    assert not [w for w in recwarn if "writable" in str(w.message)]
    np.testing.assert_array_equal(gf, np.load(tmp_path / "gf.npy"))
    distance = distances(qf, gf, "cosine").astype(np.float32)
    before = distance.copy()
    assert evaluate_distance(distance, *labels).mAP == pytest.approx(expected.mAP, abs=1e-6)
    np.testing.assert_array_equal(distance, before)


def test_all_zero_features_score_zero():
    qf, gf = np.zeros((1, 4)), np.eye(4)[:3]
    result = evaluate_ranking(qf, gf, [1], [2, 1, 1], [1], [2, 2, 2])
    assert result.per_query.first_hit_rank.tolist() == [2]  # all tie: gallery order


def test_queries_without_a_match_are_counted():
    distance = np.array([[1.0, 2.0], [1.0, 2.0]])
    result = evaluate_distance(distance, [1, 9], [1, 2], [1, 1], [2, 2])
    assert result.excluded == 1 and result.mAP == 1.0 and result.per_query.ap.isna().tolist() == [False, True]


def test_each_metric_is_the_mean_of_the_values_of_its_queries():
    """Against the slow reference; one query has no match, one has a single match."""
    _, _, labels = random_problem(num_query=12, seed=3)
    labels[0][[2, 5]] = 77, 78  # identities that the gallery lacks ...
    labels[1][0], labels[3][0], labels[2][5] = 78, 1, 2  # ... and has once
    distance = np.random.default_rng(3).random((12, 211))
    result, (*_, rows) = evaluate_distance(distance, *labels), reference(distance, *labels)
    assert result.excluded == 1 and result.per_query.matches[5] == 1
    expected = {
        metric: {query: value(row) for query, row in enumerate(rows) if row}
        for metric, value in (("mAP", lambda r: r[0]), ("mINP", lambda r: r[1]), ("rank1", lambda r: float(r[2] == 1)))
    }
    assert set(expected["rank1"].values()) == {0.0, 1.0}
    for metric in QUERY_METRICS:
        values = result.of_queries(metric)
        assert values.to_dict() == pytest.approx(expected[metric]) and 2 not in values.index
        assert values.mean() == pytest.approx(result.summary()[metric])


def test_a_result_is_one_of_the_protocol_unless_it_says_otherwise():
    result = RankingResult(0.5, 0.5, np.ones(10), pd.DataFrame({"matches": [1]}), 0, "step")
    assert result.camera_rule and "camera_rule" not in result.summary()
    assert dataclasses.replace(result, camera_rule=False).summary()["camera_rule"] is False


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_rows_are_named(value):
    qf, gf, labels = random_problem()
    broken = gf.copy()
    broken[[120, 130], 4] = value
    with pytest.raises(ReIDKitError, match=r"gallery features: row 120 of 211 \(and 1 more rows: \[130\]\)"):
        evaluate_ranking(qf, broken, *labels, block=50)
    with pytest.raises(ReIDKitError, match="query features: row 120"):
        evaluate_ranking(broken, gf, labels[1], labels[1], labels[3], labels[3])
    distance = distances(qf, gf, "cosine")
    distance[33, 7] = value
    with pytest.raises(ReIDKitError, match="distance matrix: row 33 of 37"):
        evaluate_distance(distance, *labels)


def test_bad_arguments_are_named():
    qf, gf, labels = random_problem()
    with pytest.raises(UnknownNameError, match="cosine"):
        evaluate_ranking(qf, gf, *labels, metric="cosin")
    with pytest.raises(UnknownNameError, match="step, trapezoid"):
        evaluate_ranking(qf, gf, *labels, ap="area")
    with pytest.raises(ReIDKitError, match=r"37 query and 210 gallery rows.*211 gallery pids"):
        evaluate_ranking(qf, gf[:-1], *labels)
    with pytest.raises(ReIDKitError, match="13 columns, gallery features 12"):
        evaluate_ranking(qf, gf[:, 1:], *labels)
    with pytest.raises(ReIDKitError, match=r"g_camids: expected shape \[211\]"):
        evaluate_ranking(qf, gf, labels[0], labels[1], labels[2], labels[3][:-1])
    with pytest.raises(ReIDKitError, match="q_pids: expected integers, got float64"):
        evaluate_ranking(qf, gf, labels[0] + 0.5, *labels[1:])
    with pytest.raises(ReIDKitError, match="query is empty"):
        evaluate_distance(np.zeros((1, 3)), [], [1, 2, 3], [], [1, 1, 1])
    with pytest.raises(ReIDKitError, match="under the query's own camera: check the camids"):
        evaluate_distance(np.zeros((1, 2)), [1], [1, 2], [1], [1, 1])
    with pytest.raises(ReIDKitError, match="block must be"):
        evaluate_ranking(qf, gf, *labels, block=0)
    for value in (0, 2.5):
        with pytest.raises(ReIDKitError, match="max_rank must be at least 1, a whole number"):
            evaluate_distance(**HAND, max_rank=value)
    if not torch.cuda.is_available():
        with pytest.raises(ReIDKitError, match="sees no CUDA GPU here"):
            evaluate_ranking(qf, gf, *labels, device="cuda")
    with pytest.raises(UnknownNameError, match="gpu"):
        evaluate_ranking(qf, gf, *labels, device="gpu")


@pytest.mark.parametrize("max_rank", [1, 2, 7])
def test_a_short_curve_changes_no_number(max_rank):
    qf, gf, labels = random_problem()
    whole, cut = evaluate_ranking(qf, gf, *labels), evaluate_ranking(qf, gf, *labels, max_rank=max_rank)
    assert len(cut.cmc) == max_rank and np.array_equal(cut.cmc, whole.cmc[:max_rank])
    assert cut.summary() == whole.summary() and whole.rank(10) > whole.rank(1)
    assert [cut.rank(k) for k in (3, 50, 10**6)] == [whole.rank(k) for k in (3, 50, 10**6)]
    with pytest.raises(ReIDKitError, match="k of Rank-k must be"):
        cut.rank(0)


@pytest.mark.parametrize("junk", [-1, {-1}, None, [1.5], ["-1"], [[-1]], [2**63]])
def test_junk_is_a_list_of_integers(junk):
    qf, gf, labels = random_problem()
    with pytest.raises(ReIDKitError, match="junk_pids: "):
        evaluate_ranking(qf, gf, *labels, junk_pids=junk)
    assert GroundTruth(*labels, junk_pids=[]).junk.size == 0


def test_labels_beyond_int64_are_refused_and_not_wrapped_round_to_junk():
    qf, gf, labels = random_problem()
    pids = labels[1].astype(np.uint64)
    pids[5] = 2**64 - 1
    with pytest.raises(ReIDKitError, match="g_pids: 18446744073709551615 does not fit"):
        evaluate_ranking(qf, gf, labels[0], pids, *labels[2:])


@pytest.mark.parametrize("kind", [bool, complex, np.longdouble])
def test_what_is_no_real_number_is_refused_as_an_array_and_as_a_tensor(kind):
    qf, gf, labels = random_problem()
    with pytest.raises(ReIDKitError, match="gallery features: expected real numbers"):
        evaluate_ranking(qf, gf.astype(kind), *labels)
    if kind is not np.longdouble:  # which torch does not know
        with pytest.raises(ReIDKitError, match="gallery features: expected real numbers"):
            evaluate_ranking(qf, torch.from_numpy(gf.astype(kind)), *labels)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">i4"])
def test_bytes_in_the_other_order_are_the_same_numbers(dtype):
    qf, gf, labels = random_problem()
    theirs = [(8 * rows).astype(dtype) for rows in (qf, gf)]
    expected = evaluate_ranking(*(rows.astype(np.float64) for rows in theirs), *labels)
    found = evaluate_ranking(*theirs, *(np.asarray(column).astype(">i8") for column in labels))
    pd.testing.assert_frame_equal(found.per_query, expected.per_query)


def test_ground_truth_by_hand():
    truth = GroundTruth([7, -1, 4], HAND["g_pids"], [1, 1, 1], HAND["g_camids"])
    assert [x.tolist() for x in truth.of(0)] == [[0, 4, 7], [1, 3]]
    assert [x.tolist() for x in truth.of(1)] == [[], [1]]
    assert [x.tolist() for x in truth.of(2)] == [[], [1]]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_top_k_agrees_with_evaluation(metric):
    qf, gf, labels = random_problem()
    per_query = evaluate_ranking(qf, gf, *labels, metric=metric).per_query
    distance = distances(qf, gf, metric)
    for i in range(5):
        ids = {"q_pid": labels[0][i], "q_camid": labels[2][i], "g_pids": labels[1], "g_camids": labels[3]}
        table = top_k(qf[i], torch.from_numpy(gf), 1000, metric=metric, **ids)
        assert not table.junk.any()
        assert table.correct.idxmax() + 1 == per_query.first_hit_rank[i]
        everything = top_k(qf[i], gf, 1000, metric=metric, drop_junk=False, **ids)
        assert everything.gallery_index.tolist() == np.argsort(distance[i], kind="stable").tolist()
        expected = 1 - distance[i] if metric == "cosine" else -np.sqrt(distance[i])
        np.testing.assert_allclose(everything.score, expected[everything.gallery_index], atol=1e-5)
        assert everything[~everything.junk].gallery_index.tolist() == table.gallery_index.tolist()
    assert list(top_k(qf[0], gf, 3, **ids).columns) == ["gallery_index", "score", "correct", "junk"]
    with pytest.raises(ReIDKitError, match="k must be"):
        top_k(qf[0], gf, 0, **ids)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_cost_is_one_product_and_no_sorting(monkeypatch, metric):
    """Why it costs little more than the bare product: one product, then counting (`reidkit bench evaluate`)."""
    queries, gallery, dim, strip = 300, 4000, 32, 64
    data = synthetic_market(queries, gallery, dim)
    monkeypatch.setattr(scores_module, "STRIP_BYTES", strip * 4 * gallery)
    ranked = []
    monkeypatch.setattr(ranking_module, "positive_ranks", lambda *a: ranked.append(1) or positive_ranks(*a))
    evaluate = lambda: evaluate_ranking(data.qf, data.gf, *data.labels, metric=metric)  # noqa: E731
    with FlopCounterMode(display=False) as flops, Operators() as operators:
        result = evaluate()
    sample = len(scores_module.sampled(data.gf, count=128))  # of the gallery, looked at twice: is float32 enough?
    looks = 2 * 2 * sample * sample * dim if metric == "cosine" else 0
    assert flops.get_total_flops() == 2 * queries * gallery * dim + looks
    width = 8 if metric == "euclidean" else 4  # bytes of a score: Euclidean ones are exact in float64
    assert not {"sort", "argsort", "topk"} & set(operators.calls) and operators.largest <= width * strip * gallery
    assert len(ranked) == queries - result.excluded
    tracemalloc.start()  # NumPy's arrays; torch's are among the operators
    evaluate()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < queries * gallery  # bytes: a quarter of the float32 matrix


def test_memory_is_bounded_by_the_strip(monkeypatch):
    """What is alive at one time: one strip of scores and one converted block, never [Q, G]."""
    data = synthetic_market(num_query=400, num_gallery=3000, dim=8)
    monkeypatch.setattr(scores_module, "STRIP_BYTES", 64 * 4 * 3000)
    sizes = [strip.shape for _, strip in scores_module.score_strips(data.qf, data.gf, "cosine", block=100)]
    assert sizes == [(64, 3000)] * 6 + [(16, 3000)]
