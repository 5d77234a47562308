"""Recipes: how a variant is trained. One frozen dataclass, two families, a few presets.

`paper` is what the papers print (MPN Sec. 5.1, CGPN Sec. 4.2), for a GPU. `quick` is for two CPU cores and
the small Sidewalk set; its numbers were chosen on a validation split of the training identities. `photo` is for
photographs where there is no GPU. Which one a data set gets when none is named: presets.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import cos, pi
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from reidkit.data.sampler import PKSampler, Sampling
from reidkit.errors import ReIDKitError, unknown_name
from reidkit.evaluation.features import Flip
from reidkit.models.zoo import Variant, variant
from reidkit.training.device import AskedPrecision
from reidkit.training.settings import field_types, plain, read_value


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run's weights and numbers, besides the data set, the variant and the seed.

    Raises ReIDKitError for a value that no training can have: the types are the annotations, the ranges `RANGES`.
    """

    # the network
    backbone: str = "resnet50"
    pretrained: bool | str = "IMAGENET1K_V1"
    model: Mapping[str, Any] = field(default_factory=dict)  # overrides of the variant's config
    loss: Mapping[str, Any] = field(default_factory=dict)  # overrides of the variant's LossConfig
    ide_init: bool = False  # start from an IDE trained on the same set (MPN Sec. 5.1)
    # images and batches
    size: tuple[int, int] = (384, 128)  # height, width in pixels
    num_ids: int = 6  # S of MPN, P of CGPN; of all processes together
    num_instances: int = 8  # A of MPN, K of CGPN
    sampling: Sampling = "cover"  # what an epoch is: see PKSampler
    batches_per_epoch: int | None = None  # None: as many as the sampler says
    translation_copies: int = 1  # offline translation enlarges the set by this factor (MPN: 5)
    flip: float = 0.5
    erasing: float = 0.5
    erasing_area: tuple[float, float] = (0.02, 0.4)
    # optimisation
    epochs: int = 70
    lr: float = 0.01
    head_lr_factor: float = 1.0  # the heads learn this much faster than the backbone
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    warmup_batches: int = 0
    schedule: Literal["step", "cosine"] = "step"  # "step": lr x gamma at each milestone; "cosine": flat, then to 0
    milestones: tuple[int, ...] = (20, 40, 60)
    gamma: float = 0.1
    cosine_start: float = 0.4  # fraction of the training after which the cosine begins
    clip_norm: float | None = None
    alignment_ramp: float = 0.0  # first fraction of the training in which the weight of FSA grows from 0 to its value
    precision: AskedPrecision = "auto"  # "auto" = bf16 where the hardware has it
    # test time
    test_flip: Flip = "none"  # "mean": CGPN; "sum": MPN's released code
    camera_rule: bool = True  # False: a match under the query's own camera counts (sets without cameras)

    def __post_init__(self) -> None:
        for key, kind in TYPES.items() if TYPES else field_types(Recipe).items():
            object.__setattr__(self, key, read_value(key, getattr(self, key), kind))
        for key, (expected, holds) in RANGES.items():
            value = getattr(self, key)
            if value is not None and not all(map(holds, value if isinstance(value, tuple) else (value,))):
                raise ReIDKitError(f"setting {key}={getattr(self, key)!r}: expected {expected}")
        if self.batch_size < 2:
            raise ReIDKitError(
                f"num_ids x num_instances (P x K) = {self.num_ids} x {self.num_instances} is a batch of "
                "one image, which batch norm cannot be trained on; at least 2 images are needed"
            )
        if self.erasing_area[0] > self.erasing_area[1]:
            raise ReIDKitError(f"setting erasing_area={self.erasing_area}: the smaller fraction comes first")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ReIDKitError(f"setting milestones={self.milestones}: expected epochs in ascending order")
        if self.nesterov and not self.momentum:
            raise ReIDKitError("setting nesterov=true needs a momentum above 0")

    @property
    def batch_size(self) -> int:
        """P x K images."""
        return self.num_ids * self.num_instances

    def lr_factor(self, step: int, steps_per_epoch: int) -> float:
        """Multiplier of the learning rate at batch `step` (from 0), so the schedule holds no state."""
        warm = min(1.0, (step + 1) / self.warmup_batches) if self.warmup_batches else 1.0
        if self.schedule == "step":
            return warm * self.gamma ** sum(step >= m * steps_per_epoch for m in self.milestones)
        total = self.epochs * steps_per_epoch
        done = max(0.0, step / total - self.cosine_start) / (1 - self.cosine_start)
        return warm * 0.5 * (1 + cos(pi * done))

    def alignment_factor(self, step: int, steps_per_epoch: int) -> float:
        """Multiplier of the alignment's weight at batch `step` (from 0): a straight line to 1 (`alignment_ramp`)."""
        ramp = self.alignment_ramp * self.epochs * steps_per_epoch
        return min(1.0, (step + 1) / ramp) if ramp else 1.0

    def batches(self, labels: ArrayLike) -> int:
        """How many batches a whole training of one process has; labels: [N] identities of the training images."""
        rows = np.tile(labels, self.translation_copies)
        shape = {"mode": self.sampling, "batches_per_epoch": self.batches_per_epoch}
        return self.epochs * len(PKSampler(rows, self.num_ids, self.num_instances, **shape))

    def as_dict(self) -> dict[str, Any]:
        """The recipe as JSON keeps it."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of `as_dict`. Fields that an older kit did not write have their defaults; an unknown one is an
        UnknownNameError."""
        known = field_types(cls)
        for key in values:
            if key not in known:
                raise unknown_name("field of a recipe", key, known)
        return cls(**values)


