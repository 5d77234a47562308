"""`reidkit search` and `reidkit attention`: a trained network and pictures of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidkit.cli.options import Device, Progress, going_on_later, plain_warnings
from reidkit.errors import ReIDKitError, one_of
from reidkit.files import check_writable, replacing

Run = Annotated[str, typer.Argument(help="A run folder, or a shipped network such as mpn.")]
Detect = Annotated[
    bool, typer.Option("--detect", help="The picture is no crop: find the largest person with torchvision's detector.")
]
DetectorWeights = Annotated[
    Path | None, typer.Option("--detector-weights", help="State dict of the detector; default: torchvision's own.")
]


def search(
    run: Run,
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="One picture or more.")],
    gallery: Annotated[Path, typer.Option("--gallery", help="Folder of pictures, nested as it may be.")],
    top: Annotated[int, typer.Option(min=1, help="Length of the lists.")] = 20,
    out: Annotated[Path, typer.Option(help="The page: one HTML file with its pictures inside.")] = Path("search.html"),
    index: Annotated[
        str, typer.Option("--index", help="exact; ivf or hnsw (FAISS), with the recall they cost.")
    ] = "exact",
    cache_dir: Annotated[
        Path | None, typer.Option("--cache-dir", help="Keep the index here instead of in the gallery.")
    ] = None,
    attention: Annotated[bool, typer.Option("--attention/--no-attention", help="Part maps of query and match.")] = True,
    method: Annotated[str, typer.Option(help="Of the part maps: gradcam, hirescam, ...")] = "gradcam",
    detect: Detect = False,
    detector_weights: DetectorWeights = None,
    device: Device = "auto",
    progress: Progress = True,
) -> None:
    """Rank the pictures of a folder by their likeness to yours, and write the list as a page."""
    from reidkit.attention.cam import METHODS
    from reidkit.search import KINDS, open_index, open_network, open_pictures, write_page
    from reidkit.search import search as search_index
    from reidkit.search.nearest import check_kind
    from reidkit.search.page import check_method

    kind, way = one_of("index", index, KINDS), one_of("CAM method", method, METHODS) if attention else None
    check_kind(kind)
    check_writable(out)  # now, not after the search
    _need_grad_cam(check_method, way)
    pictures = open_pictures(queries, _detector(detect, detector_weights))
    with going_on_later(), plain_warnings():
        network = open_network(run, device)
        opened = open_index(network, gallery, cache_dir=cache_dir, progress=progress)
        found = search_index(network, opened, pictures, top=top, kind=kind)
        write_page(out, network, found, method=way)
    _tell(pictures)
    for query, hits in zip(found.queries, found.hits):
        typer.echo(f"{query.name}:")
        for hit in hits:
            typer.echo(f"{hit.rank:>4}  {hit.score:.4f}  {_line(hit.name)}")
    listing = opened.listing
    typer.echo(
        f"{len(opened):,} pictures searched ({opened.read:,} read now), {len(opened.broken):,} skipped, "
        f"{listing.ignored + listing.own:,} other files"
    )
    for note in found.notes:
        typer.echo(note)
    typer.echo(out)


def attention(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE [OTHER]", help="A picture, or two to compare.")],
    out: Annotated[Path, typer.Option(help="The sheet, a PNG.")] = Path("sheet.png"),
    method: Annotated[str, typer.Option(help="gradcam, hirescam, ...")] = "gradcam",
    whole_picture: Annotated[
        bool, typer.Option("--whole-picture", help="Networks that need a prior: the person fills the picture.")
    ] = False,
    detect: Detect = False,
    detector_weights: DetectorWeights = None,
    device: Device = "auto",
) -> None:
    """Draw what each part of a network looks at in a picture; of two pictures also what makes them alike."""
    from reidkit.attention.cam import METHODS
    from reidkit.search import attention_sheet, open_network, open_pictures

    if out.suffix.lower() != ".png":
        raise ReIDKitError(f"--out {out}: expected the name of a PNG, such as sheet.png")
    way = one_of("CAM method", method, METHODS)
    check_writable(out)
    pictures = open_pictures(images, _detector(detect, detector_weights))
    network = open_network(run, device)
    sheet = attention_sheet(network, pictures, method=way, whole_picture=whole_picture)
    with replacing(out) as file:
        sheet.save(file, "PNG")
    _tell(pictures)
    typer.echo(out)


def _detector(detect: bool, weights: Path | None):
    """The person detector where it is asked for."""
    if not detect:
        if weights is not None:
            raise ReIDKitError("--detector-weights is for --detect: add it, or leave the weights away")
        return None
    from reidkit.data.people import load_detector

    return load_detector(weights)


def _need_grad_cam(check_method, way) -> None:
    """The error of a missing package, with the option that does without it."""
    try:
        check_method(way)
    except ReIDKitError as error:
        raise ReIDKitError(f"{error}; or search without maps: --no-attention") from error


def _tell(pictures) -> None:
    """What is to be known about the pictures."""
    for picture in pictures:
        if picture.note:
            typer.echo(f"reidkit: {picture.note}", err=True)


def _line(name: str) -> str:
    from reidkit.reporting.pictures import printable

    return printable(name)
