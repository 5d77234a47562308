"""Unpack a downloaded archive without trusting it: zip, tar (plain, gzip, bzip2, xz) and 7z.

An archive is a list of names and sizes written by someone else. It is read twice: first every entry is held against
`Limits` and the rules below, and a tar file read to its very end, where the checksums of gzip, bzip2 and xz are; then
it is written. No path may leave the destination; there are no links, no devices, no two files of one name.

Files go to `<destination>.unpacking`, which gets its final name in one step when all are there, and is removed
otherwise. One process at a time unpacks to a destination; another one waits, and uses what it then finds.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm.auto import tqdm

from reidkit.data.copies.formats import PLAIN_TAR, Limits, check_ratio, entries, reader_of, refusal
from reidkit.data.copies.imagefile import inspect_image
from reidkit.data.images import LITTER_FOLDERS
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.files import bring_to_disk, disk_error
from reidkit.locks import locked


class Unpacked(NamedTuple):
    """What `unpack` wrote, or found: the number of files and their bytes."""

    files: int
    total_bytes: int


def unpack(
    archive: str | Path,
    destination: str | Path,
    *,
    limits: Limits | None = None,
    keep: Callable[[str], bool] = lambda name: True,
    may_exist: bool = False,
    decode: bool = True,
    progress: bool = True,
) -> Unpacked:
    """Unpack an archive into the new folder `destination`, all of it or nothing.

    keep: which files to take, by relative posix path. may_exist: accept a destination that holds all of them already.
    decode: look at each image of a plain .tar, the one format that cannot tell by itself that it is damaged.
    Raises DatasetError, and leaves no `destination`, when the archive is damaged or breaks a rule of this file, when
    the disk does not take the files, or when `destination` holds something else.
    """
    archive, destination, limits = Path(archive), Path(destination).resolve(), limits or Limits()
    here = holds_something(destination)
    if here and not may_exist:
        raise DatasetError(f"{destination} already holds something; move it away, or use what it holds")
    with _told(archive, destination):
        files = plan(archive, limits, keep, progress)
        if not here:
            with locked(
                destination.with_name(f".{destination.name}.lock"),
                f"another process unpacks to {destination}; waiting for it",
            ):
                if not holds_something(destination):  # else the other one has done it
                    _fill(destination, archive, files, limits, decode, progress)
        _compare(destination, archive, files)
    return Unpacked(len(files), sum(files.values()))


def holds_something(path: Path) -> bool:
    """Whether there is anything but an empty folder."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def plan(archive: Path, limits: Limits, keep: Callable[[str], bool], progress: bool) -> dict[str, int]:
    """{relative path: bytes} of the files to unpack. DatasetError at the first entry that breaks a rule."""
    if not archive.is_file():
        raise DatasetError(f"archive {archive} is missing; download it from the data set's official page")
    files: dict[str, int] = {}
    packed, total = archive.stat().st_size, 0
    for number, entry in enumerate(entries(archive, limits, "reading", progress), 1):
        name = safe_name(entry.key, archive)
        total += entry.size
        if number > limits.files or total > limits.total_bytes:
            raise DatasetError(
                f"{archive} unpacks to more than {limits.files:,} files or {limits.total_bytes:,} "
                "bytes; no known data set does. Nothing was unpacked."
            )
        check_ratio(archive, total, packed, limits)
        check_ratio(archive, entry.size, entry.packed or packed, limits)
        if not entry.save or not LITTER_FOLDERS.isdisjoint(name.split("/")) or not keep(name):
            continue
        if name in files or not name:
            raise refusal(archive, entry.key, "the second one with its name")
        files[name] = entry.size
    for name in files:
        if any(str(parent) in files for parent in PurePosixPath(name).parents):
            raise refusal(archive, name, "inside another file")
    if not files:
        raise DatasetError(f"{archive} holds no files; download it again")
    return files


