"""Starting from an IDE trained on the same set (MPN Sec. 5.1): trained on first use, shared by every variant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reidkit.data import ReIDDataset
from reidkit.models import ReIDModel
from reidkit.training.recipes import PRESETS, Recipe, changes_from, recipe_for
from reidkit.training.settings import as_text

TRUNK = ("backbone", "pretrained", "size")  # what an IDE must have in common with the model it starts
WHOLE_RUN = ("num_ids", "num_instances", "precision", "camera_rule")  # asked for a run, so for the IDE before it too
LONGEST = 150  # characters of a run's name; file systems take 255 with what is added


def own_changes(name: str, recipe: Recipe, preset: str) -> dict[str, Any]:
    """What a run's recipe changes in its preset; {} for an unchanged one, and for a recipe that has no preset."""
    return changes_from(recipe_for(name, preset), recipe) if preset in PRESETS else {}


def ide_settings(name: str, recipe: Recipe, preset: str) -> dict[str, Any]:
    """The changes to the preset's IDE recipe for the IDE that variant `name` starts from under `recipe`.

    Its trunk must fit (`TRUNK`), and what was changed for the whole run (`WHOLE_RUN`) holds for the IDE too. Empty
    for an unchanged preset, so that all variants of a seed share one IDE.
    """
    base = ide_base(preset)
    changed = own_changes(name, recipe, preset) if preset in PRESETS else WHOLE_RUN
    asked = {k: getattr(recipe, k) for k in (*TRUNK, *(k for k in WHOLE_RUN if k in changed))}
    return {k: value for k, value in asked.items() if value != getattr(base, k)}


def ide_base(preset: str) -> Recipe:
    """The preset's IDE recipe; of `quick` for a recipe that has no preset."""
    return PRESETS.get(preset, PRESETS["quick"])["ide"]


def ide_recipe(name: str, recipe: Recipe, preset: str) -> Recipe:
    """How the IDE that variant `name` starts from is trained."""
    return recipe_for("ide", preset if preset in PRESETS else "quick", ide_settings(name, recipe, preset))


def ide_path(name: str, dataset: ReIDDataset, recipe: Recipe, runs: Path, *, seed: int, preset: str) -> Path:
    """The run folder of that IDE, among the other runs."""
    return runs / run_name("ide", dataset, preset, seed, ide_settings(name, recipe, preset))


def run_name(name: str, dataset: ReIDDataset, preset: str, seed: int, settings: Mapping[str, Any] | None = None) -> str:
    """A folder name that says what a run is: variant, changed settings, data set, preset, seed.

    settings: typed values (`read_settings`). Of a path its last part is shown; where the changes are too many to
    show, a hash of all stands for the rest.
    """
    changes = sorted((settings or {}).items())
    changed = "".join(f"-{k.split('.')[-1]}={_short(v)}" for k, v in changes)
    level = "-val" if dataset.level == "validation" else ""
    rest = f"-{dataset.label}{level}-{preset}-s{seed}"
    whole = "".join(f"-{k}={as_text(v)}" for k, v in changes)
    if len(f"{name}{changed}{rest}") > LONGEST or "/" in whole or "\\" in whole:
        shown = max(0, LONGEST - len(name) - len(rest) - 9)
        changed = f"{changed[:shown]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return f"{name}{changed}{rest}".replace("/", "_").replace("\\", "_").replace(":", "_")


def _short(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "x".join(map(str, value))
    return str(value).replace("\\", "/").rsplit("/", 1)[-1]


def copy_backbone(source: ReIDModel, target: ReIDModel) -> None:
    """Copy the trunk of one model into another (into every branch, where the target has branches)."""
    target.load_backbone(source.backbone.state_dict())
