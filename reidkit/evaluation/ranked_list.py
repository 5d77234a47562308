"""The first k gallery images of one query: what a figure with green and red borders shows (CGPN Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from reidkit.errors import ReIDKitError
from reidkit.evaluation.protocol import GroundTruth
from reidkit.evaluation.scores import apply_metric, device_of, feature_pair, rows, squared_norms, working_dtype


@torch.no_grad()
def top_k(query, gf, k: int = 10, *, q_pid: int, q_camid: int, g_pids, g_camids, metric: str = "cosine",
          junk_pids: Sequence[int] = (-1,), drop_junk: bool = True, device=None) -> pd.DataFrame:
    """The k best gallery images of one query, best first, in the order that `evaluate_ranking` counts.

    query: [D] one row of features; gf: [G, D]. k larger than the list gives the whole list.
    drop_junk: the protocol's rule (junk, and the same identity under the same camera, are removed); False keeps
    them in their places, marked, so that a reader sees what the rule does.
    Returns gallery_index (row of gf), score (cosine similarity, or minus the Euclidean distance), correct (a true
    match under another camera), junk (would be removed). Raises ReIDKitError as `evaluate_ranking` does.
    """
    if k < 1:
        raise ReIDKitError(f"k must be at least 1, got {k}")
    query = query.reshape(1, -1) if hasattr(query, "reshape") else np.asarray(query).reshape(1, -1)
    query, gf = feature_pair(query, gf, metric)
    truth = GroundTruth([int(q_pid)], g_pids, [int(q_camid)], g_camids, junk_pids)
    if len(truth.g_pids) != len(gf):
        raise ReIDKitError(f"there are {len(gf)} gallery features but {len(truth.g_pids)} gallery pids")
    scores = query_scores(query, gf, metric, device_of(device, gf, query))          # [G]
    positives, ignored = truth.of(0)
    correct, junk = np.zeros(len(gf), dtype=bool), np.zeros(len(gf), dtype=bool)
    correct[positives], junk[ignored] = True, True
    order = np.argsort(-scores, kind="stable")
    order = order[~junk[order]][:k] if drop_junk else order[:k]
    return pd.DataFrame({"gallery_index": order, "score": scores[order],
                         "correct": correct[order], "junk": junk[order]})


def query_scores(query, gf, metric: str, device, block: int = 2048) -> np.ndarray:
    """[G] cosine similarity, or minus the Euclidean distance, of one query [1, D] to the gallery [G, D]."""
    dtype = working_dtype(query, gf)
    own = squared_norms(query, "query features", dtype, device=device)              # [1]
    squared = squared_norms(gf, "gallery features", dtype, device=device)           # [G]
    vector = rows(query, 0, 1, dtype, device)[0]                                    # [D]
    products = torch.empty(len(gf), dtype=dtype, device=device)                     # [G]
    for left in range(0, len(gf), block):
        products[left:left + block] = rows(gf, left, left + block, dtype, device) @ vector
    scores = apply_metric(products, squared, metric)
    if metric == "cosine":
        scores = scores * torch.where(own > 0, own, 1).rsqrt()
    else:
        scores = -(own - 2 * scores).clamp(min=0).sqrt()
    return scores.cpu().numpy()
