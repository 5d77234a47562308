"""Ablation suites: the rows of a paper's table, trained over several seeds, resumable and in parallel.

Every run is its own process (`reidkit train`), so one that fails is reported at the end and stops nothing;
a run that is finished is skipped, an interrupted one goes on from its last epoch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from reidkit.data import ReIDDataset
from reidkit.errors import TrainingError, unknown_name
from reidkit.files import check_writable
from reidkit.lifetime import with_me
from reidkit.locks import locked
from reidkit.priors.source import Tool
from reidkit.training.plan import Job, SuitePlan, default_jobs, device_of, plan_suite, prepare_priors
from reidkit.training.presets import choose_preset
from reidkit.training.runs import RunFolder

TRAIN = (sys.executable, "-m", "reidkit.cli")  # what starts a training

_running: set[subprocess.Popen] = set()  # trainings of this process, to be stopped when it is interrupted


@dataclass(frozen=True)
class Entry:
    """One row of a table: a variant and what is changed in it."""

    variant: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def system(self) -> str:
        """Its name in a table of results: "mpn model.num_parts=4"."""
        return " ".join([self.variant, *(f"{k}={v}" for k, v in sorted(self.settings.items()))])


def entries(*names: str) -> tuple[Entry, ...]:
    """Rows that are variants of the table as they stand."""
    return tuple(Entry(n) for n in names)


# Numbers of two forms of testing have no difference, so every row of a table is tested as its paper tests: MPN without,
# CGPN with the mean of image and mirror image (its Sec. 4.2), whatever a row's own recipe does elsewhere.
MGN_AS_MPN = Entry("mgn", {"test_flip": "none"})
AS_CGPN = {"test_flip": "mean"}
MPN_AND_OTHERS = (
    Entry("pcb"),
    Entry("mpn"),
    MGN_AS_MPN,
    Entry("dsa"),
    Entry("pyramid"),
)  # of the rows that the kit builds

SUITES: dict[str, tuple[Entry, ...]] = {
    "mpn-table1": entries(
        "baseline", "baseline-ub", "mt-only", "naive-mtl", "psa-c1", "psa-c2", "psa", "fsa", "mpn-no-ca", "mpn"
    ),
    "mpn-table2": entries("baseline", "mt-only", "mpn-no-ca-uniform", "mpn-no-ca-roi", "mpn-no-ca"),
    "mpn-table3": entries("baseline", "naive-mtl", "align-batch", "align-sample-triplet", "align-sample", "fsa"),
    "mpn-table4": entries("align-batch-psa", "align-sample-triplet-psa", "align-sample-psa", "mpn-no-ca"),
    # Tables 5 to 8: MPN beside others on Market-1501, DukeMTMC-reID, CUHK03 (detected and labeled) and MSMT17
    "mpn-table5": (*MPN_AND_OTHERS, Entry("mpn-rga")),
    "mpn-table6": MPN_AND_OTHERS,
    "mpn-table7": MPN_AND_OTHERS,
    "mpn-table8": entries("baseline", "mpn"),
    "mpn-fig7": tuple(Entry("mpn", {"model.num_parts": k}) for k in (1, 2, 3, 4, 6, 8, 12)),
    "mpn-fig10": entries(
        "psa-c1", *(f"soft-c1-{w}" for w in (0.01, 0.1, 1, 10)), "psa-c2", *(f"soft-c2-{w}" for w in (0.01, 0.1, 1, 10))
    ),
    "cgpn-table1": (
        Entry("ide", AS_CGPN),
        Entry("mgn"),
        Entry("dsa", AS_CGPN),
        Entry("pyramid", AS_CGPN),
        Entry("cgpn"),
    ),
    "cgpn-table2": (Entry("ide", AS_CGPN), Entry("mgn"), Entry("cgpn")),  # of the paper's rows the kit builds CGPN
    "cgpn-table3": entries("cgpn-1", "cgpn-2", "cgpn-3", "cgpn-4", "cgpn"),
    "cgpn-table4": entries(
        "cgpn-global-2",
        "cgpn-global-3",
        "cgpn-global-4",
        "cgpn-global-8",
        "cgpn-b1",
        "cgpn-b2",
        "cgpn-b3",
        "cgpn-b23",
        "cgpn-b13",
        "cgpn-b12",
        "cgpn-b1234",
        "cgpn-b12345",
        "cgpn",
    ),
}

# What a table about one kind of photographs is on Sidewalk, whose levels differ in how the boxes are placed and in what
# stands before the person. `reidkit report` says it above the table.
ON_SIDEWALK: dict[str, str] = {
    "mpn-table6": "the rows of mpn-table5 on another city's photographs; Sidewalk has no second city",
    "mpn-table7": "detected and labeled boxes: on Sidewalk the levels strong (badly placed boxes) and mild",
    "mpn-table8": "more people, cameras and kinds of light: on Sidewalk the size full",
    "cgpn-table2": "occluded queries: on Sidewalk the level strong, where an object stands before 45 % of the people "
    "(5 % on mild), and more boxes cut people off",
}


def suite(name: str, only: Collection[str] | None = None) -> tuple[Entry, ...]:
    """The rows of a suite, or of these variants `only`; an unknown name raises an error that lists the choices."""
    if name not in SUITES:
        raise unknown_name("suite", name, SUITES)
    rows = SUITES[name]
    if only is None:
        return rows
    known = [row.variant for row in rows]
    for variant in only:
        if variant not in known:
            raise unknown_name(f"row of {name}", variant, known)
    return tuple(row for row in rows if row.variant in only)


def systems_of(name: str) -> dict[str, str]:
    """{variant: system} of a suite's variants that it has one row of; {} for a table that is no suite."""
    rows = SUITES.get(name, ())
    variants = [row.variant for row in rows]
    return {row.variant: row.system for row in rows if variants.count(row.variant) == 1}


