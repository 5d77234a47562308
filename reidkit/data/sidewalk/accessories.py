"""Backpacks, handbags, crossbody bags and their straps: what a human parser ignores (MPN Fig. 4a)."""

from __future__ import annotations

from reidkit.data.sidewalk.body import Body, Pen, Point


def draw_backpack(pen: Pen, body: Body, torso) -> None:
    """A backpack on the back: in full from behind, half hidden from the side."""
    H, depth = body.height, body.depth + 0.055 * body.height
    middle = body.at(0, (body.shoulder_y + body.hem_y) / 2 + 0.01 * H, -depth)
    w, h = body.half_width(body.shoulder * 0.80, 0.075 * H) * pen.sx, 0.125 * H * pen.sy
    x, y, code = middle.x, middle.y, pen.code
    pen.draw.rounded_rectangle((x - w, y - h, x + w, y + h), radius=max(2.0, w * 0.3), fill=code("backpack"))
    pocket = (x - w * 0.62, y + h * 0.15, x + w * 0.62, y + h * 0.8)
    pen.draw.rounded_rectangle(pocket, radius=max(1.0, w * 0.2), fill=code("backpack", 1))
    lit = pen.place.light
    edges = sorted((x + lit * w * 0.72, x + lit * w * 0.92))
    pen.draw.rectangle((edges[0], y - h * 0.8, edges[1], y + h * 0.8), fill=code("backpack", 3))


def draw_crossbody(pen: Pen, body: Body, torso) -> None:
    """A bag at the hip."""
    H = body.height
    middle = body.at(body.person.bag_side * (body.hip + 0.035 * H), body.hip_y + 0.03 * H, 0.01)
    w, h = body.half_width(0.035 * H, 0.085 * H) * pen.sx, 0.065 * H * pen.sy
    x, y = middle.x, middle.y
    pen.draw.rounded_rectangle((x - w, y - h, x + w, y + h), radius=max(1.0, w * 0.15), fill=pen.code("bag"))
    pen.draw.rectangle((x - w, y - h, x + w, y - h * 0.3), fill=pen.code("bag", 1))  # flap


def draw_handbag(pen: Pen, body: Body, hand: Point) -> None:
    """A bag that hangs from the hand."""
    H, top = body.height, hand.y + 0.02 * body.height * pen.sy
    w, h = max(0.060 * abs(body.sin), 0.034) * H * pen.sx, 0.105 * H * pen.sy
    x = hand.x
    pen.poly([(x - w, top), (x + w, top), (x + w * 1.25, top + h), (x - w * 1.25, top + h)], "bag")
    dark = -pen.place.light
    pen.poly(
        [
            (x + dark * w * 0.5, top),
            (x + dark * w, top),
            (x + dark * w * 1.25, top + h),
            (x + dark * w * 0.6, top + h),
        ],
        "bag",
        1,
    )
    pen.line([(x - w * 0.6, top), (x, hand.y), (x + w * 0.6, top)], 0.012, "strap")


def draw_straps(pen: Pen, body: Body, torso) -> None:
    """Shoulder straps of a backpack (seen from the front) and the band of a crossbody bag (from all sides)."""
    bag = body.person.bag
    if bag == "crossbody":
        side = body.person.bag_side * (1 if body.cos >= 0 else -1)
        end = side * 0.9 * max(0.3, abs(body.cos))
        pen.line([torso.point(-side * 0.6, 0.03), torso.point(end, 0.95)], 0.022, "strap")
    elif bag == "backpack" and body.cos > -0.1:
        for side in (-1, 1):
            u = max(-0.9, min(0.9, side * 0.55 * body.cos + 0.6 * body.sin))
            pen.line([torso.point(u * 0.8, 0.02), torso.point(u, 0.55)], 0.026, "strap")
