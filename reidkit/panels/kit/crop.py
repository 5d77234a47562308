"""A crop that the reader moves: shift, scale and cover an image as a bad detector or a passer-by would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reidkit.data.images import MAX_BYTES, MAX_PIXELS, Unreadable, decode_bytes
from reidkit.errors import ReIDKitError

COVER = (124, 116, 104)  # the mean colour of ImageNet, so that a network sees "nothing special"


@dataclass(frozen=True)
class Crop:
    """How the detector's box is wrong.

    dx, dy: the person appears this far to the right and down, fractions of the width and height.
    scale: the person appears this many times larger. cover: share of the height that is hidden, and cover_top:
    where the cover begins.
    """

    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0
    cover: float = 0.0
    cover_top: float = 0.7

    def apply(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 at size = (height, width). Beyond the image its border is repeated."""
        if not 0.1 <= self.scale <= 10:
            raise ReIDKitError(f"scale = {self.scale}: choose 0.1 .. 10")
        (H, W), (h, w) = image.shape[:2], size
        rows = (((np.arange(h) + 0.5) / h - 0.5 - self.dy) / self.scale + 0.5) * H - 0.5
        columns = (((np.arange(w) + 0.5) / w - 0.5 - self.dx) / self.scale + 0.5) * W - 0.5
        out = _lines(_lines(image.astype(np.float32), rows, 0), columns, 1)
        out = np.clip(np.rint(out), 0, 255).astype(np.uint8)
        first, last = round(self.cover_top * h), round((self.cover_top + self.cover) * h)
        out[first : max(first, min(last, h))] = COVER
        return out


def _lines(image: np.ndarray, position: np.ndarray, axis: int) -> np.ndarray:
    """Rows (axis 0) or columns (axis 1) at fractional positions, linearly interpolated."""
    last = image.shape[axis] - 1
    position = np.clip(position, 0, last)
    low = np.floor(position).astype(int)
    share = (position - low).astype(np.float32)
    share = share[:, None, None] if axis == 0 else share[None, :, None]
    return np.take(image, low, axis) * (1 - share) + np.take(image, np.minimum(low + 1, last), axis) * share


def read_upload(name: str, content: bytes, largest: int = 1024) -> np.ndarray:
    """uint8 [H, W, 3] of an uploaded file, by the rule of `reidkit.data.images`: upright, 8 bits, no transparency.

    Images larger than `largest` pixels a side are shrunk. Raises ReIDKitError for what is no image, or too large.
    """
    if len(content) > MAX_BYTES:
        raise ReIDKitError(f"{name!r} is too large: {len(content):,} bytes; upload at most {MAX_BYTES:,}")
    try:
        image = decode_bytes(bytes(content))
    except Unreadable as error:
        if str(error).startswith("too large"):
            raise ReIDKitError(
                f"{name!r} is {error}; upload a picture of at most {MAX_PIXELS:,} pixels, or a crop of one person"
            ) from error
        raise ReIDKitError(
            f"{name!r} is not an image that can be read ({error}): upload a JPEG or PNG crop of one person"
        ) from error
    image.thumbnail((largest, largest))
    return np.asarray(image)
