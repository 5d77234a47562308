"""Loaders: uint8 batches from image files or from an `ImageCache`, the same pixels either way.

    loader = train_loader(ds, size=(384, 128), num_ids=6, num_instances=8, seed=0)
    augment, generator = TrainAugment(AugmentConfig()), torch.Generator().manual_seed(0)
    for epoch in range(70):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            batch = augment(batch.to(device), generator)      # float images [48, 3, 384, 128]

Nothing in a loader is random except the sampler's plan, a function of (seed, epoch): the number of workers
changes nothing, and the global random state is not touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reidkit.data.cache import ImageCache
from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import Interpolation, read_image, relative_paths
from reidkit.data.prior import PriorBatch
from reidkit.data.sampler import PKSampler, Sampling
from reidkit.data.transforms import translate_images, translate_table
from reidkit.errors import DatasetError, ReIDKitError, TrainingError

Images = pd.DataFrame | str | os.PathLike | Iterable[str | os.PathLike]  # a table with a column `path`, or paths


@dataclass(frozen=True)
class Batch:
    """B images and what is known about them.

    images: uint8 [B, 3, H, W]; float32 after `TrainAugment` or `TestTransform`.
    labels: long [B], class index in training, pid in tests. camids: long [B]. -1 where not known (`known_labels`).
    index: long [B], rows of the loader's table.
    prior: the coarse priors of the B images, or None.
    """

    images: Tensor
    labels: Tensor
    camids: Tensor
    index: Tensor
    prior: PriorBatch | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on a device."""
        moved = {k: getattr(self, k).to(device, non_blocking=True) for k in ("images", "labels", "camids", "index")}
        return replace(self, **moved, prior=self.prior and self.prior.to(device))


