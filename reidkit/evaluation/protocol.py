"""Who counts: the Market-1501 protocol.

For one query the gallery falls into three kinds of images:

    true match   same identity, another camera
    ignored      junk (pid in `junk_pids`), and the same identity under the query's own camera:
                 removed from the ranked list before a rank is read
    other        everything else, distractors (pid 0) included

Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015, Sec. 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from reidkit.errors import ReIDKitError


def label_array(values, name: str, length: int | None = None) -> np.ndarray:
    """[N] int64 from a list, array, Series or tensor; ReIDKitError if the shape or type does not fit."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or (length is not None and len(array) != length):
        expected = "one number a row" if length is None else f"[{length}], one number a row of the features"
        raise ReIDKitError(f"{name}: expected shape {expected}, got {list(array.shape)}")
    if len(array) and array.dtype.kind not in "iu":
        raise ReIDKitError(f"{name}: expected integers, got {array.dtype}")
    return array.astype(np.int64)


class GroundTruth:
    """True matches and ignored images of every query.

    q_pids, q_camids: [Q]; g_pids, g_camids: [G]; integers in any array type.
    junk_pids: gallery identities that are ignored for every query.
    Raises ReIDKitError where lengths disagree.
    """

    def __init__(self, q_pids, g_pids, q_camids, g_camids, junk_pids: Sequence[int] = (-1,)) -> None:
        self.q_pids, self.g_pids = label_array(q_pids, "q_pids"), label_array(g_pids, "g_pids")
        self.q_camids = label_array(q_camids, "q_camids", len(self.q_pids))
        self.g_camids = label_array(g_camids, "g_camids", len(self.g_pids))
        for split, pids in (("query", self.q_pids), ("gallery", self.g_pids)):
            if not len(pids):
                raise ReIDKitError(f"the {split} is empty: ranking needs at least one image there")
        self.junk_pids = np.array(junk_pids, dtype=np.int64)
        self._junk = np.flatnonzero(np.isin(self.g_pids, self.junk_pids))
        # Gallery rows grouped by identity; the stable sort keeps them ascending within one identity.
        self._by_pid = np.argsort(self.g_pids, kind="stable")
        grouped = self.g_pids[self._by_pid]
        self._first = np.searchsorted(grouped, self.q_pids, side="left")   # [Q]
        self._last = np.searchsorted(grouped, self.q_pids, side="right")   # [Q]

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """(true matches, ignored) of one query: gallery rows, the matches in ascending order."""
        if self.q_pids[query] in self.junk_pids:
            return np.empty(0, np.int64), self._junk
        same_id = self._by_pid[self._first[query]:self._last[query]]
        same_camera = self.g_camids[same_id] == self.q_camids[query]
        return same_id[~same_camera], np.concatenate([self._junk, same_id[same_camera]])
