"""Unpack a downloaded archive without trusting it: zip, tar (any compression) and 7z.

An archive is a list of names and sizes written by someone else. Before one byte is written, every member is
looked at: no path may leave the destination, no links, no devices, no two members with one name, no more
files or bytes than `Limits` allow. While bytes arrive, a member may not grow past the size it declared.

Work goes to `<destination>.unpacking`; each finished file gets its name by a rename, so a killed run goes on
where it stopped; when all counts agree, the folder gets its final name in one step.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from reidkit.data.copies.archive_formats import Member, open_archive, refuse
from reidkit.errors import DatasetError, ReIDKitError

CHUNK = 1 << 20
LITTER = ("__MACOSX",)  # resource forks that macOS adds to zip files


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to. The largest set, MSMT17, has 126,441 images in a few GB.

    ratio: unpacked bytes / archive bytes, looked at only where more than `ratio_floor` bytes would be written
        (photos hardly compress: a true archive of them is near 1).
    """

    files: int = 500_000
    total_bytes: int = 64 << 30
    ratio: float = 100.0
    ratio_floor: int = 256 << 20


@dataclass(frozen=True)
class ExtractReport:
    """What `extract_archive` did. resumed: files that an earlier, broken-off run had already written."""

    destination: Path
    files: int
    total_bytes: int
    resumed: int
    seconds: float


def plan(archive: Path, members: Iterable[Member], limits: Limits, keep: Callable[[str], bool]) -> list[Member]:
    """The members to unpack, all checked. Raises DatasetError at the first one that breaks a rule."""
    packed = max(archive.stat().st_size, 1)
    chosen: dict[str, Member] = {}
    total = 0
    for member in members:
        if member.name.split("/")[0] in LITTER or not keep(member.name):
            continue
        if member.name in chosen or not member.name:
            raise refuse(archive, member.key, "the second one with its name")
        chosen[member.name] = member
        total += member.size
        if len(chosen) > limits.files or total > limits.total_bytes:
            raise DatasetError(
                f"{archive} unpacks to more than {limits.files:,} files or {limits.total_bytes:,} bytes; no known "
                "data set does. Nothing was unpacked."
            )
        if total > limits.ratio_floor and total / packed > limits.ratio:
            raise DatasetError(
                f"{archive}: {packed:,} bytes unpack to more than {total:,}, a ratio over {limits.ratio:g}; "
                "photos do not compress like that. Nothing was unpacked."
            )
    for name, member in chosen.items():
        parents = name.split("/")[:-1]
        if any("/".join(parents[: i + 1]) in chosen for i in range(len(parents))):
            raise refuse(archive, member.key, "inside another file")
    if not chosen:
        raise DatasetError(f"{archive} holds no files; download it again")
    return list(chosen.values())


