"""CMC, mAP and mINP, exact, without sorting and without the [Q, G] matrix.

Average precision, CMC and mINP need one thing only: the ranks of the true matches. The rank of a match is one plus
the number of images that beat it, so it is *counted* (one comparison sweep over the row of scores) instead of read
off a sorted list of 20,000 entries.

Ties: of two images with the same score the one with the smaller gallery row comes first, as in a stable
`argsort`. Nothing else about the order of the gallery can change a result. "The same score" means the same bits of
the computed number: two copies of one row tie whenever the matrix product gives them the same bits (it may round
differently at the edge of a block), and rows that are multiples of each other, [1, 1] and [3, 3], have one cosine on
paper but not always in the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from reidkit.errors import ReIDKitError, unknown_name
from reidkit.evaluation.counting import device_ranks
from reidkit.evaluation.protocol import GroundTruth
from reidkit.evaluation.scores import (
    Metric,
    as_matrix,
    check_count,
    device_of,
    distance_strips,
    feature_pair,
    score_strips,
    tensor_strips,
    working_place,
)
from reidkit.evaluation.screening import pays, screened_ranks

APForm = Literal["step", "trapezoid"]
AP_FORMS: tuple[APForm, ...] = get_args(APForm)
QUERY_METRICS = ("mAP", "rank1", "mINP")  # those that are a mean over queries


@dataclass(frozen=True)
class RankingResult:
    """Retrieval quality of one query set against one gallery. Fractions in [0, 1].

    mAP, mINP: means over the queries that have a true match. cmc: [max_rank], `cmc[k-1]` is Rank-k.
    per_query: one row a query, in order: `ap`, `inp`, `first_hit_rank` (from 1), `matches` (number of true matches).
        A query without a true match has `matches` 0 and NaN elsewhere.
    excluded: how many queries had no true match and are in no mean.
    ap: the form of average precision, "step" or "trapezoid"; never put the two in one table.
    camera_rule: whether images under the query's own camera were left out (the protocol); likewise.
    """

    mAP: float
    mINP: float
    cmc: np.ndarray
    per_query: pd.DataFrame
    excluded: int
    ap: APForm
    camera_rule: bool = True

    def __repr__(self) -> str:
        return (
            f"RankingResult(mAP={self.mAP:.4f}, mINP={self.mINP:.4f}, rank1={self.rank(1):.4f}, ap={self.ap!r}, "
            f"camera_rule={self.camera_rule}; {len(self.per_query) - self.excluded} of {len(self.per_query)} "
            "queries have a match)"
        )

    def rank(self, k: int) -> float:
        """Rank-k: the fraction of queries with a true match among their first k."""
        check_count(k, "k of Rank-k")
        if k <= len(self.cmc):
            return float(self.cmc[k - 1])
        return float((self.per_query.first_hit_rank <= k).sum() / (len(self.per_query) - self.excluded))

    def of_queries(self, metric: str) -> pd.Series:
        """What `metric`, one of `QUERY_METRICS`, is the mean of: a value a query that has a match; index: its row."""
        table = self.per_query.loc[self.per_query.matches > 0]
        if metric == "rank1":
            return (table.first_hit_rank == 1).astype(float)
        return table[{"mAP": "ap", "mINP": "inp"}[metric]]

    def summary(self) -> dict[str, float]:
        """mAP, mINP, rank1, rank5 and rank10 by name, for tables and result files.

        A result without the camera rule carries that label too: `camera_rule` False.
        """
        label = {} if self.camera_rule else {"camera_rule": False}
        return {"mAP": self.mAP, "mINP": self.mINP, **{f"rank{k}": self.rank(k) for k in (1, 5, 10)}, **label}


def evaluate_ranking(
    qf,
    gf,
    q_pids,
    g_pids,
    q_camids,
    g_camids,
    metric: Metric = "cosine",
    ap: APForm = "step",
    junk_pids: Sequence[int] = (-1,),
    *,
    camera_rule: bool = True,
    block: int = 2048,
    device=None,
    max_rank: int | None = None,
) -> RankingResult:
    """Rank the gallery for every query and summarise the lists (Market-1501 protocol, single query, see `protocol`).

    qf [Q, D], gf [G, D]: features, tensors or arrays of float16, bfloat16, float32 or float64.
    q_pids, q_camids [Q], g_pids, g_camids [G]: integers.
    metric: "cosine" or "euclidean". ap: "step" (the usual average precision) or "trapezoid" (Market-1501's).
    camera_rule: False ranks the query's own camera too, for data of one camera; camids may then be None, and query
    and gallery must not share files (see `protocol`).
    block: gallery rows in one matrix product. device: where products and counting run (default: that of the
    features). max_rank: length of the CMC curve (default: the size of the gallery).

    Cost on a CPU, beside the bare float32 product in blocks of 2,048 rows: 1.1 times for "cosine", 1.2 for "euclidean"
    (screened in float32, the near ones compared in float64, see `screening`; small sets in float64 outright), in 64 MB
    of scores. On a GPU ranks are counted where the scores are (`counting`): about 0.2 GB beside the features.

    Queries without a true match are left out of all means and counted in `excluded`. MPN's released code (CGPN's is
    not public) divides by the number of *all* queries and so reads lower when there are such queries; on the
    standard test sets every query has a match and the two agree.

    Raises ReIDKitError for NaN or infinite features (naming the row), for shapes that disagree, and when no
    query has a true match; UnknownNameError for a metric or form of AP that does not exist.
    """
    check_ap(ap)
    check_count(max_rank, "max_rank", optional=True)
    qf, gf = as_matrix(qf, "query features"), as_matrix(gf, "gallery features")
    truth = GroundTruth(q_pids, g_pids, q_camids, g_camids, junk_pids, camera_rule)
    check_sizes(truth, len(qf), len(gf), "the features have")
    return summarise(match_ranks(qf, gf, truth, metric, block, device), truth, ap, max_rank)


def evaluate_distance(
    distance,
    q_pids,
    g_pids,
    q_camids,
    g_camids,
    ap: APForm = "step",
    junk_pids: Sequence[int] = (-1,),
    *,
    camera_rule: bool = True,
    device=None,
    max_rank: int | None = None,
) -> RankingResult:
    """`evaluate_ranking` for a ready matrix of distances [Q, G] (smaller is better), such as that of `rerank`.

    device: where ranks are counted, strip by strip (default: that of the distances).
    """
    check_ap(ap)
    check_count(max_rank, "max_rank", optional=True)
    distance = as_matrix(distance, "distance matrix")
    truth = GroundTruth(q_pids, g_pids, q_camids, g_camids, junk_pids, camera_rule)
    queries, images = distance.shape
    check_sizes(truth, queries, images, "the distance matrix has")
    place = device_of(device, distance)
    if place.type != "cpu":
        return summarise(device_ranks(distance_strips(distance, place), truth), truth, ap, max_rank)
    strips = ((start, strip.numpy()) for start, strip in distance_strips(distance))
    return summarise(swept_ranks(strips, truth), truth, ap, max_rank)


def match_ranks(qf, gf, truth: GroundTruth, metric: Metric, block: int, device) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (query, ascending ranks [n] of its matches), by the way that suits metric, size and device."""
    feature_pair(qf, gf, metric)
    _, place = working_place(metric, device, qf, gf)
    if place.type != "cpu":
        yield from device_ranks(tensor_strips(qf, gf, metric, block, place), truth)
    elif metric == "euclidean" and pays(qf, gf):
        undecided = yield from screened_ranks(qf, gf, truth, block)
        if undecided:
            yield from swept_ranks(score_strips(qf[undecided], gf, metric, block, place), truth, undecided)
    else:
        yield from swept_ranks(score_strips(qf, gf, metric, block, place), truth)


