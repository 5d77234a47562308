"""What the training loop does at each step's edge: optimiser and rates, seeds, and the state of a run."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from reidkit.data.loaders import BatchLoader
from reidkit.data.transforms import AugmentConfig, TrainAugment
from reidkit.errors import CheckpointError
from reidkit.losses import LossConfig
from reidkit.models import ReIDModel
from reidkit.training.recipes import Recipe
from reidkit.training.runs import RunFolder
from reidkit.training.stored import misfit


def augmentation(recipe: Recipe) -> TrainAugment:
    """The augmentation of training images that a recipe asks for."""
    return TrainAugment(
        AugmentConfig(size=recipe.size, flip=recipe.flip, erasing=recipe.erasing, erasing_area=recipe.erasing_area)
    )


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
        fused=True,  # one kernel for all parameters of a group
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


def proximal_rate(recipe: Recipe, lr: float) -> float:
    """The rate of `model.proximal_step` at which a penalty weighs what its weight says; lr: the backbone's.

    A gradient that stays moves a head by lr x head_lr_factor / (1 - momentum) a step, as momentum adds it up. An
    implicit step of that rate holds the balance with it where weight x penalty and the losses do in their sum.
    """
    return lr * recipe.head_lr_factor / (1 - recipe.momentum)


def alignment_factors(recipe: Recipe, epoch: int, steps: int, device: torch.device) -> Tensor | list[float]:
    """What the alignment's weight is multiplied with in each batch of an epoch: on the device, where it changes."""
    factors = [recipe.alignment_factor(epoch * steps + i, steps) for i in range(steps)]
    return torch.tensor(factors).to(device) if recipe.alignment_ramp else factors


def seed_epoch(loader: BatchLoader, seed: int, epoch: int, rank: int = 0) -> torch.Generator:
    """Seed the sampler, dropout and augmentation of one epoch; returns the augmentation's generator."""
    loader.sampler.set_epoch(epoch)  # pyright: ignore[reportOptionalMemberAccess]  (a training loader has one)
    mixed = (seed * 1_000_003 + epoch * 101 + rank) % 2**63
    torch.manual_seed(mixed)
    return torch.Generator().manual_seed(mixed + 1)


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
    try:
        model.load_state_dict(state["model"])
        settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        problem = misfit(optimizer)
        for group, own in zip(optimizer.param_groups, settings):
            group.update(own)  # the recipe's: `set_lr` sets the rate before each step
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        problem = str(error)
    if problem:
        raise CheckpointError(
            f"the checkpoint is not of this {model.name} ({problem}); delete last.ckpt to train from the start"
        )
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    return state["rows"], state["epoch"]
