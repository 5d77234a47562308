"""The training loop: read it top to bottom.

`train` is the whole story of a run; `fit` is the loop itself. All randomness of an epoch (batches, flips,
erasing, dropout) is seeded from (seed, epoch), so a run that was killed and resumed at the last finished
epoch ends in the same weights as an unbroken one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from reidkit.data import ReIDDataset
from reidkit.data.loaders import Batch, BatchLoader, train_loader
from reidkit.errors import TrainingError
from reidkit.evaluation.forms import RELEASED
from reidkit.files import check_writable, write_json
from reidkit.locks import locked
from reidkit.losses import LossConfig
from reidkit.models import ReIDModel
from reidkit.models.zoo import variant
from reidkit.priors import PriorTable
from reidkit.priors.dense import TextureTable
from reidkit.priors.source import Tool
from reidkit.provenance import provenance
from reidkit.training.decoded import decoded
from reidkit.training.device import choose_compile, choose_device, choose_precision, make_accelerator
from reidkit.training.effect import warn_without_effect
from reidkit.training.evaluate import evaluate_model, form_of, has_views
from reidkit.training.gradients import Gradients
from reidkit.training.ide import copy_backbone, ide_path, ide_recipe
from reidkit.training.memory import within_memory
from reidkit.training.preflight import check_start, default_prior_tool, priors_for, recipe_on, sketch
from reidkit.training.presets import warn_from_scratch
from reidkit.training.processes import ids_per_process
from reidkit.training.recipes import Recipe, resolved
from reidkit.training.record import check_claim, claim, how_it_ran, run_settings, trained_alone
from reidkit.training.runs import RunFolder, build_model, load_run
from reidkit.training.settings import MAX_SEED
from reidkit.training.steps import (
    alignment_factors,
    augmentation,
    make_optimizer,
    proximal_rate,
    resume,
    seed_epoch,
    set_lr,
    state_of,
    warn_below_chance,
)
from reidkit.training.watch import Watch, check_weights


@dataclass(frozen=True)
class Manner:
    """How a run is carried out, and with it the IDE that it starts from: arguments of `train`."""

    seed: int
    device: str
    preset: str
    workers: int
    cache: bool
    compile_net: bool | None
    progress: bool


def train(
    name: str,
    dataset: ReIDDataset,
    recipe: Recipe,
    run: str | Path,
    *,
    seed: int = 0,
    device: str = "auto",
    preset: str = "custom",
    prior_tool: Tool | None = None,
    workers: int = 0,
    cache: bool = True,
    evaluate_every: int = 0,
    initialise_from: str | Path | None = None,
    compile_net: bool | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a variant, evaluate it on every test level of the data set, and return the content of `result.json`.

    name: a line of the variant table. run: the run folder; if it holds a finished run with the same settings
    that result is returned, if it holds an unfinished one it is resumed from its last finished epoch.
    preset: the name the recipe came from, kept as a label. prior_tool: where priors come from (`build_priors`);
    default: "sidewalk" for Sidewalk, else "files", maps beside the images or built with `reidkit priors build`.
    cache: keep decoded images in one memory-mapped file. evaluate_every: epochs between evaluations on the
    current level (0 = only at the end). initialise_from: a finished run whose backbone weights are copied;
    default: an IDE trained on the same set, when the recipe says `ide_init`. compile_net: capture the step with
    torch.compile (the weights differ from an uncompiled run's by rounding); None: see `choose_compile`.

    Whatever can be refused is refused before the first image is read (`check_start`), and the folder is claimed
    only when all is ready for the first batch.
    Raises TrainingError (other settings in the folder, batch shape, NaN loss), CheckpointError, DatasetError,
    PriorError.
    """
    check_arguments(seed=seed, workers=workers, evaluate_every=evaluate_every)
    dataset.refuse_unlabelled()
    manner = Manner(seed, device, preset, workers, cache, compile_net, progress)
    folder, chosen = RunFolder(Path(run)), choose_device(device)
    prior_tool, recipe = prior_tool or default_prior_tool(dataset), recipe_on(dataset, recipe)
    precision = choose_precision(recipe.precision, chosen)
    made_by = {"preset": preset, "seed": seed, "precision": precision, "prior_tool": prior_tool}
    settings = run_settings(name, dataset, recipe, **made_by, initialise_from=initialise_from)
    check_claim(folder, settings)
    if folder.finished:
        return folder.read_result()
    start_wall, start_cpu = time.time(), time.process_time()
    accelerator, checkpoint = make_accelerator(chosen, precision), folder.load_checkpoint()
    ide = ide_recipe(name, recipe, preset) if checkpoint is None and recipe.ide_init and not initialise_from else None
    where = {"prior_tool": prior_tool, "cache": cache, "world_size": accelerator.num_processes}
    from_ide = recipe.ide_init and initialise_from is not None
    warn_without_effect(name, recipe, preset)
    check_start(name, dataset, recipe, folder.path, **where, ide=ide, weights=checkpoint is None and not from_ide)
    if checkpoint is None and not initialise_from:
        warn_from_scratch(name, dataset, recipe, preset)
    priors = priors_for(sketch(name, recipe, dataset.num_train_ids), dataset, recipe, prior_tool, progress)
    if ide:
        initialise_from = start_from_ide(name, dataset, recipe, folder, manner)
        accelerator = make_accelerator(chosen, precision)  # the IDE's may have had another precision
    model = new_network(settings, recipe, None if checkpoint else initialise_from, fresh=checkpoint is None)
    loader = batches(dataset, recipe, priors if model.needs_prior else None, accelerator, manner)
    with trained_alone(folder, checkpoint, accelerator):
        claim(folder, settings, accelerator)
        how = {"priors": priors, "device": accelerator.device, "cache": cache, "workers": workers, "progress": progress}
        evaluate = partial(evaluate_model, model, dataset, replace(recipe, precision=precision), **how)
        loss_config = resolved(variant(name), recipe).loss
        compiled = choose_compile(compile_net, preset, accelerator.device, accelerator.num_processes)
        options = {"seed": seed, "checkpoint": checkpoint, "compile_net": compiled, "progress": progress}
        current = partial(evaluate, levels=(dataset.level,))
        options |= {"evaluate_every": evaluate_every, "evaluate": lambda: current()[dataset.level]}
        rows = fit(model, loader, loss_config, recipe, accelerator, folder, **options)
        if accelerator.is_main_process:
            warn_below_chance(rows[-1], model, loss_config, recipe.epochs * len(loader), folder)
            folder.save_weights(model)
            result = {**settings, **tested(evaluate, recipe, preset, multi_query=has_views(dataset))}
            ran = {"seed": seed, "precision": precision, "workers": workers, "cache": cache}
            ran |= how_it_ran(rows, checkpoint, start_wall, start_cpu, accelerator, priors)
            write_json(folder.result, {**result, "provenance": provenance(accelerator.device, **ran)})
    accelerator.wait_for_everyone()
    return folder.read_result()


