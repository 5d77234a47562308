"""The command line: `reidkit --help`. Each command is a thin caller of the package."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from reidkit.data import load_dataset
from reidkit.errors import ReIDKitError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Part-aware person re-identification: MPN and CGPN, from data to tables.")
data_app = typer.Typer(no_args_is_help=True, help="Check data sets on disk.")
sidewalk_app = typer.Typer(no_args_is_help=True, help="The rendered data set.")
priors_app = typer.Typer(no_args_is_help=True, help="Coarse priors of body part locations.")
for sub, name in ((data_app, "data"), (sidewalk_app, "sidewalk"), (priors_app, "priors")):
    app.add_typer(sub, name=name)

DatasetName = Annotated[str, typer.Option("--dataset", help="sidewalk, market1501, dukemtmc, cuhk03-detected, ...")]
Root = Annotated[Path, typer.Option("--root", help="Folder that holds the data sets.")]
Size = Annotated[str, typer.Option("--size", help="Sidewalk only: tiny, small, many, siblings or full.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="key=value; model.* and loss.* reach the variant.")]
Progress = Annotated[bool, typer.Option("--progress/--no-progress")]
Validation = Annotated[bool, typer.Option("--validation", help="Hold out training identities and test on those.")]


CacheDir = Annotated[Path | None, typer.Option("--cache-dir", help="Keep decoded images and priors here instead of in "
                                               "the data set's folder (data on a read-only disk).")]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep decoded images in one file.")]
NoCameraRule = Annotated[bool, typer.Option("--no-camera-rule", help="Matches under the query's own camera count: for "
                                            "sets without cameras, or with one.")]
PriorTool = Annotated[str | None, typer.Option(help="sidewalk, files, torchvision+segformer; default: files beside the "
                                               "images")]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile, for a GPU.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that decode images.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch; default: one a core.")]
Seed = Annotated[int, typer.Option(min=0)]


def open_dataset(name: str, root: Path, size: str, validation: bool = False, cache_dir: Path | None = None):
    """The data set that the options of a command name."""
    options = {"size": size} if name == "sidewalk" else {}
    dataset = load_dataset(name, root=root, cache_dir=cache_dir, **options)
    return dataset.validation_split() if validation else dataset


def dataset_of(settings: dict, root: Path | None = None, cache_dir: Path | None = None):
    """The data set that a run was trained on, from where it lay, or below `root`."""
    source = settings["source"]
    if source is None:
        raise ReIDKitError(f"this run of an older kit does not say how its data set ({settings['dataset']}) was loaded: "
                           "name it with --dataset and --root")
    place = root or settings.get("root") or Path("data")
    dataset = load_dataset(source["name"], root=place, cache_dir=cache_dir, **source["options"])
    return dataset.validation_split() if settings["level"] == "validation" else dataset


def given(ctx: typer.Context) -> set[str]:
    """The parameters that were typed, as opposed to those that have their defaults."""
    return {name for name in ctx.params if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")}


def parse_settings(pairs: list[str] | None) -> dict[str, str]:
    """["lr=0.1", "model.num_parts=4"] as a dictionary."""
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ReIDKitError(f"--set {pair!r}: expected key=value, for example --set model.num_parts=4")
        settings[key] = value
    return settings


@app.command()
def variants() -> None:
    """List every variant that can be trained by name, with the paper's row it stands for."""
    from reidkit.models.zoo import VARIANTS

    for name, v in VARIANTS.items():
        typer.echo(f"{name:26s} {v.row}")


