"""The real loop: `fit` on random pictures in the image cache, with priors, translation copies and metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reidkit.bench.cache import write_set
from reidkit.bench.clock import Seconds, busy_share, device_peak, now
from reidkit.data import ReIDDataset, load_dataset
from reidkit.data.cache import ImageCache
from reidkit.data.images import relative_paths
from reidkit.data.loaders import Batch, BatchLoader, train_loader
from reidkit.files import write_json
from reidkit.models import create_model
from reidkit.models.zoo import variant
from reidkit.priors import PriorTable
from reidkit.training.device import choose_precision, make_accelerator
from reidkit.training.loop import fit
from reidkit.training.recipes import Recipe, resolved
from reidkit.training.runs import RunFolder

WARM_UP = 3  # batches before the clock starts: memory is taken, networks are compiled


class Watched:
    """A loader that reads the clock when `warm_up` batches were trained on, and after the last one."""

    def __init__(self, loader: BatchLoader, device: torch.device, warm_up: int) -> None:
        self.loader, self.device, self.warm_up = loader, device, warm_up
        self.started = self.ended = Seconds(0, 0)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Batch]:
        for i, batch in enumerate(self.loader):
            if i == self.warm_up:
                self.started = now(self.device)
            yield batch
        self.ended = now(self.device)  # asked for one more: the last batch is done

    def seconds(self) -> float:
        """Of all batches after the first ones."""
        return self.ended.on(self.device) - self.started.on(self.device)


def time_loop(name: str, recipe: Recipe, device: torch.device, *, compiled: bool, batches: int) -> dict[str, Any]:
    """One epoch of `fit` after WARM_UP batches: seconds a batch, images a second, busy share and peak of a GPU."""
    recipe = replace(recipe, epochs=1, batches_per_epoch=WARM_UP + batches, ide_init=False)
    with tempfile.TemporaryDirectory() as folder:
        ds = load_dataset("market-layout", root=write_set(Path(folder) / "set", recipe.num_ids, recipe.num_instances))
        model = create_model(name, ds.num_train_ids, backbone=recipe.backbone, **recipe.model)
        priors = full_priors(ds, recipe.size, model.stride) if model.needs_prior else None
        accelerator = make_accelerator(device, choose_precision(recipe.precision, device))
        cache = ImageCache.for_split(ds, "train", recipe.size, progress=False)
        chosen = ("size", "num_ids", "num_instances", "batches_per_epoch", "translation_copies")
        options = {key: getattr(recipe, key) for key in chosen}
        loader = train_loader(ds, **options, mode=recipe.sampling, seed=0, priors=priors, cache=cache, device=device)
        watched, loss = Watched(loader, device, WARM_UP), resolved(variant(name), recipe).loss

        def epoch() -> None:
            run = RunFolder(Path(folder) / "run")
            write_json(run.settings, {"recipe": asdict(recipe)})  # without it the folder counts as deleted
            fit(model, watched, loss, recipe, accelerator, run, seed=0, compile_net=compiled, progress=False)  # pyright: ignore[reportArgumentType]  (a loader in all that `fit` asks of it)

        epoch()
        seconds = watched.seconds() / batches
        row = {"batch": recipe.batch_size, "batches": batches, "seconds_a_batch": round(seconds, 5)}
        row |= {"images_a_second": round(recipe.batch_size / seconds, 1), "copies": recipe.translation_copies}
        return row | {"busy": busy_share(epoch, device, calls=1), "peak_mb": device_peak(epoch, device)}


def full_priors(ds: ReIDDataset, size: tuple[int, int], stride: int) -> PriorTable:
    """Priors of the training images: everywhere a person, from a tenth to nine tenths of the height."""
    paths = tuple(relative_paths(ds.train.path, ds.root))
    n = len(paths)
    masks, known = np.ones((n, size[0] // stride, size[1] // stride), bool), np.ones(n, bool)
    return PriorTable(paths, masks, np.full(n, 0.1, "f4"), np.full(n, 0.9, "f4"), known, np.ones(n, np.uint64))
