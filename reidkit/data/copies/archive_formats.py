"""The three archive formats with one face: `members()` lists, `unpack(wanted, staging)` writes.

`members` refuses whatever a data set has no use for: paths that leave the destination, links, devices, encryption.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reidkit.errors import DatasetError


@dataclass(frozen=True)
class Member:
    """One file of an archive. key: its name inside the archive; name: where it goes, posix, relative."""

    key: str
    name: str
    size: int
    crc: int | None = None


class Staging(Protocol):
    """Where members are written (`archives.StagingFolder`). finish: checks size and checksum; may be called twice."""

    def begin(self, member: Member) -> None: ...
    def append(self, member: Member, chunk: bytes) -> None: ...
    def finish(self, member: Member) -> None: ...
    def copy(self, member: Member, read: Callable[[int], bytes]) -> None: ...


def safe_name(key: str, archive: str | Path = "archive") -> str:
    """The relative posix path of a member ('' for the top folder itself).

    Raises DatasetError for absolute paths, drive letters, `..`, NUL and names that no disk can hold.
    """
    name = key.replace("\\", "/")
    parts = [p for p in name.split("/") if p not in ("", ".")]
    too_long = any(len(os.fsencode(p)) > 255 for p in parts if "\0" not in p)
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts or "\0" in name or too_long:
        raise DatasetError(
            f"{archive}: the member {key!r} would be written outside the destination or has an impossible name; "
            "this is not an archive as the authors published it. Nothing was unpacked: download it again."
        )
    return "/".join(parts)


def refuse(archive: Path, key: str, kind: str) -> DatasetError:
    """The error for a member that no data set has a use for."""
    return DatasetError(
        f"{archive}: the member {key!r} is {kind}; data sets hold plain files only. "
        "Nothing was unpacked: download the archive again from its official page."
    )


def encrypted(archive: Path) -> DatasetError:
    """The error for an archive that asks for a password."""
    return DatasetError(
        f"{archive} is encrypted: unpack it yourself with the password its authors gave you, "
        "then load the data set from that folder"
    )


class Zip:
    """A zip file: names and sizes are in its directory at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> Iterable[Member]:
        with zipfile.ZipFile(self.path) as file:
            for info in file.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise refuse(self.path, info.filename, "a link or a device")
                if info.flag_bits & 0x1:
                    raise encrypted(self.path)
                name = safe_name(info.filename, self.path)
                if not (info.is_dir() or info.filename.endswith("\\")):
                    yield Member(info.filename, name, info.file_size, info.CRC)

    def unpack(self, wanted: Mapping[str, Member], staging: Staging) -> None:
        with zipfile.ZipFile(self.path) as file:
            for key, member in wanted.items():
                with file.open(key) as source:
                    staging.copy(member, source.read)


class Tar:
    """A tar file, plain or compressed: a stream, read once for its names and once for its contents."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> Iterable[Member]:
        with tarfile.open(self.path, "r:*") as file:
            for info in file:
                name = safe_name(info.name, self.path)
                if info.issym() or info.islnk():
                    raise refuse(self.path, info.name, f"a link to {info.linkname!r}")
                if not (info.isreg() or info.isdir()):
                    raise refuse(self.path, info.name, "a device or a pipe")
                if info.isreg():
                    yield Member(info.name, name, info.size)
            if isinstance(file.fileobj, io.BufferedReader) and not _ends_in_zeros(self.path):
                raise DatasetError(f"{self.path} is cut off (a tar file ends in zeros); download it again")

    def unpack(self, wanted: Mapping[str, Member], staging: Staging) -> None:
        with tarfile.open(self.path, "r:*") as file:
            for info in file:
                content = file.extractfile(info) if info.name in wanted and info.isreg() else None
                if content is not None:
                    staging.copy(wanted[info.name], content.read)


def _ends_in_zeros(path: Path, block: int = 512) -> bool:
    """A plain tar cut between two members looks whole but for its missing end mark."""
    with path.open("rb") as file:
        file.seek(-block, os.SEEK_END)
        return not any(file.read())


class SevenZip:
    """A 7z file, through py7zr (pip install py7zr)."""

    def __init__(self, path: Path) -> None:
        try:
            import py7zr
        except ImportError as error:
            raise DatasetError(f"{path} is a 7z archive; reading it needs: pip install 'py7zr>=1.0'") from error
        self.path, self.py7zr = path, py7zr

    def members(self) -> Iterable[Member]:
        with self.py7zr.SevenZipFile(self.path) as file:
            if file.needs_password():
                raise encrypted(self.path)
            for info in file.files:
                name = safe_name(info.filename, self.path)
                if info.is_symlink or info.is_junction or info.is_socket:
                    raise refuse(self.path, info.filename, "a link or a socket")
                if not info.is_directory:
                    yield Member(info.filename, name, info.uncompressed or 0, info.crc32)

    def unpack(self, wanted: Mapping[str, Member], staging: Staging) -> None:
        from py7zr.io import Py7zIO, WriterFactory

        class Writer(Py7zIO):
            """py7zr hands over chunks of one member; nothing is read back."""

            def __init__(self, member: Member) -> None:
                self.member, self.count = member, 0
                staging.begin(member)

            def write(self, s: bytes | bytearray) -> int:
                staging.append(self.member, bytes(s))
                self.count += len(s)
                return len(s)

            def read(self, size: int | None = None) -> bytes:
                return b""

            def seek(self, offset: int, whence: int = 0) -> int:
                return 0

            def flush(self) -> None:
                pass

            def close(self) -> None:
                staging.finish(self.member)

            def size(self) -> int:
                return self.count

        class Factory(WriterFactory):
            def create(self, filename: str) -> Writer:
                return Writer(by_name[safe_name(os.path.relpath(filename) if os.path.isabs(filename) else filename)])

        by_name = {m.name: m for m in wanted.values()}
        for member in wanted.values():
            if member.size == 0:  # empty members carry no stream
                staging.begin(member)
        with self.py7zr.SevenZipFile(self.path) as file:
            file.extract(targets=list(wanted), factory=Factory())
        for member in wanted.values():
            staging.finish(member)


def open_archive(archive: Path) -> Zip | Tar | SevenZip:
    """The reader for an archive, chosen by its first bytes and not by its name."""
    if not archive.is_file():
        raise DatasetError(f"archive {archive} is missing; download it from the data set's official page")
    with archive.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"7z\xbc\xaf\x27\x1c"):
        return SevenZip(archive)
    if magic.startswith(b"PK"):
        return Zip(archive)
    if tarfile.is_tarfile(archive):
        return Tar(archive)
    raise DatasetError(
        f"{archive} ({archive.stat().st_size} bytes) is no zip, tar or 7z archive; a short file is often a web "
        "page saved in its place. Download it again."
    )
