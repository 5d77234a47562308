"""The pictures that a user names: decoded by the kit's one rule, and the person cut out where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from reidkit.data.images import decode
from reidkit.data.people import Detector, crop_hint, cut_person
from reidkit.reporting.pictures import printable


@dataclass(frozen=True)
class Picture:
    """path: where it was read. image: RGB, upright, the person alone if a detector found them. note: words, or ""."""

    path: Path
    image: Image.Image
    note: str = ""

    @property
    def name(self) -> str:
        """The name of the file, fit to be printed."""
        return printable(self.path.name)


def open_pictures(paths: Sequence[str | os.PathLike], detector: Detector | None = None) -> list[Picture]:
    """The pictures of these files. detector: cuts the largest person out; None: the whole picture, with a hint in
    `note` where its shape is not that of a person.

    Raises DatasetError naming a file that is missing or no image, ReIDKitError where the detector finds nobody.
    """
    pictures = []
    for path in map(Path, paths):
        image, name = decode(path), printable(path.name)
        if detector is not None:
            crop, note = cut_person(image, detector, name)
        else:
            crop, note = image, crop_hint(image.size, name)
            note += "; --detect finds the person in it, or crop it by hand" if note else ""
        pictures.append(Picture(path, crop, note))
    return pictures
