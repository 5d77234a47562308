"""How fast one training step is: images a second of a variant under a preset, on random images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tqdm.auto import tqdm

from reidkit.bench.clock import measure
from reidkit.losses import total_loss
from reidkit.models import create_model
from reidkit.models.zoo import variant
from reidkit.training.device import choose_device, choose_precision
from reidkit.training.recipes import recipe_for
from reidkit.training.steps import make_optimizer


def run(
    names: tuple[str, ...] = ("baseline", "mpn-no-ca", "mpn", "cgpn", "mgn"),
    *,
    preset: str | None = None,
    device: str = "auto",
    steps: int = 10,
    progress: bool = True,
) -> dict[str, Any]:
    """Seconds and images a second of forward + losses + backward + step; preset default: paper on a GPU, else quick."""
    chosen = choose_device(device)
    preset = preset or ("paper" if chosen.type == "cuda" else "quick")
    rows = {name: time_variant(name, preset, chosen, steps) for name in tqdm(names, disable=not progress)}
    return {"preset": preset, "variants": rows}


def time_variant(name: str, preset: str, device: torch.device, steps: int) -> dict[str, float | str]:
    """One variant: seconds of a step (see `clock`) after two that are not counted, and images a second."""
    recipe = replace(recipe_for(name, preset), pretrained=False)
    precision = choose_precision(recipe.precision, device)
    model = create_model(name, 751, backbone=recipe.backbone, **recipe.model)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, recipe)
    b, (h, w) = recipe.batch_size, (s // model.stride for s in recipe.size)
    images = torch.randn(b, 3, *recipe.size, device=device).to(memory_format=torch.channels_last)
    labels = torch.arange(recipe.num_ids, device=device).repeat_interleave(recipe.num_instances)
    prior = model.example_prior(b, (h, w)).to(device)
    loss_config = replace(variant(name).loss, **recipe.loss)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            out = model(images, prior if model.needs_prior else None)
        total_loss(out, labels, loss_config, regularization=model.regularization().detach())[0].backward()
        optimizer.step()
        model.proximal_step(recipe.lr * loss_config.soft_sharing_weight)
        optimizer.zero_grad(set_to_none=True)

    seconds = measure(step, device, calls=steps, warm_up=2).on(device)
    return {
        "seconds_a_step": round(seconds, 4),
        "images_a_second": round(b / seconds, 1),
        "batch": b,
        "precision": precision,
    }
