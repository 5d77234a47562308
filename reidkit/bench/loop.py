"""The real loop: `fit` on random pictures in the image cache, with priors, translation copies and metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reidkit.bench.cache import write_set
from reidkit.bench.clock import Busy, Timed, device_peak
from reidkit.bench.steps import Mode
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
    """A loader that enters `around` when `warm_up` batches were trained on, and leaves it when the last one was."""

    def __init__(self, loader: BatchLoader, warm_up: int, around: Timed) -> None:
        self.loader, self.warm_up, self.around = loader, warm_up, around

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Batch]:
        with ExitStack() as stack:
            for i, batch in enumerate(self.loader):
                if i == self.warm_up:
                    stack.enter_context(self.around)
                yield batch  # asked for one more, the last batch is done


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
        time, busy, loss = Timed(device), Busy(device), resolved(variant(name), recipe).loss
        watched = Watched(loader, WARM_UP, time)

        def epoch() -> bool:
            run = RunFolder(Path(folder) / "run")
            write_json(run.settings, {"recipe": asdict(recipe)})  # without it the folder counts as deleted
            rows = fit(model, watched, loss, recipe, accelerator, run, seed=0, compile_net=compiled, progress=False)  # pyright: ignore[reportArgumentType]  (a loader in all that `fit` asks of it)
            return bool(rows[-1]["compiled"])

        mode: Mode = "compiled" if epoch() else "eager"  # eager as well where compiling failed
        watched.around, seconds = busy, time.seconds.on(device) / batches
        row = {"mode": mode, "batch": recipe.batch_size, "batches": batches, "seconds_a_batch": round(seconds, 5)}
        row |= {"images_a_second": round(recipe.batch_size / seconds, 1), "copies": recipe.translation_copies}
        peak = device_peak(epoch, device)  # and `busy` on the way
        return row | {"busy": busy.share, "peak_mb": peak}


def full_priors(ds: ReIDDataset, size: tuple[int, int], stride: int) -> PriorTable:
    """Priors of the training images: everywhere a person, from a tenth to nine tenths of the height."""
    paths = tuple(relative_paths(ds.train.path, ds.root))
    n = len(paths)
    masks, known = np.ones((n, size[0] // stride, size[1] // stride), bool), np.ones(n, bool)
    return PriorTable(paths, masks, np.full(n, 0.1, "f4"), np.full(n, 0.9, "f4"), known, np.ones(n, np.uint64))
