"""Readers of tables (CSV) and arrays (npz) that believe nothing: every column has a name, a type and a shape.

What a file states is compared with its own length before memory is asked for, no pickle is opened, and whatever is
wrong ends in one error that names the file, what was expected, and what to do.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reidkit.errors import ReIDKitError
from reidkit.files import disk_error, read_bytes

TABLE_BYTES = 256 << 20  # the facts of 50,000 images have some 8 MB
ARRAY_BYTES = 1 << 30  # the maps of 50,000 images have some 100 MB
DEFLATE = 1100  # bytes that one compressed byte can become, at most


def read_table(
    path: str | Path,
    columns: Mapping[str, type],
    *,
    missing: str,
    remedy: str,
    error: type[ReIDKitError] = ReIDKitError,
    limit: int = TABLE_BYTES,
    optional: Mapping[str, type] | None = None,
) -> pd.DataFrame:
    """A CSV of at most `limit` bytes that holds these columns once each, and others as they are.

    columns: {name: int (no cell empty), float (empty is NaN; none is infinite), bool or str (empty is "")}.
    optional: the same of columns that may be missing.
    Raises `error`: with the text `missing` where there is no such file, else naming the file, what is wrong with it,
    and `remedy`: what to do.
    """
    content = read_bytes(path, limit, missing, error)
    try:
        known = {**(optional or {}), **columns}
        texts: dict[Hashable, Any] = {name: str for name, kind in known.items() if kind is str}
        table = pd.read_csv(io.BytesIO(content), dtype=texts, low_memory=False)
        if lacking := sorted(set(columns) - set(table.columns)):
            raise ValueError(f"it lacks the columns {lacking}")
        known = {name: kind for name, kind in known.items() if name in table}
        if twice := [name for name in known if f"{name}.1" in table.columns]:
            raise ValueError(f"it has the columns {twice} twice")
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("its rows have more fields than its first line")
        return table.assign(**{name: _column(pd.Series(table[name]), kind) for name, kind in known.items()})
    except (ValueError, OverflowError, csv.Error) as e:  # what pandas raises are ValueErrors
        raise error(f"{path} cannot be read as the table it should be ({str(e).strip()}); {remedy}") from e


def _column(column: pd.Series, kind: type) -> pd.Series:
    if kind is str:
        return column.fillna("")
    found = column.dtype.kind if len(column) else "b" if kind is bool else "i"
    if found not in {int: "i", float: "if", bool: "b"}[kind]:
        numbers = pd.Series(pd.to_numeric(column, errors="coerce"))
        wrong = column.loc[numbers.isna()] if numbers.isna().any() else column
        expected = {int: "whole numbers", float: "numbers", bool: "True and False"}[kind]
        raise ValueError(f"its column {column.name!r} should hold {expected}, and holds {str(wrong.iloc[0])[:60]!r}")
    if kind is float and np.isinf(column.to_numpy(float)).any():
        raise ValueError(f"its column {column.name!r} holds an infinite number")
    return column.astype(kind)


def read_arrays(
    path: str | Path,
    columns: Mapping[str, tuple[Any, tuple[int | None, ...]]],
    *,
    missing: str,
    remedy: str,
    error: type[ReIDKitError],
    limit: int = ARRAY_BYTES,
) -> dict[str, np.ndarray]:
    """The named arrays of an npz. columns: {name: (dtype, or None for any real numbers; shape, None = any length)}.

    Raises `error` as `read_table` does; each array may have `limit` bytes.
    """
    if not Path(path).is_file():
        raise error(missing)
    try:
        with zipfile.ZipFile(path) as file:
            return {name: read_array(file, name, *stated, limit) for name, stated in columns.items()}
    except Exception as e:  # the readers of zip, npy and deflate raise a dozen kinds on damaged bytes
        if isinstance(e, OSError) and e.errno:
            raise disk_error(f"{path} cannot be read", e, error) from e
        reason = str(e) if isinstance(e, ReIDKitError) else f"{type(e).__name__}: {e}"
        raise error(f"{path} is not whole ({reason}); {remedy}") from e


def read_array(
    file: zipfile.ZipFile, name: str, kind: Any, shape: tuple[int | None, ...], limit: int = ARRAY_BYTES
) -> np.ndarray:
    """One array of an open npz, of this type (None: any real numbers) and shape (None: any length).

    Raises ReIDKitError where its header states something else, or more bytes than the file can hold; the errors of
    zipfile and numpy where it is damaged.
    """
    entry = file.getinfo(f"{name}.npy")
    with file.open(entry) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ReIDKitError(f"its column {name!r} is not in the format that numpy.savez writes")
        stated, columns_first, dtype = np.lib.format.read_array_header_1_0(stream)
        fits = len(stated) == len(shape) and all(n == m for n, m in zip(shape, stated) if n is not None)
        size = math.prod(stated) * dtype.itemsize
        known = dtype == np.dtype(kind) if kind is not None else dtype.kind in "biuf"
        if not known or not fits or size > min(limit, DEFLATE * entry.compress_size):
            wanted = "numbers" if kind is None else np.dtype(kind)
            lengths = ", ".join("any" if n is None else str(n) for n in shape)
            raise ReIDKitError(
                f"its column {name!r} is {dtype} {list(stated)}, expected {wanted} [{lengths}] of at most "
                f"{limit:,} bytes that the file really holds"
            )
        array = np.frombuffer(stream.read(size), dtype).copy()
        array = array.reshape(stated[::-1]).T if columns_first else array.reshape(stated)
        if stream.read(1):  # also reads to the end, where the zip's checksum is compared
            raise ReIDKitError(f"its column {name!r} holds more than its header states")
        return array
