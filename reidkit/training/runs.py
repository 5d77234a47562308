"""A run on disk: recipe, metrics, checkpoint, weights, result (DESIGN: "How a run looks on disk").

Every file is written to a temporary name and then renamed, so a killed process leaves a whole old file or a
whole new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reidkit.errors import CheckpointError, ReIDKitError
from reidkit.models import ReIDModel, create_model
from reidkit.models.zoo import variant
from reidkit.training.recipes import Recipe, resolved
from reidkit.training.settings import plain

CHECKPOINT_VERSION = 1
CHECKPOINT = {"epoch": int, "model": dict, "optimizer": dict, "rows": list}  # what `state_of` in loop.py writes


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable and with sorted keys."""
    with replacing(path) as t:
        t.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


# What recipe.json must hold for the rest of the kit to read it.
SETTINGS = {"variant": str, "seed": int, "num_classes": int, "recipe": dict}
TEXTS = {"dataset": str, "level": str, "preset": str}  # may be absent
RECORDS = {  # may be absent or null
    **{"source": dict, "changes": dict, "resolved": dict, "dataset_info": dict},
    **{"prior_tool": str, "root": str, "fingerprint": str, "precision": str, "initialise_from": str},
}
UNKNOWN = {
    "dataset": "unknown",
    "level": "unknown",
    "preset": "custom",
    "source": None,
    "changes": None,
    "prior_tool": None,
}


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """The object in a JSON file; CheckpointError with `missing` where there is no file, and for one that is damaged."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(missing) from None
    except (ValueError, RecursionError, OSError) as e:
        raise CheckpointError(f"{path} cannot be read ({e}); delete it and train again") from e
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no JSON object; delete it and train again")
    return found


def recipe_of(settings: dict[str, Any], where: str | Path = "recipe.json") -> Recipe:
    """The recipe in a run's settings; CheckpointError where it is none."""
    try:
        return Recipe.from_dict(settings["recipe"])
    except (ReIDKitError, TypeError, ValueError) as e:
        raise CheckpointError(f"{where} holds no recipe of this kit ({e}); train the run again") from e


