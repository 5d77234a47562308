"""`PriorTable`: the coarse priors of a data set, one compact file, looked up by image path."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reidkit.data.prior import PriorBatch
from reidkit.errors import PriorError, ReIDKitError
from reidkit.files import replacing
from reidkit.readers import read_array


@dataclass(frozen=True)
class PriorTable:
    """Coarse priors of N images.

    paths: image paths relative to the data set's root, with forward slashes.
    masks: [N, h, w] bool. top, bottom: [N] float32, fractions of the image height. reliable: [N] bool.
    stamps: [N] uint64, changes with the size or date of the files that a row was made from; 0 = the image had
        no maps and was counted as unreliable on request.
    manifest: how the table was made (tool, version, thresholds, grid, counts, fingerprint of the file list).
    """

    paths: tuple[str, ...]
    masks: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    reliable: np.ndarray
    stamps: np.ndarray
    manifest: Mapping[str, Any] = field(default_factory=dict)
    _rows: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        n = len(self.paths)
        lengths = {name: len(getattr(self, name)) for name in ("masks", *_COLUMNS)}
        if self.masks.ndim != 3 or any(length != n for length in lengths.values()):
            raise PriorError(f"a prior table of {n} paths has columns of other lengths: {lengths}")
        object.__setattr__(self, "_rows", {path: row for row, path in enumerate(self.paths)})

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the masks."""
        return self.masks.shape[1], self.masks.shape[2]

    @property
    def missing(self) -> list[str]:
        """Paths of the images that had no maps."""
        return [self.paths[row] for row in np.flatnonzero(self.stamps == 0)]

    def lookup(self, paths: Sequence[str]) -> PriorBatch:
        """The priors of these relative paths, in this order; PriorError names the paths that are not in the table."""
        absent = [path for path in paths if path not in self._rows]
        if absent:
            raise PriorError(
                f"{len(absent)} of {len(paths)} images have no prior in this table of {len(self)}: "
                f"{', '.join(absent[:3])}{' ...' if len(absent) > 3 else ''}; build the priors of these splits too "
                '(build_priors(..., splits="all") covers every table of a data set)'
            )
        rows = np.array([self._rows[path] for path in paths], int)
        columns = (self.masks, self.top, self.bottom, self.reliable)
        return PriorBatch(*(torch.from_numpy(column[rows]) for column in columns))

    def subset(self, paths: Sequence[str]) -> PriorTable:
        """The table of these relative paths alone, its counts and fingerprint renewed."""
        self.lookup(paths)
        rows = np.array([self._rows[path] for path in paths], int)
        return make_table(paths, self.masks[rows], *(getattr(self, c)[rows] for c in _COLUMNS), settings=self.manifest)

    def merged(self, newer: PriorTable) -> PriorTable:
        """Both tables in one; rows of `newer` replace rows of the same path."""
        kept = [row for row, path in enumerate(self.paths) if path not in newer._rows]
        columns = (np.concatenate([getattr(self, c)[kept], getattr(newer, c)]) for c in ("masks", *_COLUMNS))
        return make_table([self.paths[row] for row in kept] + list(newer.paths), *columns, settings=newer.manifest)

    def digest(self) -> str:
        """SHA-256 over path, mask, boundaries and verdict of every image: equal for equal priors, whenever made."""
        digest = hashlib.sha256(repr(self.grid).encode())
        for row in sorted(range(len(self)), key=self.paths.__getitem__):
            digest.update(f"{self.paths[row]}\n".encode(errors="surrogateescape"))
            for column in (self.masks, self.top, self.bottom, self.reliable):
                digest.update(column[row].tobytes())
        return digest.hexdigest()

    def summary(self) -> str:
        """One line: `12936 images, 12420 reliable (96.0 %), 516 not reliable, 0 of them without maps`."""
        n, good = len(self), int(self.reliable.sum())
        return (
            f"{n} images, {good} reliable ({good / max(n, 1):.1%}), {n - good} not reliable, "
            f"{len(self.missing)} of them without maps"
        )

    def save(self, path: str | Path) -> None:
        """Write one compressed npz (masks at one bit a cell); the old file stays whole until the new one is."""
        path = Path(path)
        columns: dict[str, Any] = {name: np.asarray(getattr(self, name), kind) for name, kind in _COLUMNS.items()}
        try:
            with replacing(path, PriorError) as temporary, temporary.open("wb") as file:
                np.savez_compressed(
                    file,
                    paths=np.frombuffer("\n".join(self.paths).encode(errors="surrogateescape"), np.uint8),
                    bits=np.packbits(self.masks.reshape(len(self), self.grid[0] * self.grid[1]), axis=1),
                    grid=np.array(self.grid, np.int64),
                    manifest=np.frombuffer(json.dumps(dict(self.manifest)).encode(), np.uint8),
                    **columns,
                )
        except PriorError as error:
            raise PriorError(
                f"{error}. Keep derived files elsewhere (--cache-dir DIR, load_dataset(cache_dir=DIR)); "
                "`reidkit priors build` takes another file too (--out FILE)"
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> PriorTable:
        """Read a table that `save` wrote; PriorError if the file is missing, truncated or something else."""
        path = Path(path)
        if not path.is_file():
            raise PriorError(f"{path}: no such prior table; make it with build_priors or `reidkit priors build`")
        try:
            with zipfile.ZipFile(path) as file:
                return _read_table(file)
        except Exception as error:  # the readers of zip, npy and JSON raise a dozen kinds on damaged bytes
            reason = str(error) if isinstance(error, ReIDKitError) else f"{type(error).__name__}: {error}"
            raise PriorError(f"{path} is not a whole prior table ({reason}); delete it and build it again") from error


_COLUMNS = {"top": np.float32, "bottom": np.float32, "reliable": np.bool_, "stamps": np.uint64}
MOST_CELLS = 1 << 16  # of a grid: 256 x 256
MOST_BYTES = 1 << 27  # of one column on disk: a million images on a grid of 32 x 32


def _read_table(file: zipfile.ZipFile) -> PriorTable:
    """The table in an npz. What the file states is checked before memory is asked for."""
    grid = tuple(int(n) for n in read_array(file, "grid", np.int64, (2,), MOST_BYTES))
    if min(grid) < 1 or grid[0] * grid[1] > MOST_CELLS:
        raise PriorError(f"its grid is {grid[0]} x {grid[1]}, expected at most {MOST_CELLS} cells")
    text = read_array(file, "paths", np.uint8, (None,), MOST_BYTES).tobytes().decode(errors="surrogateescape")
    paths, cells = tuple(text.split("\n")) if text else (), grid[0] * grid[1]
    bits = read_array(file, "bits", np.uint8, (len(paths), -(-cells // 8)), MOST_BYTES)
    columns = {name: read_array(file, name, kind, (len(paths),), MOST_BYTES) for name, kind in _COLUMNS.items()}
    _check_bounds(paths, columns["top"], columns["bottom"])
    manifest = json.loads(read_array(file, "manifest", np.uint8, (None,), MOST_BYTES).tobytes())
    if not isinstance(manifest, dict) or manifest.get("grid", list(grid)) != list(grid):
        raise PriorError(f"its manifest is not one of priors on its grid {grid[0]} x {grid[1]}")
    if len(set(paths)) != len(paths):
        raise PriorError("a path occurs twice in it")
    masks = np.unpackbits(bits, axis=1, count=cells).astype(bool).reshape(len(paths), *grid)
    return PriorTable(paths, masks, **columns, manifest=manifest)


def _check_bounds(paths: Sequence[str], top: np.ndarray, bottom: np.ndarray) -> None:
    """PriorError for boundaries that are NaN, outside [0, 1] or upside down."""
    bad = np.flatnonzero(~((top >= 0) & (top < bottom) & (bottom <= 1)))  # NaN compares False
    if len(bad):
        row = bad[0]
        raise PriorError(
            f"{len(bad)} of {len(paths)} boundaries are senseless, the first of {paths[row]}: top {top[row]}, bottom "
            f"{bottom[row]}, expected 0 <= top < bottom <= 1"
        )


COUNTED = ("images", "unreliable", "missing", "fingerprint")  # manifest entries that follow from the rows


def make_table(paths, masks, top, bottom, reliable, stamps, *, settings: Mapping[str, Any]) -> PriorTable:
    """A table whose manifest is `settings` plus the counts and the fingerprint of its rows."""
    digest = hashlib.sha256()
    for path, stamp in sorted(zip(paths, stamps.tolist())):
        digest.update(f"{path} {stamp}\n".encode(errors="surrogateescape"))
    counts = {
        "images": len(paths),
        "unreliable": int((~reliable).sum()),
        "missing": int((stamps == 0).sum()),
        "fingerprint": digest.hexdigest()[:16],
    }
    return PriorTable(tuple(paths), masks, top, bottom, reliable, stamps, {**settings, **counts})


def empty_table(grid: tuple[int, int], settings: Mapping[str, Any]) -> PriorTable:
    """A table without rows."""
    zero = np.zeros(0, np.float32)
    no = (zero, zero.copy(), np.zeros(0, bool), np.zeros(0, np.uint64))
    return make_table((), np.zeros((0, *grid), bool), *no, settings=settings)
