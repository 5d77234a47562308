"""Move unusable files out of a data set, so that it loads (`reidkit data check --quarantine`), and move them back
(`reidkit data restore`).

<quarantine>/quarantine.csv              original, moved_to, problem: written before each move. Paths are relative to
                                         its folder where that lies in the data set, which may then be moved
<quarantine>/<path relative to the data set's root>
"""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from reidkit.data.sets.folders import MANIFEST, QUARANTINE, read_quarantine
from reidkit.errors import DatasetError
from reidkit.files import disk_error


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
    manifest = quarantine / MANIFEST
    target, movable = manifest, root in quarantine.parents
    try:
        quarantine.mkdir(parents=True, exist_ok=True)
        is_new = not manifest.exists()
        with manifest.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file)
            if is_new:
                table.writerow(("original", "moved_to", "problem"))
            for path, problem in found:
                target = _free_name(quarantine / os.path.relpath(path, root).replace(os.pardir, "up"))
                places = (path, target)
                table.writerow((*(os.path.relpath(p, quarantine) if movable else p for p in places), problem))
                file.flush()
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target)
    except OSError as error:
        raise DatasetError(
            f"cannot move broken images to {target} ({error}); what was moved before, `restore_quarantine` moves back"
        ) from error
    return len(found)


def restore_quarantine(quarantine: str | Path) -> int:
    """Move everything in a quarantine folder back to where it came from; how many files moved.

    Files that were deleted from the quarantine meanwhile are passed over. Raises DatasetError, before anything moves,
    when there is no manifest, when a file would overwrite another, or when the data set was moved since.
    """
    manifest = Path(quarantine) / MANIFEST
    if not manifest.is_file():
        raise DatasetError(f"{quarantine} holds no {MANIFEST}; it is no quarantine folder of this kit")
    listed = read_quarantine(manifest)
    rows = [(original, moved) for original, moved in listed if os.path.lexists(moved)]
    if listed and not rows and not any(os.path.lexists(original) for original, _ in listed):
        raise DatasetError(
            f"{listed[0][1]}, which {manifest} names, does not exist: if a folder was moved or renamed "
            "since, give it its old place back first"
        )
    times = Counter(original for original, _ in rows)
    if taken := [original for original, n in times.items() if n > 1 or os.path.lexists(original)]:
        raise DatasetError(
            f"{taken[0]} exists again, or was moved to {quarantine} twice; move one of the two away before restoring"
        )
    try:
        for original, moved in rows:
            os.makedirs(os.path.dirname(original), exist_ok=True)
            shutil.move(moved, original)
        manifest.unlink()
    except OSError as error:  # what has moved has moved; the manifest still lists the rest
        raise disk_error(f"cannot restore {quarantine}", error, DatasetError) from error
    return len(rows)


def restore_command(name: str, root: str | Path, **options) -> int:
    """All of `reidkit data restore NAME`: move the files back that `data check NAME --quarantine` moved; how many.

    root: as for `load_dataset`, or the data set's own folder. options: of the set's loader (`size` of Sidewalk).
    Raises DatasetError as `restore_quarantine` does, and where nothing is in quarantine.
    """
    from reidkit.data import load_dataset

    place = Path(root)
    if not (place / QUARANTINE / MANIFEST).is_file():
        try:
            place = load_dataset(name, root=root, **options).root
        except DatasetError as error:  # too much is in quarantine
            raise DatasetError(
                f"{error} To restore a data set that does not load, name its own folder, the one that "
                f"holds {QUARANTINE}/, with --root"
            ) from error
    if not (place / QUARANTINE / MANIFEST).is_file():
        raise DatasetError(
            f"{name} in {place}: nothing is in quarantine ({place / QUARANTINE / MANIFEST} does not exist)"
        )
    return restore_quarantine(place / QUARANTINE)


def _free_name(path: Path) -> Path:
    """`path`, or `path` with a number where something has that name."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        candidate, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return candidate
