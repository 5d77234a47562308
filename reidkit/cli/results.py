"""`reidkit report`, `attention-scores`, `bench`, `ship` and `export`: what runs are worth, and what leaves the kit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from reidkit.bench import BENCHES, run_bench
from reidkit.cli.options import (
    DATA,
    Device,
    Progress,
    Root,
    Size,
    Threads,
    dataset_of,
    going_on_later,
    open_dataset,
    parse_settings,
    plain_warnings,
)
from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError, one_of
from reidkit.files import check_writable, replacing, write_text


def report(
    runs: Annotated[Path, typer.Argument(help="Folder of run folders.")] = Path("runs"),
    paper: Annotated[bool, typer.Option("--paper", help="Add the paper's columns.")] = False,
    suite: Annotated[str | None, typer.Option(help="Only this table, e.g. mpn-table1")] = None,
    save: Annotated[Path | None, typer.Option(help="Write one row a run, with provenance, as CSV.")] = None,
) -> None:
    """Mean and spread over seeds of every run in a folder, beside the paper's numbers.

    A run that cannot be read is listed at the end with the reason; the exit code is 0 as long as one can.
    """
    from reidkit.evaluation.forms import RELEASED
    from reidkit.reporting.results import MORE_TESTS, readable_results
    from reidkit.reporting.text import fitted, report_blocks, wrapped
    from reidkit.training.suites import ON_SIDEWALK, SUITES

    if save:
        check_writable(save)
    results, left_out = readable_results(runs, tests=("ours", *MORE_TESTS))
    trained = set(results.variant)
    typer.echo("percent, mean ± standard deviation over seeds (number of seeds); rows that were not run are left out")
    if paper:
        typer.echo(
            wrapped(
                f"paper: as printed. The authors' released code of MPN tests with {RELEASED}: compare its numbers with "
                "the tables named released (multi-query), where the data set is the paper's."
            )
        )
    for name in [suite] if suite else [s for s, rows in SUITES.items() if trained & {r.variant for r in rows}]:
        means = ON_SIDEWALK.get(name) if results.dataset.str.startswith("sidewalk").any() else None
        typer.echo("\n" + wrapped(f"{name}" + (f" ({means})" if means else "")))
        for title, table in report_blocks(results, name, paper=paper):
            typer.echo(f"\n{wrapped(title)}\n{fitted(table)}")
    if not suite:
        typer.echo("\nall runs (--save writes every metric and shift)")
        for title, table in report_blocks(results):
            typer.echo(f"\n{wrapped(title)}\n{fitted(table)}")
    if left_out:
        typer.echo(f"\nleft out: {len(left_out)} runs")
        for run, why in left_out.items():
            typer.echo(wrapped(f"  {run}: {why}", indent="    "))
    if save:
        with replacing(save) as file:
            results.to_csv(file, index=False, errors="surrogateescape")  # paths need not be UTF-8


def claims(
    runs: Annotated[Path | None, typer.Argument(help="Folder of runs, or a CSV of them; default: shipped.")] = None,
    scores: Annotated[Path | None, typer.Option(help="CSV of `reidkit attention-scores`.")] = None,
    sleeves: Annotated[Path | None, typer.Option(help="CSV of `reidkit attention-scores --sleeves`.")] = None,
    metric: Annotated[str, typer.Option(help="mAP, rank1, ...")] = "mAP",
    save: Annotated[Path | None, typer.Option(help="Write the page here, e.g. docs/claims.md")] = None,
) -> None:
    """The verdict on every claim, table and figure of both papers, as a page of Markdown."""
    from reidkit.reporting.claims_page import SHIPPED, claims_page, read_arms, read_scores
    from reidkit.reporting.report import PAPER, collect_results

    if save:
        check_writable(save)
    results = collect_results(runs or SHIPPED / "runs.csv")
    metric = one_of("metric", metric, sorted(set(results.metric)))
    maps = read_scores(scores or (None if runs else SHIPPED / "attention.csv"))
    shipped = SHIPPED / "sleeves.csv"
    arms = read_arms(sleeves or (shipped if not runs and shipped.is_file() else None))
    page = claims_page(results, maps, PAPER.parent / "benchmarks", metric, arms)
    if save:
        write_text(save, page)
    typer.echo(save or page)


def ship(
    runs: Annotated[Path, typer.Argument(help="Folder of run folders.")],
    names: Annotated[list[str], typer.Argument(help="Run folders below RUNS, or variants.")],
    out: Annotated[Path, typer.Option(help="Folder of the shipped networks.")] = Path("results/sidewalk/checkpoints"),
) -> None:
    """Copy finished runs into the kit: weights in half precision, with hash and provenance."""
    from reidkit.training.ship import ship as ship_runs

    folders = [
        f
        for name in names
        for f in ([runs / name] if (runs / name).is_dir() else sorted(runs.glob(f"{name}-sidewalk-*-s0")))
    ]
    if not folders:
        raise ReIDKitError(f"no run of {', '.join(names)} below {runs}; `reidkit train` makes one")
    for folder in ship_runs(folders, out):
        typer.echo(folder)


def export(
    run: Annotated[str, typer.Argument(help="A run folder, or a shipped network such as mpn-no-ca.")],
    to: Annotated[str, typer.Option(help="onnx or torch-export")] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8 (onnx only; needs --root)")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="Default: <run>-<precision>.onnx or .pt2, here.")] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            "--dataset-root",
            help="Folder that holds the run's data set: measure mAP and Rank-1, calibrate int8.",
        ),
    ] = None,
    progress: Progress = True,
) -> None:
    """Write a trained network as one file that runs without the kit, checked against PyTorch (docs/export.md)."""
    from reidkit.export import check_request, export_run
    from reidkit.export.formats import PRECISIONS, SUFFIXES

    to, precision = one_of("export format", to, SUFFIXES), one_of("precision", precision, PRECISIONS)
    folder, out = check_request(run, out, to=to, precision=precision, with_dataset=root is not None)
    dataset = None if root is None else dataset_of(folder.read_settings(), root)
    typer.echo(export_run(run, out, to=to, precision=precision, dataset=dataset, progress=progress))


def attention_scores(
    runs: Annotated[list[Path], typer.Argument(help="Finished run folders.")],
    root: Root = DATA,
    size: Size = None,
    level: Annotated[str, typer.Option(help="Test level whose queries are explained.")] = "strong",
    images: Annotated[int, typer.Option(min=1, help="Queries, drawn once for all runs.")] = 200,
    method: Annotated[str, typer.Option(help="gradcam, hirescam, ...")] = "gradcam",
    checks: Annotated[bool, typer.Option(help="Consistency and random weights: 8 x the time.")] = True,
    sleeves: Annotated[
        bool, typer.Option("--sleeves", help="Instead: do maps lie on lower arms where sleeves are long (MPN 5.2.5)?")
    ] = False,
    device: Device = "cpu",
    threads: Threads = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Rows are added to this CSV; default results/sidewalk/attention.csv, or sleeves.csv there."),
    ] = None,
    progress: Progress = True,
) -> None:
    """Score the part attention of runs against Sidewalk's ground truth, one row a run; what is there is skipped."""
    from reidkit.attention.cam import METHODS
    from reidkit.attention.scores import score_runs
    from reidkit.attention.sleeves import score_sleeves
    from reidkit.training.device import choose_device
    from reidkit.training.runs import RunFolder

    if threads:
        torch.set_num_threads(threads)
    out = out or Path("results/sidewalk") / ("sleeves.csv" if sleeves else "attention.csv")
    how = {"level": level, "images": images, "method": one_of("CAM method", method, METHODS), "out": out}
    how |= {"device": choose_device(device), "progress": progress}
    check_writable(out)  # now, and folders that are no runs are refused before anything is rendered
    asked = {run: RunFolder(run).read_settings() for run in runs}
    with going_on_later(), plain_warnings():
        ds = open_dataset("sidewalk", root, size)
        _warn_of_other_sets(asked, ds)
    if sleeves:
        with going_on_later():
            table = score_sleeves(runs, ds, **how)
        columns = ["run", "level", "measure", "value", "low", "high", "people"]
        typer.echo(table[columns].round(3).to_string(index=False))
        typer.echo(str(out))
        return
    with going_on_later():
        table = score_runs(runs, ds, checks=checks, **how)
    columns = ["own_energy", "pointing", "body_part_energy", "similarity", "background"]
    typer.echo(table.loc[:, ["variant", *columns]].groupby("variant", sort=False).mean().round(3).to_string())
    typer.echo(f"{out}: {len(table)} runs, {method}, level {level}")


def _warn_of_other_sets(asked: Mapping[Path, dict[str, Any]], ds: ReIDDataset) -> None:
    """Warn of each run that was trained on another data set than it is scored on."""
    from reidkit.training.record import trained_elsewhere

    for run, settings in asked.items():
        if other := trained_elsewhere(settings, ds):
            warnings.warn(
                f"{run} was trained on {other} and is scored on {ds.label}: --size and --root name another set",
                stacklevel=2,
            )


def bench(
    what: Annotated[str, typer.Argument(help=", ".join(BENCHES))],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: an argument of the benchmark, e.g. names=cgpn,mgn")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the JSON here too.")] = None,
) -> None:
    """Measure one part of the kit and print JSON with its provenance."""
    if save:
        check_writable(save)  # now, not after the measurement
    result = run_bench(what, parse_settings(settings))
    typer.echo(json.dumps(result, indent=2))
    if save:
        write_text(save, json.dumps(result, indent=2) + "\n")