@app.command()
def train(ctx: typer.Context, variant: Annotated[str | None, typer.Argument(help="A line of `reidkit variants`; with "
                                                                            "--resume the run's own")] = None,
          dataset: DatasetName = "sidewalk", root: Root = Path("data"), size: Size = "small",
          preset: Annotated[str, typer.Option(help="quick (2 CPU cores), long, paper (GPU), smoke (tests)")] = "quick",
          seed: Seed = 0,
          run: Annotated[Path | None, typer.Option(help="Run folder; default runs/<a speaking name>")] = None,
          resume: Annotated[Path | None, typer.Option(help="Go on with this run folder, with its own settings.")] = None,
          settings: Sets = None, device: Device = "auto", workers: Workers = 0, threads: Threads = None,
          prior_tool: PriorTool = None, cache: Cache = True, cache_dir: CacheDir = None,
          evaluate_every: Annotated[int, typer.Option(min=0, help="Epochs between evaluations.")] = 0,
          validation: Validation = False, no_camera_rule: NoCameraRule = False, compile_net: Compile = False,
          progress: Progress = True) -> None:
    """Train a variant and evaluate it. A killed run goes on where it stopped when called again."""
    from reidkit.training import RunFolder, recipe_for, run_name
    from reidkit.training import train as train_run
    from reidkit.training.recipes import read_settings
    from reidkit.training.runs import recipe_of

    if threads:
        torch.set_num_threads(threads)
    changes = {**parse_settings(settings), **({"camera_rule": False} if no_camera_rule else {})}
    if resume:
        old = RunFolder(resume).read_settings()
        refuse_other_settings(ctx, resume, old, changes)
        variant, preset, seed, prior_tool, folder = old["variant"], old["preset"], old["seed"], old["prior_tool"], resume
        recipe = recipe_of(old, resume / "recipe.json")
        ds = (open_dataset(dataset, root, size, old["level"] == "validation", cache_dir) if old["source"] is None
              else dataset_of(old, root if "root" in given(ctx) else None, cache_dir))
    elif variant is None:
        raise ReIDKitError("name the variant to train, for example `reidkit train mpn`; `reidkit variants` lists them")
    else:
        recipe, changes = recipe_for(variant, preset, changes), read_settings(variant, changes)
        ds = open_dataset(dataset, root, size, validation, cache_dir)
        folder = run or Path("runs") / run_name(variant, ds, preset, seed, changes)
    result = train_run(variant, ds, recipe, folder, seed=seed, device=device, preset=preset, prior_tool=prior_tool,
                       workers=workers, cache=cache, evaluate_every=evaluate_every, compile_net=compile_net,
                       progress=progress)
    typer.echo(f"{folder}: {variant} on {ds.label}, seed {seed}")
    show_result(result)


def refuse_other_settings(ctx: typer.Context, resume: Path, old: dict, changes: dict[str, str]) -> None:
    """ReIDKitError that names everything typed beside --resume that the run's own settings contradict."""
    from reidkit.training.recipes import read_settings
    from reidkit.training.runs import recipe_of

    typed, recipe, source = given(ctx), recipe_of(old, resume / "recipe.json"), old["source"] or {}
    known = {"variant": old["variant"], "preset": old["preset"], "seed": old["seed"], "prior_tool": old["prior_tool"],
             "dataset": source.get("name", ctx.params["dataset"]), "validation": old["level"] == "validation",
             "size": source.get("options", {}).get("size", ctx.params["size"]), "run": resume}  # fmt: skip
    wrong = [f"{'' if k == 'variant' else '--'}{k.replace('_', '-')} {ctx.params[k]} (the run has {v})"
             for k, v in known.items() if k in typed and ctx.params[k] != v]
    for key, value in read_settings(old["variant"], changes).items():
        room, _, leaf = key.rpartition(".")
        have = getattr(recipe, room).get(leaf) if room else getattr(recipe, leaf)
        if have != value:
            wrong.append(f"--set {key}={value} (the run has {have})")
    if wrong:
        raise ReIDKitError(f"--resume {resume} goes on with the settings the run was started with; these were given and "
                           f"differ: {'; '.join(wrong)}. Leave them away, or train a new run without --resume")


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
        typer.echo(f"  {level:12s} Rank-1 {100 * m['rank1']:5.1f}  mAP {100 * m['mAP']:5.1f}"
                   f"  mINP {100 * m['mINP']:5.1f}  ({m['queries']} queries)")
        if "by_shift" in m:
            curve = "  ".join(f"{s}: {100 * x['rank1']:.1f}" for s, x in m["by_shift"].items())
            typer.echo(f"  {'':12s} Rank-1 by shift  {curve}")