def _wrong_entries(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(entry, value) of everything in a run's settings that the rest of the kit could not read."""
    for key, kind in {**SETTINGS, **TEXTS, **RECORDS}.items():
        value = found.get(key)
        if (value is not None or key not in RECORDS) and (not isinstance(value, kind) or isinstance(value, bool)):
            yield key, value
    if isinstance(found["num_classes"], int) and found["num_classes"] < 1:
        yield "num_classes", found["num_classes"]
    source, resolved = found.get("source") or {"name": "", "options": {}}, found.get("resolved") or {}
    if not isinstance(source.get("name"), str) or not isinstance(source.get("options"), dict):
        yield "source", source
    if not all(isinstance(room, dict) for room in resolved.values()):
        yield "resolved", resolved


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def settings(self) -> Path:
        return self.path / "recipe.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def checksum(self) -> Path:
        """SHA-256 of the weights; shipped runs have one."""
        return self.path / "model.sha256"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def finished(self) -> bool:
        """Trained and evaluated to the end."""
        return self.result.is_file() and self.weights.is_file()

    def read_settings(self) -> dict[str, Any]:
        """What made the run, as `train` wrote it: see `run_settings` in record.py.

        Runs of older kits lack some entries: `source`, `changes` and `prior_tool` are then None, and whoever needs
        them asks instead of guessing. Raises CheckpointError for a folder or file that is no run.
        """
        found = read_json(
            self.settings,
            missing=f"{self.path} is not a run folder: it has no recipe.json. "
            "Train one with `reidkit train` or name another folder.",
        )
        for key, wrong in _wrong_entries({**UNKNOWN, **found}):
            raise CheckpointError(
                f"{self.settings} is not what `reidkit train` writes: {key} is {wrong!r}; "
                "delete the folder and train again"
            )
        return {**UNKNOWN, **found}

    def recipe(self) -> Recipe:
        """The recipe of the run, with the precision that it was trained in. CheckpointError where it is damaged."""
        settings = self.read_settings()
        recipe = recipe_of(settings, self.settings)
        return replace(recipe, precision=settings.get("precision", recipe.precision))

    def read_result(self) -> dict[str, Any]:
        """The content of result.json. CheckpointError for an unfinished run or a damaged file."""
        return read_json(
            self.result,
            missing=f"{self.path} has no result.json: the run is not finished; resume it with "
            f"`reidkit train --resume {self.path}`",
        )

    def save_metrics(self, rows: list[dict[str, float]]) -> None:
        with replacing(self.metrics) as t:
            pd.DataFrame(rows).to_csv(t, index=False)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        with replacing(self.checkpoint) as t:
            torch.save({"version": CHECKPOINT_VERSION, **state}, t)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none. A damaged one raises CheckpointError."""
        if not self.checkpoint.is_file():
            return None
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as e:  # torch.load raises many kinds on damaged files
            raise CheckpointError(
                f"{self.checkpoint} cannot be read ({type(e).__name__}: {e}). "
                "Delete it to train from the start; metrics and results stay."
            ) from e
        if not isinstance(state, dict) or state.get("version") != CHECKPOINT_VERSION:
            version = state.get("version") if isinstance(state, dict) else None
            raise CheckpointError(
                f"{self.checkpoint} has version {version}, "
                f"this kit writes {CHECKPOINT_VERSION}; delete it to train from the start"
            )
        if wrong := [k for k, kind in CHECKPOINT.items() if not isinstance(state.get(k), kind)]:
            raise CheckpointError(f"{self.checkpoint} lacks {', '.join(wrong)}; delete it to train from the start")
        return state

    def save_weights(self, model: ReIDModel) -> None:
        with replacing(self.weights) as t:
            save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, t)


def load_weights(model: ReIDModel, path: Path) -> None:
    """Load a safetensors file into a model of the same shape, or raise CheckpointError that says what differs."""
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; the run is not finished") from None
    except SafetensorError as e:
        raise CheckpointError(f"{path} is damaged ({e}); train the run again") from e
    own = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in state.items()}
    if own != theirs:
        missing, extra = sorted(own.keys() - theirs.keys()), sorted(theirs.keys() - own.keys())
        shapes = [f"{k}: {theirs[k]} instead of {own[k]}" for k in own.keys() & theirs.keys() if own[k] != theirs[k]]
        raise CheckpointError(
            f"{path} belongs to another model than {model.name}: missing {missing[:4]}, "
            f"unexpected {extra[:4]}, other shapes {shapes[:4]}"
        )
    model.load_state_dict(state)


def build_model(settings: dict[str, Any], pretrained: bool = False) -> ReIDModel:
    """The (untrained) network that a run's settings describe.

    Raises CheckpointError where the variant's line in zoo.py is another one than the run was trained with.
    """
    recipe = recipe_of(settings)
    if changed := zoo_changes(settings, recipe, rooms=("model",)):
        raise CheckpointError(
            f"the variant {settings['variant']!r} has changed since this run was trained ({changed}); "
            "bring its line in zoo.py back, or train the run again"
        )
    return create_model(
        settings["variant"],
        settings["num_classes"],
        backbone=recipe.backbone,
        pretrained=recipe.pretrained if pretrained else False,
        **{k: tuple(v) if isinstance(v, list) else v for k, v in recipe.model.items()},
    )


def as_resolved(name: str, recipe: Recipe) -> dict[str, Any]:
    """What a name of the zoo stands for at this moment: the fields of its config and losses, as JSON keeps them."""
    v = resolved(variant(name), recipe)
    return plain({"model": asdict(v.config), "loss": asdict(v.loss)})


def zoo_changes(settings: dict[str, Any], recipe: Recipe, rooms: tuple[str, ...] = ("model", "loss")) -> str:
    """How a run's variant differs from today's, in words; "" for the same. Fields that are new since do not count."""
    recorded = settings.get("resolved") or {}
    today = as_resolved(settings["variant"], recipe)
    return "; ".join(
        f"{room}.{key}: {old!r} there, {today[room].get(key)!r} now"
        for room in rooms
        for key, old in recorded.get(room, {}).items()
        if today[room].get(key) != old
    )


def load_run(path: str | Path) -> ReIDModel:
    """The trained network of a run folder, in eval mode on the CPU."""
    run = RunFolder(Path(path))
    model = build_model(run.read_settings())
    if run.checksum.is_file():
        check_hash(run.weights, run.checksum)
    load_weights(model, run.weights)
    return model.eval()


def check_hash(weights: Path, checksum: Path) -> None:
    """Raise CheckpointError where the weights are not the ones that were shipped."""
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if found != (expected := checksum.read_text().strip()):
        raise CheckpointError(
            f"{weights} is not the file that was shipped (SHA-256 {found[:12]}, expected "
            f"{expected[:12]}); restore it with git, or delete {checksum} if you changed it yourself"
        )
