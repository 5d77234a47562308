"""`ReIDDataset`: a re-identification data set is three tables of image paths, identities and cameras."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reidkit.errors import DatasetError, unknown_name

COLUMNS = ("path", "pid", "camid")
COMPRESSED = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")  # pictures that differ have files of other lengths
PIECE = 4096  # bytes


@dataclass(frozen=True)
class ReIDDataset:
    """Tables of one data set.

    train, query, gallery: DataFrames with the columns `path` (str, absolute), `pid` (int; -1 junk,
        0 distractor where `nobody` says so), `camid` (int, from 1) and set-specific ones
        (`group` ties sibling identities of Sidewalk, `shift` is the controlled shift of a query ...).
    levels: further test sets by name, each a pair (query, gallery); `at_level(name)` makes one current.
    junk_pids: gallery identities that the protocol ignores.
    root: the folder that every path lies under (map folders and caches mirror paths relative to it).
    source: what `load_dataset` was called with: {"name": "sidewalk", "options": {"size": "tiny"}}. A run remembers it.
    cache_dir: where derived files go (decoded images, priors, reports) instead of below `root`, which may be
        read-only; see `derived`.
    cameras_known: False where `camid` only numbers the images, as nobody knows who took them; then the camera rule of
        the protocol has nothing to remove, and results say that they are without it.
    label: how results call the set; `name`, unless `load_dataset` found that it is another set in the same layout.
    """

    name: str
    root: Path
    train: pd.DataFrame
    query: pd.DataFrame
    gallery: pd.DataFrame
    junk_pids: tuple[int, ...] = (-1,)
    levels: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict)
    level: str = "test"
    info: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: Path | None = None
    label: str = ""
    cameras_known: bool = True

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.name)
        for split in ("train", "query", "gallery"):
            missing = set(COLUMNS) - set(getattr(self, split).columns)
            if missing:
                raise DatasetError(f"{self.name}: the {split} table lacks the columns {sorted(missing)}")

    def derived(self, kind: str) -> Path:
        """The folder of files made from this data set: "cache", "priors", "checks". It need not exist yet.

        `<root>/<kind>`, or with a `cache_dir` `<cache_dir>/<folder's name>-<hash of its path>/<kind>`, so that
        several data sets can share one cache folder.
        """
        if self.cache_dir is None:
            return self.root / kind
        place = hashlib.sha256(str(Path(self.root).resolve()).encode(errors="surrogateescape")).hexdigest()[:8]
        return self.cache_dir / f"{Path(self.root).name}-{place}" / kind

    def fingerprint(self) -> str:
        """SHA-256 over split, path relative to the root, identity, camera and length in bytes of every image.

        Two folders with the same names and counts but other pictures differ in it; a copied or moved data set does
        not. The length of a compressed file tells pictures apart; of other files (BMP, TIFF) a piece is read too.
        Raises DatasetError for an image that is gone.
        """
        tables = {"train": self.train, "query": self.query, "gallery": self.gallery}
        for level, (query, gallery) in sorted(self.levels.items()):
            tables |= {f"{level} query": query, f"{level} gallery": gallery}
        digest, prefix, content = hashlib.sha256(), f"{self.root}{os.sep}", {}
        for split, table in tables.items():
            for path, pid, camid in zip(table.path, table.pid, table.camid):
                if path not in content:
                    try:
                        content[path] = _content(path)
                    except OSError as error:
                        raise DatasetError(f"{self.name}: cannot read the image {path!r} ({error.strerror})") from error
                row = f"{split}\t{path.removeprefix(prefix)}\t{pid}\t{camid}\t{content[path]}\n"
                digest.update(row.encode(errors="surrogateescape"))
        return digest.hexdigest()

    @property
    def num_train_ids(self) -> int:
        """How many identities the classifiers must tell apart."""
        return int(self.train.pid.nunique())

    def refuse_unlabelled(self) -> None:
        """DatasetError where there are pictures only, and no identities to train on or to look for."""
        if self.train.empty and self.query.empty:
            raise DatasetError(
                f"{self.label}: its {len(self.gallery)} pictures in {self.root} have no identities, so nothing can be "
                "trained or tested on them; they can be searched (net.extract, rank). Give each person a folder of its "
                "own, or name the persons in a CSV (load_dataset('csv', ...))"
            )

    def train_labels(self) -> np.ndarray:
        """[N] class index 0 .. num_train_ids-1 of each training row (identities in ascending order)."""
        return np.unique(self.train.pid.to_numpy(), return_inverse=True)[1]

    @property
    def nobody(self) -> set[int]:
        """Numbers that stand for no person: junk, and 0 by Market-1501's rule.

        Identity 0 marks the gallery's distractors only where neither train nor query has it; in a set whose people
        are numbered from 0 it is a person like any other.
        """
        return {*self.junk_pids} | ({0} - {*self.train.pid, *self.query.pid})

    def summary(self) -> pd.DataFrame:
        """Identities, images and cameras (0: not known) per split. Junk and distractors are not counted as ids."""
        rows = {}
        for split in ("train", "query", "gallery"):
            t = getattr(self, split)
            real = t[~t.pid.isin(self.nobody)]
            cameras = t.camid.nunique() if self.cameras_known else 0
            rows[split] = {"ids": real.pid.nunique(), "images": len(t), "cameras": cameras}
        return pd.DataFrame.from_dict(rows, orient="index")

    def at_level(self, level: str) -> ReIDDataset:
        """The same training set with another test level (Sidewalk: mild, strong, shift)."""
        if level == self.level:
            return self
        if level not in self.levels:
            raise unknown_name(f"test level of {self.name}", level, {*self.levels, self.level})
        query, gallery = self.levels[level]
        return replace(self, query=query, gallery=gallery, level=level)

    def validation_split(self, fraction: float = 0.2, seed: int = 0) -> ReIDDataset:
        """Hold out a fraction of the *training* identities as query and gallery, so that nothing is tuned on test.

        Identities that share a `group` (siblings) stay on one side. Of each held-out identity one image a
        camera becomes a query and the rest gallery; cameras with a single image go to the gallery.
        Where cameras are not known, one image of each identity becomes the query.
        Raises DatasetError if either side would be empty.
        """
        self.refuse_unlabelled()
        group = self.train["group"] if "group" in self.train else self.train["pid"]
        groups = np.random.default_rng(seed).permutation(np.unique(group))
        held = groups[: max(1, round(fraction * len(groups)))]
        is_held = group.isin(held.tolist())
        rest, out = self.train.loc[~is_held], self.train.loc[is_held]
        shots = out.groupby(["pid", "camid"] if self.cameras_known else "pid")
        order, size = shots.cumcount(), shots["path"].transform("size")
        is_query = (order == 0) & (size > 1)
        query, gallery = out[is_query], out[~is_query]
        if rest.empty or query.empty or gallery.empty:
            raise DatasetError(
                f"{self.name}: a validation split of {fraction:.0%} leaves an empty split "
                f"(train {len(rest)}, query {len(query)}, gallery {len(gallery)} images); choose another fraction"
            )
        tables = (t.reset_index(drop=True) for t in (rest, query, gallery))
        train, query, gallery = tables
        return replace(self, train=train, query=query, gallery=gallery, levels={}, level="validation")


def _content(path: str) -> str:
    """The length of an image file; of an uncompressed one also a hash of the piece in its middle."""
    length = os.stat(path).st_size
    if path.lower().endswith(COMPRESSED):
        return str(length)
    with open(path, "rb") as file:
        file.seek(max(0, (length - PIECE) // 2))
        return f"{length} {hashlib.sha256(file.read(PIECE)).hexdigest()}"
