"""`reidkit variants`, `train`, `evaluate` and `ablate`: runs, made and tested."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, cast

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
    Seed,
    Seeds,
    Sets,
    Size,
    Suite,
    Threads,
    Validation,
    Workers,
    dataset_of,
    given,
    going_on_later,
    open_dataset,
    parse_settings,
    seeds_of,
    tested_set,
    tool_of,
    train_arguments,
)
from reidkit.cli.resume import refuse_other_settings
from reidkit.errors import ReIDKitError, one_of


def variants() -> None:
    """List every variant that can be trained by name, with the paper's row it stands for."""
    from reidkit.models.zoo import VARIANTS

    for name, v in VARIANTS.items():
        typer.echo(f"{name:26s} {v.row}")


def train(
    ctx: typer.Context,
    variant: Annotated[
        str | None, typer.Argument(help="A line of `reidkit variants`; with --resume the run's own")
    ] = None,
    dataset: DatasetName = "sidewalk",
    root: Root = DATA,
    size: Size = None,
    options: DataOptions = None,
    preset: Preset = None,
    seed: Seed = 0,
    run: Annotated[Path | None, typer.Option(help="Run folder; default runs/<a speaking name>")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run folder, with its own settings.")] = None,
    settings: Sets = None,
    device: Device = "auto",
    workers: Workers = 0,
    threads: Threads = None,
    prior_tool: PriorTool = None,
    cache: Cache = True,
    cache_dir: CacheDir = None,
    evaluate_every: EvaluateEvery = 0,
    validation: Validation = False,
    no_camera_rule: NoCameraRule = False,
    compile_net: Compile = None,
    progress: Progress = True,
) -> None:
    """Train a variant and evaluate it. A killed run goes on where it stopped when called again."""
    from reidkit.training import RunFolder, recipe_for, run_name
    from reidkit.training import train as train_run
    from reidkit.training.device import choose_device
    from reidkit.training.presets import choose_preset
    from reidkit.training.recipes import read_settings
    from reidkit.training.runs import recipe_of

    if threads:
        torch.set_num_threads(threads)
    changes = parse_settings([*(settings or []), *(["camera_rule=false"] if no_camera_rule else [])])
    if resume:
        old = RunFolder(resume).read_settings()
        refuse_other_settings(ctx, resume, old, changes)
        name, preset, seed, prior_tool = (old[key] for key in ("variant", "preset", "seed", "prior_tool"))
        folder, recipe = resume, recipe_of(old, resume / "recipe.json")
        ds = (
            open_dataset(dataset, root, size, old["level"] == "validation", cache_dir, options)
            if old["source"] is None and "dataset" in given(ctx)
            else dataset_of(old, root if "root" in given(ctx) else None, cache_dir)
        )
    elif variant is None:
        raise ReIDKitError("name the variant to train, for example `reidkit train mpn`; `reidkit variants` lists them")
    else:
        preset = choose_preset(preset, dataset, choose_device(device), typer.echo)
        name, recipe, changes = variant, recipe_for(variant, preset, changes), read_settings(variant, changes)
        ds = open_dataset(dataset, root, size, validation, cache_dir, options)
        folder = run or Path("runs") / run_name(variant, ds, preset, seed, changes)
    with going_on_later():
        result = train_run(
            name,
            ds,
            recipe,
            folder,
            seed=seed,
            device=device,
            preset=cast(str, preset),
            prior_tool=tool_of(prior_tool),
            workers=workers,
            cache=cache,
            evaluate_every=evaluate_every,
            compile_net=compile_net,
            progress=progress,
        )
    typer.echo(f"{folder}: {name} on {ds.label}, seed {seed}")
    show_result(result)


def show_result(result: dict) -> None:
    """Print how a run was tested and its metrics; for runs of the preset paper, both ways."""
    from reidkit.evaluation.forms import TestForm

    parts = {"ours": result, **({"released": result["released"]} if "released" in result else {})}
    for name, part in parts.items():
        form = TestForm.from_dict(part.get("test", {}))
        typer.echo(f"  {name + ': ' if len(parts) > 1 else ''}{form}")
        show_metrics(part["metrics"])


def show_metrics(metrics: dict) -> None:
    """Print one line a test level, in percent."""
    for level, m in metrics.items():
        typer.echo(
            f"  {level:12s} Rank-1 {100 * m['rank1']:5.1f}  mAP {100 * m['mAP']:5.1f}"
            f"  mINP {100 * m.get('mINP', math.nan):5.1f}  ({m.get('queries', 'unknown')} queries)"
        )
        if "by_shift" in m:
            curve = "  ".join(f"{s}: {100 * x['rank1']:.1f}" for s, x in m["by_shift"].items())
            typer.echo(f"  {'':12s} Rank-1 by shift  {curve}")


def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder, or a shipped network such as mpn.")],
    dataset: Annotated[str | None, typer.Option(help="Test on this set; default: the one trained on.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that holds the data set; default: where it was.")] = None,
    size: Size = None,
    options: DataOptions = None,
    rerank: Annotated[bool, typer.Option(help="Rank by k-reciprocal re-ranking.")] = False,
    multi_query: Annotated[bool, typer.Option(help="Pool the boxes of a query in gt_bbox.")] = False,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Average image and mirror image; default: as the recipe says."),
    ] = None,
    ap: Annotated[str, typer.Option(help="step (usual) or trapezoid (Market-1501's original)")] = "step",
    no_camera_rule: NoCameraRule = False,
    prior_tool: PriorTool = None,
    cache: Cache = True,
    cache_dir: CacheDir = None,
    device: Device = "auto",
    workers: Workers = 0,
    save: Annotated[Path | None, typer.Option(help="Write the result as JSON.")] = None,
    progress: Progress = True,
) -> None:
    """Evaluate a finished run again: on another data set, with re-ranking, multi-query or flipped images."""
    from reidkit.evaluation.forms import TestForm
    from reidkit.evaluation.ranking import AP_FORMS
    from reidkit.files import check_writable, write_json
    from reidkit.training import evaluate_run
    from reidkit.training.record import trained_elsewhere
    from reidkit.training.runs import find_run

    if save:
        check_writable(save)  # now, not after the test
    old = find_run(run).read_settings()
    ds = tested_set(old, dataset, root, size, options, cache_dir)
    result = evaluate_run(
        run,
        ds,
        device=device,
        use_rerank=rerank,
        multi_query=multi_query,
        ap=one_of("form of AP", ap, AP_FORMS),
        flip=None if flip is None else "mean" if flip else "none",
        prior_tool=tool_of(prior_tool),
        camera_rule=False if no_camera_rule else None,
        cache=cache,
        workers=workers,
        progress=progress,
    )
    other = trained_elsewhere(old, ds)
    trained = f", trained on {other}" if other else ""
    typer.echo(f"{run}: {old['variant']} on {ds.label}{trained}, {TestForm.from_dict(result['test'])}")
    show_metrics(result["metrics"])
    if save:
        write_json(save, result)


