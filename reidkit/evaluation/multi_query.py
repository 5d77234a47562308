"""Multi-query evaluation of Market-1501: several views of the wanted person instead of one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reidkit.errors import ReIDKitError
from reidkit.evaluation.protocol import label_array
from reidkit.evaluation.scores import as_matrix, rows, squared_norms, working_dtype


@torch.no_grad()
def pool_queries(features, pids, camids, query_pids, query_camids) -> Tensor:
    """[Q, D] one pooled feature a query, to be ranked in place of the query's own feature.

    features [M, D], pids [M], camids [M]: the hand-drawn boxes (`gt_bbox`).
    query_pids, query_camids: [Q] of the ordinary query set.
    The official code's rule: every box of the query's identity *under the query's camera* is L2-normalised and
    averaged; the query image itself is not added (its box is among them). Boxes of no query are not used.
    Raises ReIDKitError naming a query without a box, or a row of features that is not finite.
    """
    matrix = as_matrix(features, "gt_bbox features")
    pids, camids = label_array(pids, "pids", len(matrix)), label_array(camids, "camids", len(matrix))
    query_pids = label_array(query_pids, "query_pids")
    query_camids = label_array(query_camids, "query_camids", len(query_pids))
    queries = np.stack([query_pids, query_camids], 1)  # [Q, 2]
    groups, group_of = np.unique(np.stack([pids, camids], 1), axis=0, return_inverse=True)  # [P, 2], [M]
    place = {tuple(pair): p for p, pair in enumerate(groups.tolist())}
    absent = [q for q, pair in enumerate(queries.tolist()) if tuple(pair) not in place]
    if absent:
        pid, camid = queries[absent[0]]
        raise ReIDKitError(
            f"{len(absent)} of {len(queries)} queries have no box in gt_bbox, the first is query "
            f"{absent[0]} (pid {pid}, camera {camid}); is gt_bbox complete and of the same data set?"
        )

    dtype = working_dtype(matrix)
    squared = squared_norms(matrix, "gt_bbox features", dtype)  # [M]
    unit = rows(matrix, 0, len(matrix), dtype) * torch.where(squared > 0, squared, 1).rsqrt().unsqueeze(1)
    group = torch.from_numpy(group_of.reshape(-1)).to(unit.device)
    total = torch.zeros(len(groups), unit.shape[1], dtype=dtype, device=unit.device).index_add_(0, group, unit)
    mean = total / torch.bincount(group, minlength=len(groups)).unsqueeze(1)  # [P, D]
    return mean[[place[tuple(pair)] for pair in queries.tolist()]].cpu()  # [Q, D]
