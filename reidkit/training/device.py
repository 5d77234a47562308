"""The device is chosen once, here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from reidkit.errors import TrainingError, unknown_name
from reidkit.evaluation.features import PRECISIONS, Precision
from reidkit.evaluation.scores import named_device

AskedPrecision = Literal["auto", Precision]


def choose_device(name: str = "auto") -> torch.device:
    """ "auto": a CUDA GPU if there is one, else Apple's MPS, else the CPU. Any torch device name is taken as it is."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    return named_device(name, TrainingError)


def choose_precision(precision: AskedPrecision, device: torch.device) -> Precision:
    """Resolve "auto": bf16 on a GPU or CPU whose hardware multiplies bfloat16, else full precision."""
    if precision == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
        return "bf16" if device.type == "cpu" and cpu_has_bf16() else "no"
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, ("auto", *PRECISIONS))
    return precision


def choose_compile(asked: bool | None, preset: str, device: torch.device, processes: int = 1) -> bool:
    """Whether the training step is compiled. Unasked: on one CUDA GPU under the preset `paper`, whose schedule is long
    enough to earn the minutes of a compiler back."""
    return asked if asked is not None else preset == "paper" and device.type == "cuda" and processes == 1


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX; elsewhere autocast only costs time)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def make_accelerator(device: torch.device, precision: Precision) -> Accelerator:
    """One Accelerator a run, on the device asked for.

    Its process-wide state is renewed, so that a notebook may train twice with different precisions; under
    `accelerate launch` (several processes) only the precision is, and each process has the GPU it was given.
    """
    state = AcceleratorState._shared_state
    if state:
        alone = state.get("distributed_type", "NO") == "NO"
        AcceleratorState._reset_state(reset_partial_state=alone)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # Accelerate takes the current one
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
    if device.index is not None and accelerator.device.index not in (None, device.index):
        raise TrainingError(
            f"device {device} was asked for, but this process was started on {accelerator.device}; "
            "leave --device away under `accelerate launch`"
        )
    return accelerator
