"""Several processes (`accelerate launch`), one batch: the loss and the gradients of a single process.

The recipe's P x K is the batch of all processes together; each has P / processes of its identities. Two things of a
step look at a batch as a whole, and here they see all of it:

    losses        batch-hard mining, class means, every mean over images: `whole_batch` gathers the outputs
    batch norm    mean and variance of a batch: `whole_batch_norm` sums them over processes

Every process then holds the same loss. Its gradient flows into the process's own rows; DistributedDataParallel
averages the gradients of W processes, so each is taken W times, and the average is the sum that one process has.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from reidkit.errors import TrainingError
from reidkit.models import ModelOutput


def ids_per_process(num_ids: int, world_size: int) -> int:
    """P of one of `world_size` processes; TrainingError where they cannot share the recipe's P evenly."""
    if num_ids % world_size:
        fits = [n for n in range(world_size, 0, -1) if num_ids % n == 0]
        raise TrainingError(
            f"{num_ids} identities a batch cannot be shared evenly by {world_size} processes: start {fits[0]}, or "
            f"choose a multiple of {world_size} for --set num_ids=..."
        )
    return num_ids // world_size


def processes() -> int:
    """How many processes train together; 1 outside of `accelerate launch`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def whole_batch(out: ModelOutput, labels: Tensor) -> tuple[ModelOutput, Tensor]:
    """The outputs and labels [N] of all processes, in the order of their ranks; in a single process as they are.

    Every tensor of `out` becomes W times as long in its batch dimension, logits in their second; the gradient flows
    into this process's rows, W times. All processes must have the same N and take part.
    """
    if processes() == 1:
        return out, labels
    tensors = _tensors(out)
    widths = [t[0].numel() for t in tensors]
    full = [t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors]
    rows = cast(Tensor, _Gather.apply(torch.cat([t.flatten(1) for t in full], dim=1)))  # [W*N, all widths]
    columns = rows.split(widths, dim=1)
    whole = [c.unflatten(1, t.shape[1:]).to(t.dtype) for c, t in zip(columns, tensors)]
    return _output(out, iter(whole)), cast(Tensor, _Gather.apply(labels))


def whole_batch_norm() -> AbstractContextManager[Any]:
    """While it is open, every batch norm in training mode uses the mean and variance of all processes' batches.

    Whatever class the layer is of: the function that all of them call is replaced. Nothing changes in one process.
    """
    return _BatchNormOfAll() if processes() > 1 else nullcontext()


def _tensors(out: ModelOutput) -> list[Tensor]:
    """All that an output holds, batch first, in a fixed order."""
    tensors = [out.embedding, out.part_features, out.logits.transpose(0, 1), *out.triplet_features]
    tensors += [t for pair in out.supervision for t in pair]
    return tensors + (_tensors(out.aux) if out.aux is not None else [])


def _output(like: ModelOutput, tensors) -> ModelOutput:
    """The inverse of `_tensors`: an output of the same form as `like`."""
    return ModelOutput(
        embedding=next(tensors),
        part_features=next(tensors),
        logits=next(tensors).transpose(0, 1),
        triplet_features=[next(tensors) for _ in like.triplet_features],
        supervision=[(next(tensors), next(tensors)) for _ in like.supervision],
        aux=_output(like.aux, tensors) if like.aux is not None else None,
    )


class _Gather(torch.autograd.Function):
    """[N, ...] of this process -> [W*N, ...] of all; backward: this process's rows of the gradient, W times."""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(processes())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        return gradients[0].chunk(processes())[dist.get_rank()] * processes()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; backward: the sum of its gradients, since each process used it."""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


class _BatchNormOfAll(TorchFunctionMode):
    """Calls of `torch.nn.functional.batch_norm` go to `_batch_norm`."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` of x [N, C, ...] with the statistics of the N rows of every process."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    values = x if x.dtype == torch.float64 else x.float()
    others = [d for d in range(x.ndim) if d != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = processes() * x.numel() // x.shape[1]
    mean = cast(Tensor, _Sum.apply(values.sum(others) / count))  # [C]; its gradient is summed over processes, too
    centred = values - mean.view(shape)
    var = cast(Tensor, _Sum.apply(centred.square().sum(others) / count))
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / max(count - 1, 1)).to(running_var.dtype), momentum)
    y = centred * torch.rsqrt(var + eps).view(shape)
    y = y if weight is None else y * weight.view(shape)
    return (y if bias is None else y + bias.view(shape)).to(x.dtype)
