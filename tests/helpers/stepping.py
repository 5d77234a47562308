"""One training step of any variant, small and on the spot, for tests of what a step does."""

from dataclasses import replace

import torch
from accelerate.optimizer import AcceleratedOptimizer

from reidkit.data.loaders import Batch
from reidkit.models import ReIDModel, create_model
from reidkit.models.zoo import variant
from reidkit.priors import PriorBatch
from reidkit.training.device import make_accelerator
from reidkit.training.gradients import Gradients
from reidkit.training.recipes import Recipe, recipe_for
from reidkit.training.steps import make_optimizer


def small_recipe(name: str, **settings) -> Recipe:
    """Four identities with two images of 96x32 each."""
    return recipe_for(name, "smoke", {"precision": "no", "ide_init": False, **settings})


def small_batch(
    recipe: Recipe, seed: int = 0, prior: bool = True, classes: int = 9, model: ReIDModel | None = None
) -> Batch:
    """uint8 images, labels in no order, and priors on the grid of the small backbones, or what the model reads."""
    g, count, (h, w) = torch.Generator().manual_seed(seed), recipe.batch_size, (side // 8 for side in recipe.size)
    images = torch.randint(0, 256, (count, 3, *recipe.size), generator=g, dtype=torch.uint8)
    identities = torch.randperm(classes, generator=g)[: recipe.num_ids].repeat(recipe.num_instances)
    labels, rows = identities[torch.randperm(count, generator=g)], torch.arange(count)
    top, bottom = 0.3 * torch.rand(count, generator=g), 1 - 0.3 * torch.rand(count, generator=g)
    maps = PriorBatch(torch.rand(count, h, w, generator=g) > 0.3, top, bottom, torch.ones(count, dtype=torch.bool))
    if model is not None and model.prior_kind == "dense":
        maps = model.example_prior(count, (0, 0))
    return Batch(images, labels, torch.zeros_like(labels), rows, maps if prior else None)


def small_step(
    name: str, recipe: Recipe, *, compiled: bool = False, classes: int = 9, seed: int = 0, device: str = "cpu"
) -> tuple[Gradients, AcceleratedOptimizer]:
    """What `training_step` trains with: a fresh network and its optimiser."""
    torch.manual_seed(seed)
    accelerator = make_accelerator(torch.device(device), "no")
    model = create_model(name, classes, backbone=recipe.backbone, **recipe.model)
    model, optimizer = model.to(memory_format=torch.channels_last).train(), make_optimizer(model, recipe)
    net, optimizer = accelerator.prepare(model, optimizer)
    return Gradients(net, model, replace(variant(name).loss, **recipe.loss), accelerator, compiled), optimizer
