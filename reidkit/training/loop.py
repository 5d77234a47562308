"""The training loop: read it top to bottom.

`train` is the whole story of a run; `fit` is the loop itself. All randomness of an epoch (batches, flips,
erasing, dropout) is seeded from (seed, epoch), so a run that was killed and resumed at the last finished
epoch ends in the same weights as an unbroken one.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from tqdm.auto import tqdm

from reidkit.data import ReIDDataset
from reidkit.data.cache import ImageCache
from reidkit.data.loaders import train_loader
from reidkit.data.transforms import AugmentConfig, TrainAugment
from reidkit.errors import TrainingError
from reidkit.evaluation.forms import RELEASED
from reidkit.losses import LossConfig, total_loss
from reidkit.models import ReIDModel
from reidkit.models.zoo import variant
from reidkit.priors import PriorBatch
from reidkit.priors.build import Tool
from reidkit.provenance import provenance
from reidkit.training.device import Precision, choose_device, choose_precision
from reidkit.training.evaluate import evaluate_model, form_of
from reidkit.training.ide import copy_backbone, ide_path, ide_recipe
from reidkit.training.preflight import check_start, default_prior_tool, priors_for
from reidkit.training.recipes import Recipe, resolved
from reidkit.training.record import check_claim, claim, run_settings
from reidkit.training.runs import RunFolder, build_model, load_run, write_json


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
    compile_net: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a variant, evaluate it on every test level of the data set, and return the content of `result.json`.

    name: a line of the variant table. run: the run folder; if it holds a finished run with the same settings
    that result is returned, if it holds an unfinished one it is resumed from its last finished epoch.
    preset: the name the recipe came from, kept as a label. prior_tool: where priors come from (`build_priors`);
    default: "sidewalk" for Sidewalk, else "files", maps beside the images or built with `reidkit priors build`.
    cache: keep decoded images in one memory-mapped file. evaluate_every: epochs between evaluations on the
    current level (0 = only at the end). initialise_from: a finished run whose backbone weights are copied;
    default: an IDE trained on the same set, when the recipe says `ide_init`. compile_net: train through
    torch.compile (worth its minutes on a GPU; the weights differ from an uncompiled run's by rounding).

    Whatever can be refused is refused before the first image is read (`check_start`), and the folder is claimed
    only when all is ready for the first batch.
    Raises TrainingError (other settings in the folder, batch shape, NaN loss), CheckpointError, DatasetError,
    PriorError.
    """
    check_arguments(seed=seed, workers=workers, evaluate_every=evaluate_every)
    prior_tool = prior_tool or default_prior_tool(dataset)
    chosen = choose_device(device)
    precision = choose_precision(recipe.precision, chosen)
    folder = RunFolder(Path(run))
    settings = run_settings(
        name,
        dataset,
        recipe,
        preset=preset,
        seed=seed,
        precision=precision,
        prior_tool=prior_tool,
        initialise_from=initialise_from,
    )
    check_claim(folder, settings)
    if folder.finished:
        return folder.read_result()

    start_wall, start_cpu = time.time(), time.process_time()
    accelerator = make_accelerator(chosen, precision)
    checkpoint = folder.load_checkpoint()
    starts_from_ide = checkpoint is None and recipe.ide_init and not initialise_from
    check_start(
        name,
        dataset,
        recipe,
        folder.path,
        prior_tool=prior_tool,
        cache=cache,
        world_size=accelerator.num_processes,
        ide=ide_recipe(name, recipe, preset) if starts_from_ide else None,
    )
    if starts_from_ide:
        initialise_from = start_from_ide(
            name,
            dataset,
            recipe,
            folder,
            seed=seed,
            device=device,
            preset=preset,
            workers=workers,
            cache=cache,
            compile_net=compile_net,
            progress=progress,
        )
        accelerator = make_accelerator(chosen, precision)  # the IDE's may have had another precision
    torch.manual_seed(seed)
    model = build_model(settings, pretrained=not recipe.ide_init and checkpoint is None)
    if checkpoint is None and initialise_from:
        copy_backbone(load_run(initialise_from), model)
    priors = priors_for(model, dataset, recipe, prior_tool, progress)
    loader = train_loader(
        dataset,
        size=recipe.size,
        num_ids=recipe.num_ids,
        num_instances=recipe.num_instances,
        seed=seed,
        priors=priors if model.needs_prior else None,
        workers=workers,
        mode=recipe.sampling,
        batches_per_epoch=recipe.batches_per_epoch,
        translation_copies=recipe.translation_copies,
        cache=decoded(dataset, recipe, workers, progress) if cache else None,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    claim(folder, settings, accelerator)
    evaluate = partial(
        evaluate_model,
        model,
        dataset,
        replace(recipe, precision=precision),
        device=accelerator.device,
        priors=priors,
        cache=cache,
        workers=workers,
        progress=progress,
    )
    loss_config = resolved(variant(name), recipe).loss
    rows = fit(
        model,
        loader,
        loss_config,
        recipe,
        accelerator,
        folder,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
        evaluate_every=evaluate_every,
        compile_net=compile_net,
        evaluate=lambda: evaluate(levels=(dataset.level,))[dataset.level],
    )
    if accelerator.is_main_process:
        warn_below_chance(rows[-1], model, loss_config, recipe.epochs * len(loader), folder)
        folder.save_weights(model)
        write_json(
            folder.result,
            {
                **settings,
                **tested(evaluate, recipe, preset),
                "provenance": provenance(
                    accelerator.device,
                    seed=seed,
                    precision=precision,
                    resumed_after_epoch=checkpoint["epoch"] if checkpoint else 0,
                    training_s=round(sum(row["seconds"] for row in rows), 1),  # all epochs; below: this process
                    wall_s=round(time.time() - start_wall, 1),
                    cpu_s=round(time.process_time() - start_cpu, 1),
                ),
            },
        )
    accelerator.wait_for_everyone()
    return folder.read_result()


def tested(evaluate: Callable[..., dict], recipe: Recipe, preset: str) -> dict[str, Any]:
    """The metrics of a finished run, and how they were tested.

    Runs of the preset `paper` are tested a second time as the released code of MPN does (`RELEASED`), so that they
    have a number that can stand beside the paper's.
    """
    ours = form_of(recipe)
    result: dict[str, Any] = {"metrics": evaluate(form=ours), "test": ours.as_dict()}
    if preset == "paper":
        released = replace(RELEASED, camera_rule=recipe.camera_rule)
        result["released"] = {"test": released.as_dict(), "metrics": evaluate(form=released)}
    return result


def decoded(dataset: ReIDDataset, recipe: Recipe, workers: int, progress: bool) -> ImageCache:
    """The decoded training images. The test images are decoded too: one that is broken is found now, not at the end."""
    tables = [dataset.query, dataset.gallery, *(t for pair in dataset.levels.values() for t in pair)]
    for table in {tuple(t.path): t for t in tables}.values():
        ImageCache.for_table(
            table, dataset.root, recipe.size, folder=dataset.derived("cache"), workers=workers, progress=progress
        )
    return ImageCache.for_split(dataset, "train", recipe.size, workers=workers, progress=progress)


def check_arguments(**counts: int) -> None:
    """Whole numbers that may not be negative."""
    for key, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise TrainingError(f"{key}={value!r}: expected a whole number of at least 0")


def start_from_ide(
    name: str, dataset: ReIDDataset, recipe: Recipe, run: RunFolder, *, seed: int, preset: str, **options: Any
) -> Path:
    """The IDE run beside `run` that this one starts from (MPN Sec. 5.1): trained on first use, shared by all."""
    path = ide_path(name, dataset, recipe, run.path.parent, seed=seed, preset=preset)
    train("ide", dataset, ide_recipe(name, recipe, preset), path, seed=seed, preset=preset, **options)
    return path


def fit(
    model: ReIDModel,
    loader,
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
    augment = TrainAugment(
        AugmentConfig(size=recipe.size, flip=recipe.flip, erasing=recipe.erasing, erasing_area=recipe.erasing_area)
    )
    optimizer = make_optimizer(model, recipe)
    net, optimizer = accelerator.prepare(model.to(memory_format=torch.channels_last), optimizer)
    net = torch.compile(net) if compile_net else net  # `model` keeps the weights under their own names
    rows, first_epoch = resume(model, optimizer, accelerator, checkpoint)
    steps = len(loader)
    bar = tqdm(
        total=recipe.epochs * steps,
        initial=first_epoch * steps,
        unit="batch",
        desc=run.path.name,
        disable=not (progress and accelerator.is_main_process),
    )
    for epoch in range(first_epoch, recipe.epochs):
        generator = seed_epoch(loader, seed, epoch, accelerator.process_index)
        net.train()
        sums: dict[str, float] = {}
        lr, started = 0.0, time.time()
        for i, batch in enumerate(loader):
            lr = set_lr(optimizer, recipe, epoch * steps + i, steps)
            batch = augment(batch.to(accelerator.device), generator)
            with accelerator.autocast():
                out = net(batch.images, PriorBatch(**batch.prior) if batch.prior else None)
            loss, terms = total_loss(out, batch.labels, loss_config, regularization=model.regularization().detach())
            check_finite(loss, terms, epoch, i, run)
            accelerator.backward(loss)
            if recipe.clip_norm:
                accelerator.clip_grad_norm_(net.parameters(), recipe.clip_norm)
            optimizer.step()
            model.proximal_step(lr * loss_config.soft_sharing_weight)  # soft sharing: not clipped, no momentum
            optimizer.zero_grad(set_to_none=True)
            for key, value in {"loss": loss, **terms}.items():
                sums[key] = sums.get(key, 0.0) + value.detach().item()
            bar.update()
            bar.set_postfix(epoch=epoch + 1, loss=f"{sums['loss'] / (i + 1):.2f}", refresh=False)
        row = {
            "epoch": epoch + 1,
            "lr": lr,
            **{k: v / steps for k, v in sums.items()},
            "seconds": round(time.time() - started, 2),
        }
        if evaluate and evaluate_every and (epoch + 1) % evaluate_every == 0:
            row |= {k: v for k, v in evaluate().items() if k in ("mAP", "rank1")}
        rows.append(row)
        if accelerator.is_main_process:
            run.save_metrics(rows)
            run.save_checkpoint(state_of(model, optimizer, accelerator, rows, epoch + 1))
    bar.close()
    return rows


def make_accelerator(device: torch.device, precision: Precision) -> Accelerator:
    """One Accelerator a run, on the device asked for.

    Its process-wide state is renewed, so that a notebook may train twice with different precisions; under
    `accelerate launch` (several processes) only the precision is, and each process has the GPU it was given.
    """
    state = AcceleratorState._shared_state
    if state:
        alone = state.get("distributed_type", "NO") == "NO"
        AcceleratorState._reset_state(reset_partial_state=alone)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # Accelerate takes the current one
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
    if device.index is not None and accelerator.device.index not in (None, device.index):
        raise TrainingError(
            f"device {device} was asked for, but this process was started on {accelerator.device}; "
            "leave --device away under `accelerate launch`"
        )
    return accelerator


def make_optimizer(model: ReIDModel, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD; weight decay acts on every parameter, as in MPN's released code. Heads may learn faster."""
    backbone, heads = split_parameters(model)
    groups = [{"params": backbone, "factor": 1.0}, {"params": heads, "factor": recipe.head_lr_factor}]
    return torch.optim.SGD(
        [g for g in groups if g["params"]],
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def split_parameters(model: ReIDModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of the pretrained trunk (`model.backbone_modules()`), and all the others."""
    inside = {id(p) for module in model.backbone_modules() for p in module.parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [p for p in parameters if id(p) in inside], [p for p in parameters if id(p) not in inside]


def set_lr(optimizer, recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Set every group's learning rate for batch `step`; returns the backbone's."""
    lr = recipe.lr * recipe.lr_factor(step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    return lr


def seed_epoch(loader, seed: int, epoch: int, rank: int = 0) -> torch.Generator:
    """Seed the sampler, dropout and augmentation of one epoch; returns the augmentation's generator."""
    loader.sampler.set_epoch(epoch)
    mixed = (seed * 1_000_003 + epoch * 101 + rank) % 2**63
    torch.manual_seed(mixed)
    return torch.Generator().manual_seed(mixed + 1)


def check_finite(loss: torch.Tensor, terms: dict[str, torch.Tensor], epoch: int, batch: int, run: RunFolder) -> None:
    """Raise TrainingError for a NaN or infinite loss: which term, what is kept, what to do."""
    if math.isfinite(loss.item()):
        return
    bad = [k for k, v in terms.items() if not math.isfinite(v.item())]
    kept = f"the checkpoint of epoch {epoch} is kept in {run.checkpoint}" if epoch else "no epoch was finished"
    raise TrainingError(
        f"the loss became {loss.item()} in epoch {epoch + 1}, batch {batch + 1} (terms: {bad}); "
        f"{kept}. Lower the learning rate (--set lr=...), add warm-up, or set precision=no; "
        "`reidkit data check` finds damaged images."
    )


def warn_below_chance(
    last: dict[str, float], model: ReIDModel, loss_config: LossConfig, batches: int, run: RunFolder
) -> None:
    """Warn when the classifiers end worse than guessing: such a run has diverged early, without one NaN.

    last: the last epoch's row of metrics. batches: of the whole training; below 100 nothing is expected yet.
    """
    entropy = last["identity"] / (model.num_parts if loss_config.identity == "sum" else 1)  # a classifier's, in nats
    chance = math.log(model.num_classes)
    if batches >= 100 and entropy > chance:
        warnings.warn(
            f"{run.path}: the cross entropy of a classifier ended at {entropy:.2f}, and guessing one of "
            f"{model.num_classes} identities gives {chance:.2f}: the network has learned nothing. Lower the "
            "learning rate (--set lr=...) or the weight of a loss (--set loss.identity_weight=...).",
            stacklevel=3,
        )


def state_of(model: ReIDModel, optimizer, accelerator: Accelerator, rows: list[dict], epoch: int) -> dict[str, Any]:
    """All state of a run after `epoch` epochs. The sampler and every generator are functions of (seed, epoch)."""
    return {
        "epoch": epoch,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rows": rows,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
    }


def resume(
    model: ReIDModel, optimizer, accelerator: Accelerator, state: dict[str, Any] | None
) -> tuple[list[dict], int]:
    """Load the state of a checkpoint if there is one; returns (rows so far, finished epochs)."""
    if state is None:
        return [], 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    return state["rows"], state["epoch"]
