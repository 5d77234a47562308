"""Data sets as tables, PxK sampling, transforms that move image and prior together.

ds = load_dataset("sidewalk", size="tiny")                 # rendered on first use, below `data_root()`
ds = load_dataset("market1501", root="/disk/reid")         # a copy that you have
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from reidkit.data.dataset import ReIDDataset
from reidkit.data.pictures import list_images, open_image
from reidkit.data.place import data_root
from reidkit.data.sampler import PKSampler
from reidkit.data.sets.published import honest_label
from reidkit.errors import DatasetError, unknown_name
from reidkit.files import disk_error

__all__ = [
    "DATASETS",
    "PKSampler",
    "ReIDDataset",
    "data_root",
    "list_images",
    "load_dataset",
    "loader_options",
    "open_image",
]

# name -> (module, function, options that the name stands for). Imported on use: only CUHK03 needs h5py.
DATASETS = {
    "sidewalk": ("reidkit.data.sidewalk", "load_sidewalk", {}),
    "market1501": ("reidkit.data.sets.market", "load_market1501", {}),
    "market-layout": ("reidkit.data.sets.market", "load_market_layout", {}),
    "dukemtmc": ("reidkit.data.sets.duke", "load_dukemtmc", {}),
    "occluded-duke": ("reidkit.data.sets.duke", "load_occluded_duke", {}),
    "cuhk03-detected": ("reidkit.data.sets.cuhk03", "load_cuhk03", {"boxes": "detected"}),
    "cuhk03-labeled": ("reidkit.data.sets.cuhk03", "load_cuhk03", {"boxes": "labeled"}),
    "folder": ("reidkit.data.sets.folder", "load_folder", {}),
    "csv": ("reidkit.data.sets.csv", "load_csv", {}),
    "msmt17": ("reidkit.data.sets.msmt17", "load_msmt17", {}),
}


def load_dataset(
    name: str, root: str | Path | None = None, *, cache_dir: str | Path | None = None, **options
) -> ReIDDataset:
    """A data set by name (the keys of `DATASETS`).

    root: where data sets live; None: in `data_root()`, whatever the working directory. "sidewalk" is rendered below it
        on first use; the real sets are found in `root` itself or in the folder their archive unpacks to;
        "market-layout" takes any folder in Market-1501's layout. "folder" reads pictures of your own below `root`,
        "csv" those that a CSV lists. A leading ~ is the home folder, here and in cache_dir.
    cache_dir: where decoded images, priors and reports are kept instead of below the data set's own folder, for data
        on a disk that cannot be written to. (The images in CUHK03's .mat are written beside it all the same.)
    options: of the set's own loader, such as `seed` and `size` of Sidewalk: "tiny", "small", "medium", "many",
        "siblings", "unhidden" or "full"; or `train_fraction`, `queries` and `seed` of "folder" and "csv".
    Raises UnknownNameError for an unknown name or option, ReIDKitError for an option of "folder" or "csv" that can have
    no effect on these pictures, DatasetError for folders that are missing, damaged or cannot be read.
    """
    known = loader_options(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
    root = data_root() if root is None else Path(os.path.expanduser(root))
    try:
        ds = _loader(name)(root, **DATASETS[name][2], **options)
    except OSError as error:  # a folder or a list without permission, a network disk that is gone
        raise disk_error(f"{name}: {error.filename or root} cannot be read", error, DatasetError) from error
    source = {"name": name, "root": str(root.absolute()), "options": options}
    ds = replace(ds, source=source, cache_dir=Path(os.path.expanduser(cache_dir)) if cache_dir else None)
    return replace(ds, label=honest_label(ds, DATASETS))


def loader_options(name: str) -> dict[str, Any]:
    """{option: its type} of what `load_dataset` takes for a data set. UnknownNameError for an unknown name."""
    kinds = get_type_hints(_loader(name))
    return {option: kind for option, kind in kinds.items() if option not in ("root", "return", *DATASETS[name][2])}


def _loader(name: str) -> Callable[..., ReIDDataset]:
    """The function that reads a data set."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    module, function, _ = DATASETS[name]
    return getattr(import_module(module), function)
