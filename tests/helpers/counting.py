"""Counting work instead of timing it: the same on a fast machine, a slow one and a busy one."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@contextmanager
def images_seen() -> Iterator[list[int]]:
    """How many images each backbone pass gets while the block runs; a convolution of 3 channels is where they enter."""
    passes = []

    def look(module, inputs):
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            passes.append(len(inputs[0]))

    handle = register_module_forward_pre_hook(look)
    try:
        yield passes
    finally:
        handle.remove()


def work_of(panel, action: Callable[[], object]) -> tuple[int, int]:
    """(pictures drawn, images that a backbone saw) by an action on a panel."""
    states, draw = [], panel.draw
    panel.draw = lambda state: states.append(state) or draw(state)
    try:
        with images_seen() as passes:
            action()
    finally:
        del panel.draw
    return len(states), sum(passes)


class Operators(TorchDispatchMode):
    """What torch does while the block runs: `calls` by operator, bytes of the `largest` tensor one made."""

    def __init__(self):
        super().__init__()
        self.calls, self.largest = Counter(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.calls[function.overloadpacket.__name__] += 1
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        sizes = [t.untyped_storage().nbytes() for t in made if t.layout is torch.strided]  # sparse ones hold such
        self.largest = max([self.largest, *sizes])
        return result


def function_calls(work: Callable[[], object]) -> int:
    """How many functions, of Python or C, a call of `work` calls; the second time, when everything is imported."""
    work()
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls
