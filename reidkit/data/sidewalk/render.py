"""One image and its exact fragment map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reidkit.data.sidewalk.body import Body, Pen, Placement, Pose
from reidkit.data.sidewalk.clothes import draw_person
from reidkit.data.sidewalk.detector import Level, detect
from reidkit.data.sidewalk.identity import Identity, bystander_colours, colour_table
from reidkit.data.sidewalk.labels import OCCLUDER, OTHER, PART_NAMES, PART_OF_CODE, SHADOW
from reidkit.data.sidewalk.occluders import draw_occluder
from reidkit.data.sidewalk.scene import GROUND, Camera

_OPAQUE = [0] + [255] * 254 + [105]  # how much each code hides of the street; SHADOW only darkens it


@dataclass(frozen=True, eq=False)
class Picture:
    """What one shot gives.

    image: [H, W, 3] uint8 RGB. codes: [H, W] uint8 fragment codes (labels.py).
    top, bottom: where the whole body begins and ends, fractions of the image height; outside [0, 1] when the box
        cuts the body; NaN without a person.
    visibility: [len(PART_NAMES)] what share of each part is seen, given the pose: 0 = cut off or occluded;
        NaN = the part would not be seen anyway (an accessory that the person does not carry).
    detector: "ok", "head", "legs", "loose"; occluder: "none", an object, or "person"; yaw: radians in [0, 2 pi).
    quality: 1 is sharp and of full resolution; tools fail more often below 0.75.
    """

    image: np.ndarray
    codes: np.ndarray
    top: float
    bottom: float
    visibility: np.ndarray
    detector: str
    occluder: str
    yaw: float
    quality: float


def walk(rng: np.random.Generator, camera: Camera) -> Pose:
    """A random pose; most people cross a camera's view in its usual direction or against it."""
    yaw = camera.yaw + 0.5 * rng.standard_normal()
    yaw += math.pi * (rng.random() < 0.35) + math.pi / 2 * (rng.random() < 0.2)
    stride = 0.15 if rng.random() < 0.2 else rng.uniform(0.45, 1.0)
    elbows, spread = rng.uniform(0.15, 0.55, 2), rng.uniform(0.06, 0.2, 2)
    if rng.random() < 0.08:  # on the phone
        elbows[int(rng.random() < 0.5)] = 2.2
    return Pose(
        yaw % (2 * math.pi),
        camera.pitch,
        0.02 * rng.standard_normal(),
        rng.uniform(0, 2 * math.pi),
        stride,
        tuple(elbows),
        tuple(spread),
    )


def render(
    person: Identity | None,
    camera: Camera,
    rng: np.random.Generator,
    level: Level,
    size: tuple[int, int],
    crowd: Sequence[Identity] = (),
    shift: float = 0.0,
    supersample: int = 2,
) -> Picture:
    """Render one detected person; None renders a false alarm of the detector (street only).

    size: (height, width) of the image in pixels. crowd: bystanders are drawn from these people.
    shift: everything stands lower by this fraction of the image height. The same rng state gives the same image.
    """
    canvas = Image.new("L", (size[1] * supersample, size[0] * supersample), 0)
    colours = np.zeros((256, 3), np.uint8)
    pose, height = walk(rng, camera), 1.0 if person is None else person.height
    box = detect(rng, level, height, camera.pitch)
    place = box.placement((canvas.height, canvas.width), shift, camera.light)
    before, other = _bystander(rng, level, crowd, pose, place)
    top = bottom = math.nan
    alone = np.full(len(PART_NAMES), np.nan)
    if other is not None:
        colours |= bystander_colours(other[0])
        if not before:
            draw_person(Pen(canvas, other[2], OTHER), Body(*other))
    if person is not None:
        colours |= colour_table(person)
        body = Body(person, pose, place)
        _draw_shadow(canvas, body)
        draw_person(Pen(canvas, place), body)
        top, bottom = (y / canvas.height for y in body.extent())
        alone = _whole_area(canvas, body)
    occluder = "none"
    if other is not None and before:
        draw_person(Pen(canvas, other[2], OTHER), Body(*other))
        occluder = "person"
    if rng.random() < level.occluder:
        occluder, colours[OCCLUDER : OCCLUDER + 3] = draw_occluder(rng, canvas, shift * canvas.height)
    image, quality = photograph(rng, camera, canvas, colours, size, shift)
    start = supersample // 2
    codes = np.asarray(canvas)[start::supersample, start::supersample]
    codes = np.where(codes == SHADOW, 0, codes).astype(np.uint8)
    visibility = np.minimum(_part_area(canvas) / np.where(alone > 0, alone, np.nan), 1.0)
    return Picture(image, codes, top, bottom, visibility, box.error, occluder, pose.yaw, quality)


def _bystander(rng, level: Level, crowd, pose: Pose, place: Placement):
    """(stands before the person?, (identity, pose, placement) or None)."""
    present, who, front = rng.random() < level.bystander, rng.random(), rng.random() < level.occluder
    yaw, phase, far, aside = rng.random(4)
    side = -1 if rng.random() < 0.5 else 1
    if not present or not crowd:
        return False, None
    if front:
        scale, x, y = 1.08, place.x + side * (0.13 + 0.17 * aside) * place.sx, place.y + 0.03 * place.sy
    else:
        scale = 0.70 + 0.25 * far
        x, y = place.x + side * (0.18 + 0.22 * aside) * place.sx, place.y - 0.2 * (1 - scale) * place.sy
    pose = Pose(2 * math.pi * yaw, pose.pitch, 0.0, 2 * math.pi * phase, pose.stride)
    where = Placement(x, y, place.sx * scale, place.sy * scale, place.light)
    return front, (crowd[int(who * len(crowd))], pose, where)


