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

from reidkit.data.decoder_warnings import jpeg_complaint
from reidkit.data.images import FORMATS, MAX_BYTES, ORIENTATION, Unreadable, open_picture, read_file, straighten

BITS_PER_SAMPLE = 258  # TIFF tag


class ImageFacts(NamedTuple):
    """What a look at one file gave.

    width, height: pixels as stored, 0 when unknown. digest: of the file's bytes. transparent: how many pixels are
    not opaque (0 where pixels were not decoded). note: parts joined by "; ".
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

    decode: also decode every pixel, a JPEG twice (see `decoder_warnings`). Without it only the header is parsed and
    the end of a JPEG or PNG is looked for, which finds cut-off files but not damage in the middle.
    """
    facts = ImageFacts(path)
    try:
        data = read_file(path, MAX_BYTES)
        facts = facts._replace(digest=hashlib.blake2b(data, digest_size=16).hexdigest())
        image = open_picture(data)
        facts = facts._replace(width=image.width, height=image.height, format=image.format, mode=image.mode)
        if decode:
            facts = facts._replace(transparent=_decode(image, data))
        else:
            _look_for_the_end(data, image.format)
    except Unreadable as error:
        return facts._replace(problem=str(error))
    return facts._replace(note="; ".join(_notes(image, facts, data, decode)))


def _decode(image: Image.Image, data: bytes) -> int:
    """Decode all; how many pixels are not opaque. Raises Unreadable for damage, what the JPEG decoder says included."""
    pixels = straighten(image)
    if image.format in ("JPEG", "MPO") and (complaint := jpeg_complaint(data)):
        raise Unreadable(f"damaged (the decoder says: {complaint})")
    return int((np.asarray(pixels.getchannel("A")) < 255).sum()) if pixels.mode == "RGBA" else 0


def _look_for_the_end(data: bytes, kind: str) -> None:
    """Raise Unreadable where the end mark is missing. Bytes after it harm nothing."""
    if (kind == "JPEG" and data.rfind(b"\xff\xd9") < _code_stream(data)) or (kind == "PNG" and b"IEND" not in data[8:]):
        raise Unreadable("truncated (no end mark)")


def _code_stream(data: bytes) -> int:
    """Where the segments of a JPEG's header end; a thumbnail inside of them has an end mark of its own."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda" and at + 4 <= len(data):
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def _notes(image: Image.Image, facts: ImageFacts, data: bytes, decoded: bool) -> list[str]:
    """Oddities of a usable file."""
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
    if facts.transparent:
        notes.append("transparent pixels, put on white when read")
    elif not decoded and image.has_transparency_data:
        notes.append("an alpha channel: what it hides is put on white when read")
    if getattr(image, "is_animated", False):
        notes.append("several pictures in one file: only the first is read")
    return notes + _exif_notes(image, decoded)


def _exif_notes(image: Image.Image, decoded: bool) -> list[str]:
    if image.format == "PNG" and not decoded and "exif" not in image.info:
        return []  # Pillow would decode all pixels to look behind them
    try:
        exif = image.getexif()
    except Exception:  # EXIF is a format of its own, with damage of its own
        return ["unreadable EXIF"]
    turned = (image.tag_v2 if image.format == "TIFF" else exif).get(ORIENTATION, 1)
    return [] if turned == 1 else [f"EXIF orientation {turned}: stored pixels are not upright"]


def _depth(image: Image.Image, data: bytes) -> int:
    """Bits of one value of a pixel; Pillow's modes tell it of grey images only."""
    if image.format == "PNG":
        return data[24]
    return max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))) if image.format == "TIFF" else 8