POSITIVE = ("a number above 0", lambda v: v > 0)
COUNT = ("a whole number of at least 1", lambda v: v >= 1)
MANY = ("a whole number of at least 1, at most 1,000,000", lambda v: 1 <= v <= 1_000_000)  # held in memory
COPIES = ("a whole number of at least 1, at most 1,000", lambda v: 1 <= v <= 1_000)
NOT_NEGATIVE = ("a number of at least 0", lambda v: v >= 0)
FRACTION = ("a number from 0 to 1", lambda v: 0 <= v <= 1)
RANGES = {
    "size": ("height and width in pixels, both at least 1", lambda v: v >= 1),
    "num_ids": COUNT,
    "num_instances": COUNT,
    "batches_per_epoch": MANY,
    "translation_copies": COPIES,
    "flip": FRACTION,
    "erasing": FRACTION,
    "erasing_area": ("two fractions above 0 and at most 1", lambda v: 0 < v <= 1),
    "epochs": COUNT,
    "lr": POSITIVE,
    "head_lr_factor": NOT_NEGATIVE,
    "momentum": ("a number from 0 to below 1", lambda v: 0 <= v < 1),
    "weight_decay": NOT_NEGATIVE,
    "warmup_batches": NOT_NEGATIVE,
    "milestones": COUNT,
    "gamma": POSITIVE,
    "cosine_start": ("a number from 0 to below 1", lambda v: 0 <= v < 1),
    "clip_norm": POSITIVE,
    "alignment_ramp": FRACTION,
}
TYPES = field_types(Recipe)

MPN_PAPER = Recipe(nesterov=True, sampling="independent", translation_copies=5, ide_init=True)
CGPN_PAPER = Recipe(num_ids=8, num_instances=8, erasing=0.0, epochs=240, milestones=(60, 80), test_flip="mean")
IDE_PAPER = Recipe(epochs=60, milestones=(40,), lr=0.02, head_lr_factor=5.0)  # the papers do not say; ours

QUICK = Recipe(
    backbone="small",
    pretrained=False,
    size=(144, 48),
    num_ids=8,
    num_instances=4,
    epochs=12,
    batches_per_epoch=50,
    erasing_area=(0.02, 0.25),
    lr=0.04,
    head_lr_factor=4.0,
    nesterov=True,
    warmup_batches=40,
    schedule="cosine",
    clip_norm=20.0,
)
MPN_QUICK = replace(QUICK, model={"part_dim": 64}, ide_init=True)
# Three copies of the last stage: with 96 channels instead of 128 a shipped network stays below 2 MB. The losses are
# weighted, but summed over the features as in CGPN Eq. 4, so that a feature counts the same in each row of Table 4.
CGPN_QUICK = replace(
    QUICK,
    backbone="small-96",
    model={"reduced_dim": 48},
    ide_init=True,
    test_flip="mean",
    loss={"identity_weight": 0.5, "triplet_weight": 0.1, "supervision_weight": 0.1},
)
IDE_QUICK = replace(
    QUICK,
    epochs=16,
    lr=0.06,
    head_lr_factor=1.0,
    model={"part_dim": 128, "dropout": 0.0},
    loss={"triplet": "embedding"},
)
# The recipe of the networks that the notebooks open, chosen on people of another seed of Sidewalk (docs/results.md).
# In the paper's 94,000 batches the cross entropies come to rest, and the alignment, of weight 1, has the last word. In
# 2,000 batches from scratch they never rest, so here its weight grows to 200; that weight from the first batch on would
# pull all features to one. And channels that are to belong to a part must exist: 256.
HERO = {"epochs": 40, "size": (192, 64)}
MPN_HERO = replace(MPN_QUICK, **HERO, backbone="small-256", alignment_ramp=0.5, loss={"alignment_weight": 200.0})
CGPN_HERO = replace(CGPN_QUICK, **HERO, backbone="small")
IDE_HERO = replace(IDE_QUICK, size=(192, 64), backbone="small-256")
# Photographs on a CPU: there is no time to learn from scratch what ImageNet already taught, so the trunk is pretrained.
# 4,000 batches of 32 are ten times through the 12,936 training images of Market-1501 and show each of its 751 people
# 43 times. The alignment's weight lies between those that served this trunk on Sidewalk (docs/results.md), 10 and 80.
PHOTO = {"size": (192, 64), "backbone": "lite0-80-s8", "pretrained": "imagenet", "lr": 0.02, "batches_per_epoch": 100}
MPN_PHOTO = replace(MPN_QUICK, **PHOTO, epochs=40, alignment_ramp=0.5, loss={"alignment_weight": 20.0})
CGPN_PHOTO = replace(CGPN_QUICK, **PHOTO, epochs=40, ide_init=False)  # as in the paper, from the ImageNet weights
IDE_PHOTO = replace(IDE_QUICK, **PHOTO, head_lr_factor=4.0)
SMOKE = {"size": (96, 32), "num_ids": 4, "num_instances": 2, "epochs": 2, "batches_per_epoch": 3, "warmup_batches": 2}

