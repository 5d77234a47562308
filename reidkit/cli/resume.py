"""`reidkit train --resume`: what is typed beside it must be what the run was started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from reidkit.cli.options import given, loader_defaults, typed_options
from reidkit.errors import ReIDKitError
from reidkit.training.recipes import read_settings
from reidkit.training.runs import recipe_of


def refuse_other_settings(ctx: typer.Context, resume: Path, old: dict[str, Any], changes: dict[str, str]) -> None:
    """ReIDKitError that names everything typed beside --resume that the run's own settings contradict."""
    typed, recipe, source = given(ctx), recipe_of(old, resume / "recipe.json"), old["source"] or {}
    loaded = loader_defaults(source["name"]) | source["options"] if source else {}
    known = {
        "variant": old["variant"],
        "preset": old["preset"],
        "seed": old["seed"],
        "prior_tool": old["prior_tool"],
        "dataset": source.get("name", ctx.params["dataset"]),
        "validation": old["level"] == "validation",
        "size": loaded.get("size", "none") if source else ctx.params["size"],
        "run": resume,
    }
    wrong = [
        f"{'' if k == 'variant' else '--'}{k.replace('_', '-')} {ctx.params[k]} (the run has {v})"
        for k, v in known.items()
        if k in typed and ctx.params[k] != v
    ]
    for key, value in typed_options(source["name"], ctx.params["options"]).items() if source else ():
        if key not in loaded or loaded[key] != value:
            wrong.append(f"--data {key}={value} (the run has {loaded.get(key, 'none')})")
    for key, value in read_settings(old["variant"], changes).items():
        room, _, leaf = key.rpartition(".")
        have = getattr(recipe, room).get(leaf) if room else getattr(recipe, leaf)
        if have != value:
            wrong.append(f"--set {key}={value} (the run has {have})")
    if wrong:
        raise ReIDKitError(
            f"--resume {resume} goes on with the settings the run was started with; these were given and "
            f"differ: {'; '.join(wrong)}. Leave them away, or train a new run without --resume"
        )
