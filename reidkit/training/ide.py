"""Starting from an IDE trained on the same set (MPN Sec. 5.1): trained on first use, shared by every variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reidkit.data import ReIDDataset
from reidkit.models import ReIDModel
from reidkit.training.recipes import PRESETS, Recipe

SHARED = ("backbone", "pretrained", "size")   # what an IDE must have in common with the model it starts


def ide_settings(recipe: Recipe, preset: str) -> dict[str, Any]:
    """The changes to the preset's IDE recipe that make its trunk fit `recipe`; empty for an unchanged preset."""
    base = PRESETS.get(preset, PRESETS["quick"])["ide"]
    return {k: getattr(recipe, k) for k in SHARED if getattr(recipe, k) != getattr(base, k)}


def ide_recipe(recipe: Recipe, preset: str) -> Recipe:
    """How the IDE that `recipe` starts from is trained."""
    return replace(PRESETS.get(preset, PRESETS["quick"])["ide"], **ide_settings(recipe, preset))


def ide_path(dataset: ReIDDataset, recipe: Recipe, runs: Path, *, seed: int, preset: str) -> Path:
    """The run folder of that IDE, among the other runs."""
    return runs / run_name("ide", dataset, preset, seed, ide_settings(recipe, preset))


def run_name(name: str, dataset: ReIDDataset, preset: str, seed: int, settings: Mapping[str, Any] | None = None) -> str:
    """A folder name that says what a run is: variant, changed settings, data set, preset, seed."""
    changed = "".join(f"-{k.split('.')[-1]}={_short(v)}" for k, v in sorted((settings or {}).items()))
    level = "-val" if dataset.level == "validation" else ""
    return f"{name}{changed}-{dataset.name}{level}-{preset}-s{seed}".replace("/", "_").replace(":", "_")


def _short(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def copy_backbone(source: ReIDModel, target: ReIDModel) -> None:
    """Copy the trunk of one model into another (into every branch, where the target has branches)."""
    target.load_backbone(source.backbone.state_dict())
