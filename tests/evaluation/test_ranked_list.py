"""Ranked lists without labels, and rankings without the camera rule."""

import numpy as np
import pandas as pd
import pytest
import torch
from needs import need
from slow_ranking import HAND, compare, distances, problems, random_problem, reference

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.errors import ReIDKitError, UnknownNameError
from reidkit.evaluation import evaluate_distance, evaluate_ranking, queries_without_match, rank, top_k
from reidkit.evaluation import scores as scores_module
from reidkit.evaluation.protocol import GroundTruth
from reidkit.evaluation.ranked_list import best


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 7, 211, 5000, None])
def test_rank_is_a_stable_sort(metric, k, monkeypatch):
    monkeypatch.setattr(scores_module, "STRIP_BYTES", 1)  # the shortest strips
    qf, gf, _ = random_problem(num_query=150)
    d = distances(qf, gf, metric)
    order, scores = rank(qf, torch.from_numpy(gf), k, metric, return_scores=True, block=50)
    expected = np.argsort(d, axis=1, kind="stable")[:, :k]
    assert order.dtype == np.int64 and np.array_equal(order, expected)
    readable = 1 - d if metric == "cosine" else -np.sqrt(d)
    np.testing.assert_allclose(scores, np.take_along_axis(readable, expected, 1), atol=1e-6)
    assert np.array_equal(rank(qf, gf, k, metric), order)


def test_rank_as_it_is_written_in_a_notebook():
    f = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.1], [1.0, 1.0], [0.0, 0.0]])
    assert rank(f[:1], f[1:]).tolist() == [[1, 2, 0, 3]]  # the zero row and the right angle tie: by row number
    _, scores = rank(f[:1], f[1:], 2, return_scores=True)
    assert scores[0] == pytest.approx([3 / np.hypot(3, 0.1), np.sqrt(0.5)])
    assert rank(f[:1], f[1:], metric="euclidean").tolist() == [[2, 3, 0, 1]]
    for query in (f[0], f[0].numpy(), f[0].tolist()):  # one query by itself: one list
        assert rank(query, f[1:]).tolist() == [1, 2, 0, 3] and rank(query, f[1:], 1).tolist() == [1]
        order, alone = rank(query, f[1:], 2, return_scores=True)
        assert order.tolist() == [1, 2] and alone == pytest.approx(scores[0])
    for options, message in (({"k": 0}, "k must be at least 1"), ({"metric": "cosin"}, "cosine")):
        with pytest.raises(ReIDKitError, match=message):
            rank(f[:1], f[1:], **options)
    with pytest.raises(UnknownNameError):
        rank(f[:1], f[1:], metric="l2")
    with pytest.raises(ReIDKitError, match=r"query features: expected a matrix .* got shape \[\]"):
        rank(f[0, 0], f[1:])
    with pytest.raises(ReIDKitError, match="gallery features: row 2"):
        rank(f[:1], torch.where(f == 3, torch.nan, f))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.data())
def test_best_keeps_ties_in_their_order(values, data):
    row = np.array(values, np.float32)
    k = data.draw(st.integers(1, len(row)))
    assert best(row, k).tolist() == np.argsort(-row, kind="stable")[:k].tolist()


def test_top_k_without_labels():
    qf, gf, labels = random_problem()
    table = top_k(qf[0], gf, 9)
    assert table.gallery_index.tolist() == rank(qf[:1], gf, 9)[0].tolist()
    assert table.correct.isna().all() and table.correct.dtype == "boolean" and not table.junk.any()
    full = top_k(
        qf[0], gf, 9, drop_junk=False, q_pid=labels[0][0], q_camid=labels[2][0], g_pids=labels[1], g_camids=labels[3]
    )
    assert full.gallery_index.tolist() == table.gallery_index.tolist() and full.correct.dtype == bool
    assert len(top_k(qf[0], gf, 1000)) == len(gf)


def test_top_k_with_some_labels():
    qf, gf, (q_pids, g_pids, _, g_cams) = random_problem()
    q_pids[0] = g_pids[5] = 3
    free = top_k(qf[0], gf, 1000, q_pid=3, g_pids=g_pids, camera_rule=False)  # cameras are not needed
    assert sorted(free.gallery_index) == np.flatnonzero(g_pids != -1).tolist()
    assert free.correct.tolist() == (g_pids[free.gallery_index] == 3).tolist()
    for given_labels, message in (
        ({"q_pid": 3}, "not both q_pid and g_pids"),
        ({"g_pids": g_pids}, "not both"),
        ({"q_camid": 1, "g_camids": g_cams}, "not both"),
        ({"q_pid": 3, "g_pids": g_pids}, "q_camids: .*camera_rule=False"),
        ({"q_pid": "anna", "g_pids": g_pids}, "q_pid: expected one integer, got 'anna'"),
        ({"q_pid": 3, "g_pids": g_pids[:4], "q_camid": 1, "g_camids": g_cams[:4]}, "4 gall"),
    ):
        with pytest.raises(ReIDKitError, match=message):
            top_k(qf[0], gf, 5, **given_labels)


