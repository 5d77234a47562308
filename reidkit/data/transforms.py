"""Augmentation of whole batches, on the device where they are: flip, normalise, random erasing, translation.

Order of MPN's released code: flip -> normalise -> random erasing. Because erasing comes *after* the
normalisation, its fill (0.4914, 0.4822, 0.4465) is a value of normalised space, a little brighter than the
mean image; it was meant as a colour of [0, 1] space. We keep what was trained with.

Random numbers are drawn with the generator handed in, on its own device: a CPU generator gives the same
augmentation for CPU and GPU batches. `TrainAugment.plan` draws those of an epoch at once, so that the device gets
them in one copy:

    plan = augment.plan(loader, generator)
    for batch in loader:
        batch = augment(batch, plan)         # the same pixels as augment(batch, generator)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reidkit.data.feed import send
from reidkit.data.images import Interpolation
from reidkit.data.prior import shift_sources, whole_steps
from reidkit.errors import TrainingError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TRIES = 100  # rectangles drawn an image, of which the first that fits is taken
CHUNK = 64  # batches whose random numbers are in memory at once


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


class AugmentPlan(NamedTuple):
    """What happens to the images of S batches: flips [S, B] bool, rectangles [S, B, 4] of `draw_rectangles`."""

    flips: Tensor
    rectangles: Tensor


class TrainAugment:
    """`TrainAugment(config)(batch, draws)`: uint8 batch -> float batch, augmented and normalised.

    draws: a generator, from which this batch's random numbers are drawn, or the `plan` of an epoch.
    images [B, 3, H, W] uint8 -> float32; the prior's mask is flipped with the image. Erasing leaves the
    prior alone: it was computed once, from the whole image.
    Raises TrainingError when the images are not of `config.size`, or the batch is none of the plan's.
    """

    def __init__(self, config: AugmentConfig | None = None) -> None:
        self.config = config or AugmentConfig()

    def plan(self, loader, generator: torch.Generator) -> AugmentPlan:
        """The random numbers of an epoch of a training loader, on its device.

        A CPU generator gives batch `i` of the epoch what it gives the i-th of `len(loader)` batches one by one. A
        loader that goes on in mid-epoch gets the numbers of its remaining batches too: they go by `Batch.step`.
        """
        steps, count = len(loader), loader.batch_size
        chunks = [self._draw(min(CHUNK, steps - i), count, generator) for i in range(0, steps, CHUNK)]
        return AugmentPlan(*(send(torch.cat(parts), loader.device) for parts in zip(*chunks)))

    def __call__(self, batch, draws: torch.Generator | AugmentPlan):
        c, images = self.config, batch.images
        if tuple(images.shape[-2:]) != tuple(c.size):
            raise TrainingError(
                f"the batch holds images of {tuple(images.shape[-2:])}, AugmentConfig.size is {tuple(c.size)}; "
                "give the loader the same size"
            )
        flips, rectangles = (send(t, images.device) for t in self._of(batch, draws))  # [B], [B, 4]
        images = normalize(flip_images(images, flips), c.mean, c.std)
        images = erase(images, rectangles, c.erasing_fill, out=images)  # the floats are ours
        return replace(batch, images=images, prior=batch.prior and batch.prior.flip(flips))

    def _of(self, batch, draws: torch.Generator | AugmentPlan) -> tuple[Tensor, Tensor]:
        """Flips [B] and rectangles [B, 4] of one batch."""
        if isinstance(draws, torch.Generator):
            flips, rectangles = self._draw(1, len(batch), draws)
            return flips[0], rectangles[0]
        steps, count = draws.flips.shape
        if batch.step >= steps or len(batch) != count:
            raise TrainingError(
                f"the plan is of {steps} batches of {count} images, this is batch {batch.step + 1} with {len(batch)}; "
                "make the plan of the loader that the batch comes from (augment.plan(loader, generator))"
            )
        return draws.flips[batch.step], draws.rectangles[batch.step]

    def _draw(self, steps: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Flips [S, B] and rectangles [S, B, 4] of `steps` batches, in the order of one batch after another."""
        numbers = _uniform((steps, count * (1 + 2 * TRIES + 3)), generator)
        flips, rest = numbers.split([count, count * (2 * TRIES + 3)], dim=1)
        return flips < self.config.flip, _rectangles(rest, count, self.config, TRIES)


class TestTransform:
    """`TestTransform(config)(batch)`: uint8 batch -> normalised float batch, nothing random."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    def __init__(self, config: AugmentConfig | None = None) -> None:
        self.config = config or AugmentConfig()

    def __call__(self, batch):
        return replace(batch, images=normalize(batch.images, self.config.mean, self.config.std))


def normalize(images: Tensor, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 (x / 255 - mean) / std."""
    mean, std = (_per_channel(tuple(v), 255.0, images.device) for v in (mean, std))  # [3, 1, 1]
    return images.float().sub_(mean).div_(std)  # in place: three times as fast as F.normalize


