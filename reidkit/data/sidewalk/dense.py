"""Dense body coordinates of Sidewalk: the chart of the body's surface that each pixel shows, and where on it.

What DensePose estimates on photographs the renderer knows. Nothing is stored: a shot of the plan is drawn again, limb
by limb, and each limb is taken for an upright cylinder of which the camera sees one half. Pixels and files of the data
set are not touched; pixels that something else hides, and those of bags and scarves, have no chart.

    angle around the body      0 = its front, positive = its left (a body at yaw 0 faces the camera)
    V                          along the limb, 0 at the upper end
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from reidkit.data.dataset import ReIDDataset
from reidkit.data.sidewalk.body import Arm, Body, Leg, Pen, Placement
from reidkit.data.sidewalk.clothes import draw_arm, draw_leg, draw_lower, draw_torso, layers_of
from reidkit.data.sidewalk.detector import detect, get_level
from reidkit.data.sidewalk.head import draw_head
from reidkit.data.sidewalk.identity import Identity
from reidkit.data.sidewalk.labels import PART_NAMES, PART_OF_CODE
from reidkit.data.sidewalk.plan import Settings, Shot, plan
from reidkit.data.sidewalk.render import walk
from reidkit.data.sidewalk.scene import make_cameras
from reidkit.data.sidewalk.tools import ToolRates
from reidkit.data.sidewalk.truth import load_truth
from reidkit.data.texture import CHART_OF
from reidkit.errors import DatasetError

DENSE_VERSION = 1  # raise when the coordinates change: textures made of them are then made anew
SUPERSAMPLE = 2  # of `render`
ACCESSORY = PART_NAMES.index("accessory") + 1
QUARTER = 0.5 * math.pi

Surface = tuple[np.ndarray, np.ndarray, np.ndarray]  # chart I, U, V of some pixels


def dense_maps(ds: ReIDDataset, table: pd.DataFrame) -> Iterator[np.ndarray]:
    """float32 [3, H, W] of each image of a table of Sidewalk: I in 0..24, U and V in [0, 1] (0 where I is 0).

    Raises DatasetError for a data set that was not rendered, or an image that is not of this rendering.
    """
    if ds.source.get("name") != "sidewalk":
        raise DatasetError(f"{ds.label} was not rendered: dense body maps of photographs are read from files")
    settings = _settings(ds)
    shots, root = _shots(settings), Path(ds.root)
    for start in range(0, len(table), 256):
        part = table.iloc[start : start + 256]
        for path, codes in zip(part.path, load_truth(ds, part).codes):
            yield dense_map(settings, shots[Path(path).relative_to(root).as_posix()], codes)


def people_of(ds: ReIDDataset, table: pd.DataFrame) -> list[Identity | None]:
    """Who is on each image of a table of Sidewalk, with build and clothes; None on the empty street.

    Raises DatasetError for a data set that was not rendered.
    """
    if ds.source.get("name") != "sidewalk":
        raise DatasetError(f"{ds.label} was not rendered: nobody knows what the people in photographs wear")
    shots, root = _shots(_settings(ds)), Path(ds.root)
    return [shots[Path(path).relative_to(root).as_posix()].person for path in table.path]


def _settings(ds: ReIDDataset) -> Settings:
    rates = ToolRates(**ds.info["tool_rates"]) if "tool_rates" in ds.info else ToolRates()
    return Settings(ds.info["size"], ds.info["seed"], rates)


@lru_cache(maxsize=2)
def _shots(settings: Settings) -> dict[str, Shot]:
    return {shot.path: shot for chunk in plan(settings) for shot in chunk}


def body_of(settings: Settings, shot: Shot, person: Identity, canvas: tuple[int, int]) -> Body:
    """The body of a shot on a canvas of (height, width) pixels, from the first numbers that `render` draws."""
    spec = settings.spec
    camera = make_cameras(spec.cameras, settings.seed, spec.height, spec.width)[shot.camid - 1]
    rng = np.random.default_rng([*shot.key, 0])
    pose = walk(rng, camera)
    box = detect(rng, get_level(shot.level), person.height, camera.pitch)
    return Body(person, pose, box.placement(canvas, shot.shift, camera.light))


def dense_map(settings: Settings, shot: Shot, codes: np.ndarray) -> np.ndarray:
    """float32 [3, H, W] of one shot; codes [H, W] uint8: its stored fragment map, which says what is seen."""
    H, W = codes.shape
    if shot.person is None:
        return np.zeros((3, H, W), np.float32)
    found, drawn = surface_map(body_of(settings, shot, shot.person, (H * SUPERSAMPLE, W * SUPERSAMPLE)), (H, W))
    found[:, codes != drawn] = 0  # something stands before it
    return found


def surface_map(body: Body, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """I, U, V [3, H, W] of a body with nothing before it, and its fragment codes [H, W]; size: (H, W)."""
    found, drawn = np.zeros((3, *size), np.float32), np.zeros(size, np.uint8)
    start = SUPERSAMPLE // 2
    for draw, piece in layers_of(body):
        canvas = Image.new("L", (size[1] * SUPERSAMPLE, size[0] * SUPERSAMPLE), 0)
        pen = Pen(canvas, body.place)
        draw(pen, body) if piece is None else draw(pen, body, piece)
        layer = np.asarray(canvas)[start::SUPERSAMPLE, start::SUPERSAMPLE]  # the pixels that `render` keeps
        rows, columns = np.nonzero(layer)
        found[:, rows, columns] = 0
        drawn[rows, columns] = layer[rows, columns]
        skin = PART_OF_CODE[layer[rows, columns]] != ACCESSORY
        rows, columns = rows[skin], columns[skin]
        if draw in SURFACES and len(rows):
            x, y = SUPERSAMPLE * columns + start, SUPERSAMPLE * rows + start  # canvas pixels
            found[:, rows, columns] = SURFACES[draw](body, piece, x.astype(float), y.astype(float))
    return found, drawn


def _around(body: Body, across: np.ndarray) -> np.ndarray:
    """Angle around the body, in (-pi, pi], of what is seen at `across` in [-1, 1] of a limb's width on the canvas."""
    angle = np.arcsin(np.clip(across, -1, 1)) - body.pose.yaw
    return math.pi - np.mod(math.pi - angle, 2 * math.pi)