class StagingFolder:
    """The folder being filled. A file grows under a temporary name and gets its own by a rename."""

    def __init__(self, folder: Path, parts: Path, limits: Limits, bar: tqdm) -> None:
        self.folder, self.parts, self.limits, self.bar = folder, parts, limits, bar
        self.written, self.lock = 0, threading.Lock()
        self.finished: set[str] = set()
        for place in (folder, parts):
            place.mkdir(parents=True, exist_ok=True)

    def has(self, member: Member) -> bool:
        """Whether an earlier run finished this file: the same size, and the same CRC where there is one."""
        path = self.folder / member.name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != member.size:
            return False
        return member.crc is None or _crc(path) == member.crc

    def begin(self, member: Member) -> None:
        """Start (again) with an empty file."""
        self._part(member).write_bytes(b"")

    def append(self, member: Member, chunk: bytes) -> None:
        """Write a chunk. Raises DatasetError where a member outgrows its declared size."""
        with self.lock:
            self.written += len(chunk)
            self.bar.update(len(chunk))
        part = self._part(member)
        if part.stat().st_size + len(chunk) > member.size or self.written > self.limits.total_bytes:
            raise DatasetError(
                f"member {member.key!r} unpacks to more than the {member.size:,} bytes that it declares; "
                "the archive is damaged or made to harm. Download it again."
            )
        with part.open("ab") as file:
            file.write(chunk)

    def finish(self, member: Member) -> None:
        """Check size and checksum, then give the file its name. Raises DatasetError where they differ."""
        if member.name in self.finished:
            return
        part = self._part(member)
        size = part.stat().st_size if part.exists() else 0
        if size != member.size or (member.crc is not None and _crc(part) != member.crc):
            raise DatasetError(
                f"member {member.key!r}: {size:,} of {member.size:,} bytes arrived, or the checksum differs; "
                "the archive is damaged. Download it again."
            )
        path = self.folder / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, path)
        self.finished.add(member.name)

    def copy(self, member: Member, read: Callable[[int], bytes]) -> None:
        """One member from a reader function."""
        self.begin(member)
        while chunk := read(CHUNK):
            self.append(member, chunk)
        self.finish(member)

    def _part(self, member: Member) -> Path:
        return self.parts / hashlib.blake2b(os.fsencode(member.name), digest_size=12).hexdigest()


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def extract_archive(
    archive: str | Path,
    destination: str | Path,
    *,
    limits: Limits = Limits(),
    keep: Callable[[str], bool] = lambda name: True,
    progress: bool = True,
) -> ExtractReport:
    """Unpack an archive into the new folder `destination`.

    keep: which members to take, by relative posix path.
    A run that is killed goes on where it stopped when called again with the same archive.
    Raises DatasetError, and leaves no `destination`, when the archive is damaged or breaks a rule of this
    file, when `destination` already holds something, or when the disk is too small.
    """
    start = time.perf_counter()
    archive, destination = Path(archive), Path(os.path.abspath(destination))
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DatasetError(f"{destination} already holds something; move it away, or use what it holds")
    try:
        reader = open_archive(archive)
        members = plan(archive, reader.members(), limits, keep)
        total = sum(m.size for m in members)
        work = _work_folder(archive, destination)
        with tqdm(total=total, unit="B", unit_scale=True, desc=archive.name, disable=not progress) as bar:
            staging = StagingFolder(work / "files", work / "parts", limits, bar)
            todo = {m.key: m for m in members if not staging.has(m)}
            left = sum(m.size for m in todo.values())
            bar.update(total - left)
            _check_disk(work, left, archive)
            if todo:
                reader.unpack(todo, staging)
    except ReIDKitError:
        raise
    except Exception as error:  # each format has its own family of errors for damaged bytes
        raise DatasetError(f"{archive} is damaged ({type(error).__name__}: {error}); download it again") from error
    _verify(archive, work / "files", members)
    if destination.exists():
        destination.rmdir()
    os.replace(work / "files", destination)
    shutil.rmtree(work)
    return ExtractReport(destination, len(members), total, len(members) - len(todo), time.perf_counter() - start)


def _work_folder(archive: Path, destination: Path) -> Path:
    """`<destination>.unpacking`, emptied first where it belongs to another archive."""
    work = destination.with_name(destination.name + ".unpacking")
    about = archive.stat()
    source = json.dumps({"archive": archive.name, "bytes": about.st_size, "modified": about.st_mtime_ns})
    note = work / "source.json"
    if work.exists() and not (note.is_file() and note.read_text() == source):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(source)
    return work


def _check_disk(work: Path, needed: int, archive: Path) -> None:
    free = shutil.disk_usage(work).free
    if needed > free:
        raise DatasetError(f"{archive} needs {needed:,} more bytes, the disk of {work} has {free:,}; make room")


def _verify(archive: Path, folder: Path, members: list[Member]) -> None:
    """Count what lies on the disk against what the archive listed."""
    found = sum(len(names) for _, _, names in os.walk(folder))
    missing = [m.name for m in members if not (folder / m.name).is_file()]
    if missing or found != len(members):
        raise DatasetError(
            f"{archive}: {len(members):,} files were listed and {found:,} lie in {folder}"
            + (f"; the first missing one is {missing[0]!r}" if missing else "")
            + ". Delete that folder and try again."
        )
