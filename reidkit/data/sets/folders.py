"""Where a data set lies below the folder that the reader names, and what was moved out of it."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from reidkit.errors import DatasetError

MANIFEST = "quarantine.csv"
QUARANTINE = "quarantine"  # below the data set's root; the parsers of list files look there


def places(root: str | Path, names: Sequence[str]) -> list[Path]:
    """Where a data set may lie: `root` itself, `root/<name>`, or `root/<name>/<name>`.

    names: the folder names that the usual archives unpack to, most official first.
    """
    root = Path(os.path.abspath(root))
    return [root, *(root / n for n in names), *(root / outer / inner for outer in names for inner in names)]


def find_home(
    root: str | Path,
    layouts: Sequence[Sequence[str]],
    names: Sequence[str],
    dataset: str,
    files: Collection[str] = (),
) -> tuple[Path, Sequence[str]]:
    """The first of the `places` that holds all folders of one of the layouts and all `files`; and that layout.

    Raises DatasetError: what the place that holds most of it lacks, or the places looked at and what `root` holds.
    """
    most, near = 0, None
    for place in places(root, names):
        absent = [name for name in files if not (place / name).is_file()]
        for layout in layouts:
            folders = [name for name in layout if not (place / name).is_dir()]
            if not absent and not folders:
                return place, layout
            present = len(files) + len(layout) - len(absent) - len(folders)
            if present > most:
                lacks = filter(None, (", ".join(absent), f"the folders {folders}" if folders else ""))
                most, near = present, (place, " and ".join(lacks))
    if near:
        problem = f"{near[0]} lacks {near[1]}; it holds {listing(near[0])}."
    else:
        wanted = " and with ".join(filter(None, (", ".join(files), " or ".join(map(", ".join, layouts)))))
        problem = f"found no folder with {wanted}. {looked_in(root, names)}"
    raise DatasetError(
        f"{dataset}: {problem} "
        "Unpack the data set there or name its own folder (--root FOLDER, in Python "
        f"load_dataset({dataset!r}, root=...))."
    )


def looked_in(root: str | Path, names: Sequence[str]) -> str:
    """A sentence for error messages: the `places`, and what `root` holds."""
    root = Path(os.path.abspath(root))
    return (
        f"Looked in {root}, in {', '.join(names)} below it, and one level deeper. {root} "
        + (f"holds {listing(root)}" if root.is_dir() else "does not exist")
        + "."
    )


def listing(folder: Path, limit: int = 12) -> str:
    """The first names of a folder, for error messages."""
    names = sorted(os.listdir(folder))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(map(repr, names[:limit])) or "nothing") + more


def quarantined(root: str | Path) -> set[str]:
    """Absolute paths that were moved to `<root>/quarantine`; list files still name them."""
    manifest = Path(root) / QUARANTINE / MANIFEST
    if not manifest.is_file():
        return set()
    return {original for original, moved in read_quarantine(manifest) if os.path.lexists(moved)}


def read_quarantine(manifest: Path) -> list[tuple[str, str]]:
    """(original, moved_to), absolute, of every line of a quarantine's manifest. DatasetError where it is damaged."""
    try:
        with manifest.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            listed = [(row.get("original") or "", row.get("moved_to") or "") for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"{manifest} cannot be read ({error}); restore it, or move the files back by hand"
        ) from error
    if not all(original and moved and "\0" not in original + moved for original, moved in listed):
        raise DatasetError(f"{manifest} is damaged: each line names a file and where it was moved to; restore it")
    here = os.path.abspath(manifest.parent)

    def absolute(path: str) -> str:
        return os.path.normpath(os.path.join(here, path))

    return [(absolute(original), absolute(moved)) for original, moved in listed]