def new_network(settings: dict[str, Any], recipe: Recipe, initialise_from: str | Path | None, fresh: bool) -> ReIDModel:
    """The network of a run, drawn from its seed, with the trunk of the run `initialise_from`; fresh: no checkpoint."""
    torch.manual_seed(settings["seed"])
    model = build_model(settings, pretrained=not recipe.ide_init and fresh)
    if initialise_from:
        copy_backbone(load_run(initialise_from), model)
    return model


def batches(
    dataset: ReIDDataset,
    recipe: Recipe,
    priors: PriorTable | TextureTable | None,
    accelerator: Accelerator,
    manner: Manner,
) -> BatchLoader:
    """The training batches of this process, on its device."""
    return train_loader(
        dataset,
        size=recipe.size,
        num_ids=ids_per_process(recipe.num_ids, accelerator.num_processes),
        num_instances=recipe.num_instances,
        seed=manner.seed,
        priors=priors,
        workers=manner.workers,
        mode=recipe.sampling,
        batches_per_epoch=recipe.batches_per_epoch,
        translation_copies=recipe.translation_copies,
        cache=decoded(dataset, recipe, manner.workers, manner.progress, keep=manner.cache),
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        device=accelerator.device,
    )


def tested(evaluate: Callable[..., dict], recipe: Recipe, preset: str, *, multi_query: bool = False) -> dict[str, Any]:
    """The metrics of a finished run, and how they were tested.

    Runs of the preset `paper` are tested a second time as the released code of MPN does (`RELEASED`), so that they
    have a number that can stand beside the paper's; and once more with all views of a query (multi_query) on a set
    that has them, for the second half of MPN Table 5.
    """
    ours = form_of(recipe)
    result: dict[str, Any] = {"metrics": evaluate(form=ours), "test": ours.as_dict()}
    if preset == "paper":
        released = replace(RELEASED, camera_rule=recipe.camera_rule)
        forms = {"released": released, "multi-query": replace(released, multi_query=True)}
        for name, form in forms.items() if multi_query else [("released", released)]:
            result[name] = {"test": form.as_dict(), "metrics": evaluate(form=form)}
    return result


