"""Shipping trained networks with the kit: half precision, a hash beside each, where it came from inside.

Two kinds of networks lie side by side in results/sidewalk/checkpoints: tiny ones, for tests and quick lessons, and the
heroes, which the notebooks and panels open (`make heroes` trains and ships them). `reidkit ship runs mpn baseline ...`
ships any finished run.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from reidkit.errors import CheckpointError
from reidkit.files import replacing, write_json, write_text
from reidkit.training.runs import RunFolder, load_run
from reidkit.training.weights import sha256

HEROES = (
    "baseline",
    "naive-mtl",
    "mpn-no-ca",
    "mpn",
    "mgn",
    "cgpn-4",
    "cgpn",
)  # and the IDE that MPN's rows start from


@dataclass(frozen=True)
class Limit:
    """How many bytes of weights in half precision may ship: one network, all of its kind together."""

    network: int
    total: int


TINY = Limit(2 * 2**20, 16 * 2**20)
LIMITS = {"hero": Limit(12 * 2**20, 60 * 2**20)}  # preset -> its limit; every other preset has TINY


def limit_of(run: RunFolder) -> Limit:
    """The limit that holds for a run, by its preset."""
    return LIMITS.get(run.read_settings()["preset"], TINY)


def ship(runs: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Copy finished runs to `out`: settings, metrics, result, weights in float16 and their SHA-256.

    Raises CheckpointError for an unfinished run, for weights above the limit of their preset, and where all networks of
    one limit are too large together.
    """
    shipped = [ship_one(RunFolder(Path(run)), Path(out) / Path(run).name) for run in runs]
    there = [RunFolder(weights.parent) for weights in Path(out).glob("*/model.safetensors")]
    for limit in {limit_of(run) for run in there}:
        kind = [run for run in there if limit_of(run) == limit]
        if (total := sum(run.weights.stat().st_size for run in kind)) > limit.total:
            raise CheckpointError(
                f"{len(kind)} networks in {out} have {total / 2**20:.1f} MB of weights, more than "
                f"{limit.total / 2**20:.0f} MB ({', '.join(sorted(run.path.name for run in kind))}); ship fewer"
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
        if t.stat().st_size > (limit := limit_of(run).network):
            raise CheckpointError(
                f"{run.path}: {t.stat().st_size / 2**20:.1f} MB of weights in half precision, "
                f"more than the {limit / 2**20:.0f} MB of its preset; train a smaller network"
            )
    with replacing(target.metrics) as t:
        shutil.copyfile(run.metrics, t)
    for found, file in ((run.read_settings(), target.settings), (run.read_result(), target.result)):
        write_json(file, {k: v for k, v in found.items() if k != "root"})  # where the data lay on this machine
    write_text(target.checksum, sha256(target.weights) + "\n")
    load_run(folder)  # it opens, and the hash fits
    return folder
