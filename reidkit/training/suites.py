"""Ablation suites: the rows of a paper's table, trained over several seeds, resumable and in parallel.

Every run is its own process (`reidkit train`), so one that fails is reported at the end and stops nothing;
a run that is finished is skipped, an interrupted one goes on from its last epoch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError, unknown_name
from reidkit.files import locked
from reidkit.priors.source import Tool
from reidkit.training.device import choose_device, choose_precision
from reidkit.training.ide import ide_path, ide_recipe, ide_settings, run_name
from reidkit.training.preflight import check_start, default_prior_tool
from reidkit.training.recipes import Recipe, read_settings, recipe_for
from reidkit.training.record import check_claim, run_settings
from reidkit.training.runs import RunFolder
from reidkit.training.settings import as_text


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
    preset: str = "quick",
    jobs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    prior_tool: Tool | None = None,
    cache: bool = True,
    progress: bool = True,
) -> SuiteReport:
    """Train `rows` x `seeds`. train_arguments: what every run gets on its command line (--dataset, --root ...).

    jobs: runs at a time; default one a core, each with its share of the cores, or a single one where the runs share a
    GPU. settings: changes for every row, as text or typed. prior_tool, cache: as among the train_arguments.
    A row that cannot be trained here, or whose folder holds another run (other images, settings, zoo line), is known
    before the first one starts, and reported with the failed. ReIDKitError for a setting in which the rows differ.
    IDE runs that the rows start from are trained first, since variants of a seed share them.
    """
    jobs = jobs or default_jobs(train_arguments)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    device = _device(train_arguments)
    tool = prior_tool or default_prior_tool(dataset)
    report, checked = SuiteReport(), set()
    first: dict[Path, list[str]] = {}  # IDE runs
    plan: dict[Path, list[str]] = {}
    for row in rows:
        if own := sorted({*row.settings} & {*(settings or {})}):
            raise ReIDKitError(
                f"the rows of this table differ in {', '.join(own)}, which so cannot be set for all of them"
            )
        changes = read_settings(row.variant, {**row.settings, **(settings or {})})
        recipe = recipe_for(row.variant, preset, changes)
        refusal = _refusal(row, dataset, recipe, runs, preset, tool, cache, checked)
        for seed in seeds:
            common = [*train_arguments, "--preset", preset, "--seed", str(seed), "--threads", str(threads)]
            path = runs / run_name(row.variant, dataset, preset, seed, changes)
            made = {path: (row.variant, recipe)}
            if recipe.ide_init:
                ide = ide_path(row.variant, dataset, recipe, runs, seed=seed, preset=preset)
                made[ide] = ("ide", ide_recipe(row.variant, recipe, preset))
            claims = {"preset": preset, "seed": seed, "prior_tool": tool}
            if why := refusal or _taken(made, dataset, device, claims):
                report.failed[path] = why
                continue
            if recipe.ide_init:
                first[ide] = ["ide", *common, "--run", str(ide), *_set(ide_settings(row.variant, recipe, preset))]
            plan[path] = [row.variant, *common, "--run", str(path), *_set(changes)]
        if refusal:
            tqdm.write(f"{row.system} is left out: {refusal}", file=sys.stderr)
    runs.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(first) + len(plan), unit="run", disable=not progress) as bar:
        for stage in (first, plan):
            with ThreadPoolExecutor(jobs) as pool:
                futures = {pool.submit(_train_process, p, a): p for p, a in stage.items()}
                for done in as_completed(futures):
                    path, error = futures[done], done.result()
                    if error:
                        report.failed[path] = error
                    elif stage is plan:
                        report.finished.append(path)
                    bar.update()
                    bar.set_postfix_str(path.name)
    return report


def default_jobs(train_arguments: list[str]) -> int:
    """One run at a time on a GPU, which a single run fills; on the CPU one a core."""
    return (os.cpu_count() or 1) if _device(train_arguments).type == "cpu" else 1


def _device(train_arguments: list[str]) -> torch.device:
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
    made: Mapping[Path, tuple[str, Recipe]], dataset: ReIDDataset, device: torch.device, claims: dict[str, Any]
) -> str:
    """Why one of the folders that a row needs holds another run than the row's; "" if none does."""
    for path, (name, recipe) in made.items():
        if not (run := RunFolder(path)).settings.is_file():
            continue
        precision = choose_precision(recipe.precision, device)
        try:
            check_claim(run, run_settings(name, dataset, recipe, precision=precision, initialise_from=None, **claims))
        except ReIDKitError as error:
            return str(error)
    return ""


def _set(changes: Mapping[str, Any]) -> list[str]:
    """{"model.num_parts": 4} -> ["--set", "model.num_parts=4"]; read back by `read_settings`."""
    return [a for k, v in changes.items() for a in ("--set", f"{k}={as_text(v)}")]


def log_file(path: Path) -> Path:
    """`<run>.log` beside the run. Run names hold dots (soft-c1-0.01-...), so it is the whole name that counts."""
    return path.with_name(path.name + ".log")


def _train_process(path: Path, arguments: list[str]) -> str:
    """Run one training process with its output in `<run>.log`; returns "" or the end of the log.

    Two suites may share rows: one of them trains a row, the other waits and finds it finished.
    """
    with locked(path.with_name(f".{path.name}.lock"), f"another process trains {path.name}; waiting for it"):
        if RunFolder(path).finished:
            return ""
        log, command = log_file(path), [sys.executable, "-m", "reidkit.cli", "train", *arguments, "--no-progress"]
        with open(log, "w") as out:
            code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode
        if code == 0:
            log.unlink()
            return ""
        return f"exit code {code}, log {log}: " + " | ".join(log.read_text().strip().splitlines()[-3:])
