"""What holds for every panel: pure pictures, every control, undo, reset, errors on the panel, static pictures, work."""

import base64
import html
import io
import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from counting import work_of
from needs import need
from PIL import Image

for package in ("ipywidgets", "anywidget", "pytorch_grad_cam"):
    need(package)
import reidkit.panels
from reidkit.errors import PriorError
from reidkit.panels.kit.base import Panel
from reidkit.panels.kit.controls import Choice, Slider, Toggle
from reidkit.panels.kit.layout import Piece, Text, Tiles
from reidkit.panels.kit.sketch import Photo, Words, svg_of

# Values to which each control is moved, from the state right after construction.
MOVES = {
    "PriorStepper": {
        "image": [3],
        "threshold": [0.9],
        "parts": [4],
        "min_head": [0.05],
        "min_leg": [0.1],
        "drop_head": [True],
        "drop_legs": [True],
        "no_segmentation": [True],
    },
    "AttentionPanel": {
        "image": [3],
        "run": ["cgpn"],
        "part": [5],
        "method": ["layercam"],
        "layer": ["layer2"],
        "control": ["random network"],
    },
    "RankedList": {
        "query": [3],
        "run": ["cgpn"],
        "top_k": [4],
        "junk_rule": [False],
        "weight_1": [0.0],
        "weight_6": [2.0],
    },
    "MisalignmentSandbox": {
        "image": [2],
        "run_a": ["cgpn"],
        "run_b": ["ide"],
        "dx": [0.2],
        "dy": [0.2],
        "scale": [1.5],
        "cover": [0.3],
        "maps": ["none"],
    },
    "VariantComparator": {
        "place": [7],
        "level": ["strong"],
        "metric": ["rank1", "mINP"],
        "view": ["match"],
        "length": [3],
        "a": ["cgpn s0"],
        "b": ["cgpn s0"],
    },
    "KSweep": {
        "image": [3],
        "parts": [4],
        "guess": [5],
        "mode": ["roi-mask", "roi"],
        "metric": ["rank1"],
        "reveal": [True],
    },
    "CGPNExplorer": {
        "image": [4],
        "branch": ["b3"],
        "group": ["global"],
        **{f"use_{k}": [False] for k in range(12)},
    },
    "LossPlayground": {
        "margin": [0.9],
        "ids": [2],
        "images": [4],
        "mining": ["all"],
        "metric": ["cosine"],
        "alignment": ["sample", "batch", ""],
        "weight": [3.0],
        "rate": [2.0],
        "point": [5],
        "x": [0.1],
        "y": [0.9],
    },
}
# Controls with tests of their own: they do nothing before something is covered or uploaded; a weight is like another.
APART = {
    "AttentionPanel": {"source"},
    "MisalignmentSandbox": {"cover_top", "source", "against"},
    "RankedList": {f"weight_{k}" for k in (*range(2, 6), *range(7, 13))},
}
FOLLOWS = {"CGPNExplorer": ["group"]}  # moves along with another control, and goes back with it
# Images that a backbone sees when a control moves; other controls need none, and neither does going back.
IMAGES = {
    "AttentionPanel": {"run": 1, "image": 1, "layer": 1, "control": 1 + 8},  # a random network's norms see 8 once
    "MisalignmentSandbox": {
        **dict.fromkeys(("run_a", "run_b", "dx", "dy", "scale", "cover"), 2),  # two networks, or crop and gallery image
        "image": 4,
    },
    "VariantComparator": {
        **dict.fromkeys(("a", "b", "metric", "place"), 2),  # a query under two networks
        "level": 284,  # the other test set under two networks, once; features are kept
    },
    "KSweep": {"image": 1},
    "CGPNExplorer": {"group": 1, "image": 1},
}
INVALID = [
    ("PriorStepper", {"parts": 40}, "K = 40: choose 1 .. 12"),
    ("AttentionPanel", {"run": "resnet"}, "run = 'resnet': choose one of mpn, cgpn, ide"),
    ("RankedList", {"top_k": 0}, "top k = 0: choose 1 .."),
    ("MisalignmentSandbox", {"dy": 3.0}, "down = 3.0: choose -0.5 .. 0.5"),
    ("VariantComparator", {"b": "mpn s0"}, "A and B are both 'mpn s0'"),
    ("VariantComparator", {"place": 4000}, "query = 4000: choose 1 .."),
    ("KSweep", {"parts": 99}, "show K = 99: choose 1 .. 12"),
    ("CGPNExplorer", {f"use_{k}": False for k in range(12)}, "every feature is switched off"),
    ("CGPNExplorer", {"branch": "b9"}, "branch = 'b9': choose one of b1, b2, b3"),
    ("CGPNExplorer", {"group": "3/4-1"}, "stripe group = '3/4-1': choose one of global"),
    ("LossPlayground", {"margin": 9.0}, "margin = 9.0: choose 0.0 .. 1.5"),
    ("LossPlayground", {"point": 40}, "point = 40: choose 1 .. 18"),
    ("LossPlayground", {"x": -7.0}, "its x = -7.0"),
]
every_panel = pytest.mark.parametrize("kind", MOVES)
every_move = pytest.mark.parametrize(
    "kind, trait, value", [(k, t, v) for k, traits in MOVES.items() for t, values in traits.items() for v in values]
)


