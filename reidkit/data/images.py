"""One image from disk: decoded, upright, RGB, at the size of the network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from reidkit.errors import DatasetError, unknown_name

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decode(path: str | Path) -> Image.Image:
    """The RGB image of a file, turned upright where EXIF says so.

    CMYK, palette and grey images are converted; 16-bit grey is brought to 8 bits by its upper byte. Where the
    EXIF block itself is damaged the pixels stay as they are stored.
    Raises DatasetError that names the file when it is missing, empty, truncated, too large, or no image.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error ... on damaged bytes
        raise DatasetError(
            f"cannot decode the image {os.fspath(path)!r} ({type(error).__name__}: {error}); replace or remove it. "
            "`reidkit data check` lists every such file of a data set."
        ) from error
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey: convert("RGB") would clip everything above 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def read_image(path: str | Path, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    """uint8 [3, H, W] at size = (height, width).

    interpolation: "bilinear" or "bicubic", PIL's own filters as in MPN's released code: like torchvision's with
    antialias=True, they widen when an image shrinks.
    """
    if interpolation not in FILTERS:
        raise unknown_name("interpolation", interpolation, FILTERS)
    height, width = size
    image = decode(path)
    if image.size != (width, height):
        image = image.resize((width, height), FILTERS[interpolation])
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))  # [H, W, 3] -> [3, H, W]


def relative_paths(paths: Iterable[str], root: str | Path) -> list[str]:
    """Posix paths relative to the data set's root: how caches and prior tables name images.

    Raises DatasetError for a path outside the root.
    """
    prefix = os.path.join(os.path.abspath(root), "")
    relative = []
    for path in paths:
        path = path if os.path.isabs(path) else os.path.abspath(path)
        if not path.startswith(prefix):
            raise DatasetError(f"the image {path!r} does not lie below the data set's root {prefix!r}")
        relative.append(path[len(prefix) :].replace(os.sep, "/"))
    return relative
