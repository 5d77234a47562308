"""The coarse prior of one image and of a batch (MPN Sec. 3.2, Fig. 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class CoarsePrior:
    """The prior of one image.

    mask: [h, w] bool, the final mask M on the feature grid; all ones when not reliable.
    top, bottom: upper and lower boundary of the person, fractions of the image height in [0, 1].
    reliable: False = head or both legs missing, the whole image is divided evenly.
    """

    mask: np.ndarray
    top: float
    bottom: float
    reliable: bool


class PriorBatch(NamedTuple):
    """Priors of B images as tensors: mask [B, h, w] bool, top [B], bottom [B] float, reliable [B] bool."""

    mask: Tensor
    top: Tensor
    bottom: Tensor
    reliable: Tensor

    def to(self, device) -> PriorBatch:
        return PriorBatch(*(t.to(device, non_blocking=True) for t in self))
