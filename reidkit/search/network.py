"""The network of a run as pictures need it: size, flip and precision come from the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reidkit.data.images import decode, resized
from reidkit.data.loaders import Batch
from reidkit.data.transforms import normalize
from reidkit.errors import DatasetError, PriorError
from reidkit.evaluation.extract import Extraction
from reidkit.evaluation.features import autocast, check_finite, embed, eval_mode
from reidkit.models import ReIDModel
from reidkit.priors import PriorBatch
from reidkit.training.device import choose_device
from reidkit.training.runs import extraction_of, find_run, load_run

FEATURES_VERSION = 1  # another number where the same weights give other features


@dataclass(frozen=True)
class PictureNetwork:
    """name: of the run. extraction: size, flip, interpolation and precision of its evaluation. key: the same for the
    same weights and the same extraction. device: where it computes."""

    name: str
    model: ReIDModel
    extraction: Extraction
    key: str
    device: torch.device

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its images in pixels."""
        return self.extraction.size

    @property
    def part_names(self) -> tuple[str, ...]:
        """K names."""
        return self.model.part_names

    def pixels(self, images: Iterable[Image.Image]) -> Tensor:
        """uint8 [B, 3, H, W] of RGB pictures; resized, whatever their shape."""
        return torch.from_numpy(
            np.stack([resized(image, self.size, self.extraction.interpolation) for image in images])
        )

    def normalised(self, images: Iterable[Image.Image]) -> Tensor:
        """float32 [B, 3, H, W], what `reidkit.attention` reads."""
        return normalize(self.pixels(images))

    @torch.no_grad()
    def features(self, pixels: Tensor, names: Sequence[str]) -> Tensor:
        """float32 [B, D] on the CPU of uint8 images [B, 3, H, W], as `model.extract` gives them.

        names: of the images. Raises ReIDKitError for features that are not finite, naming the image.
        """
        unknown = torch.full((len(pixels),), -1)
        batch = Batch(normalize(pixels.to(self.device)), unknown, unknown, torch.arange(len(pixels)))
        with eval_mode(self.model), autocast(self.device, self.extraction.precision):
            found = embed(self.model, batch, self.extraction.flip).cpu()
        check_finite(found, list(names), len(names))
        return found

    def parts(self, features: Tensor) -> Tensor:
        """[..., D] -> [..., K, d]: a feature is the part features side by side, in every network of the kit."""
        return features.unflatten(-1, (self.model.num_parts, -1))

    def read(self, paths: Sequence[str | Path]) -> tuple[Tensor, list[int], dict[int, str]]:
        """(uint8 [n, 3, H, W] of the files that are pictures, their places in `paths`, {place: what is wrong})."""
        pixels, places, broken = [], [], {}
        for place, path in enumerate(paths):
            try:
                pixels.append(resized(decode(path), self.size, self.extraction.interpolation))
                places.append(place)
            except DatasetError as error:
                broken[place] = str(error)
        found = torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0, 3, *self.size, dtype=torch.uint8)
        return found, places, broken

    def whole_picture_prior(self, batch: int) -> PriorBatch | None:
        """For networks that read a prior at test time: the person fills the picture, evenly divided; else None."""
        if not self.model.needs_prior_at_test:
            return None
        h, w = (max(1, side // self.model.stride) for side in self.size)
        top, reliable = torch.zeros(batch), torch.zeros(batch, dtype=torch.bool)
        return PriorBatch(torch.ones(batch, h, w, dtype=torch.bool), top, top + 1, reliable)


def open_network(run: str | Path, device: str = "auto") -> PictureNetwork:
    """The network of a finished run folder, or the shipped one of that name.

    Raises CheckpointError for what is no run, unfinished or damaged.
    """
    folder, chosen = find_run(run), choose_device(device)
    model, extraction = load_run(folder.path, chosen), extraction_of(folder.recipe())
    about = json.dumps([FEATURES_VERSION, asdict(extraction)], sort_keys=True)
    key = hashlib.sha256(folder.weights.read_bytes() + about.encode()).hexdigest()[:16]
    return PictureNetwork(folder.path.resolve().name, model, extraction, key, chosen)


def refuse_priors(network: PictureNetwork, instead: str) -> None:
    """PriorError for a network that reads a prior at test time. instead: what to do."""
    if network.model.needs_prior_at_test:
        raise PriorError(
            f"{network.name} cuts the body parts out with coarse priors, also at test time, and pictures of your own "
            f"have none: {instead}"
        )
