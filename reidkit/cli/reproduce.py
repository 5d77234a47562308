"""`reidkit reproduce`: a paper's table with one command, from the priors to a page that can be sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from reidkit.cli.options import (
    DATA,
    Cache,
    CacheDir,
    Compile,
    DataOptions,
    DatasetName,
    Device,
    EvaluateEvery,
    FirstSeed,
    NoCameraRule,
    Preset,
    PriorTool,
    Progress,
    Root,
    Seeds,
    Sets,
    Size,
    Suite,
    Validation,
    Workers,
    check_root,
    data_options,
    given,
    going_on_later,
    open_dataset,
    parse_settings,
    plain_warnings,
    seeds_of,
    tool_of,
    train_arguments,
)
from reidkit.data import DATASETS, ReIDDataset
from reidkit.errors import ReIDKitError, one_of, unknown_name
from reidkit.priors.source import Tool
from reidkit.reproduce.slurm import Resources
from reidkit.training.seen import unrendered

PLACES = ("local", "slurm")
SLURM = ("partition", "gpus", "cpus", "mem", "hours", "max_parallel")  # options of --on slurm alone


def reproduce(
    ctx: typer.Context,
    suite: Suite,
    dataset: DatasetName = "sidewalk",
    root: Root = DATA,
    size: Size = None,
    options: DataOptions = None,
    only: Annotated[str | None, typer.Option(help="Only these rows, e.g. baseline,naive-mtl,mpn")] = None,
    seeds: Seeds = 3,
    first_seed: FirstSeed = 0,
    preset: Preset = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing on disk.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page; default <runs>/<suite>-<data set>-<preset>.html")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    settings: Sets = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: one a core, one on a GPU.")] = None,
    on: Annotated[str, typer.Option(help="local, or slurm: array tasks, through submitit")] = "local",
    partition: Annotated[str | None, typer.Option(help="slurm: of the cluster")] = None,
    gpus: Annotated[int, typer.Option(min=0, help="slurm: of a task; several train one run together")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="slurm: of a task")] = 8,
    mem: Annotated[float | None, typer.Option(min=0.1, help="slurm: GB of memory of a task")] = None,
    hours: Annotated[float, typer.Option(min=0.02, help="slurm: until a task is queued again, and goes on")] = 24.0,
    max_parallel: Annotated[int, typer.Option(min=1, help="slurm: tasks at a time")] = 8,
    prior_tool: PriorTool = None,
    parsing: Annotated[Path | None, typer.Option(help="files: folder of parsing maps")] = None,
    segmentation: Annotated[Path | None, typer.Option(help="files: folder of segmentation maps")] = None,
    label_set: Annotated[str | None, typer.Option(help="files: lip (default), atr or pascal")] = None,
    device: Device = "auto",
    workers: Workers = 0,
    cache: Cache = True,
    cache_dir: CacheDir = None,
    evaluate_every: EvaluateEvery = 0,
    validation: Validation = False,
    no_camera_rule: NoCameraRule = False,
    compile_net: Compile = None,
    progress: Progress = True,
) -> None:
    """Train a paper's table and write it beside the paper's numbers, as a page; called again, it goes on."""
    from reidkit.reproduce import Order, carry_out, in_words, look_ahead
    from reidkit.reproduce.page import summary, write_page
    from reidkit.training.plan import default_jobs, device_of
    from reidkit.training.preflight import default_prior_tool
    from reidkit.training.presets import choose_preset
    from reidkit.training.suites import suite as rows_of

    rows = rows_of(suite, None if only is None else [name.strip() for name in only.split(",")])
    chosen, resources = seeds_of(first_seed, seeds), _resources(ctx, one_of("place to train", on, PLACES))
    check_words(dataset, root, "root" in given(ctx))
    arguments, tool = train_arguments(ctx.params), tool_of(prior_tool)
    place = device_of(arguments) if resources is None else torch.device("cuda" if resources.gpus else "cpu")
    preset = choose_preset(preset, dataset, place, typer.echo)
    ds = _dataset(dataset, root, size, validation, cache_dir, options, dry_run)
    order = Order(
        suite=suite,
        rows=rows,
        dataset=ds,
        train_arguments=arguments,
        runs=runs,
        out=out or runs / f"{suite}-{ds.label}-{preset}.html",
        seeds=chosen,
        preset=preset,
        prior_tool=tool or default_prior_tool(ds),
        jobs=jobs or (default_jobs(arguments) if resources is None else resources.max_parallel),
        settings=parse_settings([*(settings or []), *(["camera_rule=false"] if no_camera_rule else [])]),
        maps=_maps(tool or default_prior_tool(ds), parsing, segmentation, label_set),
        cache=cache,
        resources=resources,
    )
    queued = "; its tasks stay in Slurm's queue (scancel takes them out)" if resources else ""
    with going_on_later(queued), plain_warnings():
        prospect = look_ahead(order)
        said = in_words(prospect)
        typer.echo(said)
        if dry_run:
            return
        outcome = carry_out(prospect, progress=progress)
        write_page(prospect, outcome, said, order.out)
    show(prospect, outcome)
    typer.echo(f"\n{suite}: {summary(outcome)}\n{order.out}")
    for path, why in outcome.report.failed.items():
        typer.echo(f"  {path}: {why}", err=True)
    if outcome.report.failed:
        raise typer.Exit(1)


def show(prospect, outcome) -> None:
    """Print the table beside the paper's numbers, as `reidkit report --paper` does."""
    from reidkit.reporting.report import report_table

    typer.echo("\npercent; paper: as printed, on the data sets named; ours: mean, sd (seeds)")
    typer.echo(report_table(prospect.order.suite, outcome.results).to_string())


