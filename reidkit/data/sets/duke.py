"""DukeMTMC-reID and Occluded-DukeMTMC, for readers who already hold a copy.

DukeMTMC was filmed on a university campus by eight cameras, with people who had not agreed to be in a public
data set; after the press showed its use for surveillance research, its authors took it offline in June 2019.
The kit does not download it and links to no copy. The two papers report on it, so a copy obtained before can
be read; for new work choose another set, and say so where you must compare with old numbers.

Layout as in Market-1501, names `0001_c2_f0046182.jpg` (identity, camera 1..8, frame).
Junk rules: there is no junk (-1). 408 identities of the gallery were seen by one camera only; they are
distractors with numbers of their own, stay in the gallery, and are marked in its column `distractor`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tqdm.auto import tqdm

from reidkit.data.dataset import ReIDDataset
from reidkit.data.sets.market import SPLITS, find_layout, read_layout
from reidkit.errors import DatasetError
from reidkit.files import bring_to_disk, disk_error

DUKE_NAMES = ("DukeMTMC-reID", "DukeMTMC-reid", "dukemtmc-reid", "dukemtmcreid", "dukemtmc", "DukeMTMC", "duke")
OCCLUDED_NAMES = (
    "Occluded_Duke",
    "Occluded-DukeMTMC",
    "Occluded-DukeMTMC-reID",
    "Occluded-Duke",
    "occluded-duke",
    "occluded_duke",
    "OccludedDuke",
)
LISTS = {"train": "train.list", "query": "query.list", "gallery": "gallery.list"}


def load_dukemtmc(root: str | Path) -> ReIDDataset:
    """DukeMTMC-reID (Zheng et al., ICCV 2017): 702 training identities, 2,228 queries, 17,661 gallery images.

    Withdrawn by its authors in 2019 because the people in it had not consented (see the top of this file):
    only a copy that you already have can be read.
    root: the data set's folder or the folder it was unpacked into.
    Raises DatasetError as `reidkit.data.sets.market.read_folder` does.
    """
    return _load(root, DUKE_NAMES, "dukemtmc")


def load_occluded_duke(root: str | Path) -> ReIDDataset:
    """Occluded-DukeMTMC (Miao et al., ICCV 2019): every query is occluded; 15,618 / 2,210 / 17,661 images.

    The images are DukeMTMC-reID's, withdrawn in 2019 because the people in it had not consented: the authors
    publish lists of names only, and `build_occluded_duke` turns a copy that you already have into this layout.
    """
    return _load(root, OCCLUDED_NAMES, "occluded-duke")


def _load(root: str | Path, names: tuple[str, ...], dataset: str) -> ReIDDataset:
    ds = read_layout(find_layout(root, list(SPLITS.values()), names, dataset), dataset)
    gallery = ds.gallery.assign(distractor=~ds.gallery.pid.isin(ds.query.pid))
    return replace(ds, gallery=gallery, junk_pids=())


def build_occluded_duke(
    duke: str | Path, lists: str | Path, destination: str | Path, *, progress: bool = True
) -> ReIDDataset:
    """Write Occluded-DukeMTMC from a copy of DukeMTMC-reID and the authors' three lists of names.

    duke: folder of DukeMTMC-reID (or above it). lists: folder with train.list, query.list, gallery.list, one
    image name a line. destination: a new folder; a killed run goes on where it stopped.
    Raises DatasetError: a list or an image is missing, a line is not a plain name, `destination` is not empty.
    """
    source = find_layout(duke, list(SPLITS.values()), DUKE_NAMES, "dukemtmc")
    destination = Path(os.path.abspath(destination))
    if destination.exists() and any(destination.iterdir()):
        raise DatasetError(f"{destination} already holds something; move it away, or use what it holds")
    names = {split: read_name_list(Path(lists) / file) for split, file in LISTS.items()}
    origin = {p.name: p for folder in SPLITS.values() for p in sorted((source / folder).iterdir())}
    work = destination.with_name(destination.name + ".building")
    try:
        _copy_images(names, origin, work, progress)
        if destination.exists():
            destination.rmdir()
        bring_to_disk()
        os.replace(work, destination)
    except OSError as error:
        raise disk_error(
            f"cannot copy {error.filename or 'the images'} to {work}, where what is copied stays for the next call",
            error,
            DatasetError,
        ) from error
    return load_occluded_duke(destination)


def read_name_list(path: Path) -> list[str]:
    """Image names of a list file, one a line. Raises DatasetError on a path, a name twice or an empty list."""
    if not path.is_file():
        raise DatasetError(f"occluded-duke: {path} is missing; the lists are in the authors' repository")
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a list of names ({error}); download the list again") from error
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if first.setdefault(name, number) != number:
            raise DatasetError(f"{path}, entry {number}: {name} is entry {first[name]} too; delete one of the two")
        if Path(name).name != name or "\\" in name:
            raise DatasetError(f"{path}, entry {number}: expected a plain image name, got {name!r}")
    if not names:
        raise DatasetError(f"{path} is empty; download the list again")
    return names


def _copy_images(names: Mapping[str, list[str]], origin: Mapping[str, Path], work: Path, progress: bool) -> None:
    """Copy every listed image to its new split, each by a rename of a finished copy."""
    missing = [name for split in names.values() for name in split if name not in origin]
    if missing:
        raise DatasetError(
            f"occluded-duke: {len(missing)} listed images are not in the copy of DukeMTMC-reID "
            f"(first: {missing[0]!r}); its counts should be 16,522 / 2,228 / 17,661"
        )
    for split, folder in SPLITS.items():
        (work / folder).mkdir(parents=True, exist_ok=True)
        for other in {entry.name for entry in os.scandir(work / folder)} - {*names[split]}:
            (work / folder / other).unlink()  # of an interrupted call with other lists, or half of a copy
        for name in tqdm(names[split], desc=f"occluded-duke {split}", disable=not progress):
            target = work / folder / name
            if not target.exists():
                part = target.with_name(name + ".part")
                shutil.copyfile(origin[name], part)
                os.replace(part, target)
