"""What a suite is before it starts: a training a row and a seed, the IDEs that they share, and what is refused.

Nothing is written here. `suites.run_suite` carries a plan out on this machine, `reproduce` also elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError
from reidkit.priors.source import Tool
from reidkit.training.device import choose_device, choose_precision
from reidkit.training.effect import warn_in_no_row
from reidkit.training.ide import ide_path, ide_recipe, ide_settings, run_name
from reidkit.training.preflight import (
    check_start,
    default_prior_tool,
    grid_of,
    prior_splits,
    priors_for,
    recipe_on,
    sketch,
)
from reidkit.training.presets import warn_from_scratch
from reidkit.training.recipes import Recipe, read_settings, recipe_for
from reidkit.training.record import check_claim, run_settings
from reidkit.training.runs import RunFolder
from reidkit.training.settings import as_text

if TYPE_CHECKING:
    from reidkit.training.suites import Entry


@dataclass(frozen=True)
class Job:
    """One training, a process `reidkit train`.

    path: its run folder. arguments: of `reidkit train`. system: the row of the table that it is for, "ide" for an IDE.
    starts_from: the run folder of the IDE that it starts from; None where there is none.
    """

    path: Path
    variant: str
    recipe: Recipe
    seed: int
    arguments: tuple[str, ...]
    system: str
    starts_from: Path | None = None

    @property
    def finished(self) -> bool:
        """Whether its run folder holds a result."""
        return RunFolder(self.path).finished

    @property
    def epochs_done(self) -> int:
        """Epochs that an interrupted run has behind it, by its metrics.csv."""
        run = RunFolder(self.path)
        if not (run.checkpoint.is_file() and run.metrics.is_file()):
            return 0
        return min(self.recipe.epochs, len(run.read_metrics()))


@dataclass
class SuitePlan:
    """The trainings of a suite: `ide` first, since the rows of a seed share them, then `rows`.

    refused: {run folder: why it cannot be trained}. left_out: {row: why no seed of it can be}.
    """

    ide: list[Job] = field(default_factory=list)
    rows: list[Job] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def jobs(self) -> list[Job]:
        """All of them, in the order in which they are trained."""
        return [*self.ide, *self.rows]

    def unfinished(self) -> list[Job]:
        """Those that are still to be trained, or to be trained to the end."""
        return [job for job in self.jobs() if not job.finished]


def plan_suite(
    rows: Iterable[Entry],
    dataset: ReIDDataset,
    train_arguments: list[str],
    runs: Path,
    *,
    seeds: range | list[int],
    preset: str,
    threads: int = 1,
    settings: Mapping[str, Any] | None = None,
    prior_tool: Tool | None = None,
    cache: bool = True,
    elsewhere: bool = False,
    checked: set | None = None,
) -> SuitePlan:
    """The trainings of `rows` x `seeds`; arguments as in `suites.run_suite`.

    threads: of each training. elsewhere: other machines train, so that their device and precision are not known here.
    checked: what needs no look any more, see `preflight.check_start`.
    ReIDKitError for a setting in which the rows differ.
    """
    device = None if elsewhere else device_of(train_arguments)
    tool = prior_tool or default_prior_tool(dataset)
    plan, checked, ides, warned = SuitePlan(), checked if checked is not None else set(), {}, False
    asked = [(row, *changed_recipe(row, dataset, preset, settings)) for row in rows]
    warn_in_no_row([(row.variant, recipe) for row, _, recipe in asked], settings or {})
    for row, changes, recipe in asked:
        warned = warned or warn_from_scratch(row.variant, dataset, recipe, preset)
        refusal = _refusal(row, dataset, recipe, runs, preset, tool, cache, checked)
        if refusal:
            plan.left_out[row.system] = refusal
        for seed in seeds:
            common = [*train_arguments, "--preset", preset, "--seed", str(seed), "--threads", str(threads)]
            path = runs / run_name(row.variant, dataset, preset, seed, changes)
            made, ide = {path: (row.variant, recipe)}, None
            if recipe.ide_init:
                ide = ide_path(row.variant, dataset, recipe, runs, seed=seed, preset=preset)
                made[ide] = ("ide", ide_recipe(row.variant, recipe, preset))
            claims = {"preset": preset, "seed": seed, "prior_tool": tool}
            if why := refusal or _taken(made, dataset, device, claims):
                plan.refused[path] = why
                continue
            arguments = (row.variant, *common, "--run", str(path), *_set(changes))
            job = Job(path, row.variant, recipe, seed, arguments, row.system, ide)
            plan.rows.append(job)
            if ide is not None and not job.finished:
                own = ("ide", *common, "--run", str(ide), *_set(ide_settings(row.variant, recipe, preset)))
                ides[ide] = Job(ide, "ide", made[ide][1], seed, own, "ide")
    plan.ide = list(ides.values())
    return plan


def prepare_priors(
    plan: SuitePlan,
    dataset: ReIDDataset,
    prior_tool: Tool | None,
    progress: bool,
    kinds: Collection[str] = ("coarse", "dense"),
) -> None:
    """Make the priors of these kinds that the rows of a plan need, before an IDE is trained for them.

    Rows whose priors cannot be made are refused, and IDEs that only those start from are left away.
    """
    tool, why = prior_tool or default_prior_tool(dataset), {}
    for job in (job for job in plan.rows if not job.finished):
        model = sketch(job.variant, job.recipe, dataset.num_train_ids)
        kind = prior_splits(model), grid_of(model, job.recipe), model.prior_kind
        if model.prior_kind not in kinds:
            continue
        if kind not in why:
            try:
                priors_for(model, dataset, job.recipe, tool, progress)
                why[kind] = ""
            except ReIDKitError as error:
                why[kind] = str(error)
        if why[kind]:
            plan.refused[job.path] = plan.left_out[job.system] = why[kind]
    plan.rows = [job for job in plan.rows if job.path not in plan.refused]
    started = {job.starts_from for job in plan.rows}
    plan.ide = [job for job in plan.ide if job.path in started]


def changed_recipe(
    row: Entry, dataset: ReIDDataset, preset: str, settings: Mapping[str, Any] | None
) -> tuple[dict[str, Any], Recipe]:
    """(what a row's training changes in the preset, its recipe): the row's own settings and those for all rows."""
    if own := sorted({*row.settings} & {*(settings or {})}):
        raise ReIDKitError(f"the rows of this table differ in {', '.join(own)}, which so cannot be set for all of them")
    changes = read_settings(row.variant, {**row.settings, **(settings or {})})
    return changes, recipe_on(dataset, recipe_for(row.variant, preset, changes))


def default_jobs(train_arguments: list[str]) -> int:
    """One run at a time on a GPU, which a single run fills; on the CPU one a core."""
    return (os.cpu_count() or 1) if device_of(train_arguments).type == "cpu" else 1


def device_of(train_arguments: list[str]) -> torch.device:
    """The device that `reidkit train` will choose with these arguments, on this machine."""
    return choose_device(dict(pairwise(train_arguments)).get("--device", "auto"))


def _refusal(
    row: Entry,
    dataset: ReIDDataset,
    recipe: Recipe,
    runs: Path,
    preset: str,
    prior_tool: Tool,
    cache: bool,
    checked: set,
) -> str:
    """Why a row cannot be trained here; "" if it can."""
    try:
        check_start(
            row.variant,
            dataset,
            recipe,
            runs / row.variant,
            cache=cache,
            checked=checked,
            prior_tool=prior_tool,
            ide=ide_recipe(row.variant, recipe, preset) if recipe.ide_init else None,
        )
    except ReIDKitError as error:
        return str(error)
    return ""


def _taken(
    made: Mapping[Path, tuple[str, Recipe]], dataset: ReIDDataset, device: torch.device | None, claims: dict[str, Any]
) -> str:
    """Why one of the folders that a row needs holds another run than the row's; "" if none does.

    device: None for another machine's, whose choice of precision is then taken from the folder.
    """
    for path, (name, recipe) in made.items():
        if not (run := RunFolder(path)).settings.is_file():
            continue
        try:
            precision = (
                choose_precision(recipe.precision, device)
                if device is not None
                else run.read_settings().get("precision") or "no"
            )
            check_claim(run, run_settings(name, dataset, recipe, precision=precision, initialise_from=None, **claims))
        except ReIDKitError as error:
            return str(error)
    return ""


def _set(changes: Mapping[str, Any]) -> list[str]:
    """{"model.num_parts": 4} -> ["--set", "model.num_parts=4"]; read back by `read_settings`."""
    return [a for k, v in changes.items() for a in ("--set", f"{k}={as_text(v)}")]
