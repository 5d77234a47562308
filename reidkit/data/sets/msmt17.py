"""MSMT17 (Wei et al., CVPR 2018): four list files beside one folder of training and one of test images.

    list_train.txt, list_val.txt     0000/0000_000_01_0303morning_0015_0.jpg 0     (path, label)
    list_query.txt, list_gallery.txt
    V1: train/, test/                V2 (faces blurred): mask_train_v2/, mask_test_v2/, names end in _ex

A name reads `<label>_<index>_<camera>_<date and time of day>_...`; cameras count from 1 to 15.
Labels start at 0 in training *and* in test, for different people. Here a `pid` is one person: training label
l becomes l + 1, and test labels follow after the last training one; the column `label` keeps the list's number.
Junk rules: none. No junk and no distractor identities; every gallery identity is asked for.
The training set is list_train + list_val (column `part`), as in the 1,041 identities of the tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import IMAGE_SUFFIXES
from reidkit.data.sets.folders import find_home, quarantined
from reidkit.data.sets.market import NUMBER, SUFFIX
from reidkit.errors import DatasetError

NAMES = ("MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17", "MSMT17_v1", "MSMT17_v2", "msmt17_v1", "msmt17_v2")
FOLDERS = (("train", "test"), ("mask_train_v2", "mask_test_v2"), ("mask_train_V2", "mask_test_V2"))
LISTS = {"train": "list_train.txt", "val": "list_val.txt", "query": "list_query.txt", "gallery": "list_gallery.txt"}
IMAGE_NAME = re.compile(rf"(?P<label>{NUMBER})_[0-9]+_(?P<camid>{NUMBER})_.*{SUFFIX}", re.IGNORECASE | re.ASCII)


def load_msmt17(root: str | Path) -> ReIDDataset:
    """MSMT17, V1 or V2: 1,041 training identities, 11,659 queries, 82,161 gallery images.

    root: the data set's folder or the folder it was unpacked into.
    Raises DatasetError: lists or folders missing, a line that does not parse or stands there twice, a label that is not
    its file name's, a listed image that is not there.
    """
    home, (train_folder, test_folder) = find_home(root, FOLDERS, NAMES, "msmt17", files=LISTS.values())
    gone = quarantined(home)
    parts = [read_list(home / LISTS[p], home / train_folder, gone).assign(part=p) for p in ("train", "val")]
    train = pd.concat(parts, ignore_index=True)
    if len(twice := train.path[train.path.duplicated()]):
        raise DatasetError(
            f"msmt17: {len(twice)} images are in {LISTS['train']} and in {LISTS['val']} of {home} (first: "
            f"{twice.iloc[0]!r}); training takes both lists: unpack the archive's own ones again"
        )
    query = read_list(home / LISTS["query"], home / test_folder, gone)
    gallery = read_list(home / LISTS["gallery"], home / test_folder, gone)
    train["pid"] = train.label + 1
    first_test = int(train.label.max()) + 2
    query["pid"], gallery["pid"] = query.label + first_test, gallery.label + first_test
    version = "V1" if train_folder == "train" else "V2"
    return ReIDDataset("msmt17", home, train, query, gallery, junk_pids=(), info={"version": version})


def read_list(path: Path, folder: Path, gone: Collection[str] = ()) -> pd.DataFrame:
    """Table `path`, `label`, `camid` of one list file, in the order of its lines.

    gone: absolute paths to pass over (images in quarantine).
    Raises DatasetError that names the file and the line.
    """
    present: dict[str, set[str]] = {}
    line_of: dict[PurePosixPath, int] = {}
    rows = []
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            relative, label, camid = _parse_line(line, f"{path}, line {number}")
            if (before := line_of.setdefault(relative, number)) != number:
                raise DatasetError(f"{path}, line {number}: {relative} is in line {before} too; delete one of the two")
            if str(folder / relative) in gone:
                continue
            parent = str(relative.parent)
            if parent not in present:
                place = folder / parent
                present[parent] = set(os.listdir(place)) if place.is_dir() else set()
            if relative.name not in present[parent]:
                raise DatasetError(
                    f"{path}, line {number}: {relative} is not in {folder}; the archive was unpacked in part, or "
                    "lists and images belong to different versions (V1, V2)"
                )
            rows.append((str(folder / relative), label, camid))
    if not rows:
        raise DatasetError(f"{path} lists no images; unpack the archive again")
    return pd.DataFrame(rows, columns=["path", "label", "camid"])


def _parse_line(line: str, where: str) -> tuple[PurePosixPath, int, int]:
    """(relative path, label, camera) of one line of a list."""
    fields = line.strip().rsplit(maxsplit=1)
    relative = PurePosixPath(fields[0])
    match = IMAGE_NAME.fullmatch(relative.name)
    is_label = len(fields) == 2 and re.fullmatch(NUMBER, fields[1], re.ASCII)
    if not is_label or match is None or relative.is_absolute() or ".." in relative.parts:
        raise DatasetError(
            f"{where}: expected '<folder>/<label>_<index>_<camera>_....jpg <label>', such as "
            f"'0000/0000_000_01_0303morning_0015_0.jpg 0' (suffixes: {' '.join(IMAGE_SUFFIXES)}), "
            f"got {line.strip()[:200]!r}"
        )
    label = int(fields[1])
    if int(match["label"]) != label:
        raise DatasetError(
            f"{where}: {relative} is labelled {label}, and its name says {int(match['label'])}; unpack the archive's "
            "own lists again"
        )
    return relative, label, int(match["camid"])
