"""The options that several commands share, and what they mean."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from reidkit.data import DATASETS, ReIDDataset, load_dataset, loader_options
from reidkit.data.place import shown_root
from reidkit.errors import ReIDKitError, one_of, unknown_name
from reidkit.lifetime import SIGINT_CODE, SIGTERM_CODE
from reidkit.priors.source import TOOLS, Tool
from reidkit.training.seen import unrendered
from reidkit.training.settings import MAX_SEED, read_value

DATA = shown_root()  # where data sets live if no --root is typed; read once, when the command starts

SET_NAMES = "sidewalk, market1501, dukemtmc, ...; your own: folder, csv"
DatasetName = Annotated[str, typer.Option("--dataset", help=SET_NAMES)]
SetName = Annotated[str, typer.Argument(help=SET_NAMES)]
Root = Annotated[
    Path, typer.Option("--root", help="Folder that holds the data sets; of your own pictures their folder or CSV.")
]
Size = Annotated[
    str | None,
    typer.Option("--size", help="Sidewalk only: tiny, small (default), medium, many, siblings, unhidden or full."),
]
DataOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--data", help="key=value for the data set's loader; folder, csv: train_fraction, queries, seed, path, labels."
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="quick (2 CPU cores), long and hero (hours), from scratch; photo (CPU) and paper (GPU), pretrained; smoke "
        "(tests). Default: quick on sidewalk; on photographs paper with a CUDA GPU, else photo.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="key=value; model.* and loss.* reach the variant.")]
Progress = Annotated[bool, typer.Option("--progress/--no-progress", help="Show bars of progress.")]
Validation = Annotated[bool, typer.Option("--validation", help="Hold out training identities and test on those.")]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        help="Keep decoded images and priors here instead of in the data set's folder (data on a read-only disk).",
    ),
]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep decoded images in one file.")]
NoCameraRule = Annotated[
    bool,
    typer.Option(
        "--no-camera-rule", help="Matches under the query's own camera count: for sets without cameras, or with one."
    ),
]
PriorTool = Annotated[
    str | None, typer.Option(help="sidewalk, files, torchvision+segformer; default: files beside the images")
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Capture the training step with torch.compile; default: with the preset paper on a CUDA GPU.",
        show_default=False,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        help="Threads that decode the images once into the cache and cut batches from it ahead of the network; "
        "with --no-cache, processes that decode each time. A cache that fits on the GPU needs none in training.",
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of torch; default: one a core.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of initial weights, batches and augmentation.")]
Seeds = Annotated[int, typer.Option(min=1, help="Runs of each row, one a seed.")]
FirstSeed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The seeds count up from this one.")]
EvaluateEvery = Annotated[int, typer.Option(min=0, help="Epochs between tests; 0: one test, at the end.")]
Suite = Annotated[str, typer.Argument(help="mpn-table1, cgpn-table3, ...: a wrong name lists them all.")]


def data_options(name: str, size: str | None, pairs: list[str] | None = None) -> dict[str, Any]:
    """`--size` and `--data key=value` as options of `load_dataset`; Sidewalk is "small" where no size was typed."""
    if name == "sidewalk":
        typed = typed_options(name, pairs)
        if size is not None and typed.get("size", size) != size:
            raise ReIDKitError(
                f"the size of sidewalk is given twice, as --size {size} and as --data size={typed['size']}: leave one "
                "away"
            )
        return {"size": size or "small", **typed}
    if size is not None:
        raise ReIDKitError(
            f"--size {size} chooses among the renderings of sidewalk; {name} has no sizes: leave it away"
        )
    return typed_options(name, pairs)


def typed_options(name: str, pairs: list[str] | None) -> dict[str, Any]:
    """["seed=1"] as options of a data set's loader, each of the type that the loader says."""
    texts, kinds = parse_settings(pairs, "--data"), loader_options(name)
    for key in texts:
        if key not in kinds:
            raise unknown_name(f"option of {name}", key, kinds)
    return {key: read_value(key, text, kinds[key]) for key, text in texts.items()}


def loader_defaults(name: str) -> dict[str, Any]:
    """{option: what a data set's loader takes where it is not typed}."""
    module, function, _ = DATASETS[name]
    found = inspect.signature(getattr(import_module(module), function)).parameters.values()
    return {p.name: p.default for p in found if p.default is not p.empty}


def tool_of(name: str | None) -> Tool | None:
    """The prior tool that `--prior-tool` names; UnknownNameError for another name."""
    return None if name is None else one_of("prior tool", name, TOOLS)


