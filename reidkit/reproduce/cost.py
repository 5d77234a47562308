"""What a suite will cost: time, measured and never guessed, and disk.

A training's time is that of a finished run of the same recipe on a device of the same name; else that of a saved
`reidkit bench train`; else that of a few batches, taken now. On a CPU seconds are process time, which a busy machine
and the number of threads disturb little; on a GPU they are wall time.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from time import monotonic
from typing import Any

import torch

from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError
from reidkit.provenance import device_name
from reidkit.training.plan import Job, SuitePlan
from reidkit.training.preflight import cache_bytes, sketch, weight_bytes
from reidkit.training.recipes import PRESETS, Recipe, recipe_for
from reidkit.training.runs import RunFolder

MEASURED_BATCHES = 2  # of each network, after one that is not counted
MEASURING_SECONDS = 60  # after which no further network is measured
BENCHMARKS = Path(__file__).resolve().parents[2] / "results" / "benchmarks"
STEP = ("backbone", "model", "loss", "size", "num_ids", "num_instances")  # what decides how long a batch takes


@dataclass(frozen=True)
class Estimate:
    """seconds: until all is trained, None where nothing was measured. sources: where that comes from, in words.
    whole: the sources are whole runs; else batches, and starting and testing come on top."""

    seconds: float | None
    sources: tuple[str, ...]
    whole: bool = True


@dataclass(frozen=True)
class Need:
    """`size` bytes below `folder` for `what`; `way` is what to do where they do not fit."""

    what: str
    folder: Path
    size: int
    way: str


def estimate(
    plan: SuitePlan,
    dataset: ReIDDataset,
    preset: str,
    runs: Path,
    *,
    device: torch.device | None,
    jobs: int,
    threads: int,
    benchmarks: Path = BENCHMARKS,
) -> Estimate:
    """How long the unfinished trainings of a plan take, `jobs` at a time with `threads` each.

    device: None where other machines train; then only finished runs can tell, whatever their device, which is named.
    """
    todo = plan.unfinished()
    if not todo:
        return Estimate(0.0, ())
    costs, sources = _from_runs(todo, dataset, preset, runs, device)
    batches_alone = False
    if device is not None:
        lacking = [job for job in todo if _key(job) not in costs]
        found, said = _from_benchmarks(lacking, dataset, device, benchmarks)
        measured, how = _measured([job for job in lacking if _key(job) not in found], dataset, device)
        batches_alone = bool(found or measured)
        costs, sources = {**measured, **found, **costs}, [*sources, *said, *how]
    if others := sorted({job.system for job in todo if _key(job) not in costs}):
        if not costs:
            return Estimate(None, ("nothing has been measured on the machines that will train",))
        sources.append(f"not measured, and taken as the mean of the others: {', '.join(others)}")
    typical = mean(costs.values())
    on_cpu = device is not None and device.type == "cpu"
    total = 0.0
    for stage in (plan.ide, plan.rows):
        each = [costs.get(_key(j), typical) * (1 - j.epochs_done / j.recipe.epochs) for j in stage if j in todo]
        each = [seconds / threads if on_cpu else seconds for seconds in each]
        total += max(sum(each) / jobs, *each) if each else 0.0
    return Estimate(total, tuple(sources), whole=not batches_alone)


def _key(job: Job) -> tuple[str, str]:
    return job.variant, _text(job.recipe)


def _text(recipe: Recipe) -> str:
    return json.dumps(replace(recipe, precision="auto").as_dict(), sort_keys=True)


def _from_runs(
    todo: Iterable[Job], dataset: ReIDDataset, preset: str, runs: Path, device: torch.device | None
) -> tuple[dict[tuple[str, str], float], list[str]]:
    """({variant and recipe: median seconds of its finished runs}, where from)."""
    wanted, times, devices = {_key(job) for job in todo}, defaultdict(list), set()
    for file in sorted(runs.glob("*/result.json")):
        run = RunFolder(file.parent)
        try:
            result = run.read_result()
            key = (result["variant"], _text(Recipe.from_dict(result["recipe"])))
            where = result["provenance"]
            alike = key in wanted and result["preset"] == preset and result["images"] == len(dataset.train)
            if alike and (device is None or where["device"] == device_name(device)):
                times[key].append(_seconds(where))
                devices.add(where["device"])
        except (ReIDKitError, KeyError, TypeError):
            continue  # not a whole result; its own row says so when it is needed
    if not times:
        return {}, []
    count = sum(map(len, times.values()))
    source = f"{count} finished {'run' if count == 1 else 'runs'} in {runs} on {', '.join(sorted(devices))}"
    return {key: median(seconds) for key, seconds in times.items()}, [source]


def _seconds(where: Mapping[str, Any]) -> float:
    """What a finished run took, all its epochs: process time on a CPU, else wall time, with the test if it is known."""
    if where.get("resumed_after_epoch"):  # its process was not there from the beginning
        return where["training_s"] * (where["threads"] if where["device"].startswith("cpu") else 1)
    return where["cpu_s"] if where["device"].startswith("cpu") else where["wall_s"]


def _from_benchmarks(
    todo: Iterable[Job], dataset: ReIDDataset, device: torch.device, folder: Path
) -> tuple[dict[tuple[str, str], float], list[str]]:
    """The same of files that `reidkit bench train --save` wrote, for recipes whose batches are the preset's."""
    found, sources = {}, []
    for file in sorted(folder.glob("*.json")):
        try:
            bench = json.loads(file.read_text())
            if bench["bench"] != "train" or bench["provenance"]["device"] != device_name(device):
                continue
            steps = {name: row["seconds_a_step"] for name, row in bench["variants"].items()}
            preset = bench["preset"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another kind of file
        own = {}
        for job in todo:
            if job.variant in steps and preset in PRESETS and _same_step(job.recipe, recipe_for(job.variant, preset)):
                own[_key(job)] = steps[job.variant] * job.recipe.batches(dataset.train_labels())
        if own.keys() - found.keys():
            sources.append(f"the benchmark {file} on {device_name(device)}")
        found = {**own, **found}
    return found, sources


def _same_step(a: Recipe, b: Recipe) -> bool:
    return all(getattr(a, key) == getattr(b, key) for key in STEP)


def _measured(
    todo: Iterable[Job], dataset: ReIDDataset, device: torch.device
) -> tuple[dict[tuple[str, str], float], list[str]]:
    """The same by training on a few batches of random images, as long as that does not take too long itself."""
    from reidkit.bench.train import time_recipe

    found, names, end = {}, [], monotonic() + MEASURING_SECONDS
    for job in {_key(job): job for job in todo}.values():
        if names and monotonic() > end:
            break
        count = {"num_classes": dataset.num_train_ids, "warm_up": 1}
        seconds = time_recipe(job.variant, job.recipe, device, MEASURED_BATCHES, **count)
        found[_key(job)] = seconds * job.recipe.batches(dataset.train_labels())
        names.append(job.system)
    said = f"{MEASURED_BATCHES} batches measured now of {', '.join(names)} on {device_name(device)}"
    return found, [said] if names else []


def disk_needs(
    plan: SuitePlan, dataset: ReIDDataset, runs: Path, *, jobs: int, cache: bool, priors: int = 0
) -> list[Need]:
    """What the unfinished trainings of a plan will write. priors: of how many images priors are still to be made."""
    todo, whole = plan.unfinished(), []
    for job in todo:
        weights = weight_bytes(sketch(job.variant, job.recipe, dataset.num_train_ids))
        run = RunFolder(job.path)
        held = sum(file.stat().st_size for file in (run.checkpoint, run.weights) if file.is_file())
        whole.append((max(0, 3 * weights - held), 2 * weights))
    replaced = sorted((twice for _, twice in whole), reverse=True)[:jobs]  # old and new stand side by side for a moment
    size = sum(own for own, _ in whole) + sum(replaced)
    needs = [Need(f"checkpoints and weights of {len(todo)} runs", runs, size, "name another folder with --runs")]
    if cache:
        sizes = {job.recipe.size for job in todo}
        decoded = sum(cache_bytes(dataset, size) for size in sizes)
        way = "name another folder with --cache-dir, or decode anew each time with --no-cache"
        needs.append(Need("decoded images", dataset.derived("cache"), decoded, way))
    if priors:
        bound = priors * PRIOR_BYTES
        needs.append(Need("priors", dataset.derived("priors"), bound, "name another folder with --cache-dir"))
    return [need for need in needs if need.size]


PRIOR_BYTES = 256  # of one image, at most: its mask at a bit a cell, boundaries, stamp and path, before compression


def check_room(needs: Iterable[Need]) -> list[tuple[float, float]]:
    """[(GB needed, GB free)], one entry a disk that is written to.

    ReIDKitError where one of them has less than all that goes there; it says what is needed where.
    """
    disks: dict[int, list[tuple[Need, Path]]] = defaultdict(list)
    for need in needs:
        place = need.folder.absolute()
        while not place.exists():
            place = place.parent
        disks[place.stat().st_dev].append((need, place))
    found = []
    for here in disks.values():
        needed, free = sum(need.size for need, _ in here), shutil.disk_usage(here[0][1]).free
        if needed > free:
            listed = ", ".join(f"{gigabytes(need.size)} for {need.what} in {need.folder}" for need, _ in here)
            ways = " or ".join(dict.fromkeys(need.way for need, _ in here))
            raise ReIDKitError(
                f"the disk has {gigabytes(free)}, all that is asked for needs {gigabytes(needed)}: {listed}. "
                f"Make room, ask for fewer rows (--only) or seeds (--seeds), or {ways}"
            )
        found.append((needed / 1e9, free / 1e9))
    return found


def gigabytes(size: float) -> str:
    """ "1.25 GB"."""
    return f"{size / 1e9:.2f} GB"


def duration(seconds: float) -> str:
    """ "3 h 20 min", "4 min", "20 s": rounded to what an estimate can claim."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} days {hours} h"
