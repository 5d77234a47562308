"""CSV files of scores, to which several processes may add rows at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reidkit.files import disk_error, locked, replacing
from reidkit.readers import read_table

Row = dict[Hashable, Any]
TEXT = ("commit", "trained")  # a commit such as 93e4831 is no number
NAMED = {**dict.fromkeys(("run", "variant", "level", "method", "data", *TEXT), str), "seed": int, "images": int}


def written(out: Path | None, more: Mapping[str, type]) -> list[Row]:
    """The rows of a CSV of scores, with the columns of `more` too; none where there is no file.

    Raises ReIDKitError for a damaged one.
    """
    if out is None or not out.is_file():
        return []
    remedy = "restore it, or name another file with --out"
    return read_table(out, {**NAMED, **more}, missing=f"{out} is gone", remedy=remedy).to_dict("records")


def holds(rows: Sequence[Row], about: Mapping[str, Any]) -> bool:
    """Whether a row has all these entries."""
    return any(all(row[key] == value for key, value in about.items()) for row in rows)


def added(out: Path, new: Sequence[Row], about: Mapping[str, Any], more: Mapping[str, type]) -> list[Row]:
    """Add rows to what the file holds now, which another process may have changed meanwhile; -> all its rows.

    about: what the new rows, and no other ones, have. more: as in `written`. Raises ReIDKitError where the disk does
    not take them.
    """
    try:
        with locked(out.with_name(f".{out.name}.lock"), f"another process writes {out}; waiting for it"):
            rows = written(out, more)
            if not holds(rows, about):
                rows += new
                with replacing(out) as temporary:
                    pd.DataFrame(rows).to_csv(temporary, index=False)
            return rows
    except OSError as error:
        raise disk_error(f"cannot write {out}", error) from error
