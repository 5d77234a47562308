"""Reading files of tensors, safetensors or torch.save, that somebody else may have made.

No code from them is run, no size that they state is believed before it is compared with the file, their checksums are
compared where they have any, and weights that are not finite are found.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reidkit.errors import CheckpointError

ASKS_FOR_MEMORY = b"bytearray"  # the one type in a pickle of weights that asks for as much memory as it states


def load_tensors(path: str | Path) -> Any:
    """What a .safetensors file, or else a file of torch.save, holds; on the CPU.

    Raises CheckpointError, or one of the many errors of torch, safetensors, pickle and zipfile for a damaged file.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    check_saved(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_saved(path: Path) -> None:
    """Compare the checksums of a file of torch.save, which torch does not, and refuse what claims memory of its own.

    Raises CheckpointError, or the errors of zipfile. Files of torch before 1.6 are no zip and have no checksums.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":  # as torch.load tells them apart
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _refuse_claims(content.find(ASKS_FOR_MEMORY) >= 0)
    with zipfile.ZipFile(path) as file:
        if packed := [e.filename for e in file.infolist() if e.compress_type != zipfile.ZIP_STORED]:
            raise CheckpointError(f"{packed[0]} in it is compressed, which torch.save never does")
        if damaged := file.testzip():
            raise CheckpointError(f"the checksum of {damaged} in it is another one")
        pickles = [e for e in file.infolist() if e.filename.endswith(".pkl")]
        _refuse_claims(any(ASKS_FOR_MEMORY in file.read(e) for e in pickles))


def _refuse_claims(found: bool) -> None:
    if found:
        raise CheckpointError("it holds a bytearray, which no file of weights does")


def larger_than(tensors: Mapping[Any, Any], size: int) -> str:
    """The name of the first tensor with more bytes than a file of `size` can hold (a few numbers, repeated); or ""."""
    for name, value in tensors.items():
        if isinstance(value, Tensor) and value.numel() * value.element_size() > size:
            return str(name)
    return ""


def not_finite(tensors: Mapping[Any, Any]) -> str:
    """The name of the first tensor that holds NaN or infinity; "" for none."""
    for name, value in tensors.items():
        if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
            whole = value.float() if value.element_size() == 1 else value  # torch tests no float of 8 bits
            if not torch.isfinite(whole).all():
                return str(name)
    return ""
