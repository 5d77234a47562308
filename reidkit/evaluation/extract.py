"""Features of your own pictures: `net.extract(["a.jpg", "folder/", pil_image, array])`.

A trained network sees pictures in one way only: resized to one size, the mirror image added or not, in one precision.
A run knows which, and `load_run` gives the network that knowledge as an `Extraction`:

    net = load_run("runs/NAME")                             # net.extraction is set
    net.extraction = Extraction(size=(384, 128))            # for a network from elsewhere, by hand
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from reidkit.data.images import Interpolation
from reidkit.data.loaders import BatchLoader
from reidkit.data.pictures import Picture, named_images, read_picture
from reidkit.errors import PriorError, ReIDKitError
from reidkit.evaluation.features import Flip, Precision, embed_batches
from reidkit.models import ReIDModel

LONG = 256  # pictures; from here on a progress bar is shown


@dataclass(frozen=True)
class Extraction:
    """How a network looks at pictures when it is used.

    size: (height, width) in pixels. flip: "none", or "sum" or "mean" of image and mirror image. interpolation: of the
    resize. precision: "no" (float32), "bf16" or "fp16".
    """

    size: tuple[int, int]
    flip: Flip = "none"
    interpolation: Interpolation = "bilinear"
    precision: Precision = "no"

    def __call__(
        self,
        model: ReIDModel,
        images: Any,
        *,
        batch_size: int = 64,
        workers: int = 0,
        normalize: bool = False,
        progress: bool | None = None,
    ) -> Tensor:
        """float32 [N, D] on the CPU; the work of `ReIDModel.extract`, which says what the arguments are."""
        if model.needs_prior_at_test:
            raise PriorError(
                f"{model.name} cuts the body out of its test images with coarse priors (of parsing and segmentation "
                "maps), which pictures of your own do not have. Take a network that needs none at test time, such as "
                "mpn; or make a data set of the pictures (load_dataset('folder', root=...)), build its priors "
                "(`reidkit priors build`) and call extract_features(net, table, size=..., priors=..., root=ds.root)"
            )
        if batch_size < 1:
            raise ReIDKitError(f"batch_size must be at least 1, not {batch_size}")
        named = named_images(images)
        names, pictures = [name for name, _ in named], [picture for _, picture in named]
        rows, device = np.arange(len(named)), next(model.parameters()).device
        features = embed_batches(
            model,
            BatchLoader(
                pd.DataFrame({"path": names}),
                np.full(len(named), -1),
                _FromPictures(pictures, names, self.size, self.interpolation),
                [rows[i : i + batch_size].tolist() for i in range(0, len(rows), batch_size)],
                batch_size=batch_size,
                workers=workers,
                device=device,
            ),
            names,
            device=device,
            flip=self.flip,
            amp=self.precision,
            progress=len(named) >= LONG if progress is None else progress,
        )
        return (F.normalize(features, dim=1) if normalize else features).cpu()


@dataclass(frozen=True)
class _FromPictures:
    """Decode and resize the pictures of some rows: uint8 [B, 3, H, W]."""

    pictures: list[Picture]
    names: list[str]
    size: tuple[int, int]
    interpolation: Interpolation

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def __call__(self, rows: Tensor) -> Tensor:
        images = [read_picture(self.pictures[i], self.size, self.interpolation, self.names[i]) for i in rows.tolist()]
        return torch.from_numpy(np.stack(images))
