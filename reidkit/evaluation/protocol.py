"""Who counts: the Market-1501 protocol.

For one query the gallery falls into three kinds of images:

    true match   same identity, another camera
    ignored      junk (pid in `junk_pids`), and the same identity under the query's own camera:
                 removed from the ranked list before a rank is read
    other        everything else, distractors (pid 0) included

Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015, Sec. 3.

Without the *camera rule* (`camera_rule=False`, for data of one camera or of none) every image of the same identity
is a true match, whatever its camera; junk is ignored as before. Then query and gallery must not share files: an
image would find itself. The numbers of the two rules are never put into one table.
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
        expected = "[N], a list or array" if length is None else f"[{length}], one number a row of the features"
        found = list(array.shape) if array.ndim else repr(values)
        raise ReIDKitError(f"{name}: expected shape {expected}, got {found}")
    if len(array) and array.dtype.kind not in "iu":
        raise ReIDKitError(
            f"{name}: expected integers, got {array.dtype}; names become numbers by "
            "pandas.factorize over query and gallery together"
        )
    if len(array) and array.max() > np.iinfo(np.int64).max:
        raise ReIDKitError(f"{name}: {array.max()} does not fit into int64; number anew by pandas.factorize")
    return array.astype(np.int64)


def camera_array(values, name: str, length: int, camera_rule: bool) -> np.ndarray:
    """`label_array` of camids; zeros where there are none, and no camera rule to read them."""
    if values is None and not camera_rule:
        return np.zeros(length, np.int64)
    if values is None:
        raise ReIDKitError(f"{name}: the camera rule needs the cameras; for data without them pass camera_rule=False")
    return label_array(values, name, length)


class GroundTruth:
    """True matches and ignored images of every query.

    q_pids, q_camids: [Q]; g_pids, g_camids: [G]; integers in any array type.
    junk_pids: gallery identities that are ignored for every query, a list or array of integers.
    camera_rule: False counts the same identity under the query's own camera as a match (see the top of the file);
        the camids may then be None.
    Raises ReIDKitError where lengths disagree, and for what is not a list of int64 numbers.
    """

    def __init__(
        self, q_pids, g_pids, q_camids, g_camids, junk_pids: Sequence[int] = (-1,), camera_rule: bool = True
    ) -> None:
        self.q_pids, self.g_pids = label_array(q_pids, "q_pids"), label_array(g_pids, "g_pids")
        self.q_camids = camera_array(q_camids, "q_camids", len(self.q_pids), camera_rule)
        self.g_camids = camera_array(g_camids, "g_camids", len(self.g_pids), camera_rule)
        self.camera_rule = camera_rule
        for split, pids in (("query", self.q_pids), ("gallery", self.g_pids)):
            if not len(pids):
                raise ReIDKitError(f"the {split} is empty: ranking needs at least one image there")
        self.junk_pids = label_array(junk_pids, "junk_pids")
        self.junk = np.flatnonzero(np.isin(self.g_pids, self.junk_pids))  # gallery rows
        # Gallery rows grouped by identity; the stable sort keeps them ascending within one identity.
        self._by_pid = np.argsort(self.g_pids, kind="stable")
        grouped = self.g_pids[self._by_pid]
        self._first = np.searchsorted(grouped, self.q_pids, side="left")  # [Q]
        self._last = np.searchsorted(grouped, self.q_pids, side="right")  # [Q]

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """(true matches, ignored) of one query: gallery rows, matches ascending, `junk` first of the ignored."""
        if self.q_pids[query] in self.junk_pids:
            return np.empty(0, np.int64), self.junk
        same_id = self._by_pid[self._first[query] : self._last[query]]
        if not self.camera_rule:
            return same_id, self.junk
        same_camera = self.g_camids[same_id] == self.q_camids[query]
        return same_id[~same_camera], np.concatenate([self.junk, same_id[same_camera]])


def queries_without_match(
    q_pids, g_pids, q_camids, g_camids, junk_pids: Sequence[int] = (-1,), camera_rule: bool = True
) -> np.ndarray:
    """Row numbers of the queries that have no true match in the gallery, ascending.

    Arguments and errors as in `GroundTruth`. Quick, and needs no features: ask before a network is trained.
    """
    truth = GroundTruth(q_pids, g_pids, q_camids, g_camids, junk_pids, camera_rule)
    matches = count_equal(truth.q_pids[:, None], truth.g_pids[:, None])  # [Q]
    if camera_rule:
        matches -= count_equal(np.stack([truth.q_pids, truth.q_camids], 1), np.stack([truth.g_pids, truth.g_camids], 1))
    return np.flatnonzero((matches == 0) | np.isin(truth.q_pids, truth.junk_pids))


def count_equal(wanted: np.ndarray, table: np.ndarray) -> np.ndarray:
    """[Q] for each row of `wanted` [Q, C]: how many rows of `table` [G, C] equal it."""
    _, kind = np.unique(np.concatenate([wanted, table]), axis=0, return_inverse=True)  # [Q + G]
    kind = kind.reshape(-1)
    return np.bincount(kind[len(wanted) :], minlength=kind.max() + 1)[kind[: len(wanted)]]
