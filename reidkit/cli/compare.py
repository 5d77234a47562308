"""`reidkit compare`: two runs, two variants or two sets of runs, level by level."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from reidkit.cli.options import (
    Cache,
    CacheDir,
    DataOptions,
    Device,
    NoCameraRule,
    PriorTool,
    Progress,
    Size,
    Workers,
    given,
    tested_set,
    tool_of,
)
from reidkit.errors import ReIDKitError, unknown_name
from reidkit.files import check_writable, replacing
from reidkit.models.zoo import VARIANTS
from reidkit.reporting.verdicts import split_system
from reidkit.training.runs import SHIPPED, find_run

Kind = Literal["run", "variant", "table"]
FOR_ALL = {"a", "b", "metric", "save"}
FOR_VARIANTS = {"runs"}


def compare(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(help="A run folder or shipped network, a variant, or a folder or CSV of runs.")],
    b: Annotated[str, typer.Argument(help="The other one, of the same kind.")],
    metric: Annotated[str, typer.Option(help="mAP, rank1, mINP; of variants and tables also rank5, rank10.")] = "mAP",
    levels: Annotated[str | None, typer.Option(help="Runs: test levels, such as mild,strong; default all.")] = None,
    top: Annotated[int, typer.Option(min=0, help="Runs: how many of the queries that changed most.")] = 5,
    runs: Annotated[Path | None, typer.Option(help="Variants: folder or CSV of runs; default: shipped.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write a CSV: of runs every query, else the table of levels.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Runs: test on this set; default: the one trained on.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that holds the data set; default: where it was.")] = None,
    size: Size = None,
    options: DataOptions = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Average image and mirror image; default: as the recipes say."),
    ] = None,
    no_camera_rule: NoCameraRule = False,
    prior_tool: PriorTool = None,
    cache: Cache = True,
    cache_dir: CacheDir = None,
    device: Device = "auto",
    workers: Workers = 0,
    progress: Progress = True,
) -> None:
    """A, B, their difference and its 95 % interval, one row a level; of two runs also the queries that changed most.

    Two runs are tested on the same queries. Two variants (mpn, "mpn model.num_parts=4") are compared on the seeds that
    both have, in --runs; two folders or CSVs of runs row by row. A variant beside a run is its shipped network.
    """
    from reidkit.reporting.compare import compare_results, compare_runs, compare_systems
    from reidkit.reporting.compare_text import comparison_text
    from reidkit.reporting.report import collect_results
    from reidkit.reporting.results import collect_pair

    kind = common_kind(a, b)
    refuse_options(kind, given(ctx))
    if save:
        check_writable(save)  # now, not after the tests
    if kind == "table":
        if Path(a).resolve() == Path(b).resolve():
            raise ReIDKitError(f"A and B are the same runs, {a}: every difference is zero; name two")
        found = compare_results(*collect_pair(a, b), metric, names=(a, b))
    elif kind == "variant":
        place = runs or SHIPPED.parent / "runs.csv"
        typer.echo(f"{'' if runs else 'shipped '}runs: {place if runs else 'results/sidewalk/runs.csv'}")
        found = compare_systems(collect_results(place), a, b, metric)
    else:
        typed = dataset is not None or size is not None or options is not None
        settings = find_run(a).read_settings() if typed else common_source(a, b)
        ds = tested_set(settings, dataset, root, size, options, cache_dir)
        found = compare_runs(
            a,
            b,
            ds,
            metric,
            levels=None if levels is None else [level.strip() for level in levels.split(",")],
            flip=None if flip is None else "mean" if flip else "none",
            camera_rule=False if no_camera_rule else None,
            prior_tool=tool_of(prior_tool),
            device=device,
            cache=cache,
            workers=workers,
            progress=progress,
        )
    typer.echo(comparison_text(found, top))
    if save:
        with replacing(save) as file:
            found.saved().to_csv(file, index=False, errors="surrogateescape")  # files need not be UTF-8


def common_source(a: str | Path, b: str | Path) -> dict[str, Any]:
    """The settings of run A, if B was trained on the same data set; ReIDKitError that says what differs if not."""
    runs = find_run(a), find_run(b)
    one, two = (run.read_settings() for run in runs)
    key = "fingerprint" if one.get("fingerprint") and two.get("fingerprint") else "dataset"
    if one[key] == two[key] and one["level"] == two["level"]:
        return one
    told = [f"{s['dataset']}{' (validation)' if s['level'] == 'validation' else ''}" for s in (one, two)]
    other = ", of other images" if told[0] == told[1] else ""
    raise ReIDKitError(
        f"{runs[0].path.name} was trained on {told[0]}, {runs[1].path.name} on {told[1]}{other}: name one data "
        "set to test both on, with --dataset and --root (of sidewalk also --size)"
    )


def common_kind(a: str, b: str) -> Kind:
    """What A and B are; a variant beside a run is a run. ReIDKitError where they are of two kinds, or unknown."""
    kinds: tuple[Kind, Kind] = kind_of(a), kind_of(b)
    if "table" in kinds and kinds[0] != kinds[1]:
        words = {"run": "a run", "variant": "a variant", "table": "a folder or CSV of runs"}
        raise ReIDKitError(f"{a} is {words[kinds[0]]}, {b} is {words[kinds[1]]}: name two of one kind")
    return "run" if "run" in kinds else kinds[0]


def kind_of(name: str) -> Kind:
    """A folder with a recipe.json or a shipped folder's whole name is a run; a variant, also with settings, is all its
    seeds; another folder, or a CSV, is a table. UnknownNameError for anything else."""
    path = Path(name)
    if (path / "recipe.json").is_file():
        return "run"
    if path.is_dir() or path.suffix == ".csv":
        return "table"
    if split_system(name)[0] in VARIANTS:
        return "variant"
    shipped = [folder.name for folder in SHIPPED.iterdir()]
    if name in shipped:
        return "run"
    raise unknown_name("run folder, shipped network, variant, or table of runs", name, [*VARIANTS, *shipped])


def refuse_options(kind: Kind, typed: set[str]) -> None:
    """ReIDKitError for an option that this kind of comparison has no use for."""
    used = {"run": None, "variant": FOR_ALL | FOR_VARIANTS, "table": FOR_ALL}[kind]
    extra = typed & FOR_VARIANTS if used is None else typed - used
    if extra:
        names = ", ".join(sorted(f"--{name.replace('_', '-')}" for name in extra))
        what = {"run": "two runs", "variant": "two variants", "table": "two tables of runs"}[kind]
        other = "variants" if kind == "run" else "runs (name their folders)"
        raise ReIDKitError(f"comparing {what} has no use for {names}; it is for comparing two {other}")
