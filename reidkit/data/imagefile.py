"""Look at one image file: can it be used, and is anything odd about it?

A *problem* makes a file unusable (empty, truncated, not an image ...). A *note* is worth knowing and harms
nothing by itself (a PNG named .jpg, CMYK, an EXIF rotation).
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from typing import NamedTuple

from PIL import Image

SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}
ENDINGS = {"JPEG": (b"\xff\xd9", 4096), "PNG": (b"IEND", 64)}  # (mark of the end, how near the end it must be)
MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
MAX_BYTES = 256 << 20
MAX_PIXELS = 50_000_000  # a crop of one person has 8,192 (Market-1501) to about a million
ORIENTATION = 0x0112  # EXIF tag
SIZE_ERROR = Image.DecompressionBombError


class ImageFacts(NamedTuple):
    """What a look at one file gave. width, height: pixels, 0 when unknown. digest: of the file's bytes."""

    path: str
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    digest: str = ""
    problem: str = ""
    note: str = ""


def inspect_image(path: str, decode: bool = True) -> ImageFacts:
    """Facts about one file; never raises for what the file holds.

    decode: also decode every pixel. Without it only the header is parsed and the end of a JPEG or PNG is
    looked for, which finds cut-off files but not damage in the middle.
    """
    data, problem = _read(path)
    if problem:
        return ImageFacts(path, problem=problem)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    try:
        image = Image.open(io.BytesIO(data))
    except SIZE_ERROR:
        return ImageFacts(path, digest=digest, problem="too large: its header declares too many pixels")
    except Exception as error:  # any byte string may arrive here
        kind = "truncated or damaged in its header" if data.startswith(MAGIC) else "not an image"
        return ImageFacts(path, digest=digest, problem=f"{kind} ({type(error).__name__})")
    facts = ImageFacts(path, *image.size, image.format or "", image.mode, digest)
    if image.width * image.height > MAX_PIXELS:
        return facts._replace(problem=f"too large: {image.width} x {image.height} pixels")
    problem = _decode(image) if decode else _cut_off(data, facts.format)
    return facts._replace(problem=problem, note=_note(image, facts))


def _read(path: str) -> tuple[bytes, str]:
    """(bytes, problem)."""
    try:
        about = os.stat(path)
        if stat.S_ISDIR(about.st_mode):
            return b"", "a folder, not a file"
        if not stat.S_ISREG(about.st_mode):
            return b"", "not a plain file"
        if about.st_size > MAX_BYTES:
            return b"", f"too large: {about.st_size:,} bytes"
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return b"", "missing"
    except (OSError, ValueError) as error:
        return b"", f"unreadable ({type(error).__name__}: {getattr(error, 'strerror', None) or error})"
    return data, "" if data else "empty file"


def _decode(image: Image.Image) -> str:
    try:
        image.load()
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error ... on damaged bytes
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        return f"{kind} ({type(error).__name__}: {error})"
    return ""


def _cut_off(data: bytes, kind: str) -> str:
    if kind not in ENDINGS:
        return ""
    mark, reach = ENDINGS[kind]
    return "" if mark in data[-reach:] else "truncated (no end mark)"


def _note(image: Image.Image, facts: ImageFacts) -> str:
    """Oddities of a usable file."""
    notes = []
    suffix = os.path.splitext(facts.path)[1].lower()
    if facts.format not in SUFFIXES or suffix not in SUFFIXES[facts.format]:
        notes.append(f"{facts.format} data in a file named {suffix}")
    if facts.mode.startswith("I"):
        notes.append("16-bit: only the upper byte of each value is read")
    elif facts.mode != "RGB":
        notes.append(f"mode {facts.mode}, converted to RGB when read")
    try:
        turned = image.getexif().get(ORIENTATION, 1) if "exif" in image.info else 1
    except Exception:  # EXIF is a format of its own, with damage of its own
        turned, _ = 1, notes.append("unreadable EXIF")
    if turned != 1:
        notes.append(f"EXIF orientation {turned}: stored pixels are not upright")
    return "; ".join(notes)