def _half(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(is it the front?, U) of points at these angles: U runs over the half circle of the front, or of the back."""
    front = np.abs(angle) < QUARTER
    turned = np.where(front, angle, math.pi - np.mod(2 * math.pi - angle, 2 * math.pi))  # the back's middle is 0
    return front, np.clip(turned / math.pi + 0.5, 0, 1)


def _named(front: np.ndarray, part: str) -> np.ndarray:
    return np.where(front, CHART_OF[f"{part}, front"], CHART_OF[f"{part}, back"])


def _along(a, b, x: np.ndarray, y: np.ndarray, place: Placement, radius: float) -> tuple[np.ndarray, ...]:
    """(V, across, distance) of pixels x, y to the limb from canvas point a to b, `radius` body units thick.

    V: 0 at a, 1 at b. across: -1 at the limb's left edge on the canvas, 1 at the right one. distance: to the limb's
    axis, in units of its radius.
    """
    sx, sy = place.sx, place.sy  # pixels -> body units, where limbs are round
    dx, dy = (b[0] - a[0]) / sx, (b[1] - a[1]) / sy
    px, py = (x - a[0]) / sx, (y - a[1]) / sy
    length = math.hypot(dx, dy) + 1e-9
    v = np.clip((px * dx + py * dy) / length**2, 0, 1)
    turn = 1.0 if dy >= 0 else -1.0  # so that across grows to the right
    across = turn * (px * dy - py * dx) / length / radius
    return v, across, np.hypot(px - v * dx, py - v * dy) / radius


def _limb(body: Body, segments, x: np.ndarray, y: np.ndarray) -> Surface:
    """Pixels of a limb: each belongs to the nearest of its segments (a, b, radius, name of the chart, has halves)."""
    places = [_along(a, b, x, y, body.place, radius) for a, b, radius, _, _ in segments]
    nearest = np.argmin([distance for *_, distance in places], axis=0)
    chart, u, v = np.zeros(len(x)), np.zeros(len(x)), np.zeros(len(x))
    for k, ((along, across, _), (*_, name, halves)) in enumerate(zip(places, segments)):
        front, around = _half(_around(body, across))
        whole = np.clip(across / 2 + 0.5, 0, 1)  # hands and feet have one chart: U over what is seen
        mine = nearest == k
        chart[mine] = (_named(front, name) if halves else np.full(len(x), CHART_OF[name]))[mine]
        u[mine], v[mine] = (around if halves else whole)[mine], along[mine]
    return chart, u, v


def _leg(body: Body, leg: Leg, x: np.ndarray, y: np.ndarray) -> Surface:
    r, H = body.person.limb * body.height, body.height
    return _limb(
        body,
        (
            (leg.hip, leg.knee, 0.056 * r, f"{leg.side} upper leg", True),
            (leg.knee, leg.ankle, 0.040 * r, f"{leg.side} lower leg", True),
            (leg.heel, leg.toe, 0.026 * H, f"{leg.side} foot", False),
        ),
        x,
        y,
    )


def _arm(body: Body, arm: Arm, x: np.ndarray, y: np.ndarray) -> Surface:
    r, hand = body.person.limb * body.height, 0.026 * body.height
    tip = (arm.hand.x, arm.hand.y + 1.4 * hand * body.place.sy)
    return _limb(
        body,
        (
            (arm.shoulder, arm.elbow, 0.042 * r, f"{arm.side} upper arm", True),
            (arm.elbow, arm.hand, 0.031 * r, f"{arm.side} lower arm", True),
            ((arm.hand.x, arm.hand.y), tip, hand, f"{arm.side} hand", False),
        ),
        x,
        y,
    )


def _trunk(body: Body, torso, x: np.ndarray, y: np.ndarray) -> Surface:
    """Torso from the shoulder line to the crotch; what hangs lower (skirts, coats) lies on the upper legs."""
    top, crotch, knee = (
        body.at(0, height, 0) for height in (body.shoulder_y, body.hip_y - 0.07 * body.height, body.hip_y - body.thigh)
    )
    half = np.maximum(1e-6, body.half_width(body.hip * 1.08, body.depth) * body.place.sx)
    shoulders = torso.half(0.35) * body.place.sx
    v = np.clip((y - top.y) / (crotch.y - top.y), 0, 1)
    middle = top.x + v * (crotch.x - top.x)
    angle = _around(body, (x - middle) / ((1 - v) * shoulders + v * half))
    front, u = _half(angle)
    chart = _named(front, "torso")
    below = y > crotch.y
    left = np.sin(angle) > 0
    legs = np.where(left, _named(front, "left upper leg"), _named(front, "right upper leg"))
    hanging = np.clip((y - crotch.y) / (knee.y - crotch.y + 1e-9), 0, 1)
    return np.where(below, legs, chart), u, np.where(below, hanging, v)


def _head(body: Body, _, x: np.ndarray, y: np.ndarray) -> Surface:
    """Each half of the head has a chart: U from the front round to the back on the left, and on to it on the right."""
    radius, tall = body.head_r * 0.80 * body.place.sx, body.head_r * 1.05 * body.place.sy
    angle = _around(body, (x - body.head.x) / (1.06 * radius))
    u = np.where(angle > 0, angle / math.pi, 1 + angle / math.pi)
    chart = np.where(angle > 0, CHART_OF["left of the head"], CHART_OF["right of the head"])
    top, chin = body.head.y - 1.06 * tall, body.neck.y + 0.012 * body.height * body.place.sy
    return chart, u, np.clip((y - top) / (chin - top), 0, 1)


SURFACES = {draw_leg: _leg, draw_arm: _arm, draw_torso: _trunk, draw_lower: _trunk, draw_head: _head}