def safe_name(key: str, archive: str | Path = "archive") -> str:
    """The relative posix path of an entry ('' for the top folder itself).

    Raises DatasetError for absolute paths, drive letters, `..`, NUL and names that no disk can hold.
    """
    name = key.replace("\\", "/")
    parts = [p for p in name.split("/") if p not in ("", ".")]
    too_long = any(len(os.fsencode(p)) > 255 for p in parts if "\0" not in p)
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts or "\0" in name or too_long:
        raise refusal(archive, key, "would be written outside the destination or has an impossible name")
    return "/".join(parts)


@contextmanager
def _told(archive: Path, destination: Path) -> Iterator[None]:
    """Tell a disk that refuses from an archive that is damaged: every format has errors of its own for that."""
    try:
        yield
    except (ReIDKitError, MemoryError):
        raise
    except Exception as e:
        if isinstance(e, OSError) and e.errno:
            where = f" ({e.filename})" if e.filename else ""
            raise disk_error(f"cannot unpack {archive} to {destination}{where}", e, DatasetError) from e
        raise DatasetError(f"{archive} is damaged ({type(e).__name__}: {e}); download it again") from e


# ---- writing --------------------------------------------------------------------------------------------------------


def _fill(
    destination: Path, archive: Path, files: Mapping[str, int], limits: Limits, decode: bool, progress: bool
) -> None:
    """Write all files to a new folder, then give it its name. The caller holds the lock: leftovers are a dead run's."""
    work = destination.with_name(destination.name + ".unpacking")
    if work.exists():
        shutil.rmtree(work)
    work.mkdir()
    try:
        needed, free = sum(files.values()), shutil.disk_usage(work).free
        if needed > free:
            raise DatasetError(f"{archive} needs {needed:,} more bytes, the disk of {work} has {free:,}; make room")
        for entry in entries(archive, limits, "unpacking", progress, work):
            name = safe_name(entry.key, archive)
            if entry.save and name in files:
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                entry.save(work / name)
        _compare(work, archive, files)
        if decode and reader_of(archive) is PLAIN_TAR:
            _decode(work, archive, files, progress)
        if destination.exists():
            destination.rmdir()
        bring_to_disk()
        os.replace(work, destination)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _compare(folder: Path, archive: Path, files: Mapping[str, int]) -> None:
    """Hold the names and sizes on the disk against those of the archive. Raises DatasetError where one is missing.

    Other folders are fine: people move a data set up a level, and a quarantine moves broken images aside.
    """
    here = Counter(
        (name, os.path.getsize(os.path.join(place, name))) for place, _, names in os.walk(folder) for name in names
    )
    missing = [*(Counter((name.split("/")[-1], size) for name, size in files.items()) - here).elements()]
    if missing:
        raise DatasetError(
            f"{folder} lacks {len(missing):,} of the {len(files):,} files of {archive}, the first is "
            f"{missing[0][0]} with {missing[0][1]:,} bytes: it was not unpacked to its end, or is "
            "something else. Move it away and try again."
        )


def _decode(folder: Path, archive: Path, files: Mapping[str, int], progress: bool) -> None:
    """Decode all that begins like a JPEG or PNG image. Raises DatasetError that names the first damaged one."""

    def problem(name: str) -> str:
        with open(folder / name, "rb") as file:
            is_image = file.read(4).startswith((b"\xff\xd8\xff", b"\x89PNG"))
        return inspect_image(str(folder / name)).problem if is_image else ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = tqdm(pool.map(problem, files), "decoding", len(files), unit="img", disable=not progress)
        broken = [f"{name} ({what})" for name, what in zip(files, found) if what]
    if broken:
        raise DatasetError(
            f"{archive} is damaged: {len(broken):,} images cannot be decoded, the first is {broken[0]}; "
            "download it again. If its authors published it like that, unpack it with --no-decode "
            "(decode=False) and see `reidkit data check`."
        )