@pytest.fixture
def panel(panels, kind):
    """The panel of this kind as it was when it was made, its widget made too."""
    panel = panels[kind]
    panel.reset()
    assert panel.widget is not None and panel.error == ""
    yield panel
    panel.reset()


def first_move(kind: str) -> dict:
    """A change of one control that changes the picture."""
    trait, values = next(iter(MOVES[kind].items()))
    return {trait: values[0]}


def test_the_kit_exports_the_eight_panels_and_no_other():
    assert sorted(reidkit.panels.__all__) == sorted(MOVES) and len(MOVES) == 8
    assert all(issubclass(getattr(reidkit.panels, kind), Panel) for kind in MOVES)
    with pytest.raises(AttributeError, match="PriorStepper2"):
        _ = reidkit.panels.PriorStepper2


# ---- state and picture ----------------------------------------------------------------------------------------------


@every_panel
def test_render_is_pure(panel, kind):
    shown, state = panel.picture.tobytes(), panel.state(**first_move(kind))
    first, second = panel.render(state), panel.render(state)
    assert first.tobytes() == second.tobytes() != shown
    assert panel.picture.tobytes() == shown == panel.render(panel.state()).tobytes()
    assert first.size == panel.size == panel.picture.size and panel.picture.mode == "RGB"


@every_move
def test_a_control_changes_the_picture_and_undo_restores_it(panel, kind, trait, value):
    before = panel.picture.tobytes()
    drawn, images = work_of(panel, lambda: setattr(panel, trait, value))
    assert panel.error == ""
    assert panel.picture.tobytes() != before, "the picture did not change"
    assert drawn == 1 and images <= IMAGES.get(kind, {}).get(trait, 0)
    back = {name: panel._initial[name] for name in (trait, *FOLLOWS.get(kind, []))}
    drawn, images = work_of(panel, lambda: panel.set(**back))
    assert panel.picture.tobytes() == before, "going back gives the same pixels"
    assert drawn == 1 and images == 0, "what was computed is kept"


@every_panel
def test_every_control_is_tested(panel, kind):
    assert set(panel.controls()) == MOVES[kind].keys() | APART.get(kind, set())


@every_panel
def test_a_state_that_comes_back_gives_the_same_pixels(panel, kind):
    """Several controls moved at once; the state written down, reset, and set again."""
    some = {trait: values[-1] for trait, values in list(MOVES[kind].items())[:3]}
    first = panel.picture.tobytes()
    panel.set(**some)
    moved, state = panel.picture.tobytes(), vars(panel.state())
    assert panel.error == "" and moved != first
    panel.reset()
    assert panel.state() == SimpleNamespace(**panel._initial) and panel.picture.tobytes() == first
    panel.set(**state)
    assert panel.state() == SimpleNamespace(**state) and panel.picture.tobytes() == moved


# ---- the widget -----------------------------------------------------------------------------------------------------


@every_panel
def test_the_keyboard_reaches_every_control(panel, kind):
    """Each trait has a widget that a key moves, with a name, the limits of the control and the value of now."""
    import ipywidgets as w

    made = {Slider: (w.IntSlider, w.FloatSlider), Choice: w.Dropdown, Toggle: w.Checkbox}
    widgets = panel._widget.controls
    assert widgets.keys() == panel.controls().keys()
    for trait, control in panel.controls().items():
        widget = widgets[trait]
        assert isinstance(widget, made[type(control)]) and not widget.disabled
        assert widget.description == control.label and control.label
        assert widget.value == getattr(panel, trait) and panel.has_trait(trait)
        if isinstance(control, Slider):
            assert (widget.min, widget.max, widget.step) == (control.low, control.high, control.step)
            assert widget.readout and widget.continuous_update, "a number can be typed, and the picture follows"
    names = [button.description for button in panel._widget.buttons]
    assert names == [*panel.actions(), "reset"] and all(names)


