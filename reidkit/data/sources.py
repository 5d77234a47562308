"""Where the pixels of batches come from, files or an `ImageCache`, and who reads them.

source = open_source(table, (384, 128), "bilinear", cache, "cuda")
for images in in_turn(Cut(source, shifts), plan, device, workers=0):    # uint8 [B, 3, 384, 128]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reidkit.data.cache import ImageCache
from reidkit.data.feed import ahead, pinned, send
from reidkit.data.images import Interpolation, read_image, relative_paths
from reidkit.data.transforms import move_images
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.lifetime import end_with


class Source(Protocol):
    """uint8 images [B, 3, H, W] of some rows [B], on the device where they lie."""

    @property
    def device(self) -> torch.device:
        """Where the images come out."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        ...

    def __call__(self, rows: Tensor) -> Tensor: ...


def open_source(
    table: pd.DataFrame,
    size: tuple[int, int],
    interpolation: Interpolation,
    cache: ImageCache | None,
    device: str | torch.device | None,
) -> FromFiles | FromCache:
    """The cache, near the device, or without one the files. DatasetError for a cache that does not fit the request."""
    if cache is None:
        return FromFiles(table["path"].tolist(), (size[0], size[1]), interpolation)
    wanted, found = (*size, interpolation), (*cache.size, cache.interpolation)
    if wanted != found:
        raise DatasetError(
            "the image cache holds {}x{} {} images, the loader asks for {}x{} {}; build one that fits "
            "(ImageCache.for_split(..., interpolation=...)) or read the files (cache=None)".format(*found, *wanted)
        )
    return FromCache(cache if device is None else cache.near(device), table)


@dataclass(frozen=True)
class FromFiles:
    """Decode and resize the images of some rows."""

    paths: list[str]
    size: tuple[int, int]
    interpolation: Interpolation

    @property
    def device(self) -> torch.device:
        """The host: files are decoded there."""
        return torch.device("cpu")

    def __call__(self, rows: Tensor) -> Tensor:
        images = [read_image(self.paths[i], self.size, self.interpolation) for i in rows.tolist()]
        return torch.from_numpy(np.stack(images))


class FromCache:
    """Copy the images of some rows out of the cache, on the device where it lives."""

    def __init__(self, cache: ImageCache, table: pd.DataFrame) -> None:
        self.images, self.device, self.size = cache.images, cache.images.device, cache.size
        self.rows = send(torch.from_numpy(cache.rows(relative_paths(table["path"], cache.root))), self.device)

    def __call__(self, rows: Tensor) -> Tensor:
        return self.images.index_select(0, self.rows.index_select(0, rows))


class Cut:
    """The images of some rows, moved by the rows' shifts [N, 2] in pixels, on the device where their source is."""

    def __init__(self, source: Source, pixels: Tensor | None) -> None:
        self.source, self.pixels = source, pixels if pixels is None else send(pixels, source.device)

    def __call__(self, rows: Tensor) -> Tensor:
        images = self.source(rows)
        return images if self.pixels is None else move_images(images, self.pixels.index_select(0, rows))


def in_turn(cut: Cut, plan: Sequence[Tensor], device: torch.device, workers: int) -> Iterator[Tensor]:
    """uint8 [B, 3, H, W] of each batch of rows, in order; ahead of need where the host has to work for them.

    plan: rows on the source's device. device: where the batches go next: pinned for a CUDA device.
    workers: see `train_loader`.
    """
    if cut.source.device.type != "cpu":
        return map(cut, plan)  # a few kernels of the device
    if workers and not isinstance(cut.source, FromCache):
        loader = DataLoader(
            _Fetched(cut, plan),
            batch_size=None,  # one item of the data set is one batch
            num_workers=workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else the loader would draw from the global one
            worker_init_fn=partial(_end_with, os.getpid()),
        )
        return map(_raise_here, loader)
    if workers or device.type != "cpu":
        threads = max(1, workers)
        return ahead(lambda rows: pinned(cut(rows), device), plan, threads=threads, count=threads)
    return map(cut, plan)


def _end_with(parent: int, _worker: int) -> None:
    """torch's own watch misses a parent that ended while its worker was starting: that one would wait for good."""
    end_with(parent)


class _Fetched(Dataset):
    """Batch i of a plan, for the worker processes; errors travel as values, to be raised unwrapped."""

    def __init__(self, fetch: Callable[[Tensor], Tensor], plan: Sequence[Tensor]) -> None:
        self.fetch, self.plan = fetch, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, i: int) -> Tensor | ReIDKitError:
        try:
            return self.fetch(self.plan[i])
        except ReIDKitError as error:
            return error


def _raise_here(fetched: Tensor | ReIDKitError) -> Tensor:
    if isinstance(fetched, ReIDKitError):
        raise fetched
    return fetched
