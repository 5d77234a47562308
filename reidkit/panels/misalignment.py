"""Panel 6: drag, scale and cover the crop; the part maps and match scores of two networks move with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from traitlets import Float, Int, Unicode

from reidkit.data import ReIDDataset
from reidkit.panels.kit.base import Choice, Panel, Sketch, Slider
from reidkit.panels.kit.crop import Crop
from reidkit.panels.kit.drawing import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    canvas,
    fit,
    overlay,
    paste,
    photograph,
    pictures_with_bars,
    text,
)
from reidkit.panels.kit.layout import Layout, Piece, Row, Stack, Text, Tiles
from reidkit.panels.kit.moved_crop import MovedCrop
from reidkit.panels.kit.runs import PanelRun, Recent, image_name, open_runs
from reidkit.panels.kit.sketch import Box
from reidkit.panels.kit.subset import matched_queries
from reidkit.panels.kit.upload import MATCH, QUERY, Uploads, upload_button
from reidkit.panels.ranked_list import smaller_gallery
from reidkit.priors import PriorTable

TOP, CROP, MAP, NEXT = 52, (150, 360), 180, 250  # first row, room of the crop, of a part map, from network to network


class MisalignmentSandbox(MovedCrop, Panel):
    """The crop (drag it), its true match, and for two networks the K part maps and the K part similarities.

    A first upload takes the crop's place, a second one is what it is compared with.
    runs: finished run folders (or {name: folder}); two of them are compared. dataset: its queries that have a true
    match are offered. gallery_size: how many gallery images the match is ranked among (true matches kept).
    Networks that need priors at test time cannot follow a crop that moves: choosing one is reported on the panel.
    """

    title = "Misalignment sandbox"
    prompt = (
        "Predict: which network loses the match first when the person slides down by a sixth of the height? Drag "
        "the crop, or move the sliders, and watch which parts let go."
    )
    size = (960, 512)

    run_a = Unicode()
    run_b = Unicode()
    image = Int(0)
    source, against = Unicode(QUERY), Unicode(MATCH)
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
            "source": Choice("crop", [QUERY, *self.uploads]),
            "against": Choice("compare with", [MATCH, *self.uploads]),
        }

    def hidden(self):
        return [*([] if self.cover else ["cover_top"]), *([] if self.uploads else ["source", "against"])]

    def actions(self):
        return {"straighten": self.straighten}

    def straighten(self) -> None:
        """The crop as the detector gave it."""
        self.set(dx=0.0, dy=0.0, scale=1.0, cover=0.0)

    def show_loss(self, dy: float = 0.15) -> bool:
        """Move the crop down by `dy` of its height, at the first query whose true match A then still finds first and B
        not any more. False, and the first query: there is none, the two networks bear this shift alike."""
        moved = {"dx": 0.0, "dy": dy, "scale": 1.0, "cover": 0.0, "source": QUERY, "against": MATCH}
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
        x0, y0, x1, y1 = self.crop_box(self.state())
        if phase == "down":
            self._grab = (x, y, self.dx, self.dy) if x0 <= x < x1 and y0 <= y < y1 else None
        elif self._grab is not None:
            started_x, started_y, dx, dy = self._grab
            there = dx + (x - started_x) / (x1 - x0), dy + (y - started_y) / (y1 - y0)
            moved = [min(max(round(v, 2), -0.5), 0.5) for v in there]
            if moved != [self.dx, self.dy]:
                self.set(dx=moved[0], dy=moved[1])
            if phase == "up":
                self._grab = None

    def crop_box(self, state: SimpleNamespace) -> Box:
        """Where the crop is in the drawing: in its own shape."""
        height, width = self.original(state).shape[:2]
        wide, tall = fit((width, height), CROP)
        return 10, TOP, 10 + wide, TOP + tall

    def upload(self, name: str, content: bytes) -> None:
        """Take a crop from the bytes of an image file: the first one is moved, the next one is compared with it."""
        shown = self.uploads.take(name, content)
        if self.source != QUERY and self.against == MATCH:
            self.set(against=shown)
        else:
            self.set(source=shown, dx=0.0, dy=0.0, scale=1.0, cover=0.0)

    def extra_widgets(self):
        return [upload_button(self, self.upload)]

    # ---- the numbers ------------------------------------------------------------------------------------------------

    def status(self, state: SimpleNamespace) -> str:
        words = [f"right {state.dx:+.2f}, down {state.dy:+.2f}, scale {state.scale:.2f}, cover {state.cover:.2f}"]
        for name in dict.fromkeys((state.source, state.against)):
            words += self.uploads.hint(name) if name in self.uploads else []
        for letter, name in (("A", state.run_a), ("B", state.run_b)):
            parts, whole, rank = self.similarities(self.runs[name], state)
            shown = " ".join(f"{v:.2f}" for v in parts)
            words.append(f"{letter} {name}: similarity {whole:.3f}, {_rank_words(rank)}, parts {shown}")
        return " | ".join(words)

    # ---- the picture ------------------------------------------------------------------------------------------------

    def _sides(self, state: SimpleNamespace) -> tuple[Box, Box, float]:
        """Where the crop is, where what it is compared with is, and where the networks begin."""
        x0, y0, x1, y1 = self.crop_box(state)
        height, width = self.reference(state).shape[:2]
        wide, tall = fit((width, height), (CROP[0] * 2 / 3, CROP[1] * 2 / 3))
        left = x0 + max(x1 - x0, 84) + 26
        return (x0, y0, x1, y1), (left, TOP, left + wide, TOP + tall), left + max(wide, 90) + 26

    def layout(self, state: SimpleNamespace) -> Layout:
        _, (middle, *_), left = self._sides(state)
        wide, tall = self.size
        crops = Row(
            Piece((0, 0, middle - 12, TOP + CROP[1] + 8), grab=True),
            Piece((middle - 12, 0, left - 12, TOP + CROP[1] + 8)),
        )
        networks = []
        for i, name in enumerate((state.run_a, state.run_b)):
            parts, top = self.runs[name].num_parts, 6 + i * NEXT
            step = (wide - left) / parts
            tiles = [
                Piece((left - 3 + k * step, top + 26, left - 3 + (k + 1) * step, top + NEXT)) for k in range(parts)
            ]
            networks += [Text((left - 12, top, wide, top + 26)), Tiles(tiles, parts)]
        legend = Text((0, TOP + CROP[1] + 8, middle - 12, tall))
        return Row(Stack(crops, legend), Stack(*networks))

    def draw(self, state: SimpleNamespace) -> Sketch:
        picture, (x0, y0, x1, y1), other = canvas(self.size), *self._sides(state)[:2]
        left = self._sides(state)[2]
        text(picture, (x0, 12), "crop: drag it", 14, bold=True)
        named = image_name(self.pairs.loc[state.image]) if state.source == QUERY else state.source
        text(picture, (x0, 31), named, 11, MUTED, room=max(x1 - x0, 84) + 10)
        grip = (state.dx, state.dy)
        paste(picture, self._shown(state), (x0, y0), (x1 - x0, y1 - y0), border=INK, grip=grip)
        title, note = MATCH, f"camera {self.pairs.match_camid[state.image]}"
        if state.against != MATCH or state.source != QUERY:
            title, note = ("compared with", state.against) if state.against != MATCH else ("itself", "")
        text(picture, (other[0], 12), title, 14, bold=True)
        text(picture, (other[0], 31), note, 11, MUTED, room=100)
        paste(picture, self.reference(state), other[:2], (other[2] - other[0], other[3] - other[1]))
        legend = "bars: similarity, part by part, to the other picture\nblack line: of the straight crop"
        for i, line in enumerate(legend.split("\n")):
            text(picture, (x0, TOP + CROP[1] + 14 + 18 * i), line, 12, MUTED, room=left - 20)
        for i, (letter, name, colour) in enumerate((("A", state.run_a, BLUE), ("B", state.run_b, ORANGE))):
            self._network(picture, state, f"{letter}  {name}", self.runs[name], (left, 12 + i * NEXT), colour)
        return picture

    def _shown(self, state: SimpleNamespace) -> np.ndarray:
        """uint8 [h, w, 3]: the moved crop in its own shape, in no more pixels than are seen."""
        original, (x0, y0, x1, y1) = self.original(state), self.crop_box(state)
        size = (min(original.shape[0], round(3 * (y1 - y0))), min(original.shape[1], round(3 * (x1 - x0))))
        return Crop(state.dx, state.dy, state.scale, state.cover, state.cover_top).apply(original, size)

    def _network(self, picture: Sketch, state: SimpleNamespace, title: str, run: PanelRun, xy, colour: str) -> None:
        """Title with whole similarity and rank, K part maps, K bars of similarity with a mark for the straight crop."""
        parts, whole, rank = self.similarities(run, state)
        straight = SimpleNamespace(**vars(state) | {"dx": 0.0, "dy": 0.0, "scale": 1.0, "cover": 0.0})
        before, whole_before, rank_before = self.similarities(run, straight)
        numbers = f"similarity {whole:.2f} (straight {whole_before:.2f})"
        numbers += f", {_rank_words(rank)} ({_rank_words(rank_before, short=True)})"
        width = self.size[0] - xy[0]
        text(picture, xy, f"{title}: {numbers}", 14, colour, bold=True, room=width - 6)
        photo = photograph(self._shown(state))
        photos = [photo] * run.num_parts
        if state.maps != "none":
            photos = [overlay(photo, one) for one in self.attention(run, state)]
        names = [name.removeprefix("part ") for name in run.model.part_names]
        bars = list(zip(names, parts.tolist(), before.tolist()))
        pictures_with_bars(picture, photos, bars, (xy[0], xy[1] + 24), width, MAP, colour)


def _rank_words(rank: float, short: bool = False) -> str:
    if rank != rank:
        return "no rank" if not short else "-"
    return f"{rank:.0f}" if short else f"match at rank {rank:.0f}"
