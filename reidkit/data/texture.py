"""`TextureBatch`: images warped onto the 24 charts of a body's surface, which travel with their images (DSA-reID).

A dense body map says for every pixel which chart I (1..24, 0 = no person) of the body's surface it shows, and where
on it: U, V in [0, 1]. Charts are numbered as DensePose numbers them. U runs across a chart, V down it, and the mirror
image of a body has chart MIRROR[I - 1] + 1 and 1 - U where the body has I and U.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reidkit.data.feed import send

CHARTS = (
    "torso, back",
    "torso, front",
    "right hand",
    "left hand",
    "left foot",
    "right foot",
    "right upper leg, back",
    "left upper leg, back",
    "right upper leg, front",
    "left upper leg, front",
    "right lower leg, back",
    "left lower leg, back",
    "right lower leg, front",
    "left lower leg, front",
    "left upper arm, back",
    "right upper arm, back",
    "left upper arm, front",
    "right upper arm, front",
    "left lower arm, back",
    "right lower arm, back",
    "left lower arm, front",
    "right lower arm, front",
    "right of the head",
    "left of the head",
)  # chart I is CHARTS[I - 1]


def _mirrored(name: str) -> str:
    words = {"left": "right", "right": "left"}
    return " ".join(words.get(word, word) for word in name.split(" "))


MIRROR = tuple(CHARTS.index(_mirrored(name)) for name in CHARTS)  # from 0: chart i of the mirror image is MIRROR[i]
CHART_OF = {name: i + 1 for i, name in enumerate(CHARTS)}
SIZE = 32  # of a chart's texture in pixels, as in DSA-reID


class TextureBatch(NamedTuple):
    """texture: uint8 [B, 24, 4, S, S], chart I at I - 1: R, G, B, and 255 where the image shows that place, else 0.

    Used in the place of a `PriorBatch`, with the same methods.
    """

    texture: Tensor

    def to(self, device: str | torch.device) -> TextureBatch:
        """The same textures on a device."""
        return TextureBatch(send(self.texture, device))

    def rows(self, index: Tensor | slice) -> TextureBatch:
        """The textures of some of the images: an index tensor, a boolean [B] or a slice."""
        if isinstance(index, slice) or index.dtype == torch.bool:
            return TextureBatch(self.texture[index])
        return TextureBatch(self.texture.index_select(0, index))

    def expand(self, count: int) -> TextureBatch:
        """The textures of one image, for `count` copies of it; no memory is copied."""
        return TextureBatch(self.texture.expand(count, *self.texture.shape[1:]))

    def flip(self, flips: Tensor | None = None) -> TextureBatch:
        """Textures of the mirror images, of all or where flips [B] is true: left and right change places, U turns."""
        charts = self.texture.unbind(1)
        mirrored = torch.stack([charts[i] for i in MIRROR], 1).flip(-1)
        if flips is not None:
            mirrored = torch.where(send(flips, self.texture.device)[:, None, None, None, None], mirrored, self.texture)
        return TextureBatch(mirrored)

    def translate(self, dx: Tensor, dy: Tensor) -> TextureBatch:
        """A texture does not move with its image: what was seen of a body part is the same part, wherever it stands."""
        return self
