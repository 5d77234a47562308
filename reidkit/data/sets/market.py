"""Market-1501's folder layout, which most re-identification sets follow.

    bounding_box_train/0002_c1s1_000451_03.jpg     training images
    query/...                                      one image a person a camera
    bounding_box_test/...                          gallery: 0000_* distractors, -1_* junk
    gt_bbox/...                                    optional: hand-drawn boxes for multi-query tests

A name reads `<identity>_c<camera>s<sequence>_<frame>_<detection>`. Identity -1 marks junk (bad boxes, ignored
by the protocol), identity 0 distractors (they stay in the gallery and can only be wrong), unless people are numbered
from 0: where train or query has an identity 0, it is a person like any other (`ReIDDataset.nobody`).
Images may have any suffix that the kit decodes, in small or capital letters. Images that no table holds, of other
kinds (.gif, .heic ...), without an image's suffix, or in a folder below, are named in `info["unread_images"]`, with a
warning, and are a problem of `reidkit data check`.
The parsers of other sets share `find_layout` and `read_folder`.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import IMAGE_SUFFIXES, LITTER_FOLDERS, is_unread_image
from reidkit.data.pictures import images_below
from reidkit.data.sets.folders import find_home, listing
from reidkit.data.sets.overlap import check_overlap
from reidkit.errors import DatasetError

SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MULTI_QUERY = "gt_bbox"
ARCHIVE_NAMES = ("Market-1501-v15.09.15", "Market-1501", "market-1501", "Market1501", "market1501")
NUMBER = "[0-9]{1,18}"  # what 64 bits hold
SUFFIX = rf"\.(?:{'|'.join(suffix[1:] for suffix in IMAGE_SUFFIXES)})"
MARKET_NAME = re.compile(
    rf"(?P<pid>-1|{NUMBER})_c(?P<camid>{NUMBER})(?:s[0-9]+)?(?:_[\w.-]*)?{SUFFIX}", re.IGNORECASE | re.ASCII
)
EXPECTED_NAME = "<identity>_c<camera>...jpg|png|bmp|webp|tif, such as 0002_c1s1_000451_03.jpg"


def find_layout(root: str | Path, required_folders: Sequence[str], names: Sequence[str], dataset: str) -> Path:
    """The folder that holds all `required_folders`. names, errors: as in `find_home`."""
    return find_home(root, [required_folders], names, dataset)[0]


def parse_name(name: str, pattern: re.Pattern = MARKET_NAME) -> tuple[int, int] | None:
    """(pid, camid) of an image name, or None where it does not follow the pattern."""
    match = pattern.fullmatch(name)
    return (int(match["pid"]), int(match["camid"])) if match else None


def is_stray(name: str) -> bool:
    """Files that unpacking and file managers leave behind: Thumbs.db, .DS_Store, ._0002_c1s1.jpg, notes."""
    return name.startswith(".") or not name.lower().endswith(IMAGE_SUFFIXES)


def unread_images(folders: Iterable[Path], dataset: str) -> tuple[str, ...]:
    """Paths of images that are not read: of other kinds, by suffix or first bytes, and all of the folders below; a
    warning says how many.

    folders: missing ones are passed over, and so are hidden files and folders.
    """
    found = sorted(path for folder in folders if folder.is_dir() for path in _passed_over(folder))
    if found:
        warnings.warn(
            f"{dataset}: {len(found)} images are left out (first: {found[0]!r}), as the kit does not read their kind "
            f"or they lie in a folder below; convert them to one of {', '.join(IMAGE_SUFFIXES)}, or move them up",
            stacklevel=4,
        )
    return tuple(found)


def _passed_over(folder: Path) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or entry.name in LITTER_FOLDERS:
            continue
        if entry.is_dir():
            images, unread = images_below(entry.path)
            yield from images + unread
        elif is_unread_image(entry.path):
            yield entry.path


def read_folder(
    folder: str | Path,
    dataset: str,
    pattern: re.Pattern = MARKET_NAME,
    expected: str = EXPECTED_NAME,
) -> pd.DataFrame:
    """Table `path`, `pid`, `camid` of the images of one folder, sorted by name. Only names are read.

    pattern: a regular expression with the groups `pid` and `camid` that matches the whole name.
    Raises DatasetError: folder missing or without images, a name that does not parse, a folder named
    like an image.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        raise DatasetError(f"{dataset}: the folder {folder} is missing")
    rows = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_stray(entry.name):
                continue
            ids = parse_name(entry.name, pattern)
            if ids is None:
                raise DatasetError(
                    f"{dataset}: cannot read identity and camera from the name {entry.name!r} in {folder}; "
                    f"expected {expected}. Rename the file or move it out of the folder."
                )
            if entry.is_dir():
                raise DatasetError(
                    f"{dataset}: {entry.name!r} in {folder} is a folder named like an image; move it away"
                )
            rows.append((entry.path, *ids))
    if not rows:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise DatasetError(f"{dataset}: no images ({kinds}) in {folder}; it holds {listing(folder)}")
    return pd.DataFrame(sorted(rows), columns=["path", "pid", "camid"])


def read_layout(
    folder: str | Path, name: str, *, splits: Mapping[str, str] = SPLITS, overlap: Literal["error", "warn"] = "error"
) -> ReIDDataset:
    """A data set from one folder in Market-1501's layout.

    splits: folder of each of train, query, gallery (Sidewalk has other test folders for other levels).
    overlap: what to do when test identities are also trained on: "error", or "warn" for folders of
        unknown origin.
    `gt_bbox`, where present, becomes the table `info["gt_bbox"]` for multi-query tests; `info["unread_images"]`
    names the images that no table holds because of their kind.
    Raises DatasetError as `read_folder` does.
    """
    folder = Path(os.path.abspath(folder))
    tables = {split: read_folder(folder / sub, name) for split, sub in splits.items()}
    tables["train"] = _without_junk(tables["train"], name)
    info: dict[str, Any] = {}
    if (folder / MULTI_QUERY).is_dir():
        info["gt_bbox"] = read_folder(folder / MULTI_QUERY, name)
    if unread := unread_images((folder / sub for sub in (*splits.values(), MULTI_QUERY)), name):
        info["unread_images"] = unread
    ds = ReIDDataset(name, folder, tables["train"], tables["query"], tables["gallery"], info=info)
    check_overlap(ds, overlap)
    return ds


def _without_junk(train: pd.DataFrame, name: str) -> pd.DataFrame:
    """Training rows with identity -1 have no label to learn."""
    kept = train.loc[train.pid >= 0].reset_index(drop=True)
    if kept.empty:
        raise DatasetError(f"{name}: every training image is junk (identity -1); there is nothing to learn")
    return kept


def load_market1501(root: str | Path) -> ReIDDataset:
    """Market-1501 (Zheng et al., ICCV 2015): 751 training identities, 3,368 queries, 19,732 gallery images.

    root: the data set's folder or the folder it was unpacked into.
    """
    return read_layout(find_layout(root, list(SPLITS.values()), ARCHIVE_NAMES, "market1501"), "market1501")


def load_market_layout(root: str | Path) -> ReIDDataset:
    """Any folder in Market-1501's layout; the data set is named after the folder."""
    folder = find_layout(root, list(SPLITS.values()), ARCHIVE_NAMES, "market-layout")
    return read_layout(folder, folder.name, overlap="warn")
