"""What to say when a step does not fit in the memory of the device: the largest batch that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reidkit.data.loaders import Batch
from reidkit.errors import TrainingError
from reidkit.training.gradients import Gradients, is_out_of_memory
from reidkit.training.recipes import Recipe


def within_memory(
    step: Callable[..., dict[str, Tensor]],
    batch: Batch,
    gradients: Gradients,
    optimizer: Any,
    recipe: Recipe,
    lr: float,
) -> dict[str, Tensor]:
    """`step(batch, gradients, optimizer, recipe, lr)`. Where that runs out of memory, a TrainingError that names the
    largest P x K that fits: smaller batches are tried, so afterwards the weights are good for nothing."""
    try:
        return step(batch, gradients, optimizer, recipe, lr)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).rpartition("DefaultCPUAllocator: ")[2].partition(". ")[0]
    # Out here the error is gone, and with it everything that the failed step held.
    ids, instances, fewest = recipe.num_ids, recipe.num_instances, smallest(recipe)
    alone = gradients.accelerator.num_processes == 1  # several processes would wait for each other
    attempt = partial(step, gradients=gradients.uncompiled(), optimizer=optimizer, recipe=recipe, lr=lr)
    fits = largest_batch(attempt, batch, recipe) if alone else ids // 2
    if fits >= fewest:
        found = "the largest batch that fits has" if alone else "try one of"
        advice = f"{found} {fits * instances} images, P x K = {fits} x {instances}: --set num_ids={fits}"
    else:
        advice = f"not even {fewest} x {instances} images fit: smaller ones (--set size=...) or another device may"
    raise TrainingError(
        f"a step of {ids * instances} images (P x K = {ids} x {instances}, {recipe.size[0]}x{recipe.size[1]} pixels) "
        f"does not fit in memory ({reason}); {advice}. That is another run, in a folder of its own; the epochs "
        "finished here are kept"
    )


def largest_batch(attempt: Callable[[Batch], Any], batch: Batch, recipe: Recipe) -> int:
    """The largest P below the recipe's whose P x K images an attempt survives, by halving; 0 where none does."""
    fits, fails = smallest(recipe) - 1, recipe.num_ids
    while fails - fits > 1:
        ids = (fits + fails) // 2
        if _survives(attempt, first_images(batch, ids * recipe.num_instances)):
            fits = ids
        else:
            fails = ids
    return fits if fits >= smallest(recipe) else 0


def smallest(recipe: Recipe) -> int:
    """The smallest P that can be trained: batch norm needs two images."""
    return 1 if recipe.num_instances > 1 else 2


def first_images(batch: Batch, count: int) -> Batch:
    """The first `count` images of a batch."""
    parts = {name: getattr(batch, name)[:count] for name in ("images", "labels", "camids", "index")}
    return replace(batch, **parts, prior=batch.prior and batch.prior.rows(slice(count)))


def _survives(attempt: Callable[[Batch], Any], batch: Batch) -> bool:
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    try:
        attempt(batch)
    except RuntimeError as error:
        if is_out_of_memory(error):
            return False
        raise
    return True
