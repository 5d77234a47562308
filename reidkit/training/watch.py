"""What is seen of a training run from outside: its losses, its pace, and what went wrong.

A step leaves its losses on the device. Reading one makes the host wait until the device has caught up, so they are read
together, once in `READ_EVERY` batches and at the end of an epoch. Trouble is therefore noticed some batches late; but
it is traced to its batch, and no checkpoint is written in between.
"""

from __future__ import annotations

import math
import sys
import time

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from reidkit.errors import TrainingError
from reidkit.files import write_json
from reidkit.training.recipes import Recipe
from reidkit.training.runs import RunFolder

READ_EVERY = 50  # batches
WARM_UP = 10  # batches that the estimate of the pace leaves out: compilers, caches
ADVICE = (
    "Lower the learning rate (--set lr=...), warm up (--set warmup_batches=...), or "
    "compute in full precision (--set precision=no); `reidkit data check` finds damaged images."
)


class Watch:
    """Collects the losses of a run; shows a progress bar, and once how long the run will take.

    table: the loader's rows, with the column `path`. steps: batches an epoch. finished: epochs done before.
    """

    def __init__(
        self, run: RunFolder, table: pd.DataFrame, recipe: Recipe, steps: int, *, finished: int, shown: bool
    ) -> None:
        self.run, self.table, self.images = run, table, recipe.batch_size  # of all processes together
        total, done = recipe.epochs * steps, finished * steps
        self.bar = tqdm(total=total, initial=done, unit="batch", desc=run.path.name, disable=not shown)
        self.epoch, self.seen, self.left, self.warm = finished, 0, total - done, 0.0
        self._waiting: list[tuple[Tensor, Tensor]] = []  # ([terms], [B] rows) of each batch not read yet
        self._names: list[str] = []
        self._read: list[list[float]] = []  # [batches, terms] of this epoch

    def batch(self, terms: dict[str, Tensor], rows: Tensor) -> None:
        """Take note of a batch: scalars on the device, and which rows [B] of the table it showed."""
        self._names = list(terms)
        self._waiting.append((torch.stack(list(terms.values())), rows))
        self.seen, self.left = self.seen + 1, self.left - 1
        self.bar.update()
        if len(self._waiting) == READ_EVERY or self.seen in (WARM_UP, READ_EVERY):
            self.read()

    def read(self) -> None:
        """Fetch the losses that wait on the device. TrainingError for a NaN or infinite one."""
        if not self._waiting:
            return
        losses = torch.stack([terms for terms, _ in self._waiting]).tolist()  # the host waits here
        for terms, (_, rows) in zip(losses, self._waiting):
            self._read.append(terms)
            if not all(map(math.isfinite, terms)):
                raise self._not_finite(dict(zip(self._names, terms)), rows)
        self._waiting = []
        self.bar.set_postfix(epoch=self.epoch + 1, loss=f"{self._mean(0):.2f}", refresh=False)
        if self.seen == WARM_UP:
            self.warm = time.perf_counter()
        if self.seen == READ_EVERY and self.left and not self.bar.disable:
            seconds = time.perf_counter() - self.warm
            self.bar.write(pace(READ_EVERY - WARM_UP, seconds, self.left, self.images), file=sys.stderr)

    def end_epoch(self) -> dict[str, float]:
        """The means of the epoch's losses, when all of them are read."""
        self.read()
        means = {name: self._mean(i) for i, name in enumerate(self._names)}
        self.epoch, self._read = self.epoch + 1, []
        return means

    def _mean(self, term: int) -> float:
        return sum(losses[term] for losses in self._read) / len(self._read)

    def _not_finite(self, terms: dict[str, float], rows: Tensor) -> TrainingError:
        """The error for the batch read last, after its images and terms are written beside the run."""
        epoch, batch, file = self.epoch + 1, len(self._read), self.run.path / "nonfinite.json"
        shown = self.table.iloc[rows.tolist()]
        report = {"epoch": epoch, "batch": batch, "rows": rows.tolist(), "images": shown["path"].tolist()}
        write_json(file, report | {"terms": {k: v if math.isfinite(v) else str(v) for k, v in terms.items()}})
        bad = [name for name, value in terms.items() if name != "loss" and not math.isfinite(value)]
        return TrainingError(
            f"the loss became {terms['loss']} in epoch {epoch}, batch {batch} (terms: {bad}); "
            f"{kept(self.run, self.epoch)}. The images of that batch are listed in {file}. {ADVICE}"
        )


def kept(run: RunFolder, finished: int) -> str:
    """Words for what is left of a run that has to stop after `finished` epochs."""
    return f"the checkpoint of epoch {finished} is kept in {run.checkpoint}" if finished else "no epoch was finished"


def check_weights(model: nn.Module, optimizer: torch.optim.Optimizer, run: RunFolder, finished: int) -> None:
    """TrainingError where the next checkpoint would hold a NaN or an infinity; the one before it is kept.

    A step may break the weights although its loss was finite, and after an epoch's last step no loss tells.
    """
    tensors = dict(model.state_dict())
    for i, buffers in enumerate(optimizer.state.values()):
        tensors |= {f"{name} {i}": value for name, value in buffers.items() if isinstance(value, Tensor)}
    names = [name for name, value in tensors.items() if value.is_floating_point()]
    finite = torch.stack([tensors[name].isfinite().all() for name in names]).tolist()
    if bad := [name for name, good in zip(names, finite) if not good]:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise TrainingError(
            f"the weights became NaN or infinite at the end of epoch {finished + 1} ({', '.join(bad[:3])}{more}), "
            f"which is not saved; {kept(run, finished)}. {ADVICE}"
        )


def pace(batches: int, seconds: float, left: int, images: int) -> str:
    """How fast a run goes, and how long it still takes.

    >>> pace(40, 20.0, 18830, 48)
    '96 images a second; 2.6 hours of training left (18,830 batches)'
    """
    hours = left * seconds / batches / 3600
    time_left = f"{hours:.1f} hours" if hours >= 1 else f"{math.ceil(60 * hours)} minutes"
    rate = batches * images / max(seconds, 1e-9)
    return f"{rate:,.0f} images a second; {time_left} of training left ({left:,} batches)"
