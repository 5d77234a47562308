"""The features of a gallery, kept beside it: made once, and brought up to date file by file.

    <gallery>/.reidkit-search/<key of the network>/     or     <cache dir>/<gallery>-<hash>/<key of the network>/

The key stands for the weights, the size, flip and precision. A file of the gallery is known by its name, bytes and
time: what is new or changed is read, what is gone is let go, everything else stays. Rows are written every PIECE
pictures, so an interrupted call loses no more than that. One process at a time writes; the others wait.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from reidkit.errors import DatasetError, ReIDKitError
from reidkit.files import read_json, write_json
from reidkit.locks import locked
from reidkit.search.blocks import Block, check_dim, compared, halved, open_blocks, tidy, write_block
from reidkit.search.gallery import GalleryFile, Listing, list_gallery
from reidkit.search.network import PictureNetwork, refuse_priors

OWN, BROKEN = ".reidkit-search", "broken.json"
PIECE, BATCH = 256, 64  # pictures between two writes; in one pass of the network


@dataclass
class GalleryIndex:
    """The features of N pictures, in the order of their names.

    files: the pictures. broken: {name: why} of those that could not be read. place, row: int [N], in which block and
    where in it. folder: where the index lies. read: how many pictures were read this time.
    """

    listing: Listing
    folder: Path
    files: list[GalleryFile]
    broken: dict[str, str]
    blocks: list[Block] = field(repr=False)
    place: np.ndarray
    row: np.ndarray
    read: int = 0

    def __len__(self) -> int:
        return len(self.files)

    @property
    def dim(self) -> int:
        """D, columns of a feature."""
        return self.blocks[0].dim

    def path(self, row: int) -> Path:
        """Where picture `row` lies."""
        return self.listing.path(self.files[row].name)

    def scores(self, queries: Tensor, at: np.ndarray | None = None) -> np.ndarray:
        """float32 [Q, N]: cosine similarity of queries [Q, D] and the kept rows (of rows `at` only).

        Half precision took something from every row; `rounding` bounds how much these scores are wrong.
        Memory: one block beside the result. Raises ReIDKitError for kept rows that are not finite.
        """
        check_dim(self.blocks, queries.shape[1])
        found = compared(self.blocks, self.place, self.row, F.normalize(queries.float(), dim=1), at)
        if not np.isfinite(found).all():
            raise ReIDKitError(f"features kept in {self.folder} are not finite: delete it, they are made again")
        return found

    def rounding(self, at: np.ndarray) -> np.ndarray:
        """float32 [n]: by how much the scores of these rows may be wrong."""
        return np.array([self.blocks[self.place[g]].rounding[self.row[g]] for g in at], np.float32) + 1e-5

    @property
    def worst_rounding(self) -> float:
        """By how much any score may be wrong."""
        return max(float(block.rounding.max()) for block in self.blocks) + 1e-5

    def rows(self, at: np.ndarray) -> np.ndarray:
        """float16 [n, D] of some rows, length 1."""
        found = np.empty((len(at), self.dim), np.float16)
        for b in np.unique(self.place[at]):
            here = np.flatnonzero(self.place[at] == b)
            found[here] = self.blocks[b].rows()[self.row[at[here]]]
        return found

    @property
    def revision(self) -> str:
        """Another one as soon as a picture is new, gone or changed."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()[:16]


