"""CUHK03 (Li et al., CVPR 2014) under the new protocol (Zhong et al., CVPR 2017), in both forms it comes in.

1. CUHK03-NP: `detected/` and `labeled/`, each in Market-1501's layout, names `0001_c1_1.png`.
2. `cuhk-03.mat` (MATLAB v7.3, read through h5py) with `cuhk03_new_protocol_config_<boxes>.mat` (read through
   scipy). Its images are written once to `images_<boxes>/` as `<pair>_<person>_<view>_<index>.png`.

detected: boxes of a pedestrian detector; labeled: boxes drawn by hand. Two views (camera 1 and 2) of five
camera pairs; the pair is the column `pair` of form 2.
Junk rules: no junk and no distractors. As everywhere, gallery images of the query's own person from the
query's own camera are left out when ranking.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from reidkit.data.dataset import ReIDDataset
from reidkit.data.sets.folders import looked_in, places, quarantined
from reidkit.data.sets.market import SPLITS, SUFFIX, read_layout
from reidkit.data.sets.overlap import check_overlap
from reidkit.errors import DatasetError, unknown_name
from reidkit.files import disk_error, replacing
from reidkit.locks import locked

Boxes = Literal["detected", "labeled"]
BOXES: tuple[Boxes, ...] = get_args(Boxes)
NAMES = ("cuhk03-np", "CUHK03-NP", "cuhk03_np", "cuhk03", "CUHK03", "cuhk03_release", "archive")
MAT_FILE = "cuhk-03.mat"
PROTOCOL_FILE = "cuhk03_new_protocol_config_{}.mat"
INDEX_KEYS = {"train": "train_idx", "query": "query_idx", "gallery": "gallery_idx"}
IMAGE_NAME = re.compile(
    rf"(?P<pair>[0-9]+)_(?P<person>[0-9]+)_(?P<view>[12])_(?P<index>[0-9]+){SUFFIX}", re.IGNORECASE | re.ASCII
)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads would ask for memory of their own
MOST_BYTES = 64 << 20  # of one image
VIEWS = 10  # columns of a person's row: five images of view 1, five of view 2


def load_cuhk03(root: str | Path, boxes: Boxes = "detected", *, progress: bool = True) -> ReIDDataset:
    """CUHK03, new protocol: 767 training identities, 1,400 queries, 5,332 (labeled: 5,328) gallery images.

    root: the data set's folder or the folder above it. boxes: "detected" or "labeled".
    With `cuhk-03.mat` the first call writes the images out (minutes, shown by a bar, resumable).
    Raises DatasetError: neither form found, files damaged, protocol and images not of one kind.
    """
    if boxes not in BOXES:
        raise unknown_name("CUHK03 boxes", boxes, BOXES)
    where = places(root, NAMES)
    for place in _folder_places(where, boxes):
        if all((place / folder).is_dir() for folder in SPLITS.values()):
            return replace(read_layout(place, f"cuhk03-{boxes}"), junk_pids=())
    protocol = _first_file(where, PROTOCOL_FILE.format(boxes))
    mat = _first_file(where, MAT_FILE)
    images = next((p / f"images_{boxes}" for p in where if (p / f"images_{boxes}").is_dir()), None)
    if protocol is not None and images is None and mat is not None:
        home = mat.parent.parent if mat.parent.name == "cuhk03_release" else mat.parent
        images = extract_mat(mat, boxes, home / f"images_{boxes}", progress=progress)
    if protocol is None or images is None:
        raise DatasetError(_not_found(root, boxes, protocol, mat))
    return _read_protocol(protocol, images, boxes)


def _folder_places(where: list[Path], boxes: Boxes) -> Iterator[Path]:
    """Where a Market-like layout of these boxes may lie. A bare root must not be named after the other boxes."""
    other = BOXES[1 - BOXES.index(boxes)]
    if other not in where[0].name.lower():
        yield where[0]
    for place in where:
        yield from (place / boxes, place / f"CUHK03_{boxes}", place / f"cuhk03_{boxes}")


def _first_file(where: list[Path], name: str) -> Path | None:
    return next((p / name for p in where if (p / name).is_file()), None)


def _not_found(root: str | Path, boxes: Boxes, protocol: Path | None, mat: Path | None) -> str:
    """What is there of form 2, and what to do."""
    have = [str(p) for p in (protocol, mat) if p is not None]
    return (
        f"cuhk03-{boxes}: found neither {boxes}/{{{','.join(SPLITS.values())}}} (CUHK03-NP) nor {MAT_FILE} with "
        f"{PROTOCOL_FILE.format(boxes)}"
        + (f"; of the second form only {have[0]} is there" if have else "")
        + f". {looked_in(root, NAMES)} Put either form there or name its own folder (--root FOLDER, in "
        f"Python load_dataset('cuhk03-{boxes}', root=...))."
    )


def extract_mat(mat: str | Path, boxes: Boxes, out: str | Path, *, progress: bool = True) -> Path:
    """Write every image of `cuhk-03.mat` for one kind of boxes to the folder `out`, and return it.

    Work goes to `<out>.part`, where finished images are kept when the run is killed; the folder gets its name
    when all are there. A second process waits for the first, and takes what it wrote.
    Raises DatasetError when the file cannot be read, is no MATLAB v7.3 file or is cut off, and when the disk refuses.
    """
    if importlib.util.find_spec("h5py") is None:
        raise DatasetError(f"reading {mat} needs h5py: pip install h5py")
    out = Path(out)
    check_readable(Path(mat))
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out} is a file, and would be the folder of the images in {mat}; move it away")
    try:
        with locked(out.with_name(f".{out.name}.lock"), f"another process writes {out}; waiting for it"):
            if not out.is_dir():
                part = out.with_name(out.name + ".part")
                part.mkdir(parents=True, exist_ok=True)
                _extract(Path(mat), boxes, part, progress)
                os.replace(part, out)
    except OSError as error:
        raise disk_error(f"cannot write the images of {mat} to {out}", error, DatasetError) from error
    return out


def check_readable(file: Path) -> None:
    """DatasetError for a file that may not be read, in words of its own: libraries call that damaged, or not found."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise disk_error(f"{file} cannot be read", error, DatasetError) from error


