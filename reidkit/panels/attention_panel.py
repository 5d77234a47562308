"""Panel 4: what each part classifier looks at, beside what a network with random weights "looks at"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from traitlets import Int, Unicode

from reidkit.attention import attention_from_maps, part_attention
from reidkit.attention.checks import Layers, randomised, spearman
from reidkit.attention.scores import background_energy, part_energy, stripe_regions
from reidkit.data import ReIDDataset
from reidkit.data.images import resized
from reidkit.data.sidewalk import load_truth
from reidkit.data.transforms import normalize
from reidkit.errors import DatasetError, PriorError
from reidkit.models import ReIDModel
from reidkit.panels.kit.base import Choice, Panel, Sketch, Slider
from reidkit.panels.kit.drawing import (
    GREY,
    LINE,
    MUTED,
    ORANGE,
    canvas,
    colour_map,
    fit_text,
    overlay,
    paste,
    photograph,
    text,
)
from reidkit.panels.kit.layers import LAST, at_layer, layer_names
from reidkit.panels.kit.layout import Layout, Piece, Row, Stack, Text, Tiles
from reidkit.panels.kit.runs import PanelRun, Recent, image_name, open_runs
from reidkit.panels.kit.upload import QUERY, Uploads, upload_button
from reidkit.priors import PriorTable
from reidkit.reporting.pictures import thumbnail

METHODS = ("gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "eigencam")  # fast ones of `attention.METHODS`
CONTROLS: dict[str, Layers] = {"random heads": "heads", "random network": "all"}
TOP, TALLEST, WIDEST, GRID = 54, 330, 126, 428  # units of the drawing; where the grid of parts begins


class AttentionPanel(Panel):
    """One image, the map of one part, the same map of a randomised network, and all K maps small.

    runs: finished run folders (or {name: folder}). dataset: its query images are offered. table: other images
    instead. count: how many, spread over the table. priors: for networks that need them at test time.
    Numbers against the true body need a Sidewalk set; photographs get the map's share in the part's own stripe of
    the image. Needs the grad-cam package.
    """

    title = "Part attention"
    prompt = (
        "Predict where part 1 looks when the crop cuts the head off. Then ask the control: how much of the map "
        "is still there in a network that has learned nothing?"
    )
    size = (960, 460)

    run = Unicode()
    image = Int(0)
    part = Int(1)
    method = Unicode("gradcam")
    source = Unicode("query")
    layer = Unicode(LAST)
    control = Unicode("none")

    def __init__(
        self,
        runs: Mapping[str, str | Path] | Sequence[str | Path],
        dataset: ReIDDataset,
        *,
        table: pd.DataFrame | None = None,
        count: int = 40,
        priors: PriorTable | None = None,
    ):
        self.runs = open_runs(runs, dataset, priors)
        table = dataset.query if table is None else table
        rows = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).astype(int))
        self.table = table.iloc[rows].reset_index(drop=True)
        try:
            self.truth = load_truth(dataset, self.table)
        except DatasetError:  # photographs
            self.truth = None
        self._maps, self._models, self.uploads = Recent(200), Recent(24), Uploads()
        self.run = next(iter(self.runs))
        super().__init__()

    def controls(self):
        run = self.runs.get(self.run) or next(iter(self.runs.values()))
        return {
            "run": Choice("run", list(self.runs)),
            "image": Slider("image", 0, len(self.table) - 1),
            "part": Slider("part", 1, max(r.num_parts for r in self.runs.values())),
            "method": Choice("method", METHODS),
            "layer": Choice("layer", layer_names(run.model)),
            "control": Choice("control", ["none", *CONTROLS]),
            "source": Choice("picture", [QUERY, *self.uploads]),
        }

    def hidden(self):
        return [] if self.uploads else ["source"]

    def upload(self, name: str, content: bytes) -> None:
        """Take a picture from the bytes of an image file and show it."""
        self.set(source=self.uploads.take(name, content))

    def extra_widgets(self):
        return [upload_button(self, self.upload)]

    def photo(self, state: SimpleNamespace) -> Tensor:
        """uint8 [3, H, W] of the chosen picture: an image at the network's size, an upload in its own shape."""
        if state.source == QUERY:
            return self.runs[state.run].image(self.table.path[state.image])
        return torch.from_numpy(self.uploads[state.source].transpose(2, 0, 1).copy())

    # ---- the maps ---------------------------------------------------------------------------------------------------

    def part_index(self, state: SimpleNamespace) -> int:
        """Which part is shown, from 0: the slider's, or the last one of a network with fewer parts."""
        return min(state.part, self.runs[state.run].num_parts) - 1

    def maps(self, state: SimpleNamespace, control: str = "none") -> Tensor:
        """[K, H, W] in [0, 1]: the K maps of the chosen image, of the network or of a randomised copy."""
        return self._maps(
            (state.run, self._key(state), state.method, state.layer, control), lambda: self._explain(state, control)
        )

    def _key(self, state: SimpleNamespace) -> int | bytes:
        """What identifies the picture: an image's row, or the content of an upload."""
        return state.image if state.source == QUERY else self.uploads[state.source].tobytes()

    def _explain(self, state: SimpleNamespace, control: str) -> Tensor:
        run = self.runs[state.run]
        model = self._models((state.run, state.layer, control), lambda: self._model(state, control))
        if state.source != QUERY:
            return self._explain_upload(run, model, state)
        path = self.table.path[state.image]
        images = normalize(run.image(path)[None])  # [1, 3, H, W]
        if state.layer == LAST and control == "none":
            maps = run.maps(path)
        else:
            with torch.no_grad():
                maps = model.feature_maps(images)
        return attention_from_maps(model, maps, images, state.method, run.prior(path))[0]

    def _explain_upload(self, run: PanelRun, model: ReIDModel, state: SimpleNamespace) -> Tensor:
        """[K, H, W], H x W the network's size: it sees the picture stretched to that."""
        if run.model.needs_prior_at_test:
            raise PriorError(
                f"{run.name} needs a prior of every picture, and an upload has none: choose another network"
            )
        pixels = torch.from_numpy(resized(Image.fromarray(self.uploads[state.source]), run.size))
        return part_attention(model, normalize(pixels[None]), state.method)[0]

    def _model(self, state: SimpleNamespace, control: str) -> ReIDModel:
        run = self.runs[state.run]
        model = run.model
        if control != "none":
            paths = self.table.path[:8]
            needed = run.priors if model.needs_prior_at_test else None
            prior = None if needed is None else needed.lookup([*map(run.relative, paths)])
            images = normalize(torch.stack([run.image(path) for path in paths]))
            model = randomised(model, images, layers=CONTROLS[control], prior=prior)
        return at_layer(model, state.layer)

    def numbers(self, state: SimpleNamespace, control: str = "none") -> dict[str, float]:
        """Shares of the map's sum: in the part's own stripe, and on the person (Sidewalk only). NaN: blank map,
        or a stripe that the crop has cut off."""
        run, k = self.runs[state.run], self.part_index(state)
        maps = self.maps(state, control)[k].numpy()[None, None]  # [1, 1, H, W]
        extents = [run.model.part_extents[k]]
        if self.truth is None or state.source != QUERY:
            H = maps.shape[2]
            start, stop = (round(edge * H) for edge in extents[0])
            return {"in its stripe of the image": float(maps[:, :, start:stop].sum() / max(maps.sum(), 1e-12))}
        truth = type(self.truth)(**{name: value[[state.image]] for name, value in vars(self.truth).items()})
        regions = stripe_regions(truth, extents, run.size)
        height, width = run.size
        body = thumbnail(truth.segmentation[0].astype(np.uint8) * 255, (width, height))
        person = np.asarray(body)[None, ..., 0] > 127
        return {
            "in its stripe of the body": float(part_energy(maps, regions)[0, 0]),
            "on the person": 1 - float(background_energy(maps, person)[0, 0]),
        }

    def agreement(self, state: SimpleNamespace) -> float:
        """Rank correlation of the map and its control: 1 = the map did not need what was learned."""
        k = self.part_index(state)
        return float(spearman(self.maps(state)[k].numpy(), self.maps(state, state.control)[k].numpy()))

    def status(self, state: SimpleNamespace) -> str:
        run, k = self.runs[state.run], self.part_index(state)
        words = [
            f"{state.run}, {run.model.part_names[k]} of {run.num_parts}",
            *([f"image {state.image}"] if state.source == QUERY else [state.source, *self.uploads.hint(state.source)]),
            f"{state.method} at {state.layer}",
            *self.shares(state),
        ]
        if state.control != "none":
            words.append(f"rank correlation with {state.control} {self.agreement(state):.2f}")
        return " | ".join(words)

    def shares(self, state: SimpleNamespace, control: str = "none") -> list[str]:
        """The numbers as words; a share that has no answer says why."""
        if not self.maps(state, control)[self.part_index(state)].any():
            return ["blank: no evidence for this class"]
        return [
            "its stripe is not in the picture" if np.isnan(share) else f"{share:.0%} {name}"
            for name, share in self.numbers(state, control).items()
        ]

    # ---- the picture ------------------------------------------------------------------------------------------------

    def _size(self, state: SimpleNamespace) -> tuple[float, float]:
        """(width, height) of the large pictures: the photo's own shape."""
        tall, wide = self.photo(state).shape[1:]
        height = min(TALLEST, WIDEST * tall / wide)
        return max(height * wide / tall, 1), max(height, 1)

    def layout(self, state: SimpleNamespace) -> Layout:
        below = TOP + max(self._size(state)[1], 200) + 8  # an upload may be wide
        step = WIDEST + 12
        three = Tiles([Piece((4 + i * step, 0, 4 + (i + 1) * step, below)) for i in range(3)], 3)
        parts = Piece((GRID, 0, self.size[0], below))
        words = Text((230, below, self.size[0], self.size[1]))
        return Stack(Row(three, parts), Row(Piece((0, below, 230, below + 24)), words))

    def draw(self, state: SimpleNamespace) -> Sketch:
        run, k, picture = self.runs[state.run], self.part_index(state), canvas(self.size)
        photo, size, maps = self.photo(state), self._size(state), self.maps(state)
        named = image_name(self.table.loc[state.image]) if state.source == QUERY else state.source
        columns = [
            ("image", named, photograph(photo)),
            (run.model.part_names[k], f"{state.method}, {state.layer}", overlay(photo, maps[k])),
        ]
        if state.control != "none":
            columns.append((state.control, "the same part", overlay(photo, self.maps(state, state.control)[k])))
        for i, (title, note, part) in enumerate(columns):
            middle = 10 + i * (WIDEST + 12) + WIDEST / 2
            text(picture, (middle, 12), title, 14, anchor="ma", bold=True, room=WIDEST)
            text(picture, (middle, 32), note, 11, MUTED, "ma", room=WIDEST + 8)
            paste(picture, part, (middle - size[0] / 2, TOP), size)
        if state.control == "none":
            x = 10 + 2 * (WIDEST + 12)
            picture.rectangle((x, TOP, x + WIDEST, TOP + size[1]), outline=LINE)
            middle = (x + WIDEST / 2, TOP + size[1] / 2)
            text(picture, middle, "choose a control:\na network with\nrandom weights", 12, GREY, "mm")
        below = max(size[1], 200)
        self._all_parts(picture, state, photo, maps, below)
        self._legend(picture, state, TOP + below + 12)
        return picture

    def _all_parts(self, picture: Sketch, state: SimpleNamespace, photo: Tensor, maps: Tensor, height: float):
        """The K maps in a grid, as large as fits; the chosen one in an orange frame."""
        left, k = GRID + 4, self.part_index(state)
        width, names = self.size[0] - left, self.runs[state.run].model.part_names
        per_row, (w, h) = _grid(len(maps), photo.shape[1:], width, height)
        text(picture, (left, 12), f"all {len(maps)} parts of {state.run}", 14, bold=True)
        step = min(width / per_row, 2 * w)
        for i, attention in enumerate(maps):
            x, y = left + i % per_row * step, TOP + i // per_row * (h + 22)
            picture.photo(overlay(photo, attention), (x, y), (w, h))
            if i == k:
                picture.rectangle([x - 4, y - 4, x + w + 4, y + h + 4], outline=ORANGE, width=3)
            label = fit_text(names[i].removeprefix("part "), step - 4, 11, i == k)
            text(picture, (x + w / 2, y + h + 6), label, 11, anchor="ma", bold=i == k)

    def _legend(self, picture: Sketch, state: SimpleNamespace, y: float) -> None:
        picture.photo(Image.fromarray(colour_map()[None].copy()), (38, y + 4), (140, 10))
        text(picture, (10, y), "low", 12, MUTED)
        text(picture, (182, y), "high", 12, MUTED)
        words = "   ".join(self.shares(state))
        text(picture, (240, y), f"this map: {words}", 13, bold=True)
        if state.control != "none":
            words = "   ".join(self.shares(state, state.control))
            words += f"   rank correlation with this map {self.agreement(state):.2f}"
            text(picture, (240, y + 22), f"{state.control}: {words}", 13)
        K = self.runs[state.run].num_parts
        if state.part > K:
            text(picture, (240, y + 44), f"{state.run} has {K} part{'s' * (K > 1)}: part {K} is shown", 12, MUTED)


def _grid(count: int, shape: Sequence[int], width: float, height: float) -> tuple[int, tuple[float, float]]:
    """(maps a row, (width, height) of a map): the number of rows, 1 to 4, that makes `count` maps largest."""
    (H, W), best = shape, (0.0, 1)
    for rows in range(1, 5):
        per_row = -(-count // rows)
        best = max(best, (min((height / rows - 22) / H, (width / per_row - 8) / W), per_row))
    scale, per_row = best
    return per_row, (max(W * scale, 4), max(H * scale, 4))
