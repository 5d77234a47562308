"""Panel 1: the coarse prior of one image, step by step (MPN Sec. 3.2, Fig. 4 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from PIL import Image
from traitlets import Bool, Float, Int

from reidkit.data import ReIDDataset
from reidkit.data.images import decode, relative_paths
from reidkit.data.lip import LIP_COLOURS
from reidkit.errors import PriorError
from reidkit.panels.kit.base import Panel, Sketch, Slider, Toggle
from reidkit.panels.kit.drawing import BLUE, LINE, MUTED, ORANGE, canvas, cells, paste, photograph, text
from reidkit.panels.kit.layout import Layout, Piece, Row, Stack, Text, Tiles
from reidkit.priors import PriorSteps, open_source, prior_overlay, prior_steps
from reidkit.priors.coarse import MIN_HEAD, MIN_LEG, THRESHOLD
from reidkit.priors.labels import HEAD_LABELS, LEG_LABELS
from reidkit.priors.source import Tool

TOP, WIDEST, TALLEST, GAP = 46, 98, 294, 8  # units of the drawing
COLUMNS = 9


class PriorStepper(Panel):
    """Parsing map + segmentation map -> union -> resize -> binarise -> dilate -> ROI -> K stripes.

    images: N uint8 arrays [H, W, 3]; parsings: N arrays [H, W] of LIP labels; segmentations: N arrays [H, W], bool
    or in [0, 1]; grid: (rows, columns) of the feature map. `PriorStepper.from_dataset` reads them from a data set.
    Raises PriorError when the three do not belong together.
    """

    title = "Prior stepper"
    prompt = (
        "Predict: which of the two maps knows a bag, and what becomes of the ROI when the parser loses the legs? "
        "Move a slider, then explain what you see."
    )
    size = (960, 420)

    image = Int(0)
    threshold = Float(THRESHOLD)
    min_head = Float(MIN_HEAD)
    min_leg = Float(MIN_LEG)
    parts = Int(6)
    drop_head = Bool(False)
    drop_legs = Bool(False)
    no_segmentation = Bool(False)

    def __init__(
        self,
        images: Sequence[np.ndarray],
        parsings: Sequence[np.ndarray],
        segmentations: Sequence[np.ndarray],
        grid: tuple[int, int] = (24, 8),
        names: Sequence[str] | None = None,
    ):
        if not len(images) == len(parsings) == len(segmentations) > 0:
            raise PriorError(
                f"the prior stepper got {len(images)} images, {len(parsings)} parsing maps and "
                f"{len(segmentations)} segmentation maps: pass as many of each, at least one"
            )
        self.images, self.parsings, self.segmentations = list(images), list(parsings), list(segmentations)
        self.names = list(names) if names is not None else [f"image {i + 1}" for i in range(len(images))]
        self.grid = (grid[0], grid[1])
        super().__init__()

    @classmethod
    def from_dataset(
        cls,
        dataset: ReIDDataset,
        table=None,
        *,
        tool: Tool = "sidewalk",
        grid: tuple[int, int] = (18, 6),
        count: int = 24,
        **options,
    ) -> PriorStepper:
        """The first `count` images of a table (default: the training set) with the maps of a tool.

        tool and options: as in `reidkit.priors.build_priors`, for example tool="files", parsing_dir=...
        """
        table = (dataset.train if table is None else table).head(count)
        paths = relative_paths(table["path"], dataset.root)
        maps = open_source(dataset, tool, **options).maps(paths)
        images = [np.asarray(decode(path)) for path in table["path"]]
        return cls(images, *zip(*maps), grid=grid, names=[path.rsplit("/", 1)[-1] for path in paths])

    def controls(self):
        return {
            "image": Slider("image", 0, len(self.images) - 1),
            "threshold": Slider("threshold", 0.05, 0.95, 0.05),
            "parts": Slider("K", 1, 12),
            "min_head": Slider("head needs", 0.0, 0.05, 0.001),
            "min_leg": Slider("legs need", 0.0, 0.1, 0.001),
            "drop_head": Toggle("drop the head"),
            "drop_legs": Toggle("drop the legs"),
            "no_segmentation": Toggle("no segmentation"),
        }

    def maps(self, state: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
        """The two maps of the chosen image, after the faults that the reader asked for."""
        parsing, segmentation = self.parsings[state.image], self.segmentations[state.image]
        lost = (*(HEAD_LABELS if state.drop_head else ()), *(LEG_LABELS if state.drop_legs else ()))
        if lost:
            parsing = np.where(np.isin(parsing, lost), 0, parsing).astype(parsing.dtype)
        if state.no_segmentation:
            segmentation = np.zeros_like(segmentation)
        return parsing, segmentation

    def steps(self, state: SimpleNamespace) -> PriorSteps:
        """Every intermediate result for a state."""
        return prior_steps(
            *self.maps(state),
            self.grid,
            min_head=state.min_head,
            min_leg=state.min_leg,
            threshold=state.threshold,
            num_parts=state.parts,
        )

    def status(self, state: SimpleNamespace) -> str:
        s = self.steps(state)
        outcome = "reliable" if s.reliable else f"not reliable ({s.reason}): whole image, evenly divided"
        return (
            f"{self.names[state.image]} | head {s.head_pixels} px, more than {s.head_needed:.0f} needed | "
            f"legs {s.leg_pixels} px, more than {s.leg_needed:.0f} needed | {int(s.binarised.sum())} cells body, "
            f"{int(s.dilated.sum())} after dilation | ROI {s.top:.2f} .. {s.bottom:.2f} | {outcome}"
        )

    def _size(self, state: SimpleNamespace) -> tuple[float, float]:
        """(width, height) of a column's picture: the image's own shape."""
        rows, columns = self.images[state.image].shape[:2]
        height = min(TALLEST, WIDEST * rows / columns)
        return height * columns / rows, height

    def layout(self, state: SimpleNamespace) -> Layout:
        (wide, _), (_, height), step = self.size, self._size(state), self.size[0] / COLUMNS
        columns = [Piece((i * step, 0, (i + 1) * step, TOP + height + 6)) for i in range(COLUMNS)]
        below = TOP + height + 6
        words = Text((0, below, 400, self.size[1])), Text((400, below, wide, self.size[1]))
        return Stack(Tiles(columns, COLUMNS), Row(*words))

    def draw(self, state: SimpleNamespace) -> Sketch:
        s, image, size = self.steps(state), self.images[state.image], self._size(state)
        parsing, segmentation = self.maps(state)
        grey = lambda a: (np.asarray(a, np.float32) * 255).astype(np.uint8)  # noqa: E731
        columns = [
            ("image", "", image),
            ("parsing", "1  head? leg?", LIP_COLOURS[parsing]),
            ("segmentation", "", grey(segmentation)),
            ("union", "2  max of both", grey(s.union)),
            ("resized", f"3  {self.grid[0]} x {self.grid[1]} means", s.resized),
            ("binarised", f"4  at least {state.threshold:.2f}", s.binarised),
            ("dilated", "5  1 x 2 kernel", s.dilated),
            ("ROI", "6  first, last row", prior_overlay(image, s.mask, s.top, s.bottom, num_parts=1)),
            ("K stripes", f"7  K = {state.parts}", _stretched(image, s)),
        ]
        picture, step = canvas(self.size), self.size[0] / COLUMNS
        for i, (title, note, part) in enumerate(columns):
            x = i * step + (step - size[0]) / 2
            text(picture, (x + size[0] / 2, 8), title, 13, anchor="ma", bold=True)
            text(picture, (x + size[0] / 2, 26), note, 11, MUTED, "ma")
            if title in ("resized", "binarised", "dilated"):
                cells(picture, part, (x, TOP), size)
                picture.rectangle([x - 1, TOP - 1, x + size[0] + 1, TOP + size[1] + 1], outline=LINE)
            else:
                paste(picture, part, (x, TOP), size, flat=title in ("parsing", "segmentation", "union"))
            if title == "dilated":
                _grown(picture, s, (x, TOP), size)
            elif title == "ROI":
                for edge in (s.top, s.bottom):
                    y = TOP + min(max(edge * size[1], 2), size[1] - 2)
                    picture.line([(x, y), (x + size[0], y)], ORANGE, 4)
            elif title == "K stripes":
                _stripes(picture, state.parts, (x, TOP), size)
        _verdict(picture, s, TOP + size[1] + 14)
        return picture


def _grown(picture: Sketch, s: PriorSteps, xy: tuple[float, float], size: tuple[float, float]) -> None:
    """Cells that the dilation added are orange, so that they are seen."""
    h, w = s.dilated.shape
    for i, j in np.argwhere(s.dilated & ~s.binarised):
        x0, y0 = xy[0] + j * size[0] / w + 1, xy[1] + i * size[1] / h + 1
        picture.rectangle([x0, y0, x0 + size[0] / w - 2, y0 + size[1] / h - 2], fill=ORANGE)


def _stretched(image: np.ndarray, s: PriorSteps) -> Image.Image:
    """The ROI, stretched to the full height (P_k of Fig. 5b, drawn on the image); twice as fine as the image."""
    whole, (H, W) = photograph(image), image.shape[:2]
    return whole.resize((2 * W, 2 * H), Image.Resampling.BILINEAR, box=(0, s.top * H, W, s.bottom * H))


def _stripes(picture: Sketch, parts: int, xy: tuple[float, float], size: tuple[float, float]) -> None:
    """K numbered stripes over a picture."""
    x0, y0 = xy
    for k in range(parts):
        y = y0 + k * size[1] / parts
        if k:
            picture.rectangle([x0, y - 1.5, x0 + size[0], y + 1.5], fill="white")
        picture.rectangle([x0 + 2, y + 3, x0 + (24 if k > 8 else 17), y + 19], fill=BLUE)
        text(picture, (x0 + 4, y + 3), str(k + 1), 12, "white", bold=True)


def _verdict(picture: Sketch, s: PriorSteps, y: float) -> None:
    """Three lines of numbers: were head and legs found, and is the prior used?"""
    counts = (("head", s.head_pixels, s.head_needed), ("legs", s.leg_pixels, s.leg_needed))
    for i, (name, found, needed) in enumerate(counts):
        good = found > needed
        words = f"{'+' if good else '×'}  {name}: {found} pixels, more than {needed:.0f} needed"
        text(picture, (GAP, y + 22 * i), words, 14, BLUE if good else ORANGE, bold=True)
    words = f"×  not reliable ({s.reason}): the whole image is divided evenly instead"
    if s.reliable:
        words = f"+  reliable: the auxiliary tasks see {s.top:.2f} to {s.bottom:.2f} of the image height"
    text(picture, (400, y), words, 14, BLUE if s.reliable else ORANGE, bold=True)
    text(picture, (400, y + 22), "orange cells: added by the dilation, to the right of a body cell", 13, MUTED)
