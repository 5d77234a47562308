"""What the files of a run must hold for the rest of the kit to read them; each check says what is wrong, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reidkit.errors import CheckpointError, ReIDKitError
from reidkit.evaluation.forms import TestForm
from reidkit.models.zoo import variant
from reidkit.tensor_files import not_finite
from reidkit.training.recipes import Recipe, resolved
from reidkit.training.settings import MAX_SEED

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


CHECKPOINT = {"epoch": int, "model": dict, "optimizer": dict, "rows": list}  # what `state_of` in steps.py writes
TESTS = ("released", "multi-query")  # of a result, beside the run's own test
FRACTIONS = {"mAP", "mINP", "rank1", "rank5", "rank10"}  # what a test measures; without an mAP it is none
MOST = 1 << 16  # parts, channels ... of a network
MOST_CLASSES = 1 << 24


def recipe_of(settings: dict[str, Any], where: str | Path = "recipe.json") -> Recipe:
    """The recipe in a run's settings; CheckpointError where it is none."""
    try:
        recipe = Recipe.from_dict(settings["recipe"])
        for key, value in recipe.model.items():
            if isinstance(value, (int, float)) and abs(value) > MOST:
                raise ReIDKitError(f"setting model.{key}={value!r}: expected at most {MOST}")
        resolved(variant(settings["variant"]), recipe)
        return recipe
    except (ReIDKitError, TypeError, ValueError) as e:
        raise CheckpointError(f"{where} holds no recipe of this kit ({e}); train the run again") from e


def wrong_entries(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(entry, value) of everything in a run's settings that the rest of the kit could not read."""
    for key, kind in {**SETTINGS, **TEXTS, **RECORDS}.items():
        value = found.get(key)
        if (value is not None or key not in RECORDS) and (not isinstance(value, kind) or isinstance(value, bool)):
            yield key, value
    if isinstance(found["seed"], int) and not 0 <= found["seed"] <= MAX_SEED:
        yield "seed", found["seed"]
    if isinstance(found["num_classes"], int) and not 1 <= found["num_classes"] <= MOST_CLASSES:
        yield "num_classes", found["num_classes"]
    source, resolved = found.get("source") or {"name": "", "options": {}}, found.get("resolved") or {}
    if not isinstance(source.get("name"), str) or not isinstance(source.get("options"), dict):
        yield "source", source
    if not all(isinstance(room, dict) for room in resolved.values()):
        yield "resolved", resolved


def wrong_in_result(found: Mapping[str, Any]) -> str:
    """What the content of result.json lacks or says wrongly; "" where nothing is wrong."""
    for key, kind in {"variant": str, "dataset": str, "preset": str, "seed": int}.items():
        if not isinstance(found.get(key), kind) or isinstance(found[key], bool):
            return f"{key} is {found.get(key)!r}"
    for key in ("provenance", "dataset_info", "changes", "recipe", *TESTS):
        if found.get(key) is not None and not isinstance(found[key], dict):
            return f"{key} is {found[key]!r}"
    for name, test in {"": found, **{name: found[name] for name in TESTS if found.get(name) is not None}}.items():
        if wrong := _wrong_in_test(test):
            return f"{name} {wrong}".strip()
    return ""


def _wrong_in_test(test: Mapping[str, Any]) -> str:
    """Of one test: the form it says, and its metrics a level, all fractions but the number of queries."""
    form, metrics = test.get("test") or {}, test.get("metrics")
    if not isinstance(form, dict) or not isinstance(metrics, dict) or not metrics:
        return f"test is {form!r}" if not isinstance(form, dict) else f"metrics is {metrics!r}"
    try:
        TestForm.from_dict(form)
    except (ReIDKitError, TypeError) as error:
        return f"test: {error}"
    for level, values in metrics.items():
        if not isinstance(values, dict) or not isinstance(values.get("by_shift", {}), dict):
            return f"metrics of {level} are {values!r}"
        for shift, fractions in {"0": values, **values.get("by_shift", {})}.items():
            try:
                float(shift)
            except ValueError:
                return f"metrics of {level} at a shift of {shift!r}"
            if not isinstance(fractions, dict):
                return f"metrics of {level} at shift {shift} are {fractions!r}"
            for key in sorted(FRACTIONS & fractions.keys() | {"mAP"}):
                value = fractions.get(key)
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                    return f"{key} of {level} is {value!r}, expected a number from 0 to 1"
        if isinstance(queries := values.get("queries", 0), bool) or not isinstance(queries, int):
            return f"queries of {level} is {queries!r}"
    return ""


def wrong_in_checkpoint(state: Mapping[str, Any]) -> str:
    """What a checkpoint lacks or holds wrongly; "" where nothing is wrong."""
    if lacking := [k for k, kind in CHECKPOINT.items() if not isinstance(state.get(k), kind)]:
        return f"it lacks {', '.join(lacking)}"
    rows, epoch = state["rows"], state["epoch"]
    numbers = all(
        isinstance(row, dict) and all(isinstance(k, str) and isinstance(v, (int, float)) for k, v in row.items())
        for row in rows
    )
    if not numbers or isinstance(epoch, bool) or len(rows) != epoch or not rows:
        return f"it is of epoch {epoch} and has {len(rows)} rows of metrics"
    if bad := not_finite(state["model"]):
        return f"{bad} holds numbers that are not finite"
    return ""


def misfit(optimizer: torch.optim.Optimizer) -> str:
    """What an optimiser that has been loaded holds that its weights cannot take a step with; "" for nothing."""
    for group in optimizer.param_groups:
        if any(isinstance(v, float) and not math.isfinite(v) for v in group.values()):
            return "a setting of its optimiser is not finite"
    for weight, kept in optimizer.state.items():
        for name, value in kept.items() if isinstance(kept, dict) else ():
            if value is None or name == "step":
                continue
            if not isinstance(value, Tensor) or value.shape != weight.shape or not torch.isfinite(value).all():
                return f"{name} of its optimiser does not fit a weight {list(weight.shape)}"
    return ""
