"""Tool "files": parsing and segmentation maps that other programs wrote, mirrored on the data set's layout.

The maps of `bounding_box_train/0002_c1s1_000451_03.jpg` are `<parsing_dir>/bounding_box_train/0002_c1s1_000451_03.png`
and the same name under `<segmentation_dir>`. Parsing maps are PNGs of one channel, palette or grey, whose pixel
*index* is the label: what SCHP writes. Tool "sidewalk" is the same with the folders inside the data set.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from reidkit.data.images import upright_size
from reidkit.errors import DatasetError, PriorError
from reidkit.priors.labels import LABEL_SETS, label_table

Maps = tuple[np.ndarray, np.ndarray]  # parsing [H, W] uint8 LIP labels; segmentation [H, W] bool or float32


@dataclass(frozen=True)
class FileMaps:
    """Reads the two maps of an image from two folders.

    root: the data set's folder; image paths are relative to it.
    parsing_dir, segmentation_dir: default `<root>/parsing` and `<root>/segmentation`.
    label_set: "lip", "atr" or "pascal", what the parsing PNGs hold; converted to LIP on reading.
    """

    root: Path
    parsing_dir: Path | None = None
    segmentation_dir: Path | None = None
    label_set: str = "lip"
    batch_size: int = 256  # images read before the priors of all are computed; bounds the memory

    def __post_init__(self) -> None:
        label_table(self.label_set)  # an unknown label set is an error now, not at the first image
        for kind in ("parsing", "segmentation"):
            folder = getattr(self, f"{kind}_dir")
            folder = self.root / kind if folder is None else Path(folder)
            object.__setattr__(self, f"{kind}_dir", folder)
            if not folder.is_dir():
                raise PriorError(f"{folder}: no such folder of {kind} maps. Put the maps there, or name their folder "
                                 f"(`reidkit priors build ... --{kind} DIR`, {kind}_dir=); without maps a model trains "
                                 "with uniform division (`--set model.prior=uniform`)")

    @property
    def settings(self) -> dict[str, object]:
        """What must be the same for cached priors to be valid."""
        folders = (self._shown(self.parsing_dir), self._shown(self.segmentation_dir))
        return {"label_set": self.label_set, "parsing_dir": folders[0], "segmentation_dir": folders[1]}

    versions = {}  # noqa: RUF012  (no library makes these maps)

    def stamp(self, path: str) -> int:
        """A number that changes when a map changes; 0 if a map is missing."""
        return file_stamp(path, self._map(self.parsing_dir, path), self._map(self.segmentation_dir, path))

    def where(self, path: str) -> str:
        """The files that were looked for, for messages."""
        return " and ".join(str(self._map(f, path)) for f in (self.parsing_dir, self.segmentation_dir))

    def maps(self, paths: Sequence[str]) -> list[Maps]:
        """The maps of these images; PriorError names the file that cannot be used."""
        return [self._pair(path) for path in paths]

    def _pair(self, path: str) -> Maps:
        files = [self._map(folder, path) for folder in (self.parsing_dir, self.segmentation_dir)]
        parsing, segmentation = read_parsing(files[0], self.label_set), read_segmentation(files[1])
        size = image_size(self.root / path)
        for file, shape in zip(files, (parsing.shape, segmentation.shape)):
            if shape != size:
                raise PriorError(
                    f"{file} has {shape[0]}x{shape[1]} pixels (height x width), its image {path} {size[0]}x{size[1]}: "
                    "a map must have the size of its image; write the maps again, or resize them by nearest pixel"
                )
        return parsing, segmentation

    def _map(self, folder: Path, path: str) -> Path:
        return folder / Path(path).with_suffix(".png")

    def _shown(self, folder: Path) -> str:
        """Relative to the data set where possible, so that a moved data set keeps its cache."""
        inside = folder.resolve().is_relative_to(Path(self.root).resolve())
        return os.path.relpath(folder.resolve(), Path(self.root).resolve()) if inside else str(folder.resolve())


def file_stamp(path: str, *files: Path) -> int:
    """64 bits from the path and from size and date of the files; 0 if one of them does not exist."""
    try:
        stats = [os.stat(file) for file in files]
    except OSError:
        return 0
    text = "|".join([path, *(f"{s.st_size},{s.st_mtime_ns}" for s in stats)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") | 1  # never 0


def read_parsing(file: Path, label_set: str = "lip") -> np.ndarray:
    """[H, W] uint8 LIP labels from a palette or grey PNG of the label set named."""
    table = label_table(label_set)
    labels, _ = _read_index(file, "parsing")
    if labels.size and labels.max() >= len(table):
        fits = [name for name, names in LABEL_SETS.items() if labels.max() < len(names)]
        hint = f'; it would fit label_set="{fits[0]}"' if fits else "; is it a grey picture or is 255 'ignore'?"
        raise PriorError(
            f"{file}: label {labels.max()} is not in the label set {label_set!r} (0..{len(table) - 1}){hint}"
        )
    return labels if label_set == "lip" else table[labels]


def read_segmentation(file: Path) -> np.ndarray:
    """[H, W] bool or float32 in [0, 1] from a PNG.

    1 bit, palette, or grey with no value above 1: a mask, 0 is background. Grey with larger values: the
    person's probability times 255.
    """
    values, mode = _read_index(file, "segmentation")
    if mode in ("1", "P") or values.max(initial=0) <= 1:
        return values > 0
    return values.astype(np.float32) / 255


def image_size(file: Path) -> tuple[int, int]:
    """(height, width) of an image as it is trained on (upright), from its header alone."""
    try:
        return upright_size(file)
    except DatasetError as error:
        raise PriorError(f"{file}: the image of these maps cannot be read ({error}); restore the file") from error


def _read_index(file: Path, kind: str) -> tuple[np.ndarray, str]:
    """The stored values [H, W] of a one-channel PNG, and its Pillow mode: "L" grey, "P" palette, "1" one bit."""
    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "P", "1"):
                raise PriorError(
                    f"{file} is a picture of mode {image.mode}; a {kind} map is a PNG of one 8-bit channel (palette or "
                    "grey) whose pixel index is the label: export indices, not colours"
                )
            return np.asarray(image), image.mode
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for broken PNG chunks
        raise PriorError(
            f"{file}: this {kind} map does not decode ({error}); delete it and write it again with the tool that made "
            "it. What is computed already is kept"
        ) from error
