"""What a whole set of maps looks like: counts that are taken while the maps are read, and nothing else is kept.

`LabelCensus` counts parsing maps, `MaskCensus` segmentation maps. What the counts mean is decided in `anatomy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

FEW_VALUES = 32  # a map with more different values is a picture or a soft map, not a map of labels
LOW = 31  # grey maps that never exceed this are maps of labels: as probabilities times 255 they would find nothing


@dataclass
class LabelCensus:
    """Counts over parsing maps.

    maps: how many. bodies: how many of them hold a label other than 0; lone: how many hold one such label alone.
    pixels [256]: pixels of each label. heights [256]: sum over these pixels of how high they lie in their body, 0 at
    the top of what is labelled in the map and 1 at its bottom.
    """

    maps: int = 0
    bodies: int = 0
    lone: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    heights: np.ndarray = field(default_factory=lambda: np.zeros(256))

    def add(self, labels: np.ndarray) -> None:
        """Count one map [H, W] uint8, its labels as they are stored."""
        rows = np.arange(len(labels))[:, None]
        counts = np.bincount((rows * 256 + labels).ravel(), minlength=256 * len(rows)).reshape(-1, 256)  # [H, 256]
        occupied = np.flatnonzero(counts[:, 1:].any(axis=1))
        self.maps += 1
        pixels = counts.sum(axis=0)
        self.pixels += pixels
        if len(occupied):
            top, bottom = occupied[0], occupied[-1] + 1
            self.bodies += 1
            self.lone += np.count_nonzero(pixels[1:]) == 1
            self.heights += ((rows[:, 0] + 0.5 - top) / (bottom - top)) @ counts

    def merge(self, other: LabelCensus) -> None:
        """Add the counts of further maps."""
        self.maps += other.maps
        self.bodies += other.bodies
        self.lone += other.lone
        self.pixels += other.pixels
        self.heights += other.heights


@dataclass
class MaskCensus:
    """Counts over segmentation maps.

    maps: how many. found: how many of them hold a value other than 0. labelled: how many look like maps of labels by
    themselves (`looks_labelled`). values [256]: in how many of the labelled ones each value occurs.
    pictures: palette maps of more than `FEW_VALUES` values, which a mask cannot have.
    """

    maps: int = 0
    found: int = 0
    labelled: int = 0
    values: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    pictures: int = 0

    def add(self, stored: np.ndarray, mode: str) -> None:
        """Count one map [H, W] of stored values; mode: Pillow's, "L" grey, "P" palette, "1" one bit."""
        counts = np.bincount(stored.ravel(), minlength=256)
        self.maps += 1
        self.found += bool(counts[1:].any())
        self.pictures += mode == "P" and int(np.count_nonzero(counts[1:])) > FEW_VALUES
        if looks_labelled(counts, mode):
            self.labelled += 1
            self.values += counts > 0

    def merge(self, other: MaskCensus) -> None:
        """Add the counts of further maps."""
        self.maps += other.maps
        self.found += other.found
        self.labelled += other.labelled
        self.values += other.values
        self.pictures += other.pictures


def looks_labelled(counts: np.ndarray, mode: str) -> bool:
    """Whether a segmentation map of these value counts [256] holds labels rather than a mask or probabilities.

    Palette: a mask has one or two values beside 0 (and 255, the "void" of Pascal VOC). Grey: 0 and 1, or 0 and 255, or
    probabilities times 255; values that all stay low, or 1 on most of the person and other values beside it, are not.
    """
    values = np.flatnonzero(counts[1:]) + 1
    if not len(values) or len(values) > FEW_VALUES:
        return False
    if mode != "L":
        return len(values[values < 255]) > 2
    return 1 < values[-1] <= LOW or (len(values) > 1 and 2 * counts[1] > counts[1:].sum())


@dataclass
class MapCensus:
    """The counts of both kinds of maps."""

    labels: LabelCensus = field(default_factory=LabelCensus)
    masks: MaskCensus = field(default_factory=MaskCensus)

    def merge(self, other: MapCensus) -> None:
        """Add the counts of further maps."""
        self.labels.merge(other.labels)
        self.masks.merge(other.masks)
