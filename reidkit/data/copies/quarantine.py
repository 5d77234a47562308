"""Move unusable files out of a data set, so that it loads, and move them back.

<quarantine>/quarantine.csv              original, moved_to, problem: written before each move
<quarantine>/<path relative to the data set's root>
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from reidkit.errors import DatasetError

MANIFEST = "quarantine.csv"
FOLDER = "quarantine"  # below the data set's root; the parsers of list files look there


def quarantine_files(files: Iterable[tuple[str, str]], root: str | Path, quarantine: str | Path) -> int:
    """Move (path, problem) pairs to `quarantine`, keeping their place below `root`; how many moved.

    Nothing is overwritten; missing files are passed over. Raises DatasetError for a quarantine folder inside
    one of the image folders, where a parser would find the files again, and for a file that cannot be moved.
    """
    root, quarantine = Path(os.path.abspath(root)), Path(os.path.abspath(quarantine))
    found = [(Path(p), problem) for p, problem in files if os.path.lexists(p)]
    if any(path.parent == quarantine or path.parent in quarantine.parents for path, _ in found):
        raise DatasetError(f"quarantine folder {quarantine} lies inside an image folder; choose one outside of it")
    if not found:
        return 0
    quarantine.mkdir(parents=True, exist_ok=True)
    manifest = quarantine / MANIFEST
    is_new = not manifest.exists()
    with manifest.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        if is_new:
            table.writerow(("original", "moved_to", "problem"))
        for path, problem in files:
            target = _free_name(quarantine / os.path.relpath(path, root).replace(os.pardir, "up"))
            table.writerow((path, target, problem))
            file.flush()
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target)
            except OSError as error:
                raise DatasetError(
                    f"cannot move {path} to {target} ({error}); what was moved before, `restore_quarantine` moves back"
                ) from error
    return len(found)


def quarantined(root: str | Path) -> set[str]:
    """Absolute paths that were moved to `<root>/quarantine`; list files still name them."""
    manifest = Path(root) / FOLDER / MANIFEST
    if not manifest.is_file():
        return set()
    with manifest.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["original"] for row in csv.DictReader(file) if os.path.lexists(row["moved_to"])}


def restore_quarantine(quarantine: str | Path) -> int:
    """Move everything in a quarantine folder back to where it came from; how many moved.

    Raises DatasetError when there is no manifest, or a file would overwrite another.
    """
    manifest = Path(quarantine) / MANIFEST
    if not manifest.is_file():
        raise DatasetError(f"{quarantine} holds no {MANIFEST}; it is no quarantine folder of this kit")
    with manifest.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = [row for row in csv.DictReader(file) if os.path.lexists(row["moved_to"])]
    taken = [row["original"] for row in rows if os.path.lexists(row["original"])]
    if taken:
        raise DatasetError(f"{taken[0]} exists again; move it away before restoring {quarantine}")
    for row in rows:
        os.makedirs(os.path.dirname(row["original"]), exist_ok=True)
        shutil.move(row["moved_to"], row["original"])
    manifest.unlink()
    return len(rows)


def _free_name(path: Path) -> Path:
    """`path`, or `path` with a number where something has that name."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        candidate, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return candidate
