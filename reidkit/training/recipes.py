"""Recipes: how a variant is trained. One frozen dataclass, two families, a few presets.

`paper` is what the papers print (MPN Sec. 5.1, CGPN Sec. 4.2), for a GPU. `quick` is for two CPU cores and
the small Sidewalk set; its numbers were chosen on a validation split of the training identities.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from reidkit.errors import ReIDKitError, unknown_name
from reidkit.models.zoo import variant


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights of a run, besides the data set, the variant and the seed."""

    # the network
    backbone: str = "resnet50"
    pretrained: bool | str = "IMAGENET1K_V1"
    model: Mapping[str, Any] = field(default_factory=dict)   # overrides of the variant's config
    loss: Mapping[str, Any] = field(default_factory=dict)    # overrides of the variant's LossConfig
    ide_init: bool = False                # start from an IDE trained on the same set (MPN Sec. 5.1)
    # images and batches
    size: tuple[int, int] = (384, 128)    # height, width in pixels
    num_ids: int = 6                      # S of MPN, P of CGPN
    num_instances: int = 8                # A of MPN, K of CGPN
    sampling: str = "cover"               # what an epoch is: see PKSampler
    batches_per_epoch: int | None = None  # None: as many as the sampler says
    translation_copies: int = 1           # offline translation enlarges the set by this factor (MPN: 5)
    flip: float = 0.5
    erasing: float = 0.5
    erasing_area: tuple[float, float] = (0.02, 0.4)
    # optimisation
    epochs: int = 70
    lr: float = 0.01
    head_lr_factor: float = 1.0           # the heads learn this much faster than the backbone
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    warmup_batches: int = 0
    schedule: str = "step"                # "step": lr x gamma at each milestone; "cosine": flat, then cosine to 0
    milestones: tuple[int, ...] = (20, 40, 60)
    gamma: float = 0.1
    cosine_start: float = 0.4             # fraction of the training after which the cosine begins
    clip_norm: float | None = None
    precision: str = "auto"               # "no", "bf16", "fp16"; "auto" = bf16 where the hardware has it
    # test time
    test_flip: str = "none"               # "none", "mean" (CGPN), "sum" (MPN's released code)

    @property
    def batch_size(self) -> int:
        """P x K images."""
        return self.num_ids * self.num_instances

    def lr_factor(self, step: int, steps_per_epoch: int) -> float:
        """Multiplier of the learning rate at batch `step` (from 0), so the schedule holds no state."""
        warm = min(1.0, (step + 1) / self.warmup_batches) if self.warmup_batches else 1.0
        if self.schedule == "step":
            return warm * self.gamma ** sum(step >= m * steps_per_epoch for m in self.milestones)
        from math import cos, pi
        total = self.epochs * steps_per_epoch
        done = max(0.0, step / total - self.cosine_start) / (1 - self.cosine_start)
        return warm * 0.5 * (1 + cos(pi * done))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        values = json.loads(text)
        for key in ("size", "erasing_area", "milestones"):
            values[key] = tuple(values[key])
        return cls(**values)


MPN_PAPER = Recipe(nesterov=True, sampling="independent", translation_copies=5, ide_init=True)
CGPN_PAPER = Recipe(num_ids=8, num_instances=8, erasing=0.0, epochs=240, milestones=(60, 80), test_flip="mean")
IDE_PAPER = Recipe(epochs=60, milestones=(40,), lr=0.02, head_lr_factor=5.0)  # the papers do not say; ours

QUICK = Recipe(
    backbone="small", pretrained=False, size=(144, 48), num_ids=8, num_instances=4, epochs=12,
    batches_per_epoch=50, erasing_area=(0.02, 0.25), lr=0.04, head_lr_factor=4.0, nesterov=True,
    warmup_batches=40, schedule="cosine", clip_norm=20.0)
