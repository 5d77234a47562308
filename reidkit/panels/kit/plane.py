"""The plane of the loss playground: its points, what ties them together, and the arrows of their gradients.

A state here is that of `LossPlayground`: `points` [2 tasks][identities][images] of (x, y), of which the first `ids`
and `images` are shown, `point` the number of the chosen one, `metric`, `margin`, `alignment`, `rate`.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw

from reidkit import losses
from reidkit.panels.kit.drawing import COLOURS, INK, LINE, font

REACH = 1.5  # the plane shows -REACH .. REACH
PLANE, SCALE = 540, 2  # pixels of the plane; it is drawn twice as large and shrunk, which smooths its lines


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
    """Coordinates -> pixels of the large plane; y points up."""
    x, y = np.moveaxis(np.asarray(xy, dtype=float), -1, 0)
    return np.stack([(x / REACH + 1) / 2, (1 - y / REACH) / 2], axis=-1) * PLANE * SCALE


def draw_plane(state, gradient: np.ndarray) -> Image.Image:
    """PLANE x PLANE pixels: axes, relations, arrows, then the points on top. gradient: [2, P, K, 2]."""
    plane = Image.new("RGB", (PLANE * SCALE, PLANE * SCALE), "#FAFAFA")
    draw, middle, end = ImageDraw.Draw(plane), PLANE * SCALE // 2, PLANE * SCALE
    draw.line([0, middle, end, middle], fill=LINE, width=2)
    draw.line([middle, 0, middle, end], fill=LINE, width=2)
    points = np.array(state.points)[:, : state.ids, : state.images]  # [2, P, K, 2]
    shown = 2 if state.alignment else 1
    draw_relations(draw, state, points)
    for task in range(shown):
        start, stop = pixel(points[task]), pixel(points[task] - state.rate * gradient[task])
        for a, b in zip(start.reshape(-1, 2), stop.reshape(-1, 2)):
            arrow(draw, a, b)
    for task in reversed(range(shown)):
        for i in range(state.ids):
            for k in range(state.images):
                marker(plane, pixel(points[task, i, k]), i, f"{'ABCD'[i]}{k + 1}", hollow=task == 1)
    x, y = pixel(points[place_of(state, state.point)])
    draw.ellipse([x - 36, y - 36, x + 36, y + 36], outline=INK, width=5)
    return plane.reduce(SCALE)


def draw_relations(draw: ImageDraw.ImageDraw, state, points: np.ndarray) -> None:
    """The hardest pair of the chosen anchor, and what the alignment ties together."""
    flat = pixel(points[0].reshape(-1, 2))  # [P*K, 2]
    if state.point <= len(flat):
        chosen = state.point - 1
        _, positive, negative = mined(state)
        draw.line([*flat[chosen], *flat[positive[chosen]]], fill=INK, width=5)
        dashed(draw, flat[chosen], flat[negative[chosen]])
    if state.alignment == "sample":
        for a, b in zip(flat, pixel(points[1].reshape(-1, 2))):
            draw.line([*a, *b], fill="#9A9A9A", width=2)
    means = {"class": points.mean(2), "batch": points.mean((1, 2))[:, None]}.get(state.alignment)  # [2, P or 1, 2]
    for i, (h, g) in enumerate([] if means is None else zip(*means)):
        a, b = pixel(h), pixel(g)
        colour = COLOURS[i] if state.alignment == "class" else INK
        draw.line([*a, *b], fill=colour, width=3)
        for (x, y), fill in ((a, colour), (b, "white")):
            draw.polygon([(x, y - 13), (x + 13, y), (x, y + 13), (x - 13, y)], fill=fill, outline=colour, width=3)


def marker(plane: Image.Image, at: np.ndarray, identity: int, name: str, hollow: bool) -> None:
    """One point: colour and outline shape say the identity, the name says it again."""
    draw, (x, y), r, colour = ImageDraw.Draw(plane), at, 22, COLOURS[identity]
    style = {"fill": "white" if hollow else colour, "outline": colour, "width": 5}
    if identity == 0:
        draw.ellipse([x - r, y - r, x + r, y + r], **style)
    elif identity == 1:
        draw.rectangle([x - r + 2, y - r + 2, x + r - 2, y + r - 2], **style)
    else:
        sides, turn = (6, 0) if identity == 2 else (8, 22.5)
        draw.regular_polygon((x, y, r + 3), sides, turn, **style)
    draw.text((x, y), name, font=font(20, True), fill=colour if hollow else "white", anchor="mm")


def arrow(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray) -> None:
    """An arrow as long as from a to b that starts at the border of the point at a; none for less than two pixels."""
    length = np.linalg.norm(b - a)
    if length < 3:
        return
    along = (b - a) / length
    across = np.array([-along[1], along[0]])
    tip, neck = a + along * (length + 24), a + along * (length + 8)
    start = a + along * 24
    draw.line([*start, *neck], fill=INK, width=6)
    draw.polygon([tuple(tip), tuple(neck + 11 * across), tuple(neck - 11 * across)], fill=INK)


def dashed(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray, dash: int = 14) -> None:
    """A dashed line."""
    pieces = max(int(np.linalg.norm(b - a) / dash) // 2 * 2 + 1, 1)
    for i in range(0, pieces, 2):
        draw.line([*(a + (b - a) * i / pieces), *(a + (b - a) * (i + 1) / pieces)], fill=INK, width=4)
