"""`PriorBatch`: the coarse priors of a batch, which travel with their images from the loader to the network.

How a prior is computed from maps is the subject of `reidkit.priors`; here is what happens to it on the way: it
moves to a device, and it is mirrored and shifted together with its image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from reidkit.data.feed import send


class PriorBatch(NamedTuple):
    """Priors of B images as tensors: mask [B, h, w] bool, top [B], bottom [B] float, reliable [B] bool.

    top and bottom are fractions of the image height. A prior that is not reliable (head or both legs missing) has
    a full mask and the boundaries 0 and 1: the whole image, evenly divided.
    """

    mask: Tensor
    top: Tensor
    bottom: Tensor
    reliable: Tensor

    def to(self, device: str | torch.device) -> PriorBatch:
        """The same priors on a device; the copy is queued (`feed.send`)."""
        return PriorBatch(*(send(t, device) for t in self))

    def rows(self, index: Tensor | slice) -> PriorBatch:
        """The priors of some of the images: an index tensor, a boolean [B] or a slice."""
        if isinstance(index, slice) or index.dtype == torch.bool:
            return PriorBatch(*(t[index] for t in self))
        return PriorBatch(*(t.index_select(0, index) for t in self))

    def expand(self, count: int) -> PriorBatch:
        """The prior of one image, for `count` copies of it; no memory is copied."""
        return PriorBatch(*(t.expand(count, *t.shape[1:]) for t in self))

    def flip(self, flips: Tensor | None = None) -> PriorBatch:
        """Mirror the columns of the masks, of all or where flips [B] is true; upper and lower boundary stay."""
        mirrored = F.horizontal_flip(self.mask)
        if flips is not None:
            mirrored = torch.where(send(flips, self.mask.device)[:, None, None], mirrored, self.mask)
        return self._replace(mask=mirrored)

    def translate(self, dx: Tensor, dy: Tensor) -> PriorBatch:
        """Move priors with their images by fractions dx of the width and dy of the height [B], positive = right, down.

        Boundaries move by exactly dy and stop at the image's edge; masks move by the nearest whole cell of their
        grid, and cells from outside are empty. Unreliable priors stay as they are.
        """
        B, h, w = self.mask.shape
        rows = shift_sources(whole_steps(dy, h), h)  # [B, h]
        columns = shift_sources(whole_steps(dx, w), w)  # [B, w]
        exists = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None, :]
        moved = self.mask.gather(1, rows.clamp(0, h - 1)[:, :, None].expand(B, h, w))
        moved = moved.gather(2, columns.clamp(0, w - 1)[:, None, :].expand(B, h, w)) & exists
        return self._replace(
            mask=torch.where(self.reliable[:, None, None], moved, self.mask),
            top=torch.where(self.reliable, (self.top + dy).clamp(0, 1), self.top),
            bottom=torch.where(self.reliable, (self.bottom + dy).clamp(0, 1), self.bottom),
        )


def whole_steps(shift: Tensor, length: int) -> Tensor:
    """[B] long: shifts by fractions [B] of a length in whole pixels or cells."""
    return (shift.double() * length).round().long()


def shift_sources(steps: Tensor, length: int) -> Tensor:
    """[B, length]: after a shift by whole steps [B], position i shows the old i - steps.

    Sources below 0 or from `length` on lie outside.
    """
    return torch.arange(length, device=steps.device) - steps[:, None]
