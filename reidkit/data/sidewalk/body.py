"""A 2.5-D walking body: joints in three dimensions, seen from any side, drawn as flat pieces on a code canvas.

Body space: x to the person's left, y up from the ground, z the way the person faces; one unit is the mean body
height. At yaw 0 the person faces the camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from PIL import ImageDraw

from reidkit.data.sidewalk.identity import Identity
from reidkit.data.sidewalk.labels import FRAGMENT_ID, SHADES


@dataclass(frozen=True)
class Pose:
    """yaw: rotation about the vertical, pitch: how steeply the camera looks down, lean: sideways lean (radians).

    phase: where in the walking cycle (0 .. 2 pi), stride: length of the steps (0 stands, 1 strides).
    elbows, spread: bend of the elbows and angle between arms and body, (left, right), radians.
    """

    yaw: float
    pitch: float = 0.0
    lean: float = 0.0
    phase: float = 0.0
    stride: float = 0.7
    elbows: tuple[float, float] = (0.3, 0.3)
    spread: tuple[float, float] = (0.1, 0.1)


@dataclass(frozen=True)
class Placement:
    """Where a body stands on a canvas: ground point (x, y) in pixels, pixels per unit (sx, sy), light from +-1."""

    x: float
    y: float
    sx: float
    sy: float
    light: int = 1


class Point(NamedTuple):
    """A projected joint: canvas pixels x (right) and y (down), and depth towards the camera in body units."""

    x: float
    y: float
    depth: float


class Pen:
    """Draws pieces of one body on a canvas of fragment codes."""

    def __init__(self, canvas, place: Placement, offset: int = 0):
        self.draw = ImageDraw.Draw(canvas)
        self.place, self.offset = place, offset
        self.sx, self.sy = place.sx, place.sy

    def code(self, fragment: str, shade: int = 2) -> int:
        """The code of a fragment of this body."""
        return self.offset + SHADES * FRAGMENT_ID[fragment] + shade

    def poly(self, points, fragment: str, shade: int = 2) -> None:
        """A filled polygon; points are (x, y) pixels."""
        self.draw.polygon([(p[0], p[1]) for p in points], fill=self.code(fragment, shade))

    def disc(self, x: float, y: float, rx: float, ry: float, fragment: str, shade: int = 2) -> None:
        """A filled ellipse with its centre and half axes in pixels."""
        self.draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=self.code(fragment, shade))

    def line(self, points, width: float, fragment: str, shade: int = 2) -> None:
        """A line `width` body units thick, at least one pixel."""
        width = max(1, round(width * self.sx))
        self.draw.line([(p[0], p[1]) for p in points], fill=self.code(fragment, shade), width=width)

    def limb(self, a, b, ra: float, rb: float, fragment: str, far: bool = False, shaded: bool = True) -> None:
        """A tapered limb from pixel a to pixel b with half widths ra, rb in body units; far limbs lie in shade."""
        base = 1 if far else 2
        nx, ny = (b[1] - a[1]) / self.sy, -(b[0] - a[0]) / self.sx  # the normal, in body units
        length = math.hypot(nx, ny) + 1e-9
        nx, ny = nx / length * self.sx, ny / length * self.sy

        def strip(f0: float, f1: float, shade: int) -> None:
            corners = ((a, ra * f0), (b, rb * f0), (b, rb * f1), (a, ra * f1))
            self.poly([(p[0] + nx * r, p[1] + ny * r) for p, r in corners], fragment, shade)

        self.disc(a[0], a[1], ra * self.sx, ra * self.sy, fragment, base)
        self.disc(b[0], b[1], rb * self.sx, rb * self.sy, fragment, base)
        strip(-1, 1, base)
        if shaded and ra * self.sx > 3:
            lit = self.place.light if nx > 0 else -self.place.light
            strip(-lit, -0.45 * lit, base - 1)
            strip(0.55 * lit, lit, base + 1)


@dataclass(frozen=True)
class Leg:
    """Joints of one leg, and whether it is the one further from the camera."""

    side: str
    hip: Point
    knee: Point
    ankle: Point
    heel: Point
    toe: Point
    far: bool


@dataclass(frozen=True)
class Arm:
    """Joints of one arm."""

    side: str
    shoulder: Point
    elbow: Point
    hand: Point
    far: bool

    @property
    def depth(self) -> float:
        """Mean depth, decides whether the arm is drawn before or after the torso."""
        return (self.shoulder.depth + self.elbow.depth + self.hand.depth) / 3


class Body:
    """The joints of a person in a pose at a place, projected to canvas pixels."""

    def __init__(self, person: Identity, pose: Pose, place: Placement):
        self.person, self.pose, self.place = person, pose, place
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self._cos_pitch, self._sin_pitch = math.cos(pose.pitch), math.sin(pose.pitch)
        H = person.height
        self.height = H
        self.hip_y = person.leg * H
        self.neck_y = H - 2.3 * person.head * H
        self.shoulder_y = self.neck_y - 0.012 * H
        self.hem_y = self.hip_y - 0.02 * H  # lower end of the torso
        self.shoulder, self.hip, self.depth = person.shoulder * H, person.hip * H, person.depth * H
        self.thigh, self.shin = 0.50 * self.hip_y, 0.46 * self.hip_y
        self.head_r = person.head * H
        self.head = self.at(0, H - self.head_r * 1.05, 0.01 * pose.stride)
        self.neck = self.at(0, self.neck_y, 0)
        near = 1 if self.sin < 0 else -1  # side of the body nearer to the camera: +1 left
        self.legs = [self._leg(side, far=abs(self.sin) > 0.35 and side != near) for side in (-1, 1)]
        self.arms = [self._arm(side, far=abs(self.sin) > 0.35 and side != near) for side in (-1, 1)]

    def at(self, x: float, y: float, z: float) -> Point:
        """Project a point of body space to the canvas."""
        x += self.pose.lean * y
        across, depth = x * self.cos + z * self.sin, z * self.cos - x * self.sin
        up = y * self._cos_pitch - depth * self._sin_pitch
        return Point(self.place.x + across * self.place.sx, self.place.y - up * self.place.sy, depth)

    def half_width(self, width: float, depth: float) -> float:
        """Half width on the canvas, in body units, of an elliptic cross-section seen at this yaw."""
        return math.hypot(width * self.cos, depth * self.sin)

    def _swing(self, side: int) -> float:
        return self.pose.phase + (0 if side > 0 else math.pi)

    def _leg(self, side: int, far: bool) -> Leg:
        """Hip and knee follow two sine waves half a cycle apart; the knee bends while the leg swings forward."""
        H, swing = self.height, self._swing(side)
        a = 0.48 * self.pose.stride * math.sin(swing)  # thigh against the vertical
        b = a - 0.75 * self.pose.stride * max(0.0, math.cos(swing + 0.3)) - 0.03  # shin
        x = side * self.hip * 0.52
        knee = (x, self.hip_y - self.thigh * math.cos(a), self.thigh * math.sin(a))
        ankle = (x * 0.95, knee[1] - self.shin * math.cos(b), knee[2] + self.shin * math.sin(b))
        tip = ankle[1] - 0.042 * H + 0.03 * math.sin(-b)
        toe = (ankle[0] + side * 0.012, max(tip, -0.005), ankle[2] + 0.085 * H * math.cos(b))
        heel = (ankle[0], ankle[1] - 0.022 * H, ankle[2] - 0.022 * H)
        joints = (self.at(*p) for p in ((x, self.hip_y, 0.0), knee, ankle, heel, toe))
        return Leg("left" if side > 0 else "right", *joints, far=far)

    def _arm(self, side: int, far: bool) -> Arm:
        """Arms swing against the legs."""
        H, index = self.height, 0 if side > 0 else 1
        a = -0.55 * self.pose.stride * math.sin(self._swing(side))
        b, out = a + self.pose.elbows[index], self.pose.spread[index]
        upper, fore = 0.155 * H, 0.145 * H
        top = (side * self.shoulder * 0.90, self.shoulder_y - 0.030 * H, 0.0)
        elbow = (
            top[0] + side * upper * math.sin(out),
            top[1] - upper * math.cos(a) * math.cos(out),
            upper * math.sin(a),
        )
        hand = (
            elbow[0] + side * fore * math.sin(0.6 * out),
            elbow[1] - fore * math.cos(b),
            elbow[2] + fore * math.sin(b),
        )
        return Arm("left" if side > 0 else "right", *(self.at(*p) for p in (top, elbow, hand)), far=far)

    def extent(self) -> tuple[float, float]:
        """(top, bottom) of the whole body in canvas pixels: top of the head to the lowest sole, cut off or not."""
        top = self.head.y - 1.06 * 1.05 * self.head_r * self.place.sy
        thick = self.height * self.place.sy
        sole = max(max(leg.heel.y + 0.026 * thick, leg.toe.y + 0.019 * thick) for leg in self.legs)
        return top, sole
