"""Which preset a training has when none is named, and what is said where a preset's premise does not hold.

The premise of MPN: cross entropy is done soon, so that the alignment can shape the shared layers. That holds on the
rendered Sidewalk after a few hundred batches from scratch, and on photographs with a pretrained trunk and thousands.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from reidkit.data import ReIDDataset
from reidkit.errors import one_of
from reidkit.training.recipes import PRESETS, Recipe

SIDEWALK = "sidewalk"  # as `load_dataset` calls it; every other set holds photographs
FROM_SCRATCH = ("quick", "long", "hero")  # for Sidewalk
MEANS = {  # why a preset was chosen
    "quick": "Sidewalk, from scratch",
    "paper": "photographs, on a GPU",
    "photo": "photographs without a CUDA GPU, from ImageNet weights",
}


def default_preset(source: str | None, device: torch.device) -> str:
    """The preset for a data set that `load_dataset` calls `source` (None: tables of one's own), on a device."""
    if source == SIDEWALK:
        return "quick"
    return "paper" if device.type == "cuda" else "photo"


def choose_preset(
    asked: str | None, source: str | None, device: torch.device, say: Callable[[str], object] = print
) -> str:
    """The preset that was asked for; where none was (None), `default_preset`, told to the reader in one line.

    Raises UnknownNameError for a preset that there is not.
    """
    if asked is not None:
        return one_of("preset", asked, PRESETS)
    chosen = default_preset(source, device)
    say(f"preset {chosen}: {MEANS[chosen]} ({', '.join(p for p in PRESETS if p != chosen)} can be asked for)")
    return chosen


def warn_from_scratch(name: str, dataset: ReIDDataset, recipe: Recipe, preset: str) -> bool:
    """Warn where a preset that trains Sidewalk from scratch is about to train photographs; returns whether it did.

    Not for an IDE, which has no parts to lose with, nor for pretrained weights (`--set pretrained=...`).
    """
    photographs = dataset.source.get("name") != SIDEWALK
    if not photographs or preset not in FROM_SCRATCH or recipe.pretrained or name == "ide":
        return False
    warnings.warn(
        f"{dataset.label}: the preset {preset} trains from scratch, and briefly, which is for Sidewalk. On photographs "
        "main tasks lose to stripes that way (751 people, preset quick, mAP: Baseline 24.6, Naive MTL 15.0, MPNo "
        "14.4). Take the preset photo, which starts from ImageNet weights, or on a GPU the preset paper",
        stacklevel=2,
    )
    return True