MPN_QUICK = replace(QUICK, model={"part_dim": 64}, ide_init=True)
# Three copies of the last stage: with 96 channels instead of 128 a shipped network stays below 2 MB. The losses are
# weighted, but summed over the features as in CGPN Eq. 4, so that a feature counts the same in each row of Table 4.
CGPN_QUICK = replace(QUICK, backbone="small-96", model={"reduced_dim": 48}, ide_init=True, test_flip="mean",
                     loss={"identity_weight": 0.5, "triplet_weight": 0.1, "supervision_weight": 0.1})
IDE_QUICK = replace(QUICK, epochs=16, lr=0.06, head_lr_factor=1.0, model={"part_dim": 128, "dropout": 0.0},
                    loss={"triplet": "embedding"})
SMOKE = {"size": (96, 32), "num_ids": 4, "num_instances": 2, "epochs": 2, "batches_per_epoch": 3, "warmup_batches": 2}

FAMILIES = {"MPNConfig": "mpn", "PyramidConfig": "mpn", "PCBConfig": "mpn", "IDEConfig": "ide",
            "CGPNConfig": "cgpn", "MGNConfig": "cgpn"}
PRESETS = {
    "paper": {"mpn": MPN_PAPER, "cgpn": CGPN_PAPER, "ide": IDE_PAPER},
    "quick": {"mpn": MPN_QUICK, "cgpn": CGPN_QUICK, "ide": IDE_QUICK},
    "long": {f: replace(r, epochs=40) for f, r in (("mpn", MPN_QUICK), ("cgpn", CGPN_QUICK), ("ide", IDE_QUICK))},
    "smoke": {f: replace(r, **SMOKE) for f, r in (("mpn", MPN_QUICK), ("cgpn", CGPN_QUICK), ("ide", IDE_QUICK))},
}


def recipe_for(name: str, preset: str = "quick", settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a variant under a preset, with `settings` on top.

    settings: field = value; "model.num_parts" and "loss.margin" reach into the variant's own records.
    Values may be strings as typed on a command line; they are read as the field's type.
    Raises UnknownNameError for an unknown preset, variant or field.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    v = variant(name)
    recipe = PRESETS[preset][FAMILIES[type(v.config).__name__]]
    known = {f.name for f in fields(v.config)}
    recipe = replace(recipe, model={k: x for k, x in recipe.model.items() if k in known})
    for key, value in (settings or {}).items():
        recipe = _set(recipe, v, key, value)
    if getattr(v.config, "spatial_attention", None) == "rga" and "spatial_attention" not in recipe.model:
        recipe = replace(recipe, model={**recipe.model, "spatial_attention": "rga:{}x{}".format(*recipe.size)})
    return recipe


def _set(recipe: Recipe, v, key: str, value: Any) -> Recipe:
    """One `key=value` applied to a recipe."""
    room, _, leaf = key.rpartition(".")
    owner = {"": recipe, "model": v.config, "loss": v.loss}.get(room)
    if owner is None or leaf not in {f.name for f in fields(owner)} or (room == "" and leaf in ("model", "loss")):
        choices = [f.name for f in fields(recipe) if f.name not in ("model", "loss")]
        choices += [f"{r}.{f.name}" for r, o in (("model", v.config), ("loss", v.loss)) for f in fields(o)]
        raise unknown_name("setting", key, choices)
    value = _parse(value, getattr(owner, leaf), key)
    if room:
        return replace(recipe, **{room: {**getattr(recipe, room), leaf: value}})
    return replace(recipe, **{leaf: value})


def _parse(value: Any, like: Any, key: str) -> Any:
    """Read a command-line string as JSON where it is JSON, else as text; check it against the present value."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = {"True": True, "False": False, "None": None}.get(value, value)
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(like, tuple) and not isinstance(value, tuple):
        value = (value,)
    number = (int, float)
    if isinstance(like, number) and not isinstance(like, bool) and not isinstance(value, (*number, type(None))):
        raise ReIDKitError(f"setting {key}={value!r}: expected a number such as {like!r}")
    if isinstance(like, bool) and not isinstance(value, (bool, str)):
        raise ReIDKitError(f"setting {key}={value!r}: expected true or false")
    return value