def train_arguments(options: Mapping[str, Any]) -> list[str]:
    """What every training of a suite gets on its command line, of the options of `ablate` or `reproduce`."""
    valued = ("dataset", "root", "device", "workers", "evaluate_every", "size", "prior_tool", "cache_dir")
    switches = {"--validation": "validation", "--compile": "compile_net"}
    words = [
        word
        for key in valued
        if options.get(key) is not None
        for word in (f"--{key.replace('_', '-')}", str(options[key]))
    ]
    words += [word for pair in options.get("options") or [] for word in ("--data", pair)]
    words += [switch for switch, key in switches.items() if options[key]]
    words += ["--no-compile"] if options["compile_net"] is False else []
    return words + ([] if options["cache"] else ["--no-cache"])


def going_on_later(more: str = "") -> AbstractContextManager[None]:
    """`interruptible`, for work that a later call does not do again. more: the end of the line."""
    return interruptible(f"what is finished is kept, and the same command goes on from there{more}")


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Ctrl-C and `kill` end the command with a line that says what is kept, exit code 130 or 143."""
    codes = [SIGINT_CODE]

    def terminated(*_) -> None:
        codes[0] = SIGTERM_CODE
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminated) if in_main else None
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {kept}", err=True)
        sys.stdout.flush()
        os._exit(codes[0])  # a thread may be waiting for another process's training: sys.exit would wait for it too
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def open_dataset(
    name: str,
    root: Path,
    size: str | None,
    validation: bool = False,
    cache_dir: Path | None = None,
    options: list[str] | None = None,
) -> ReIDDataset:
    """The data set that the options of a command name."""
    dataset = load_dataset(name, root=root, cache_dir=cache_dir, **data_options(name, size, options))
    return dataset.validation_split() if validation else dataset


def tested_set(
    settings: dict[str, Any],
    name: str | None,
    root: Path | None,
    size: str | None,
    options: list[str] | None,
    cache_dir: Path | None,
) -> ReIDDataset:
    """The data set that a run is tested on: the one that was typed (--dataset), else the one that it was trained on."""
    if name is None:
        return dataset_of(settings, root, cache_dir, size, options)
    if root is not None:
        check_root(name, root)
    return open_dataset(name, root or DATA, size, cache_dir=cache_dir, options=options)


def dataset_of(
    settings: dict,
    root: Path | None = None,
    cache_dir: Path | None = None,
    size: str | None = None,
    changes: list[str] | None = None,
) -> ReIDDataset:
    """The data set that a run was trained on, from where it lay, or below `root`; of Sidewalk another `size`.

    changes: `--data key=value` that replace the options it was loaded with. ReIDKitError where `root` does not hold the
    set already: it is another place for what is there, not one to render into.
    """
    source = settings["source"]
    if source is None:
        raise ReIDKitError(
            f"the run does not say how its data set {settings['dataset']!r} was loaded (it was made by an older kit, "
            "or in Python from tables of your own): name it with --dataset and --root, or go on in Python"
        )
    place = root or settings.get("root") or DATA
    typed = typed_options(source["name"], changes) if size is None else data_options(source["name"], size, changes)
    options = source["options"] | typed
    if root is not None and (lacking := unrendered(source["name"], root, options)):
        raise ReIDKitError(f"--root {root} does not hold the set: {lacking}; name its folder, or leave --root away")
    dataset = load_dataset(source["name"], root=place, cache_dir=cache_dir, **options)
    return dataset.validation_split() if settings["level"] == "validation" else dataset


def check_root(name: str, root: Path) -> None:
    """ReIDKitError for a typed root that is not there: a misspelt one is no place to render into."""
    if not root.exists():
        raise ReIDKitError(f"--root {root}: no such folder; name the one that holds {name}")


def seeds_of(first: int, count: int) -> range:
    """`count` seeds from `first` on. ReIDKitError where the last would be larger than a seed can be."""
    if (last := first + count - 1) > MAX_SEED:
        raise ReIDKitError(
            f"--first-seed {first} --seeds {count}: the last seed would be {last}, the largest there is is {MAX_SEED}"
        )
    return range(first, first + count)


def given(ctx: typer.Context) -> set[str]:
    """The parameters that were typed, as opposed to those that have their defaults."""
    return {name for name in ctx.params if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")}


def parse_settings(pairs: list[str] | None, option: str = "--set") -> dict[str, str]:
    """["lr=0.1", "model.num_parts=4"] as a dictionary; option: what messages call it."""
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            example = "model.num_parts=4" if option == "--set" else "seed=1"
            raise ReIDKitError(f"{option} {pair!r}: expected key=value, for example {option} {example}")
        if key in settings and settings[key] != value:
            raise ReIDKitError(f"{option} {key} is given twice, as {settings[key]!r} and as {value!r}: leave one away")
        settings[key] = value
    return settings


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
