"""The ground truth that no photographed data set has: exact maps, body extent and visibility of every image.

`truth/<folder>.npz` holds the fragment maps of one image folder, each compressed on its own, so that a few of
50,000 can be read without the rest. `meta.csv` holds one row of facts an image.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import upright_size
from reidkit.data.sidewalk.labels import PART_NAMES, parsing_map, part_map, segmentation_map
from reidkit.data.sidewalk.plan import FOLDERS
from reidkit.errors import DatasetError
from reidkit.readers import read_arrays, read_table

VISIBLE = tuple(f"visible_{name}" for name in PART_NAMES)  # columns of meta.csv
META: dict[str, type] = {
    **dict.fromkeys(("path", "folder", "differs", "detector", "occluder", "tool_faults"), str),
    **dict.fromkeys(("pid", "camid", "group"), int),
    **dict.fromkeys(("yaw", "shift", "top", "bottom", "quality", *VISIBLE), float),
}
FACTS = {"visibility", *META} - {*VISIBLE}  # of an image in a truth file
MOST_PIXELS = 1 << 22  # of a map; the full set has 384 x 128


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
    """Join files of `pack_truth` to one, in their order, without unpacking the maps. DatasetError for a damaged one."""
    packed, facts, shape = [], [], None
    for part in parts:
        found = _read(part)
        packed += [found.data[a:b].tobytes() for a, b in pairwise(found.start)]
        facts += found.facts
        shape = found.shape
    _save(path, packed, facts, shape)


class _File(NamedTuple):
    """A truth file. data [M] uint8: the packed maps one after the other; map i is data[start[i] : start[i + 1]]."""

    data: np.ndarray
    start: np.ndarray
    facts: list[dict]
    shape: tuple[int, int]


def _read(path: Path) -> _File:
    """A truth file; DatasetError where it is damaged."""
    remedy = f"delete it and {path.parent.parent / 'sidewalk.json'}: `reidkit sidewalk render` makes it again"
    if path.parent.name == "parts":
        remedy = "delete it: `reidkit sidewalk render` makes it again"
    columns = {"data": (np.uint8, (None,)), "start": (np.int64, (None,)), "facts": (np.uint8, (None,))}
    columns["shape"] = (np.int64, (2,))
    found = read_arrays(path, columns, missing=f"{path} is missing; {remedy}", remedy=remedy, error=DatasetError)
    start, (height, width) = found["start"], map(int, found["shape"])
    problem = ""
    try:
        facts = json.loads(found["facts"].tobytes())
        problem = (
            ""
            if isinstance(facts, list) and all(isinstance(f, dict) and f.keys() >= FACTS for f in facts)
            else "its facts are no rows"
        )
    except ValueError as error:
        facts, problem = [], f"its facts: {error}"
    if len(start) != len(facts) + 1 or start[0] != 0 or start[-1] != len(found["data"]) or (np.diff(start) < 0).any():
        problem = problem or f"it has maps for {len(start) - 1} images and facts of {len(facts)}"
    if not (0 < height * width <= MOST_PIXELS and height > 0):
        problem = f"its maps are {height} x {width}"
    if problem:
        raise DatasetError(f"{path} is not whole ({problem}); {remedy}")
    return _File(found["data"], start, facts, (height, width))


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
        rows += _read(name).facts
    table = pd.DataFrame(rows)
    visible = pd.DataFrame(table.pop("visibility").tolist(), columns=list(VISIBLE))
    pd.concat((table, visible), axis=1).to_csv(path, index=False)


def read_meta(folder: Path) -> pd.DataFrame:
    """meta.csv as a table; `path` is relative to the folder. Raises DatasetError when it cannot be read."""
    file = folder / "meta.csv"
    remedy = f"delete it and {folder / 'sidewalk.json'}: `reidkit sidewalk render` writes it again"
    meta = read_table(file, META, missing=f"{file} is missing; {remedy}", remedy=remedy, error=DatasetError)
    shares = meta[list(VISIBLE)]
    if not {*FOLDERS} <= {*meta["folder"]} or not (meta["path"].str.split("/").str[0] == meta["folder"]).all():
        problem = f"its rows are not those of {', '.join(FOLDERS)}"
    elif meta["path"].duplicated().any():
        problem = f"{meta.loc[meta['path'].duplicated(), 'path'].iloc[0]} has two rows"
    elif ((shares < 0) | (shares > 1)).to_numpy().any():
        problem = "a visible share is outside 0 to 1"
    else:
        return meta
    raise DatasetError(f"{file} is damaged ({problem}); {remedy}")


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
        path = root / "truth" / f"{folder}.npz"
        found = _read(path)
        if len(found.facts) != (rows := int((meta["folder"] == folder).to_numpy().sum())):
            raise DatasetError(f"{path} has maps of {len(found.facts)} images, meta.csv has {rows}; render {root} anew")
        names = [name for name in paths if name.startswith(f"{folder}/")]
        if found.shape != (size := upright_size(root / names[0])):
            maps, image = (f"{height} x {width}" for height, width in (found.shape, size))
            raise DatasetError(f"{path} has maps of {maps} pixels, {names[0]} has {image}; render {root} anew")
        if not out.size:
            out = np.empty((len(paths), *found.shape), np.uint8)
        for i, name in enumerate(paths):
            if name.startswith(f"{folder}/"):
                k = order[name]
                out[i] = _unpacked(found.data[found.start[k] : found.start[k + 1]].tobytes(), out.shape[1:], path)
    return out


def _unpacked(packed: bytes, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """One map [H, W] uint8; DatasetError where it is no whole one."""
    try:
        raw = zlib.decompressobj().decompress(packed, shape[0] * shape[1] + 1)  # no more than a map has
        return np.frombuffer(raw, np.uint8).reshape(shape)
    except (zlib.error, ValueError) as error:
        raise DatasetError(f"{path} holds a map that is damaged ({error}); render {path.parent.parent} anew") from error
