"""Look at one image file: can it be used, and is anything odd about it?

A *problem* makes a file unusable (empty, truncated, not an image, damaged in the middle ...). A *note* is worth
knowing and harms nothing by itself (a PNG named .jpg, CMYK, transparency, an EXIF rotation).
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from reidkit.data.copies.jpeg_damage import jpeg_damage, jpeg_segments
from reidkit.data.images import (
    FORMATS,
    MAX_BYTES,
    Unreadable,
    open_picture,
    orientation,
    read_file,
    size_upright,
    straighten,
)

BITS_PER_SAMPLE = 258  # TIFF tag


class ImageFacts(NamedTuple):
    """What a look at one file gave.

    width, height: pixels of the upright picture, 0 when unknown. digest: of the file's bytes. transparent: how many
    pixels are not opaque (0 where pixels were not decoded). note: parts joined by "; ".
    """

    path: str
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    digest: str = ""
    problem: str = ""
    note: str = ""
    transparent: int = 0


def inspect_image(path: str, decode: bool = True) -> ImageFacts:
    """Facts about one file; never raises for what the file holds.

    decode: also decode every pixel, a JPEG twice (see `jpeg_damage`). Without it only the header is parsed and
    the end of a JPEG or PNG is looked for, which finds cut-off files but not damage in the middle.
    """
    facts = ImageFacts(path)
    try:
        data = read_file(path, MAX_BYTES)
        facts = facts._replace(digest=hashlib.blake2b(data, digest_size=16).hexdigest())
        image = open_picture(data)
        facts = facts._replace(format=image.format, mode=image.mode)
        notes = _notes(image, facts, data)  # first: Pillow tells of unreadable EXIF once
        height, width = size_upright(image)
        facts = facts._replace(width=width, height=height)
        if decode:
            facts = facts._replace(transparent=_decode(image, data))
        else:
            _look_for_the_end(data, facts.format)
    except Unreadable as error:
        return facts._replace(problem=str(error))
    if facts.transparent:
        notes.append("transparent pixels, put on white when read")
    elif not decode and image.has_transparency_data:
        notes.append("an alpha channel: what it hides is put on white when read")
    return facts._replace(note="; ".join(notes))


def _decode(image: Image.Image, data: bytes) -> int:
    """Decode all; how many pixels are not opaque. Raises Unreadable for damage, a JPEG's of `jpeg_damage` included."""
    pixels = straighten(image)
    if image.format in ("JPEG", "MPO") and (damage := jpeg_damage(data)):
        raise Unreadable(f"damaged ({damage})")
    return int((np.asarray(pixels.getchannel("A")) < 255).sum()) if pixels.mode == "RGBA" else 0


def _look_for_the_end(data: bytes, kind: str) -> None:
    """Raise Unreadable where the end mark is missing. Bytes after it harm nothing."""
    no_end_of_jpeg = kind == "JPEG" and data.rfind(b"\xff\xd9") < jpeg_segments(data)[1]
    if no_end_of_jpeg or (kind == "PNG" and b"IEND" not in data[8:]):
        raise Unreadable("truncated (no end mark)")


def _notes(image: Image.Image, facts: ImageFacts, data: bytes) -> list[str]:
    """Oddities that the header of a usable file tells."""
    notes = []
    suffix = os.path.splitext(facts.path)[1].lower()
    if suffix not in FORMATS.get(facts.format, ()):
        notes.append(f"{facts.format} data in a file named {suffix}")
    if facts.mode in ("I", "F"):
        notes.append(f"mode {facts.mode}, scaled to 8 bits when read")
    elif _depth(image, data) > 8:
        notes.append("16-bit: only the upper byte of each value is read")
    elif facts.mode != "RGB":
        notes.append(f"mode {facts.mode}, converted to RGB when read")
    if getattr(image, "is_animated", False):
        notes.append("several pictures in one file: only the first is read")
    if (turned := orientation(image)) != 1:
        notes.append(f"EXIF orientation {turned}: stored pixels are not upright" if turned else "unreadable EXIF")
    return notes


def _depth(image: Image.Image, data: bytes) -> int:
    """Bits of one value of a pixel; Pillow's modes tell it of grey images only."""
    if image.format == "PNG":
        return data[24]
    return max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))) if isinstance(image, TiffImageFile) else 8
