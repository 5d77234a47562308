"""What is inside an archive, entry by entry: one reader a format, each with bounds on what a header may claim.

A reader yields `Entry`s in order and believes no size before it has seen the bytes. `archives.py` decides what may be
written, and writes it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from tqdm.auto import tqdm

from reidkit.errors import DatasetError

HEADER_BYTES = 1 << 20  # of one tar entry, long names included: an honest one has a few kB
DIRECTORY_BYTES = 32 << 20  # of a zip file's list of entries: 65 bytes for each of 500,000


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


class Entry(NamedTuple):
    """One entry of an archive. size, packed: bytes outside, inside; save(path): write its content (None: a folder)."""

    key: str
    size: int
    packed: int | None
    save: Callable[[Path], object] | None


def check_ratio(archive: Path, size: int, packed: int, limits: Limits) -> None:
    """DatasetError where `packed` bytes of an archive would become more than photos ever do."""
    if size > max(limits.ratio_floor, limits.ratio * packed):
        raise DatasetError(
            f"{archive}: {packed:,} bytes unpack to more than {size:,}, a ratio over {limits.ratio:g}; "
            "photos do not compress like that. Nothing was unpacked."
        )


def refusal(archive: str | Path, key: str, what: str) -> DatasetError:
    """The error for an entry that no data set has: a link, a device, a name that leads out."""
    return DatasetError(
        f"{archive}: the member {key[:300]!r} is {what}; data sets hold plain files under plain names. "
        "Nothing was unpacked: download the archive again from its official page."
    )


def encrypted(archive: Path) -> DatasetError:
    """The error for an archive with a password."""
    return DatasetError(
        f"{archive} is encrypted: unpack it yourself with the password its authors gave you, then load "
        "the data set from that folder"
    )


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
                raise refusal(archive, info.filename, "a link or a device")
            if info.flag_bits & 0x1:
                raise encrypted(archive)
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
                raise refusal(archive, info.name, f"a link to {info.linkname[:300]!r}")
            if not (info.isreg() or info.isdir()) or info.issparse() or info.size < 0:
                raise refusal(archive, info.name, "a device or a pipe, or has holes")
            stream.left += info.size
            yield Entry(info.name, info.size, None, partial(_extract, file, info) if info.isreg() else None)
            check_ratio(archive, stream.tell(), packed, limits)  # headers count
            bar.update(raw.tell() - bar.n)
            file.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  (stubs lack it)
            file.pax_headers.clear()  # pyright: ignore[reportAttributeAccessIssue]  (a dict)
            stream.left = HEADER_BYTES
        if len(stream.last) < tarfile.BLOCKSIZE or any(stream.last):
            raise DatasetError(
                f"{archive} is cut off or damaged: its list of files breaks off at byte {file.offset:,} "
                "(a tar file ends in zeros); download it again"
            )
        while plain.read(1 << 20):  # to the end, where the checksum is
            check_ratio(archive, plain.tell(), packed, limits)


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
                raise encrypted(archive)
            for info in file.files:
                if info.is_symlink or info.is_junction or info.is_socket:
                    raise refusal(archive, info.filename, "a link or a socket")
                save = None if info.is_directory else partial(wanted.__setitem__, info.filename)
                yield Entry(info.filename, info.uncompressed or 0, None, save)
            if wanted:
                file.extract(work, targets=list(wanted))
    except PasswordRequired:
        raise encrypted(archive) from None
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


def reader_of(archive: Path) -> Callable[..., Iterator[Entry]]:
    """The reader for an archive, whatever its name is."""
    with archive.open("rb") as file:
        start = file.read(8)
    return next((reader for magic, reader in FORMATS.items() if start.startswith(magic)), PLAIN_TAR)


def entries(archive: Path, limits: Limits, doing: str, progress: bool, work: Path | None = None) -> Iterator[Entry]:
    """The entries of an archive, with a bar in bytes of the archive."""
    with tqdm(
        total=archive.stat().st_size, unit="B", unit_scale=True, desc=f"{doing} {archive.name}", disable=not progress
    ) as bar:
        yield from reader_of(archive)(archive, limits, bar, work)