def _draw_shadow(canvas: Image.Image, body: Body) -> None:
    sx, sy = body.place.sx, body.place.sy
    x, y = body.place.x - body.place.light * 0.07 * sx, body.place.y + 0.005 * sy
    rx, ry = 0.17 * sx, (0.012 + 0.07 * math.sin(body.pose.pitch)) * sy
    ImageDraw.Draw(canvas).ellipse((x - rx, y - ry, x + rx, y + ry), fill=SHADOW)


def _part_area(canvas: Image.Image) -> np.ndarray:
    """[len(PART_NAMES)] canvas pixels of each part of the person."""
    codes = np.array(canvas.histogram())
    return np.bincount(PART_OF_CODE, weights=codes, minlength=len(PART_NAMES) + 1)[1:]


def _whole_area(canvas: Image.Image, body: Body) -> np.ndarray:
    """[len(PART_NAMES)] canvas pixels that each part would have, neither occluded nor cut off by the box."""
    top, bottom = body.extent()
    xs = [p.x for leg in body.legs for p in (leg.knee, leg.toe, leg.heel)] + [
        p.x for arm in body.arms for p in (arm.elbow, arm.hand)
    ]
    margin = 0.07 * body.place.sx
    if top >= 0 and bottom < canvas.height and min(xs) >= margin and max(xs) < canvas.width - margin:
        return _part_area(canvas)  # the box holds the whole body
    scale = 96 / (bottom - top)  # draw it again, small, on a canvas that does
    half = round((max(xs) - min(xs) + 6 * margin) * scale / 2)
    middle = (max(xs) + min(xs)) / 2
    small = Image.new("L", (2 * half, 100))
    place = body.place
    moved = Placement(
        (place.x - middle) * scale + half,
        (place.y - top) * scale + 2,
        place.sx * scale,
        place.sy * scale,
        place.light,
    )
    draw_person(Pen(small, moved), Body(body.person, body.pose, moved))
    return _part_area(small) / scale**2


def photograph(
    rng: np.random.Generator,
    camera: Camera,
    canvas: Image.Image,
    colours: np.ndarray,
    size: tuple[int, int],
    shift: float = 0.0,
) -> tuple[np.ndarray, float]:
    """Colour the canvas and see it through a camera: -> (image [H, W, 3] uint8, quality in [0, 1])."""
    H, W = size
    factor = canvas.height // H
    fx, fy = int(rng.random() * 60), int(rng.random() * 60)
    painted = canvas.copy()
    painted.putpalette(colours.tobytes())
    figure = np.asarray(painted.convert("RGB").reduce(factor), np.float32)  # [H, W, 3]
    opaque = np.asarray(canvas.point(_OPAQUE).reduce(factor), np.float32)[..., None] / 255  # [H, W, 1]
    street = _crop_street(rng, camera, size, shift)
    if camera.folds:
        figure = figure * (1 + camera.folds * camera.fold_field[fy : fy + H, fx : fx + W])
    image = figure + street * (1 - opaque)
    image = _expose(rng, camera, image)
    sharp = camera.resolution * rng.uniform(0.75, 1.10)
    blur = camera.blur * rng.uniform(0.5, 1.5)
    photo = Image.fromarray(image)
    if sharp < 0.9:
        small = (max(12, int(W * sharp)), max(24, int(H * sharp)))
        photo = photo.resize(small, Image.Resampling.BILINEAR).resize((W, H), Image.Resampling.BILINEAR)
    if blur > 0.35:
        photo = photo.filter(ImageFilter.BoxBlur(0.8 * blur * max(1.0, H / 192)))
    if camera.noise:
        noisy = np.asarray(photo, np.float32) + camera.noise * camera.noise_field[fx : fx + H, fy : fy + W]
        image = np.clip(noisy, 0, 255).astype(np.uint8)
    else:
        image = np.asarray(photo)
    return image, 1.0 - 0.5 * (sharp < 0.55) - 0.3 * (blur > 0.8)


def _crop_street(rng: np.random.Generator, camera: Camera, size: tuple[int, int], shift: float) -> np.ndarray:
    """[H, W, 3] of a street whose houses end between the top and the middle of the image."""
    H, W = size
    scene = camera.scenes[int(rng.random() * len(camera.scenes))]
    x = int(rng.random() * (scene.shape[1] - W))
    y = round((GROUND - 0.05 - 0.5 * rng.random()) * H) - round(shift * H)
    return scene[y : y + H, x : x + W]


def _expose(rng: np.random.Generator, camera: Camera, image: np.ndarray) -> np.ndarray:
    """Light gradients, saturation, cast, gain and gamma: [H, W, 3] float -> uint8."""
    H, W = image.shape[:2]
    overall, sideways, down = camera.uneven * (rng.random(3) - 0.5)
    across = 1 + 0.25 * overall + np.linspace(-0.36, 0.36, W, dtype=np.float32) * sideways
    along = 1 + np.linspace(-0.2, 0.2, H, dtype=np.float32) * down
    light = (along[:, None] * across[None, :])[..., None]  # [H, W, 1]
    gain = camera.cast * (camera.gain * (1 + 0.12 * camera.uneven * rng.standard_normal()))
    grey = image.mean(2, keepdims=True)
    image = (grey + (image - grey) * camera.saturation) * light * gain.astype(np.float32)
    exposed = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    if camera.gamma == 1.0:
        return exposed
    curve = 255 * (np.arange(256) / 255) ** camera.gamma
    return curve.astype(np.uint8)[exposed]