@app.command()
def evaluate(ctx: typer.Context, run: Path,
             dataset: Annotated[str | None, typer.Option(help="Test on this set; default: the one trained on.")] = None,
             root: Annotated[Path | None, typer.Option(help="Folder that holds the data set; default: where it was.")] = None,
             size: Size = "small", rerank: bool = False, multi_query: bool = False,
             flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average image and mirror image; "
                                                       "default: as the recipe says.")] = None,
             ap: Annotated[str, typer.Option(help="step (usual) or trapezoid (Market-1501's original)")] = "step",
             no_camera_rule: NoCameraRule = False, prior_tool: PriorTool = None, cache: Cache = True,
             cache_dir: CacheDir = None, device: Device = "auto", workers: Workers = 0,
             save: Annotated[Path | None, typer.Option(help="Write the result as JSON.")] = None,
             progress: Progress = True) -> None:
    """Evaluate a finished run again: on another data set, with re-ranking, multi-query or flipped images."""
    from reidkit.evaluation.forms import TestForm
    from reidkit.training import RunFolder, evaluate_run
    from reidkit.training.runs import write_json

    old = RunFolder(run).read_settings()
    if dataset is None and "size" not in given(ctx):
        ds = dataset_of(old, root, cache_dir)
    else:
        ds = open_dataset(dataset or "sidewalk", root or Path("data"), size, cache_dir=cache_dir)
    result = evaluate_run(run, ds, device=device, use_rerank=rerank, multi_query=multi_query, ap=ap,
                          flip=None if flip is None else "mean" if flip else "none", prior_tool=prior_tool,
                          camera_rule=False if no_camera_rule else None, cache=cache, workers=workers, progress=progress)
    trained = "" if ds.label == old["dataset"] else f", trained on {old['dataset']}"
    typer.echo(f"{run}: {old['variant']} on {ds.label}{trained}, {TestForm.from_dict(result['test'])}")
    show_metrics(result["metrics"])
    if save:
        write_json(save, result)


@app.command()
def ablate(suite: str, dataset: DatasetName = "sidewalk", root: Root = Path("data"), size: Size = "small",
           seeds: Annotated[int, typer.Option(min=1)] = 3, first_seed: Seed = 0, preset: str = "quick",
           jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: one a core, one on a GPU.")] = None,
           only: Annotated[str | None, typer.Option(help="Only these rows, e.g. baseline,naive-mtl,mpn")] = None,
           runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"), settings: Sets = None,
           device: Device = "auto", workers: Workers = 0, prior_tool: PriorTool = None, cache: Cache = True,
           cache_dir: CacheDir = None, evaluate_every: Annotated[int, typer.Option(min=0)] = 0,
           validation: Validation = False, no_camera_rule: NoCameraRule = False, compile_net: Compile = False,
           progress: Progress = True) -> None:
    """Train the rows of a paper's table over several seeds; finished runs are skipped, failures reported."""
    from reidkit.training.suites import run_suite
    from reidkit.training.suites import suite as rows_of

    rows = rows_of(suite, only.split(",") if only else None)
    ds = open_dataset(dataset, root, size, validation, cache_dir)
    arguments = ["--dataset", dataset, "--root", str(root), "--size", size, "--device", device, "--workers", str(workers),
                 "--evaluate-every", str(evaluate_every)]
    arguments += [a for a, on in (("--validation", validation), ("--compile", compile_net), ("--no-cache", not cache)) if on]
    arguments += [a for name, value in (("--prior-tool", prior_tool), ("--cache-dir", cache_dir)) if value
                  for a in (name, str(value))]
    changes = {**parse_settings(settings), **({"camera_rule": False} if no_camera_rule else {})}
    report = run_suite(rows, ds, arguments, runs, seeds=range(first_seed, first_seed + seeds), preset=preset, jobs=jobs,
                       settings=changes, prior_tool=prior_tool, cache=cache, progress=progress)
    typer.echo(f"{suite}: {len(report.finished)} runs finished, {len(report.failed)} failed")
    for path, why in report.failed.items():
        typer.echo(f"  {path}: {why}", err=True)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def report(runs: Annotated[Path, typer.Argument(help="Folder of run folders.")] = Path("runs"),
           paper: Annotated[bool, typer.Option("--paper", help="Add the paper's columns.")] = False,
           suite: Annotated[str | None, typer.Option(help="Only this table, e.g. mpn-table1")] = None,
           save: Annotated[Path | None, typer.Option(help="Write one row a run, with provenance, as CSV.")] = None,
           ) -> None:
    """Mean and spread over seeds of every run in a folder, beside the paper's numbers."""
    from reidkit.evaluation.forms import RELEASED
    from reidkit.report import collect_results, mean_spread, report_table
    from reidkit.training.suites import SUITES

    results = collect_results(runs, tests=("ours", "released"))
    trained = set(results.variant)
    if paper:
        typer.echo(f"paper: as printed. The authors' released code of MPN tests with {RELEASED}: compare its columns with\n"
                   "those named released, where the data set is the paper's. Data sets are named in every column.")
    for name in [suite] if suite else [s for s, rows in SUITES.items() if trained & {r.variant for r in rows}]:
        typer.echo(f"\n{name}")
        typer.echo(report_table(name, results, paper=paper).to_string())
    if not suite:
        typer.echo("\nall runs")
        typer.echo(mean_spread(results).to_string())
    if save:
        save.parent.mkdir(parents=True, exist_ok=True)
        results.to_csv(save, index=False)


