"""A drawing in its two forms, pixels and SVG, and how its boxes flow on a page."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from needs import need
from PIL import Image

need("ipywidgets")
from reidkit.panels.kit.layout import Piece, Row, Stack, Text, Tiles
from reidkit.panels.kit.sketch import DENSITY, Sketch, of_picture, svg_of

SVG = "{http://www.w3.org/2000/svg}"


def drawn(sketch: Sketch, box) -> ElementTree.Element:
    return ElementTree.fromstring(svg_of(sketch.items, box, 'xmlns="http://www.w3.org/2000/svg"'))


def some_shapes() -> Sketch:
    sketch = Sketch((100, 60))
    sketch.rectangle((10, 10, 30, 20), fill="#0072B2", outline="#000000", width=2)
    sketch.ellipse((40, 10, 60, 30), fill="#D55E00")
    sketch.polygon([(70, 10), (90, 10), (80, 30)], fill="#009E73")
    sketch.line([(10, 50), (90, 50)], "#1A1A1A", 3)
    return sketch


@pytest.mark.parametrize("scale", [1, 2, 2.5])
def test_pixels_are_the_shapes_at_any_scale(scale):
    picture = some_shapes().raster(scale)
    assert picture.size == (round(100 * scale), round(60 * scale)) and picture.mode == "RGB"
    colours = {(20, 15): "0072B2", (50, 20): "D55E00", (80, 15): "009E73", (50, 50): "1A1A1A", (5, 5): "FFFFFF"}
    for (x, y), colour in colours.items():
        assert "{:02X}{:02X}{:02X}".format(*picture.getpixel((int(x * scale), int(y * scale)))) == colour


def test_the_same_shapes_as_svg():
    root = drawn(some_shapes(), (0, 0, 100, 60))
    assert root.get("viewBox") == "0 0 100 60"
    rect, ellipse, polygon, line = root
    assert [float(rect.get(k)) for k in ("x", "y", "width", "height")] == [11, 11, 18, 8], "its outline lies inside"
    assert [float(ellipse.get(k)) for k in ("cx", "cy", "rx", "ry")] == [50, 20, 10, 10]
    assert polygon.get("points") == "70.0,10.0 90.0,10.0 80.0,30.0" and line.get("fill") == "none"
    assert (line.get("stroke"), line.get("stroke-width")) == ("#1A1A1A", "3")


def test_words_are_text_and_never_markup():
    """Whatever a file is called: in SVG, in paragraphs, cut to their room in the picture only."""
    name = "<img src=x onerror=alert(1)> & a long name of a file.png"
    sketch = Sketch((200, 40))
    sketch.text((10, 10), name, room=80)
    root = drawn(sketch, (0, 0, 200, 40))
    assert [child.tag for child in root] == [f"{SVG}text"]
    assert root[0].text.endswith("…") and name.startswith(root[0].text[:-1])
    (paragraph,) = ElementTree.fromstring(Text((0, 0, 200, 40)).markup(sketch))
    assert paragraph.text == name and len(paragraph) == 0


@pytest.mark.parametrize("anchor", ["la", "ma", "ra", "mm", "lm", "ms", "ld", "md"])
@pytest.mark.parametrize("words", ["one line", "two\nlines"])
def test_svg_text_stands_where_the_pixels_are(anchor, words):
    """PIL's anchors, in SVG's words: side by side, and a base line between the top and the bottom of the ink."""
    sketch = Sketch((200, 120))
    sketch.text((100, 60), words, 20, "#000000", anchor)
    ink = np.argwhere(np.asarray(sketch.raster().convert("L")) < 128)  # rows, columns
    texts = list(drawn(sketch, (0, 0, 200, 120)))
    assert [t.get("text-anchor") for t in texts] == len(texts) * [{"l": "start", "m": "middle", "r": "end"}[anchor[0]]]
    assert all(float(t.get("x")) == 100 for t in texts)
    first, last = float(texts[0].get("y")), float(texts[-1].get("y"))
    assert abs(last - ink[:, 0].max()) < 5 and 10 < first - ink[:, 0].min() < 20


def test_a_photograph_is_sent_in_its_own_pixels():
    """In full colour; more than a fine screen shows is left out; cells of a map keep their edges."""
    picture = Image.effect_mandelbrot((64, 192), (-2, -1.5, 1, 1.5), 60).convert("RGB")
    own, large, cells = (Sketch((400, 600)) for _ in range(3))
    own.photo(picture, (10, 10), (120, 360))
    large.photo(picture.resize((1024, 3072)), (10, 10), (20, 60))
    cells.photo(picture, (10, 10), (120, 360), flat=True)
    decoded = [decode(drawn(sketch, (0, 0, 400, 600))[0].get("href")) for sketch in (own, large, cells)]
    assert [image.size for image in decoded] == [(64, 192), (20 * DENSITY, 60 * DENSITY), (64, 192)]
    assert np.abs(np.asarray(decoded[0], float) - np.asarray(picture)).mean() < 3
    assert decoded[2].tobytes() == picture.tobytes(), "a map's cells are exact"
    assert of_picture(picture).raster().tobytes() == picture.tobytes()


def decode(address: str) -> Image.Image:
    import base64
    import io

    return Image.open(io.BytesIO(base64.b64decode(address.split("base64,")[1]))).convert("RGB")


def test_boxes_flow_in_their_order_and_widths():
    sketch = Sketch((300, 200))
    for x, y, words in ((10, 10, "left"), (110, 10, "right"), (10, 110, "a"), (60, 110, "b"), (110, 110, "below")):
        sketch.text((x, y), words)
    page = Stack(
        Row(Piece((0, 0, 100, 100)), Piece((100, 0, 300, 100), grab=True)),
        Row(Tiles([Piece((0, 100, 50, 200)), Piece((50, 100, 100, 200))], 2), Text((100, 100, 300, 200))),
    )
    markup = page.markup(sketch)
    assert re.findall(r">(left|right|a|b|below)<", markup) == ["left", "right", "a", "b", "below"]
    assert re.findall(r"flex:(\d+) 1 (\d+)px", markup)[:2] == [("100", "80"), ("200", "160")]
    assert markup.count("reidkit-grab") == 1 and "<p " in markup and page.width == 308
