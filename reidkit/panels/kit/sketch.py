"""A drawing that is kept as its pieces, so that it can be shown in two ways.

    sketch = Sketch((200, 80))
    sketch.rectangle((10, 10, 60, 30), fill="#0072B2")
    sketch.text((10, 40), "a blue bar")
    sketch.raster(2)                     # PIL image of 400 x 160 pixels: the static picture
    svg_of(sketch, (0, 0, 200, 80))      # SVG: sharp at every size, its words are text, photographs in their own pixels

Methods take the arguments of PIL's ImageDraw; coordinates are those of the static picture at scale 1.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from reidkit.reporting.pictures import INK, data_url, fit_text, font, text_width

Box = tuple[float, float, float, float]  # x0, y0, x1, y1
DENSITY = 4  # pixels of a photograph a unit of the drawing, at most: a page of 1,900 on a screen of two pixels a point
FAMILY = "'DejaVu Sans',Verdana,sans-serif"  # Verdana is as wide


@dataclass(frozen=True)
class Shape:
    """kind: "rectangle", "ellipse", "polygon" or "line"; points: its corners, flat."""

    kind: str
    points: tuple[float, ...]
    fill: str | None = None
    outline: str | None = None
    width: float = 1

    @property
    def middle(self) -> tuple[float, float]:
        """The point that says to which box of a layout it belongs."""
        xs, ys = self.points[::2], self.points[1::2]
        return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2

    def raster(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        """Draw it, `scale` pixels a unit."""
        points, width = [scale * v for v in self.points], max(1, round(scale * self.width))
        if self.kind == "line":
            draw.line(points, fill=self.fill, width=width)
        else:
            getattr(draw, self.kind)(points, fill=self.fill, outline=self.outline, width=width)

    def svg(self) -> str:
        """Itself as SVG."""
        points = self.points
        stroke = self.fill if self.kind == "line" else self.outline
        style = f'fill="{"none" if self.kind == "line" else self.fill or "none"}"'
        if stroke:
            style += f' stroke="{stroke}" stroke-width="{self.width:g}"'
        if self.kind in ("line", "polygon"):
            pairs = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(points[::2], points[1::2]))
            return f'<poly{"line" if self.kind == "line" else "gon"} points="{pairs}" {style}/>'
        x0, y0, x1, y1 = points
        inset = self.width / 2 if stroke else 0  # PIL draws an outline inside the box
        w, h = max(x1 - x0 - 2 * inset, 0), max(y1 - y0 - 2 * inset, 0)
        if self.kind == "rectangle":
            return f'<rect x="{x0 + inset:.1f}" y="{y0 + inset:.1f}" width="{w:.1f}" height="{h:.1f}" {style}/>'
        centre = f'cx="{(x0 + x1) / 2:.1f}" cy="{(y0 + y1) / 2:.1f}"'
        return f'<ellipse {centre} rx="{w / 2:.1f}" ry="{h / 2:.1f}" {style}/>'


@dataclass(frozen=True)
class Words:
    """Lines of text. anchor: PIL's; room: the static picture cuts the words where they would be wider."""

    xy: tuple[float, float]
    words: str
    size: float = 13
    fill: str = INK
    anchor: str = "la"
    bold: bool = False
    room: float | None = None

    @property
    def shown(self) -> str:
        """The words as the picture has them: cut where they have no room."""
        return self.words if self.room is None else fit_text(self.words, self.room, round(self.size), self.bold)

    @property
    def middle(self) -> tuple[float, float]:
        """The point that says to which box of a layout it belongs."""
        x, y = self.xy
        lines = self.shown.split("\n")
        wide = max(text_width(line, round(self.size), self.bold) for line in lines)
        tall = (self.size + 3) * len(lines)
        across, down = {"l": 0.5, "m": 0.0, "r": -0.5}, {"a": 0.5, "m": 0.0, "s": -0.5, "d": -0.5}
        return x + across[self.anchor[0]] * wide, y + down[self.anchor[1]] * tall

    def raster(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        """Draw it, `scale` pixels a unit."""
        letters, xy = font(round(scale * self.size), self.bold), (scale * self.xy[0], scale * self.xy[1])
        draw.text(xy, self.shown, font=letters, fill=self.fill, anchor=self.anchor, spacing=3 * scale)

    def svg(self) -> str:
        """Itself as SVG."""
        x, y = self.xy
        lines = self.shown.split("\n")
        step = 0.93 * self.size + 3  # as PIL: the height of an "A" from the ascender, and 3
        side = {"l": "start", "m": "middle", "r": "end"}[self.anchor[0]]
        # From PIL's anchor to the base line of the first line (DejaVu's ascender is 0.93 of its size).
        y += {"a": 0.93, "m": 0.36, "s": 0.0, "d": -0.24}[self.anchor[1]] * self.size
        y -= {"m": 0.5, "d": 1.0}.get(self.anchor[1], 0.0) * step * (len(lines) - 1)
        weight = ' font-weight="bold"' if self.bold else ""
        style = f'font-size="{self.size:g}" fill="{self.fill}" text-anchor="{side}"{weight}'
        return "".join(
            f'<text x="{x:.1f}" y="{y + i * step:.1f}" {style}>{html.escape(line)}</text>'
            for i, line in enumerate(lines)
        )

    def paragraph(self) -> str:
        """The whole words as HTML."""
        style = f"color:{self.fill}" + (";font-weight:bold" if self.bold else "")
        return f'<p style="{style}">{"<br>".join(map(html.escape, self.words.split(chr(10))))}</p>'


@dataclass(frozen=True)
class Photo:
    """A picture, shown in `box`. flat: its cells keep their edges. grip: it follows the mouse at once, see pointer.js:
    (share of the width, of the height) by which its content has moved."""

    picture: Image.Image
    box: Box
    flat: bool = False
    grip: tuple[float, float] | None = None

    @property
    def middle(self) -> tuple[float, float]:
        """The point that says to which box of a layout it belongs."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    def raster(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        """Draw it, `scale` pixels a unit."""
        x0, y0, x1, y1 = (round(scale * v) for v in self.box)
        how = Image.Resampling.NEAREST if self.flat else Image.Resampling.BILINEAR
        picture = self.picture.convert("RGB").resize((max(x1 - x0, 1), max(y1 - y0, 1)), how)
        draw._image.paste(picture, (x0, y0))

    def svg(self) -> str:
        """Itself as SVG."""
        x0, y0, x1, y1 = self.box
        w, h = x1 - x0, y1 - y0
        place = f'x="{x0:.1f}" y="{y0:.1f}" width="{w:.1f}" height="{h:.1f}"'
        crisp = ' style="image-rendering:pixelated"' if self.flat else ""
        image = f'<image {place} preserveAspectRatio="none" href="{self._address()}"{crisp}/>'
        if self.grip is None:
            return image
        dx, dy = self.grip
        # An inner <svg> cuts off what leaves the frame while the image is dragged.
        frame = f'<svg {place} viewBox="{x0:.1f} {y0:.1f} {w:.1f} {h:.1f}" preserveAspectRatio="none"'
        return f'{frame} class="reidkit-grip" data-dx="{dx:g}" data-dy="{dy:g}"><g>{image}</g></svg>'

    def _address(self) -> str:
        """The picture in its own pixels, as a data address: JPEG in full colour, PNG for a map's cells."""
        picture = self.picture.convert("RGB")
        wide, tall = (max(round(DENSITY * v), 1) for v in (self.box[2] - self.box[0], self.box[3] - self.box[1]))
        if picture.width > wide or picture.height > tall:
            how = Image.Resampling.NEAREST if self.flat else Image.Resampling.BOX
            picture = picture.resize((min(picture.width, wide), min(picture.height, tall)), how)
        if self.flat:
            return data_url(picture, "PNG", compress_level=2)
        return data_url(picture, quality=93, subsampling=0)


Item = Shape | Words | Photo


class Sketch:
    """Shapes, words and photographs in the order in which they were drawn. size: (width, height)."""

    def __init__(self, size: tuple[int, int]):
        self.size, self.items, self._middles = size, list[Item](), list[tuple[float, float]]()

    def rectangle(self, box: Sequence[float], fill: str | None = None, outline: str | None = None, width: float = 1):
        """As PIL's; box: x0, y0, x1, y1."""
        self.items.append(Shape("rectangle", tuple(map(float, box)), fill, outline, width))

    def ellipse(self, box: Sequence[float], fill: str | None = None, outline: str | None = None, width: float = 1):
        """As PIL's; box: x0, y0, x1, y1."""
        self.items.append(Shape("ellipse", tuple(map(float, box)), fill, outline, width))

    def polygon(self, points: Iterable[Any], fill: str | None = None, outline: str | None = None, width: float = 1):
        """As PIL's; points: pairs, or flat."""
        self.items.append(Shape("polygon", _flat(points), fill, outline, width))

    def line(self, points: Iterable[Any], fill: str = INK, width: float = 1):
        """As PIL's; points: pairs, or flat. A single point draws nothing."""
        if len(flat := _flat(points)) > 2:
            self.items.append(Shape("line", flat, fill, None, width))

    def text(self, xy: tuple[float, float], words: str, *style: Any, **options: Any) -> None:
        """style and options: size, fill, anchor, bold, room."""
        if words:
            self.items.append(Words((float(xy[0]), float(xy[1])), words, *style, **options))

    def photo(self, picture: Image.Image, xy: tuple[float, float], size: tuple[float, float], **options: Any) -> None:
        """A picture at xy, shown `size` = (width, height) large. options: flat, grip."""
        self.items.append(Photo(picture, (xy[0], xy[1], xy[0] + size[0], xy[1] + size[1]), **options))

    def raster(self, scale: float = 1) -> Image.Image:
        """RGB picture of scale * size pixels."""
        picture = Image.new("RGB", (round(scale * self.size[0]), round(scale * self.size[1])), "white")
        draw = ImageDraw.Draw(picture)
        for item in self.items:
            item.raster(draw, scale)
        return picture

    def inside(self, box: Box) -> list[Item]:
        """What has its middle in a box."""
        x0, y0, x1, y1 = box
        self._middles += [item.middle for item in self.items[len(self._middles) :]]
        return [item for item, (x, y) in zip(self.items, self._middles) if x0 <= x < x1 and y0 <= y < y1]


def of_picture(picture: Image.Image) -> Sketch:
    """A sketch of one photograph, in its own size."""
    sketch = Sketch(picture.size)
    sketch.photo(picture, (0, 0), picture.size, flat=True)
    return sketch


def svg_of(items: Iterable[Item], box: Box, attributes: str = "") -> str:
    """An <svg> of the items whose view is `box`."""
    x0, y0, x1, y1 = box
    head = f'<svg viewBox="{x0:g} {y0:g} {x1 - x0:g} {y1 - y0:g}" font-family="{FAMILY}" {attributes}>'
    return head + "".join(item.svg() for item in items) + "</svg>"


def _flat(points: Iterable[Any]) -> tuple[float, ...]:
    """[(x, y), ...] or [x, y, ...] -> (x, y, ...)."""
    return tuple(float(v) for v in np.asarray(list(points), dtype=float).ravel())
