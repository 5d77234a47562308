"""Layers for K body parts at once.

A part-based model has K copies of the same small head. Run one after the other they are 4K tiny kernels;
here the K weight matrices are stacked, and K parts cost a few large matrix products:

    K 1x1 convs on the same map F      one convolution with K * D output channels
    K 1x1 convs, each on its own P_k   one batched matrix product over k
    K batch norms of D channels        one batch norm of K * D channels (channels never mix: identical)
    K classifiers                      one batched matrix product over k

Tensors carry the parts in dimension 1: [B, K, D] vectors, [B, K, D, h, w] maps.

`layer.one(x, k)` is part k's layer alone, on its own input [B, C] or [B, C, h, w], with views of the same weights:
what attention maps need, which ask for one part at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PartConv(nn.Module):
    """K parallel 1x1 convolutions, `in_dim` -> `out_dim` channels. weight [K, out, in], bias [K, out].

    forward: x [B, C, h, w]       -> [B, K, D, h, w]   every part reads the whole map (MPN's main tasks)
             x [B, K, C, h, w]    -> [B, K, D, h, w]   part k reads its own stripe (auxiliary tasks)
             x [B, K, C]          -> [B, K, D]         part k reads its own vector
    """

    def __init__(self, num_parts: int, in_dim: int, out_dim: int, bias: bool = True):
        super().__init__()
        self.num_parts, self.in_dim, self.out_dim = num_parts, in_dim, out_dim
        self.weight = nn.Parameter(torch.empty(num_parts, out_dim, in_dim))
        self.bias = nn.Parameter(torch.zeros(num_parts, out_dim)) if bias else None
        nn.init.normal_(self.weight, std=(2 / in_dim) ** 0.5)  # He et al. 2015, fan-in, for each part on its own

    def forward(self, x: Tensor) -> Tensor:
        return self.parted(self.joined(x), x)

    def joined(self, x: Tensor) -> Tensor:
        """`forward` with the channels of all parts in dimension 1, as a batch norm wants them.

        The whole map gives [B, K*D, h, w]. Where every part has its own input the B images lie side by side, as if
        they were one: [1, K*D, B*h*w], or [1, K*D, B].
        """
        if x.ndim == 4:
            bias = None if self.bias is None else self.bias.flatten()
            return F.conv2d(x, self.weight.view(-1, self.in_dim, 1, 1), bias)
        if x.ndim not in (3, 5) or x.shape[1] != self.num_parts:
            raise ValueError(
                f"expected [B, C, h, w], [B, {self.num_parts}, C] or [B, {self.num_parts}, C, h, w], "
                f"got {tuple(x.shape)}"
            )
        columns = x.permute(1, 2, 0) if x.ndim == 3 else _pixels(x).transpose(1, 2)  # [K, C, B*h*w]
        return _weight_times(self.weight, columns, self.bias).view(1, self.num_parts * self.out_dim, -1)

    def parted(self, y: Tensor, x: Tensor) -> Tensor:
        """What `joined(x)` gave, or a batch norm after it, as [B, K, D, (h, w)]."""
        if x.ndim == 4:
            return y.unflatten(1, (self.num_parts, self.out_dim))
        y = y.view(self.num_parts, self.out_dim, -1, *x.shape[3:])  # [K, D, B, (h, w)]
        return y.permute(2, 0, 1, *range(3, x.ndim))

    def one(self, x: Tensor, k: int) -> Tensor:
        """Part k alone: [B, C, (h, w)] -> [B, D, (h, w)]."""
        bias = None if self.bias is None else self.bias[k]
        if x.ndim == 2:
            return F.linear(x, self.weight[k], bias)
        return F.conv2d(x, self.weight[k, :, :, None, None], bias)

    def extra_repr(self) -> str:
        return f"{self.num_parts} x ({self.in_dim} -> {self.out_dim}), bias={self.bias is not None}"


class PartBatchNorm(nn.Module):
    """Batch norm of K parts: `nn.BatchNorm2d(K * D)` on [B, K, D] or [B, K, D, h, w].

    separate: keep a second pair of running statistics for inputs of the auxiliary tasks (`aux=True`). In training
        each call normalises with its own batch statistics either way. The difference is at test time: with one
        pair, the running statistics that the main tasks use are a mixture of both kinds of input.
    """

    running_mean: Tensor  # [K * D], of the main tasks
    running_var: Tensor

    def __init__(self, num_parts: int, dim: int, separate: bool = False, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        channels = num_parts * dim
        self.num_parts, self.dim, self.separate, self.momentum, self.eps = num_parts, dim, separate, momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        for kind in ("running", "aux_running") if separate else ("running",):
            self.register_buffer(f"{kind}_mean", torch.zeros(channels))
            self.register_buffer(f"{kind}_var", torch.ones(channels))

    def forward(self, x: Tensor, aux: bool = False) -> Tensor:
        return self.joined(x.flatten(1, 2), aux).unflatten(1, (self.num_parts, self.dim))

    def joined(self, y: Tensor, aux: bool = False) -> Tensor:
        """The channels of all parts in dimension 1: [*, K*D, ...] -> same shape."""
        kind = "aux_running" if aux and self.separate else "running"
        return F.batch_norm(
            y,
            getattr(self, f"{kind}_mean"),
            getattr(self, f"{kind}_var"),
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def one(self, x: Tensor, k: int) -> Tensor:
        """Part k alone, with the running statistics of the main tasks: [B, D, (h, w)] -> same shape."""
        own = slice(k * self.dim, (k + 1) * self.dim)
        return F.batch_norm(
            x,
            self.running_mean[own],
            self.running_var[own],
            self.weight[own],
            self.bias[own],
            self.training,
            self.momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return f"{self.num_parts} x {self.dim}, separate={self.separate}"


def _pixels(x: Tensor) -> Tensor:
    """[B, K, C, h, w] -> [K, B*h*w, C], a row a pixel."""
    return x.permute(1, 0, 3, 4, 2).flatten(1, 3)


def _weight_times(weight: Tensor, columns: Tensor, bias: Tensor | None) -> Tensor:
    """K matrix products: weight [K, D, C], columns [K, C, L], bias [K, D] -> [K, D, L].

    The weight stands on the left as it lies in memory, so its gradient comes out in that order and is not copied.
    """
    return torch.bmm(weight, columns) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, columns)


class PartConvBlock(nn.Module):
    """1x1 conv, batch norm, ReLU for K parts: "each Conv layer is followed by BN and ReLU" (MPN Sec. 3.3).

    aux_own: what the auxiliary tasks (`aux=True`) have for themselves in a block that they share with the main
        tasks: "conv", "norm", or neither.
    """

    def __init__(
        self,
        num_parts: int,
        in_dim: int,
        out_dim: int,
        *,
        separate_bn: bool = False,
        relu: bool = True,
        bias: bool = True,
        aux_own: tuple[str, ...] = (),
    ):
        super().__init__()
        self.conv = PartConv(num_parts, in_dim, out_dim, bias)
        self.norm = PartBatchNorm(num_parts, out_dim, separate_bn)
        self.aux_conv = PartConv(num_parts, in_dim, out_dim, bias) if "conv" in aux_own else None
        self.aux_norm = PartBatchNorm(num_parts, out_dim) if "norm" in aux_own else None
        self.relu = relu

    def forward(self, x: Tensor, aux: bool = False) -> Tensor:
        """Same shapes as `PartConv`; aux selects the auxiliary tasks' own pieces and running statistics."""
        conv = self.aux_conv if aux and self.aux_conv is not None else self.conv
        norm = self.aux_norm if aux and self.aux_norm is not None else self.norm
        y = conv.parted(norm.joined(conv.joined(x), aux), x)
        return F.relu(y) if self.relu else y

    def one(self, x: Tensor, k: int) -> Tensor:
        """Part k alone: [B, C, (h, w)] -> [B, D, (h, w)]."""
        y = self.norm.one(self.conv.one(x, k), k)
        return F.relu(y) if self.relu else y


class PartAttention(nn.Module):
    """Channel attention of K parts (MPN Fig. 6): conv d -> d/4, BN, ReLU, conv d/4 -> d, BN, sigmoid."""

    def __init__(self, num_parts: int, dim: int, hidden: int, separate_bn: bool = False, aux_own: tuple[str, ...] = ()):
        super().__init__()
        self.squeeze = PartConvBlock(num_parts, dim, hidden, separate_bn=separate_bn, aux_own=aux_own)
        self.excite = PartConvBlock(num_parts, hidden, dim, separate_bn=separate_bn, aux_own=aux_own, relu=False)

    def forward(self, x: Tensor, aux: bool = False) -> Tensor:
        """x [B, K, D] -> x times its attention in (0, 1), [B, K, D]."""
        return x * torch.sigmoid(self.excite(self.squeeze(x, aux), aux))

    def one(self, x: Tensor, k: int) -> Tensor:
        """Part k alone: [B, D] -> [B, D]."""
        return x * torch.sigmoid(self.excite.one(self.squeeze.one(x, k), k))


class PartClassifier(nn.Module):
    """K linear classifiers: [B, K, D] -> logits [K, B, classes]. Weights N(0, 0.001), zero bias."""

    def __init__(self, num_parts: int, dim: int, num_classes: int, std: float = 0.001, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_parts, num_classes, dim))
        self.bias = nn.Parameter(torch.zeros(num_parts, num_classes)) if bias else None
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        return _weight_times(self.weight, x.permute(1, 2, 0), self.bias).transpose(1, 2)  # [K, B, classes]

    def one(self, x: Tensor, k: int) -> Tensor:
        """Part k alone: [B, D] -> logits [B, classes]."""
        return F.linear(x, self.weight[k], None if self.bias is None else self.bias[k])


def max_pool(x: Tensor) -> Tensor:
    """Global max pooling over the last two dimensions: [..., h, w] -> [...]."""
    return x.amax((-2, -1))
