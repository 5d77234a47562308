"""Decoded images in one memory-mapped file, so that epochs cost no JPEG decoding.

    cache = ImageCache.for_split(ds, "train", (384, 128))           # a file in <ds.root>/cache
    loader = train_loader(ds, size=(384, 128), ..., cache=cache, device="cuda")    # there, if it fits

The file: 16 bytes of magic, 8 bytes of header length, a JSON header, padding to a multiple of 4,096 bytes, then
uint8 [N, 3, H, W]. The header holds the images' relative paths, their size and filter, and a fingerprint of
the files (path, bytes, modification time), so that a changed data set is noticed. The system shares one
copy of the pages between all processes that map the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from reidkit.data.dataset import ReIDDataset
from reidkit.data.feed import ahead, fits
from reidkit.data.images import Interpolation, read_image, relative_paths
from reidkit.errors import DatasetError
from reidkit.files import disk_error
from reidkit.locks import locked

ELSEWHERE = (
    "name another folder (--cache-dir, in Python load_dataset(..., cache_dir=...)), or read the images each time "
    "(--no-cache, cache=False)"
)
MAGIC = b"reidkit-cache-1\n"
BLOCK = 4096
CHUNK = 32  # images a task of a thread


def fingerprint(paths: Sequence[str], relative: Sequence[str]) -> str:
    """SHA-256 over relative path, size in bytes and modification time of every file, in order.

    Raises DatasetError for a file that is gone.
    """
    digest = hashlib.sha256()
    for path, name in zip(paths, relative):
        try:
            stat = os.stat(path)
        except OSError as error:
            raise DatasetError(f"cannot read the image {path!r}: {error}") from error
        digest.update(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class ImageCache:
    """Decoded images of one table. Make it with `build` (or `open`), not by hand.

    images: uint8 [N, 3, H, W], mapped from the file, or on a device after `.to`. Do not write into it.
    row: relative path -> row of `images`.
    root: the data set's root, which the paths are relative to.
    """

    images: Tensor
    row: dict[str, int]
    root: Path
    size: tuple[int, int]
    interpolation: Interpolation

    @classmethod
    def build(
        cls,
        table: pd.DataFrame,
        root: str | Path,
        size: tuple[int, int],
        path: str | Path,
        workers: int = 0,
        progress: bool = True,
        interpolation: Interpolation = "bilinear",
    ) -> ImageCache:
        """Open the cache at `path`, building it first where it is missing or no longer fits the files.

        workers: threads that decode. An interrupted build goes on where it stopped. Several processes may
        call this at once: one builds, the others wait (on systems without `fcntl`, build before starting them).
        Raises DatasetError for images that do not decode.
        """
        path = Path(path)
        header, paths = _header(table, root, size, interpolation)
        if not _fits(path, header):
            with _only_one_process(path):
                if not _fits(path, header):  # nobody built it while we waited
                    _write(path, header, paths, workers, progress)
        return cls._map(path, root)

    @classmethod
    def for_table(
        cls,
        table: pd.DataFrame,
        root: str | Path,
        size: tuple[int, int],
        *,
        folder: str | Path | None = None,
        **options,
    ) -> ImageCache:
        """`build` at `<folder>/<first image's folder>-<H>x<W>-<hash of the file list>.u8`.

        folder: default `<root>/cache`; `ds.derived("cache")` is elsewhere where the data set has a `cache_dir`.
        Equal file lists share a cache. options: `workers`, `progress`, `interpolation` of `build`.
        Raises DatasetError for an empty table.
        """
        names = relative_paths(dict.fromkeys(table["path"]), root)
        if not names:
            raise DatasetError("there is nothing to cache: the table has no rows")
        kind = "\n".join([*names, options.get("interpolation", "bilinear")])
        digest = hashlib.sha256(kind.encode(errors="surrogateescape")).hexdigest()[:8]
        first = names[0].split("/")[0] if "/" in names[0] else "images"
        path = Path(folder or Path(root) / "cache") / f"{first}-{size[0]}x{size[1]}-{digest}.u8"
        return cls.build(table, root, size, path, **options)

    @classmethod
    def for_split(cls, ds: ReIDDataset, split: str, size: tuple[int, int], **options) -> ImageCache:
        """`for_table` of "train", "query" or "gallery" of a data set."""
        return cls.for_table(getattr(ds, split), ds.root, size, folder=ds.derived("cache"), **options)

    @classmethod
    def open(
        cls,
        path: str | Path,
        table: pd.DataFrame,
        root: str | Path,
        size: tuple[int, int],
        interpolation: Interpolation = "bilinear",
    ) -> ImageCache:
        """Open a cache that must be there and fit; DatasetError says what differs."""
        path = Path(path)
        if not path.exists():
            raise DatasetError(f"there is no image cache at {path}; make it with ImageCache.build")
        wanted, found = _header(table, root, size, interpolation)[0], _read_header(path)[0]
        stale = [key for key in wanted if found.get(key) != wanted[key]]
        if stale:
            raise DatasetError(
                f"the image cache {path} is stale: {', '.join(stale)} differ from the data set's. "
                "Build it again with ImageCache.build, or delete the file."
            )
        return cls._map(path, root)

    @classmethod
    def _map(cls, path: Path, root: str | Path) -> ImageCache:
        if not _is_whole(path):
            raise DatasetError(f"the image cache {path} has the wrong length; delete it and build it again")
        header, offset = _read_header(path)
        shape = (len(header["paths"]), 3, *header["size"])
        # Mode "c" (copy on write): pages are shared, and a stray write never reaches the file.
        images = torch.from_numpy(np.memmap(path, np.uint8, "c", offset, shape))
        row = {name: i for i, name in enumerate(header["paths"])}
        return cls(images, row, Path(os.path.abspath(root)), tuple(header["size"]), header["interpolation"])

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, relative: Sequence[str]) -> np.ndarray:
        """[M] rows of the images with these relative paths. DatasetError for one that is not cached."""
        try:
            return np.array([self.row[name] for name in relative], dtype=np.int64)
        except KeyError as error:
            raise DatasetError(
                f"the image {error.args[0]!r} is not in the cache of {len(self)} images; build the cache from "
                "the table that the loader reads"
            ) from error

    def to(self, device: str | torch.device) -> ImageCache:
        """The same cache in the memory of a device, so that batches are cut and augmented there."""
        return replace(self, images=self.images.to(device))

    def near(self, device: str | torch.device) -> ImageCache:
        """`to` the device if the images may lie there (`feed.fits`), else the cache as it is: mapped from its file."""
        place = torch.device(device)
        moves = self.images.device.type == "cpu" and fits(self.images.nbytes, place)
        return self.to(place) if moves else self


def _header(
    table: pd.DataFrame, root: str | Path, size: tuple[int, int], interpolation: Interpolation
) -> tuple[dict[str, Any], list[str]]:
    """What the cache of a table must say, and the files in order; a file of several rows is kept once."""
    paths = list(dict.fromkeys(table["path"]))
    relative = relative_paths(paths, root)
    header = {
        "fingerprint": fingerprint(paths, relative),
        "size": list(size),
        "interpolation": interpolation,
        "paths": relative,
    }
    return header, paths


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and where the pixels begin; an empty header where the file is no cache of this version."""
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return {}, 0
        length = int.from_bytes(file.read(8), "little")
        if length > os.path.getsize(path):
            return {}, 0
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return {}, 0
    return header, _padded(len(MAGIC) + 8 + length)


