"""Tool "files": parsing and segmentation maps that other programs wrote, mirrored on the data set's layout.

The maps of `bounding_box_train/0002_c1s1_000451_03.jpg` are `<parsing_dir>/bounding_box_train/0002_c1s1_000451_03.png`
and the same name under `<segmentation_dir>`. Parsing maps are PNGs of one channel, palette or grey, whose pixel
*index* is the label: what SCHP writes. Tool "sidewalk" is the same with the folders inside the data set.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from reidkit.data.images import upright_size
from reidkit.errors import DatasetError, PriorError
from reidkit.priors.anatomy import EARLY, doubt, fitting_set
from reidkit.priors.census import LabelCensus, MapCensus
from reidkit.priors.labels import LabelSet, label_table
from reidkit.priors.missing import about_no_folder, map_hint

MapPair = tuple[np.ndarray, np.ndarray]  # parsing [H, W] uint8 LIP labels; segmentation [H, W] bool or float32


@dataclass(frozen=True)
class FileMaps:
    """Reads the two maps of an image from two folders.

    root: the data set's folder; image paths are relative to it.
    parsing_dir, segmentation_dir: default `<root>/parsing` and `<root>/segmentation`.
    label_set: "lip", "atr" or "pascal", what the parsing PNGs hold; converted to LIP on reading.
    census: what the maps read so far look like; `doubt` judges it.
    """

    root: Path
    parsing_dir: str | Path | None = None
    segmentation_dir: str | Path | None = None
    label_set: LabelSet = "lip"
    batch_size: int = 256  # images read before the priors of all are computed; bounds the memory
    census: MapCensus = field(default_factory=MapCensus, compare=False, repr=False)
    folders: tuple[Path, Path] = field(init=False, compare=False, repr=False)  # of parsing, of segmentation

    def __post_init__(self) -> None:
        label_table(self.label_set)  # an unknown label set is an error now, not at the first image
        parsing = self.root / "parsing" if self.parsing_dir is None else Path(self.parsing_dir)
        segmentation = self.root / "segmentation" if self.segmentation_dir is None else Path(self.segmentation_dir)
        found = {"parsing_dir": parsing, "segmentation_dir": segmentation, "folders": (parsing, segmentation)}
        for name, value in found.items():
            object.__setattr__(self, name, value)
        for kind, folder in (("parsing", parsing), ("segmentation", segmentation)):
            if not folder.is_dir():
                raise PriorError(about_no_folder(kind, folder))

    @property
    def settings(self) -> dict[str, object]:
        """What must be the same for cached priors to be valid."""
        parsing, segmentation = map(self._shown, self.folders)
        return {"label_set": self.label_set, "parsing_dir": parsing, "segmentation_dir": segmentation}

    versions = {}  # noqa: RUF012  (no library makes these maps)

    def stamp(self, path: str) -> int:
        """A number that changes when a map changes; 0 if a map is missing."""
        return file_stamp(path, *(self._map(folder, path) for folder in self.folders))

    def where(self, path: str) -> str:
        """The files that were looked for, for messages."""
        return " and ".join(str(self._map(f, path)) for f in self.folders)

    def hint(self, absent: Sequence[str]) -> str:
        """Of each kind, how many of these images lack a map, or where the maps lie if another folder was meant."""
        folders = zip(("parsing", "segmentation"), self.folders)
        return "".join(map_hint(kind, folder, absent) for kind, folder in folders)

    def maps(self, paths: Sequence[str]) -> list[MapPair]:
        """The maps of these images; PriorError names the file that cannot be used.

        Many maps at once are judged by themselves: PriorError if they are of another label set or kind (`anatomy.py`).
        """
        table, batch, outside, out = label_table(self.label_set), MapCensus(), None, []
        for path in paths:
            file, labels, (values, mode) = self._stored(path)
            batch.labels.add(labels)
            batch.masks.add(values, mode)
            if labels.size and labels.max() >= len(table):
                outside = outside or (file, int(labels.max()))
            elif not outside:
                out.append((table[labels], as_mask(values, mode)))
        if outside:
            raise _outside(*outside, self.label_set, batch)
        if len(paths) >= EARLY and (reason := self._doubt(batch)):
            raise PriorError(reason)
        self.census.merge(batch)
        return out

    def doubt(self, whole: bool = False) -> str | None:
        """Why the maps read so far cannot be what they were announced as, if so; whole: they are all there are."""
        return self._doubt(self.census, whole)

    def _doubt(self, census: MapCensus, whole: bool = False) -> str | None:
        reason = doubt(census, self.label_set, whole=whole)
        return reason and (
            f"{reason}. The maps were read from {self.parsing_dir} and {self.segmentation_dir}; no "
            "priors are made of them"
        )

    def _stored(self, path: str) -> tuple[Path, np.ndarray, tuple[np.ndarray, str]]:
        """The parsing file of an image, its labels [H, W] as stored, and the segmentation's values [H, W] and mode."""
        files = [self._map(folder, path) for folder in self.folders]
        labels, segmentation = _read_labels(files[0]), _read_index(files[1], "segmentation")
        size = image_size(self.root / path)
        for file, shape in zip(files, (labels.shape, segmentation[0].shape)):
            if shape != size:
                raise PriorError(
                    f"{file} has {shape[0]}x{shape[1]} pixels (height x width), its image {path} {size[0]}x{size[1]}: "
                    "a map must have the size of its image; write the maps again, or resize them by nearest pixel"
                )
        return files[0], labels, segmentation

    def _map(self, folder: Path, path: str) -> Path:
        return folder / Path(path).with_suffix(".png")

    def _shown(self, folder: Path) -> str:
        """Relative to the data set where possible, so that a moved data set keeps its cache.

        As it is spelt if that lies inside: `parsing` may be a link that leads to other maps tomorrow.
        """
        for shown in (os.path.abspath, os.path.realpath):
            place, root = Path(shown(folder)), Path(shown(self.root))
            if place.is_relative_to(root):
                return place.relative_to(root).as_posix()
        return os.path.realpath(folder)


