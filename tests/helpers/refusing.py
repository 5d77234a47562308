"""Operators that would make the host wait for a GPU are refused, also where CPU tensors stand in for the GPU's."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class NoWaiting(TorchDispatchMode):
    """While the block runs (in this thread) an AssertionError names any operator that would wait.

    Refused: values read back (`.item()`), shapes that depend on values (boolean masks, `unique`, `nonzero`; advanced
    indexing counts, for its index may be a mask), copies to the CPU, and copies to a device that are not queued.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if WAITING & set(function.tags) or function is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError(f"{function} makes the host wait: it waits for the device")
        result = function(*args, **kwargs)
        if function in COPIES:
            source, target = args[1 if function is COPIES[1] else 0].device, result.device
            queued = kwargs.get("non_blocking", False) or (function is COPIES[1] and len(args) > 2 and args[2])
            if source != target and (target.type == "cpu" or not queued):
                raise AssertionError(f"{function} from {source} to {target} waits for the device")
        return result


def devices_of(*values) -> set[str]:
    """The kinds of devices that all tensors in these values are on."""
    return {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}