def _extract(mat: Path, boxes: Boxes, part: Path, progress: bool) -> None:
    """Write every image that is not in `part` yet."""
    import h5py

    try:
        with h5py.File(mat, "r") as file:
            cells = list(_cells(file, boxes, mat))
            for name, ref in tqdm(cells, desc=f"{mat.name} {boxes}", unit="img", disable=not progress):
                target = part / name
                if not target.exists():
                    _write_image(file[ref][()], target)  # pyright: ignore[reportIndexIssue, reportArgumentType]
    except DatasetError:
        raise
    except Exception as error:  # h5py raises half a dozen kinds on damaged bytes
        if isinstance(error, OSError) and error.errno and not isinstance(error, FileNotFoundError):
            raise disk_error(f"cannot write the images of {mat} to {part}", error, DatasetError) from error
        raise DatasetError(
            f"{mat} cannot be read as a MATLAB v7.3 file ({error}); it may be cut off: unpack or download it again. "
            f"Finished images stay in {part}"
        ) from error


def _cells(file, boxes: Boxes, mat: Path) -> Iterator[tuple[str, object]]:
    """(image name, HDF5 reference) of every cell: five pairs, each [persons, 10]."""
    if boxes not in file:
        raise DatasetError(f"{mat} has no entry {boxes!r}; it holds {', '.join(file)}. Expected {MAT_FILE}.")
    for pair, pair_ref in enumerate(file[boxes][()].ravel(), 1):
        refs = file[pair_ref][()].T  # MATLAB stores columns first: [10, persons] -> [persons, 10]
        if refs.ndim != 2 or refs.shape[1] != VIEWS:
            raise DatasetError(f"{mat}: pair {pair} has the shape {refs.shape}; expected [persons, {VIEWS}]")
        for person, row in enumerate(refs, 1):
            for index, ref in enumerate(row, 1):
                if file[ref].ndim == 3:  # an empty cell: this person has fewer images
                    view = 1 if index <= VIEWS // 2 else 2
                    yield f"{pair}_{person:03d}_{view}_{index:02d}.png", ref


def _write_image(array: np.ndarray, target: Path) -> None:
    """[3, W, H] uint8, columns first -> an [H, W, 3] picture on disk."""
    if array.dtype != np.uint8 or array.ndim != 3 or len(array) != 3 or not 0 < array.size <= MOST_BYTES:
        raise ValueError(f"the image {target.name} is {array.dtype} {list(array.shape)}, expected uint8 [3, W, H]")
    with replacing(target, DatasetError) as temporary:
        Image.fromarray(np.ascontiguousarray(array.T)).save(temporary, format="PNG")