def open_index(
    network: PictureNetwork,
    gallery: str | os.PathLike,
    *,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = True,
) -> GalleryIndex:
    """The index of a folder of pictures, brought up to date first.

    cache_dir: where indexes are kept instead of in the gallery. Broken pictures are left out and listed.
    Raises DatasetError for a folder that is none, that holds no picture, or none that can be read; ReIDKitError where
    the index cannot be written; PriorError for a network that needs a prior of every picture.
    """
    refuse_priors(network, "search with a network that needs none at test time, such as mpn or cgpn")
    listing = list_gallery(gallery)
    folder = index_folder(listing.root, network.key, cache_dir)
    with _writing(folder) as writable:
        blocks = open_blocks(folder) if folder.is_dir() else []
        broken = _known_broken(folder, listing)
        known = {file for block in blocks for file in block.files}
        missing = [file for file in listing.files if file not in known and file.name not in broken]
        if missing and not writable:
            raise ReIDKitError(
                f"the index of {len(missing)} pictures cannot be written to {folder}: name a folder for it with "
                "--cache-dir (in Python cache_dir=)"
            )
        new = _add(network, listing, folder, missing, progress)
        if writable:
            broken |= new
            state = {file.name: [*file[1:], broken[file.name]] for file in listing.files if file.name in broken}
            write_json(folder / BROKEN, {"network": network.name, "broken": state})
            blocks = tidy(folder, open_blocks(folder), set(listing.files))
        blocks = [block.pin() for block in blocks]
    return assembled(listing, folder, blocks, broken, len(missing) - len(new))


def index_folder(root: Path, key: str, cache_dir: str | os.PathLike | None = None) -> Path:
    """Where the index of a gallery lies, for the network of this key."""
    if cache_dir is None:
        return root / OWN / key
    absolute = os.path.realpath(root)
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:12]
    return Path(cache_dir) / f"{os.path.basename(absolute) or 'gallery'}-{digest}" / key


@contextmanager
def _writing(folder: Path) -> Iterator[bool]:
    """Hold the index's lock; yields False where the folder cannot be written to (then nothing may be)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder / ".lock", f"reidkit: another process is indexing into {folder}; waiting for it")
        lock.__enter__()
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        lock.__exit__(None, None, None)


def _known_broken(folder: Path, listing: Listing) -> dict[str, str]:
    """{name: why} of the files that could not be read last time and are the same now."""
    if not (folder / BROKEN).is_file():
        return {}
    try:
        state = read_json(folder / BROKEN, missing="")["broken"]
        return {f.name: state[f.name][2] for f in listing.files if state.get(f.name, [])[:2] == list(f[1:])}
    except (ReIDKitError, LookupError, AttributeError, TypeError):  # damaged: they are tried again
        return {}


def _add(
    network: PictureNetwork, listing: Listing, folder: Path, missing: list[GalleryFile], progress: bool
) -> dict[str, str]:
    """Read pictures and write their rows, PIECE at a time; returns {name: why} of those that are none."""
    broken: dict[str, str] = {}
    with tqdm(total=len(missing), unit="img", desc="index", disable=not progress or not missing) as bar:
        for start in range(0, len(missing), PIECE):
            piece = missing[start : start + PIECE]
            files, features = [], []
            for first in range(0, len(piece), BATCH):
                batch = piece[first : first + BATCH]
                pixels, places, wrong = network.read([listing.path(file.name) for file in batch])
                broken |= {batch[i].name: why for i, why in wrong.items()}
                files += [batch[i] for i in places]
                if places:
                    features.append(network.features(pixels, [str(listing.path(batch[i].name)) for i in places]))
                bar.update(len(batch))
            if files:
                write_block(folder, files, *halved(torch.cat(features)))
    return broken


def assembled(listing: Listing, folder: Path, blocks: list[Block], broken: dict[str, str], read: int) -> GalleryIndex:
    """The index of what the blocks hold of the listing."""
    where = {file: (b, i) for b, block in enumerate(blocks) for i, file in enumerate(block.files)}
    files = [file for file in listing.files if file in where]
    if not files:
        first = next(iter(broken.values()), "")
        raise DatasetError(f"no picture of the gallery {os.fspath(listing.root)!r} can be read; the first one: {first}")
    place, row = (np.array(column) for column in zip(*(where[file] for file in files)))
    return GalleryIndex(listing, folder, files, broken | listing.unread, blocks, place, row, read)
