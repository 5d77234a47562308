"""Ranks counted on the device of the scores, and Euclidean ranks screened in float32: both against slow references."""

import numpy as np
import pytest
import torch
from counting import Operators
from needs import need
from slow_ranking import HAND, compare, distances, problems, random_problem, reference

need("hypothesis")
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reidkit.bench.evaluate import synthetic_market
from reidkit.errors import ReIDKitError
from reidkit.evaluation import counting, evaluate_ranking, ranking, screening
from reidkit.evaluation import scores as scores_module
from reidkit.evaluation.counting import device_ranks, padded, strip_ranks
from reidkit.evaluation.protocol import GroundTruth
from reidkit.evaluation.ranking import summarise
from reidkit.evaluation.scores import distance_strips, tensor_strips


def counted(distance, *labels, ap="step", junk_pids=(-1,), camera_rule=True):
    """The path that a GPU takes, on tensors of the CPU."""
    truth = GroundTruth(*labels, junk_pids, camera_rule)
    return summarise(device_ranks(distance_strips(np.asarray(distance, float)), truth), truth, ap, None)


def test_counted_by_hand():
    result = counted(*HAND.values())
    assert result.mAP == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3) and result.mINP == pytest.approx(3 / 6)


def test_rows_are_read_again_for_matches_that_tie_and_for_no_others(monkeypatch):
    """A row at a time here; lists of matches of different lengths."""
    monkeypatch.setattr(counting, "GATHERED_BYTES", 1)
    scores = torch.arange(40.0).flip(0).repeat(3, 1)  # [3, 40], the first image is the best
    positives = padded([np.array([0, 5]), np.array([3]), np.array([1, 2, 39])])
    chunks = []
    for query, image, score in ((0, 0, 39.0), (0, 7, 34.0), (2, 0, 0.0)):  # nothing new; as image 5; as image 39
        scores[query, image] = score
        with Operators() as operators:
            ranks = strip_ranks(scores, positives)
        chunks.append(operators.calls["index"])
    assert chunks[1] == chunks[0] and chunks[2] == 2 * chunks[0]  # one of no row, one of a row; two
    assert ranks[0].tolist()[:2] == [1, 6] and ranks[1, 0] == 4
    assert ranks[2].tolist() == [1, 2, 40]  # image 0 is now last but one: it comes before image 39


@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from([(-1,), (), (-1, 0)]), st.integers(1, 400))
def test_counting_equals_the_slow_reference(problem, junk_pids, gathered):
    """Full of ties; `gathered` bytes of tied rows at a time."""
    expected, before = reference(*problem, "step", junk_pids), counting.GATHERED_BYTES
    try:
        counting.GATHERED_BYTES = gathered
        if expected[0] is None:
            with pytest.raises(ReIDKitError, match="true match"):
                counted(*problem, junk_pids=junk_pids)
        else:
            compare(counted(*problem, junk_pids=junk_pids), expected)
    finally:
        counting.GATHERED_BYTES = before


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("camera_rule", [True, False])
def test_counting_of_features_equals_the_cpu(metric, camera_rule, monkeypatch):
    monkeypatch.setattr(scores_module, "STRIP_BYTES", 1)  # the shortest strips
    data = synthetic_market(num_query=150, num_gallery=700, dim=32)
    truth = GroundTruth(*data.labels, camera_rule=camera_rule)
    got = summarise(device_ranks(tensor_strips(data.qf, data.gf, metric, 100), truth), truth, "step", None)
    expected = evaluate_ranking(data.qf, data.gf, *data.labels, metric=metric, camera_rule=camera_rule)
    assert got.mAP == expected.mAP and got.excluded == expected.excluded
    np.testing.assert_array_equal(got.per_query, expected.per_query)


@pytest.fixture
def left_over(monkeypatch):
    """`evaluate_ranking` screens small sets too; how many queries each call left to float64."""
    numbers, swept = [], ranking.swept_ranks
    monkeypatch.setattr(screening, "PAYS_FROM", 0)
    monkeypatch.setattr(ranking, "swept_ranks", lambda *a: numbers.append(len(a[2])) or swept(*a))
    return numbers


