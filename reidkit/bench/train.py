"""`reidkit bench train`: what a training step costs beside its bare backbone, and the real loop beside the step.

reidkit bench train --set names=mpn,baseline --set backbone=resnet50 --set batches=16,48 --save FILE.json

All in one process, by one clock: seconds of the CPU on a CPU, of the wall on a GPU (see `clock`).
- *bare*: the backbone, global average pooling and one classifier, with their cross entropy: the least a step can cost.
- a *step* of each variant: forward, its losses, backward, optimiser, on random images that lie on the device; and
  the share of its losses (their forward and backward pass on outputs that are at hand).
- the *loop*: `fit` on a data set of random pictures in the image cache, with priors, translation copies and metrics.
Networks take turns, so that a busy machine slows all of them, and the best turn of each is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tqdm.auto import tqdm

from reidkit.bench.clock import best_of_turns, busy_share, device_peak, measure
from reidkit.bench.loop import time_loop
from reidkit.bench.steps import BareStep, Mode, VariantStep
from reidkit.errors import ReIDKitError
from reidkit.training.device import choose_device
from reidkit.training.recipes import Recipe, recipe_for

BARE = "bare"


def run(
    names: tuple[str, ...] = ("ide", "pcb", "baseline", "pyramid", "mpn-no-ca", "mpn", "cgpn", "mgn"),
    *,
    preset: str | None = None,
    backbone: str | None = None,
    size: tuple[int, int] | None = None,
    batches: tuple[int, ...] = (),
    modes: tuple[Mode, ...] | None = None,
    device: str = "auto",
    steps: int = 10,
    turns: int = 3,
    loops: tuple[str, ...] = (),
    loop_batches: int = 50,
    progress: bool = True,
) -> dict[str, Any]:
    """Rows of steps and of loops: network, mode, batch, seconds, images a second, and beside what.

    names: variants. preset: default "paper" on a GPU, else "quick"; backbone, size: other than the preset's.
    batches: images in a batch (default 48, 96 and 192 on a GPU, else the preset's); each a multiple of the preset's
    images per identity. modes: eager, compiled (default both on a GPU, else eager). steps, turns: a turn is so many
    steps, the best turn counts. loops: variants whose real loop is measured too, `loop_batches` batches each.

    Returns `rows` (a bare row for every mode and batch; `times_bare`: this step by the bare one), `loops`
    (`of_step`: the loop's images a second by those of its step in the same mode), `variants` (the first row of each),
    and why there is no share of busy time or peak of memory where the device is a CPU. A row's mode is what ran: where
    compiling fails, a warning says why, and the row is eager. Raises ReIDKitError for batches that do not fit and for
    loops of variants that are not among the names, before the first step.
    """
    chosen = choose_device(device)
    gpu = chosen.type == "cuda"
    preset = preset or ("paper" if gpu else "quick")
    both: tuple[Mode, ...] = ("eager", "compiled")
    chosen_modes = modes or (both if gpu else both[:1])
    recipes = {name: changed(recipe_for(name, preset), backbone, size) for name in names}
    if alone := [name for name in loops if name not in names]:
        raise ReIDKitError(f"loops={alone[0]}: the loop stands beside the step, so name it in names as well")
    sizes = batches or ((48, 96, 192) if gpu else tuple(dict.fromkeys(r.batch_size for r in recipes.values())))
    work: list[tuple[Mode, dict[str, Recipe]]]
    work = [(mode, of_batch(recipes, batch)) for mode in chosen_modes for batch in sizes if recipes]
    rows, timed = [], []
    for mode, group in tqdm(work, unit="group", disable=not progress):
        rows += time_steps(group, mode, chosen, steps, turns)
    plan = [(mode, name, group) for mode, group in work for name in loops]
    for mode, name, group in tqdm(plan, unit="loop", disable=not progress):
        found = time_loop(name, group[name], chosen, compiled=mode == "compiled", batches=loop_batches)
        timed.append({"network": name, **found, "of_step": None})
        step = next((r for r in rows if all(r[k] == timed[-1][k] for k in ("network", "mode", "batch"))), None)
        if step:
            timed[-1]["of_step"] = round(timed[-1]["images_a_second"] / step["images_a_second"], 3)
    firsts = {name: next(row for row in rows if row["network"] == name) for name in recipes}
    reason = {} if gpu else {"null": "busy and peak_mb are asked of a GPU; this device is a CPU"}
    return {"preset": preset, **reason, "rows": rows, "loops": timed, "variants": firsts}


def changed(recipe: Recipe, backbone: str | None, size: tuple[int, int] | None) -> Recipe:
    """A recipe without downloads, with another backbone and size where they are given."""
    return replace(recipe, pretrained=False, backbone=backbone or recipe.backbone, size=size or recipe.size)


def of_batch(recipes: dict[str, Recipe], batch: int) -> dict[str, Recipe]:
    """The recipes with `batch` images in a batch: as many an identity as before, of more or fewer identities."""
    for name, recipe in recipes.items():
        if batch < 2 * recipe.num_instances or batch % recipe.num_instances:
            raise ReIDKitError(
                f"batches={batch}: {name} takes {recipe.num_instances} images of each identity, so a batch is a "
                f"multiple of {recipe.num_instances}, of two identities at least"
            )
    return {name: replace(r, num_ids=batch // r.num_instances) for name, r in recipes.items()}


def time_steps(
    recipes: dict[str, Recipe], mode: Mode, device: torch.device, steps: int, turns: int
) -> list[dict[str, Any]]:
    """One row a network, the bare backbone first: of all recipes' backbones the first one's."""
    first = next(iter(recipes.values()))
    variants = {name: VariantStep(name, recipe, mode, device) for name, recipe in recipes.items()}
    trained = {BARE: BareStep(first, mode, device), **variants}
    ways: dict[str, Callable[[], Any]] = {name: repeated(step, steps) for name, step in trained.items()}
    ways |= {f"losses of {name}": repeated(step.losses_alone(), steps) for name, step in variants.items()}
    for step in trained.values():
        repeated(step, 2)()  # not counted: memory is taken, kernels are chosen
    best = {way: seconds.on(device) / steps for way, seconds in best_of_turns(ways, turns, device).items()}
    batch, rows = first.batch_size, []
    for name, step in trained.items():
        row = {"network": name, "mode": step.mode, "batch": batch, "precision": step.precision}
        row |= {"seconds_a_step": round(best[name], 5), "images_a_second": round(batch / best[name], 1)}
        row["times_bare"] = round(best[name] / best[BARE], 3)
        row["losses_share"] = round(best[f"losses of {name}"] / best[name], 3) if name in recipes else None
        rows.append(row | {"busy": busy_share(step, device), "peak_mb": device_peak(step, device)})
    return rows


def repeated(work: Callable[[], Any], times: int) -> Callable[[], None]:
    """A function that does `work` so many times."""

    def several() -> None:
        for _ in range(times):
            work()

    return several


def time_recipe(
    name: str, recipe: Recipe, device: torch.device, steps: int, *, num_classes: int, warm_up: int = 2
) -> float:
    """Seconds of an eager step of a variant under a recipe of its own, with so many identities."""
    step = VariantStep(name, recipe, "eager", device, num_classes)
    return measure(step, device, calls=steps, warm_up=warm_up).on(device)
