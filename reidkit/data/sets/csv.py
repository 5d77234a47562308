"""A list of your own pictures: a CSV with a row a picture.

    path,pid,camid,split
    anna/1.jpg,anna,door,train

`path` and `pid` must be there; names of persons and cameras may be words or whole numbers (`1.0`, as pandas writes a
column with gaps, is 1, and `-1.0` is -1, junk). Without `camid` cameras are not known. Without `split` (train, query,
gallery; test is divided here) persons are divided by a seed.
A path is looked for beside the CSV, then below `root`. Other columns are left aside.

    ds = load_dataset("csv", root="people.csv")        # or the folder that holds one CSV
"""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path
from unicodedata import normalize

import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import IMAGE_SUFFIXES, OTHER_SUFFIXES
from reidkit.data.sets.folders import listing, quarantined
from reidkit.data.sets.split import SPLITS, IdentitySplit, own_dataset
from reidkit.errors import DatasetError

REQUIRED, OPTIONAL = ("path", "pid"), ("camid", "split")
GAPS = ("nan", "<na>", "na", "none", "null")  # words that programs write into empty cells


def load_csv(
    root: str | Path,
    path: str = "",
    train_fraction: float = 0.5,
    queries: int = 1,
    seed: int = 0,
) -> ReIDDataset:
    """The pictures that a CSV lists (see the top of the file).

    root, path: the CSV is `root/path`, or the one CSV in that folder.
    train_fraction, queries, seed: of `IdentitySplit`, for a CSV without the column `split`; `queries` and `seed` for
        its "test" too.
    Raises DatasetError that names the line for a missing column, cell or file, ReIDKitError for an option that can
    have no effect on this CSV.
    """
    how = IdentitySplit(train_fraction, queries, seed)
    file = find_csv(Path(os.path.abspath(Path(root) / path)))
    table = read_csv(file)
    base = Path(root) if Path(root).is_dir() else file.parent
    table["path"] = _found(file, table, [file.parent, Path(os.path.abspath(base))])
    table = table[table.path.map(os.path.isfile)]  # the others are in quarantine
    unread = table.path[table.path.str.lower().str.endswith(OTHER_SUFFIXES)]
    if len(unread):
        warnings.warn(
            f"csv: {len(unread)} images are left out, as the kit does not read their kind (first: {unread.iloc[0]!r}); "
            f"convert them to one of {', '.join(IMAGE_SUFFIXES)}",
            stacklevel=3,
        )
        table = table.drop(unread.index)
    if table.empty:
        raise DatasetError(f"csv: {file} lists no image that the kit reads")
    info = {"unread_images": tuple(unread)} if len(unread) else {}
    return own_dataset("csv", _home(file, table.path.tolist()), pd.DataFrame(table.reset_index(drop=True)), how, info)


