"""Cameras: each has its own street, light, colour cast, sharpness and noise.

Two cameras show the same red coat as orange and as brown; colours alone do not tell who it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

GROUND = 1.0  # where a street meets its houses, in image heights from the top of the scene
SCENE_SIZE = (2.2, 6.0)  # height and width of a scene in image heights and widths


@dataclass(frozen=True, eq=False)
class Camera:
    """How one camera sees.

    cast: [3] gain of R, G, B. gain, gamma, saturation: exposure and colour. uneven: strength of light gradients.
    blur: box radius in pixels of a 128 pixel high image. noise: standard deviation in grey values.
    resolution: images are reduced by about this factor and enlarged again. folds: strength of cloth texture.
    pitch: how steeply it looks down; yaw: the side from which it sees most people (radians); light: -1 or 1.
    scenes: streets [h, w, 3] float32, noise_field and fold_field: larger than an image, cropped at random.
    """

    cast: np.ndarray
    gain: float
    gamma: float
    saturation: float
    uneven: float
    blur: float
    noise: float
    resolution: float
    folds: float
    pitch: float
    yaw: float
    light: int
    scenes: tuple[np.ndarray, ...]
    noise_field: np.ndarray
    fold_field: np.ndarray


@lru_cache(maxsize=8)
def make_cameras(count: int, seed: int, height: int, width: int) -> tuple[Camera, ...]:
    """The cameras of a data set; camera c is the same whatever the count."""
    return tuple(_make_camera(c, seed, height, width) for c in range(count))


def _make_camera(c: int, seed: int, height: int, width: int) -> Camera:
    rng = np.random.default_rng([seed, 77, c])
    cast = np.clip(rng.normal(1, 0.11, 3), 0.78, 1.25)
    return Camera(
        cast=(cast / cast.mean()).astype(np.float32),
        gain=rng.uniform(0.68, 1.25),
        gamma=rng.uniform(0.8, 1.25),
        saturation=rng.uniform(0.55, 1.1),
        uneven=1.0,
        blur=rng.uniform(0.2, 0.9),
        noise=rng.uniform(2, 7),
        resolution=rng.uniform(0.5, 1.0),
        folds=0.05,
        pitch=rng.uniform(0.0, 0.35),
        yaw=rng.uniform(0, 2 * math.pi),
        light=1 if rng.random() < 0.5 else -1,
        scenes=tuple(make_street(np.random.default_rng([seed, 78, c, k]), height, width) for k in range(2)),
        noise_field=rng.normal(0, 1, (height + 64, width + 64, 3)).astype(np.float32),
        fold_field=_smooth_noise(rng, height + 64, width + 64, max(3, height // 20)),
    )


def clean_camera(height: int, width: int, grey: int = 128, pitch: float = 0.1) -> Camera:
    """A perfect camera before a grey wall: no cast, blur, noise or texture; colours are those of the clothes."""
    wall = np.full((round(SCENE_SIZE[0] * height), round(SCENE_SIZE[1] * width), 3), grey, np.float32)
    none = np.zeros((height + 64, width + 64, 3), np.float32)
    return Camera(
        cast=np.ones(3, np.float32),
        gain=1.0,
        gamma=1.0,
        saturation=1.0,
        uneven=0.0,
        blur=0.0,
        noise=0.0,
        resolution=2.0,
        folds=0.0,
        pitch=pitch,
        yaw=0.0,
        light=1,
        scenes=(wall,),
        noise_field=none,
        fold_field=none[..., :1],
    )


def _smooth_noise(rng: np.random.Generator, height: int, width: int, grain: int) -> np.ndarray:
    """[height, width, 1] float32 smooth noise with standard deviation about 1 and blobs of `grain` pixels."""
    coarse = rng.normal(0, 1.4, (height // grain + 2, width // grain + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))[..., None]


class _Street:
    """Draws a street, in units of 1/128 of an image height."""

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng, self.unit = rng, height / 128
        self.h, self.w = round(SCENE_SIZE[0] * height), round(SCENE_SIZE[1] * width)
        self.ground = round(GROUND * height)
        sky = np.clip(rng.uniform(110, 200) + rng.normal(0, 14, 3), 40, 235)
        self.image = Image.new("RGB", (self.w, self.h), tuple(sky.astype(int)))
        self.draw = ImageDraw.Draw(self.image)

    def paint(self, low: float = 40, high: float = 220, spread: float = 15) -> tuple[int, ...]:
        rng = self.rng
        return tuple(int(v) for v in np.clip(rng.uniform(low, high) + rng.normal(0, spread, 3), 0, 255))

    def between(self, low: float, high: float) -> float:
        """A random length, given in units, returned in pixels."""
        return self.rng.uniform(low, high) * self.unit

    def house(self) -> None:
        rng, top = self.rng, self.ground - self.between(40, 150)
        left = rng.uniform(-0.1, 1) * self.w
        right = left + self.between(30, 110)
        self.draw.rectangle((left, top, right, self.ground), fill=self.paint())
        if rng.random() < 0.75:
            pane, s = self.paint(20, 200), self.between(8, 17)
            for y in np.arange(top + 0.4 * s, self.ground - 1.3 * s, 1.4 * s):
                for x in np.arange(left + 0.3 * s, right - 0.8 * s, 1.1 * s):
                    self.draw.rectangle((x, y, x + 0.55 * s, y + 0.8 * s), fill=pane)
        if rng.random() < 0.4:  # awning and shop window
            y = self.ground - self.between(26, 36)
            self.draw.rectangle((left, y, right, y + 5 * self.unit), fill=self.paint(60, 220, 40))
            self.draw.rectangle(
                (left + 4 * self.unit, y + 6 * self.unit, right - 4 * self.unit, self.ground),
                fill=self.paint(30, 110),
            )

    def pavement(self) -> None:
        rng, vanish = self.rng, self.rng.uniform(0.2, 0.8) * self.w
        tone = np.clip(rng.uniform(75, 170) + rng.normal(0, 9, 3), 30, 220)
        self.draw.rectangle((0, self.ground, self.w, self.h), fill=tuple(tone.astype(int)))
        dark = tuple(int(v) for v in tone * rng.uniform(0.8, 0.93))
        for x in np.linspace(-self.w, 2 * self.w, 24):  # joints meet at the horizon
            self.draw.line(
                ((vanish + 0.25 * (x - vanish), self.ground), (x, self.h)),
                fill=dark,
                width=max(1, round(self.unit)),
            )
        y, step = float(self.ground), 4 * self.unit
        while y < self.h:
            self.draw.line(((0, y), (self.w, y)), fill=dark, width=max(1, round(self.unit)))
            y, step = y + step, step * 1.35
        for _ in range(3):  # kerbs and lane marks
            y = rng.uniform(self.ground, self.h)
            self.draw.line(
                ((0, y), (self.w, y + self.between(-12, 12))),
                fill=self.paint(60, 215, 8),
                width=max(1, round(self.between(1, 5))),
            )

    def tree(self) -> None:
        rng, x, foot = self.rng, self.rng.uniform(0, 1) * self.w, self.ground + self.between(0, 40)
        tall, size, u = self.between(50, 100), self.between(14, 34), self.unit
        self.draw.rectangle((x - 3 * u, foot - tall, x + 3 * u, foot), fill=(80, 60, 44))
        green = np.array((rng.uniform(25, 75), rng.uniform(70, 130), rng.uniform(25, 60)))
        for _ in range(16):
            a, b, r = rng.normal(x, size * 0.5), rng.normal(foot - tall, size * 0.5), size * 0.35
            self.draw.ellipse((a - r, b - r, a + r, b + r), fill=tuple(int(v) for v in green * rng.uniform(0.75, 1.2)))

    def car(self) -> None:
        x, base, u = self.rng.uniform(-0.1, 1) * self.w, self.ground + self.between(4, 22), self.unit
        paint, long, tall = self.paint(30, 230, 40), self.between(60, 90), self.between(15, 20)
        self.draw.rounded_rectangle((x, base - tall, x + long, base), radius=4 * u, fill=paint)
        self.draw.rounded_rectangle(
            (x + 0.2 * long, base - 1.8 * tall, x + 0.78 * long, base - 0.9 * tall),
            radius=4 * u,
            fill=(58, 66, 76),
        )
        for at in (0.2, 0.78):
            wheel = x + at * long
            self.draw.ellipse((wheel - 5 * u, base - 5 * u, wheel + 5 * u, base + 5 * u), fill=(28, 28, 30))

    def post(self) -> None:
        x, foot, wide = self.rng.uniform(0, 1) * self.w, self.ground + self.between(0, 30), self.between(2, 6)
        self.draw.rectangle((x, foot - self.between(60, 130), x + wide, foot), fill=self.paint(30, 160, 6))


def make_street(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A street to crop backgrounds from: [2.2 height, 6 width, 3] float32 in 0..255."""
    street = _Street(rng, height, width)
    for _ in range(14):
        street.house()
    street.pavement()
    for thing, count in ((street.tree, 5), (street.car, 4), (street.post, 5)):
        for _ in range(count):
            thing()
    image = street.image.filter(ImageFilter.GaussianBlur(0.8 * street.unit))
    rough = _smooth_noise(rng, street.h, street.w, max(1, round(2 * street.unit)))
    return np.clip(np.asarray(image, np.float32) + 4 * rough, 0, 255)
