"""The numbers of a crop that is moved: its similarity to another picture, part by part, and the match's rank."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from reidkit.attention import attention_from_maps
from reidkit.data.images import decode
from reidkit.data.transforms import normalize
from reidkit.errors import PriorError
from reidkit.panels.kit.crop import Crop
from reidkit.panels.kit.runs import PanelRun, Recent
from reidkit.panels.kit.upload import MATCH, QUERY, Uploads


class MovedCrop:
    """Mixed into a panel whose state has image, source, against (what the crop is, and what it is compared with), dx,
    dy, scale, cover, cover_top and maps."""

    runs: Mapping[str, PanelRun]
    pairs: pd.DataFrame  # queries, each with its true match
    gallery: pd.DataFrame  # what the match is ranked among
    others: np.ndarray  # bool [G], which of them are people
    uploads: Uploads
    _recent: Recent

    def original(self, state: SimpleNamespace) -> np.ndarray:
        """uint8 [H, W, 3] of the crop before it is moved."""
        return self.uploads[state.source] if state.source != QUERY else self._image(self.pairs.path[state.image])

    def reference(self, state: SimpleNamespace) -> np.ndarray:
        """uint8 [H, W, 3] of what the crop is compared with: its true match, an upload, or an upload with itself."""
        if state.against != MATCH:
            return self.uploads[state.against]
        return self.uploads[state.source] if state.source != QUERY else self._image(self.pairs.match_path[state.image])

    def _image(self, path: str) -> np.ndarray:
        return self._recent(("image", path), lambda: np.asarray(decode(path)))

    def similarities(self, run: PanelRun, state: SimpleNamespace) -> tuple[Tensor, Tensor, float]:
        """[K] part by part and [1] whole: cosine similarity of crop and reference; and the rank of the true match."""
        parts = run.parts_of(self._crop_maps(run, state))[0]  # [K, d]
        key = self._source(state) if state.against == MATCH else ("upload", self.uploads[state.against].tobytes())
        other = self._recent(
            ("reference", run.name, *key),
            lambda: run.parts_of(run.maps_of(_tensor(Crop().apply(self.reference(state), run.size))))[0],
        )
        whole = F.cosine_similarity(parts.flatten(), other.flatten(), dim=0)
        return F.cosine_similarity(parts, other, dim=1), whole, self._rank(run, parts, float(whole), state)

    def _rank(self, run: PanelRun, parts: Tensor, score: float, state: SimpleNamespace) -> float:
        """Rank, from 1, of the shown match among the other people of the gallery; NaN for an upload."""
        if (state.source, state.against) != (QUERY, MATCH):
            return float("nan")
        others = self._recent(
            ("gallery", run.name), lambda: F.normalize(run.features(self.gallery, mirror=False).flatten(1), dim=1)
        )
        scores = others @ F.normalize(parts.flatten(), dim=0)
        wrong = torch.tensor(self.others & (self.gallery.pid != self.pairs.pid[state.image]).to_numpy())
        return 1 + int((scores[wrong] > score).sum())

    def attention(self, run: PanelRun, state: SimpleNamespace) -> Tensor:
        """[K, H, W] part maps of the crop."""
        images = normalize(self._crop(run, state))
        return attention_from_maps(run.model, self._crop_maps(run, state), images, state.maps)[0]

    def _crop(self, run: PanelRun, state: SimpleNamespace) -> Tensor:
        crop = Crop(state.dx, state.dy, state.scale, state.cover, state.cover_top)
        return _tensor(crop.apply(self.original(state), run.size))  # [1, 3, H, W]

    def _crop_maps(self, run: PanelRun, state: SimpleNamespace):
        if run.model.needs_prior_at_test:
            raise PriorError(
                f"{run.name} needs a prior of every crop, and a crop that moves has none: choose another network"
            )
        key = (run.name, *self._source(state), state.dx, state.dy, state.scale, state.cover, state.cover_top)
        return self._recent(key, lambda: run.maps_of(self._crop(run, state)))

    def _source(self, state: SimpleNamespace) -> tuple:
        """What identifies the crop: a query's row, or the content of an upload."""
        return (QUERY, state.image) if state.source == QUERY else ("upload", self.uploads[state.source].tobytes())


def _tensor(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> [1, 3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
