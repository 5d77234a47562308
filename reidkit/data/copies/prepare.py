"""From a downloaded archive to a folder that `load_dataset` reads: unpack, load, compare with published counts.

`data_scripts/` holds one thin caller a data set. Nothing is downloaded here: every set has an official page
with conditions that the reader accepts there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from reidkit.data.copies.archives import Limits, holds_something, unpack
from reidkit.data.dataset import ReIDDataset
from reidkit.data.place import shown_root
from reidkit.data.sets.published import OFFICIAL_PAGES, compare_counts
from reidkit.errors import DatasetError, ReIDKitError, unknown_name
from reidkit.files import replacing

# data set -> (folder below the root, data set names to load afterwards)
TARGETS = {
    "market1501": ("market1501", ("market1501",)),
    "cuhk03": ("cuhk03", ("cuhk03-detected", "cuhk03-labeled")),
    "msmt17": ("msmt17", ("msmt17",)),
    "dukemtmc": ("dukemtmc", ("dukemtmc",)),
    "occluded-duke": ("occluded-duke", ("occluded-duke",)),
}
WITHDRAWN = ("dukemtmc", "occluded-duke")  # see duke.py


def prepare_dataset(
    name: str,
    archive: str | Path,
    root: str | Path,
    *,
    extra: Sequence[str | Path] = (),
    loads: Sequence[str] | None = None,
    limits: Limits | None = None,
    decode: bool = True,
    progress: bool = True,
) -> list[ReIDDataset]:
    """Unpack `archive` into `<root>/<name>` and load the result; CUHK03 gives two data sets.

    extra: files copied beside it (CUHK03's two protocol files). loads: which names to load (None: all).
    decode: see `unpack`. Safe to call again: a folder that is there already must hold all files of the archive, or is
    taken as it is where the archive is gone. Raises DatasetError as `unpack` and the set's parser do.
    """
    if name not in TARGETS:
        raise unknown_name("data set", name, TARGETS)
    folder, every = TARGETS[name]
    destination = Path(root) / folder
    if Path(archive).exists() or not holds_something(destination):
        unpack(archive, destination, limits=limits or Limits(), may_exist=True, decode=decode, progress=progress)
    for file in extra:
        with replacing(destination / Path(file).name, DatasetError) as temporary:
            shutil.copyfile(file, temporary)
    load_dataset = import_module("reidkit.data").load_dataset
    return [load_dataset(load, root=destination) for load in loads or every]


def describe(ds: ReIDDataset) -> tuple[str, bool]:
    """(text, ok): where the set lies and its counts beside the published ones."""
    counts = compare_counts(ds)
    ok = bool(counts.ok.all())
    verdict = "all counts as published" if ok else "COUNTS DIFFER from the published ones: this copy is not complete"
    return f"{ds.name} in {ds.root}\n{counts.to_string(index=False, na_rep='-')}\n{verdict}", ok


def official_page(name: str) -> str:
    """One line: where the data set comes from."""
    if name not in OFFICIAL_PAGES:
        raise unknown_name("data set", name, OFFICIAL_PAGES)
    return f"official page of {name}: {OFFICIAL_PAGES[name]}"


def run_script(name: str, archive: str | Path | None, root: str | Path, **options) -> int:
    """What each script does once its arguments are read; returns the exit code (0 fine, 1 counts differ).

    options: of `prepare_dataset`.
    """
    print(official_page(name))
    if archive is None:
        here = "With a copy that you already have" if name in WITHDRAWN else "Download the archive there, then"
        print(f"{here} call this script again with --archive FILE.")
        return 0
    results = [describe(ds) for ds in prepare_dataset(name, archive, root, **options)]
    print("\n\n".join(text for text, _ in results))
    return 0 if all(ok for _, ok in results) else 1


def script_parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every script of `data_scripts/` takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", help="the downloaded file (zip, tar or 7z); without it the official page is named")
    parser.add_argument("--root", default=shown_root(), help="where data sets live (default: %(default)s)")
    parser.add_argument(
        "--no-decode",
        dest="decode",
        action="store_false",
        help="do not look at the images of a plain .tar, which has no checksum",
    )
    return parser


def script_main(name: str, description: str) -> int:
    """A whole script for a set that comes as one archive: read the arguments, unpack, compare the counts."""
    args = script_parser(description).parse_args()
    try:
        return run_script(name, args.archive, args.root, decode=args.decode)
    except ReIDKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
