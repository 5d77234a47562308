"""Pictures of your own: whatever a person has at hand, as a flat list of single pictures, each of them RGB in the end.

    images = list_images(["a.jpg", "folder/", pil_image, array])   # a folder becomes its image files, sorted
    picture = open_image(images[3])                                # PIL, upright, RGB

What may stand for a picture:

    path           of an image file, or of a folder: all images below it, without hidden files and the kit's own folders
    PIL image      of any mode
    array          [H, W], [H, W, 1], [H, W, 3] RGB or [H, W, 4] RGBA
    tensor         [3, H, W], also 1 or 4 channels, or [H, W]
    table          its column `path`
    [N, ...]       an array or tensor with one axis more: N pictures

Numbers are whole ones from 0 to 255, 16-bit ones (the upper byte counts, as in files) or fractions in [0, 1].
Alpha is put on white, as everywhere in the kit (`reidkit.data.images`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from reidkit.data.images import (
    IMAGE_SUFFIXES,
    LITTER_FOLDERS,
    MAX_PIXELS,
    Interpolation,
    Unreadable,
    decode,
    flatten,
    is_unread_image,
    resized,
    straighten,
)
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.files import disk_error

Picture = str | Image.Image | np.ndarray | Tensor  # one picture; a str is the path of a file
CHANNELS = (1, 3, 4)
# What lies below a data set's root and is none of its pictures: what the kit writes there, and maps of other programs.
OWN_FOLDERS = ("cache", "checks", "dense", "parsing", "priors", "quarantine", "segmentation")
EXPECTED = "the path of an image file or folder, a PIL image, an array [H, W, 3] or a tensor [3, H, W]"


def list_images(images: Any) -> list[Picture]:
    """One entry a picture, in the order given: paths as str, folders replaced by their files, the rest as it is.

    images: one thing that stands for pictures (see the top of the file), or a list of them.
    Row i of `net.extract(images)` is entry i. Nothing is decoded.
    Raises ReIDKitError, naming the entry, for an empty list, a missing file, a folder without images, and what is no
    picture. Images of kinds that the kit does not read are left out of a folder, with a warning.
    """
    return [picture for _, picture in named_images(images)]


def named_images(images: Any) -> list[tuple[str, Picture]]:
    """(name for messages, picture) of every entry of `list_images`."""
    entries = _entries(images)
    if not entries:
        raise ReIDKitError(f"there is no picture: the list is empty; expected {EXPECTED}, or a list of these")
    single = not _is_several(images)
    return [
        pair
        for i, entry in enumerate(entries)
        for pair in _pictures(entry, "the picture" if single else f"picture {i}")
    ]


def open_image(picture: Picture, name: str = "the picture") -> Image.Image:
    """The RGB image of one entry of `list_images`, upright, 8 bits a channel.

    name: what a message calls it; paths name themselves. Raises DatasetError for a file that does not decode,
    ReIDKitError for an array or image that holds no picture.
    """
    if isinstance(picture, (str, os.PathLike)):
        return decode(picture)
    if isinstance(picture, np.ndarray | Tensor):
        _check_shape(picture, name)
    try:
        image = picture if isinstance(picture, Image.Image) else _from_numbers(picture)
        if 0 in image.size:
            raise Unreadable(f"no pixels: {image.width} x {image.height}")
        if image.width * image.height > MAX_PIXELS:
            raise Unreadable(f"too large: {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read")
        return flatten(straighten(image))
    except Unreadable as error:
        raise ReIDKitError(f"{name} ({_kind(picture)}) cannot be used: {error}") from error


def read_picture(picture: Picture, size: tuple[int, int], interpolation: Interpolation, name: str) -> np.ndarray:
    """uint8 [3, H, W] of one picture at size = (height, width); as `read_image` of a file with the same pixels."""
    return resized(open_image(picture, name), size, interpolation)


def images_below(folder: str | os.PathLike) -> tuple[list[str], list[str]]:
    """(images, images of kinds that are not read): sorted paths of all files below a folder.

    Left out: hidden files and folders, what other programs leave (`LITTER_FOLDERS`), and at the top the folders that
    the kit itself writes (`OWN_FOLDERS`). Links are followed; a folder that is reached twice, as through a link to
    itself, is read once. Raises DatasetError for a folder that cannot be read: its pictures would be missing unseen.
    """
    found, unread, seen = [], [], set()

    def refuse(error: OSError) -> None:
        raise disk_error(f"the folder {error.filename} cannot be read", error, DatasetError) from error

    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        own = OWN_FOLDERS if os.path.samefile(place, folder) else ()
        none = {*LITTER_FOLDERS, *own}
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in none)
        for name in files:
            if not name.startswith("."):
                path = os.path.join(place, name)
                if name.lower().endswith(IMAGE_SUFFIXES):
                    found.append(path)
                elif is_unread_image(path):
                    unread.append(path)
    return sorted(found), sorted(unread)


# ---- one entry after the other ---------------------------------------------------------------------------------------


def _is_several(images: Any) -> bool:
    """A list of entries, as opposed to one entry."""
    if isinstance(images, (str, bytes, os.PathLike, Image.Image, Mapping, Set, pd.DataFrame)) or hasattr(
        images, "read"
    ):
        return False
    if isinstance(images, np.ndarray):
        return images.dtype.kind in "OUS" and images.ndim > 0
    return isinstance(images, Iterable) and not isinstance(images, Tensor)


def _entries(images: Any) -> list[Any]:
    """What was handed in, as a list."""
    return list(images) if _is_several(images) else [images]


def _pictures(entry: Any, name: str) -> list[tuple[str, Picture]]:
    """The pictures that one entry stands for."""
    if isinstance(entry, (str, os.PathLike)) and not isinstance(entry, bytes):
        return [(path, path) for path in _files(entry, name)]
    if isinstance(entry, pd.DataFrame):
        if "path" not in entry:
            raise ReIDKitError(f"{name} is a table without a column 'path'; it has {[str(c) for c in entry.columns]}")
        return [pair for row, path in enumerate(entry["path"]) for pair in _pictures(path, f"{name}, row {row},")]
    if isinstance(entry, Image.Image):
        return [(name, entry)]
    if isinstance(entry, (np.ndarray, Tensor)) and entry.ndim == 4:
        if not len(entry):
            raise ReIDKitError(f"{name} ({_kind(entry)}) holds no picture")
        return [pair for i, one in enumerate(entry) for pair in _pictures(one, f"{name}, row {i},")]
    if isinstance(entry, (np.ndarray, Tensor)):
        _check_shape(entry, name)
        return [(name, entry)]
    several = isinstance(entry, Sequence) and not isinstance(entry, bytes)
    hint = "; pass one flat list" if several else "; of a file's bytes Image.open(io.BytesIO(data)) makes a picture"
    raise ReIDKitError(
        f"{name} is a {type(entry).__name__}; expected {EXPECTED}{hint if several or isinstance(entry, bytes) else ''}"
    )


def _files(path: str | os.PathLike, name: str) -> list[str]:
    """The image files that a path stands for: itself, or those below it."""
    path = os.fsdecode(path)
    if not os.path.isdir(path):
        if not path or not os.path.exists(path):
            raise DatasetError(f"{name}: there is no file or folder {path!r} (looked in {os.getcwd()})")
        return [path]
    found, unread = images_below(path)
    if unread:
        warnings.warn(
            f"{path}: {len(unread)} images are left out, as the kit does not read their kind (first: {unread[0]!r}); "
            f"convert them to one of {', '.join(IMAGE_SUFFIXES)}",
            stacklevel=2,
        )
    if not found:
        raise DatasetError(
            f"{name}: the folder {path!r} holds no image ({', '.join(IMAGE_SUFFIXES)}), not in the folders below it "
            "either; hidden files do not count. Name the folder that the pictures lie in"
        )
    return found


def _kind(picture: Picture) -> str:
    """What was handed in, in a few words."""
    if isinstance(picture, Image.Image):
        return f"a PIL image of mode {picture.mode}"
    if isinstance(picture, (np.ndarray, Tensor)):
        word = "tensor" if isinstance(picture, Tensor) else "array"
        dtype = str(picture.dtype).removeprefix("torch.")
        return f"{word} {list(picture.shape)} {dtype}"
    return f"a {type(picture).__name__}"


def _check_shape(numbers: np.ndarray | Tensor, name: str) -> None:
    """ReIDKitError unless an array is [H, W] or [H, W, C] and a tensor [H, W] or [C, H, W], of numbers."""
    shape, channel = list(numbers.shape), 0 if isinstance(numbers, Tensor) else -1
    wanted = "[3, H, W]" if isinstance(numbers, Tensor) else "[H, W, 3]"
    if numbers.ndim == 3 and shape[channel] not in CHANNELS and shape[-1 - channel] in CHANNELS:
        turn = "x.permute(2, 0, 1)" if isinstance(numbers, Tensor) else "x.transpose(1, 2, 0)"
        raise ReIDKitError(f"{name} ({_kind(numbers)}): expected {wanted}; {turn} puts the channels there")
    if numbers.ndim not in (2, 3) or (numbers.ndim == 3 and shape[channel] not in CHANNELS):
        raise ReIDKitError(f"{name} ({_kind(numbers)}): expected {wanted}, with 1, 3 or 4 channels, or [H, W]")
    if 0 in shape:
        raise ReIDKitError(f"{name} ({_kind(numbers)}) cannot be used: no pixels")


def _from_numbers(numbers: np.ndarray | Tensor) -> Image.Image:
    """Grey, RGB or RGBA image of 8 bits. Raises Unreadable for numbers that are no pixels."""
    if isinstance(numbers, Tensor):
        numbers = numbers.detach().cpu()
        numbers = (numbers.float() if numbers.is_floating_point() else numbers).numpy()
        if numbers.ndim == 3:
            numbers = numbers.transpose(1, 2, 0)  # [C, H, W] -> [H, W, C]
    pixels = _in_eight_bits(numbers)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def _in_eight_bits(values: np.ndarray) -> np.ndarray:
    """uint8 of the same shape. Raises Unreadable."""
    kind = values.dtype.kind
    if values.dtype == np.uint8:
        return values
    if kind not in "biuf":
        raise Unreadable(f"expected numbers, got {values.dtype}")
    if kind == "b":
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    low, high = values.min(), values.max()
    if kind == "f":
        if not (0 <= low and high <= 1):  # NaN too
            raise Unreadable(
                f"values from {low:.4g} to {high:.4g}; expected fractions in [0, 1] that are not normalised yet, "
                "or whole numbers from 0 to 255 (x.astype('uint8'))"
            )
        return np.rint(values * 255).astype(np.uint8)
    if low < 0 or high > 255:
        raise Unreadable(f"values from {low} to {high}; expected whole numbers from 0 to 255")
    return values.astype(np.uint8)
