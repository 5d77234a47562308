"""Which rows of a gallery are worth comparing: all of them ("exact"), or those that FAISS finds (Douze et al. 2024).

    ivf    rows are sorted into cells around centres; a query looks into the nearest cells only
    hnsw   rows form a graph of neighbours (Malkov and Yashunin 2018); a query walks through it

Both keep their rows in half precision and are built from the index's own. They miss matches; how many is measured on
the gallery itself: some of its pictures are searched both ways, each without itself.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal, get_args

import numpy as np
import torch

from reidkit.errors import ReIDKitError, unknown_name
from reidkit.evaluation.ranked_list import best
from reidkit.files import read_json, replacing, write_json
from reidkit.search.index import GalleryIndex

Kind = Literal["exact", "ivf", "hnsw"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TRAINING = 50_000  # rows that the centres of ivf are computed from
LINKS, CARE = 32, 80  # of hnsw: neighbours a row (M), candidates while it is built (efConstruction)
SPARE = 4  # rows that FAISS is asked for, a place of the list
SAMPLE = 50  # pictures that the recall is measured with


def check_kind(kind: str) -> None:
    """UnknownNameError for an unknown kind of index, ReIDKitError where FAISS is needed and missing."""
    if kind not in KINDS:
        raise unknown_name("index", kind, KINDS)
    if kind != "exact":
        _faiss()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ReIDKitError(
            "--index ivf and --index hnsw need FAISS: pip install 'reidkit[search]'; --index exact needs nothing"
        ) from error
    return faiss


class Nearest:
    """The FAISS index of one gallery. kind: "ivf" or "hnsw". cells: of ivf, 0 for hnsw."""

    def __init__(self, kind: Kind, index: Any, cells: int = 0):
        self.kind, self.index, self.cells = kind, index, cells

    @classmethod
    def build(cls, gallery: GalleryIndex, kind: Kind, seed: int = 0) -> Nearest:
        """A FAISS index of all rows of a gallery; row g there is row g here. seed: of ivf's training rows."""
        faiss, count, half = _faiss(), len(gallery), _faiss().ScalarQuantizer.QT_fp16
        if kind == "hnsw":
            index = faiss.IndexHNSWSQ(gallery.dim, half, LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, cells = CARE, 0
            index.train(gallery.rows(np.arange(min(count, 1))).astype(np.float32))  # half precision learns nothing
        else:
            cells = max(1, min(round(4 * count**0.5), min(count, TRAINING) // 39))  # FAISS wants 39 rows a centre
            centres = faiss.IndexFlatIP(gallery.dim)
            index = faiss.IndexIVFScalarQuantizer(centres, gallery.dim, cells, half, faiss.METRIC_INNER_PRODUCT, False)
            sample = np.sort(np.random.default_rng(seed).permutation(count)[:TRAINING])
            index.train(gallery.rows(sample).astype(np.float32))
        for start in range(0, count, 2048):
            index.add(gallery.rows(np.arange(start, min(start + 2048, count))).astype(np.float32))
        return cls(kind, index, cells)

    @property
    def bytes(self) -> int:
        """Size of the index in memory and on the disk."""
        return int(_faiss().serialize_index(self.index).nbytes)

    def find(self, queries: np.ndarray, count: int) -> list[np.ndarray]:
        """Per query of length 1 [Q, D]: at most `count` rows of the gallery, in any order."""
        if self.kind == "ivf":
            self.index.nprobe = max(8, self.cells // 16)  # cells that a query looks into
        else:
            self.index.hnsw.efSearch = max(64, 2 * count)
        _, rows = self.index.search(np.ascontiguousarray(queries, np.float32), count)
        return [row[row >= 0] for row in rows]


def open_nearest(gallery: GalleryIndex, kind: Kind) -> Nearest:
    """The FAISS index beside a gallery's features; built where pictures changed, and kept if the disk allows it."""
    faiss, file, about = _faiss(), gallery.folder / f"{kind}.faiss", gallery.folder / f"{kind}.json"
    with suppress(ReIDKitError, RuntimeError, KeyError):  # missing or damaged: built again
        state = read_json(about, missing="not built yet")
        if state["revision"] == gallery.revision and state["bytes"] == file.stat().st_size:
            return Nearest(kind, faiss.read_index(str(file)), state["cells"])
    nearest = Nearest.build(gallery, kind)
    with suppress(ReIDKitError):  # a disk that is read-only or full: built again next time
        about.unlink(missing_ok=True)
        with replacing(file) as temporary:
            faiss.write_index(nearest.index, str(temporary))
            size = temporary.stat().st_size
        write_json(about, {"revision": gallery.revision, "cells": nearest.cells, "bytes": size})
    return nearest


def recall(gallery: GalleryIndex, nearest: Nearest, top: int, sample: int = SAMPLE, seed: int = 0) -> tuple[float, int]:
    """(share of the exact `top` that is among what `nearest` finds, number of pictures it was measured with).

    The queries are pictures of the gallery itself, drawn by `seed`; no picture counts as a match of its own.
    """
    count = len(gallery)
    if count < 2:
        return 1.0, 0
    top = min(top, count - 1)
    drawn = np.sort(np.random.default_rng(seed).permutation(count)[:sample])  # [S]
    queries = gallery.rows(drawn).astype(np.float32)  # [S, D]
    shares = []
    exact = gallery.scores(torch.from_numpy(queries))  # [S, N]
    for own, scores, found in zip(drawn, exact, nearest.find(queries, candidates(top, count) + 1)):
        scores[own] = -np.inf
        shares.append(len(np.intersect1d(best(scores, top), found)) / top)
    return float(np.mean(shares)), len(drawn)


def candidates(top: int, count: int) -> int:
    """How many rows FAISS is asked for, for a list of `top` of a gallery of `count`: some to spare."""
    return min(SPARE * top, count)


def describe(kind: Kind, found: tuple[float, int] | None, top: int) -> str:
    """What a kind of index costs, in words."""
    if found is None:
        return f"exact: every picture is compared, recall@{top} is 1 by definition"
    share, sample = found
    return (
        f"{kind}: recall@{top} {share:.3f} of the exact lists, measured on {sample} pictures of this gallery as queries"
    )
