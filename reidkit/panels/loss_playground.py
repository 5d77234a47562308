"""Panel 8: the losses of MPN on points of a plane that can be dragged; arrows are gradients of `reidkit.losses`.

A point is the feature of one image: filled for the main task (h, Eq. 2), hollow for the auxiliary task (g, Eq. 5).
The total is triplet(h) + lambda * alignment(h, g), Eq. 10 without its classifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from traitlets import Float, Int, Tuple, Unicode

from reidkit import losses
from reidkit.panels.kit.base import Choice, Panel, Sketch, Slider
from reidkit.panels.kit.drawing import COLOURS, INK, MUTED, bar, canvas, text
from reidkit.panels.kit.layout import Layout, Piece, Row, Stack, Text
from reidkit.panels.kit.plane import PLANE, REACH, TOP, anchor_story, draw_plane, place_of, violations

MAX_IDS = MAX_IMAGES = 4
BARS = 92  # height of the bars of the losses
STEP = 0.05  # of the sliders x and y
ALIGNMENTS = {"none": "", "class-wise (Eq. 8)": "class", "sample-wise (Eq. 9)": "sample", "batch-wise": "batch"}
Points = tuple  # [2 tasks][MAX_IDS][MAX_IMAGES] of (x, y)


def batch_all_triplet(features: Tensor, labels: Tensor, margin: float, metric: losses.Metric) -> Tensor:
    """Mean of [D(a, p) - D(a, n) + margin]_+ over the triplets that violate the margin; every one is looked at.

    features [N, D], labels [N]. The "batch all" of Hermans et al. 2017, which MPN's Eq. 3 replaces by the hardest.
    """
    distance = losses.pairwise_distance(features, metric)  # [N, N]
    same = labels[:, None] == labels[None, :]
    positive, negative = same & ~torch.eye(len(labels), dtype=torch.bool), ~same
    loss = F.relu(distance[:, :, None] - distance[:, None, :] + margin)  # [N, positive, negative]
    loss = loss[positive[:, :, None] & negative[:, None, :]]
    return loss.sum() / (loss > 0).sum().clamp_min(1)


@dataclass(frozen=True)
class Result:
    """Values of the loss terms (alignment without its lambda), and the gradient of the total by every point."""

    triplet: float
    alignment: float
    total: float
    gradient: np.ndarray  # [2, P, K, 2]


def evaluate(
    points: Tensor, *, margin: float, metric: losses.Metric, mining: str, alignment: str, weight: float
) -> Result:
    """points [2, P, K, 2]: h and g of P identities with K images each. Gradients come from autograd."""
    points = points.detach().clone().requires_grad_()
    ids, images = points.shape[1:3]
    labels = torch.arange(ids).repeat_interleave(images)  # [P*K]
    main, aux = points.flatten(1, 2)  # h, g: [P*K, 2]
    if mining == "all":
        triplet = batch_all_triplet(main, labels, margin, metric)
    else:
        triplet = losses.batch_hard_triplet(main, labels, margin, metric)  # Eq. 3
    aligned = {
        "": lambda: 0 * aux.sum(),
        "class": lambda: losses.class_alignment(main, aux, labels),
        "sample": lambda: losses.sample_alignment(main, aux),
        "batch": lambda: losses.batch_alignment(main, aux),
    }[alignment]()
    total = triplet + weight * aligned  # Eq. 10
    (gradient,) = torch.autograd.grad(total, points)
    return Result(triplet.item(), aligned.item(), total.item(), gradient.numpy())


def first_points() -> Points:
    """A layout that violates margins and whose h and g disagree; always the same."""
    rng = np.random.default_rng(3)
    angle = np.deg2rad([40, 150, 265, 330])
    centre = 0.75 * np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]  # [P, 1, 2]
    turned = angle + np.deg2rad([35, -30, 30, -25])
    other = 1.05 * np.stack([np.cos(turned), np.sin(turned)], axis=1)[:, None]
    main = centre + rng.normal(scale=0.24, size=(MAX_IDS, MAX_IMAGES, 2))
    aux = other + rng.normal(scale=0.17, size=(MAX_IDS, MAX_IMAGES, 2))
    return as_points(np.stack([main, aux]))


def as_points(array: np.ndarray) -> Points:
    """[2, P, K, 2] -> nested tuples, kept on the plane."""
    rounded = np.clip(array, -REACH, REACH).round(4).tolist()
    return tuple(tuple(tuple(tuple(xy) for xy in images) for images in ids) for ids in rounded)


def moved(points: Points, task: int, identity: int, image: int, xy: Sequence[float]) -> Points:
    """The same points with one of them elsewhere."""
    array = np.array(points)
    array[task, identity, image] = xy
    return as_points(array)


class LossPlayground(Panel):
    """LossPlayground(): drag a point, or choose it and move it with the sliders x and y; `step` follows the arrows."""

    title = "Loss playground"
    prompt = (
        "Predict: with class-wise alignment, which arrows turn when you drag one filled point away from its "
        "hollow partner, and which with sample-wise? Move it, then press step a few times and explain."
    )
    size = (900, 560)

    ids, images = Int(3), Int(3)
    mining, metric, alignment = Unicode("hard"), Unicode("euclidean"), Unicode("class")
    margin, weight, rate = Float(0.4), Float(1.0), Float(0.5)
    point, x, y = Int(1), Float(0.0), Float(0.0)
    points = Tuple()

    def __init__(self) -> None:
        self.points = first_points()
        self.x, self.y = self.points[0][0][0]
        self._held = None
        self.observe(self._on_change, names=["points"])
        super().__init__()

    def controls(self) -> Mapping[str, Slider | Choice]:
        return {
            "ids": Slider("identities P", 2, MAX_IDS),
            "images": Slider("images K", 2, MAX_IMAGES),
            "mining": Choice("triplets", {"hardest (Eq. 3)": "hard", "all": "all"}),
            "metric": Choice("distance", ("euclidean", "cosine")),
            "margin": Slider("margin", 0.0, 1.5, 0.05),
            "alignment": Choice("alignment", ALIGNMENTS),
            "weight": Slider("lambda", 0.0, 4.0, 0.1),
            "rate": Slider("step size", 0.1, 3.0, 0.1),
            "point": Slider("point", 1, self._count()),
            "x": Slider("its x", -REACH, REACH, STEP),
            "y": Slider("its y", -REACH, REACH, STEP),
        }

    def actions(self) -> Mapping[str, Callable[[], None]]:
        return {"step": self.step, "10 steps": lambda: self.step(10)}

    def hidden(self) -> tuple[str, ...]:
        return () if self.alignment else ("weight",)

    # ---- state: the points, and the sliders that follow the chosen one -----------------------------------------------

    def state(self, **changes) -> SimpleNamespace:
        points = changes.pop("points", self.points)
        state = super().state(**changes)
        state.points = points
        return state

    def set(self, **changes) -> None:
        super().set(**changes | self._follow(changes))

    def _on_change(self, change) -> None:
        if not self._quiet:
            self.set(**{change["name"]: change["new"]})

    def _follow(self, changes: dict) -> dict:
        """What else changes: x and y move the chosen point; another point, or another place of it, moves x and y."""
        new = self.state(**changes)
        new.point = min(new.point, self._count(new)) if "point" not in changes else new.point
        if not 1 <= new.point <= self._count(new):
            return {}
        task, i, k = place_of(new, new.point)
        x, y = new.points[task][i][k]
        if "points" not in changes and changes.keys() & {"x", "y"}:
            # A slider shows a place between its steps at the nearest step, and reports that back: no move.
            x, y = (b if abs(a - b) > 0.51 * STEP and abs(b) <= REACH else a for a, b in ((x, new.x), (y, new.y)))
            return {"points": moved(new.points, task, i, k, (x, y))}
        return {"x": x, "y": y} | ({} if "point" in changes else {"point": new.point})

    def _count(self, state=None) -> int:
        """How many points can be chosen: P * K, twice as many when the auxiliary ones are shown."""
        state = state or self
        return state.ids * state.images * (2 if state.alignment else 1)

    def step(self, steps: int = 1) -> None:
        """Gradient descent on the points that are shown."""
        for _ in range(steps):
            state = self.state()
            array = np.array(state.points)
            array[:, : state.ids, : state.images] -= state.rate * self.result(state).gradient
            self.set(points=as_points(array))

    def on_pointer(self, x: float, y: float, phase: str) -> None:
        """Take the nearest point, and let it follow the mouse."""
        place = np.array([x / PLANE * 2 - 1, 1 - (y - TOP) / PLANE * 2]) * REACH
        if phase == "down":
            shown = np.array(self.points)[: 2 if self.alignment else 1, : self.ids, : self.images].reshape(-1, 2)
            gap = np.linalg.norm(shown - place, axis=1)  # [points]
            self._held = int(gap.argmin()) + 1 if gap.min() < 0.15 else None
            if self._held:
                self.set(point=self._held)
        elif self._held:
            self.set(points=moved(self.points, *place_of(self, self._held), place.tolist()))
        if phase == "up":
            self._held = None

    # ---- picture -----------------------------------------------------------------------------------------------------

    def result(self, state) -> Result:
        """The losses of a state."""
        points = torch.tensor(state.points, dtype=torch.float64)[:, : state.ids, : state.images]
        return evaluate(
            points,
            margin=state.margin,
            metric=state.metric,
            mining=state.mining,
            alignment=state.alignment,
            weight=state.weight,
        )

    def layout(self, state) -> Layout:
        wide, tall = self.size
        side = PLANE + 8
        lines = tall - 18 * len(self._legend(state)) - 12
        return Row(
            Piece((0, 0, side, tall), grab=True),
            Stack(Piece((side, 0, wide, BARS)), Text((side, BARS, wide, lines)), Text((side, lines, wide, tall))),
        )

    def draw(self, state) -> Sketch:
        result, picture = self.result(state), canvas(self.size)
        draw_plane(picture, state, result.gradient)
        left, y = PLANE + 24, 14
        rows = [("triplet", result.triplet, COLOURS[0])]
        if state.alignment:
            rows.append(("λ · alignment", state.weight * result.alignment, COLOURS[2]))
        for name, value, colour in [*rows, ("total", result.total, INK)]:
            text(picture, (left, y), name)
            bar(picture, (left + 110, y + 1, left + 262, y + 14), value, f"{value:.3f}", colour, high=2.0)
            y += 26
        text(picture, (left, BARS + 8), "The chosen anchor", bold=True)
        text(picture, (left, BARS + 30), anchor_story(state))
        lines = self._legend(state)
        for i, line in enumerate(lines):
            text(picture, (left, self.size[1] - 18 * (len(lines) - i) - 8), line, 13, MUTED)
        return picture

    def _legend(self, state) -> list[str]:
        """What the marks of the plane mean."""
        lines = ["Filled: main task, h.  Hollow: auxiliary, g." if state.alignment else "Filled: main task, h."]
        lines += [
            "Ring: the chosen point.",
            "Solid line: farthest of its identity.",
            "Dashed line: nearest of another one.",
            "Arrow: where one step moves the point.",
        ]
        return lines + {
            "class": ["Diamonds: identity means; class-wise", "alignment moves only them together."],
            "sample": ["Thin lines: pairs that sample-wise", "alignment pulls together."],
            "batch": ["Diamonds: the two means of the batch."],
        }.get(state.alignment, [])

    def status(self, state) -> str:
        r = self.result(state)
        violating, anchors = violations(state)
        aligned = f" · alignment {r.alignment:.3f}" if state.alignment else ""
        margin = f"{violating} of {anchors} anchors violate the margin"
        return f"triplet {r.triplet:.3f}{aligned} · total {r.total:.3f} · {margin}"
