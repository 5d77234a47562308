"""Are there people in a test whom the run was trained on? Their images are compared file by file.

A run remembers which loader, with which options, made its data set. Where that folder, or a copy of it, is still there
its training images are listed again: a folder of people divided by another seed tests on people of the training.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from reidkit.data import ReIDDataset, load_dataset
from reidkit.data.sidewalk.plan import Settings
from reidkit.data.sidewalk.tools import ToolRates
from reidkit.data.sidewalk.writer import is_complete
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.training.runs import RunFolder


def warn_of_seen_people(run: RunFolder, dataset: ReIDDataset) -> int | None:
    """How many test images of a data set, all levels together, show people whom a run was trained on; warns of them.

    None where the run's training images cannot be listed again. Nothing is listed for the data set of the run itself.
    """
    settings = run.read_settings()
    if settings.get("fingerprint") == dataset.fingerprint():
        return 0
    if (trained := training_images(settings, dataset)) is None:
        return None
    test = _images([dataset.query, dataset.gallery, *(t for pair in dataset.levels.values() for t in pair)], dataset)
    every = pd.concat([test, _images([dataset.train], dataset)])
    files = {_file(path) for path in trained}
    seen = test.loc[test.pid.isin(set(every.pid[[_file(path) in files for path in every.path]]))]
    if len(seen):
        warnings.warn(
            f"{len(seen)} of {len(test)} test images of {dataset.label} show people this run was trained on: "
            f"{seen.pid.nunique()} of {test.pid.nunique()} people (first: {seen.path.iloc[0]!r}; run {run.path.name}). "
            "Numbers of people seen in training are too good: test on the split that the run was trained with, or on "
            "other people",
            stacklevel=3,
        )
    return len(seen)


def training_images(settings: dict[str, Any], dataset: ReIDDataset) -> list[str] | None:
    """Paths of the images that a run was trained on, listed again; None where they cannot be.

    Looked for where the run's data set lay, and where `dataset` lies, if the same loader made it: a moved folder or a
    copy. Where neither has the run's fingerprint, the first is taken: it has changed since.
    """
    if (source := settings["source"]) is None:
        return None
    here, there = dataset.source.get("root"), settings.get("root")
    places = [there, *([here] if dataset.source.get("name") == source["name"] else [])]
    listed = {place: _listed(settings, place) for place in dict.fromkeys(filter(None, places))}
    exact = [ds for ds in listed.values() if ds and ds.fingerprint() == settings.get("fingerprint")]
    found = exact or [ds for ds in [listed.get(there)] if ds]
    return [path for ds in found for path in ds.train.path] or None


def unrendered(name: str, root: str | Path, options: dict[str, Any]) -> str:
    """What would have to be rendered to open a data set below `root`, and the command that does; "" for nothing."""
    if name != "sidewalk":
        return ""
    settings = Settings(options.get("size", "small"), options.get("seed", 0), options.get("rates") or ToolRates())
    folder = Path(root).expanduser().resolve() / settings.folder_name
    if is_complete(folder, settings):
        return ""
    seed = f" --seed {settings.seed}" if settings.seed else ""
    return (
        f"{settings.folder_name} is not rendered below {root} (reidkit sidewalk render --size {settings.size}{seed} "
        f"--out {root})"
    )


def _listed(settings: dict[str, Any], place: str) -> ReIDDataset | None:
    """The data set of a run, opened below `place` without a word; None where it is not there."""
    name, options = settings["source"]["name"], settings["source"]["options"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were said when it was trained
            if unrendered(name, place, options):
                return None
            dataset = load_dataset(name, root=place, **options)
            return dataset.validation_split() if settings["level"] == "validation" else dataset
    except (ReIDKitError, OSError):
        return None


def _images(tables: list[pd.DataFrame], dataset: ReIDDataset) -> pd.DataFrame:
    """path, pid of every image of a person in some tables, each once."""
    rows = pd.concat([table.loc[:, ["path", "pid"]] for table in tables]).drop_duplicates(subset="path")
    return rows.loc[~rows.pid.isin({0, *dataset.junk_pids})]


def _file(path: str) -> tuple[int, int]:
    """What tells one file from another, by whatever name or link it is read."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise DatasetError(f"cannot read the image {path!r} ({error.strerror})") from error
    return found.st_dev, found.st_ino
