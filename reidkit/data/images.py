"""One image from disk: decoded, upright, RGB, 8 bits a channel, at the size of the network.

Every picture of the kit comes through `decode` (training, evaluation, checks, contact sheets) or `decode_bytes`
(uploads), so that people and networks look at the same pixels:

    EXIF          turned upright
    transparency  put on BACKGROUND; colours hidden behind alpha 0 do not come back
    16 bits       the upper byte of each value
    32 bits, float   scaled by the smallest of 1 (float only), 255, 65,535 that holds the largest value
    CMYK, palette, grey, 1 bit ...   converted by Pillow
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from reidkit.errors import DatasetError, unknown_name

Interpolation = Literal["bilinear", "bicubic"]
FILTERS: dict[Interpolation, Image.Resampling] = {
    name: Image.Resampling[name.upper()] for name in get_args(Interpolation)
}
FORMATS = {  # Pillow's names. Nothing else is tried: some formats start programs (EPS) or read other files.
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe", ".jif", ".jfi", ".pjpeg", ".pjp"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}
IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
OTHER_SUFFIXES = tuple(  # images too, by their names; the kit does not read them
    ".gif .apng .heic .heif .hif .avif .avifs .jxl .jxr .wdp .jp2 .j2k .j2c .jpc .jpf .jpx .mpo .dib .ico .cur .icns "
    ".ppm .pgm .pbm .pnm .pfm .tga .pcx .sgi .ras .xbm .xpm .qoi .dds .exr .hdr .psd .eps .svg .fits .flif .bpg "
    ".dng .cr2 .cr3 .nef .arw .orf .rw2 .raf".split()
)
LITTER_FOLDERS = frozenset({"__MACOSX", "@eaDir"})  # of macOS' archives and of disk stations: copies, no pictures
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*")  # how files of FORMATS begin
MAX_BYTES = 256 << 20
MAX_PIXELS = 50_000_000  # a crop of one person has 8,192 (Market-1501) to about a million
BACKGROUND = (255, 255, 255)  # white, as on paper, lies behind transparent pixels


ORIENTATION = 0x0112  # EXIF tag
TIFF_SIZE = (256, 257)  # TIFF tags
TURNS = {  # value of the tag -> what brings the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_unread_image(path: str) -> bool:
    """Whether a file is an image of a kind that the kit does not read: by its suffix, or, where that is none of an
    image, by its first bytes."""
    name = path.lower()
    if name.endswith(IMAGE_SUFFIXES) or not os.path.isfile(path):
        return False
    if name.endswith(OTHER_SUFFIXES):
        return True
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head.startswith((*MAGIC, b"GIF8")) and (not head.startswith(b"RIFF") or head.endswith(b"WEBP"))


class Unreadable(Exception):
    """Why a file is no usable image, in a few words: "truncated (OSError: ...)"."""


def decode(path: str | Path) -> Image.Image:
    """The RGB image of a file, by the rule of this module.

    Where the EXIF block itself is damaged the pixels stay as they are stored; of a file with several pictures the
    first is taken.
    Raises DatasetError that names the file when it is missing, empty, truncated, too large, or no image of FORMATS.
    """
    try:
        return flatten(straighten(open_picture(read_file(path))))
    except Unreadable as error:
        raise _cannot_decode(path, error) from error


def _cannot_decode(path: str | Path, error: Unreadable) -> DatasetError:
    return DatasetError(
        f"cannot decode the image {os.fspath(path)!r} ({error}); replace or remove it. "
        "`reidkit data check` lists every such file of a data set."
    )


def decode_bytes(data: bytes) -> Image.Image:
    """`decode` of a file's content. Raises Unreadable."""
    return flatten(straighten(open_picture(data)))


def upright_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of `decode(path)`, without decoding its pixels. Raises DatasetError as `decode` does."""
    try:
        image = open_picture(read_file(path))
    except Unreadable as error:
        raise _cannot_decode(path, error) from error
    return size_upright(image)


def size_upright(image: Image.Image) -> tuple[int, int]:
    """(height, width) that an `open_picture` has once it is upright."""
    if isinstance(image, TiffImageFile):  # as stored; `image.size` is turned already in newer Pillows only
        width, height = (image.tag_v2[tag] for tag in TIFF_SIZE)
    else:
        width, height = image.size
    return (width, height) if orientation(image) >= 5 else (height, width)


def read_image(path: str | Path, size: tuple[int, int], interpolation: Interpolation = "bilinear") -> np.ndarray:
    """uint8 [3, H, W] at size = (height, width).

    interpolation: "bilinear" or "bicubic", PIL's own filters as in MPN's released code: like torchvision's with
    antialias=True, they widen when an image shrinks.
    """
    return resized(decode(path), size, interpolation)


def resized(image: Image.Image, size: tuple[int, int], interpolation: Interpolation = "bilinear") -> np.ndarray:
    """uint8 [3, H, W] at size = (height, width) of an RGB image: the second half of `read_image`."""
    if interpolation not in FILTERS:
        raise unknown_name("interpolation", interpolation, FILTERS)
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), FILTERS[interpolation])
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))  # [H, W, 3] -> [3, H, W]


# ---- the four steps --------------------------------------------------------------------------------------------------


def read_file(path: str | Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a plain file of at most `limit` bytes. Raises Unreadable."""
    try:
        about = os.stat(path)
        if stat.S_ISDIR(about.st_mode):
            raise Unreadable("a folder, not a file")
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable("not a plain file")  # a pipe would wait for ever
        if about.st_size > limit:
            raise Unreadable(f"too large: {about.st_size:,} bytes")
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        raise Unreadable("missing (FileNotFoundError)") from error
    except (OSError, ValueError) as error:
        raise Unreadable(f"unreadable ({type(error).__name__}: {getattr(error, 'strerror', None) or error})") from error
    if not data:
        raise Unreadable("empty file")
    return data


