"""The ground truth that no photographed data set has: exact maps, body extent and visibility of every image.

`truth/<folder>.npz` holds the fragment maps of one image folder, each compressed on its own, so that a few of
50,000 can be read without the rest. `meta.csv` holds one row of facts an image.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.data.sidewalk.labels import PART_NAMES, parsing_map, part_map, segmentation_map
from reidkit.data.sidewalk.plan import FOLDERS
from reidkit.errors import DatasetError

VISIBLE = tuple(f"visible_{name}" for name in PART_NAMES)  # columns of meta.csv


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of N images of H x W pixels, in the order of the table it was asked for.

    codes: [N, H, W] uint8 fragment codes (labels.py), of which the next three are views by look-up.
    parts: [N, H, W] uint8 body parts: 0 = not the person, i + 1 = PART_NAMES[i].
    parsing: [N, H, W] uint8 LIP labels 0..19 (accessories and neck are 0, as LIP has no label for them).
    segmentation: [N, H, W] bool, the whole person with accessories.
    top, bottom: [N] float, where the whole body begins and ends as fractions of the image height; below 0 or above
        1 when the box cuts the body; NaN where no person is.
    visibility: [N, len(PART_NAMES)] share of each part that is neither cut off nor occluded; NaN = not there.
    """

    codes: np.ndarray
    parts: np.ndarray
    parsing: np.ndarray
    segmentation: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    visibility: np.ndarray


def pack_truth(path: Path, facts: Sequence[dict], maps: Sequence[np.ndarray]) -> None:
    """Write the rows of facts and the fragment maps [H, W] uint8 of some images to one file."""
    packed = [zlib.compress(codes.tobytes(), 6) for codes in maps]
    _save(path, packed, list(facts), maps[0].shape)


def join_truth(path: Path, parts: Sequence[Path]) -> None:
    """Join files of `pack_truth` to one, in their order, without unpacking the maps."""
    packed, facts, shape = [], [], None
    for part in parts:
        with np.load(part) as file:
            data, start, shape = file["data"], file["start"], tuple(file["shape"])
            packed += [data[a:b].tobytes() for a, b in pairwise(start)]
            facts += json.loads(file["facts"].tobytes())
    _save(path, packed, facts, shape)


def _save(path: Path, packed: list[bytes], facts: list[dict], shape) -> None:
    start = np.cumsum([0, *map(len, packed)], dtype=np.int64)
    data, text = (
        np.frombuffer(b"".join(packed), np.uint8),
        np.frombuffer(json.dumps(facts).encode(), np.uint8),
    )
    with open(path, "wb") as file:
        np.savez(file, data=data, start=start, facts=text, shape=np.array(shape))


def write_meta(path: Path, files: Sequence[Path]) -> None:
    """Write meta.csv, one row an image, from the facts in the truth files."""
    rows = []
    for name in files:
        with np.load(name) as file:
            rows += json.loads(file["facts"].tobytes())
    table = pd.DataFrame(rows)
    visible = pd.DataFrame(table.pop("visibility").tolist(), columns=list(VISIBLE))
    pd.concat((table, visible), axis=1).to_csv(path, index=False)


def read_meta(folder: Path) -> pd.DataFrame:
    """meta.csv as a table; `path` is relative to the folder. Raises DatasetError when it cannot be read."""
    try:
        meta = pd.read_csv(folder / "meta.csv")
        if not {"path", "folder", *VISIBLE} <= {*meta.columns} or not {*FOLDERS} <= {*meta["folder"]}:
            raise ValueError(f"it has not the columns or not the rows of all of {', '.join(FOLDERS)}")
        return meta
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {folder / 'meta.csv'}: {error}. Delete {folder} to render it anew") from error


def load_truth(ds: ReIDDataset, table: pd.DataFrame) -> Truth:
    """Ground truth of the images of a table of `ds` (ds.train, a slice of it, a query table ...).

    Memory: 4 bytes a pixel; pass a part of the table of the full set. Raises DatasetError for an empty table or an
    image that is not of this rendering.
    """
    if len(table) == 0:
        raise DatasetError("load_truth: the table is empty, expected at least one image")
    try:
        paths = [Path(p).relative_to(ds.root).as_posix() for p in table["path"]]
    except ValueError as error:
        raise DatasetError(f"load_truth: {error}; expected images of {ds.root}") from error
    meta = read_meta(Path(ds.root)).set_index("path")
    if unknown := sorted(set(paths) - set(meta.index)):
        raise DatasetError(f"load_truth: {unknown[0]} is not an image of the rendering {ds.root}")
    rows = meta.loc[paths]
    codes = _load_codes(Path(ds.root), paths, meta)
    return Truth(
        codes=codes,
        parts=part_map(codes),
        parsing=parsing_map(codes),
        segmentation=segmentation_map(codes),
        top=rows["top"].to_numpy(),
        bottom=rows["bottom"].to_numpy(),
        visibility=rows[list(VISIBLE)].to_numpy(),
    )


def _load_codes(root: Path, paths: list[str], meta: pd.DataFrame) -> np.ndarray:
    """[N, H, W] uint8; the maps of a folder lie in the order of its rows in meta.csv."""
    order = pd.Series(meta.groupby("folder").cumcount().to_numpy(), index=meta.index)
    out = np.empty(0, np.uint8)
    for folder in dict.fromkeys(p.split("/")[0] for p in paths):
        try:
            with np.load(root / "truth" / f"{folder}.npz") as file:
                data, start, shape = file["data"], file["start"], tuple(file["shape"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DatasetError(
                f"cannot read the truth of {folder} in {root}: {error}. Delete {root} to render it anew"
            ) from error
        if not out.size:
            out = np.empty((len(paths), *shape), np.uint8)
        for i, path in enumerate(paths):
            if path.startswith(f"{folder}/"):
                k = order[path]
                raw = zlib.decompress(data[start[k] : start[k + 1]].tobytes())
                out[i] = np.frombuffer(raw, np.uint8).reshape(shape)
    return out
