"""`reidkit bench cgpn`: where CGPN spends its parameters and its time, beside its relatives.

Stages are the shared trunk, the tails of the branches and the heads. Three kinds of numbers:
- parameters of the test-time network without classifiers, as in MPN Table 9 (MGN 68.8 M there);
- FLOPs of one image, counted by torch.utils.flop_counter: a multiply-add is two FLOPs, so ResNet-50 at 224x224 is
  8.2 G here where papers that count multiply-adds print 4.1 G; only convolutions and matrix products count;
- milliseconds an image, forward (each stage, then all) and a training step, with switches on one after the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from reidkit.bench.clock import measure
from reidkit.errors import ReIDKitError
from reidkit.losses import total_loss
from reidkit.models import create_model
from reidkit.models.base import ReIDModel
from reidkit.models.branches import BranchedModel
from reidkit.models.zoo import variant
from reidkit.training.device import choose_device

NAMES = ("cgpn", "cgpn-1", "cgpn-3", "mgn", "pyramid")
SWITCHES = ("plain", "channels-last", "bf16", "compile")  # each keeps those before it on
CLASSES = 751


def stages(model: ReIDModel) -> dict[str, Callable]:
    """The forward pass in order: shared trunk -> tails (models with branches) -> heads; output feeds the next."""
    if isinstance(model, BranchedModel):
        return {
            "shared": model.shared,
            "tails": lambda trunk: tuple(tail(trunk) for tail in model.tails),
            "heads": model.heads,
        }
    return {"shared": model.feature_maps, "heads": model.heads}


def parameters(model: ReIDModel) -> dict[str, int]:
    """Parameters of each stage at test time, classifiers left out."""
    modules = [model.shared, *model.tails] if isinstance(model, BranchedModel) else model.backbone_modules()
    counts = [sum(p.numel() for p in module.parameters()) for module in modules]
    total = model.count_parameters()
    tails = {"tails": sum(counts[1:])} if len(counts) > 1 else {}
    return {"shared": counts[0], **tails, "heads": total - sum(counts), "total": total}


def flops(model: ReIDModel, size: tuple[int, int]) -> dict[str, int]:
    """FLOPs of each stage of the forward pass of one image (classifiers included in the heads)."""
    device = next(model.parameters()).device
    x: Any = torch.empty(1, 3, *size, device=device)
    counts = {}
    for name, stage in stages(model.eval()).items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            x = stage(x)
        counts[name] = counter.get_total_flops()
    return {**counts, "total": sum(counts.values())}


def sketch(name: str, backbone: str, **overrides) -> ReIDModel:
    """A network on the meta device: shapes without numbers, so nothing is computed."""
    with torch.device("meta"):
        return create_model(name, CLASSES, backbone=backbone, **overrides)


def table(
    names: tuple[str, ...] = NAMES, backbone: str = "resnet50", size: tuple[int, int] = (384, 128), **overrides
) -> list[dict[str, Any]]:
    """One row a model, counted on its sketch."""
    rows = []
    for name in names:
        model = sketch(name, backbone, **overrides)
        rows.append(
            {"model": name, "features": model.num_parts, "parameters": parameters(model), "flops": flops(model, size)}
        )
    return rows


def time_model(
    name: str, switch: str, device: torch.device, *, backbone: str, size: tuple[int, int], batch: int, steps: int
) -> dict[str, float]:
    """Milliseconds an image: each stage of the forward pass, all of it, and one training step."""
    on = SWITCHES[: SWITCHES.index(switch) + 1]
    layout = torch.channels_last if "channels-last" in on else torch.contiguous_format
    model = create_model(name, CLASSES, backbone=backbone).to(device).to(memory_format=layout)
    images = torch.randn(batch, 3, *size, device=device).to(memory_format=layout)
    faster = torch.compile if "compile" in on else (lambda function: function)
    result, x = {}, images

    def seconds(work: Callable[[], Any]) -> float:
        return measure(work, device, calls=steps, warm_up=2).on(device)

    with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in on):
        with torch.inference_mode():
            model.eval()
            for stage_name, stage in stages(model).items():
                run = faster(stage)
                result[stage_name] = seconds(lambda run=run, x=x: run(x))
                x = run(x)
            result["forward"] = sum(result.values())
        result["train_step"] = seconds(_train_step(model.train(), faster(model), images))
    return {key: round(1000 * value / batch, 3) for key, value in result.items()}


def _train_step(model: ReIDModel, forward: Callable, images: Tensor) -> Callable[[], None]:
    """Forward, the variant's losses, backward, SGD step: 8 images an identity, at least 2 identities."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    labels = torch.arange(len(images), device=images.device) // min(8, len(images) // 2)
    loss_config = variant(model.name).loss

    def step() -> None:
        total_loss(forward(images), labels, loss_config)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def run(
    names: Sequence[str] = NAMES,
    *,
    backbone: str = "resnet50",
    size: tuple[int, int] = (384, 128),
    switches: Sequence[str] | None = None,
    device: str = "auto",
    batch: int | None = None,
    steps: int = 5,
    table_only: bool = False,
) -> dict[str, Any]:
    """Parameters and FLOPs of each network and, unless `table_only`, its times.

    switches: default all of them on a GPU, the first two on a CPU. batch: default 64 on a GPU, 4 on a CPU.
    Raises ReIDKitError, before anything is counted, for a network to time that takes a prior with its images.
    """
    on = choose_device(device)
    if not table_only and (known := [name for name in names if sketch(name, backbone).needs_prior]):
        raise ReIDKitError(
            f"bench cgpn times networks on images alone, and these need priors in training: {', '.join(known)}. Leave "
            "them out, count only (--set table_only=true), or time them with `reidkit bench train`"
        )
    gpu = on.type == "cuda"
    report: dict[str, Any] = {"backbone": backbone, "size": list(size), "table": table(tuple(names), backbone, size)}
    if table_only:
        return report
    batch = batch or (64 if gpu else 4)
    work = [(name, switch) for name in names for switch in switches or (SWITCHES if gpu else SWITCHES[:2])]
    times = [
        {
            "model": name,
            "switch": switch,
            **time_model(name, switch, on, backbone=backbone, size=size, batch=batch, steps=steps),
        }
        for name, switch in tqdm(work, file=sys.stderr)
    ]
    return {**report, "batch": batch, "milliseconds_an_image": times}