def open_picture(data: bytes) -> Image.Image:
    """The image of a file's bytes; only its header is read, and the size that it states is checked.

    Raises Unreadable for what is no image of FORMATS, and for more than MAX_PIXELS.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=tuple(FORMATS))
    except Image.DecompressionBombError as error:
        raise Unreadable("too large: its header declares too many pixels") from error
    except Exception as error:  # any byte string may arrive here
        kind = "truncated or damaged in its header" if data.startswith(MAGIC) else "not an image"
        read = "" if data.startswith(MAGIC) else f"; read are {', '.join(FORMATS)}"
        raise Unreadable(f"{kind} ({type(error).__name__}{read})") from error
    if not 0 < image.width * image.height <= MAX_PIXELS:
        size = "too large" if image.width else "no pixels"
        raise Unreadable(f"{size}: {image.width} x {image.height} pixels")
    if image.format == "PNG" and "transparency" in image.info:
        image.info["transparency"] = _in_eight_bits(image.info["transparency"], image.mode, depth=data[24])
    return image


def _in_eight_bits(key, mode: str, depth: int):
    """The transparent colour of a PNG, which Pillow leaves in the file's depth while it brings pixels to 8 bits."""
    if isinstance(key, tuple) and depth == 16:
        return tuple(value >> 8 for value in key)
    return key * 255 // (2**depth - 1) if mode == "L" and isinstance(key, int) else key


def straighten(image: Image.Image) -> Image.Image:
    """Decode the pixels: upright, 8 bits a channel, mode "RGBA" where the file has transparency, else "RGB".

    Raises Unreadable for damaged or missing pixels.
    """
    try:
        image.load()
        if orientation(image) in TURNS:
            image = image.transpose(TURNS[orientation(image)])
        if image.mode == "F" or image.mode.startswith("I"):
            return _from_deep(image)
        if image.mode == "La":  # multiplied by alpha; Pillow converts it in two steps only
            image = image.convert("LA")
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error ... on damaged bytes
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise Unreadable(f"{kind} ({type(error).__name__}: {error})") from error


def orientation(image: Image.Image) -> int:
    """What EXIF says of how the picture is held: 1 upright (also without EXIF) .. 8; 0 unreadable.

    Decodes nothing. Pillow turns a TIFF upright when its pixels are decoded, and says 1 from then on.
    """
    if image.format == "PNG" and not image.info.keys() & {"exif", "Raw profile type exif"}:
        return 1  # Pillow would decode all pixels to look behind them
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF is a format of its own, with damage of its own
        return 0


def _from_deep(image: Image.Image) -> Image.Image:
    """8 bits of an image whose values have 16 or 32 bits; Pillow's own conversion cuts everything above 255."""
    values = np.asarray(image)  # [H, W] uint16, int32 or float32
    if image.mode.startswith("I;16"):
        grey = (values >> 8).astype(np.uint8)
    else:
        values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0).clip(min=0)
        ranges = (*((1,) if image.mode == "F" else ()), 255, 65535)
        top = values.max()
        grey = np.rint(values * (255 / next((r for r in ranges if top <= r), top))).astype(np.uint8)
    if "transparency" not in image.info:
        return Image.fromarray(grey).convert("RGB")
    alpha = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([grey, alpha], 2)).convert("RGBA")  # [H, W, 2] is grey with alpha


def flatten(image: Image.Image) -> Image.Image:
    """RGB of "RGB" or "RGBA": transparent pixels on BACKGROUND."""
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image).convert("RGB")


def relative_path(path: str, root: str | Path) -> str:
    """One path of `relative_paths`."""
    return relative_paths([path], root)[0]


def relative_paths(paths: Iterable[str], root: str | Path) -> list[str]:
    """Paths relative to the data set's root, with forward slashes: how caches and prior tables name images.

    A folder may be spelt in two ways where links are involved. Raises DatasetError for a path outside the root.
    """
    prefix = os.path.join(os.path.abspath(root), "")
    relative = []
    for path in map(os.path.abspath, paths):
        if not path.startswith(prefix):
            path = _through_links(path, prefix)
        relative.append(path[len(prefix) :].replace(os.sep, "/"))
    return relative


def _through_links(path: str, prefix: str) -> str:
    """`path`, whose folder is another spelling of a folder below `prefix`, in the spelling of `prefix`."""
    folder, name = os.path.split(path)
    path_there, prefix_there = os.path.join(os.path.realpath(folder), name), os.path.join(os.path.realpath(prefix), "")
    if not path_there.startswith(prefix_there):
        raise DatasetError(f"the image {path!r} does not lie below the data set's root {prefix!r}")
    return prefix + path_there[len(prefix_there) :]
