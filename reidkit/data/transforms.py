"""Augmentation of whole batches, on the device where they are: flip, normalise, random erasing, translation.

Order of MPN's released code: flip -> normalise -> random erasing. Because erasing comes *after* the
normalisation, its fill (0.4914, 0.4822, 0.4465) is a value of normalised space, a little brighter than the
mean image; it was meant as a colour of [0, 1] space. We keep what was trained with.

Random numbers are drawn with the generator handed in, on its own device: a CPU generator gives the same
augmentation for CPU and GPU batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from reidkit.data.images import Interpolation
from reidkit.data.prior import shift_sources
from reidkit.errors import TrainingError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class AugmentConfig:
    """Settings of training images. The defaults are MPN's (Sec. 5.1 and the released code).

    size: (height, width) in pixels; loaders resize to it with `interpolation`.
    flip: probability of a horizontal flip.
    erasing: probability of random erasing (Zhong et al., AAAI 2020); 0 for CGPN, which flips only.
    erasing_area: range of the erased area, a fraction of the image.
    erasing_aspect: range of height / width of the erased rectangle, drawn uniformly.
    erasing_fill: what is written, per channel, in normalised space.
    mean, std: of the ImageNet images that the backbone was trained on, in [0, 1].
    """

    size: tuple[int, int] = (384, 128)
    flip: float = 0.5
    erasing: float = 0.5
    erasing_area: tuple[float, float] = (0.02, 0.4)
    erasing_aspect: tuple[float, float] = (0.3, 3.3)
    erasing_fill: tuple[float, float, float] = (0.4914, 0.4822, 0.4465)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"


class TrainAugment:
    """`TrainAugment(config)(batch, generator)`: uint8 batch -> float batch, augmented and normalised.

    images [B, 3, H, W] uint8 -> float32; the prior's mask is flipped with the image. Erasing leaves the
    prior alone: it was computed once, from the whole image.
    Raises TrainingError when the images are not of `config.size`.
    """

    def __init__(self, config: AugmentConfig | None = None) -> None:
        self.config = config or AugmentConfig()

    def __call__(self, batch, generator: torch.Generator):
        c, images = self.config, batch.images
        if tuple(images.shape[-2:]) != tuple(c.size):
            raise TrainingError(
                f"the batch holds images of {tuple(images.shape[-2:])}, AugmentConfig.size is {tuple(c.size)}; "
                "give the loader the same size"
            )
        flips = _uniform(len(images), generator).to(images.device) < c.flip  # [B]
        images = normalize(flip_images(images, flips), c.mean, c.std)
        images = erase(images, draw_rectangles(len(images), c, generator), c.erasing_fill)
        return replace(batch, images=images, prior=batch.prior and batch.prior.flip(flips))


class TestTransform:
    """`TestTransform(config)(batch)`: uint8 batch -> normalised float batch, nothing random."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    def __init__(self, config: AugmentConfig | None = None) -> None:
        self.config = config or AugmentConfig()

    def __call__(self, batch):
        return replace(batch, images=normalize(batch.images, self.config.mean, self.config.std))


def normalize(images: Tensor, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 (x / 255 - mean) / std."""
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (mean, std))  # [3, 1, 1]
    return images.float().sub_(255 * mean).div_(255 * std)  # in place: three times as fast as F.normalize


def flip_images(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror the images [B, 3, H, W] where flips [B] is true."""
    return torch.where(flips[:, None, None, None], F.horizontal_flip(images), images)


def draw_rectangles(count: int, config: AugmentConfig, generator: torch.Generator, tries: int = 100) -> Tensor:
    """[B, 4] (top, left, height, width) in pixels of the rectangles to erase; height 0 = nothing.

    As in MPN's released code: area and aspect are drawn until the rectangle is smaller than the image on both
    sides, at most `tries` times, then its place. Here all tries are drawn at once and the first fitting taken.
    """
    H, W = config.size
    area = H * W * _between(config.erasing_area, (count, tries), generator)
    aspect = _between(config.erasing_aspect, (count, tries), generator)
    heights, widths = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()  # [B, tries]
    fits = (heights < H) & (widths < W)
    first = fits.int().argmax(dim=1, keepdim=True)  # [B, 1] index of the first true
    height, width = (x.gather(1, first).squeeze(1) for x in (heights, widths))  # [B]
    top = (_uniform(count, generator) * (H - height + 1)).floor().minimum(H - height)
    left = (_uniform(count, generator) * (W - width + 1)).floor().minimum(W - width)
    chosen = (_uniform(count, generator) < config.erasing) & fits.any(dim=1)
    return (torch.stack([top, left, height, width], dim=1) * chosen[:, None]).long()


def erase(images: Tensor, rectangles: Tensor, fill: tuple[float, float, float]) -> Tensor:
    """Write `fill` into one rectangle (top, left, height, width) of each image [B, 3, H, W]."""
    H, W = images.shape[-2:]
    top, left, height, width = rectangles.to(images.device)[:, :, None].unbind(1)  # each [B, 1]
    y, x = torch.arange(H, device=images.device), torch.arange(W, device=images.device)
    rows = (y >= top) & (y < top + height)  # [B, H]
    columns = (x >= left) & (x < left + width)  # [B, W]
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]  # [B, 1, H, W]
    return torch.where(inside, images.new_tensor(fill)[:, None, None], images)


def translate_table(table: pd.DataFrame, copies: int = 5, max_shift: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """Enlarge a training table by offline translation (MPN Sec. 5.1): `copies` rows an image.

    The first copy stays where it is; the others carry a fixed shift in the columns `dx`, `dy` (fractions of
    width and height, positive = right and down), uniform in +-max_shift. The paper gives the factor five, not
    the range; 0.05 is the range of Ahmed et al. (CVPR 2015). Loaders apply the shift to image, mask and
    boundaries together. With `mode="independent"` an epoch becomes `copies` times longer.
    """
    if copies < 1:
        raise TrainingError(f"translation copies must be at least 1, not {copies}")
    shifts = np.random.default_rng(seed).uniform(-max_shift, max_shift, (copies, len(table), 2))
    shifts[0] = 0.0
    enlarged = pd.concat([table] * copies, ignore_index=True)
    return enlarged.assign(dx=shifts[..., 0].reshape(-1), dy=shifts[..., 1].reshape(-1))


def translate_images(images: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Move images [B, 3, H, W] by fractions dx, dy [B], rounded to whole pixels; the edge is repeated.

    Repeating the edge, not black: a black border would tell the network the shift.
    """
    H, W = images.shape[-2:]
    rows = shift_sources(dy, H).clamp(0, H - 1).to(images.device)  # [B, H] which row each row comes from
    columns = shift_sources(dx, W).clamp(0, W - 1).to(images.device)
    return torch.stack([image.index_select(1, r).index_select(2, c) for image, r, c in zip(images, rows, columns)])


def _uniform(count, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)


def _between(bounds: tuple[float, float], shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * _uniform(shape, generator)
