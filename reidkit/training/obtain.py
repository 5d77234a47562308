"""A trained network for a notebook or a panel: your own run, the shipped one, or train it now."""

from __future__ import annotations

from pathlib import Path

from reidkit.data import ReIDDataset
from reidkit.training.ide import run_name
from reidkit.training.loop import train
from reidkit.training.recipes import recipe_for
from reidkit.training.runs import RunFolder


def obtain_run(name: str, dataset: ReIDDataset, *, runs: str | Path, shipped: str | Path | None = None,
               preset: str = "quick", seed: int = 0, device: str = "auto", progress: bool = True) -> Path:
    """The folder of a finished run of a variant, found or made.

    First choice is a finished run under `runs`, second the shipped one under `shipped` (None: never use it),
    last it is trained here, with the preset's recipe. An unfinished run under `runs` is resumed.
    """
    folder = run_name(name, dataset, preset, seed)
    own = RunFolder(Path(runs) / folder)
    if own.finished:
        return own.path
    if shipped is not None and RunFolder(Path(shipped) / folder).finished and not own.path.exists():
        return Path(shipped) / folder
    train(name, dataset, recipe_for(name, preset), own.path, seed=seed, device=device, preset=preset, progress=progress)
    return own.path
