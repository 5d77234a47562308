"""A trained network for a notebook or a panel: your own run, the shipped one, or train it now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reidkit.data import ReIDDataset
from reidkit.errors import TrainingError
from reidkit.training.device import choose_device
from reidkit.training.ide import run_name
from reidkit.training.loop import train
from reidkit.training.preflight import recipe_on
from reidkit.training.presets import choose_preset
from reidkit.training.recipes import Recipe, recipe_for
from reidkit.training.record import same_images
from reidkit.training.runs import RunFolder, zoo_changes


def obtain_run(
    name: str,
    dataset: ReIDDataset,
    *,
    runs: str | Path,
    shipped: str | Path | None = None,
    preset: str | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """The folder of a finished run of a variant, found or made.

    First choice is a finished run under `runs`, second the shipped one under `shipped` (None: never use it),
    last it is trained here, with the preset's recipe. An unfinished run under `runs` is resumed.
    preset: None for the one that fits the data and the device (`choose_preset`).
    """
    preset = choose_preset(preset, dataset.source.get("name"), choose_device(device))
    recipe = recipe_on(dataset, recipe_for(name, preset))
    folder = run_name(name, dataset, preset, seed)
    own, given = RunFolder(Path(runs) / folder), RunFolder(Path(shipped or runs) / folder)
    if own.finished and not trained_with(own, recipe):
        raise TrainingError(
            f"{own.path} was trained with another recipe than the preset {preset!r} is now; delete or "
            "rename it, and it is trained again"
        )
    if own.finished and not same_images(own.read_settings(), dataset):
        raise TrainingError(
            f"{own.path} was trained on other images than those below {dataset.root}; delete or rename it, and it is "
            "trained again"
        )
    if own.finished:
        return own.path
    if shipped is not None and given.finished and trained_with(given, recipe) and not own.path.exists():
        return given.path
    train(name, dataset, recipe, own.path, seed=seed, device=device, preset=preset, progress=progress)
    return own.path


def trained_with(run: RunFolder, recipe: Recipe) -> bool:
    """Whether a run has this recipe (precision aside, which "auto" chooses by the hardware) and today's variant."""
    same = replace(run.recipe(), precision="auto") == replace(recipe, precision="auto")
    return same and not zoo_changes(run.read_settings(), recipe)
