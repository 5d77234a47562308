"""The plane of the loss playground: its points, what ties them together, and the arrows of their gradients.

A state here is that of `LossPlayground`: `points` [2 tasks][identities][images] of (x, y), of which the first `ids`
and `images` are shown, `point` the number of the chosen one, `metric`, `margin`, `alignment`, `rate`.
"""

from __future__ import annotations

import numpy as np
import torch

from reidkit import losses
from reidkit.panels.kit.drawing import COLOURS, INK, LINE, text
from reidkit.panels.kit.sketch import Sketch

REACH = 1.5  # the plane shows -REACH .. REACH
PLANE, TOP = 540, 10  # size of the plane in the drawing, and room above it


def place_of(state, number: int) -> tuple[int, int, int]:
    """Point 1 .. -> (task, identity, image)."""
    task, rest = divmod(number - 1, state.ids * state.images)
    identity, image = divmod(rest, state.images)
    return task, identity, image


def mined(state) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances [N, N] of the main points, and each anchor's farthest positive and nearest negative, [N] each."""
    points = torch.tensor(state.points, dtype=torch.float64)[0, : state.ids, : state.images].flatten(0, 1)
    distance = losses.pairwise_distance(points, state.metric).numpy()
    label = np.repeat(np.arange(state.ids), state.images)
    same = label[:, None] == label[None, :]
    return distance, np.where(same, distance, -1).argmax(1), np.where(same, np.inf, distance).argmin(1)


def violations(state) -> tuple[int, int]:
    """(anchors whose hardest triplet violates the margin, anchors)."""
    distance, positive, negative = mined(state)
    row = np.arange(len(distance))
    return int((distance[row, positive] - distance[row, negative] + state.margin > 0).sum()), len(distance)


def name_of(number: int, images: int) -> str:
    """0 -> "A1": identity A, image 1."""
    return f"{'ABCD'[number // images]}{number % images + 1}"


def anchor_story(state) -> str:
    """Eq. 3 for the chosen point, in numbers."""
    chosen = (state.point - 1) % (state.ids * state.images)
    if state.point > state.ids * state.images:
        return f"{name_of(chosen, state.images)} of the auxiliary task: it is in no\ntriplet, only alignment moves it."
    distance, positive, negative = mined(state)
    p, n = int(positive[chosen]), int(negative[chosen])
    far, near = distance[chosen, p], distance[chosen, n]
    value = max(far - near + state.margin, 0)
    return (
        f"{name_of(chosen, state.images)}: farthest of its own is {name_of(p, state.images)}, {far:.2f}\n"
        f"nearest other is {name_of(n, state.images)}, {near:.2f}\n"
        f"[{far:.2f} − {near:.2f} + {state.margin:.2f}]₊ = {value:.2f}"
    )


def pixel(xy) -> np.ndarray:
    """Coordinates -> places in the drawing; y points up."""
    x, y = np.moveaxis(np.asarray(xy, dtype=float), -1, 0)
    return np.stack([(x / REACH + 1) / 2, (1 - y / REACH) / 2], axis=-1) * PLANE + (0, TOP)


def draw_plane(picture: Sketch, state, gradient: np.ndarray) -> None:
    """PLANE x PLANE: axes, relations, arrows, then the points on top. gradient: [2, P, K, 2]."""
    middle, end = PLANE / 2, PLANE + TOP
    picture.rectangle([0, TOP, PLANE, end], fill="#FAFAFA", outline=LINE)
    picture.line([0, middle + TOP, PLANE, middle + TOP], LINE)
    picture.line([middle, TOP, middle, end], LINE)
    points = np.array(state.points)[:, : state.ids, : state.images]  # [2, P, K, 2]
    shown = 2 if state.alignment else 1
    draw_relations(picture, state, points)
    for task in range(shown):
        moved = np.clip(points[task] - state.rate * gradient[task], -REACH, REACH)  # a step stays on the plane
        start, stop = pixel(points[task]), pixel(moved)
        for a, b in zip(start.reshape(-1, 2), stop.reshape(-1, 2)):
            arrow(picture, a, b)
    for task in reversed(range(shown)):
        for i in range(state.ids):
            for k in range(state.images):
                marker(picture, pixel(points[task, i, k]), i, f"{'ABCD'[i]}{k + 1}", hollow=task == 1)
    x, y = pixel(points[place_of(state, state.point)])
    picture.ellipse([x - 18, y - 18, x + 18, y + 18], outline=INK, width=2.5)


def draw_relations(picture: Sketch, state, points: np.ndarray) -> None:
    """The hardest pair of the chosen anchor, and what the alignment ties together."""
    flat = pixel(points[0].reshape(-1, 2))  # [P*K, 2]
    if state.point <= len(flat):
        chosen = state.point - 1
        _, positive, negative = mined(state)
        picture.line([*flat[chosen], *flat[positive[chosen]]], INK, 2.5)
        dashed(picture, flat[chosen], flat[negative[chosen]])
    if state.alignment == "sample":
        for a, b in zip(flat, pixel(points[1].reshape(-1, 2))):
            picture.line([*a, *b], "#9A9A9A")
    means = {"class": points.mean(2), "batch": points.mean((1, 2))[:, None]}.get(state.alignment)  # [2, P or 1, 2]
    for i, (h, g) in enumerate([] if means is None else zip(*means)):
        a, b = pixel(h), pixel(g)
        colour = COLOURS[i] if state.alignment == "class" else INK
        picture.line([*a, *b], colour, 1.5)
        for (x, y), fill in ((a, colour), (b, "white")):
            corners = [(x, y - 6.5), (x + 6.5, y), (x, y + 6.5), (x - 6.5, y)]
            picture.polygon(corners, fill=fill, outline=colour, width=1.5)


def marker(picture: Sketch, at: np.ndarray, identity: int, name: str, hollow: bool) -> None:
    """One point: colour and outline shape say the identity, the name says it again."""
    (x, y), r, colour = at, 11, COLOURS[identity]
    style = {"fill": "white" if hollow else colour, "outline": colour, "width": 2.5}
    if identity == 0:
        picture.ellipse([x - r, y - r, x + r, y + r], **style)
    elif identity == 1:
        picture.rectangle([x - r + 1, y - r + 1, x + r - 1, y + r - 1], **style)
    else:
        sides = 6 if identity == 2 else 8
        angles = 2 * np.pi * (np.arange(sides) + (0 if identity == 2 else 0.5)) / sides
        corners = np.array([x, y]) + (r + 1.5) * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
        picture.polygon(corners, **style)
    text(picture, (x, y), name, 10, colour if hollow else "white", "mm", bold=True)


def arrow(picture: Sketch, a: np.ndarray, b: np.ndarray) -> None:
    """An arrow as long as from a to b that starts at the border of the point at a; none for less than a pixel."""
    length = np.linalg.norm(b - a)
    if length < 1.5:
        return
    along = (b - a) / length
    across = np.array([-along[1], along[0]])
    tip, neck = a + along * (length + 12), a + along * (length + 4)
    start = a + along * 12
    picture.line([*start, *neck], INK, 3)
    picture.polygon([tip, neck + 5.5 * across, neck - 5.5 * across], fill=INK)


def dashed(picture: Sketch, a: np.ndarray, b: np.ndarray, dash: float = 7) -> None:
    """A dashed line."""
    pieces = max(int(np.linalg.norm(b - a) / dash) // 2 * 2 + 1, 1)
    for i in range(0, pieces, 2):
        picture.line([*(a + (b - a) * i / pieces), *(a + (b - a) * (i + 1) / pieces)], INK, 2)