@pytest.mark.parametrize("dim", [3, 64, 700])
@pytest.mark.parametrize("offset", [0, 30, 1000])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_screening_equals_exact_distances(dim, offset, dtype, left_over):
    q, g, labels = random_problem(num_query=60, num_gallery=500, dim=dim, seed=dim)
    q, g = (torch.from_numpy(f + np.float32(offset)).to(getattr(torch, dtype)) for f in (q, g))
    got = evaluate_ranking(q, g, *labels, metric="euclidean", block=128)
    compare(got, reference(distances(q.double(), g.double(), "euclidean"), *labels))
    assert not left_over or dtype == "bfloat16"  # which keeps few numbers beside 1,000: most tie


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0.0, 30.0, 1000.0]),
    st.sampled_from([0.0, 1e-5, 1e-3]),  # below 1e-6 of a row, float64's own products err as much
    st.sampled_from([1.0, 1e3, 1e-25]),
    st.sampled_from(["f2", "f4"]),
)
def test_screened_copies_and_near_copies(seed, offset, noise, far, dtype):
    """Rows that repeat, all but repeat, or lie far off: whatever is left undecided, the ranks are exact."""
    assume(offset * far < 1e5)  # beyond, float64's own products cannot part copies from near copies
    rng = np.random.default_rng(seed)
    kinds = rng.integers(-6, 7, size=(12, 20)) / 4 + offset
    q, g = (kinds[rng.integers(0, 12, n)] * (1 + noise * rng.normal(size=(n, 20))) for n in (15, 90))
    q[:2], g[:3] = q[:2] * far, g[:3] * far
    limit = float(np.finfo(dtype).max)
    q, g = (np.clip(f, -limit, limit).astype(dtype) for f in (q, g))
    labels = rng.integers(0, 4, 15), rng.integers(-1, 4, 90), rng.integers(0, 3, 15), rng.integers(0, 3, 90)
    expected = reference(distances(q, g, "euclidean"), *labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screening, "PAYS_FROM", 0)
        compare(evaluate_ranking(q, g, *labels, metric="euclidean"), expected)


def test_what_float32_cannot_decide_goes_to_float64(left_over):
    """Two far groups: within one, float32 products differ by chance only."""
    q, g, labels = random_problem(num_query=60, num_gallery=500)
    q[::2] += 1e5
    g[::2] += 1e5
    result = evaluate_ranking(q, g, *labels, metric="euclidean")
    compare(result, reference(distances(q, g, "euclidean"), *labels))
    assert len(left_over) == 1 and 0 < left_over[0] <= 60


def test_a_margin_is_learned_from_the_matches():
    """Scores that are off by more than float32's own roundings widen the margin: ranks stay exact."""
    q, g, labels = random_problem(num_query=40, num_gallery=300, dim=32)
    screen = screening.Screen(q, g)
    truth, scores = GroundTruth(*labels), np.empty((40, 300), np.float32)
    for start, strip in tensor_strips(q, g, "euclidean"):
        scores[start : start + len(strip)] = strip
    wrong = scores + 1e-4 * np.sign(np.random.default_rng(0).normal(size=scores.shape)).astype(np.float32)
    exact = distances(q, g, "euclidean")
    shift = screen.own / 2 - exact[:, 0] / 2 - scores[:, 0]  # their centre and ours differ by a constant a query
    wrong += shift[:, None].astype(np.float32)
    floor = screen.part
    for i in range(40):
        wrong[i, truth.of(i)[1]], exact[i, truth.of(i)[1]] = -np.inf, np.inf
    matches = screen.matches(0, wrong, [truth.of(i)[0] for i in range(40)])
    assert screen.part > 10 * floor
    settled = screen.settle([screen.sift(row, match) for row, match in zip(wrong, matches)])
    for i, (query, ranks) in enumerate(settled):
        place = np.empty(300, int)
        place[np.argsort(exact[i], kind="stable")] = np.arange(300)
        assert query == i and ranks.tolist() == sorted(place[matches[i].images] + 1)
    assert query == 39


def test_screening_is_for_large_single_precision_sets(monkeypatch):
    q, g, labels = random_problem()
    assert not screening.pays(q, g)
    monkeypatch.setattr(screening, "PAYS_FROM", 0)
    assert screening.pays(q, g) and screening.pays(torch.from_numpy(q).bfloat16(), g)
    assert not screening.pays(q, g.astype(np.float64)) and not screening.pays(q * np.float32(1e20), g)
    g[3, 2] = np.nan
    assert not screening.pays(q, g)
    with pytest.raises(ReIDKitError, match="gallery features: row 3 of 211"):
        evaluate_ranking(q, g, *labels, metric="euclidean")


def test_memory_mapped_features_are_screened(tmp_path, left_over):
    q, g, labels = random_problem()
    np.save(tmp_path / "g.npy", g)
    got = evaluate_ranking(q, np.load(tmp_path / "g.npy", mmap_mode="r"), *labels, metric="euclidean", block=50)
    compare(got, reference(distances(q, g, "euclidean"), *labels))
    assert not left_over