def test_top_k_where_the_rule_leaves_nothing():
    """Zeros in place of unknown labels make every image the query's own identity under its own camera."""
    _, gf, _ = random_problem(num_gallery=9)
    zeros = {"q_pid": 0, "q_camid": 0, "g_pids": np.zeros(9, int), "g_camids": np.zeros(9, int)}
    with pytest.raises(ReIDKitError, match=r"removes all 9 gallery images.*pid 0 and its camera 0.*leave them out"):
        top_k(gf[0], gf, 5, **zeros)
    assert top_k(gf[0], gf, 5, **zeros, drop_junk=False).junk.all()
    assert top_k(gf[0], gf, 5, **zeros, camera_rule=False).correct.all()


def without_cameras(problem):
    """The same problem with cameras that never agree: what the rule would drop counts as a match."""
    distance, q_pids, g_pids, q_cams, g_cams = problem
    return distance, q_pids, g_pids, 0 * q_cams, 0 * g_cams + 1


@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from(["step", "trapezoid"]), st.sampled_from([(-1,), (), (-1, 0)]))
def test_without_the_camera_rule(problem, ap, junk_pids):
    distance, q_pids, g_pids, q_cams, g_cams = problem
    expected = reference(*without_cameras(problem), ap, junk_pids)
    for cameras in ((q_cams, g_cams), (None, None)):
        if expected[0] is None:
            with pytest.raises(ReIDKitError, match="true match"):
                evaluate_distance(distance, q_pids, g_pids, *cameras, ap, junk_pids, camera_rule=False)
        else:
            got = evaluate_distance(distance, q_pids, g_pids, *cameras, ap, junk_pids, camera_rule=False)
            compare(got, expected)


@settings(max_examples=200, deadline=None)
@given(problems(), st.booleans(), st.sampled_from([(-1,), (), (-1, 0)]))
def test_queries_without_match_equal_a_walk(problem, camera_rule, junk_pids):
    _, *labels = problem
    truth = GroundTruth(*labels, junk_pids, camera_rule)
    walk = [q for q in range(len(labels[0])) if not len(truth.of(q)[0])]
    assert queries_without_match(*labels, junk_pids, camera_rule).tolist() == walk


def test_queries_without_match_by_hand():
    labels = [1, 2, 3, -1, 9999999999], [1, 1, 2, -1, 9999999999], [1, 1, 1, 1, 1], [2, 1, 1, 2, 4]
    assert queries_without_match(*labels).tolist() == [1, 2, 3]
    assert queries_without_match(*labels, camera_rule=False).tolist() == [2, 3]
    assert queries_without_match(labels[0], labels[1], None, None, camera_rule=False).tolist() == [2, 3]
    assert queries_without_match(*map(pd.Series, labels), junk_pids=(-1, 1)).tolist() == [0, 1, 2, 3]
    with pytest.raises(ReIDKitError, match="gallery is empty"):
        queries_without_match([1], [], [1], [])
    with pytest.raises(ReIDKitError, match=r"q_pids: expected integers.*factorize"):
        queries_without_match(["anna"], [1], [1], [1])


def test_a_result_says_which_rule_it_followed():
    on, off = evaluate_distance(**HAND), evaluate_distance(**HAND, camera_rule=False)
    assert on.camera_rule and not off.camera_rule
    assert off.mAP == pytest.approx((1 / 1 + 2 / 3 + 3 / 4 + 4 / 7) / 4)  # ranks 1, 3, 4, 7: junk is gone
    assert "camera_rule" not in on.summary() and off.summary()["camera_rule"] is False
    assert "camera_rule=True" in repr(on) and "camera_rule=False" in repr(off) and "mAP=0.7222" in repr(on)
    assert "1 of 1 queries have a match" in repr(on)


def test_one_camera_is_refused_with_a_way_out():
    qf, gf, (q_pids, g_pids, _, _) = random_problem()
    one = np.ones(len(q_pids), int), np.ones(len(g_pids), int)
    with pytest.raises(ReIDKitError, match=r"own camera: check the camids.*camera_rule=False.*--no-camera-rule"):
        evaluate_ranking(qf, gf, q_pids, g_pids, *one)
    free = evaluate_ranking(qf, gf, q_pids, g_pids, *one, camera_rule=False)
    compare(free, reference(distances(qf, gf, "cosine"), q_pids, g_pids, *one[:1], 1 + one[1]))
    with pytest.raises(ReIDKitError, match="g_camids: the camera rule needs the cameras"):
        evaluate_ranking(qf, gf, q_pids, g_pids, one[0], None)
    with pytest.raises(ReIDKitError, match=r"same pid; camera_rule=False\).*share one numbering"):
        evaluate_ranking(qf, gf, q_pids + 100, g_pids, None, None, camera_rule=False)