def check_words(dataset: str, root: Path, root_typed: bool) -> None:
    """Refuse an unknown data set, and a root that was typed and is not there, before anything is opened."""
    if dataset not in DATASETS:
        raise unknown_name("data set", dataset, DATASETS)
    if root_typed or dataset != "sidewalk":
        check_root(dataset, root)


def _resources(ctx: typer.Context, on: str) -> Resources | None:
    """What a Slurm task gets; None where this machine trains, and ReIDKitError for options that it has no use for."""
    from reidkit.reproduce.slurm import check_slurm

    typed = given(ctx)
    if on == "local":
        if wrong := [f"--{key.replace('_', '-')}" for key in SLURM if key in typed]:
            raise ReIDKitError(f"{', '.join(wrong)} asks for a Slurm task: add --on slurm, or leave it away")
        return None
    if "jobs" in typed:
        raise ReIDKitError("--jobs is for this machine; of Slurm's tasks --max-parallel run at a time")
    check_slurm()
    return Resources(**{key: ctx.params[key] for key in SLURM})


def _dataset(
    name: str,
    root: Path,
    size: str | None,
    validation: bool,
    cache_dir: Path | None,
    options: list[str] | None,
    dry_run: bool,
) -> ReIDDataset:
    """The data set; a dry run does not render one."""
    if dry_run and (lacking := unrendered(name, root, data_options(name, size, options))):
        raise ReIDKitError(f"{lacking}; a dry run changes nothing on disk: render it, or leave --dry-run away")
    return open_dataset(name, root, size, validation, cache_dir, options)


def _maps(tool: Tool, parsing: Path | None, segmentation: Path | None, label_set: str | None) -> dict[str, object]:
    """Where the tool "files" reads its maps; {} for the folders beside the images, or those of a built prior file."""
    from reidkit.priors.labels import LABEL_SETS
    from reidkit.priors.source import check_choices

    chosen = None if label_set is None else one_of("label set", label_set, LABEL_SETS)
    maps = {"parsing_dir": parsing, "segmentation_dir": segmentation, "label_set": chosen}
    check_choices(tool, maps=maps)
    return {key: value for key, value in maps.items() if value is not None}
