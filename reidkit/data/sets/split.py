"""From pictures with names of persons to a data set: numbers for the names, and a split by identity.

Re-identification is tested on people never trained on, so the *identities* are divided, by a seed, and never the
images. Of each test identity some images become queries, and the rest is the gallery that they are looked for in.

Where no camera is known, every picture counts as taken by a camera of its own: the protocol's camera rule then removes
nothing, and results are labelled "no camera rule" (`ReIDDataset.cameras_known`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.data.sets.overlap import check_overlap, contents, warn_of_twins, without_copies
from reidkit.errors import DatasetError, ReIDKitError

SPLITS = ("train", "query", "gallery", "test")  # "test" is divided into query and gallery here
JUNK = -1
WHOLE = re.compile(r"(-?[0-9]+)\.0+")


@dataclass(frozen=True)
class IdentitySplit:
    """How persons become train and test.

    train_fraction: of the persons, from 0 (all are tested on) to below 1. queries: images a test person that are
    looked for, at most; each keeps an image to be found in the gallery. seed: of the draw.
    """

    train_fraction: float = 0.5
    queries: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for key, kinds, holds, expected in (
            ("train_fraction", (int, float), lambda v: 0 <= v < 1, "a fraction from 0 to below 1"),
            ("queries", int, lambda v: v >= 1, "a whole number of at least 1"),
            ("seed", int, lambda v: v >= 0, "a whole number of at least 0"),
        ):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, kinds) or not holds(value):
                raise ReIDKitError(f"option {key}={value!r}: expected {expected}")

    def refuse_idle(self, name: str, acting: Collection[str], why: str) -> None:
        """ReIDKitError where an option that is not among the `acting` ones has another value than its default."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if idle := [f"{key}={value!r}" for key, value in given.items() if key not in acting]:
            raise ReIDKitError(f"{name}: {' and '.join(idle)} can have no effect here, as {why}; leave it away")


def own_dataset(
    name: str, root: Path, table: pd.DataFrame, how: IdentitySplit, info: Mapping[str, Any] | None = None
) -> ReIDDataset:
    """The data set of pictures with names.

    table: `path` (absolute), `person` (str), and where they are known `camera` (str) and `split` (one of SPLITS).
    Columns of the result: path, pid, camid, person, and camera where there is one (`plain_name`). Names that are whole
    numbers keep them, others are numbered in sorted order, so the order of rows changes nothing.
    Raises DatasetError where one picture belongs to two persons, and where the persons do not suffice; ReIDKitError
    for an option of `how` that a given split leaves nothing to do.
    """
    known = "camera" in table
    if "split" in table:
        given = [split for split in SPLITS if split in {*table["split"]}]
        acting = ("queries", "seed") if "test" in given else ()
        how.refuse_idle(name, acting, f"the data set comes divided into {', '.join(given)}")
    table = table.assign(**{c: table[c].map(plain_name) for c in ("person", *(["camera"] if known else []))})
    _refuse_two_persons(name, table)
    table = without_copies(name, table.assign(content=contents(table)))
    table["pid"] = numbers(pd.Series(table["person"]))
    table["camid"] = numbers(pd.Series(table["camera"])) if known else np.arange(1, len(table) + 1)
    table["split"] = draw(name, table, how, known) if "split" not in table else divided(table, how, known)
    table = table.loc[(table["split"] != "train") | (table.pid != JUNK)]  # nobody is no class to learn
    columns = ["path", "pid", "camid", "person", *(["camera"] if known else [])]
    parts = {s: table.loc[table["split"] == s, columns].reset_index(drop=True) for s in ("train", "query", "gallery")}
    ds = ReIDDataset(name, root, **parts, info=dict(info or {}), cameras_known=known)
    check_overlap(ds, "warn")
    warn_of_twins(name, table)
    return ds


def unlabelled_dataset(
    name: str, root: Path, paths: Iterable[str], info: Mapping[str, Any] | None = None
) -> ReIDDataset:
    """Pictures without names: all of them are gallery, with pid -1; nothing can be trained on them or ranked."""
    paths = list(paths)
    table = pd.DataFrame({"path": paths, "pid": JUNK, "camid": np.arange(1, len(paths) + 1)})
    none = table.iloc[:0]
    return ReIDDataset(name, root, none, none, table, info=dict(info or {}), cameras_known=False)