def check_arguments(**counts: int) -> None:
    """Whole numbers that may not be negative, nor larger than a seed can be."""
    for key, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
            raise TrainingError(f"{key}={value!r}: expected a whole number from 0 to {MAX_SEED}")


def start_from_ide(name: str, dataset: ReIDDataset, recipe: Recipe, run: RunFolder, manner: Manner) -> Path:
    """The IDE run beside `run` that this one starts from (MPN Sec. 5.1): trained on first use, shared by all."""
    path = ide_path(name, dataset, recipe, run.path.parent, seed=manner.seed, preset=manner.preset)
    lock = path.with_name(f".{path.name}.shared")
    check_writable(lock, TrainingError)
    with locked(lock, f"another process trains {path}; waiting for it"):
        train("ide", dataset, ide_recipe(name, recipe, manner.preset), path, **asdict(manner))
    return path


def fit(
    model: ReIDModel,
    loader: BatchLoader,
    loss_config: LossConfig,
    recipe: Recipe,
    accelerator: Accelerator,
    run: RunFolder,
    *,
    seed: int,
    checkpoint: dict[str, Any] | None = None,
    evaluate: Callable[[], dict] | None = None,
    evaluate_every: int = 0,
    compile_net: bool = False,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Run the epochs after `checkpoint`; returns the rows of metrics.csv. One checkpoint is written an epoch."""
    augment, steps = augmentation(recipe), len(loader)
    optimizer = make_optimizer(model, recipe)
    net, optimizer = accelerator.prepare(model.to(memory_format=torch.channels_last), optimizer)
    rows, first_epoch = resume(model, optimizer, accelerator, checkpoint)
    gradients = Gradients(net, model, loss_config, accelerator, compile_net)
    shown = progress and accelerator.is_main_process
    watch = Watch(run, loader.table, recipe, steps, finished=first_epoch, shown=shown)
    for epoch in range(first_epoch, recipe.epochs):
        generator = seed_epoch(loader, seed, epoch, accelerator.process_index)
        plan = augment.plan(loader, generator)
        factors = alignment_factors(recipe, epoch, steps, accelerator.device)
        net.train()
        lr, started = 0.0, time.time()
        for i, batch in enumerate(loader):
            lr = set_lr(optimizer, recipe, epoch * steps + i, steps)
            batch = augment(batch, plan)
            step = partial(training_step, alignment_factor=factors[i])
            terms = within_memory(step, batch, gradients, optimizer, recipe, lr)
            watch.batch(terms, batch.index)
        row = {"epoch": epoch + 1, "lr": lr, **watch.end_epoch()}
        row |= {"seconds": round(time.time() - started, 2), "compiled": gradients.compiled}
        check_weights(model, optimizer, run, finished=epoch)
        if evaluate and evaluate_every and (epoch + 1) % evaluate_every == 0:
            row |= {k: v for k, v in evaluate().items() if k in ("mAP", "rank1")}
        rows.append(row)
        if accelerator.is_main_process:
            run.save_metrics(rows)
            run.save_checkpoint(state_of(model, optimizer, accelerator, rows, epoch + 1))
    watch.bar.close()
    return rows


def training_step(
    batch: Batch,
    gradients: Gradients,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    lr: float,
    alignment_factor: Tensor | float = 1.0,
) -> dict[str, Tensor]:
    """All that one batch does to the weights. Nothing in here waits for the device: the losses returned stay on it."""
    model, accelerator = gradients.model, gradients.accelerator
    terms = gradients(batch, alignment_factor)  # forward, losses, backward
    if recipe.clip_norm:
        accelerator.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    optimizer.step()
    model.proximal_step(proximal_rate(recipe, lr) * gradients.config.soft_sharing_weight)  # soft sharing: not clipped
    optimizer.zero_grad(set_to_none=True)
    return terms