def ablate(
    ctx: typer.Context,
    suite: Suite,
    dataset: DatasetName = "sidewalk",
    root: Root = DATA,
    size: Size = None,
    options: DataOptions = None,
    seeds: Seeds = 3,
    first_seed: FirstSeed = 0,
    preset: Preset = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: one a core, one on a GPU.")] = None,
    only: Annotated[str | None, typer.Option(help="Only these rows, e.g. baseline,naive-mtl,mpn")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    settings: Sets = None,
    device: Device = "auto",
    workers: Workers = 0,
    prior_tool: PriorTool = None,
    cache: Cache = True,
    cache_dir: CacheDir = None,
    evaluate_every: EvaluateEvery = 0,
    validation: Validation = False,
    no_camera_rule: NoCameraRule = False,
    compile_net: Compile = None,
    progress: Progress = True,
) -> None:
    """Train the rows of a paper's table over several seeds; finished runs are skipped, failures reported."""
    from reidkit.training.suites import run_suite
    from reidkit.training.suites import suite as rows_of

    rows = rows_of(suite, None if only is None else [name.strip() for name in only.split(",")])
    chosen = seeds_of(first_seed, seeds)
    ds = open_dataset(dataset, root, size, validation, cache_dir, options)
    changes = parse_settings([*(settings or []), *(["camera_rule=false"] if no_camera_rule else [])])
    with going_on_later():
        report = run_suite(
            rows,
            ds,
            train_arguments(ctx.params),
            runs,
            seeds=chosen,
            preset=preset,
            jobs=jobs,
            settings=changes,
            prior_tool=tool_of(prior_tool),
            cache=cache,
            progress=progress,
        )
    typer.echo(f"{suite}: {len(report.finished)} runs finished, {len(report.failed)} failed")
    for path, why in report.failed.items():
        typer.echo(f"  {path}: {why}", err=True)
    if report.failed:
        raise typer.Exit(1)