@app.command()
def ship(runs: Path, names: Annotated[list[str], typer.Argument(help="Run folders below RUNS, or variants.")],
         out: Path = Path("results/sidewalk/checkpoints")) -> None:
    """Copy finished runs into the kit: weights in half precision, with hash and provenance."""
    from reidkit.training.ship import ship as ship_runs

    folders = [f for name in names
               for f in ([runs / name] if (runs / name).is_dir() else sorted(runs.glob(f"{name}-sidewalk-*-s0")))]
    if not folders:
        raise ReIDKitError(f"no run of {', '.join(names)} below {runs}; `reidkit train` makes one")
    for folder in ship_runs(folders, out):
        typer.echo(folder)


@app.command()
def export(run: Annotated[str, typer.Argument(help="A run folder, or a shipped network such as mpn-no-ca.")],
           to: Annotated[str, typer.Option(help="onnx or torch-export")] = "onnx",
           precision: Annotated[str, typer.Option(help="fp32, fp16 or int8 (onnx only; needs --root)")] = "fp32",
           out: Annotated[Path | None, typer.Option(help="Default: <run>-<precision>.onnx or .pt2, here.")] = None,
           root: Annotated[Path | None, typer.Option("--root", "--dataset-root", help="Folder that holds the run's "
                                                     "data set: measure mAP and Rank-1, calibrate int8.")] = None,
           progress: Progress = True) -> None:
    """Write a trained network as one file that runs without the kit, checked against PyTorch (docs/export.md)."""
    from reidkit.export import check_request, export_run

    folder, out = check_request(run, out, to=to, precision=precision, with_dataset=root is not None)
    dataset = None if root is None else dataset_of(folder.read_settings(), root)
    typer.echo(export_run(run, out, to=to, precision=precision, dataset=dataset, progress=progress))


@app.command("attention-scores")
def attention_scores(runs: Annotated[list[Path], typer.Argument(help="Finished run folders.")],
                     root: Root = Path("data"), size: Size = "small",
                     level: Annotated[str, typer.Option(help="Test level whose queries are explained.")] = "strong",
                     images: int = 200,
                     method: Annotated[str, typer.Option(help="gradcam, hirescam, ...")] = "gradcam",
                     checks: Annotated[bool, typer.Option(help="Consistency and random weights: 8 x the time.")] = True,
                     device: Device = "cpu", threads: int | None = None,
                     out: Annotated[Path, typer.Option(help="Rows are added to this CSV.")] = Path(
                         "results/sidewalk/attention.csv"),
                     progress: Progress = True) -> None:
    """Score the part attention of runs against Sidewalk's ground truth, one row a run; what is there is skipped."""
    from reidkit.attention_scores import score_runs
    from reidkit.training.device import choose_device

    if threads:
        torch.set_num_threads(threads)
    table = score_runs(runs, open_dataset("sidewalk", root, size), level=level, images=images, method=method,
                       checks=checks, device=choose_device(device), out=out, progress=progress)
    table = table[(table.method == method) & (table.level == level)]
    columns = ["own_energy", "pointing", "body_part_energy", "similarity", "background"]
    typer.echo(table.groupby("variant", sort=False)[columns].mean().round(3).to_string())
    typer.echo(f"{out}: {len(table)} runs, {method}, level {level}")


@app.command()
def bench(what: Annotated[str, typer.Argument(help="train, evaluate, rerank, attention, priors, cache, sidewalk, "
                                              "cgpn")],
          save: Annotated[Path | None, typer.Option(help="Write the JSON here too.")] = None) -> None:
    """Measure one part of the kit and print JSON with its provenance."""
    from reidkit.bench import run_bench

    result = run_bench(what)
    typer.echo(json.dumps(result, indent=2))
    if save:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(json.dumps(result, indent=2) + "\n")


@data_app.command("check")
def data_check(name: str, root: Root = Path("data"), size: Size = "small", decode: bool = True,
               workers: int | None = None,
               quarantine: Annotated[bool, typer.Option(help="Move broken images aside (reversible).")] = False,
               out: Annotated[Path | None, typer.Option(help="Folder of the tables; default <root>/checks/<name>, or "
                                                        "in the cache folder.")] = None,
               cache_dir: Annotated[Path | None, typer.Option(help="Where files made from the data go, if not beside "
                                                              "it.")] = None) -> None:
    """Compare a data set on disk with its published counts; find broken and duplicate images."""
    from reidkit.data.check import check_command

    options = {"size": size} if name == "sidewalk" else {}
    raise typer.Exit(check_command(name, root, decode=decode, workers=workers, quarantine=quarantine, out=out,
                                   cache_dir=cache_dir, **options))