def _read_protocol(protocol: Path, images: Path, boxes: Boxes) -> ReIDDataset:
    """Tables from the protocol's `filelist`, `labels` and one-based index lists."""
    names, labels, rows = _lists(protocol)
    by_suffix = sorted(os.listdir(images), key=lambda name: (name.endswith(".png"), name))  # .png, the kit's own, wins
    on_disk = {_key(name): name for name in by_suffix}
    gone = {_key(os.path.basename(path)) for path in quarantined(images.parent) if f"images_{boxes}" in path}
    keys = [_key(name) for name in names]
    _refuse_contradictions(protocol, names, keys, labels, rows)
    if len(labels) != len(names) or any(i.min() < 0 or i.max() >= len(names) for i in rows.values()):
        raise DatasetError(
            f"{protocol} contradicts itself: it lists {len(names)} images and {len(labels)} labels, and its indices go "
            f"from {1 + min(i.min() for i in rows.values())} to {1 + max(i.max() for i in rows.values())}; download it "
            "again"
        )
    if bad := [n for n, k in zip(names, keys) if k is None or (k not in on_disk and k not in gone)]:
        raise DatasetError(
            f"cuhk03-{boxes}: {protocol} lists {len(names)} images, and {len(bad)} of them are not in {images} (first: "
            f"{bad[0]!r}). If that folder was written in part, delete it: it is made again from {MAT_FILE}."
        )
    tables = {}
    for split, index in rows.items():
        index = [i for i in index if keys[i] in on_disk]  # without images in quarantine
        tables[split] = pd.DataFrame(
            {
                "path": [str(images / on_disk[keys[i]]) for i in index],
                "pid": labels[index],
                "camid": [keys[i][2] for i in index],
                "pair": [keys[i][0] for i in index],
            }
        )
    ds = ReIDDataset(f"cuhk03-{boxes}", images.parent, **tables, junk_pids=())
    check_overlap(ds, "error")
    return ds


def _refuse_contradictions(protocol: Path, names: list[str], keys: list, labels: np.ndarray, rows: dict) -> None:
    """DatasetError for an image that is listed twice, in `filelist` or in the index lists, and for a person of a camera
    pair with two labels."""
    first: dict[tuple, int] = {}
    label_of: dict[tuple, int] = {}
    for i, (key, label) in enumerate(zip(keys, labels.tolist())):
        if key is None:
            continue
        if first.setdefault(key, i) != i:
            raise DatasetError(f"{protocol}: filelist has {names[i]} twice, as entries {first[key] + 1} and {i + 1}")
        if label_of.setdefault(key[:2], label) != label:
            raise DatasetError(
                f"{protocol}: {names[i]} is labelled {label}, and other images of its person {label_of[key[:2]]}"
            )
    index, times = np.unique(np.concatenate([*rows.values()]), return_counts=True)
    if (times > 1).any():
        raise DatasetError(
            f"{protocol}: its train_idx, query_idx and gallery_idx name {(times > 1).sum()} images twice (first: entry "
            f"{index[times > 1][0] + 1} of filelist)"
        )


# A damaged .mat can crash scipy's reader, and Python with it. So another process reads it, within bounds.
READ_LISTS = """
import json, sys
import numpy as np
from scipy.io import loadmat
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (120, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
config = loadmat(sys.argv[1], variable_names=["filelist", "labels", *sys.argv[2:]])
lists = {key: config[key].ravel().astype(int).tolist() for key in ["labels", *sys.argv[2:]]}
lists["filelist"] = [str(np.ravel(cell)[0]) for cell in config["filelist"].ravel()]
sys.stdout.write(json.dumps(lists))
"""


def _lists(protocol: Path) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """(names of the images, their labels, {split: rows from 0}); DatasetError for a file that is no protocol."""
    if importlib.util.find_spec("scipy") is None:
        raise DatasetError(f"reading {protocol} needs scipy: pip install scipy")
    check_readable(protocol)
    command = [sys.executable, "-c", READ_LISTS, str(protocol), *INDEX_KEYS.values()]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, **ONE_THREAD})
    problem = next(reversed(done.stderr.strip().splitlines()), f"its reader ended with code {done.returncode}")
    if done.returncode == 0:
        lists = json.loads(done.stdout)
        names, labels = lists["filelist"], np.array(lists["labels"], np.int64)
        rows = {split: np.array(lists[key], np.int64) - 1 for split, key in INDEX_KEYS.items()}
        empty = [key for key in INDEX_KEYS.values() if not lists[key]]
        if names and not empty:
            return names, labels, rows
        problem = f"{', '.join(empty) or 'filelist'} is empty"
    raise DatasetError(f"{protocol} is not a protocol file of CUHK03-NP ({problem}); download it again")


def _key(name: str) -> tuple[int, int, int, int] | None:
    """(pair, person, view, index), so that 1_1_1_1.png and 1_001_1_01.png are one image."""
    match = IMAGE_NAME.fullmatch(name)
    if match is None:
        return None
    pair, person, view, index = map(int, match.groups())
    return pair, person, view, index