def plain_name(text: str) -> str:
    """The name of a person or camera in the one form in which names are compared.

    Letters are composed (Unicode NFC): disks of macOS write an accent as a character of its own. A whole number loses
    the ".0" of a table's column of floats: "-1.0" is "-1".
    """
    text = unicodedata.normalize("NFC", text)
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def numbers(names: pd.Series) -> np.ndarray:
    """[N] int64 for N names: the number itself where all names are whole ones, else places in the sorted list, from 1.

    "-1" stays -1 (junk) in either case. Where a person or camera is called 0, which the kit's protocol keeps for
    distractors, all numbers are raised by 1.
    """
    unique = sorted(set(names) - {str(JUNK)})
    value = {n: int(n) for n in unique if n.isascii() and n.isdecimal() and len(n) <= 18}
    if len(set(value.values())) < len(unique):  # names among them, or "7" beside "07"
        value = {n: i for i, n in enumerate(unique, start=1)}
    raised = int(min(value.values(), default=1) == 0)
    return names.map({str(JUNK): JUNK, **{n: v + raised for n, v in value.items()}}).to_numpy(dtype=np.int64)


def draw(name: str, table: pd.DataFrame, how: IdentitySplit, cameras: bool) -> np.ndarray:
    """[N] "train", "query" or "gallery" of every row, by identity.

    Persons that can be looked for (two images, with known cameras under two of them) and the others are divided
    separately, so that a test has persons to look for however few they are.
    """
    people = table.loc[table.pid != JUNK].groupby("pid")
    seen = pd.Series(people.camid.nunique() if cameras else people.size())  # pid -> cameras or images, ascending
    rng, train = np.random.default_rng(how.seed), set()
    for group in (seen.index[(seen > 1).to_numpy()].to_numpy(), seen.index[(seen < 2).to_numpy()].to_numpy()):
        count = round(how.train_fraction * len(group))
        if how.train_fraction and (seen > 1).loc[group].any():
            count = min(max(count, 1), len(group) - 1)
        train.update(group[rng.permutation(len(group))[:count]].tolist())
    can = set(seen.index[(seen > 1).to_numpy()])
    if not can - train or (how.train_fraction and len(train) < 2):
        what = "two cameras" if cameras else "two images"
        raise DatasetError(
            f"{name}: {len(seen)} persons, of whom {len(can)} have {what}, cannot be divided: two at least are trained "
            f"on, and one at least with {what} is looked for. Add persons or images; train_fraction=0 tests on all of "
            "them; pictures without persons are read with labels='none' (folder)"
        )
    is_train = table.pid.isin(list(train)).to_numpy()
    return np.where(is_train, "train", queries_and_gallery(table, ~is_train, how, cameras))


def divided(table: pd.DataFrame, how: IdentitySplit, cameras: bool) -> np.ndarray:
    """[N] the column `split`, its "test" divided into query and gallery."""
    split = table["split"].to_numpy(dtype=object)
    return np.where(split == "test", queries_and_gallery(table, split == "test", how, cameras), split)


def queries_and_gallery(table: pd.DataFrame, rows: np.ndarray, how: IdentitySplit, cameras: bool) -> np.ndarray:
    """[N] "query" or "gallery" ("" where `rows` [N] bool is false): of each person up to `queries` images by chance.

    Each query keeps an image of its person in the gallery, with known cameras one of another camera.
    """
    place = np.where(rows, "gallery", "").astype(object)
    rng = np.random.default_rng(how.seed)
    drawn = table.assign(row=np.arange(len(table)), chance=rng.random(len(table)))
    test = drawn.loc[rows & (table.pid != JUNK).to_numpy()]
    if test.empty:
        return place
    test = test.sort_values(by="chance")
    if cameras:  # first one image of every camera
        test = test.assign(turn=test.groupby(["pid", "camid"]).cumcount()).sort_values(by=["turn", "chance"])
    for _, person in test.groupby("pid"):
        camera, chosen = dict(zip(person.row, person.camid)), []
        for row in person.row:
            rest = {camera[r] for r in camera if r not in (*chosen, row)}  # cameras in the gallery
            if len(chosen) < how.queries and all(rest - {camera[q]} for q in (*chosen, row)):
                chosen.append(row)
        place[chosen] = "query"
    return place


def _refuse_two_persons(name: str, table: pd.DataFrame) -> None:
    """One file cannot show two persons."""
    people = table.groupby("path").person.nunique()
    if len(twice := people.index[people > 1]):
        who = table.person[table.path == twice[0]].unique().tolist()
        raise DatasetError(f"{name}: {len(twice)} pictures have two persons (first: {twice[0]!r} is {who})")
