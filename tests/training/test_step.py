"""A step of training never waits for the host, and dispatches few operators: every variant, from uint8 to weights."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import pandas as pd
import pytest
import torch
from refusing import NoWaiting, devices_of
from stepping import small_batch, small_recipe, small_step

from reidkit.models.zoo import VARIANTS, create_model
from reidkit.training.device import make_accelerator
from reidkit.training.gradients import Gradients
from reidkit.training.loop import training_step
from reidkit.training.memory import within_memory
from reidkit.training.runs import RunFolder
from reidkit.training.steps import augmentation, set_lr
from reidkit.training.watch import Watch

# Variant, how many operators its step takes (forward, losses, backward, clipping, optimiser; small backbone), and how
# many it took when each loss was computed by itself and each parameter was updated by itself. It may take fewer.
# Of the 508 of MPNo the backbone takes 161 (of which 39 hand a gradient to its parameter and 13 count batches for a
# batch norm), the part heads 158, the losses 141, mask, crop and resizing of stripes 34, clipping 8, the optimiser 6.
COUNTED = """
    baseline 352 631, baseline-ub 378 666, mt-only 334 611, naive-mtl 456 823, psa-c1 456 803, psa-c2 456 802,
    psa 456 782, fsa 508 892, mpn-no-ca 508 851, mpn 624 1039, mpn-no-ca-uniform 479 812, mpn-no-ca-roi 505 847,
    align-batch 498 881, align-sample-triplet 459 826, align-sample 493 876, align-batch-psa 498 840,
    align-sample-triplet-psa 459 785, align-sample-psa 493 835, mpn-rga 1096 1871, soft-c1-0.01 477 842,
    soft-c1-0.1 477 842, soft-c1-1 477 842, soft-c1-10 477 842, soft-c2-0.01 477 842, soft-c2-0.1 477 842,
    soft-c2-1 477 842, soft-c2-10 477 842, ide 304 545, pcb 252 478, pyramid 676 974, dsa 676 720, mgn 471 911,
    cgpn 673 1716, cgpn-1 556 1027, cgpn-2 673 1716, cgpn-3 485 1274, cgpn-4 578 1591, cgpn-global-2 360 600,
    cgpn-global-3 371 617, cgpn-global-4 382 634, cgpn-global-8 426 702, cgpn-b1 403 788, cgpn-b2 403 788,
    cgpn-b3 433 1001, cgpn-b12 523 1146, cgpn-b13 553 1359, cgpn-b23 553 1359, cgpn-b1234 823 2286,
    cgpn-b12345 1013 3140
"""
OPERATORS = {name: int(now) for name, now, _ in (line.split() for line in COUNTED.replace("\n", " ").split(","))}


class NeverWaiting(NoWaiting):
    """Counts operators; refuses also tensors off `device`."""

    def __init__(self, device="cpu"):
        super().__init__()
        self.calls, self.device = Counter(), device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = super().__torch_dispatch__(function, types, args, kwargs)
        self.calls[function.overloadpacket.__name__] += 1
        found = devices_of(args, kwargs, result)
        assert found <= {self.device}, f"{function} meets a tensor on {found}"
        return result


@pytest.fixture
def nothing_read(monkeypatch):
    """A tensor on the CPU can be read without an operator; so reading is refused by name."""
    for name in ("tolist", "numpy", "cpu", "item", "__bool__", "__float__", "__int__", "nonzero"):

        def refuse(*args, name=name, **kwargs):
            raise AssertionError(f"Tensor.{name} makes the host wait for the device")

        monkeypatch.setattr(torch.Tensor, name, refuse)


def test_the_refusals_refuse(nothing_read):
    for wait in (
        lambda x: torch.unique(x),
        lambda x: torch.nonzero(x),
        lambda x: x[x > 1],
        lambda x: torch.ops.aten._local_scalar_dense(x[0]),
    ):
        with pytest.raises(AssertionError, match="host wait"), NeverWaiting():
            wait(torch.arange(3))
    for wait in (torch.Tensor.tolist, torch.Tensor.item, bool, float, torch.Tensor.numpy):
        with pytest.raises(AssertionError, match="host wait"):
            wait(torch.ones(()))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_batch_is_trained_on_without_waiting_and_in_few_operators(name, tmp_path, nothing_read, request):
    """All of the loop's body: learning rate, augmentation, step, and the watch that collects the losses."""
    recipe = small_recipe(name)
    gradients, optimizer = small_step(name, recipe)
    augment = augmentation(recipe)
    watch = Watch(RunFolder(tmp_path), pd.DataFrame(), recipe, 3, finished=0, shown=False)
    generator, batch = torch.Generator().manual_seed(1), small_batch(recipe, seed=1, model=gradients.model)
    training_step(augment(batch, generator), gradients, optimizer, recipe, 0.01)  # the first makes buffers of momentum
    with NeverWaiting():
        lr = set_lr(optimizer, recipe, 1, 3)
        batch = augment(batch, generator)
    with NeverWaiting() as seen:
        terms = within_memory(training_step, batch, gradients, optimizer, recipe, lr)
    with NeverWaiting():
        watch.batch(terms, batch.index)
    request.getfixturevalue("monkeypatch").undo()
    assert sum(seen.calls.values()) <= OPERATORS[name]
    losses = watch.end_epoch()
    assert losses["loss"] > 0 and set(losses) >= {"loss", "identity"}


@pytest.mark.parametrize("name", [n for n in VARIANTS if not n.startswith(("soft-c2", "cgpn-b", "cgpn-global", "dsa"))])
def test_nothing_in_a_step_lies_on_the_host(name, monkeypatch, nothing_read):
    """On a device without memory (meta) a value cannot be read at all; and a CUDA graph takes no tensor of the CPU."""
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())  # there is none for meta
    recipe = small_recipe(name)
    with torch.device("meta"):
        model = create_model(name, 9, backbone=recipe.backbone, **recipe.model)
    gradients = Gradients(model, model, VARIANTS[name].loss, make_accelerator(torch.device("cpu"), "no"))
    batch = small_batch(recipe, model=model)
    batch = replace(batch, images=batch.images.float()).to("meta")
    with NeverWaiting("meta"):
        gradients(batch)
        gradients.accelerator.clip_grad_norm_(model.parameters(), 1.0)
        model.proximal_step(0.1)
    assert all(p.grad is not None for p in model.parameters())