def swept_ranks(
    strips: Iterator[tuple[int, np.ndarray]], truth: GroundTruth, queries: Sequence[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (query, ascending ranks [n] of its matches) from strips (first row, scores [b, G]).

    queries: whose rows these are (default: all, in order).
    """
    queries = range(len(truth.q_pids)) if queries is None else queries
    for start, strip in strips:
        for query, scores in zip(queries[start:], strip):
            positives, ignored = truth.of(query)
            if len(positives):
                scores[ignored] = -np.inf  # below every image that counts
                yield query, positive_ranks(scores, positives)


def positive_ranks(scores: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """[n] ranks (from 1, ascending) of the true matches in one row of scores.

    scores: [G], larger is better, -inf where an image is ignored. positives: [n] gallery rows.
    An image before the match in the gallery beats it with an equal score, one after it only with a larger one.
    """
    own = scores[positives]
    places = np.flatnonzero(scores >= own.min())  # no other image can beat a match
    kept = scores[places]
    ranks = [
        1 + np.count_nonzero(kept[:p] >= s) + np.count_nonzero(kept[p + 1 :] > s)
        for p, s in zip(np.searchsorted(places, positives).tolist(), own.tolist())
    ]
    return np.sort(np.array(ranks, dtype=np.int64))


def average_precision(ranks: np.ndarray, form: APForm = "step") -> float:
    """Area under the precision-recall curve of one query, from the ranks [n] of its true matches.

    "step": the mean of the precision at each match. "trapezoid": at each match, the mean of the precision there
    and of the precision one place earlier (1 for a match at rank 1): Market-1501's original evaluator.
    Worked example, ranks 1, 3, 6: step = (1/1 + 2/3 + 3/6) / 3 = 0.722;
    trapezoid = ((1 + 1)/2 + (1/2 + 2/3)/2 + (2/5 + 3/6)/2) / 3 = 0.678.
    """
    check_ap(form)
    hits = np.arange(1, len(ranks) + 1)
    precision = hits / ranks  # at each match
    if form == "step":
        return float(precision.mean())
    before = np.where(ranks > 1, (hits - 1) / np.maximum(ranks - 1, 1), 1.0)  # one place earlier
    return float((before + precision).mean() / 2)


def inverse_negative_penalty(ranks: np.ndarray) -> float:
    """INP: n / (rank of the hardest match). Ye et al., "Deep Learning for Person Re-identification", 2021, Sec. 3.4."""
    return float(len(ranks) / ranks[-1])


def summarise(
    found: Iterator[tuple[int, np.ndarray]], truth: GroundTruth, ap: APForm, max_rank: int | None
) -> RankingResult:
    """(query, ascending ranks [n] of its matches) of all queries that have any -> RankingResult."""
    table = np.full((len(truth.q_pids), 3), np.nan)  # ap, inp, first_hit_rank
    matches = np.zeros(len(table), dtype=np.int64)
    for query, ranks in found:
        matches[query] = len(ranks)
        if len(ranks):
            table[query] = average_precision(ranks, ap), inverse_negative_penalty(ranks), ranks[0]
    valid = matches > 0
    if not valid.any():
        raise no_match_error(truth)
    mean_ap, mean_inp, _ = table[valid].mean(0)
    num_gallery = len(truth.g_pids)
    hits = np.bincount(table[valid, 2].astype(np.int64) - 1, minlength=num_gallery)
    cmc = np.cumsum(hits)[:max_rank] / valid.sum()  # cmc[k-1]: first match at rank k or better
    per_query = pd.DataFrame(table, columns=["ap", "inp", "first_hit_rank"]).assign(matches=matches)
    return RankingResult(float(mean_ap), float(mean_inp), cmc, per_query, int((~valid).sum()), ap, truth.camera_rule)


def check_ap(form: str) -> None:
    """UnknownNameError unless `form` names a form of average precision."""
    if form not in AP_FORMS:
        raise unknown_name("form of AP", form, AP_FORMS)


def check_sizes(truth: GroundTruth, num_query: int, num_gallery: int, subject: str) -> None:
    """ReIDKitError unless features (or distances) and labels describe the same images."""
    if (num_query, num_gallery) != (len(truth.q_pids), len(truth.g_pids)):
        raise ReIDKitError(
            f"{subject} {num_query} query and {num_gallery} gallery rows, but there are "
            f"{len(truth.q_pids)} query pids and {len(truth.g_pids)} gallery pids"
        )


def no_match_error(truth: GroundTruth) -> ReIDKitError:
    """The error for a query set in which nothing can be found."""
    shared = len(np.setdiff1d(np.intersect1d(truth.q_pids, truth.g_pids), truth.junk_pids))
    why = (
        f"{shared} identities are in both, but only under the query's own camera: check the camids, or rank "
        "without the camera rule (camera_rule=False, on the command line --no-camera-rule)"
        if shared
        else "no identity is in both: check that query and gallery pids share one numbering"
    )
    match = "same pid, another camera" if truth.camera_rule else "same pid; camera_rule=False"
    return ReIDKitError(
        f"none of the {len(truth.q_pids)} queries has a true match ({match}) "
        f"among the {len(truth.g_pids)} gallery images; {why}"
    )
