"""Attention at an earlier layer: a model whose "feature map" is the output of an earlier stage of its trunk.

    model:                 stages 1 .. n            -> F        -> heads
    at_layer(model, "x"):  stages 1 .. x            -> the map  -> rest of the stages -> heads

The earlier the layer, the finer the map and the less it knows of the person.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from reidkit.errors import unknown_name
from reidkit.models import ReIDModel
from reidkit.models.base import ModelOutput
from reidkit.models.branches import BranchedModel
from reidkit.priors import PriorBatch

LAST = "last map"


def layer_names(model: ReIDModel) -> list[str]:
    """`LAST`, which the heads read, and the stages before it that can be looked at, latest first."""
    stages = list(_trunk(model))
    if not isinstance(model, BranchedModel):
        stages = stages[:-1]  # the last stage of a plain trunk is F itself
    return [LAST, *[name for name in reversed(stages) if name.startswith("layer")]]


def at_layer(model: ReIDModel, name: str) -> ReIDModel:
    """The same network, seen at a stage of `layer_names(model)`."""
    if name == LAST:
        return model
    if name not in layer_names(model):
        raise unknown_name(f"layer of {model.name}", name, layer_names(model))
    return _AtLayer(model, name)


def _trunk(model: ReIDModel) -> dict[str, nn.Module]:
    """The stages that every part of the network has in common, by name."""
    trunk = model.shared if isinstance(model, BranchedModel) else getattr(model, "backbone", None)
    return dict(trunk.named_children()) if isinstance(trunk, nn.Sequential) else {}


class _AtLayer(ReIDModel):
    """Wraps the model; shares its weights."""

    def __init__(self, model: ReIDModel, name: str):
        super().__init__()
        stages = _trunk(model)
        cut = list(stages).index(name) + 1
        self.model, self.name, self.part_names = model, f"{model.name} at {name}", model.part_names
        self.num_classes, self.needs_prior_at_test = model.num_classes, model.needs_prior_at_test
        self._first, self._rest = list(stages.values())[:cut], list(stages.values())[cut:]
        self.eval()

    def feature_maps(self, images: Tensor) -> Tensor:
        return _run(self._first, images)

    def last_maps(self, maps: Tensor) -> Tensor | tuple[Tensor, ...]:
        """From the stage's output to what the heads read."""
        x = _run(self._rest, maps)
        return tuple(tail(x) for tail in self.model.tails) if isinstance(self.model, BranchedModel) else x

    def heads(self, maps: Tensor, prior: PriorBatch | None = None, with_aux: bool = False) -> ModelOutput:
        return self.model.heads(self.last_maps(maps), prior, with_aux)

    def part_head(self, k: int, maps: Tensor, prior: PriorBatch | None = None) -> tuple[Tensor, Tensor]:
        return self.model.part_head(k, self.last_maps(maps), prior)


def _run(stages: list[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    for stage in stages:
        x = stage(x)
    return x
