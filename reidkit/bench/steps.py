"""One training step on random images that lie on the device: of a bare backbone, and of a variant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidkit.data.loaders import Batch
from reidkit.evaluation.features import Precision
from reidkit.losses import total_loss
from reidkit.models import create_model
from reidkit.models.backbones import create_backbone
from reidkit.models.base import ModelOutput
from reidkit.models.zoo import variant
from reidkit.training.device import choose_precision, make_accelerator
from reidkit.training.gradients import Gradients, captured
from reidkit.training.loop import training_step
from reidkit.training.recipes import Recipe, resolved
from reidkit.training.steps import make_optimizer

Mode = Literal["eager", "compiled"]
CLASSES = 751


class Step:
    """A call is a training step on images and labels that lie on the device. The subclasses say what is trained."""

    def __init__(self, net: nn.Module, recipe: Recipe, device: torch.device) -> None:
        self.device, self.recipe = device, recipe
        self.precision: Precision = choose_precision(recipe.precision, device)
        self.net = net.to(device).to(memory_format=torch.channels_last).train()
        images = torch.randn(recipe.batch_size, 3, *recipe.size, device=device)
        self.images = images.to(memory_format=torch.channels_last)
        self.labels = torch.arange(recipe.num_ids, device=device).repeat_interleave(recipe.num_instances)

    def forward(self, *inputs: Any) -> Any:
        """The network's output under the recipe's precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.net(self.images, *inputs)


class BareStep(Step):
    """The backbone of a recipe with global average pooling and one classifier, cross entropy and SGD."""

    def __init__(self, recipe: Recipe, mode: Mode, device: torch.device) -> None:
        backbone = create_backbone(recipe.backbone)
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(backbone.channels, CLASSES))
        net = nn.Sequential(backbone, pooled)
        super().__init__(net, recipe, device)
        self.mode: Mode = mode
        self.loss = captured(self._loss, device) if mode == "compiled" else self._loss  # as the variants' steps are
        settings = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay, "nesterov": recipe.nesterov}
        self.optimizer = torch.optim.SGD(net.parameters(), lr=recipe.lr, fused=True, **settings)

    def _loss(self) -> Tensor:
        return F.cross_entropy(self.forward().float(), self.labels)

    def __call__(self) -> None:
        """One step."""
        if self.mode == "compiled":
            torch.compiler.cudagraph_mark_step_begin()
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class VariantStep(Step):
    """A variant's step of `fit`: `training_step` on one batch, again and again."""

    def __init__(self, name: str, recipe: Recipe, mode: Mode, device: torch.device, num_classes: int = CLASSES) -> None:
        self.model = create_model(name, num_classes, backbone=recipe.backbone, **recipe.model)
        super().__init__(self.model, recipe, device)
        self.loss = resolved(variant(name), recipe).loss
        grid = recipe.size[0] // self.model.stride, recipe.size[1] // self.model.stride
        prior = self.model.example_prior(recipe.batch_size, grid).to(device)
        self.prior = prior if self.model.needs_prior else None
        accelerator = make_accelerator(device, self.precision)
        net, self.optimizer = accelerator.prepare(self.model, make_optimizer(self.model, recipe))
        self.gradients = Gradients(net, self.model, self.loss, accelerator, mode == "compiled")
        self.batch = Batch(self.images, self.labels, self.labels, torch.arange(len(self.labels)), self.prior)

    def __call__(self) -> None:
        """One step."""
        training_step(self.batch, self.gradients, self.optimizer, self.recipe, self.recipe.lr)

    @property
    def mode(self) -> Mode:
        """How its steps are run: eagerly as well where compiling was asked for and failed."""
        return "compiled" if self.gradients.compiled else "eager"

    def losses_alone(self) -> Callable[[], None]:
        """A function: forward and backward pass of the losses on outputs that are at hand."""
        out, penalty = leaves(self.forward(self.prior)), self.model.regularization().detach()
        return lambda: total_loss(out, self.labels, self.loss, regularization=penalty)[0].backward()


def leaves(out: Any) -> Any:
    """The same numbers as if they were given: a gradient ends there. out: a tensor, or a record or list of such."""
    if isinstance(out, Tensor):
        return out.detach().requires_grad_()
    if isinstance(out, ModelOutput):
        return ModelOutput(**{name: leaves(value) for name, value in vars(out).items()})
    return type(out)(map(leaves, out)) if isinstance(out, list | tuple) else out