def find_csv(place: Path) -> Path:
    """The file itself, or the one CSV in a folder."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise DatasetError(f"csv: {place} does not exist. Name the CSV that lists your pictures (--root FILE.csv)")
    found = sorted(p for p in place.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith("."))
    if len(found) != 1:
        what = ", ".join(repr(p.name) for p in found) if found else f"none; the folder holds {listing(place)}"
        raise DatasetError(f"csv: expected one CSV in {place}, found {what}. Name the file (--root FILE.csv)")
    return found[0]


def read_csv(file: Path) -> pd.DataFrame:
    """path, person, and camera and split where there are such columns: all str, without empty cells; and the line.

    Fields are separated by commas, semicolons or tabs, whichever the first line has most of. Empty lines are passed
    over.
    """
    columns, table = _cells(file)
    wanted = [column for column in (*REQUIRED, *OPTIONAL) if column in columns]
    if missing := [column for column in dict.fromkeys((*REQUIRED, *wanted)) if columns.count(column) != 1]:
        raise DatasetError(
            f"csv: {file} needs one column {' and one '.join(map(repr, missing))}; its columns are {columns}. Expected "
            "are path, pid and, where known, camid and split: rename them in the file"
        )
    if table.empty:
        raise DatasetError(f"csv: {file} has no rows below its first line")
    table = table.loc[:, [*wanted, "line number"]]
    for column in wanted:
        if len(empty := table.loc[table[column] == "", "line number"]):
            raise DatasetError(f"csv: {file}, line {empty.iloc[0]}: {column} is empty ({len(empty)} such lines)")
        if len(gaps := _gaps(table[column])):
            raise DatasetError(
                f"csv: {file}, line {table['line number'][gaps.index[0]]}: {column} is {gaps.iloc[0]!r} among numbers "
                f"({len(gaps)} such lines); delete the line, or write -1 for a picture of nobody"
            )
    if "split" in table:
        table = table.assign(split=table["split"].str.lower())
        if len(wrong := table.loc[~table["split"].isin(SPLITS)]):
            raise DatasetError(
                f"csv: {file}, line {wrong['line number'].iloc[0]}: split is {wrong['split'].iloc[0]!r}; expected "
                f"one of {', '.join(SPLITS)}"
            )
    return table.rename(columns={"pid": "person", "camid": "camera"})


def _gaps(column: pd.Series) -> pd.Series:
    """The cells that hold one of GAPS, where all others hold numbers; among names it is a name."""
    is_gap = column.str.lower().isin(GAPS)
    others = pd.Series(column[~is_gap])
    return pd.Series(column[is_gap & others.str.fullmatch(r"-?[0-9]+(\.0+)?").all()])


def _cells(file: Path) -> tuple[list[str], pd.DataFrame]:
    """(names of the columns, every cell of the rows below them as str, with the column "line number")."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            first = opened.readline()
            opened.seek(0)
            reader = csv.reader(opened, delimiter=max(",;\t", key=first.count), strict=True)
            columns = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:  # not UTF-8, a quote that never ends
        raise DatasetError(
            f"csv: {file} cannot be read as a table ({error}); expected UTF-8 text whose first line is "
            f"{','.join((*REQUIRED, *OPTIONAL))} (the last two may be absent)"
        ) from error
    for line, row in rows:
        if len(row) != len(columns):
            raise DatasetError(
                f"csv: {file}, line {line} has {len(row)} fields, the first line has {len(columns)}: {columns}; put a "
                "field that holds a separator into quotes"
            )
    cells = [[cell.strip() for cell in row] + [line] for line, row in rows]
    return columns, pd.DataFrame(cells, columns=[*columns, "line number"])


def _found(file: Path, table: pd.DataFrame, places: list[Path]) -> list[str]:
    """Absolute paths of the listed pictures; DatasetError for those that are nowhere."""
    found, absent = [], []
    for line, name in zip(table["line number"], table["path"]):
        forms = (name, normalize("NFC", name), normalize("NFD", name))  # as written, of Linux and Windows, of macOS
        words = dict.fromkeys(word for form in forms for word in (form, form.replace("\\", "/")))
        tries = [os.path.abspath(place / word) for word in words for place in places]
        there = next((p for p in tries if os.path.isfile(p)), None) or next(filter(_in_quarantine, tries), None)
        found.append(there or "")
        if there is None:
            absent.append((line, name))
    if absent:
        line, name = absent[0]
        where = " and ".join(dict.fromkeys(map(str, places)))
        raise DatasetError(
            f"csv: {len(absent)} of {len(table)} pictures do not exist (first: {name!r}, line {line} of {file}; looked "
            f"in {where}). Paths are relative to the CSV"
        )
    return found


def _in_quarantine(path: str) -> bool:
    """Whether `reidkit data check --quarantine` moved the file out of a data set above it."""
    return any(path in quarantined(folder) for folder in Path(path).parents)


def _home(file: Path, paths: list[str]) -> Path:
    """The folder that all pictures lie below: the CSV's, or the one that they share."""
    if all(path.startswith(os.path.join(file.parent, "")) for path in paths):
        return file.parent
    shared = Path(os.path.commonpath(paths)) if len(paths) > 1 else Path(paths[0]).parent
    if shared == Path(shared.anchor):
        raise DatasetError(
            f"csv: the pictures of {file} share no folder (first: {paths[0]!r}): put them below one, or links to them"
        )
    return shared if shared.is_dir() else shared.parent
