"""The options that several commands share, and what they mean."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reidkit.data import ReIDDataset, load_dataset
from reidkit.errors import ReIDKitError, one_of
from reidkit.priors.source import TOOLS, Tool
from reidkit.training.settings import MAX_SEED

DatasetName = Annotated[str, typer.Option("--dataset", help="sidewalk, market1501, dukemtmc, cuhk03-detected, ...")]
Root = Annotated[Path, typer.Option("--root", help="Folder that holds the data sets.")]
Size = Annotated[
    str | None, typer.Option("--size", help="Sidewalk only: tiny, small (default), many, siblings or full.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="key=value; model.* and loss.* reach the variant.")]
Progress = Annotated[bool, typer.Option("--progress/--no-progress")]
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
Workers = Annotated[int, typer.Option(min=0, help="Processes that decode images.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch; default: one a core.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED)]


def size_option(name: str, size: str | None) -> dict[str, str]:
    """`--size` as an option of `load_dataset`: of Sidewalk "small" where it was not typed, of other sets nothing."""
    if name == "sidewalk":
        return {"size": size or "small"}
    if size is not None:
        raise ReIDKitError(
            f"--size {size} chooses among the renderings of sidewalk; {name} has no sizes: leave it away"
        )
    return {}


def tool_of(name: str | None) -> Tool | None:
    """The prior tool that `--prior-tool` names; UnknownNameError for another name."""
    return None if name is None else one_of("prior tool", name, TOOLS)


def open_dataset(
    name: str, root: Path, size: str | None, validation: bool = False, cache_dir: Path | None = None
) -> ReIDDataset:
    """The data set that the options of a command name."""
    dataset = load_dataset(name, root=root, cache_dir=cache_dir, **size_option(name, size))
    return dataset.validation_split() if validation else dataset


def dataset_of(
    settings: dict, root: Path | None = None, cache_dir: Path | None = None, size: str | None = None
) -> ReIDDataset:
    """The data set that a run was trained on, from where it lay, or below `root`; of Sidewalk another `size`."""
    source = settings["source"]
    if source is None:
        raise ReIDKitError(
            f"the run does not say how its data set {settings['dataset']!r} was loaded (it was made by an older kit, "
            "or in Python from tables of your own): name it with --dataset and --root, or go on in Python"
        )
    place = root or settings.get("root") or Path("data")
    options = source["options"] | ({} if size is None else size_option(source["name"], size))
    dataset = load_dataset(source["name"], root=place, cache_dir=cache_dir, **options)
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
        if key in settings and settings[key] != value:
            raise ReIDKitError(f"--set {key} is given twice, as {settings[key]!r} and as {value!r}: leave one away")
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