def file_stamp(path: str, *files: Path) -> int:
    """64 bits from the path and from size and date of the files; 0 if one of them does not exist."""
    try:
        stats = [os.stat(file) for file in files]
    except OSError:
        return 0
    text = "|".join([path, *(f"{s.st_size},{s.st_mtime_ns}" for s in stats)]).encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") | 1  # never 0


def read_parsing(file: Path, label_set: LabelSet = "lip") -> np.ndarray:
    """[H, W] uint8 LIP labels from a palette or grey PNG of the label set named."""
    table = label_table(label_set)
    labels = _read_labels(file)
    if labels.size and labels.max() >= len(table):
        census = MapCensus()
        census.labels.add(labels)
        raise _outside(file, int(labels.max()), label_set, census)
    return table[labels]


def read_segmentation(file: Path) -> np.ndarray:
    """[H, W] bool or float32 in [0, 1] from a PNG; see `as_mask`."""
    return as_mask(*_read_index(file, "segmentation"))


def as_mask(values: np.ndarray, mode: str) -> np.ndarray:
    """[H, W] bool or float32 in [0, 1] from stored values [H, W].

    1 bit, palette, or grey with no value above 1: a mask, 0 is background. Grey with larger values: the
    person's probability times 255.
    """
    if mode in ("1", "P") or values.max(initial=0) <= 1:
        return values > 0
    return values.astype(np.float32) / 255


def _outside(file: Path, label: int, label_set: LabelSet, census: MapCensus) -> PriorError:
    """The error for a label that is not in the label set; the maps read so far may tell what they are instead."""
    last = len(label_table(label_set)) - 1
    return PriorError(
        f"{file}: label {label} is not in the label set {label_set!r} (0..{last}); "
        f"{doubt(census, label_set) or _guess(census.labels, label_set)}"
    )


def _guess(census: LabelCensus, label_set: LabelSet) -> str:
    """What a few maps with labels outside the label set may be."""
    other = fitting_set(census)
    if other in (None, label_set):
        return "is it a grey picture, a mask, or is 255 'ignore'? Write the label indices of the set"
    return f'it would fit label_set="{other}" (--label-set {other})'


def image_size(file: Path) -> tuple[int, int]:
    """(height, width) of an image as it is trained on (upright), from its header alone."""
    try:
        return upright_size(file)
    except DatasetError as error:
        raise PriorError(f"{file}: the image of these maps cannot be read ({error}); restore the file") from error


def _read_labels(file: Path) -> np.ndarray:
    """The stored labels [H, W] uint8 of a parsing map."""
    return _read_index(file, "parsing")[0].astype(np.uint8, copy=False)  # a PNG of 1 bit is read as bool


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
