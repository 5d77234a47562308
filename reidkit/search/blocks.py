"""Features on disk in blocks: a file holds up to FULL rows in half precision, and what files they are of.

A block is a safetensors file with the tensors

    features   float16 [n, D]   rows of length 1 (an all-zero feature stays zero)
    rounding   float32 [n]      length of what half precision took away from each row: no cosine is wrong by more

and the list of the n files (name, bytes, time) in its header. It is written once, whole or not at all, and never
changed: a file that changes leaves a dead row behind, and `tidy` writes blocks of few living rows anew, together.
It is mapped while it is compared, and only then: 6 kB a row for D = 3072 on the disk, one block in memory.
"""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import Tensor

from reidkit.errors import ReIDKitError
from reidkit.files import replacing
from reidkit.search.gallery import GalleryFile

FULL, STRIP = 16384, 2048  # rows of a full block; rows that are compared at one time
SUFFIX = ".block"


@dataclass
class Block:
    """One file of features. files: what row i was made of. rounding: float32 [n]. dim: D. offset: where the rows begin.

    file: kept open by `pin`, so that the rows stay although another process removes the file.
    """

    path: Path
    files: list[GalleryFile]
    rounding: np.ndarray
    dim: int
    offset: int
    file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self.files)

    def rows(self) -> np.ndarray:
        """float16 [n, D], mapped from the file for as long as the array is held."""
        return np.memmap(self.file or self.path, np.float16, "r", self.offset, (len(self), self.dim))

    def pin(self) -> Block:
        """The same block, open until it is forgotten."""
        self.file = self.file or open(self.path, "rb")
        return self


def open_blocks(folder: Path) -> list[Block]:
    """All blocks of a folder, in the order of their names; a damaged one is removed, with a warning, and made anew."""
    blocks = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            blocks.append(open_block(path))
        except (OSError, LookupError, ValueError, TypeError) as error:
            warnings.warn(f"{path} is damaged ({error}); its pictures are read again", stacklevel=2)
            with suppress(OSError):
                path.unlink()
    return blocks


def open_block(path: Path) -> Block:
    """One block, its header alone. Raises ValueError, LookupError, TypeError or OSError where it is damaged."""
    with open(path, "rb") as file:  # 8 bytes: length of the header; the header, JSON; the tensors
        length, size = int.from_bytes(file.read(8), "little"), os.path.getsize(path)
        if length > size:
            raise ValueError("its header is not whole")
        header = json.loads(file.read(length))
        files = [GalleryFile(*entry) for entry in json.loads(header["__metadata__"]["files"])]
        begin = {name: 8 + length + header[name]["data_offsets"][0] for name in ("features", "rounding")}
        count, dim = header["features"]["shape"]
        if len(files) != count or size < max(begin["features"] + 2 * count * dim, begin["rounding"] + 4 * count):
            raise ValueError(f"{len(files)} files, {count} rows, {size} bytes")
        file.seek(begin["rounding"])
        rounding = np.frombuffer(file.read(4 * count), np.float32)
        if not np.isfinite(rounding).all():
            raise ValueError("it holds numbers that are not finite")
    return Block(path, files, rounding, dim, begin["features"])


def halved(features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, D] -> (rows of length 1 in float16 [n, D], what the rounding took of each, float32 [n])."""
    unit = F.normalize(features.double(), dim=1)
    half = unit.half()
    return half.numpy(), (unit - half.double()).norm(dim=1).float().numpy()


def write_block(folder: Path, files: Sequence[GalleryFile], half: np.ndarray, rounding: np.ndarray) -> Path:
    """Write rows [n, D] and their files under a name of their own. ReIDKitError where the disk does not take it."""
    path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
    with replacing(path) as temporary:
        tensors = {"features": np.ascontiguousarray(half), "rounding": np.ascontiguousarray(rounding)}
        save_file(tensors, temporary, metadata={"files": json.dumps(files)})
    return path


def tidy(folder: Path, blocks: Sequence[Block], wanted: set[GalleryFile]) -> list[Block]:
    """The blocks of the wanted files, few and full: those with few living rows are merged, empty ones removed.

    Killed half way it leaves rows that are there twice, which the next call merges.
    """
    seen: set[GalleryFile] = set()
    alive = []  # of each block: its rows that are wanted, and in no block before it
    for block in blocks:
        alive.append([i for i, file in enumerate(block.files) if file in wanted and file not in seen])
        seen.update(block.files[i] for i in alive[-1])
    small = [b for b, rows in enumerate(alive) if len(rows) < FULL // 2]
    if len(small) == 1 and 2 * len(alive[small[0]]) > len(blocks[small[0]]):
        small = []  # the last block of a gallery is rarely full
    merged = [
        open_block(write_block(folder, *part))
        for part in _refilled([blocks[b] for b in small], [alive[b] for b in small])
    ]
    for b in small:
        with suppress(OSError):
            blocks[b].path.unlink()
    kept = [block for b, block in enumerate(blocks) if b not in set(small)]
    return sorted([*kept, *merged], key=lambda block: block.path.name)


def _refilled(
    blocks: Sequence[Block], alive: Sequence[list[int]]
) -> Iterator[tuple[list[GalleryFile], np.ndarray, np.ndarray]]:
    """(files, rows, rounding) of the living rows of some blocks, FULL at a time."""
    files: list[GalleryFile] = []
    rows: list[np.ndarray] = []
    rounding: list[np.ndarray] = []
    for block, places in zip(blocks, alive):
        if not places:
            continue
        files += [block.files[i] for i in places]
        rows.append(block.rows()[places])
        rounding.append(block.rounding[places])
        while len(files) >= FULL:
            all_rows, all_rounding = np.concatenate(rows), np.concatenate(rounding)
            yield files[:FULL], all_rows[:FULL], all_rounding[:FULL]
            files, rows, rounding = files[FULL:], [all_rows[FULL:]], [all_rounding[FULL:]]
    if files:
        yield files, np.concatenate(rows), np.concatenate(rounding)


def check_dim(blocks: Sequence[Block], dim: int) -> None:
    """ReIDKitError unless all blocks hold rows of `dim` columns."""
    for block in blocks:
        if block.dim != dim:
            raise ReIDKitError(
                f"{block.path} holds features of {block.dim} columns, the network gives {dim}; delete it"
            )


def compared(
    blocks: Sequence[Block], place: np.ndarray, row: np.ndarray, queries: Tensor, at: np.ndarray | None = None
) -> np.ndarray:
    """float32 [Q, N]: inner products of queries [Q, D] with gallery rows; row g of it is `row[g]` of block `place[g]`.

    at: only these gallery rows, in this order.
    """
    if at is not None:
        place, row = place[at], row[at]
    scores = torch.empty(len(queries), len(place))
    for b in np.unique(place):
        rows, here = blocks[b].rows(), np.flatnonzero(place == b)
        for start in range(0, len(here), STRIP):
            some = here[start : start + STRIP]
            scores[:, torch.from_numpy(some)] = queries @ torch.from_numpy(rows[row[some]]).float().T  # [Q, <=STRIP]
    return scores.numpy()
