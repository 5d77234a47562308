"""Ranked lists: `rank` for many queries and no labels, `top_k` for one query as a figure shows it (CGPN Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reidkit.errors import ReIDKitError
from reidkit.evaluation.protocol import GroundTruth
from reidkit.evaluation.scores import (
    Metric,
    apply_metric,
    centre,
    check_count,
    feature_pair,
    refuse_rows,
    rows,
    sampled,
    score_strips,
    squared_norms,
    working_place,
)


def rank(
    query_features,
    gallery_features,
    k: int | None = None,
    metric: Metric = "cosine",
    *,
    return_scores: bool = False,
    block: int = 2048,
    device=None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """[Q, k] int64: the gallery rows of every query's k best matches, best first. No labels are needed.

    query_features [Q, D], or [D] for one query, whose list is then [k]; gallery_features [G, D]: tensors or arrays,
    ranked as by `evaluate_ranking`: of two images with the same score the one with the smaller gallery row comes first.
    k: length of the lists (default, or larger than the gallery: all of it). metric: "cosine" or "euclidean".
    return_scores: return (order, scores), with the scores [Q, k] of `top_k`.
    Memory: the result and one strip of scores, never [Q, G]. Raises ReIDKitError for features that are not finite or
    do not fit each other and for k < 1, UnknownNameError for an unknown metric.

        order = rank(f[0], f[1:])       # order[0] is the row of f[1:] that is most like f[0]
    """
    check_count(k, "k", optional=True)
    if single := np.ndim(query_features) == 1:
        query_features = one_row(query_features)
    qf, gf = feature_pair(query_features, gallery_features, metric)
    k = len(gf) if k is None else min(k, len(gf))
    order, scores = np.empty((len(qf), k), dtype=np.int64), []
    for start, strip in score_strips(qf, gf, metric, block, device):  # strip [b, G]
        part = order[start : start + len(strip)]  # [b, k], filled here
        for query, row in enumerate(strip):
            part[query] = best(row, k)
        if return_scores:
            scores.append(np.take_along_axis(strip, part, axis=1))
    if not return_scores:
        return order[0] if single else order
    found = readable(np.concatenate(scores), order, qf, gf, metric, device)
    return (order[0], found[0]) if single else (order, found)


@torch.no_grad()
def top_k(
    query,
    gf,
    k: int = 10,
    *,
    q_pid: int | None = None,
    q_camid: int | None = None,
    g_pids=None,
    g_camids=None,
    metric: Metric = "cosine",
    junk_pids: Sequence[int] = (-1,),
    drop_junk: bool = True,
    camera_rule: bool = True,
    device=None,
) -> pd.DataFrame:
    """The k best gallery images of one query, best first, in the order that `evaluate_ranking` counts.

    query: [D] one row of features; gf: [G, D]. k larger than the list gives the whole list.
    q_pid, g_pids [G], q_camid, g_camids [G]: integers. Leave all four out where no labels are known; without the
    camera rule (`camera_rule=False`, see `protocol`) the cameras alone may be left out.
    drop_junk: the protocol's rule (junk, and the same identity under the same camera, are removed); False keeps
    them in their places, marked, so that a reader sees what the rule does.
    Returns gallery_index (row of gf), score (cosine similarity, or minus the Euclidean distance: 0 for equal rows),
    correct (a true match), junk (would be removed). Without labels `correct` is <NA> ("not known") in every row and
    nothing is junk. Raises ReIDKitError as `evaluate_ranking` does, for labels of which one half is missing, and
    where the rule would remove the whole gallery.
    """
    check_count(k, "k", optional=True)
    query, gf = feature_pair(one_row(query), gf, metric)
    truth = truth_of(q_pid, g_pids, q_camid, g_camids, junk_pids, camera_rule)
    if truth is not None and len(truth.g_pids) != len(gf):
        raise ReIDKitError(f"there are {len(gf)} gallery features but {len(truth.g_pids)} gallery pids")
    correct, junk = marks(truth, len(gf))
    if drop_junk and junk.all():
        raise ReIDKitError(
            f"the protocol removes all {len(gf)} gallery images of this query: each is junk or has its "
            f"pid {q_pid} and its camera {q_camid}. Where labels are not known leave them out; "
            "drop_junk=False shows the list with its junk, camera_rule=False ranks one camera"
        )
    scores = query_scores(query, gf, metric, device)  # [G]
    order = np.argsort(-scores, kind="stable")
    order = order[~junk[order]][:k] if drop_junk else order[:k]
    return pd.DataFrame(
        {"gallery_index": order, "score": scores[order], "correct": correct[order], "junk": junk[order]}
    )


def one_row(query) -> Tensor | np.ndarray:
    """[1, D] of the features of one query, [D] or [1, D]."""
    return query.reshape(1, -1) if hasattr(query, "reshape") else np.asarray(query).reshape(1, -1)


def truth_of(q_pid, g_pids, q_camid, g_camids, junk_pids: Sequence[int], camera_rule: bool) -> GroundTruth | None:
    """The ground truth of one query, None where no labels are known."""
    if all(labels is None for labels in (q_pid, g_pids, q_camid, g_camids)):
        return None
    if q_pid is None or g_pids is None:
        raise ReIDKitError("some labels are given, but not both q_pid and g_pids: give both, or leave all labels out")
    return GroundTruth(
        one_label(q_pid, "q_pid"),
        g_pids,
        None if q_camid is None else one_label(q_camid, "q_camid"),
        g_camids,
        junk_pids,
        camera_rule,
    )


def one_label(value, name: str) -> list[int]:
    """[value] as a whole number."""
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise ReIDKitError(f"{name}: expected one integer, got {value!r}") from error
    return [number]


def marks(
    truth: GroundTruth | None, num_gallery: int
) -> tuple[np.ndarray | pd.api.extensions.ExtensionArray, np.ndarray]:
    """(correct, junk) [G] of the first query; without labels correct is <NA> and nothing is junk."""
    junk = np.zeros(num_gallery, dtype=bool)
    if truth is None:
        return pd.array([pd.NA] * num_gallery, dtype="boolean"), junk
    correct = np.zeros(num_gallery, dtype=bool)
    correct[truth.of(0)[0]], junk[truth.of(0)[1]] = True, True
    return correct, junk


def best(row: np.ndarray, k: int) -> np.ndarray:
    """[k] places of the k largest entries of row [G], in the order of a stable sort."""
    last = np.partition(row, len(row) - k)[len(row) - k]  # the k-th largest
    candidates = np.flatnonzero(row >= last)  # k, or more where some tie with it
    return candidates[np.argsort(-row[candidates], kind="stable")[:k]]


def query_scores(query, gf, metric: Metric, device=None, block: int = 2048) -> np.ndarray:
    """[G] cosine similarity, or minus the Euclidean distance, of one query [1, D] to the gallery [G, D]."""
    dtype, device = working_place(metric, device, query, gf)
    own = squared_norms(query, "query features", dtype, device=device)  # [1]
    vector = rows(query, 0, 1, dtype, device)[0]  # [D]
    scores = torch.empty(len(gf), dtype=dtype, device=device)  # [G]
    for left in range(0, len(gf), block):
        gallery = rows(gf, left, left + block, dtype, device)
        scores[left : left + block] = gallery @ vector if metric == "cosine" else 0 - distances(gallery, vector)
    if metric == "cosine":
        scores = apply_metric(scores, squared_norms(gf, "gallery features", dtype, device=device), metric)
        scores = scores * torch.where(own > 0, own, 1).rsqrt()
    refuse_rows(~scores.isfinite(), "gallery features")
    return scores.cpu().numpy()


def distances(gallery: Tensor, vector: Tensor) -> Tensor:
    """[G] Euclidean distances of gallery [G, D] to one vector [D], by differences: 0 exactly for equal rows."""
    return (gallery - vector).square_().sum(1).sqrt()


@torch.no_grad()
def readable(scores: np.ndarray, order: np.ndarray, qf, gf, metric: Metric, device) -> np.ndarray:
    """[Q, k] scores of `score_strips` as cosine similarities, or as minus the Euclidean distances.

    A short distance is what little two products leave of each other; it is computed again by differences.
    """
    dtype, device = working_place(metric, device, qf, gf)
    if metric == "cosine":
        own = squared_norms(qf, "query features", dtype, device=device)  # [Q]
        return scores * torch.where(own > 0, own, 1).rsqrt().cpu().numpy()[:, None]
    own = squared_norms(qf, "query features", dtype, device=device, origin=centre(sampled(gf, device))).cpu().numpy()
    squared = own[:, None] - 2 * scores  # [Q, k]
    short = squared < 1e-6 * own[:, None]
    lengths = np.sqrt(np.maximum(squared, 0))
    for query in np.flatnonzero(short.any(1)).tolist():
        near = gf[order[query, short[query]]]  # [n, D]
        vector = rows(qf, query, query + 1, dtype, device)[0]
        lengths[query, short[query]] = distances(rows(near, 0, len(near), dtype, device), vector).cpu().numpy()
    return 0 - lengths