class BatchLoader:
    """What `train_loader` and `test_batches` return: iterate it, again and again; `len` counts batches.

    table: the rows that `Batch.index` points into. sampler: the `PKSampler` of a training loader (for
    `set_epoch`, `state_dict`, `load_state_dict`), None in tests. Its state counts the batches handed out by
    this loader, not those that workers fetched ahead: a run resumes in mid-epoch with the very next batch.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        labels: np.ndarray,
        fetch: Callable[[list[int]], Tensor],
        plan: PKSampler | Sequence[list[int]],
        *,
        prior: PriorBatch | None = None,
        workers: int = 0,
    ) -> None:
        self.table, self.workers = table, workers
        self.sampler = plan if isinstance(plan, PKSampler) else None
        self._plan, self._fetch, self._prior = plan, fetch, prior
        self._labels = torch.tensor(labels, dtype=torch.long)
        self._camids = torch.from_numpy(known_labels(table, "camid"))
        self._shifts = None
        if "dx" in table:
            self._shifts = torch.tensor(table[["dx", "dy"]].to_numpy(), dtype=torch.float32)  # [N, 2]
            self._prior = prior and prior.translate(*self._shifts.T)

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[Batch]:
        plan = self.sampler.remaining() if self.sampler else list(self._plan)
        for rows, images in zip(plan, self._images(plan)):
            if self.sampler:
                self.sampler.advance()
            yield self._batch(rows, images)

    def _images(self, plan: list[list[int]]) -> Iterator[Tensor]:
        """uint8 [B, 3, H, W] of each batch of rows, in order."""
        if not self.workers:
            return map(self._fetch, plan)
        loader = DataLoader(
            _Fetched(self._fetch, plan),
            batch_size=None,  # one item of the data set is one batch
            num_workers=self.workers,
            generator=torch.Generator(),  # else the loader would draw from the global one
        )
        return map(_raise_here, loader)

    def _batch(self, rows: list[int], images: Tensor) -> Batch:
        index = torch.tensor(rows)
        if self._shifts is not None:
            images = translate_images(images, *self._shifts[index].T)
        prior = self._prior and self._prior.rows(index)
        return Batch(images, self._labels[index], self._camids[index], index, prior)


class _Fetched(Dataset):
    """Batch i of a plan, for the worker processes; errors travel as values, to be raised unwrapped."""

    def __init__(self, fetch: Callable[[list[int]], Tensor], plan: list[list[int]]) -> None:
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


@dataclass(frozen=True)
class _FromFiles:
    """Decode and resize the images of some rows."""

    paths: list[str]
    size: tuple[int, int]
    interpolation: Interpolation

    def __call__(self, rows: list[int]) -> Tensor:
        images = [read_image(self.paths[i], self.size, self.interpolation) for i in rows]
        return torch.from_numpy(np.stack(images))


class _FromCache:
    """Copy the images of some rows out of the cache, on the device where it lives."""

    def __init__(self, cache: ImageCache, table: pd.DataFrame) -> None:
        self.images = cache.images
        rows = cache.rows(relative_paths(table["path"], cache.root))
        self.rows = torch.from_numpy(rows).to(cache.images.device)

    def __call__(self, rows: list[int]) -> Tensor:
        return self.images[self.rows[torch.tensor(rows, device=self.rows.device)]]


def train_loader(
    ds: ReIDDataset,
    *,
    size: tuple[int, int],
    num_ids: int,
    num_instances: int,
    seed: int,
    priors=None,
    workers: int = 0,
    cache: ImageCache | None = None,
    batches_per_epoch: int | None = None,
    mode: Sampling = "cover",
    translation_copies: int = 1,
    interpolation: Interpolation = "bilinear",
    rank: int = 0,
    world_size: int = 1,
) -> BatchLoader:
    """PxK batches of the training split, not yet augmented (see `TrainAugment`).

    size: (height, width) in pixels. num_ids, num_instances, seed, batches_per_epoch, mode, rank, world_size: of
        `PKSampler`; P x K is the batch of this process (`ids_per_batch` gets P from a batch size).
    priors: a `reidkit.priors.PriorTable` that knows every training image; looked up once, by relative path.
    workers: decoding processes; not needed with a cache. translation_copies: 5 for MPN (`translate_table`).
    Raises DatasetError for images that do not decode or are not in the cache, PriorError for missing priors,
    TrainingError where P x K does not fit the data set.
    """
    table = ds.train.assign(label=ds.train_labels()).reset_index(drop=True)
    if translation_copies != 1:
        table = translate_table(table, translation_copies, seed=seed)
    sampler = PKSampler(
        table["label"],
        num_ids,
        num_instances,
        seed=seed,
        mode=mode,
        batches_per_epoch=batches_per_epoch,
        rank=rank,
        world_size=world_size,
    )
    fetch, workers = _source(table, size, interpolation, cache, workers)
    prior = _look_up(priors, table, ds.root)
    return BatchLoader(table, table["label"].to_numpy(), fetch, sampler, prior=prior, workers=workers)


def image_table(images: Images) -> pd.DataFrame:
    """A table with the column `path` (str) and rows numbered from 0: one row an image, in the order given.

    images: a table that has a column `path` (its other columns are kept), one path, or several.
    Raises DatasetError for anything that is not a path, a folder included.
    """
    if isinstance(images, pd.DataFrame):
        if "path" not in images:
            raise DatasetError(f"the table of images needs a column 'path'; it has {[str(c) for c in images.columns]}")
        table = images.reset_index(drop=True)
    else:
        paths = images if isinstance(images, Iterable) and not isinstance(images, str) else [images]
        table = pd.DataFrame({"path": pd.Series(list(paths), dtype=object)})
    for row, path in enumerate(table["path"]):
        if not isinstance(path, (str, os.PathLike)):
            raise DatasetError(f"image {row} is a {type(path).__name__}; expected the path of an image file")
        if not os.path.splitext(path)[1] and os.path.isdir(path):
            raise DatasetError(
                f"{os.fspath(path)!r} is a folder; pass its image files, for example sorted(Path(folder).glob('*.jpg'))"
            )
    return table.assign(path=[os.fspath(path) for path in table["path"]])


def known_labels(table: pd.DataFrame, column: str) -> np.ndarray:
    """[N] int64 of the table's column; -1 ("not known") in empty cells, where the column is absent, and where it
    holds anything but integers, such as names."""
    if column not in table or pd.api.types.infer_dtype(table[column], skipna=True) != "integer":
        return np.full(len(table), -1, dtype=np.int64)
    return table[column].fillna(-1).to_numpy(dtype=np.int64, copy=True)


def test_batches(
    images: Images,
    *,
    size: tuple[int, int],
    batch_size: int,
    workers: int = 0,
    interpolation: Interpolation = "bilinear",
    cache: ImageCache | None = None,
    root: str | Path | None = None,
    priors=None,
) -> BatchLoader:
    """All images in order, `batch_size` at a time (the last batch may be smaller). labels are pids.

    images: a table with a column `path`, one path, or several. Only paths are needed: see `known_labels` for pid and
    camid. root: the data set's root, needed with `priors`. The other arguments as in `train_loader`.
    """
    if batch_size < 1:
        raise TrainingError(f"batch_size must be at least 1, not {batch_size}")
    if priors is not None and root is None:
        raise DatasetError("priors are looked up by paths relative to the data set: pass root=ds.root")
    table = image_table(images)
    plan = [list(range(i, min(i + batch_size, len(table)))) for i in range(0, len(table), batch_size)]
    fetch, workers = _source(table, size, interpolation, cache, workers)
    prior = _look_up(priors, table, root)
    return BatchLoader(table, known_labels(table, "pid"), fetch, plan, prior=prior, workers=workers)


test_batches.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]  (not a test case, whatever pytest thinks of the name)


def _source(
    table: pd.DataFrame, size: tuple[int, int], interpolation: Interpolation, cache: ImageCache | None, workers: int
) -> tuple[Callable[[list[int]], Tensor], int]:
    """Where pixels come from, and how many workers that needs."""
    if cache is None:
        return _FromFiles(table["path"].tolist(), (size[0], size[1]), interpolation), workers
    wanted, found = (*size, interpolation), (*cache.size, cache.interpolation)
    if wanted != found:
        raise DatasetError(
            "the image cache holds {}x{} {} images, the loader asks for {}x{} {}; build one that fits "
            "(ImageCache.for_split(..., interpolation=...)) or read the files (cache=None)".format(*found, *wanted)
        )
    return _FromCache(cache, table), 0


def _look_up(priors, table: pd.DataFrame, root: str | Path | None) -> PriorBatch | None:
    """The priors of all N rows of the table."""
    if priors is None or root is None:  # `test_batches` refuses priors without a root
        return None
    return priors.lookup(relative_paths(table["path"], root))
