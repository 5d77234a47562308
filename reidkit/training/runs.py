"""A run on disk: recipe, metrics, checkpoint, weights, result (DESIGN: "How a run looks on disk").

Every file is written to a temporary name and then renamed, so a killed process leaves a whole old file or a
whole new one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from reidkit.errors import CheckpointError, ReIDKitError, UnknownNameError
from reidkit.evaluation.extract import Extraction
from reidkit.files import read_json, replacing
from reidkit.models import ReIDModel, create_model
from reidkit.models.zoo import variant
from reidkit.readers import read_table
from reidkit.tensor_files import load_tensors
from reidkit.training.device import choose_device
from reidkit.training.recipes import Recipe, resolved
from reidkit.training.settings import plain
from reidkit.training.stored import (
    UNKNOWN,
    recipe_of,
    wrong_entries,
    wrong_in_checkpoint,
    wrong_in_result,
)
from reidkit.training.weights import check_hash, check_shapes, load_weights

CHECKPOINT_VERSION = 1
SHIPPED = Path(__file__).resolve().parents[2] / "results" / "sidewalk" / "checkpoints"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def settings(self) -> Path:
        """What made the run: variant, recipe, data set, seed."""
        return self.path / "recipe.json"

    @property
    def metrics(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """Everything that a resumed run needs."""
        return self.path / "last.ckpt"

    @property
    def weights(self) -> Path:
        """The trained network."""
        return self.path / "model.safetensors"

    @property
    def checksum(self) -> Path:
        """SHA-256 of the weights; shipped runs have one."""
        return self.path / "model.sha256"

    @property
    def result(self) -> Path:
        """What the network scored, and where that comes from; only a finished run has it."""
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
        for key, wrong in wrong_entries({**UNKNOWN, **found}):
            raise CheckpointError(
                f"{self.settings} is not what `reidkit train` writes: {key} is {wrong!r}; "
                "delete the folder and train again"
            )
        return {**UNKNOWN, **found}

    def recipe(self) -> Recipe:
        """The recipe of the run, with the precision that it was trained in. CheckpointError where it is damaged."""
        settings = self.read_settings()
        recipe = recipe_of(settings, self.settings)
        try:
            return replace(recipe, precision=settings.get("precision") or recipe.precision)
        except ReIDKitError as e:
            raise CheckpointError(f"{self.settings}: {e}; train the run again") from e

    def read_result(self) -> dict[str, Any]:
        """The content of result.json. CheckpointError for an unfinished run or a damaged file."""
        found = read_json(
            self.result,
            missing=f"{self.path} has no result.json: it is not finished; go on: `reidkit train --resume {self.path}`",
        )
        if wrong := wrong_in_result(found):
            raise CheckpointError(
                f"{self.result} is not what `reidkit train` writes ({wrong}); delete it, and "
                f"`reidkit train --resume {self.path}` tests the network again"
            )
        return found

    def read_metrics(self) -> pd.DataFrame:
        """metrics.csv, one row an epoch: epoch, lr, the losses, seconds. CheckpointError for a damaged file."""
        return read_metrics(self.metrics)

    def save_metrics(self, rows: list[dict[str, float]]) -> None:
        """Write one row an epoch to metrics.csv, in one step. CheckpointError where the folder was deleted."""
        self._require_settings()
        with replacing(self.metrics) as t:
            pd.DataFrame(rows).to_csv(t, index=False)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the state that `load_checkpoint` reads, in one step: a killed run keeps the one before."""
        with replacing(self.checkpoint) as t:
            torch.save({"version": CHECKPOINT_VERSION, **state}, t)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none. A damaged one raises CheckpointError."""
        if not self.checkpoint.is_file():
            return None
        try:
            state = load_tensors(self.checkpoint)
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
        if wrong := wrong_in_checkpoint(state):
            raise CheckpointError(f"{self.checkpoint} is damaged ({wrong}); delete it to train from the start")
        return state

    def save_weights(self, model: ReIDModel) -> None:
        """Write the state dict of a model, on whatever device it is, to model.safetensors, in one step.

        Raises CheckpointError where the folder was deleted.
        """
        self._require_settings()
        with replacing(self.weights) as t:
            save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, t)

    def _require_settings(self) -> None:
        if not self.settings.is_file():
            raise CheckpointError(
                f"{self.settings} is gone: the run folder was deleted or moved while it was trained. Bring it back to "
                "go on from its last epoch, or call again to train from the start"
            )


def read_metrics(file: Path) -> pd.DataFrame:
    """A metrics.csv, one row an epoch. CheckpointError for a damaged file."""
    missing = f"{file} does not exist: no epoch is finished; go on with `reidkit train --resume {file.parent}`"
    remedy = f"delete it; `reidkit train --resume {file.parent}` writes it again with the next epoch"
    losses = {"lr": float, "loss": float, "seconds": float}
    how = {"missing": missing, "remedy": remedy, "optional": losses}
    return read_table(file, {"epoch": int}, error=CheckpointError, **how)


def build_model(settings: dict[str, Any], pretrained: bool = False, where: str | Path = "recipe.json") -> ReIDModel:
    """The (untrained) network that a run's settings describe; where: the file that they were read from.

    Raises CheckpointError where the variant's line in zoo.py is another one than the run was trained with.
    """
    recipe = recipe_of(settings, where)
    if changed := zoo_changes(settings, recipe, rooms=("model",)):
        raise CheckpointError(
            f"{where}: the variant {settings['variant']!r} has changed since this run was trained ({changed}); "
            "bring its line in zoo.py back, or train the run again"
        )
    overrides = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.model.items()}
    weights = recipe.pretrained if pretrained else False
    try:
        return create_model(
            settings["variant"], settings["num_classes"], backbone=recipe.backbone, pretrained=weights, **overrides
        )
    except (TypeError, ValueError, RuntimeError, ArithmeticError, UnknownNameError) as e:  # torch's own words
        raise CheckpointError(f"{where}: no network can be built from its settings ({e}); train the run again") from e


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


def find_run(run: str | Path) -> RunFolder:
    """A run folder, or a shipped network: by its folder's whole name, or by its variant, such as "mpn-no-ca".

    Where several networks of a variant ship, its name means the one of the preset `hero`; the tiny ones of tests and
    quick lessons then have their whole names only.
    Raises CheckpointError when there is neither, or no one network of that name; it lists the shipped ones.
    """
    given = RunFolder(Path(run))
    if given.settings.is_file():
        return given
    shipped = [RunFolder(folder) for folder in sorted(SHIPPED.glob("*")) if RunFolder(folder).finished]
    found = [r for r in shipped if str(run) in (r.path.name, r.read_settings()["variant"])]
    if len(found) > 1:
        found = [r for r in found if r.read_settings()["preset"] == "hero"]
    if len(found) == 1:
        return found[0]
    if given.path.is_dir():
        given.read_settings()  # a folder without recipe.json
    raise CheckpointError(
        f"{str(run)!r} is neither a run folder (`reidkit train` makes one) nor the name of one "
        f"shipped network: {', '.join(r.path.name for r in shipped) or 'there is none'}"
    )


def load_run(run: str | Path, device: str | torch.device = "cpu") -> ReIDModel:
    """The trained network of a run folder, or the shipped one of that name (`find_run`), in eval mode.

    device: where it shall work, "auto" for a GPU where there is one. `net.extract(pictures)` gives features as the
    run's own evaluation does: its size, mirror image and precision.
    Raises CheckpointError for what is no run, unfinished, damaged, or no longer the variant that was trained.
    """
    folder, place = find_run(run), choose_device(str(device))
    settings = folder.read_settings()
    if folder.checksum.is_file():
        check_hash(folder.weights, folder.checksum)
    with torch.device("meta"):  # what the settings ask for is held against the file before memory is
        check_shapes(build_model(settings, where=folder.settings), folder.weights)
    model = build_model(settings, where=folder.settings)
    load_weights(model, folder.weights)
    model.extraction = extraction_of(folder.recipe())
    return model.eval().to(place)


def extraction_of(recipe: Recipe) -> Extraction:
    """How a run's own recipe looks at test images."""
    precision = "no" if recipe.precision == "auto" else recipe.precision
    return Extraction(recipe.size, flip=recipe.test_flip, precision=precision)
