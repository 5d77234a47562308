"""Settings that change nothing: the weight of a loss that a variant does not have, a step of a cosine schedule.

A preset may carry such settings for all of its variants. What was typed (or given in Python) beside it is meant, so it
is said before the training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reidkit.models.zoo import Variant, variant
from reidkit.training.ide import own_changes
from reidkit.training.recipes import Recipe, resolved

Holds = Callable[[Variant, Recipe], Any]


def _model(*fields: str) -> Holds:
    """Whether all of these fields of a variant's configuration are set."""
    return lambda v, _: all(getattr(v.config, field, False) for field in fields)


TRIPLET: tuple[str, Holds] = ("a triplet loss (loss.triplet)", lambda v, _: v.loss.triplet)
ALIGNED: tuple[str, Holds] = (
    "an alignment that is a term of its own (loss.alignment=class, sample or batch)",
    lambda v, _: v.loss.alignment in ("class", "sample", "batch"),
)
SUPERVISED: tuple[str, Holds] = ("global parts that are supervised", _model("supervised", "global_parts"))
BOTH_TASKS: tuple[str, Holds] = ("main and auxiliary tasks", _model("main", "aux"))
STEPS: tuple[str, Holds] = ("schedule=step", lambda _, r: r.schedule == "step")
NEEDS: dict[str, tuple[str, Holds]] = {  # setting -> (what it needs to change anything, whether that is there)
    "loss.triplet_weight": TRIPLET,
    "loss.margin": TRIPLET,
    "loss.metric": TRIPLET,
    "loss.alignment_weight": ALIGNED,
    "alignment_ramp": ALIGNED,
    "loss.supervision_weight": SUPERVISED,
    "model.detach_targets": SUPERVISED,
    "loss.soft_sharing_weight": ("softly shared weights (model.soft_share)", _model("soft_share")),
    "model.share": BOTH_TASKS,
    "model.share_bn": BOTH_TASKS,
    "model.separate_bn": BOTH_TASKS,
    "model.prior": ("auxiliary tasks", _model("aux")),
    "model.attention_dim": ("channel attention (model.channel_attention)", _model("channel_attention")),
    "milestones": STEPS,
    "gamma": STEPS,
    "cosine_start": ("schedule=cosine", lambda _, r: r.schedule == "cosine"),
    "erasing_area": ("random erasing (erasing above 0)", lambda _, r: r.erasing),
}


def without_effect(name: str, recipe: Recipe, settings: Iterable[str]) -> dict[str, str]:
    """{setting: what it would need} of those of `settings` that change nothing in a variant trained by this recipe."""
    v = resolved(variant(name), recipe)
    return {key: NEEDS[key][0] for key in settings if key in NEEDS and not NEEDS[key][1](v, recipe)}


def warn_without_effect(name: str, recipe: Recipe, preset: str) -> None:
    """Warn of what a recipe changes in its preset without changing the training of the variant."""
    changes = own_changes(name, recipe, preset)
    _warn(name, changes, without_effect(name, recipe, changes))


def warn_in_no_row(recipes: Iterable[tuple[str, Recipe]], settings: Mapping[str, Any]) -> None:
    """Warn of settings for all rows of a suite, (variant, recipe) each, that change nothing in any of them."""
    idle = [without_effect(name, recipe, settings) for name, recipe in recipes]
    if idle:
        _warn("every row", settings, {k: why for k, why in idle[0].items() if all(k in row for row in idle)})


def _warn(where: str, settings: Mapping[str, Any], idle: Mapping[str, str]) -> None:
    if idle:
        told = "; ".join(f"{key}={settings[key]} (it needs {why})" for key, why in idle.items())
        warnings.warn(f"{where}: these settings change nothing: {told}. Leave them away", stacklevel=3)
