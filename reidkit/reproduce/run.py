"""Carrying an order out: priors and textures, IDEs, rows x seeds, then table and page. What is finished is skipped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from reidkit.errors import ReIDKitError
from reidkit.priors.find import make_priors
from reidkit.reporting.report import collect_results, no_results
from reidkit.reproduce import slurm
from reidkit.reproduce.order import Prospect
from reidkit.training.plan import prepare_priors
from reidkit.training.suites import SuiteReport, run_plan


@dataclass(frozen=True)
class Outcome:
    """What became of an order.

    results: the table of `collect_results` of the finished rows, `system` as the suite calls them. report: which runs
    finished, which failed and why. logs: {run folder: logs of its Slurm task}.
    """

    results: pd.DataFrame
    report: SuiteReport
    logs: dict[Path, list[Path]] = field(default_factory=dict)


def carry_out(prospect: Prospect, *, progress: bool = True) -> Outcome:
    """Do what `look_ahead` said. A run that fails stops no other; an interruption loses at most an epoch of each.

    Raises PriorError for maps that cannot be used, ReIDKitError where Slurm refuses the tasks.
    """
    order, plan, logs = prospect.order, prospect.plan, {}
    for step in prospect.priors:
        if step.todo:
            where = {"grid": step.grid, "splits": step.splits, "maps": order.maps}
            make_priors(order.dataset, order.prior_tool, **where, progress=progress)
    prepare_priors(plan, order.dataset, order.prior_tool, progress, kinds=("dense",))
    order.runs.mkdir(parents=True, exist_ok=True)
    if order.resources is None:
        report = run_plan(plan, jobs=order.jobs, progress=progress)
    else:
        tasks = slurm.submit(plan, order.runs, order.resources)
        report = slurm.wait(plan, tasks, order.runs, progress=progress)
        logs = {path: slurm.logs_of(task, order.runs) for path, task in tasks.items()}
    return Outcome(results_of(prospect, report), report, logs)


def results_of(prospect: Prospect, report: SuiteReport) -> pd.DataFrame:
    """The results of the finished rows, each under the name that the suite gives its row.

    A setting for every row (`--set`) does not rename the rows, so that they stand beside the paper's. A result that
    cannot be read is one of the failures of `report`.
    """
    tables = []
    for job in prospect.plan.rows:
        if not job.finished:
            continue
        try:
            tables.append(collect_results(job.path, tests=("ours", "released")).assign(system=job.system))
        except ReIDKitError as error:
            report.failed[job.path] = str(error)
            report.finished[:] = [path for path in report.finished if path != job.path]
    return pd.concat(tables, ignore_index=True) if tables else no_results()
