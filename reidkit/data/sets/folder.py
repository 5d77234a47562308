"""A folder of your own pictures, in one of three layouts:

    crops/a.jpg, crops/b.jpg ...                  pictures without names: to be searched, not to be trained on
    people/anna/1.jpg, people/ben/x/2.jpg ...     a folder a person; what lies deeper belongs to that person
    people/train/anna/1.jpg, people/query/...     the same, divided by hand: train, and query and gallery, or test

    ds = load_dataset("folder", root="people")                 # split by identity
    ds = load_dataset("folder", root="people", train_fraction=0.7, queries=2, seed=1)

Hidden files, and the folders that the kit itself writes below the data set (`cache`, `priors`, `checks` ...), are
passed over. Cameras are not known; a CSV can name them (`reidkit.data.sets.csv`).
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import IMAGE_SUFFIXES
from reidkit.data.pictures import images_below
from reidkit.data.sets.folders import listing
from reidkit.data.sets.market import SPLITS as MARKET
from reidkit.data.sets.split import SPLITS, IdentitySplit, own_dataset, unlabelled_dataset
from reidkit.errors import DatasetError, unknown_name

Labels = Literal["auto", "folders", "none"]


def load_folder(
    root: str | Path,
    path: str = "",
    labels: Labels = "auto",
    train_fraction: float = 0.5,
    queries: int = 1,
    seed: int = 0,
) -> ReIDDataset:
    """Pictures below one folder (see the top of the file).

    root, path: the folder is `root/path`; a `path` from the disk's root stands for itself.
    labels: "folders": a folder a person; "none": no names at all; "auto": names where all pictures lie in subfolders.
    train_fraction, queries, seed: of `IdentitySplit`.
    Raises DatasetError for a folder without pictures, or whose layout is none of the three; ReIDKitError for an option
    that can have no effect on this folder.
    """
    how = IdentitySplit(train_fraction, queries, seed)
    if labels not in get_args(Labels):
        raise unknown_name("option labels", labels, get_args(Labels))
    folder = Path(os.path.abspath(Path(root) / path))
    if not folder.is_dir():
        what = "is a file; a list of pictures is read with 'csv'" if folder.is_file() else "does not exist"
        raise DatasetError(f"folder: {folder} {what}. Name the folder of your pictures (--root DIR)")
    _refuse_other_layouts(folder)
    paths, unread = images_below(folder)
    if unread:
        warnings.warn(
            f"folder: {len(unread)} images are left out, as the kit does not read their kind (first: {unread[0]!r}); "
            f"convert them to one of {', '.join(IMAGE_SUFFIXES)}",
            stacklevel=3,
        )
    if not paths:
        raise DatasetError(
            f"folder: no images ({', '.join(IMAGE_SUFFIXES)}) in {folder} or below it; it holds {listing(folder)}"
        )
    info = {"unread_images": tuple(unread)} if unread else {}
    parts = [path.removeprefix(os.path.join(folder, "")).split(os.sep) for path in paths]
    loose = [path for path, names in zip(paths, parts) if len(names) == 1]
    if labels == "none" or (labels == "auto" and len(loose) == len(paths)):
        how.refuse_idle("folder", (), "pictures without names are not divided")
        return unlabelled_dataset("folder", folder, paths, info)
    if loose:
        raise DatasetError(
            f"folder: {len(loose)} of {len(paths)} images lie in {folder} itself ({os.path.basename(loose[0])!r} ...) "
            "and the others in folders below it, so it is neither a folder a person nor one of pictures without names: "
            "give each person a folder, or read all without names (labels='none', --data labels=none)"
        )
    return own_dataset("folder", folder, _table(paths, parts), how, info)


def _table(paths: list[str], parts: list[list[str]]) -> pd.DataFrame:
    """path, person, and split where the first folders are called so."""
    table = pd.DataFrame({"path": paths, "person": [names[0] for names in parts]})
    split = table.person.str.lower()
    first = set(split)
    if not ({"train", "query", "gallery"} <= first or {"train", "test"} <= first):
        return table
    if others := sorted(set(table.person[~split.isin(SPLITS)])):
        raise DatasetError(
            f"folder: beside a split ({', '.join(sorted(first & {*SPLITS}))}) there are the folders "
            f"{', '.join(map(repr, others[:5]))}; a split has train, and query and gallery, or test: move the others "
            "away, or list the pictures in a CSV ('csv')"
        )
    if flat := [path for path, names in zip(paths, parts) if len(names) < 3]:
        raise DatasetError(
            f"folder: the folders {', '.join(sorted(first))} are read as a split, with a folder a person in each, but "
            f"{len(flat)} images lie in them without a person's folder (first: {flat[0]!r})"
        )
    return table.assign(split=split, person=[names[1] for names in parts])


def _refuse_other_layouts(folder: Path) -> None:
    """A set in Market-1501's layout, or a folder of such sets, has no folders of persons."""
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        if (place / MARKET["train"]).is_dir():
            raise DatasetError(
                f"folder: {place} holds {MARKET['train']}, so it is a data set in Market-1501's layout: read it with "
                "'market-layout', or name a folder of pictures of your own (--root DIR)"
            )