def _is_whole(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    header, offset = _read_header(path)
    images = len(header["paths"]) * 3 * header["size"][0] * header["size"][1]
    return os.path.getsize(path) == offset + images


def _fits(path: Path, header: dict[str, Any]) -> bool:
    return path.exists() and _read_header(path)[0] == header and _is_whole(path)


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _write(path: Path, header: dict[str, Any], paths: Sequence[str], workers: int, progress: bool) -> None:
    """Append the images to `<path>.part`, whose length says how far it is, and rename it when it is whole."""
    part = path.with_name(path.name + ".part")
    text = json.dumps(header).encode()
    start = (MAGIC + len(text).to_bytes(8, "little") + text).ljust(_padded(len(MAGIC) + 8 + len(text)), b"\0")
    bytes_each = 3 * header["size"][0] * header["size"][1]
    done = 0
    if part.exists() and _read_header(part)[0] == header:
        done = max(0, part.stat().st_size - len(start)) // bytes_each
    needed, free = bytes_each * (len(paths) - done), shutil.disk_usage(path.parent).free
    if needed > free:
        raise DatasetError(
            f"the image cache {path} needs {needed / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB; "
            f"make room, {ELSEWHERE}"
        )
    with open(part, "r+b" if done else "wb") as file:
        if not done:
            file.write(start)
        file.truncate(len(start) + done * bytes_each)  # half an image from an interrupted write goes
        file.seek(0, os.SEEK_END)
        bar = tqdm(total=len(paths), initial=done, unit="img", desc=path.name, disable=not progress)
        with bar:
            for images in _decoded(paths[done:], tuple(header["size"]), header["interpolation"], workers):
                file.write(images.tobytes())
                bar.update(len(images))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _decoded(
    paths: Sequence[str], size: tuple[int, int], interpolation: Interpolation, workers: int
) -> Iterator[np.ndarray]:
    """uint8 [<=CHUNK, 3, H, W] blocks in the order of the paths."""
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    decode = partial(_decode_chunk, size=size, interpolation=interpolation)
    if workers <= 1:
        yield from map(decode, chunks)
        return
    yield from ahead(decode, chunks, threads=workers, count=4 * workers)  # PIL lets go of the interpreter meanwhile


def _decode_chunk(paths: Sequence[str], size: tuple[int, int], interpolation: Interpolation) -> np.ndarray:
    return np.stack([read_image(path, size, interpolation) for path in paths])


@contextmanager
def _only_one_process(path: Path) -> Iterator[None]:
    """Let one process at a time build the cache at `path`. DatasetError where the disk does not take it."""
    try:
        with locked(path.with_name(f".{path.name}.lock"), f"another process builds {path}; waiting for it"):
            yield
    except OSError as error:
        raise DatasetError(f"{disk_error(f'cannot write the image cache {path}', error)}, or {ELSEWHERE}") from error
