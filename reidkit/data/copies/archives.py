"""Unpack a downloaded archive without trusting it: zip, tar (plain, gzip, bzip2, xz) and 7z.

An archive is a list of names and sizes written by someone else. It is read twice: first every entry is held against
`Limits` and the rules below, and a tar file read to its very end, where the checksums of gzip, bzip2 and xz are; then
it is written. No path may leave the destination; there are no links, no devices, no two files of one name.

Files go to `<destination>.unpacking`, which gets its final name in one step when all are there, and is removed
otherwise. One process at a time unpacks to a destination; another one waits, and uses what it then finds.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from tqdm.auto import tqdm

from reidkit.data.copies.imagefile import inspect_image
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.files import disk_error, locked

HEADER_BYTES = 1 << 20  # of one tar entry, long names included: an honest one has a few kB
DIRECTORY_BYTES = 32 << 20  # of a zip file's list of entries: 65 bytes for each of 500,000
LITTER = ("__MACOSX",)  # resource forks that macOS adds to zip files


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to. The largest set, MSMT17, has 126,441 images in a few GB.

    files: entries, folders included. ratio: unpacked bytes / archive bytes, of the whole and of each file, looked at
    only from `ratio_floor` bytes on (photos hardly compress: a true archive of them is near 1).
    """

    files: int = 500_000
    total_bytes: int = 64 << 30
    ratio: float = 100.0
    ratio_floor: int = 256 << 20


class Unpacked(NamedTuple):
    """What `unpack` wrote, or found: the number of files and their bytes."""

    files: int
    total_bytes: int


class Entry(NamedTuple):
    """One entry of an archive. size, packed: bytes outside, inside; save(path): write its content (None: a folder)."""

    key: str
    size: int
    packed: int | None
    save: Callable[[Path], object] | None


