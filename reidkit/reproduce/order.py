"""What is asked for and what that means: rows, seeds, priors, time and disk, all of it said before anything is done.

`look_ahead` writes nothing: it is the whole of a dry run, and what refuses an order that cannot be carried out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reidkit.data import ReIDDataset
from reidkit.errors import PriorError, ReIDKitError
from reidkit.priors.find import prior_work
from reidkit.priors.source import Tool
from reidkit.provenance import device_name
from reidkit.reproduce.cost import Estimate, Need, check_room, disk_needs, duration, estimate, gigabytes
from reidkit.reproduce.slurm import Resources
from reidkit.training.plan import SuitePlan, changed_recipe, device_of, plan_suite
from reidkit.training.preflight import grid_of, prior_splits, sketch
from reidkit.training.suites import Entry


@dataclass(frozen=True)
class Order:
    """A suite as it was asked for.

    train_arguments: what every `reidkit train` gets. maps: `parsing_dir`, `segmentation_dir`, `label_set` of the prior
    tool "files"; {} for the folders beside the images. jobs: trainings at a time. resources: of a Slurm task; None
    where this machine trains. out: the page.
    """

    suite: str
    rows: tuple[Entry, ...]
    dataset: ReIDDataset
    train_arguments: list[str]
    runs: Path
    out: Path
    seeds: range
    preset: str
    prior_tool: Tool
    jobs: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, Any] = field(default_factory=dict)
    cache: bool = True
    resources: Resources | None = None

    @property
    def threads(self) -> int:
        """Of one training."""
        if self.resources is not None:
            return max(1, self.resources.cpus // max(1, self.resources.gpus))
        return max(1, (os.cpu_count() or 1) // self.jobs)


@dataclass(frozen=True)
class PriorStep:
    """Priors that trainings need: of `images` images of these splits, `todo` of them still to be made."""

    grid: tuple[int, int]
    splits: Sequence[str] | str
    images: int
    todo: int


@dataclass(frozen=True)
class Prospect:
    """What an order comes to. disks: (GB needed, GB free), one entry a disk."""

    order: Order
    plan: SuitePlan
    priors: list[PriorStep]
    time: Estimate
    needs: list[Need]
    disks: list[tuple[float, float]]


def look_ahead(order: Order) -> Prospect:
    """What carrying out `order` will do.

    Raises one ReIDKitError where it cannot be carried out: no row can be trained, maps for priors are missing, a folder
    cannot be written, or the disk has too little room.
    """
    for place, what in ((order.out, "the page"), (order.runs / "a run", "runs")):
        check_can_write(place, what)
    elsewhere = order.resources is not None
    plan = plan_suite(
        order.rows,
        order.dataset,
        order.train_arguments,
        order.runs,
        seeds=order.seeds,
        preset=order.preset,
        threads=order.threads,
        settings=order.settings,
        prior_tool=order.prior_tool,
        cache=order.cache,
        elsewhere=elsewhere,
        checked=_priors_of_rows(order),
    )
    if not plan.rows:
        raise ReIDKitError(next(iter(plan.refused.values())))
    priors = prior_steps(order, plan)
    todo = sum(step.todo for step in priors)
    needs = disk_needs(plan, order.dataset, order.runs, jobs=order.jobs, cache=order.cache, priors=todo)
    disks = check_room(needs)
    device = None if elsewhere else device_of(order.train_arguments)
    how = {"device": device, "jobs": order.jobs, "threads": order.threads}
    return Prospect(order, plan, priors, estimate(plan, order.dataset, order.preset, order.runs, **how), needs, disks)


def _priors_of_rows(order: Order) -> set:
    """What `check_start` is to take as there, because priors are looked at, and made, for the whole suite at once."""
    known = set()
    for row in order.rows:
        _, recipe = changed_recipe(row, order.dataset, order.preset, order.settings)
        try:
            model = sketch(row.variant, recipe, order.dataset.num_train_ids)
            known.add((prior_splits(model), grid_of(model, recipe), "coarse"))  # textures of DSA-reID are looked for
        except ReIDKitError:
            continue  # the row is refused for this, with the same words
    return known


def prior_steps(order: Order, plan: SuitePlan) -> list[PriorStep]:
    """The priors that the unfinished trainings of a plan need, one step a grid.

    Raises PriorError where some cannot be made; it names the rows that need none.
    """
    splits: dict[tuple[int, int], Sequence[str] | str] = {}
    without = set()
    for job in plan.unfinished():
        model = sketch(job.variant, job.recipe, order.dataset.num_train_ids)
        if (needed := prior_splits(model)) and model.prior_kind == "coarse":
            grid = grid_of(model, job.recipe)
            splits[grid] = "all" if "all" in (needed, splits.get(grid)) else needed
        elif not needed and (job.system != "ide" or job in plan.rows):
            without.add(job.variant)
    steps = []
    for grid, needed in splits.items():
        try:
            work = prior_work(order.dataset, order.prior_tool, grid=grid, splits=needed, maps=order.maps)
        except PriorError as error:
            names = ",".join(dict.fromkeys(row.variant for row in order.rows if row.variant in without))
            raise PriorError(f"{error}\nOf this suite, --only {names} needs none" if names else str(error)) from error
        steps.append(PriorStep(grid, needed, *work))
    return steps


def check_can_write(file: Path, what: str) -> None:
    """ReIDKitError if `file` could not be written; makes nothing."""
    if file.is_dir():
        raise ReIDKitError(f"{file} is a folder, {what} would be a file: name another one")
    place = file.absolute().parent
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "may not be written to" if place.is_dir() else "is no folder"
        raise ReIDKitError(f"{what} cannot be written below {file.parent}: {place} {why}; name another folder")


def in_words(prospect: Prospect) -> str:
    """What will be done, for how long and with which disk: some lines of text."""
    order, plan = prospect.order, prospect.plan
    lines = [f"{order.suite} on {order.dataset.label}, preset {order.preset}, {_where(order)}"]
    lines.append(f"  rows    {len(order.rows)}: {', '.join(row.system for row in order.rows)}")
    lines.append(f"  seeds   {len(order.seeds)}: {', '.join(map(str, order.seeds))}")
    if order.settings:
        lines.append(f"  set     {', '.join(f'{k}={v}' for k, v in order.settings.items())}, for every row")
    lines.append(f"  runs    {_state(plan.rows)}, in {order.runs}")
    lines += [f"          left out: {system}: {why}" for system, why in plan.left_out.items()]
    listed = {path: why for path, why in plan.refused.items() if why not in plan.left_out.values()}
    lines += [f"          left out: {path.name}: {why}" for path, why in listed.items()]
    if plan.ide:
        lines.append(f"  IDE     {_state(plan.ide)}: the start of the rows of a seed, so trained first")
    lines += [f"  priors  {line}" for line in _priors(prospect)]
    first, *sources = _time(prospect)
    lines += [f"  time    {first}", *(f"          {source}" for source in sources)]
    lines += [f"  disk    {needed:.2f} GB needed, {free:.1f} GB free" for needed, free in prospect.disks]
    lines += [f"          {gigabytes(need.size)} for {need.what} in {need.folder}" for need in prospect.needs]
    return "\n".join([*lines, f"  page    {order.out}"])


def _where(order: Order) -> str:
    if order.resources is not None:
        return f"as Slurm array tasks ({order.resources})"
    at_a_time = "one training" if order.jobs == 1 else f"{order.jobs} trainings"
    return f"on this machine ({device_name(device_of(order.train_arguments))}), {at_a_time} at a time"


def _state(jobs: Sequence) -> str:
    done = [job for job in jobs if job.finished]
    begun = [job for job in jobs if not job.finished and job.epochs_done]
    went = f", {len(begun)} go on from their last epoch" if begun else ""
    return f"{len(jobs)}: {len(done)} finished, {len(jobs) - len(done)} to train{went}"


def _priors(prospect: Prospect) -> list[str]:
    tool = prospect.order.prior_tool
    return [
        f"tool {tool}, grid {s.grid[0]}x{s.grid[1]}, {s.splits if isinstance(s.splits, str) else ', '.join(s.splits)}: "
        f"{s.images} images, " + (f"{s.todo} to be made here first" if s.todo else "all made already")
        for s in prospect.priors
    ]


def _time(prospect: Prospect) -> list[str]:
    time = prospect.time
    if not prospect.plan.unfinished():
        return ["nothing is left to train"]
    if time.seconds is None:
        return [f"not known: {'; '.join(time.sources)}"]
    more = ", and the priors" if any(step.todo for step in prospect.priors) else ""
    about = f"about {duration(time.seconds)}" if time.whole else f"at least {duration(time.seconds)}, without testing"
    return [f"{about}{more}", *(f"measured: {source}" for source in time.sources)]