@lru_cache(maxsize=32)
def _per_channel(values: tuple[float, ...], scale: float, device: torch.device) -> Tensor:
    """[C, 1, 1] values * scale on a device; kept, because a copy from unpinned memory waits for the device."""
    with torch.inference_mode(False):
        return send(scale * torch.tensor(values)[:, None, None], device)


def flip_images(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror the images [B, 3, H, W] where flips [B] is true."""
    order = torch.arange(images.shape[-1], device=images.device)
    columns = torch.where(flips[:, None], order.flip(0), order)  # [B, W] which column each column comes from
    return images.gather(3, columns[:, None, None].expand_as(images))


def draw_rectangles(count: int, config: AugmentConfig, generator: torch.Generator, tries: int = TRIES) -> Tensor:
    """[B, 4] (top, left, height, width) in pixels of the rectangles to erase; height 0 = nothing.

    As in MPN's released code: area and aspect are drawn until the rectangle is smaller than the image on both
    sides, at most `tries` times, then its place. Here all tries are drawn at once and the first fitting taken.
    """
    return _rectangles(_uniform((1, count * (2 * tries + 3)), generator), count, config, tries)[0]


def _rectangles(numbers: Tensor, count: int, config: AugmentConfig, tries: int) -> Tensor:
    """[S, B, 4] rectangles of S batches from numbers [S, B * (2 * tries + 3)] in [0, 1): areas, aspects, places ..."""
    H, W = config.size
    area, aspect, down, right, erased = numbers.split([count * tries] * 2 + [count] * 3, dim=1)
    area = H * W * _between(config.erasing_area, area.unflatten(1, (count, tries)))
    aspect = _between(config.erasing_aspect, aspect.unflatten(1, (count, tries)))
    heights, widths = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()  # [S, B, tries]
    fits = (heights < H) & (widths < W)
    first = fits.int().argmax(dim=2, keepdim=True)  # [S, B, 1] index of the first true
    height, width = (x.gather(2, first).squeeze(2) for x in (heights, widths))  # [S, B]
    top = (down * (H - height + 1)).floor().minimum(H - height)
    left = (right * (W - width + 1)).floor().minimum(W - width)
    chosen = (erased < config.erasing) & fits.any(dim=2)
    return (torch.stack([top, left, height, width], dim=2) * chosen[..., None]).long()


def erase(images: Tensor, rectangles: Tensor, fill: tuple[float, float, float], *, out: Tensor | None = None) -> Tensor:
    """Write `fill` into one rectangle (top, left, height, width) of each image [B, 3, H, W].

    out: where the result goes instead of into new memory; it may be `images`.
    """
    H, W = images.shape[-2:]
    top, left, height, width = send(rectangles, images.device)[:, :, None].unbind(1)  # each [B, 1]
    y, x = torch.arange(H, device=images.device), torch.arange(W, device=images.device)
    rows = (y >= top) & (y < top + height)  # [B, H]
    columns = (x >= left) & (x < left + width)  # [B, W]
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]  # [B, 1, H, W]
    value = _per_channel(tuple(fill), 1.0, images.device).to(images.dtype)
    return torch.where(inside, value, images, out=out)


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
    return move_images(images, send(shift_pixels(dx, dy, images.shape[-2:]), images.device))


def shift_pixels(dx: Tensor, dy: Tensor, size: Sequence[int]) -> Tensor:
    """[B, 2] long: shifts by fractions of width and height [B] in pixels of images of size (H, W), right and down."""
    return torch.stack([whole_steps(dx, size[1]), whole_steps(dy, size[0])], dim=1)


def move_images(images: Tensor, pixels: Tensor) -> Tensor:
    """Move images [B, 3, H, W] by whole pixels [B, 2] to the right and down; the edge is repeated."""
    B, C, H, W = images.shape
    rows = shift_sources(pixels[:, 1], H).clamp(0, H - 1)  # [B, H] which row each row comes from
    columns = shift_sources(pixels[:, 0], W).clamp(0, W - 1)  # [B, W]
    first = torch.arange(0, B * C * H, H, device=images.device).view(B, C, 1)  # of the rows of all images
    moved = images.reshape(B * C * H, W).index_select(0, (first + rows[:, None]).flatten())
    return moved.view(B, C, H, W).gather(3, columns[:, None, None].expand(B, C, H, W))


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _between(bounds: tuple[float, float], numbers: Tensor) -> Tensor:
    low, high = bounds
    return low + (high - low) * numbers
