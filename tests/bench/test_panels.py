"""`reidkit bench panels`: every control of every panel is moved, and the rows say what was measured."""

import pytest
from needs import need

for package in ("ipywidgets", "anywidget", "pytorch_grad_cam"):
    need(package)
from traitlets import Int

import reidkit.panels
from reidkit.bench import clock, panels, run_bench
from reidkit.errors import ReIDKitError
from reidkit.panels.kit.base import Panel, Slider
from reidkit.panels.kit.controls import Choice, Toggle


@pytest.fixture
def settings(sidewalk_tiny, data_root):
    return {"root": str(data_root), "size": "tiny", "preset": "smoke", "identities": "4", "values": "1"}


def test_every_control_of_every_panel_has_a_row(settings):
    report = run_bench("panels", settings | {"progress": "false"})
    rows = report["rows"]
    assert report["target_ms"] == 200 and list(dict.fromkeys(row["panel"] for row in rows)) == reidkit.panels.__all__
    for row in rows:
        assert row.keys() == {"panel", "control", "moves", "ms", "back_ms"}
        assert row["moves"] == 1 and row["ms"] > 0 and row["back_ms"] > 0
    by_panel = {kind: {row["control"] for row in rows if row["panel"] == kind} for kind in reidkit.panels.__all__}
    assert by_panel["KSweep"] == {"guess", "reveal", "parts", "metric", "mode", "image"}
    assert by_panel["VariantComparator"] == {"a", "b", "level", "metric", "place", "view", "length"}
    assert by_panel["CGPNExplorer"] >= {"branch", "group", "image", "use_0", "use_11"}


def test_some_panels_alone(settings):
    report = run_bench("panels", settings | {"kinds": "LossPlayground,PriorStepper"})
    assert list(dict.fromkeys(row["panel"] for row in report["rows"])) == ["LossPlayground", "PriorStepper"]


def test_values_that_a_control_is_moved_to():
    assert panels.other_values(Slider("n", 1, 12), 6, 3) == [1, 5, 8, 12]
    assert panels.other_values(Slider("n", 2, 3), 2, 3) == [3]
    assert panels.other_values(Choice("c", ["a", "b", "c"]), "b", 1) == ["a", "c"]
    assert panels.other_values(Toggle("t"), True, 3) == [False]


class Slow(Panel):
    """A panel whose picture of n takes n seconds of a clock that a test reads."""

    title, prompt, size = "Slow", "Wait.", (8, 8)
    n = Int(1)

    def controls(self):
        return {"n": Slider("n", 1, 4)}

    def render(self, state):
        from PIL import Image

        if state.n == 4 and self.refuses:
            raise ReIDKitError("not four")
        self.cpu += state.n
        return Image.new("RGB", self.size)

    refuses, cpu = False, 0.0


def test_the_slowest_move_is_told_and_a_refused_one_is_none(monkeypatch):
    panel = Slow()
    monkeypatch.setattr(clock.time, "process_time", lambda: panel.cpu)
    assert panels.time_control(panel, "n", 3) == {"moves": 3, "ms": 4000.0, "back_ms": 1000.0}
    panel.refuses = True
    assert panels.time_control(panel, "n", 3) == {"moves": 2, "ms": 3000.0, "back_ms": 1000.0}
    monkeypatch.setattr(panel, "render", lambda state: 1 / 0)
    with pytest.raises(ReIDKitError, match=r"Slow: n cannot be moved.*ZeroDivisionError"):
        panels.time_control(panel, "n", 3)
