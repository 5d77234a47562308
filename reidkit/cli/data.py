"""`reidkit data`, `sidewalk` and `priors`: what a training needs on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reidkit.cli.options import (
    DATA,
    DataOptions,
    Device,
    Progress,
    Root,
    SetName,
    Size,
    data_options,
    going_on_later,
    open_dataset,
    parse_grid,
    plain_warnings,
)
from reidkit.errors import ReIDKitError, one_of
from reidkit.files import check_writable
from reidkit.training.settings import MAX_SEED


def data_check(
    name: SetName,
    root: Root = DATA,
    size: Size = None,
    options: DataOptions = None,
    decode: Annotated[bool, typer.Option(help="Decode every pixel, or read headers only.")] = True,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads; default: one a core.")] = None,
    quarantine: Annotated[bool, typer.Option(help="Move broken images aside (reversible).")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the tables; default <root>/checks/<name>, or in the cache folder.")
    ] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Where files made from the data go, if not beside it.")] = None,
) -> None:
    """Compare a data set on disk with its published counts; find broken and duplicate images."""
    from reidkit.data.copies.check import check_command

    if out is not None:  # a folder that was named is refused now, not after the check
        if out.is_file():
            raise ReIDKitError(f"--out {out} is a file; the tables go into a folder: name another one")
        check_writable(out / "images.csv")
    raise typer.Exit(
        check_command(
            name,
            root,
            decode=decode,
            workers=workers,
            quarantine=quarantine,
            out=out,
            cache_dir=cache_dir,
            **data_options(name, size, options),
        )
    )


def data_restore(name: SetName, root: Root = DATA, size: Size = None, options: DataOptions = None) -> None:
    """Move the images back that `data check --quarantine` moved aside."""
    from reidkit.data.copies.quarantine import restore_command

    typer.echo(f"{name}: {restore_command(name, root, **data_options(name, size, options))} files moved back")


def sidewalk_render(
    size: Size = None,
    out: Annotated[Path, typer.Option(help="Folder that will hold the data set's folder.")] = DATA,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Another seed: other people.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
) -> None:
    """Render the Sidewalk data set."""
    from reidkit.data.sidewalk import render_sidewalk

    with going_on_later():
        folder = render_sidewalk(out, size or "small", seed=seed, workers=workers)
    typer.echo(f"rendered {folder}")


def priors_build(
    name: SetName,
    root: Root = DATA,
    size: Size = None,
    options: DataOptions = None,
    tool: Annotated[str, typer.Option(help="sidewalk, files, torchvision+segformer")] = "files",
    grid: Annotated[str, typer.Option(help="rows x columns of the feature map")] = "24x8",
    splits: Annotated[
        str, typer.Option(help="of train, query, gallery and test levels, such as query,gallery; or all")
    ] = "train",
    parsing: Annotated[Path | None, typer.Option(help="files: folder of parsing maps")] = None,
    segmentation: Annotated[Path | None, typer.Option(help="files: folder of segmentation maps")] = None,
    label_set: Annotated[str | None, typer.Option(help="files: lip (default), atr or pascal")] = None,
    segmentation_model: Annotated[str | None, typer.Option(help="networks: a torchvision segmentation network")] = None,
    segmentation_weights: Annotated[
        str | None, typer.Option(help="networks: a torchvision weights name, or the path of a state dict")
    ] = None,
    parsing_model: Annotated[str | None, typer.Option(help="networks: a SegFormer on the hub, or its folder")] = None,
    missing: Annotated[str, typer.Option(help="error, or unreliable")] = "error",
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for derived files, if the data set's own cannot be written to.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The prior file (.npz), or a folder for it; default: where train looks.")
    ] = None,
    device: Device = "auto",
    rebuild: Annotated[bool, typer.Option(help="Make kept priors anew.")] = False,
    progress: Progress = True,
) -> None:
    """Turn parsing and segmentation maps into coarse priors: one cached file, and a sheet of the best and worst."""
    from reidkit.priors import build_priors, default_file, open_source, prior_sheet
    from reidkit.priors.build import check_writable, paths_by_split
    from reidkit.priors.labels import LABEL_SETS
    from reidkit.priors.missing import by_split
    from reidkit.priors.source import MISSING, TOOLS, check_choices
    from reidkit.training.device import choose_device

    tool, missing = one_of("prior tool", tool, TOOLS), one_of("treatment of missing maps", missing, MISSING)
    maps: dict[str, Any] = {
        "parsing_dir": parsing,
        "segmentation_dir": segmentation,
        "label_set": None if label_set is None else one_of("label set", label_set, LABEL_SETS),
        "segmentation_model": segmentation_model,
        "segmentation_weights": segmentation_weights,
        "parsing_model": parsing_model,
    }
    check_choices(tool, maps=maps)
    maps["device"], cells = choose_device(device), parse_grid(grid)
    ds = open_dataset(name, root, size, cache_dir=cache_dir, options=options)
    chosen = [split.strip() for split in splits.split(",")]
    paths = paths_by_split(ds, chosen)  # an unknown split is refused now
    usual = default_file(ds, tool, cells)
    file = usual if out is None else out / usual.name if out.is_dir() else out
    file = file if file.suffix == ".npz" else file.with_name(f"{file.name}.npz")
    check_writable(file)
    with going_on_later(), plain_warnings():
        table = build_priors(
            ds, tool, grid=cells, splits=chosen, out=file, missing=missing, rebuild=rebuild, progress=progress, **maps
        )
    sheet = file.with_suffix(".png")
    prior_sheet(ds, table, source=open_source(ds, tool, **maps)).save(sheet)
    typer.echo(f"{len(table)} priors, grid {grid}, {', '.join(chosen)}: {table.summary()}")
    if table.missing:
        counts = (f"{split} {n} of {of}" for split, n, of in by_split(paths, set(table.missing)) if n)
        typer.echo(f"without maps: {', '.join(counts)}; the first is {table.missing[0]}")
    typer.echo(f"{file}\nthe worst, why, and the best: {sheet}")
    if table.reliable.mean() < 0.5:
        typer.echo("less than half are reliable: look at the sheet before you train")
    if file != usual:
        typer.echo(f"`reidkit train` looks for priors in {usual}")
