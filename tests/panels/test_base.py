"""What every panel stands on: widget and state follow each other, buttons and pointer report their errors."""

import pytest
from needs import need

for package in ("ipywidgets", "anywidget"):
    need(package)
from PIL import Image
from traitlets import Bool, Float, Int, Unicode

from reidkit.errors import ReIDKitError
from reidkit.panels.kit.base import Choice, Panel, Sketch, Slider, Toggle


class Parity(Panel):
    title, prompt, size = "Parity", "Predict.", (40, 20)
    n, top, kind, on = Int(0), Int(9), Unicode("a"), Bool(False)
    clicked = 0

    def controls(self):
        return {
            "n": Slider("number", 0, self.top),
            "top": Slider("largest", 1, 20),
            "kind": Choice("kind", ["a", "b"]),
            "on": Toggle("on"),
        }

    def actions(self):
        return {"click": self.click, "fail": self.fail_loudly}

    def hidden(self):
        return ["kind"] if self.on else []

    def click(self):
        self.clicked += 1

    def fail_loudly(self):
        raise ValueError("in a button")

    def on_pointer(self, x, y, phase):
        self.n = int(x)

    def draw(self, state):
        sketch = Sketch(self.size)
        sketch.rectangle((0, 0, *self.size), fill="#000000" if state.n % 2 else "#FFFFFF")
        return sketch


def test_widget_and_state_follow_each_other():
    panel = Parity()
    assert panel.widget is not None
    controls = panel._widget.controls
    controls["n"].value = 3
    assert panel.n == 3 and panel.picture.getpixel((0, 0)) == (0, 0, 0)
    panel.n = 4
    assert controls["n"].value == 4
    panel.top = 15
    assert controls["n"].max == 15, "limits may depend on the state"
    panel.on = True
    assert controls["kind"].layout.display == "none" and controls["n"].layout.display == ""


def test_buttons_and_pointer_report_their_errors():
    panel = Parity()
    assert panel.widget is not None
    buttons = {b.description: b for b in panel._widget.buttons}
    buttons["click"].click()
    assert panel.clicked == 1
    buttons["fail"].click()
    assert panel.error == "ValueError: in a button"
    point(panel, 7.0, 1)
    assert panel.n == 7 and panel.error == ""
    point(panel, 12.0, 2)
    assert "number = 12" in panel.error and panel._widget.picture.answered == 2, "answered, though it failed"
    buttons["reset"].click()
    assert panel.n == 0 and panel.error == ""


def point(panel, x: float, number: int) -> None:
    """The mouse goes down on the picture."""
    panel._widget.picture._handle_custom_msg({"x": x, "y": 1.0, "phase": "down", "number": number}, [])


def test_a_reset_after_the_last_move_of_a_drag_stays():
    """Moves are answered one by one and in order: none is left over that could undo the reset."""
    panel = Parity()
    assert panel.widget is not None
    for number in range(1, 6):
        point(panel, number, number)
    panel._widget.buttons[-1].click()
    assert panel.n == 0 and panel._widget.picture.answered == 5


def test_set_draws_once_and_names_are_checked():
    panel = Parity()
    drawn = []
    panel.draw = lambda state: drawn.append(state.n) or Sketch(panel.size)
    panel.set(n=2, on=True)
    assert drawn == [2]
    with pytest.raises(ReIDKitError, match="no control \\['m'\\]"):
        panel.set(m=2)
    panel.draw = lambda state: Sketch((1, 1))
    panel.redraw()
    assert "its size is (40, 20)" in panel.error


def test_a_panel_may_be_one_picture():
    """`render` alone is enough: the page shows its pixels."""

    class Flat(Panel):
        title, prompt, size = "Flat", "Predict.", (8, 4)
        n = Int(0)

        def controls(self):
            return {"n": Slider("number", 0, 9)}

        def render(self, state):
            return Image.new("RGB", self.size, (state.n, 0, 0))

    panel = Flat()
    panel.n = 7
    assert panel.error == "" and panel.picture.getpixel((3, 2)) == (7, 0, 0) and "data:image/png" in panel.markup()


class Shift(Panel):
    title, prompt, size = "Shift", "Predict.", (40, 20)
    dx = Float(0.0)

    def controls(self):
        return {"dx": Slider("right", -0.5, 0.5, 0.01)}

    def draw(self, state):
        sketch = Sketch(self.size)
        sketch.text((0, 0), f"{state.dx:.2f}")
        return sketch


def test_an_echo_of_a_slider_moves_nothing():
    """The browser's slider sends what it was told back, rounded: not even after a reset may that count as a move."""
    panel = Shift()
    assert panel.widget is not None
    slider = panel._widget.controls["dx"]
    panel.dx = 0.2  # a drag
    slider.value = 0.19999999999999996  # the echo
    assert panel.dx == 0.2
    panel.dx = 0.1
    panel.dx = 0.2
    panel.reset()
    slider.value = 0.19999999999999996  # late
    assert panel.dx == 0.0 == slider.value
    for moved in (0.01, 0.2, 0.19999999999999996, 0.21):  # a reader, by keys, by typing, by mouse
        slider.value = moved
        assert panel.dx == moved
    panel.reset()
    slider.value = 0.2  # typed, right after
    assert panel.dx == 0.2