@sidewalk_app.command("render")
def sidewalk_render(size: Size = "small", out: Path = Path("data"), seed: int = 0, workers: int | None = None) -> None:
    """Render the Sidewalk data set."""
    from reidkit.data.sidewalk import render_sidewalk

    typer.echo(f"rendered {render_sidewalk(out, size, seed=seed, workers=workers)}")


@priors_app.command("build")
def priors_build(name: str, root: Root = Path("data"), size: Size = "small",
                 tool: Annotated[str, typer.Option(help="sidewalk, files, torchvision+segformer")] = "files",
                 grid: Annotated[str, typer.Option(help="rows x columns of the feature map")] = "24x8",
                 splits: Annotated[str, typer.Option(help="of train, query, gallery and test levels, such as "
                                                     "query,gallery; or all")] = "train",
                 parsing: Annotated[Path | None, typer.Option(help="files: folder of parsing maps")] = None,
                 segmentation: Annotated[Path | None, typer.Option(help="files: folder of segmentation maps")] = None,
                 label_set: Annotated[str, typer.Option(help="files: lip, atr or pascal")] = "lip",
                 segmentation_model: Annotated[str | None, typer.Option(
                     help="networks: a torchvision segmentation network")] = None,
                 segmentation_weights: Annotated[str | None, typer.Option(
                     help="networks: a torchvision weights name, or the path of a state dict")] = None,
                 parsing_model: Annotated[str | None, typer.Option(
                     help="networks: a SegFormer on the hub, or its folder")] = None,
                 missing: Annotated[str, typer.Option(help="error, or unreliable")] = "error",
                 cache_dir: Annotated[Path | None, typer.Option(
                     help="Folder for derived files, if the data set's own cannot be written to.")] = None,
                 out: Annotated[Path | None, typer.Option(help="The prior file (.npz); default: where train looks "
                                                          "for it.")] = None,
                 device: Device = "auto", rebuild: bool = False, progress: Progress = True) -> None:
    """Turn parsing and segmentation maps into coarse priors: one cached file, and a sheet of the best and worst."""
    from reidkit.priors import build_priors, contact_sheet, default_file, open_source
    from reidkit.priors.build import check_choices, check_writable, paths_by_split
    from reidkit.training.device import choose_device

    check_choices(tool, missing, label_set)
    cells = parse_grid(grid)
    ds = load_dataset(name, root=root, cache_dir=cache_dir, **({"size": size} if name == "sidewalk" else {}))
    chosen = [split.strip() for split in splits.split(",")]
    paths_by_split(ds, chosen)    # an unknown split is refused now
    usual = default_file(ds, tool, cells)
    file = (out or usual).with_suffix(".npz")
    check_writable(file)
    networks = {"segmentation_model": segmentation_model, "segmentation_weights": segmentation_weights,
                "parsing_model": parsing_model}
    maps = {"parsing_dir": parsing, "segmentation_dir": segmentation, "label_set": label_set,
            "device": choose_device(device), **{k: v for k, v in networks.items() if v is not None}}
    with plain_warnings():
        table = build_priors(ds, tool, grid=cells, splits=chosen, out=file, missing=missing, rebuild=rebuild,
                             progress=progress, **maps)
    sheet = file.with_suffix(".png")
    contact_sheet(ds, table, source=open_source(ds, tool, **maps)).save(sheet)
    typer.echo(f"{len(table)} priors, grid {grid}, {', '.join(chosen)}: {table.summary()}")
    typer.echo(f"{file}\nthe best and the worst: {sheet}")
    if table.reliable.mean() < 0.5:
        typer.echo("less than half are reliable: look at the sheet before you train")
    if file != usual:
        typer.echo(f"`reidkit train` looks for priors in {usual}")


def parse_grid(grid: str) -> tuple[int, int]:
    """(24, 8) of "24x8"."""
    rows, _, columns = grid.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise ReIDKitError(f"--grid {grid!r}: expected rows x columns, for example 24x8")
    return int(rows), int(columns)


@contextmanager
def plain_warnings():
    """Warnings as one line for the reader, without the line of code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *place, **more: typer.echo(f"reidkit: warning: {message}", err=True)
        yield


def main() -> None:
    """Entry point: an error of the kit is one line, not a traceback, and so is a warning."""
    warnings.formatwarning = lambda message, *where, **more: f"reidkit: warning: {message}\n"
    try:
        app()
    except ReIDKitError as e:
        typer.echo(f"reidkit: {e}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