PRESETS = {  # preset -> `family` of a variant's config -> recipe
    "paper": {"mpn": MPN_PAPER, "cgpn": CGPN_PAPER, "ide": IDE_PAPER},
    "quick": {"mpn": MPN_QUICK, "cgpn": CGPN_QUICK, "ide": IDE_QUICK},
    "long": {f: replace(r, epochs=40) for f, r in (("mpn", MPN_QUICK), ("cgpn", CGPN_QUICK), ("ide", IDE_QUICK))},
    "hero": {"mpn": MPN_HERO, "cgpn": CGPN_HERO, "ide": IDE_HERO},
    "photo": {"mpn": MPN_PHOTO, "cgpn": CGPN_PHOTO, "ide": IDE_PHOTO},
    "smoke": {f: replace(r, **SMOKE) for f, r in (("mpn", MPN_QUICK), ("cgpn", CGPN_QUICK), ("ide", IDE_QUICK))},
}


def recipe_for(name: str, preset: str = "quick", settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a variant under a preset, with `settings` on top.

    settings: field = value; "model.num_parts" and "loss.margin" reach into the variant's own records.
    Values may be strings as typed on a command line; they are read as the field's type.
    Raises UnknownNameError for an unknown preset, variant, field or choice, ReIDKitError for a value that does not fit.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    v = variant(name)
    recipe = PRESETS[preset][v.config.family]
    known = {f.name for f in fields(v.config)}
    recipe = replace(recipe, model={k: x for k, x in recipe.model.items() if k in known})
    for key, value in read_settings(name, settings).items():
        room, _, leaf = key.rpartition(".")
        recipe = replace(recipe, **({room: {**getattr(recipe, room), leaf: value}} if room else {leaf: value}))
    if getattr(v.config, "spatial_attention", None) == "rga" and "spatial_attention" not in recipe.model:
        recipe = replace(recipe, model={**recipe.model, "spatial_attention": "rga:{}x{}".format(*recipe.size)})
    resolved(v, recipe)  # the variant's own records check their values now, not at the first batch
    return recipe


def resolved(v: Variant, recipe: Recipe) -> Variant:
    """The variant with the recipe's overrides in its config and losses: what is really built and trained."""
    return replace(
        v, config=_overridden(v.config, recipe.model, "model"), loss=_overridden(v.loss, recipe.loss, "loss")
    )


def _overridden(record: Any, overrides: Mapping[str, Any], room: str) -> Any:
    known = field_types(type(record))
    for key in overrides:
        if key not in known:
            raise unknown_name("setting", f"{room}.{key}", [f"{room}.{k}" for k in known])
    return replace(record, **{k: read_value(f"{room}.{k}", x, known[k]) for k, x in overrides.items()})


def read_settings(name: str, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of a variant, each as its field's type; the same whichever way they were written."""
    v = variant(name)
    rooms = {"": field_types(Recipe), "model": field_types(type(v.config)), "loss": field_types(type(v.loss))}
    rooms[""] = {k: t for k, t in rooms[""].items() if k not in ("model", "loss")}
    typed = {}
    for key, value in (settings or {}).items():
        room, _, leaf = key.rpartition(".")
        if leaf not in rooms.get(room, {}):
            raise unknown_name("setting", key, [f"{r}.{k}".lstrip(".") for r, known in rooms.items() for k in known])
        typed[key] = read_value(key, value, rooms[room][leaf])
    return typed


def changes_from(base: Recipe, recipe: Recipe) -> dict[str, Any]:
    """The settings that lead from one recipe to another; {} for equal ones. A field taken away is set to None."""
    changes = {
        k: getattr(recipe, k)
        for k in field_types(Recipe)
        if k not in ("model", "loss") and getattr(recipe, k) != getattr(base, k)
    }
    for room in ("model", "loss"):
        old, new = getattr(base, room), getattr(recipe, room)
        changes |= {f"{room}.{k}": new.get(k) for k in sorted({*old, *new}) if k not in old or old[k] != new.get(k)}
    return changes
