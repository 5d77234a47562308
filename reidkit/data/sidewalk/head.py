"""Head, hair, hat, sunglasses and scarf."""

from __future__ import annotations

from reidkit.data.sidewalk.body import Body, Pen


def draw_head(pen: Pen, body: Body) -> None:
    """Neck, then hair behind, face, hair before, hat, scarf; `front` is how much of the face is seen."""
    person, head = body.person, body.head
    rx, ry = body.head_r * 0.80 * pen.sx, body.head_r * 1.05 * pen.sy
    style = person.hair_style
    if style == "long" and body.cos > 0:  # falls behind the shoulders
        box = (head.x - rx * 1.15, head.y - ry * 0.5, head.x + rx * 1.15, head.y + ry * 1.5)
        pen.draw.rounded_rectangle(box, radius=rx * 0.5, fill=pen.code("hair", 1))
    _draw_neck(pen, body)
    pen.disc(head.x, head.y, rx, ry, "face")
    if style != "bald":
        grow = 1.28 if style == "curly" else 1.06
        pen.disc(head.x, head.y - (grow - 1.06) * ry * 0.5, rx * grow, ry * min(grow, 1.12), "hair")
        pen.disc(head.x + pen.place.light * rx * 0.35, head.y - ry * 0.55, rx * 0.45, ry * 0.3, "hair", 3)
    _draw_face(pen, body, rx, ry)
    _draw_hair_before(pen, body, rx, ry)
    if person.hat != "none":
        _draw_hat(pen, body, rx, ry)


def _draw_neck(pen: Pen, body: Body) -> None:
    neck, r = body.neck, body.head_r
    half, up, down = r * 0.42 * pen.sx, r * 0.6 * pen.sy, 0.012 * body.height * pen.sy
    pen.draw.rectangle((neck.x - half, neck.y - up, neck.x + half, neck.y + down), fill=pen.code("neck"))
    if body.person.scarf:
        pen.disc(neck.x, neck.y, r * 0.85 * pen.sx, r * 0.42 * pen.sy, "scarf")
        if body.cos > 0:
            end = (neck.x + body.sin * 0.05 * pen.sx, neck.y + 0.11 * body.height * pen.sy)
            pen.limb(neck, end, 0.024, 0.028, "scarf")


def _draw_face(pen: Pen, body: Body, rx: float, ry: float) -> None:
    front, head = body.cos + 0.15, body.head
    if front < 0.12 and abs(body.sin) < 0.75:
        return  # seen from behind
    half = rx * (0.45 + 0.42 * min(1.0, max(0.0, front)))
    x = head.x + body.sin * rx * 0.5
    shaded = -pen.place.light * half * 0.45
    pen.draw.ellipse((x - half, head.y - ry * 0.5, x + half, head.y + ry * 1.02), fill=pen.code("face"))
    pen.disc(x + shaded, head.y + ry * 0.3, half * 0.5, ry * 0.6, "face", 1)
    if abs(body.sin) > 0.6:
        pen.disc(x + body.sin * half, head.y + ry * 0.15, rx * 0.16, ry * 0.12, "face")  # nose
    if body.person.sunglasses:
        pen.disc(x + body.sin * half * 0.3, head.y - ry * 0.02, half * 0.95, ry * 0.16, "sunglasses")
    elif rx > 9:
        for side in (-0.38, 0.38):
            if abs(eye := side * body.cos + body.sin * 0.55) < 0.85:
                pen.disc(x + eye * half, head.y + ry * 0.02, rx * 0.09, ry * 0.07, "face", 0)


def _draw_hair_before(pen: Pen, body: Body, rx: float, ry: float) -> None:
    style, head, back = body.person.hair_style, body.head, -body.sin
    if style == "long" and body.cos <= 0:  # covers the neck
        box = (head.x - rx * 1.12, head.y - ry * 0.4, head.x + rx * 1.12, head.y + ry * 1.9)
        pen.draw.rounded_rectangle(box, radius=rx * 0.5, fill=pen.code("hair"))
    if style == "bun" and body.person.hat == "none":
        pen.disc(head.x + back * rx * 0.9, head.y - ry * 0.95, rx * 0.45, ry * 0.42, "hair", 1)
    if style == "ponytail" and (body.cos < 0.3):
        x = head.x + back * rx * 0.95
        pen.limb((x, head.y - ry * 0.1), (x + back * rx * 0.3, head.y + ry * 1.5), 0.020, 0.012, "hair")


def _draw_hat(pen: Pen, body: Body, rx: float, ry: float) -> None:
    head, cap = body.head, body.person.hat == "cap"
    low = 0.45 if cap else 0.75
    box = (head.x - rx * 1.16, head.y - ry * 1.2, head.x + rx * 1.16, head.y + ry * low)
    pen.draw.pieslice(box, 180, 360, fill=pen.code("hat"))
    brim = head.y + ry * (low - 1.2) / 2
    if cap and body.cos > -0.5:
        tip = head.x + body.sin * rx * 1.9
        half = rx * max(0.3, body.cos)
        points = [
            (head.x - half, brim),
            (head.x + half, brim),
            (tip + half * 0.9, brim + ry * 0.22),
            (tip - half * 0.9, brim + ry * 0.22),
        ]
        pen.poly(points, "hat", 1)
    elif not cap:
        pen.draw.rectangle((head.x - rx * 1.14, brim - ry * 0.28, head.x + rx * 1.14, brim), fill=pen.code("hat", 1))
