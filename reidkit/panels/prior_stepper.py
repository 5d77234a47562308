"""Panel 1: the coarse prior of one image, step by step (MPN Sec. 3.2, Fig. 4 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw
from traitlets import Bool, Float, Int

from reidkit.data import ReIDDataset
from reidkit.data.images import decode, relative_paths
from reidkit.data.lip import LIP_COLOURS
from reidkit.errors import PriorError
from reidkit.panels.kit.base import Panel, Slider, Toggle
from reidkit.panels.kit.drawing import BLUE, MUTED, ORANGE, canvas, cells, paste, text, thumbnail
from reidkit.priors import PriorSteps, open_source, prior_overlay, prior_steps
from reidkit.priors.coarse import MIN_HEAD, MIN_LEG, THRESHOLD
from reidkit.priors.labels import HEAD_LABELS, LEG_LABELS
from reidkit.priors.source import Tool

TOP, WIDEST, TALLEST, GAP = 46, 98, 294, 8  # pixels


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

    def render(self, state: SimpleNamespace) -> Image.Image:
        s, image = self.steps(state), self.images[state.image]
        parsing, segmentation = self.maps(state)
        height = min(TALLEST, round(WIDEST * image.shape[0] / image.shape[1]))
        size = (round(height * image.shape[1] / image.shape[0]), height)
        nearest = lambda a: Image.fromarray(a).resize(size, Image.Resampling.NEAREST)  # noqa: E731
        grey = lambda a: nearest((np.asarray(a, np.float32) * 255).astype(np.uint8)).convert("RGB")  # noqa: E731
        columns = [
            ("image", "", thumbnail(image, size)),
            ("parsing", "1  head? leg?", nearest(LIP_COLOURS[parsing])),
            ("segmentation", "", grey(segmentation)),
            ("union", "2  max of both", grey(s.union)),
            ("resized", f"3  {self.grid[0]} x {self.grid[1]} means", cells(s.resized, size)),
            ("binarised", f"4  at least {state.threshold:.2f}", cells(s.binarised, size)),
            ("dilated", "5  1 x 2 kernel", _grown(s, size)),
            ("ROI", "6  first, last row", _roi(image, s, size)),
            ("K stripes", f"7  K = {state.parts}", _stripes(image, s, state.parts, size)),
        ]
        picture = canvas(self.size)
        step = (self.size[0] - GAP) / len(columns)
        for i, (title, note, part) in enumerate(columns):
            x = GAP / 2 + i * step + (step - part.width) / 2
            text(picture, (x + part.width / 2, 8), title, 13, anchor="ma", bold=True)
            text(picture, (x + part.width / 2, 26), note, 11, MUTED, "ma")
            paste(picture, part, (x, TOP))
        _verdict(picture, s, TOP + height + 14)
        return picture


def _grown(s: PriorSteps, size: tuple[int, int]) -> Image.Image:
    """The dilated mask; cells that the dilation added are orange, so that they are seen."""
    picture = cells(s.dilated, size)
    draw, (h, w) = ImageDraw.Draw(picture), s.dilated.shape
    for i, j in np.argwhere(s.dilated & ~s.binarised):
        draw.rectangle(
            [
                round(j * size[0] / w) + 1,
                round(i * size[1] / h) + 1,
                round((j + 1) * size[0] / w) - 1,
                round((i + 1) * size[1] / h) - 1,
            ],
            fill=ORANGE,
        )
    return picture


def _roi(image: np.ndarray, s: PriorSteps, size: tuple[int, int]) -> Image.Image:
    """The image darkened outside the mask M, with the upper and lower boundary."""
    shown = prior_overlay(np.asarray(thumbnail(image, size)), s.mask, s.top, s.bottom, num_parts=1)
    picture = Image.fromarray(shown)
    draw = ImageDraw.Draw(picture)
    for edge in (s.top, s.bottom):
        y = min(max(round(edge * size[1]), 2), size[1] - 3)
        draw.line([(0, y), (size[0], y)], fill=ORANGE, width=4)
    return picture


def _stripes(image: np.ndarray, s: PriorSteps, parts: int, size: tuple[int, int]) -> Image.Image:
    """The ROI, stretched to the full height, in K stripes (P_k of Fig. 5b, drawn on the image)."""
    H = image.shape[0]
    whole = thumbnail(image, (image.shape[1] * 2, H * 2))
    roi = whole.resize(size, Image.Resampling.BILINEAR, box=(0, s.top * 2 * H, whole.width, s.bottom * 2 * H))
    draw = ImageDraw.Draw(roi)
    for k in range(parts):
        y = round(k * size[1] / parts)
        if k:
            draw.rectangle([0, y - 2, size[0], y + 1], fill="white")
        draw.rectangle([2, y + 3, 23 if k > 8 else 16, y + 18], fill=BLUE)
        text(roi, (4, y + 3), str(k + 1), 12, "white", bold=True)
    return roi


def _verdict(picture: Image.Image, s: PriorSteps, y: float) -> None:
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
