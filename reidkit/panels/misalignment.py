"""Panel 6: drag, scale and cover the crop; the part maps and match scores of two networks move with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor
from traitlets import Float, Int, Unicode

from reidkit.attention import attention_from_maps
from reidkit.data import ReIDDataset
from reidkit.data.images import decode
from reidkit.data.transforms import normalize
from reidkit.errors import PriorError
from reidkit.panels.kit.base import Choice, Panel, Slider
from reidkit.panels.kit.crop import Crop
from reidkit.panels.kit.drawing import BLUE, INK, MUTED, ORANGE, canvas, fit_text, heat_overlay, paste, text, thumbnail
from reidkit.panels.kit.runs import PanelRun, Recent, image_name, open_runs
from reidkit.panels.kit.subset import matched_queries
from reidkit.panels.kit.upload import Uploads, upload_button
from reidkit.panels.ranked_list import smaller_gallery
from reidkit.priors import PriorTable

TOP, TALL, MAP = 52, 360, 150  # pixels: first row, the crop, a part map


class MisalignmentSandbox(Panel):
    """The crop (drag it), its true match, and for two networks the K part maps and the K part similarities.

    runs: finished run folders (or {name: folder}); two of them are compared. dataset: its queries that have a true
    match are offered. gallery_size: how many gallery images the match is ranked among (true matches kept).
    Networks that need priors at test time cannot follow a crop that moves: choosing one is reported on the panel.
    """

    title = "Misalignment sandbox"
    prompt = (
        "Predict: which network loses the match first when the person slides down by a sixth of the height? Drag "
        "the crop, or move the sliders, and watch which parts let go."
    )
    size = (960, 560)

    run_a = Unicode()
    run_b = Unicode()
    image = Int(0)
    source = Unicode("query")
    dx = Float(0.0)
    dy = Float(0.0)
    scale = Float(1.0)
    cover = Float(0.0)
    cover_top = Float(0.7)
    maps = Unicode("gradcam")

    def __init__(
        self,
        runs: Mapping[str, str | Path] | Sequence[str | Path],
        dataset: ReIDDataset,
        *,
        count: int = 30,
        gallery_size: int = 200,
        priors: PriorTable | None = None,
    ):
        self.runs = open_runs(runs, dataset, priors)
        self.pairs = matched_queries(dataset, count)
        self.gallery = smaller_gallery(self.pairs, dataset.gallery, gallery_size).head(2 * gallery_size)
        self.others = ~self.gallery.pid.isin(dataset.junk_pids).to_numpy()
        self.uploads = Uploads()
        self._recent, self._grab = Recent(128), None
        names = list(self.runs)
        self.run_a, self.run_b = names[0], names[min(1, len(names) - 1)]
        for run in self.runs.values():
            run.features(self.gallery, mirror=False)
        super().__init__()

    def controls(self):
        return {
            "run_a": Choice("network A", list(self.runs)),
            "run_b": Choice("network B", list(self.runs)),
            "image": Slider("image", 0, len(self.pairs) - 1),
            "dx": Slider("to the right", -0.5, 0.5, 0.01),
            "dy": Slider("down", -0.5, 0.5, 0.01),
            "scale": Slider("scale", 0.5, 2.0, 0.05),
            "cover": Slider("cover", 0.0, 1.0, 0.05),
            "cover_top": Slider("cover from", 0.0, 0.95, 0.05),
            "maps": Choice("part maps", ("gradcam", "layercam", "none")),
            "source": Choice("crop", ["query", *self.uploads]),
        }

    def hidden(self):
        return [*([] if self.cover else ["cover_top"]), *([] if self.uploads else ["source"])]

    def actions(self):
        return {"straighten": self.straighten}

    def straighten(self) -> None:
        """The crop as the detector gave it."""
        self.set(dx=0.0, dy=0.0, scale=1.0, cover=0.0)

    def show_loss(self, dy: float = 0.15) -> bool:
        """Move the crop down by `dy` of its height, at the first query whose true match A then still finds first and B
        not any more. False, and the first query: there is none, the two networks bear this shift alike."""
        moved = {"dx": 0.0, "dy": dy, "scale": 1.0, "cover": 0.0, "source": "query"}
        for i in range(len(self.pairs)):
            ranks = [self._ranks(i, name, moved) for name in (self.run_a, self.run_b)]
            if ranks[0] == (1, 1) and ranks[1][0] == 1 < ranks[1][1]:
                self.set(image=i, **moved)
                return True
        self.set(image=0, **moved)
        return False

    def _ranks(self, image: int, name: str, moved: dict) -> tuple[float, float]:
        """Rank of an image's true match for the straight and for the moved crop."""
        before, after = (
            self.similarities(self.runs[name], self.state(**{**moved, "image": image, "dy": dy}))[2]
            for dy in (0.0, moved["dy"])
        )
        return before, after

    # ---- dragging and uploads ---------------------------------------------------------------------------------------

    def on_pointer(self, x: float, y: float, phase: str) -> None:
        """Drag the crop: the person follows the mouse."""
        width, height = self.crop_size()
        if phase == "down":
            inside = 10 <= x < 10 + width and TOP <= y < TOP + height
            self._grab = (x, y, self.dx, self.dy) if inside else None
        elif self._grab is not None:
            x0, y0, dx, dy = self._grab
            moved = [min(max(round(v, 2), -0.5), 0.5) for v in (dx + (x - x0) / width, dy + (y - y0) / height)]
            if moved != [self.dx, self.dy]:
                self.set(dx=moved[0], dy=moved[1])
            if phase == "up":
                self._grab = None

    def crop_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the crop in the picture."""
        height, width = next(iter(self.runs.values())).size
        tall = min(TALL, round(150 * height / width))
        return round(tall * width / height), tall

    def upload(self, name: str, content: bytes) -> None:
        """Take a crop from the bytes of an image file and show it. It is compared with itself, unmoved."""
        self.set(source=self.uploads.take(name, content), dx=0.0, dy=0.0, scale=1.0, cover=0.0)

    def extra_widgets(self):
        return [upload_button(self, self.upload)]

    # ---- the numbers ------------------------------------------------------------------------------------------------

    def original(self, state: SimpleNamespace) -> np.ndarray:
        """uint8 [H, W, 3] of the crop before it is moved."""
        if state.source != "query":
            return self.uploads[state.source]
        path = self.pairs.path[state.image]
        return self._recent(("image", path), lambda: np.asarray(decode(path)))

    def reference(self, state: SimpleNamespace) -> np.ndarray:
        """uint8 [H, W, 3] of what the crop is compared with: its true match, or an upload itself."""
        if state.source != "query":
            return self.uploads[state.source]
        path = self.pairs.match_path[state.image]
        return self._recent(("image", path), lambda: np.asarray(decode(path)))

    def similarities(self, run: PanelRun, state: SimpleNamespace) -> tuple[Tensor, Tensor, float]:
        """[K] part by part and [1] whole: cosine similarity of crop and reference; and the rank of the true match."""
        parts = run.parts_of(self._crop_maps(run, state))[0]  # [K, d]
        other = self._recent(
            ("reference", run.name, *self._source(state)),
            lambda: run.parts_of(run.maps_of(_tensor(Crop().apply(self.reference(state), run.size))))[0],
        )
        whole = F.cosine_similarity(parts.flatten(), other.flatten(), dim=0)
        return F.cosine_similarity(parts, other, dim=1), whole, self._rank(run, parts, float(whole), state)

    def _rank(self, run: PanelRun, parts: Tensor, score: float, state: SimpleNamespace) -> float:
        """Rank, from 1, of the shown match among the other people of the gallery; NaN for an upload."""
        if state.source != "query":
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
        return ("query", state.image) if state.source == "query" else ("upload", self.uploads[state.source].tobytes())

    def status(self, state: SimpleNamespace) -> str:
        words = [f"right {state.dx:+.2f}, down {state.dy:+.2f}, scale {state.scale:.2f}, cover {state.cover:.2f}"]
        words += self.uploads.hint(state.source) if state.source != "query" else []
        for letter, name in (("A", state.run_a), ("B", state.run_b)):
            parts, whole, rank = self.similarities(self.runs[name], state)
            shown = " ".join(f"{v:.2f}" for v in parts)
            words.append(f"{letter} {name}: similarity {whole:.3f}, {_rank_words(rank)}, parts {shown}")
        return " | ".join(words)

    # ---- the picture ------------------------------------------------------------------------------------------------

    def render(self, state: SimpleNamespace) -> Image.Image:
        picture, size = canvas(self.size), self.crop_size()
        first = next(iter(self.runs.values()))
        crop = thumbnail(self._crop(first, state)[0], size)
        text(picture, (10, 12), "crop: drag it", 14, bold=True)
        named = image_name(self.pairs.loc[state.image]) if state.source == "query" else state.source
        text(picture, (10, 31), fit_text(named, size[0] + 20, 11), 11, MUTED)
        paste(picture, crop, (10, TOP), border=INK)
        small, left = (size[0] * 2 // 3, size[1] * 2 // 3), 10 + size[0] + 26
        text(picture, (left, 12), "true match" if state.source == "query" else "itself", 14, bold=True)
        if state.source == "query":
            text(picture, (left, 31), f"camera {self.pairs.match_camid[state.image]}", 11, MUTED)
        paste(picture, thumbnail(self.reference(state), small), (left, TOP))
        legend = "bars: similarity, part by part,\nto the picture on the right\nblack line: of the straight crop"
        text(picture, (10, TOP + size[1] + 14), legend, 12, MUTED)
        left += max(small[0], 84) + 26
        for i, (letter, name, colour) in enumerate((("A", state.run_a, BLUE), ("B", state.run_b, ORANGE))):
            self._network(picture, state, f"{letter}  {name}", self.runs[name], (left, 12 + i * 276), colour)
        return picture

    def _network(self, picture: Image.Image, state: SimpleNamespace, title: str, run: PanelRun, xy, colour: str):
        """Title with whole similarity and rank, K part maps, K bars of similarity with a mark for the straight crop."""
        x0, y0 = xy
        parts, whole, rank = self.similarities(run, state)
        straight = SimpleNamespace(**vars(state) | {"dx": 0.0, "dy": 0.0, "scale": 1.0, "cover": 0.0})
        before, whole_before, rank_before = self.similarities(run, straight)
        text(picture, xy, fit_text(title, 220, 14, True), 14, colour, bold=True)
        text(
            picture,
            (self.size[0] - 10, y0),
            f"similarity {whole:.2f} (straight {whole_before:.2f})   "
            f"{_rank_words(rank)} ({_rank_words(rank_before, short=True)})",
            13,
            anchor="ra",
        )
        step = (self.size[0] - x0 - 6) / run.num_parts
        width = int(min(step - 6, MAP * run.size[1] / run.size[0] * 1.5))
        height = round(width * run.size[0] / run.size[1])
        size = (width, height) if height <= MAP else (round(MAP * run.size[1] / run.size[0]), MAP)
        photo = self._crop(run, state)[0]
        maps = None if state.maps == "none" else self.attention(run, state)
        for k in range(run.num_parts):
            x, y = round(x0 + k * step), y0 + 24
            part = thumbnail(photo, size) if maps is None else heat_overlay(photo, maps[k], size)
            picture.paste(part, (x, y))
            _column(
                picture,
                (x, y0 + 24 + MAP + 8, x + size[0], y0 + 24 + MAP + 62),
                float(parts[k]),
                float(before[k]),
                colour,
            )
            name = run.model.part_names[k].removeprefix("part ")
            text(picture, (x + size[0] / 2, y0 + 24 + MAP + 64), fit_text(name, step - 3, 11), 11, MUTED, "ma")


def _column(picture: Image.Image, box: tuple[int, int, int, int], value: float, before: float, colour: str) -> None:
    """A standing bar for a similarity in 0 .. 1 with its number, and a line where it was for the straight crop."""
    draw, (x0, y0, x1, y1) = ImageDraw.Draw(picture), box
    place = lambda v: y1 - (y1 - y0) * min(max(v, 0.0), 1.0)  # noqa: E731
    draw.rectangle([x0, y0, x1, y1], fill="#EFEFEF")
    draw.rectangle([x0, min(place(value), y1), x1, y1], fill=colour)
    draw.line([(x0 - 2, place(before)), (x1 + 2, place(before))], fill=INK, width=2)
    inside = y1 - place(value) > 16
    y = y1 - 4 if inside else place(value) - 3
    text(picture, ((x0 + x1) / 2, y), f"{value:.2f}", 11, "white" if inside else INK, "ms", bold=True)


def _rank_words(rank: float, short: bool = False) -> str:
    if rank != rank:
        return "no rank" if not short else "-"
    return f"{rank:.0f}" if short else f"match at rank {rank:.0f}"


def _tensor(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> [1, 3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
