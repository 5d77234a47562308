"""Where a number comes from: the command, the commit, versions and the device. Every stored result carries it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("numpy", "pillow", "torchvision", "accelerate")  # torch has an entry of its own


def provenance(device: torch.device | str, **more: Any) -> dict[str, Any]:
    """Where a number comes from: command, commit, versions, device, threads."""
    return {
        "command": command(),
        "commit": git_commit(),
        "reidkit": _version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        **more,
    }


def numerics(device: torch.device | str) -> dict[str, Any]:
    """What the last bits of a training depend on beside seed, device, threads and processes (docs/determinism.md).

    libraries: versions of what decodes, resizes, batches and computes. instructions: the set of vector instructions
    that torch's CPU kernels use here. gpu: libraries and switches of a CUDA device, None on another one.
    """
    return {
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "gpu": gpu_switches() if torch.device(device).type == "cuda" else None,
    }


def gpu_switches() -> dict[str, Any]:
    """CUDA and cuDNN, and what torch lets them do: search for the fastest algorithm, vary, compute float32 in TF32."""
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


def device_name(device: torch.device | str) -> str:
    """ "cuda: NVIDIA H100", "cpu: x86_64": how results call a device."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{device.type}: {name}"


def command() -> str:
    """What was typed: `reidkit train ...`, or the script's name and arguments."""
    program = Path(sys.argv[0])
    ours = program.stem == "reidkit" or program.parent.name == "cli"
    return " ".join(["reidkit" if ours else program.name, *sys.argv[1:]])


def git_commit() -> str:
    """Short commit of the kit's own checkout, "+changes" when tracked files differ, "unknown" outside git."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "."],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def _version() -> str:
    import reidkit

    return reidkit.__version__
