"""What every panel stands on: widget and state follow each other, buttons and pointer report their errors."""

import pytest
from needs import need
from PIL import Image

for package in ("ipywidgets", "anywidget"):
    need(package)
from traitlets import Bool, Int, Unicode

from reidkit.errors import ReIDKitError
from reidkit.panels.kit.base import Choice, Panel, Slider, Toggle


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

    def render(self, state):
        return Image.new("RGB", self.size, "black" if state.n % 2 else "white")


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
    panel._widget.picture.pointer = [7.0, 1.0, "down", 1.0]
    assert panel.n == 7 and panel.error == ""
    panel._widget.picture.pointer = [12.0, 1.0, "down", 2.0]
    assert "number = 12" in panel.error
    buttons["reset"].click()
    assert panel.n == 0 and panel.error == ""


def test_set_draws_once_and_names_are_checked():
    panel = Parity()
    drawn = []
    panel.render = lambda state: drawn.append(state.n) or Image.new("RGB", panel.size)
    panel.set(n=2, on=True)
    assert drawn == [2]
    with pytest.raises(ReIDKitError, match="no control \\['m'\\]"):
        panel.set(m=2)
    panel.render = lambda state: Image.new("RGB", (1, 1))
    panel.redraw()
    assert "its size is (40, 20)" in panel.error
