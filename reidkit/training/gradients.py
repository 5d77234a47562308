"""Forward, losses and backward of a batch: what a step computes, as Python runs it or captured as one graph.

Run by Python, a step starts its hundreds of small kernels one by one, and at the papers' batch a GPU waits for Python.
Captured, the same operators run as two CUDA graphs, forward with losses and backward, each started at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from types import FunctionType, MethodType
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from reidkit.data.loaders import Batch
from reidkit.data.prior import PriorBatch
from reidkit.losses import LossConfig, total_loss
from reidkit.models import ReIDModel
from reidkit.training.processes import processes, whole_batch, whole_batch_norm

# How torch.compile captures a step on a device; elsewhere it only writes faster code. Shapes never change in a run.
CAPTURE: dict[str, dict[str, Any]] = {"cuda": {"mode": "reduce-overhead", "fullgraph": True, "dynamic": False}}
TRIALS = 3  # the first call compiles, the second records, the third replays; after that nothing new can fail


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has no memory left. torch has a type for that on GPUs only; on a CPU it is a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


class Gradients:
    """`Gradients(...)(batch)` puts the gradients of the total loss into `.grad` and returns the loss and its terms.

    net: the model as it is called, `model` itself or what Accelerate wrapped around it.
    compiled: whether the step is compiled. One that cannot be gives one warning, and the run goes on without.
    """

    def __init__(
        self, net: nn.Module, model: ReIDModel, config: LossConfig, accelerator: Accelerator, compiled: bool = False
    ) -> None:
        self.net, self.model, self.config, self.accelerator = net, model, config, accelerator
        self.compiled, self.trials, self.losses = compiled, 0, self._losses
        self.several = processes() > 1
        if compiled:
            self.trials = TRIALS
            self.losses = captured(self._losses, accelerator.device)

    def __call__(self, batch: Batch, alignment_factor: Tensor | float = 1.0) -> dict[str, Tensor]:
        """{"loss": total, and each term, unweighted}: scalars that stay on the batch's device.

        alignment_factor: see `total_loss`; a tensor where it changes from batch to batch.
        """
        if not self.trials:
            return self._run(batch, alignment_factor)
        self.trials -= 1
        return self._on_trial(batch, alignment_factor)

    def uncompiled(self) -> Gradients:
        """The same step as Python runs it."""
        return Gradients(self.net, self.model, self.config, self.accelerator)

    def _losses(
        self, images: Tensor, labels: Tensor, prior: PriorBatch | None, alignment_factor: Tensor | float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with self.accelerator.autocast(), whole_batch_norm() if self.several else nullcontext():
            out = self.net(images, prior)
        if self.several:
            out, labels = whole_batch(out, labels)
        penalty = self.model.regularization().detach() if self.config.soft_sharing_weight else 0.0
        return total_loss(out, labels, self.config, penalty, alignment_factor)

    def _run(self, batch: Batch, alignment_factor: Tensor | float) -> dict[str, Tensor]:
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()  # this step may overwrite the results of the last
        loss, terms = self.losses(batch.images, batch.labels, cast("PriorBatch | None", batch.prior), alignment_factor)
        self.accelerator.backward(loss)
        return {"loss": loss.detach(), **terms}

    def _on_trial(self, batch: Batch, alignment_factor: Tensor | float) -> dict[str, Tensor]:
        """A compiled step. Should it fail, everything that it changed is put back, and it is done again uncompiled."""
        random, buffers = _random_states(), [buffer.clone() for buffer in self.model.buffers()]
        try:
            return self._run(batch, alignment_factor)
        except Exception as error:  # a compiler, a driver, a missing library: many kinds
            if is_out_of_memory(error):
                raise
            first_line = next(iter(str(error).strip().splitlines()), "")
            reason = f"{type(error).__name__}: {first_line}"
        warnings.warn(f"the step cannot be compiled here ({reason}); the run goes on uncompiled", stacklevel=2)
        self.compiled, self.trials, self.losses = False, 0, self._losses
        self.model.zero_grad(set_to_none=True)
        for buffer, before in zip(self.model.buffers(), buffers):  # running statistics of batch norm
            buffer.copy_(before)
        for generator, state in random:
            generator.set_state(state)
        return self._run(batch, alignment_factor)


def captured(method: MethodType, device: torch.device) -> Callable[..., Any]:
    """The method as torch.compile captures it on this device.

    torch counts by code object how often it compiled, and gives up at the ninth time: of ten networks that a notebook
    trains, or a benchmark measures, it would compile eight. So each method is compiled with a code object of its own.
    """
    function = cast(FunctionType, method.__func__)
    own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__, function.__defaults__)
    return torch.compile(MethodType(own, method.__self__), **CAPTURE.get(device.type, {}))


def _random_states() -> list[tuple[torch.Generator, Tensor]]:
    """Every generator that dropout may draw from, and its state."""
    gpus = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    return [(generator, generator.get_state()) for generator in (torch.default_generator, *gpus)]
