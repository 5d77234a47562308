"""How batches reach the device without making it wait.

    decoded images    who reads them                   how they come to the device
    on the device     kernels (`fits`: when they do)   they are there
    in main memory    threads, `ahead` of the network  from pinned memory, one queued copy a batch (`send`)
    in files          worker processes                 the same

Nothing here, in `sources`, `loaders` or `transforms` reads a value back from the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

CACHE_SHARE = 0.4  # of a device's free memory that decoded images may take; the rest is the network's

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def free_memory(device: torch.device) -> int:
    """Bytes that a CUDA device has free, with what torch holds there unused; 0 for devices that are not asked."""
    if device.type != "cuda":
        return 0
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes of decoded images may lie on the device: at most CACHE_SHARE of its free memory."""
    return size <= CACHE_SHARE * free_memory(device)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of main memory as the device can fetch it by itself: in pinned memory where that is a CUDA device."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor


def send(tensor: Tensor, device: str | torch.device) -> Tensor:
    """The tensor on the device. To a CUDA device the copy is queued: the host goes on at once."""
    device = torch.device(device)
    source = pinned(tensor, device)
    return source.to(device, non_blocking=device.type == "cuda")  # towards the host a copy is awaited


def ahead(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], *, threads: int, count: int
) -> Iterator[Result]:
    """`map(function, arguments)`, computed by threads, up to `count` results before they are asked for.

    Results come in order; an error of the function comes where its result would have come.
    """
    pool, futures = ThreadPoolExecutor(threads), deque()
    try:
        for argument in arguments:
            futures.append(pool.submit(function, argument))
            if len(futures) > count:
                yield futures.popleft().result()  # and is let go: at most count + 1 lie in memory
        while futures:
            yield futures.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