def unpack(
    archive: str | Path,
    destination: str | Path,
    *,
    limits: Limits = Limits(),
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
    archive, destination = Path(archive), Path(destination).resolve()
    here = holds_something(destination)
    if here and not may_exist:
        raise DatasetError(f"{destination} already holds something; move it away, or use what it holds")
    with _told(archive, destination):
        files = plan(archive, limits, keep, progress)
        if not here:
            destination.parent.mkdir(parents=True, exist_ok=True)
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
    for number, entry in enumerate(_entries(archive, limits, "reading", progress), 1):
        name = safe_name(entry.key, archive)
        total += entry.size
        if number > limits.files or total > limits.total_bytes:
            raise DatasetError(
                f"{archive} unpacks to more than {limits.files:,} files or {limits.total_bytes:,} "
                "bytes; no known data set does. Nothing was unpacked."
            )
        _check_ratio(archive, total, packed, limits)
        _check_ratio(archive, entry.size, entry.packed or packed, limits)
        if not entry.save or name.split("/")[0] in LITTER or not keep(name):
            continue
        if name in files or not name:
            raise _refusal(archive, entry.key, "the second one with its name")
        files[name] = entry.size
    for name in files:
        if any(str(parent) in files for parent in PurePosixPath(name).parents):
            raise _refusal(archive, name, "inside another file")
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
        raise _refusal(archive, key, "would be written outside the destination or has an impossible name")
    return "/".join(parts)


def _check_ratio(archive: Path, size: int, packed: int, limits: Limits) -> None:
    if size > max(limits.ratio_floor, limits.ratio * packed):
        raise DatasetError(
            f"{archive}: {packed:,} bytes unpack to more than {size:,}, a ratio over {limits.ratio:g}; "
            "photos do not compress like that. Nothing was unpacked."
        )


def _refusal(archive: str | Path, key: str, what: str) -> DatasetError:
    return DatasetError(
        f"{archive}: the member {key[:300]!r} is {what}; data sets hold plain files under plain names. "
        "Nothing was unpacked: download the archive again from its official page."
    )


def _encrypted(archive: Path) -> DatasetError:
    return DatasetError(
        f"{archive} is encrypted: unpack it yourself with the password its authors gave you, then load "
        "the data set from that folder"
    )


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
        for entry in _entries(archive, limits, "unpacking", progress, work):
            name = safe_name(entry.key, archive)
            if entry.save and name in files:
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                entry.save(work / name)
        _compare(work, archive, files)
        if decode and _format(archive) is PLAIN_TAR:
            _decode(work, archive, files, progress)
        if destination.exists():
            destination.rmdir()
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


# ---- the formats: each yields its entries in order ------------------------------------------------------------------


class _Rationed:
    """A file that gives `left` more bytes at most: a size in a header is believed only as far as that."""

    def __init__(self, file: IO[bytes], left: int, archive: Path) -> None:
        self.file, self.left, self.archive, self.last = file, left, archive, b""

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def read(self, size: int = -1) -> bytes:
        self.last = self.file.read(size if 0 <= size <= self.left else self.left + 1)
        self.left -= len(self.last)
        if self.left < 0:
            raise DatasetError(
                f"{self.archive}: a header asks for more bytes than those of data sets need; the "
                "archive is damaged, or made to harm. Nothing was unpacked: download it again."
            )
        return self.last


def _zip(archive: Path, limits: Limits, bar: tqdm, work: Path | None) -> Iterator[Entry]:
    """A zip file: names and sizes are in a directory at its end. Reading an entry compares its checksum."""
    with (
        archive.open("rb") as raw,
        zipfile.ZipFile(cast("IO[bytes]", rationed := _Rationed(raw, DIRECTORY_BYTES, archive))) as file,
    ):
        rationed.left = 1 << 62
        for info in file.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refusal(archive, info.filename, "a link or a device")
            if info.flag_bits & 0x1:
                raise _encrypted(archive)
            save = None if info.filename.endswith(("/", "\\")) else partial(_copy, file, info)
            yield Entry(info.filename, info.file_size, info.compress_size, save)
            bar.update(info.compress_size)


def _copy(file: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    with file.open(info) as source, target.open("xb") as out:
        shutil.copyfileobj(source, out)


def _tar(
    decompress: Callable[[IO[bytes]], Any], archive: Path, limits: Limits, bar: tqdm, work: Path | None
) -> Iterator[Entry]:
    """A tar file: a stream of headers and contents. Nothing is kept of an entry that has passed."""
    packed = archive.stat().st_size
    with archive.open("rb") as raw, decompress(raw) as plain:
        stream = _Rationed(plain, HEADER_BYTES, archive)
        try:
            file = tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:")
        except tarfile.ReadError:
            raise DatasetError(
                f"{archive} ({packed:,} bytes) is no zip, tar or 7z archive; a short file is often a "
                "web page saved in its place. Download it again."
            ) from None
        file.extraction_filter = getattr(tarfile, "data_filter", None)  # filter="data"; 3.11.0 to 3.11.3 lack it
        while (info := file.next()) is not None:
            if info.issym() or info.islnk():
                raise _refusal(archive, info.name, f"a link to {info.linkname[:300]!r}")
            if not (info.isreg() or info.isdir()) or info.issparse() or info.size < 0:
                raise _refusal(archive, info.name, "a device or a pipe, or has holes")
            stream.left += info.size
            yield Entry(info.name, info.size, None, partial(_extract, file, info) if info.isreg() else None)
            _check_ratio(archive, stream.tell(), packed, limits)  # headers count
            bar.update(raw.tell() - bar.n)
            file.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
            file.pax_headers.clear()  # pyright: ignore[reportAttributeAccessIssue]
            stream.left = HEADER_BYTES
        if len(stream.last) < tarfile.BLOCKSIZE or any(stream.last):
            raise DatasetError(
                f"{archive} is cut off or damaged: its list of files breaks off at byte {file.offset:,} "
                "(a tar file ends in zeros); download it again"
            )
        while plain.read(1 << 20):  # to the end, where the checksum is
            _check_ratio(archive, plain.tell(), packed, limits)


def _extract(file: tarfile.TarFile, info: tarfile.TarInfo, target: Path) -> None:
    info.name = target.name
    file.extract(info, target.parent, set_attrs=False)


def _7z(archive: Path, limits: Limits, bar: tqdm, work: Path | None) -> Iterator[Entry]:
    """A 7z file, through py7zr, which compares the checksums. What is to be saved is written after the last entry."""
    try:
        import py7zr
        from py7zr.exceptions import PasswordRequired
    except ImportError as error:
        raise DatasetError(f"{archive} is a 7z archive; reading it needs: pip install 'py7zr>=1.0'") from error
    wanted: dict[str, Path] = {}
    try:
        with py7zr.SevenZipFile(archive) as file:
            if file.needs_password():
                raise _encrypted(archive)
            for info in file.files:
                if info.is_symlink or info.is_junction or info.is_socket:
                    raise _refusal(archive, info.filename, "a link or a socket")
                save = None if info.is_directory else partial(wanted.__setitem__, info.filename)
                yield Entry(info.filename, info.uncompressed or 0, None, save)
            if wanted:
                file.extract(work, targets=list(wanted))
    except PasswordRequired:
        raise _encrypted(archive) from None
    for path in filter(Path.is_file, wanted.values()):
        path.chmod(0o644)  # py7zr gives files the permissions that the archive names


PLAIN_TAR = partial(_tar, lambda raw: raw)  # no checksum of what it holds, and no mark in its first bytes
FORMATS = {
    b"7z\xbc\xaf\x27\x1c": _7z,
    b"PK": _zip,
    b"\x1f\x8b": partial(_tar, gzip.open),
    b"BZh": partial(_tar, bz2.open),
    b"\xfd7zXZ": partial(_tar, lzma.open),
}  # known by the first bytes


def _format(archive: Path) -> Callable[..., Iterator[Entry]]:
    """The reader for an archive, whatever its name is."""
    with archive.open("rb") as file:
        start = file.read(8)
    return next((reader for magic, reader in FORMATS.items() if start.startswith(magic)), PLAIN_TAR)


def _entries(archive: Path, limits: Limits, doing: str, progress: bool, work: Path | None = None) -> Iterator[Entry]:
    """The entries of an archive, with a bar in bytes of the archive."""
    with tqdm(
        total=archive.stat().st_size, unit="B", unit_scale=True, desc=f"{doing} {archive.name}", disable=not progress
    ) as bar:
        yield from _format(archive)(archive, limits, bar, work)