@every_move
def test_a_widget_moves_its_trait(panel, kind, trait, value):
    before, shown = panel.picture.tobytes(), panel.markup()
    panel._widget.controls[trait].value = value  # as the reader does it
    assert getattr(panel, trait) == value and panel.error == ""
    assert panel.picture.tobytes() != before and panel._widget.controls[trait].value == value
    assert panel._widget.picture.value == panel.markup() != shown, "what the page shows"


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, changes, message", INVALID)
def test_an_invalid_state_is_said_on_the_panel(panel, kind, changes, message):
    good, line = panel.picture.tobytes(), panel._widget.error
    panel.set(**changes)
    assert message in panel.error
    assert line.layout.display != "none" and 'role="alert"' in line.value and "Traceback" not in line.value
    assert panel.picture.tobytes() == good, "the last good picture stays"
    panel.reset()
    assert panel.error == "" and line.layout.display == "none" and panel.picture.tobytes() == good


def test_every_panel_refuses_something():
    assert {kind for kind, *_ in INVALID} == MOVES.keys()


@every_panel
@pytest.mark.parametrize(
    "error, words", [(PriorError("a planted error"), "a planted error"), (KeyError("planted"), "KeyError: 'planted'")]
)
def test_an_injected_error_is_said_on_the_panel(panel, kind, monkeypatch, error, words):
    def broken(state):
        raise error

    good = panel.picture.tobytes()
    monkeypatch.setattr(panel, "draw", broken)
    ((trait, value),) = first_move(kind).items()
    panel._widget.controls[trait].value = value
    assert panel.error == words and "planted" in panel._widget.error.value
    assert panel.picture.tobytes() == good
    monkeypatch.undo()
    panel.reset()
    assert panel.error == "" and panel.picture.tobytes() == good


# ---- readers without a kernel ---------------------------------------------------------------------------------------


@every_panel
def test_static_picture_for_readers_without_a_kernel(panel, kind):
    bundle = panel._repr_mimebundle_()
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as image:
        assert image.size == panel.size and image.convert("RGB").tobytes() == panel.picture.tobytes()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert panel.title and panel.title in bundle["text/plain"]
    assert panel.prompt and panel.prompt in bundle["text/plain"] and panel.status_text in bundle["text/plain"]


@every_panel
def test_a_notebook_stores_the_picture_apart_from_the_widget(panel, kind, monkeypatch):
    """So that a reader without a kernel gets a picture where JupyterLab finds no widget."""
    import IPython.display

    bundles = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: bundles.append(bundle))
    panel._ipython_display_()
    live, static = bundles
    assert set(live) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert set(static) == {"image/jpeg", "text/plain"} and len(static["image/jpeg"]) < 250_000
    with Image.open(io.BytesIO(base64.b64decode(static["image/jpeg"]))) as image:
        difference = np.abs(np.asarray(image, float) - np.asarray(panel.picture))
    assert image.mode == "RGB" and image.size == panel.size and difference.mean() < 4


# ---- the page -------------------------------------------------------------------------------------------------------


@every_panel
def test_the_page_shows_every_item_of_the_drawing_once(panel, kind):
    """Pieces and paragraphs together are the drawing: nothing falls between them, nothing is shown twice."""
    page, sketch = panel.layout(panel.state()), panel.sketch
    shown = Counter(id(item) for part in leaves(page) for item in sketch.inside(part.box))
    assert [item for item in sketch.items if shown[id(item)] != 1] == []
    texts = [item for part in leaves(page) if isinstance(part, Text) for item in sketch.inside(part.box)]
    assert all(isinstance(item, Words) for item in texts), "a paragraph can show words only"
    for x0, y0, x1, y1 in (part.box for part in leaves(page)):
        assert 0 <= x0 + 4 and x0 < x1 <= panel.size[0] + 4 and 0 <= y0 < y1 <= panel.size[1] + 4


@every_panel
def test_words_are_text_and_photographs_keep_their_pixels(panel, kind):
    markup = panel.markup()
    for item in panel.sketch.items:
        if isinstance(item, Words):
            assert any(all(html.escape(w) in markup for w in words.split("\n")) for words in (item.shown, item.words))
    photos = [item for item in panel.sketch.items if isinstance(item, Photo)]
    assert len(re.findall(r"data:image/(?:jpeg|png);base64,", markup)) == len(photos)
    for item, found in zip(photos[:3], re.findall(r"base64,([^\"]+)", svg_of(photos[:3], (0, 0, *panel.size)))):
        with Image.open(io.BytesIO(base64.b64decode(found))) as image:
            assert image.mode == "RGB" and image.size == item.picture.size, "full colour, the image's own pixels"


def leaves(page) -> list[Piece | Text]:
    """The boxes of a layout."""
    if isinstance(page, (Piece, Text)):
        return [page]
    parts = page.pieces if isinstance(page, Tiles) else page.parts
    return [leaf for part in parts for leaf in leaves(part)]
