"""CSV files of scores, to which several processes may add rows at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reidkit.files import disk_error, replacing
from reidkit.locks import locked
from reidkit.readers import read_table

if TYPE_CHECKING:
    from reidkit.training.runs import RunFolder

Row = dict[Hashable, Any]
TEXT = ("commit", "trained")  # a commit such as 93e4831 is no number
NAMED = {**dict.fromkeys(("run", "variant", "level", "method", "data", *TEXT), str), "seed": int, "images": int}
NETWORK: dict[str, type] = {"weights": str, "draw": int}  # which network, which images; older tables lack them


def written(out: Path | None, more: Mapping[str, type]) -> list[Row]:
    """The rows of a CSV of scores, with the columns of `more` too; none where there is no file.

    In a table of an older kit `weights` is "" (a run is then scored again) and `draw` 0, as the command draws.
    Raises ReIDKitError for a damaged one.
    """
    if out is None or not out.is_file():
        return []
    remedy = "restore it, or name another file with --out"
    table = read_table(out, {**NAMED, **more}, missing=f"{out} is gone", remedy=remedy, optional=NETWORK)
    return table.assign(**{name: kind() for name, kind in NETWORK.items() if name not in table}).to_dict("records")


def about_run(run: RunFolder, same: Mapping[str, Any]) -> dict[str, Any]:
    """What a row is about: the run, its weights (folders of one name may hold two networks) and the settings `same`."""
    from reidkit.training.weights import sha256

    return {"run": run.path.name, "weights": sha256(run.weights)[:12], **same}


def about(rows: Sequence[Row], these: Mapping[str, Any]) -> list[Row]:
    """The rows that have all these entries."""
    return [row for row in rows if all(row.get(key) == value for key, value in these.items())]


def added(out: Path, new: Sequence[Row], these: Mapping[str, Any], more: Mapping[str, type]) -> list[Row]:
    """Add rows to what the file holds now, which another process may have changed meanwhile; -> all its rows.

    these: what the new rows, and no other ones, have. more: as in `written`. Raises ReIDKitError where the disk does
    not take them.
    """
    try:
        with locked(out.with_name(f".{out.name}.lock"), f"another process writes {out}; waiting for it"):
            rows = written(out, more)
            if not about(rows, these):
                rows += new
                with replacing(out) as temporary:
                    pd.DataFrame(rows).to_csv(temporary, index=False)
            return rows
    except OSError as error:
        raise disk_error(f"cannot write {out}", error) from error
