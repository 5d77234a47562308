"""What the splits of a data set must not share: people, and pictures that are byte for byte the same."""

from __future__ import annotations

import hashlib
import os
import warnings
from typing import Literal

import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.errors import DatasetError


def check_overlap(ds: ReIDDataset, overlap: Literal["error", "warn"]) -> None:
    """Training and test identities must differ, or the test measures memory.

    DatasetError where they do not, or with "warn" a warning.
    """
    both = sorted(({*ds.query.pid, *ds.gallery.pid} - ds.nobody) & {*ds.train.pid})
    if not both:
        return
    message = (
        f"{ds.name}: {len(both)} identities are in the training set and in the test set ({both[:5]} ...); "
        "re-identification is tested on people never trained on"
    )
    if overlap == "error":
        raise DatasetError(f"{message}. Unpack the archive again into an empty folder.")
    warnings.warn(message, stacklevel=4)


def contents(table: pd.DataFrame) -> pd.Series:
    """[N] hash of each file that has the length of another file of its `person`; "" for others, and unreadable ones."""
    sized = pd.DataFrame({"person": table.person, "size": table.path.map(_size)})
    suspect = sized.duplicated(keep=False)
    return table.path.where(suspect, "").map(_digest)


def without_copies(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The rows without files whose `content` is that of an earlier picture of the same person; a warning counts them.

    A copy among query and gallery would be found at once, and prove nothing. Where the column `split` says train,
    query or gallery a copy within its split stays, and the warning says so.
    """
    split = table["split"] if "split" in table else pd.Series("test", table.index)
    copies = table.assign(split=split).duplicated(["person", "split", "content"]) & (table.content != "")
    left_out, kept = table.path[copies & (split == "test")], table.path[copies & (split != "test")]
    for paths, what in ((left_out, "are left out"), (kept, "stay, as their split is given")):
        if len(paths):
            warnings.warn(
                f"{name}: {len(paths)} files are copies of another picture of the same person and {what} "
                f"(first: {paths.iloc[0]!r})",
                stacklevel=4,
            )
    return table.drop(left_out.index).reset_index(drop=True)


def warn_of_twins(name: str, table: pd.DataFrame) -> None:
    """A warning where a query (`split`) is a picture of the same `person` and `content` as one of the gallery."""
    pair = table.loc[table["split"].isin(("query", "gallery")) & (table.content != "")]
    twice = pair.groupby(["person", "content"])["split"].transform("nunique") > 1
    if len(found := pair.path[twice & (pair["split"] == "query")]):
        warnings.warn(
            f"{name}: {len(found)} queries are in the gallery too, as the same picture (first: {found.iloc[0]!r}): "
            "each finds itself, and the numbers are too good",
            stacklevel=4,
        )


def _size(path: str) -> int:
    """Length of a file in bytes; -1 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _digest(path: str) -> str:
    """Hash of a file's bytes; "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError:
        return ""