@dataclass
class SuiteReport:
    """What became of a suite: finished run folders, and {folder: last lines of its log} of the failed."""

    finished: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)


def run_suite(
    rows: tuple[Entry, ...],
    dataset: ReIDDataset,
    train_arguments: list[str],
    runs: Path,
    *,
    seeds: range | list[int],
    preset: str | None = None,
    jobs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    prior_tool: Tool | None = None,
    cache: bool = True,
    progress: bool = True,
) -> SuiteReport:
    """Train `rows` x `seeds`. train_arguments: what every run gets on its command line (--dataset, --root ...).

    preset: None for the one that fits the data and the device (`choose_preset`).
    jobs: runs at a time; default one a core, each with its share of the cores, or a single one where the runs share a
    GPU. settings: changes for every row, as text or typed. prior_tool, cache: as among the train_arguments.
    A row that cannot be trained here, or whose folder holds another run (other images, settings, zoo line), is known
    before the first one starts, and reported with the failed. ReIDKitError for a setting in which the rows differ.
    IDE runs that the rows start from are trained first, since variants of a seed share them.
    """
    jobs = jobs or default_jobs(train_arguments)
    preset = choose_preset(preset, dataset.source.get("name"), device_of(train_arguments))
    plan = plan_suite(
        rows,
        dataset,
        train_arguments,
        runs,
        seeds=seeds,
        preset=preset,
        threads=max(1, (os.cpu_count() or 1) // jobs),
        settings=settings,
        prior_tool=prior_tool,
        cache=cache,
    )
    prepare_priors(plan, dataset, prior_tool, progress)
    for system, why in plan.left_out.items():
        tqdm.write(f"{system} is left out: {why}", file=sys.stderr)
    return run_plan(plan, jobs=jobs, progress=progress)


def run_plan(plan: SuitePlan, *, jobs: int, progress: bool = True) -> SuiteReport:
    """Carry a plan out on this machine, `jobs` trainings at a time. A row whose IDE fails is not tried.

    An interruption (Ctrl-C) stops the trainings that run and starts no other; each goes on from its last epoch later.
    """
    report = SuiteReport(failed=dict(plan.refused))
    with tqdm(total=len(plan.jobs()), unit="run", disable=not progress) as bar:
        for stage in (plan.ide, plan.rows):
            todo = [job for job in stage if job.starts_from not in report.failed]
            for job in (job for job in stage if job not in todo):
                report.failed[job.path] = f"the IDE that it starts from failed: {job.starts_from}"
                bar.update()
            for job, error in _trained(todo, jobs):
                if error:
                    report.failed[job.path] = error
                elif stage is plan.rows:
                    report.finished.append(job.path)
                bar.update()
                bar.set_postfix_str(job.path.name)
    return report


def _trained(todo: Sequence[Job], jobs: int) -> Iterator[tuple[Job, str]]:
    """(job, "" or why it failed), each as it ends."""
    pool = ThreadPoolExecutor(jobs)
    futures = {pool.submit(_train_process, job.path, list(job.arguments)): job for job in todo}
    try:
        for done in as_completed(futures):
            yield futures[done], done.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_running):
            process.terminate()
        raise
    pool.shutdown()


def log_file(path: Path) -> Path:
    """`<run>.log` beside the run. Run names hold dots (soft-c1-0.01-...), so it is the whole name that counts."""
    return path.with_name(path.name + ".log")


def _train_process(path: Path, arguments: list[str], start: Sequence[str] = TRAIN) -> str:
    """Run one training process with its output in `<run>.log`; returns "" or the end of the log.

    Two suites may share rows: one of them trains a row, the other waits and finds it finished. The training holds the
    lock too, and ends with this process (Linux; elsewhere it keeps others away until it ends). start: the command
    before "train".
    """
    name = path.with_name(f".{path.name}.lock")
    check_writable(name, TrainingError)
    with locked(name, f"another process trains {path.name}; waiting for it") as lock:
        log, held = log_file(path), () if lock is None else (lock.fileno(),)
        if RunFolder(path).finished:
            log.unlink(missing_ok=True)  # of a training that outlived the process which would have removed it
            return ""
        with open(log, "w") as out:
            command = [*start, "train", *arguments, "--no-progress"]
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, pass_fds=held, env=with_me())
            _running.add(process)
            code = process.wait()
            _running.discard(process)
        if code == 0:
            log.unlink()
            return ""
        return f"exit code {code}, log {log}: " + " | ".join(log.read_text().strip().splitlines()[-3:])
