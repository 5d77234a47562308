"""Shipping trained networks with the kit: half precision, a hash beside each, where it came from inside.

`reidkit ship runs --out results/sidewalk/checkpoints mpn-no-ca baseline ...` rebuilds the shipped folder.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from reidkit.errors import CheckpointError
from reidkit.files import replacing, write_json
from reidkit.training.runs import RunFolder, load_run

MAX_BYTES = 2 * 2**20  # a network
MAX_TOTAL = 16 * 2**20  # all of them


def ship(runs: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Copy finished runs to `out`: settings, metrics, result, weights in float16 and their SHA-256.

    Raises CheckpointError for an unfinished run, for weights above 2 MB, and when all are above 16 MB.
    """
    shipped = [ship_one(RunFolder(Path(run)), Path(out) / Path(run).name) for run in runs]
    total = sum(f.stat().st_size for f in Path(out).rglob("*.safetensors"))
    if total > MAX_TOTAL:
        raise CheckpointError(
            f"{out} holds {total / 2**20:.1f} MB of weights, more than {MAX_TOTAL / 2**20:.0f} MB; ship fewer networks"
        )
    return shipped


def ship_one(run: RunFolder, folder: Path) -> Path:
    """One run in float16. Batch norm's counters stay whole numbers."""
    if not run.finished:
        raise CheckpointError(f"{run.path} is not finished; train it before shipping it")
    state = {k: v.half() if v.is_floating_point() else v for k, v in load_file(run.weights).items()}
    target = RunFolder(folder)
    with replacing(target.weights) as t:
        save_file(state, t)
        if t.stat().st_size > MAX_BYTES:
            raise CheckpointError(
                f"{run.path}: {t.stat().st_size / 2**20:.1f} MB of weights in half precision, "
                f"more than {MAX_BYTES / 2**20:.0f} MB"
            )
    shutil.copyfile(run.metrics, target.metrics)
    for found, file in ((run.read_settings(), target.settings), (run.read_result(), target.result)):
        write_json(file, {k: v for k, v in found.items() if k != "root"})  # where the data lay on this machine
    target.checksum.write_text(hashlib.sha256(target.weights.read_bytes()).hexdigest() + "\n")
    load_run(folder)  # it opens, and the hash fits
    return folder
