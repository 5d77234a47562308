"""What a run remembers, and whether a folder is free for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from reidkit.data import ReIDDataset
from reidkit.errors import TrainingError
from reidkit.files import disk_error, write_json
from reidkit.locks import held
from reidkit.priors import PriorTable
from reidkit.priors.dense import TextureTable
from reidkit.priors.source import Tool
from reidkit.provenance import numerics
from reidkit.training.device import Precision
from reidkit.training.ide import own_changes
from reidkit.training.recipes import Recipe, changes_from
from reidkit.training.runs import RunFolder, as_resolved, recipe_of, zoo_changes
from reidkit.training.settings import plain

# Entries of recipe.json that may differ between two calls for one run: they say where things lay, not what they were.
PLACES = ("root",)


def run_settings(
    name: str,
    dataset: ReIDDataset,
    recipe: Recipe,
    *,
    preset: str,
    seed: int,
    precision: Precision,
    prior_tool: Tool,
    initialise_from: str | Path | None,
) -> dict[str, Any]:
    """What makes a run, and what recipe.json keeps: nothing about it has to be guessed later.

    resolved: the variant's model and loss settings as they were (zoo.py may change). changes: to the preset.
    source, root, fingerprint: how the data set was loaded, from where, and which files it held.
    precision: what "auto" became.
    """
    source = {k: v for k, v in dataset.source.get("options", {}).items() if isinstance(v, (str, int, float, bool))}
    return plain(
        {
            "variant": name,
            "resolved": as_resolved(name, recipe),
            "preset": preset,
            "changes": own_changes(name, recipe, preset),
            "recipe": recipe.as_dict(),
            "precision": precision,
            "seed": seed,
            "dataset": dataset.label,
            "level": dataset.level,
            "dataset_info": _plain(dataset.info),
            "source": {"name": dataset.source["name"], "options": source} if dataset.source else None,
            "root": dataset.source.get("root"),
            "fingerprint": dataset.fingerprint(),
            "num_classes": dataset.num_train_ids,
            "images": len(dataset.train),
            "prior_tool": prior_tool,
            "initialise_from": str(initialise_from) if initialise_from else None,
        }
    )


def check_claim(run: RunFolder, settings: dict[str, Any]) -> None:
    """TrainingError unless the folder is new or holds the same run; the message names only what differs."""
    if not run.settings.is_file():
        return
    old = run.read_settings()
    differ = [f"{key}: {a!r} there, {b!r} asked for" for key, a, b in differences(old, settings)]
    if differ:
        more = f" and {len(differ) - 6} more" if len(differ) > 6 else ""
        raise TrainingError(
            f"{run.path} holds a run with other settings ({'; '.join(differ[:6])}{more}). "
            "Choose another folder (--run; of a suite --runs) or delete this one."
        )


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(entry, old, new) of every setting of a run that two records of it give differently.

    Recipes are compared field by field, in the spelling of `--set`; data sets by their files, wherever they lie now.
    What an older kit did not record is not compared.
    """
    recipes = recipe_of(old), recipe_of(new)
    changes = changes_from(*recipes)
    if "precision" not in old:  # an older kit wrote what "auto" became into the recipe itself
        changes.pop("precision", None)
    rows = [(key, _entry(old["recipe"], key), value) for key, value in changes.items()]
    if not changes and old["variant"] == new["variant"] and (zoo := zoo_changes(old, recipes[1])):
        rows.append((f"the line {new['variant']!r} of zoo.py has changed", zoo, "today's"))
    skipped = {"recipe", "resolved", "changes", "fingerprint", *PLACES}
    if old.get("fingerprint") == new["fingerprint"]:
        skipped.add(
            "dataset"
        )  # the same files: their folder was renamed, and a folder of your own gives the set its name
    rows += [(k, old[k], v) for k, v in new.items() if k not in skipped and old.get(k) is not None and old[k] != v]
    if old.get("fingerprint") not in (None, new["fingerprint"]):
        rows.append(("the files of the data set", f"those of {old.get('root')}", f"others in {new['root']}"))
    return [(k, a, plain(b)) for k, a, b in rows]


def _entry(recipe: dict[str, Any], key: str) -> Any:
    """ "lr" or "model.num_parts" of a recipe as JSON keeps it."""
    room, _, leaf = key.rpartition(".")
    return (recipe.get(room, {}) if room else recipe).get(leaf)


def same_images(settings: dict[str, Any], dataset: ReIDDataset) -> bool:
    """Whether a run was made on this data set: by its files where they are recorded and of this level, else by name."""
    recorded = settings.get("fingerprint") if settings.get("level") == dataset.level else None
    return recorded == dataset.fingerprint() if recorded else settings["dataset"] == dataset.label


def trained_elsewhere(settings: dict[str, Any], dataset: ReIDDataset) -> str:
    """What a run was trained on, in words, where it is not this data set; "" where it is."""
    if same_images(settings, dataset):
        return ""
    if settings["dataset"] != dataset.label:
        return settings["dataset"]
    old, new = settings.get("source") or {}, dataset.source
    here = settings.get("root") is not None and settings["root"] == new.get("root")
    split = here and old.get("options") != new.get("options")
    return f"{'another split of' if split else 'other images called'} {dataset.label}"


def claim(run: RunFolder, settings: dict[str, Any], accelerator: Accelerator) -> None:
    """Write the settings into a new folder; of several processes the first one does."""
    if accelerator.is_main_process and not run.settings.is_file():
        write_json(run.settings, settings)
    accelerator.wait_for_everyone()


@contextmanager
def trained_alone(run: RunFolder, checkpoint: dict[str, Any] | None, accelerator: Accelerator) -> Iterator[None]:
    """Keep other trainings out of a run folder during the block; the system lets go when the process ends.

    checkpoint: what was read of the folder before. Raises TrainingError where another process trains there, which it
    names, or has trained there meanwhile.
    """
    if not accelerator.is_main_process:
        yield
        return
    taken = f"{run.path} is being trained by {{pid}}: wait for it, or name another folder with --run"
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(f"cannot make the run folder {run.path}", error, TrainingError) from error
    with held(run.path / ".training.lock", taken, TrainingError):
        now = run.load_checkpoint()
        if (now and now["epoch"]) != (checkpoint and checkpoint["epoch"]) or run.finished:
            raise TrainingError(f"{run.path} was trained by another process meanwhile; call again to go on from there")
        yield


def how_it_ran(
    rows: list[dict[str, float]],
    checkpoint: dict[str, Any] | None,
    wall: float,
    cpu: float,
    accelerator: Accelerator,
    priors: PriorTable | TextureTable | None,
) -> dict[str, Any]:
    """The provenance of a run that began at these times of the two clocks, and trained these rows of metrics."""
    return {
        "resumed_after_epoch": checkpoint["epoch"] if checkpoint else 0,
        "compiled": all(row.get("compiled", False) for row in rows),  # a row of an older kit does not say
        "processes": accelerator.num_processes,
        "priors": None if priors is None else priors.digest(),
        **numerics(accelerator.device),
        "wall_s": round(time.time() - wall, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "training_s": round(sum(row["seconds"] for row in rows), 1),  # of all epochs, not of this process
    }


def _plain(info) -> dict[str, Any]:
    """The JSON-able facts of a data set's info (tables are left out)."""
    return {k: v for k, v in info.items() if isinstance(v, (str, int, float, bool, type(None)))}
