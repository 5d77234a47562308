"""What a search costs as the gallery grows: disk, memory, time a query, and the recall of FAISS's indexes.

Features are random clusters (an identity has ROWS of them), written as `reidkit search` keeps them; pictures are not
made, so the numbers are those of the index alone. Rows are added size by size, so growth is measured on one index.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reidkit.bench.clock import measure, peak_memory, using_threads
from reidkit.errors import ReIDKitError, one_of
from reidkit.lifetime import end_with_pool
from reidkit.search.blocks import FULL, halved, open_blocks, write_block
from reidkit.search.gallery import GalleryFile, Listing
from reidkit.search.index import GalleryIndex, assembled
from reidkit.search.nearest import KINDS, Kind, Nearest, check_kind, recall

ROWS, NOISE = 20, 2.0  # features of an identity; their spread over that between identities
MILLION = 1_000_000


def run(
    sizes: Sequence[int] = (50_000, 100_000, 200_000),
    dim: int = 3072,
    *,
    top: int = 20,
    kinds: Sequence[str] = ("ivf", "hnsw"),
    nearest_size: int = 20_000,
    threads: int = 1,
    folder: str | None = None,
) -> dict[str, Any]:
    """An index of synthetic features in half precision, grown through `sizes`; ivf and hnsw at `nearest_size` rows.

    folder: where it is written for the time being (default: the system's). A row of `growth` has the bytes on disk,
    MB of memory that opening the index and one exact query needed on top of the features on disk (mapped pages
    included), and CPU seconds of one query. `million` extends the last two sizes in a straight line. A row of `nearest`
    has the MB of the FAISS index, CPU seconds to build it and of one query, and the recall of the exact lists.
    Raises ReIDKitError where the disk has too little room.
    """
    sizes = sorted({*sizes})
    for kind in kinds:
        check_kind(kind)
    with tempfile.TemporaryDirectory(dir=folder) as place, using_threads(threads):
        _check_room(Path(place), 2 * dim * max(*sizes, nearest_size))
        source = Clusters(dim)
        nearest = []
        small = _grown(Path(place) / "nearest", source, 0, nearest_size)
        for kind in kinds:
            nearest.append(_nearest(small, one_of("index", kind, KINDS), top))
        growth, done = [], 0
        for size in sizes:
            _grown(Path(place) / "growth", source, done, size)
            growth.append(_in_a_process_of_its_own(_measured, Path(place) / "growth", dim, threads))
            done = size
    return {
        "dim": dim,
        "synthetic": f"clusters of {ROWS} rows, noise {NOISE}",
        "growth": growth,
        "million": _extended(growth),
        "nearest": nearest,
    }


class Clusters:
    """Rows of identities: centre plus noise, drawn piece by piece so that no size needs all of them in memory."""

    def __init__(self, dim: int):
        self.dim = dim

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """float32 [n, D]: rows start .. stop, multiples of FULL apart from the end."""
        generator = torch.Generator().manual_seed(start)
        people = -(-(stop - start) // ROWS)
        centres = torch.randn(people, self.dim, generator=generator)
        noise = torch.randn(stop - start, self.dim, generator=generator)
        return centres.repeat_interleave(ROWS, 0)[: stop - start] + NOISE * noise


def _grown(folder: Path, source: Clusters, start: int, stop: int) -> GalleryIndex:
    """The index of a folder once rows start .. stop are in it."""
    folder.mkdir(exist_ok=True)
    for first in range(start, stop, FULL):
        last = min(first + FULL, stop)
        files = [GalleryFile(f"{i:09d}.jpg", 4096, i) for i in range(first, last)]
        write_block(folder, files, *halved(source.rows(first, last)))
    return _opened(folder)


def _opened(folder: Path) -> GalleryIndex:
    """The index of what lies in a folder, as `open_index` makes it."""
    blocks = [block.pin() for block in open_blocks(folder)]
    files = sorted(GalleryFile(*file) for block in blocks for file in block.files)
    return assembled(Listing(folder, files), folder, blocks, {}, 0)


def _in_a_process_of_its_own(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a fresh process, whose allocator has kept nothing."""
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_pool, (os.getpid(),)) as pool:
        return pool.submit(work, *arguments).result()


def _measured(folder: Path, dim: int, threads: int) -> dict[str, Any]:
    """Bytes, memory and time of one exact query."""
    torch.set_num_threads(threads)
    query = Clusters(dim).rows(0, ROWS)[:1]

    def open_and_search() -> GalleryIndex:
        index = _opened(folder)
        index.scores(query)
        return index

    index, extra_mb = peak_memory(open_and_search)
    seconds = measure(lambda: index.scores(query))
    return {
        "rows": len(index),
        "disk_bytes": sum(os.path.getsize(block.path) for block in index.blocks),
        "extra_mb": None if extra_mb is None else round(extra_mb),
        "cpu_s_query": round(seconds.cpu, 3),
    }


def _extended(growth: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A million rows, on the straight line through the last two sizes."""
    if len(growth) < 2:
        return {}
    (a, b), found = growth[-2:], {"rows": MILLION, "extrapolated_from": [growth[-2]["rows"], growth[-1]["rows"]]}
    for key in ("disk_bytes", "extra_mb", "cpu_s_query"):
        if a[key] is not None and b[key] is not None:
            slope = (b[key] - a[key]) / (b["rows"] - a["rows"])
            found[key] = round(b[key] + slope * (MILLION - b["rows"]), 3)
    return found


def _nearest(index: GalleryIndex, kind: Kind, top: int) -> dict[str, Any]:
    """What one kind of FAISS index costs and finds."""
    built: list[Nearest] = []
    seconds = measure(lambda: built.append(Nearest.build(index, kind)))
    query = index.rows(np.arange(1)).astype(np.float32)
    share, sample = recall(index, built[0], top)
    return {
        "kind": kind,
        "rows": len(index),
        "mb": round(built[0].bytes / 2**20, 1),
        "mb_million": round(built[0].bytes / 2**20 * MILLION / len(index)),  # extrapolated: rows have one size
        "cpu_s_build": round(seconds.cpu, 1),
        "cpu_s_query": round(measure(lambda: built[0].find(query, 4 * top), calls=20).cpu, 5),
        "cpu_s_query_exact": round(measure(lambda: index.scores(torch.from_numpy(query)), calls=3).cpu, 5),
        f"recall@{top}": round(share, 4),
        "sample": sample,
    }


def _check_room(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ReIDKitError(
            f"the benchmark writes {needed / 1e9:.1f} GB to {place.parent}, which has {free / 1e9:.1f} GB free: choose "
            "smaller sizes, or another folder"
        )
