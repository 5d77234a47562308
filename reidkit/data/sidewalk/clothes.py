"""Dresses a body: legs and lower garments, torso and upper garments, arms; paints them back to front."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from reidkit.data.sidewalk.accessories import draw_backpack, draw_crossbody, draw_handbag, draw_straps
from reidkit.data.sidewalk.body import Arm, Body, Leg, Pen
from reidkit.data.sidewalk.head import draw_head

# Outline of the torso: height v (0 shoulder line, 1 hem) -> half width in shoulder or hip widths, see `Torso`.
OUTLINE_V = (0.0, 0.03, 0.09, 0.35, 0.6, 0.8, 1.0)


def draw_person(pen: Pen, body: Body) -> None:
    """Draw one person on the pen's canvas: painter's algorithm over whole limbs."""
    for draw, piece in layers_of(body):
        draw(pen, body) if piece is None else draw(pen, body, piece)


def layers_of(body: Body) -> list[tuple[Callable[..., None], Any]]:
    """The pieces of a person from back to front: (what draws it, what it draws: a leg, an arm, the torso or None)."""
    torso, bag = Torso(body), body.person.bag
    layers: list[tuple[float, Callable[..., None], Any]]  # depth, what draws, what it draws
    layers = [(-0.5 + 0.1 * (leg.knee.depth + leg.ankle.depth), draw_leg, leg) for leg in body.legs]
    layers += [(0.02, draw_lower, torso), (0.04, draw_torso, torso), (0.055, draw_head, None)]
    lift = 0.045 if body.cos > 0.5 else 0.03  # arms of a frontal body hang before the torso
    layers += [(arm.depth + lift, draw_arm, arm) for arm in body.arms]
    if bag == "backpack":
        layers.append((-(body.depth + 0.055 * body.height) * body.cos, draw_backpack, torso))
    if bag == "crossbody":
        side = body.person.bag_side * (body.hip + 0.035 * body.height)
        layers.append((-side * body.sin + 0.06, draw_crossbody, torso))
    return [(draw, piece) for _, draw, piece in sorted(layers, key=lambda layer: layer[0])]


# ------------------------------------------------------------------------------------------------- legs


def draw_leg(pen: Pen, body: Body, leg: Leg) -> None:
    """One leg: skin or trousers, sock, shoe or boot."""
    person, r = body.person, body.person.limb * body.height
    skin, shoe, far = f"leg_{leg.side}", f"shoe_{leg.side}", leg.far
    garment = "none" if person.outer == "dress" else person.lower_garment
    long = garment == "trousers"
    pen.limb(
        leg.knee,
        leg.ankle,
        0.040 * r,
        0.027 * r * (person.flare if long else 1),
        "pants" if long else skin,
        far,
    )
    if not long and person.socks:
        pen.limb(_between(leg.knee, leg.ankle, 0.6), leg.ankle, 0.031 * r, 0.028 * r, "sock", far)
    if garment in ("trousers", "shorts"):
        end = 0.042 if long else 0.050
        pen.limb(leg.hip, leg.knee, 0.056 * r, end * r, "pants", far)
    else:
        pen.limb(leg.hip, leg.knee, 0.054 * r, 0.040 * r, skin, far)
    if long and person.side_stripe:
        pen.limb(leg.hip, leg.knee, 0.010 * r, 0.009 * r, "stripe", far, shaded=False)
        pen.limb(leg.knee, leg.ankle, 0.009 * r, 0.008 * r, "stripe", far, shaded=False)
    if person.boots:
        pen.limb(_between(leg.knee, leg.ankle, 0.45), leg.ankle, 0.038 * r, 0.031 * r, shoe, far)
    _draw_shoe(pen, body, leg, shoe)


def _draw_shoe(pen: Pen, body: Body, leg: Leg, shoe: str) -> None:
    H = body.height
    pen.limb(leg.heel, leg.toe, 0.026 * H, 0.019 * H, shoe, leg.far)
    pen.limb(leg.ankle, leg.heel, 0.024 * H, 0.026 * H, shoe, leg.far, shaded=False)
    under = [(leg.heel.x, leg.heel.y + 0.021 * H * pen.sy), (leg.toe.x, leg.toe.y + 0.014 * H * pen.sy)]
    pen.line(under, 0.012 * H, f"sole_{leg.side}", 1 if leg.far else 2)


def _between(a, b, t: float) -> tuple[float, float]:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


# ------------------------------------------------------------------------------------------------ torso


class Torso:
    """The torso as a surface: u in [-1, 1] across what is seen, v in [0, 1] from shoulder line to hem."""

    def __init__(self, body: Body):
        self.body = body
        s, h, d = body.shoulder, body.hip, body.depth
        widths = (s * 0.50, s * 0.80, s * 1.0, s * 0.90, s * 0.80, (s * 0.4 + h * 0.6), h * 1.08)
        depths = (d * 0.55, d * 0.80, d, d, d * 0.92, d * 0.95, d)
        self._half = [body.half_width(w, z) for w, z in zip(widths, depths)]

    def half(self, v: float) -> float:
        """Half width at height v, body units."""
        for i in range(1, len(OUTLINE_V)):
            if v <= OUTLINE_V[i]:
                t = (v - OUTLINE_V[i - 1]) / (OUTLINE_V[i] - OUTLINE_V[i - 1])
                return self._half[i - 1] + t * (self._half[i] - self._half[i - 1])
        return self._half[-1]

    def point(self, u: float, v: float) -> tuple[float, float]:
        """The canvas pixel of a point on the torso."""
        body = self.body
        centre = body.at(0.0, body.shoulder_y + v * (body.hem_y - body.shoulder_y), 0.0)
        return centre.x + u * self.half(v) * body.place.sx, centre.y

    def patch(self, u0: float, u1: float, v0: float, v1: float) -> list[tuple[float, float]]:
        """A region of the surface as a polygon that follows the outline."""
        vs = [v0, *(v for v in OUTLINE_V if v0 < v < v1), v1]
        return [self.point(u0, v) for v in vs] + [self.point(u1, v) for v in reversed(vs)]

    def across(self, angle: float) -> float | None:
        """u of a vertical line at this angle around the body (0 = front), None when it is on the far side."""
        angle += self.body.pose.yaw
        return math.sin(angle) if math.cos(angle) > 0.1 else None


def draw_torso(pen: Pen, body: Body, torso: Torso) -> None:
    """Shirt with its pattern, or dress, or coat over a shirt."""
    person = body.person
    garment = {"none": "upper", "coat": "coat", "dress": "dress"}[person.outer]
    pen.poly(torso.patch(-1, 1, 0, 1), garment)
    if garment == "upper":
        draw_pattern(pen, torso)
    elif garment == "coat":
        _draw_coat_tail(pen, body, torso)
        left, right = torso.across(-0.38), torso.across(0.38)
        if left is not None or right is not None:  # the open front shows the shirt
            u0, u1 = (-0.97 if left is None else left), (0.97 if right is None else right)
            pen.poly(torso.patch(u0, u1, 0.03, 1), "upper")
    else:  # the belt of a dress
        middle, half = body.at(0, body.hem_y + 0.06 * body.height, 0), torso.half(0.85) * pen.sx
        pen.line([(middle.x - half, middle.y), (middle.x + half, middle.y)], 0.016, "strap")
    if garment != "upper" or person.pattern in ("plain", "logo"):
        lit = pen.place.light
        pen.poly(torso.patch(0.72 * lit, lit, 0.02, 1), garment, 3)
        pen.poly(torso.patch(-0.62 * lit, -lit, 0.02, 1), garment, 1)
    draw_straps(pen, body, torso)


def draw_pattern(pen: Pen, torso: Torso) -> None:
    """The second colour of a shirt. Vertical stripes and the logo turn with the body."""
    person, pattern, lit = torso.body.person, torso.body.person.pattern, pen.place.light

    def band(v0: float, v1: float) -> None:
        pen.poly(torso.patch(-1, 1, v0, v1), "pattern")
        pen.poly(torso.patch(-0.62 * lit, -lit, v0, v1), "pattern", 1)

    if pattern in ("rings", "stripes", "check", "halves"):
        pen.poly(torso.patch(-0.62 * lit, -lit, 0.02, 1), "upper", 1)
    if pattern == "rings":
        for k in range(5):
            band(0.08 + 0.19 * k, 0.17 + 0.19 * k)
    elif pattern == "halves":
        band(0.0, 0.38)
    if pattern in ("stripes", "check"):
        for k in range(12):
            angle = 2 * math.pi * k / 12 + 0.2
            u0, u1 = torso.across(angle - 0.1), torso.across(angle + 0.1)
            if u0 is not None and u1 is not None:
                pen.poly(torso.patch(u0, u1, 0.03, 0.98), "pattern")
    if pattern == "check":
        for k in range(4):
            pen.poly(torso.patch(-0.97, 0.97, 0.12 + 0.23 * k, 0.18 + 0.23 * k), "pattern")
    if pattern == "logo":
        angle = (math.pi if person.logo_behind else 0.0) + torso.body.pose.yaw
        if math.cos(angle) > 0.15:
            u0, u1 = max(-1.0, math.sin(angle - 0.5)), min(1.0, math.sin(angle + 0.5))
            pen.poly(torso.patch(u0, u1, person.logo_at, person.logo_at + 0.24), "pattern")


# ------------------------------------------------------------------------------------------------ lower


def draw_lower(pen: Pen, body: Body, torso: Torso) -> None:
    """The seat of the trousers, or a skirt, or the lower half of a dress."""
    person, H = body.person, body.height
    name = "dress_tail" if person.outer == "dress" else "skirt" if person.lower_garment == "skirt" else "pants"
    waist = body.half_width(body.hip * 1.05, body.depth * 0.95)
    _flared(pen, body, name, body.hip_y + 0.02 * H, body.hip_y - 0.07 * H, waist, waist * 0.97)
    if name != "pants":
        step = 0.35 * body.thigh * body.pose.stride  # the cloth follows the stride
        hem = body.half_width(body.hip * 1.45, body.depth * 1.45 + step)
        _flared(pen, body, name, body.hip_y + 0.02 * H, body.hip_y - 0.85 * body.thigh, waist, hem)


def _draw_coat_tail(pen: Pen, body: Body, torso: Torso) -> None:
    waist = torso.half(1.0)
    _flared(pen, body, "coat_tail", body.hem_y + 0.004, body.hip_y - 0.72 * body.thigh, waist, waist * 1.22)


def _flared(pen: Pen, body: Body, name: str, y0: float, y1: float, w0: float, w1: float) -> None:
    """Cloth between two heights (body units) with half widths w0, w1: mid tone, shaded side, one fold."""
    a, b = body.at(0, y0, 0), body.at(0, y1, 0)

    def strip(u0: float, u1: float, shade: int) -> None:
        corners = ((a, w0 * u0), (a, w0 * u1), (b, w1 * u1), (b, w1 * u0))
        pen.poly([(p.x + w * pen.sx, p.y) for p, w in corners], name, shade)

    lit = pen.place.light
    strip(-1, 1, 2)
    strip(-lit, -0.55 * lit, 1)
    strip(0.78 * lit, lit, 3)
    strip(-0.05 * lit, 0.03 * lit, 1)


# ------------------------------------------------------------------------------------------------- arms


def draw_arm(pen: Pen, body: Body, arm: Arm) -> None:
    """One arm with its sleeve, hand, and a handbag when it carries one. Short sleeves end above the elbow."""
    person, H, r = body.person, body.height, body.person.limb * body.height
    skin = f"arm_{arm.side}"
    sleeve = {"none": "sleeve", "coat": "coat_sleeve", "dress": "dress_sleeve"}[person.outer]
    if person.bag == "handbag" and (arm.side == "left") == (person.bag_side > 0):
        draw_handbag(pen, body, arm.hand)
    rx, ry = 0.020 * H * pen.sx, 0.026 * H * pen.sy
    pen.disc(arm.hand.x, arm.hand.y + 0.4 * ry, rx, ry, skin, 1 if arm.far else 2)
    if person.sleeve == "long" or person.outer == "coat":
        pen.limb(arm.elbow, arm.hand, 0.031 * r, 0.023 * r, sleeve, arm.far)
        pen.limb(arm.shoulder, arm.elbow, 0.040 * r, 0.034 * r, sleeve, arm.far)
    else:
        pen.limb(arm.elbow, arm.hand, 0.029 * r, 0.021 * r, skin, arm.far)
        pen.limb(arm.shoulder, arm.elbow, 0.036 * r, 0.030 * r, skin, arm.far)
        pen.limb(arm.shoulder, _between(arm.shoulder, arm.elbow, 0.62), 0.042 * r, 0.044 * r, sleeve, arm.far)
