"""Trained networks as panels use them: opened once, feature maps of recent images kept, heads computed anew.

runs = open_runs(["runs/mpn-s0", "runs/baseline-s0"], dataset)
runs["mpn s0"].maps(path)              # feature maps of one image, from memory when it was asked for before
runs["mpn s0"].features(ds.gallery)    # [N, K, d], one row a part, extracted once
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reidkit.data import ReIDDataset
from reidkit.data.cache import fingerprint
from reidkit.data.images import read_image, relative_path, relative_paths
from reidkit.data.transforms import normalize
from reidkit.errors import PriorError, ReIDKitError
from reidkit.evaluation import extract_features
from reidkit.evaluation.features import Flip
from reidkit.files import replacing
from reidkit.models import ReIDModel
from reidkit.models.base import Maps
from reidkit.priors import PriorBatch, PriorTable
from reidkit.tensor_files import not_finite
from reidkit.training import RunFolder, load_run
from reidkit.training.recipes import Recipe


class Recent:
    """The last `size` results of expensive calls, by key."""

    def __init__(self, size: int = 64):
        self.size, self.known = size, OrderedDict()

    def __call__(self, key: Hashable, make: Callable[[], object]):
        if key not in self.known:
            self.known[key] = make()
            if len(self.known) > self.size:
                self.known.popitem(last=False)
        self.known.move_to_end(key)
        return self.known[key]


class PanelRun:
    """One network on one data set.

    name: what a panel calls it. size: (height, width) of its images. priors: needed by networks that rectify test
    images (`model.needs_prior_at_test`) and by no other. weights: the file of the weights, if they come from one.
    """

    def __init__(
        self,
        name: str,
        model: ReIDModel,
        recipe: Recipe,
        dataset: ReIDDataset,
        priors: PriorTable | None = None,
        weights: Path | None = None,
    ):
        if model.needs_prior_at_test and priors is None:
            raise PriorError(
                f"{name} rectifies its test images: build the priors of all splits "
                "(`reidkit priors build`) and pass them on as priors="
            )
        self.name, self.model, self.recipe, self.dataset, self.priors = name, model.eval(), recipe, dataset, priors
        self.size, self.weights = recipe.size, weights
        self._recent, self._features = Recent(), {}

    @property
    def num_parts(self) -> int:
        """K, how many part features the network has."""
        return self.model.num_parts

    def image(self, path: str) -> Tensor:
        """uint8 [3, H, W] at the network's size."""
        return self._recent(("image", path), lambda: torch.from_numpy(read_image(path, self.size)))

    def relative(self, path: str) -> str:
        """How prior tables name an image."""
        return relative_path(path, self.dataset.root)

    def prior(self, path: str) -> PriorBatch | None:
        """The prior of one image [1, ...], for networks that need it at test time."""
        if self.priors is None or not self.model.needs_prior_at_test:
            return None
        return self.priors.lookup([self.relative(path)])

    @torch.no_grad()
    def maps_of(self, images: Tensor) -> Maps:
        """Feature maps of uint8 images [B, 3, H, W]."""
        return self.model.feature_maps(normalize(images))

    def maps(self, path: str) -> Maps:
        """Feature maps of one image, [1, C, h, w] or a tuple of them."""
        return self._recent(("maps", path), lambda: self.maps_of(self.image(path)[None]))

    @torch.no_grad()
    def parts_of(self, maps: Maps, prior: PriorBatch | None = None) -> Tensor:
        """[B, K, d] part features from feature maps."""
        return self.model.heads(maps, prior).part_features

    def features(self, table: pd.DataFrame, progress: bool = False, mirror: bool = True) -> Tensor:
        """[N, K, d] part features of a table as in this run's evaluation; side by side they are what is ranked.

        mirror: add the mirror image, if the run's recipe does so. Kept in memory and in the data set's cache folder.
        """
        flip: Flip = self.recipe.test_flip if mirror else "none"

        def extract() -> Tensor:
            return extract_features(
                self.model,
                table,
                size=self.size,
                flip=flip,
                priors=self.priors,
                root=self.dataset.root,
                progress=progress,
            )

        return self.kept(flip, table, extract).unflatten(1, (self.num_parts, -1))

    def kept(self, kind: str, table: pd.DataFrame, make: Callable[[], Tensor]) -> Tensor:
        """What `make` computes from the images of a table, kept in memory and, for run folders, beside the data set's
        other caches. kind: names what it is. Whoever opens the run after an image has another size or date, or another
        prior where the network reads priors at test time, gets new features.
        """
        key = kind, tuple(table["path"])
        if key not in self._features:
            self._features[key] = self._read_or_make(kind, table, make)
        return self._features[key]

    def _read_or_make(self, kind: str, table: pd.DataFrame, make: Callable[[], Tensor]) -> Tensor:
        file = None
        if self.weights is not None:
            stamp = self.weights.stat()
            of = f"{self.weights.resolve().parent.name}-{stamp.st_mtime_ns:x}-{stamp.st_size:x}"
            name = f"{of}-{kind}-{self._sources(table)}.safetensors"
            file = self.dataset.derived("cache") / "features" / name
            if file.is_file() and (kept := _kept(file, len(table))) is not None:
                return kept
        made = make()
        if file is not None:
            with replacing(file) as temporary:
                save_file({"features": made}, temporary)
        return made

    def _sources(self, table: pd.DataFrame) -> str:
        """Changes with the images of a table and, where the network reads them, with their priors."""
        paths = list(table["path"])
        names = relative_paths(paths, self.dataset.root)
        digest = hashlib.sha256(fingerprint(paths, names).encode())
        if self.priors is not None and self.model.needs_prior_at_test:
            digest.update(self.priors.subset(names).digest().encode())
        return digest.hexdigest()[:16]


