"""Loaders: uint8 batches from image files or from an `ImageCache`, the same pixels either way.

    loader = train_loader(ds, size=(384, 128), num_ids=6, num_instances=8, seed=0, device=device)
    augment, generator = TrainAugment(AugmentConfig()), torch.Generator().manual_seed(0)
    for epoch in range(70):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            batch = augment(batch, generator)      # float images [48, 3, 384, 128] on the device

Nothing in a loader is random except the sampler's plan, a function of (seed, epoch): the number of workers
changes nothing, and the global random state is not touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reidkit.data.cache import ImageCache
from reidkit.data.dataset import ReIDDataset
from reidkit.data.feed import send
from reidkit.data.images import Interpolation, relative_paths
from reidkit.data.prior import PriorBatch
from reidkit.data.sampler import PKSampler, Sampling
from reidkit.data.sources import Cut, Source, in_turn, open_source
from reidkit.data.texture import TextureBatch
from reidkit.data.transforms import shift_pixels, translate_table
from reidkit.errors import DatasetError, TrainingError

Images = pd.DataFrame | str | os.PathLike | Iterable[str | os.PathLike]  # a table with a column `path`, or paths


@dataclass(frozen=True)
class Batch:
    """B images and what is known about them.

    images: uint8 [B, 3, H, W]; float32 after `TrainAugment` or `TestTransform`.
    labels: long [B], class index in training, pid in tests. camids: long [B]. -1 where not known (`known_labels`).
    index: long [B], rows of the loader's table.
    prior: the coarse priors of the B images, or their textures (DSA-reID), or None.
    step: the place of the batch in its epoch, from 0.
    """

    images: Tensor
    labels: Tensor
    camids: Tensor
    index: Tensor
    prior: PriorBatch | TextureBatch | None = None
    step: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on a device; the copy is queued (`feed.send`)."""
        moved = {k: send(getattr(self, k), device) for k in ("images", "labels", "camids", "index")}
        return replace(self, **moved, prior=self.prior and self.prior.to(device))


class BatchLoader:
    """What `train_loader` and `test_batches` return: iterate it, again and again; `len` counts batches.

    table: the rows that `Batch.index` points into. device: where batches arrive. batch_size: images in a batch (the
    last of a test may have fewer). sampler: the `PKSampler` of a training loader (for `set_epoch`, `state_dict`,
    `load_state_dict`), None in tests. Its state counts the batches handed out by this loader, not those that were
    fetched ahead: a run resumes in mid-epoch with the very next batch.

    Labels, cameras, rows and priors of an epoch are put into the order of its batches at once, and reach the device in
    one copy each; a batch holds views of them.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        labels: np.ndarray,
        source: Source,
        plan: PKSampler | Sequence[list[int]],
        *,
        batch_size: int,
        prior: PriorBatch | TextureBatch | None = None,
        workers: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        self.table, self.batch_size, self.workers = table, batch_size, workers
        self.device = source.device if device is None else torch.device(device)
        self.sampler = plan if isinstance(plan, PKSampler) else None
        self._plan, self._prior = plan, prior
        self._labels = torch.tensor(labels, dtype=torch.long)
        self._camids = torch.from_numpy(known_labels(table, "camid"))
        pixels = None
        if "dx" in table:
            dx, dy = torch.tensor(table[["dx", "dy"]].to_numpy(), dtype=torch.float32).T  # [N], [N]
            pixels = shift_pixels(dx, dy, source.size)
            self._prior = prior and prior.translate(dx, dy)
        self._cut = Cut(source, pixels)

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[Batch]:
        plan = self.sampler.remaining() if self.sampler else self._plan
        first, sizes = self.sampler.done if self.sampler else 0, [len(rows) for rows in plan]
        index = torch.tensor([row for rows in plan for row in rows], dtype=torch.long)  # [M], batch after batch
        columns = [index, self._labels.index_select(0, index), self._camids.index_select(0, index)]
        columns += self._prior.rows(index) if isinstance(self._prior, PriorBatch) else ()
        batches = zip(*(send(column, self.device).split(sizes) for column in columns))
        cuts = in_turn(self._cut, send(index, self._cut.source.device).split(sizes), self.device, self.workers)
        places = index.split(sizes)
        for step, (images, (rows, labels, camids, *columns)) in enumerate(zip(cuts, batches), first):
            if self.sampler:
                self.sampler.advance()
            prior = PriorBatch(*columns) if columns else None
            if self._prior is not None and prior is None:  # textures: an epoch of them is too much for one copy
                prior = self._prior.rows(places[step - first]).to(self.device)
            yield Batch(send(images, self.device), labels, camids, rows, prior, step)


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
    device: str | torch.device | None = None,
) -> BatchLoader:
    """PxK batches of the training split, not yet augmented (see `TrainAugment`).

    size: (height, width) in pixels. num_ids, num_instances, seed, batches_per_epoch, mode, rank, world_size: of
        `PKSampler`; P x K is the batch of this process (`ids_per_batch` gets P from a batch size).
    priors: a `reidkit.priors.PriorTable` that knows every training image; looked up once, by relative path.
    translation_copies: 5 for MPN (`translate_table`).
    device: where batches arrive, by default where the images are. A cache in main memory is copied there if it may
        take that much of the device's memory (`ImageCache.near`); a cache that is on a device already stays.
    workers: without a cache, processes that decode. With a cache in main memory, threads that cut batches ahead of
        the training (for another device than the CPU at least one). A cache on the device needs neither.
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
    source = open_source(table, size, interpolation, cache, device)
    prior = _look_up(priors, table, ds.root)
    more = {"batch_size": num_ids * num_instances, "workers": workers, "device": device}
    return BatchLoader(table, table["label"].to_numpy(), source, sampler, prior=prior, **more)


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
    holds anything but whole numbers, such as names. Whole floats, pandas' form of a column with gaps, are integers."""
    kind = pd.api.types.infer_dtype(table[column], skipna=True) if column in table else "absent"
    if kind == "integer":
        return table[column].fillna(-1).to_numpy(dtype=np.int64, copy=True)
    if kind in ("floating", "mixed-integer-float"):
        values = table[column].fillna(-1).to_numpy(dtype=np.float64)
        if (values == np.floor(values)).all() and (np.abs(values) < 2**63).all():
            return values.astype(np.int64)
    return np.full(len(table), -1, dtype=np.int64)


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
    device: str | torch.device | None = None,
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
    source = open_source(table, size, interpolation, cache, device)
    more = {"batch_size": batch_size, "workers": workers, "device": device}
    return BatchLoader(table, known_labels(table, "pid"), source, plan, prior=_look_up(priors, table, root), **more)


test_batches.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]  (not a test case, whatever pytest thinks of the name)


def _look_up(priors, table: pd.DataFrame, root: str | Path | None) -> PriorBatch | None:
    """The priors of all N rows of the table."""
    if priors is None or root is None:  # `test_batches` refuses priors without a root
        return None
    return priors.lookup(relative_paths(table["path"], root))
