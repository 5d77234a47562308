"""The file in which a prior table is kept: whether it is still valid, and how several processes write it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reidkit.errors import PriorError
from reidkit.files import replacing
from reidkit.locks import locked
from reidkit.priors.store import COUNTED, PriorTable, empty_table


def cached(out: Path, grid: tuple[int, int], settings: Mapping[str, Any]) -> tuple[PriorTable, str]:
    """The cached table and "" if it was made with these settings, else an empty one and what is wrong with it."""
    if not out.exists():
        return empty_table(grid, settings), ""
    try:
        table = PriorTable.load(out)
    except PriorError as error:
        return empty_table(grid, settings), f"{error}. It is built anew."
    plain = ("versions", *COUNTED)
    old = {key: value for key, value in table.manifest.items() if key not in plain}
    changed = [key for key in sorted({*old, *settings} - {*plain}) if old.get(key) != settings.get(key)]
    if not changed:
        return table, ""
    said = ", ".join(f"{key} was {old.get(key)!r}, now {settings.get(key)!r}" for key in changed)
    return empty_table(grid, settings), f"the cached priors {out} were made with other settings ({said}): built anew"


def state(file: Path) -> tuple[int, int] | None:
    """Another one as soon as a file is replaced; None where there is none."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


@dataclass(frozen=True)
class Before:
    """What the file held before a build: the rows that are valid with its settings, and its bytes (None: no file)."""

    table: PriorTable
    file: bytes | None

    @classmethod
    def of(cls, out: Path, grid: tuple[int, int], settings: Mapping[str, Any]) -> Before:
        """Read before the first row is written."""
        return cls(cached(out, grid, settings)[0], out.read_bytes() if out.exists() else None)


def take_back(written: Mapping[str, int], before: Before, settings: Mapping[str, Any], out: Path) -> None:
    """Take the rows made of refused maps out of the file, and put back what it had before.

    written: stamp by path. A row of another stamp is another process's, made of maps that were mended meanwhile. Where
    no such row is left, the file is as it was, one made with other settings too.
    """
    with alone(out):
        table, wrong = cached(out, before.table.grid, settings)
        if wrong:  # another process has written a file of other settings since
            return
        others = [path for path, stamp in zip(table.paths, table.stamps.tolist()) if written.get(path) != stamp]
        left = table.subset(others).merged(before.table.subset(sorted({*before.table.paths} - {*others})))
        if len(left):
            left.save(out)
        elif before.file is not None:
            with replacing(out, PriorError) as temporary:
                temporary.write_bytes(before.file)
        else:
            out.unlink(missing_ok=True)


def alone(out: Path) -> AbstractContextManager[object]:
    """While it lasts no other process writes the file."""
    return locked(out.with_name(f".{out.name}.lock"), f"another process writes {out}; waiting for it")