def _kept(file: Path, rows: int) -> Tensor | None:
    """The features in a file, [rows, D]; None where it is damaged, so that they are made again."""
    try:
        features = load_file(file)["features"]
    except (SafetensorError, OSError, LookupError, ValueError):
        return None
    return features if len(features) == rows and not not_finite({"features": features}) else None


def open_runs(
    runs: Mapping[str, str | Path | PanelRun] | Sequence[str | Path | PanelRun],
    dataset: ReIDDataset,
    priors: PriorTable | None = None,
) -> dict[str, PanelRun]:
    """Open finished run folders. runs: paths, or {name to show: path}; ready `PanelRun`s pass through.

    Names default to "variant s<seed>", or to the folder's name where two runs would share that.
    Raises CheckpointError for a folder that is not a finished run, ReIDKitError when there is none at all.
    """
    if isinstance(runs, (str, Path)):
        runs = [runs]
    if not runs:
        raise ReIDKitError("a panel needs at least one run folder: train one with `reidkit train`")
    pairs = list(runs.items()) if isinstance(runs, Mapping) else list(zip(_names(runs), runs))
    return {
        name: run
        if isinstance(run, PanelRun)
        else PanelRun(name, load_run(run), (folder := RunFolder(Path(run))).recipe(), dataset, priors, folder.weights)
        for name, run in pairs
    }


def _names(runs: Sequence[str | Path | PanelRun]) -> list[str]:
    names = []
    for run in runs:
        if isinstance(run, PanelRun):
            names.append(run.name)
        else:
            settings = RunFolder(Path(run)).read_settings()
            names.append(f"{settings['variant']} s{settings['seed']}")
    folders = [run.name if isinstance(run, PanelRun) else Path(run).name for run in runs]
    return [n if names.count(n) == 1 else f for n, f in zip(names, folders)]


def image_name(row: pd.Series) -> str:
    """How a panel names an image: identity and camera."""
    return f"id {row.pid}, camera {row.camid}"
