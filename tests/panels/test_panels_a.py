"""Panels without a browser: pure pictures, every control, undo, errors on the panel, work (stepper, attention,
ranked list, sandbox, and the base they stand on)."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from counting import work_of
from needs import need
from panel_runs import tiny_runs
from PIL import Image

for package in ("ipywidgets", "anywidget", "pytorch_grad_cam"):
    need(package)
from traitlets import Bool, Int, Unicode

from reidkit.errors import PriorError, ReIDKitError
from reidkit.panels.attention_panel import AttentionPanel
from reidkit.panels.kit.base import Choice, Panel, Slider, Toggle
from reidkit.panels.kit.crop import COVER, Crop, read_upload
from reidkit.panels.kit.layers import LAST, at_layer, layer_names
from reidkit.panels.kit.runs import open_runs
from reidkit.panels.misalignment import MisalignmentSandbox
from reidkit.panels.prior_stepper import PriorStepper
from reidkit.panels.ranked_list import RankedList, smaller_gallery

# Images that a backbone sees when a control moves; other controls need none, and neither does going back.
IMAGES = {
    ("attention", "run"): 1,
    ("attention", "image"): 1,
    ("attention", "layer"): 1,
    ("attention", "control"): 1 + 8,  # a random network: the norms see 8 images once
    ("sandbox", "run_a"): 2,
    ("sandbox", "run_b"): 2,  # the crop and what it is compared with
    ("sandbox", "image"): 4,
    **{("sandbox", trait): 2 for trait in ("dx", "dy", "scale", "cover")},  # two networks
}


@pytest.fixture(scope="module")
def runs(sidewalk_tiny, tmp_path_factory):
    return tiny_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def panels(runs, sidewalk_tiny):
    """One panel of each kind; tests put back what they move."""
    return {
        "stepper": PriorStepper.from_dataset(sidewalk_tiny, grid=(12, 4), count=6),
        "attention": AttentionPanel(runs, sidewalk_tiny, count=8),
        "ranked": RankedList(runs, sidewalk_tiny, checks=4),
        "sandbox": MisalignmentSandbox(runs, sidewalk_tiny, count=6),
    }


MOVES = [
    (name, {trait: value})
    for name, traits in {
        "stepper": {
            "image": 3,
            "threshold": 0.9,
            "parts": 4,
            "min_head": 0.05,
            "min_leg": 0.1,
            "drop_head": True,
            "drop_legs": True,
            "no_segmentation": True,
        },
        "attention": {
            "run": "cgpn",
            "image": 3,
            "part": 5,
            "method": "layercam",
            "layer": "layer2",
            "control": "random network",
        },
        "ranked": {"run": "cgpn", "query": 3, "top_k": 4, "junk_rule": False, "weight_1": 0.0, "weight_6": 2.0},
        "sandbox": {
            "run_a": "cgpn",
            "run_b": "ide",
            "image": 2,
            "dx": 0.2,
            "dy": 0.2,
            "scale": 1.5,
            "cover": 0.3,
            "maps": "none",
        },
    }.items()
    for trait, value in traits.items()
]


@pytest.mark.parametrize("name, move", MOVES, ids=lambda v: v if isinstance(v, str) else "".join(v))
def test_a_control_changes_the_picture_and_undo_restores_it(panels, name, move):
    panel = panels[name]
    panel.reset()
    before, (trait, value) = panel.picture.tobytes(), next(iter(move.items()))
    drawn, images = work_of(panel, lambda: setattr(panel, trait, value))
    assert panel.error == ""
    assert panel.picture.tobytes() != before, "the picture did not change"
    assert drawn == 1 and images <= IMAGES.get((name, trait), 0)
    drawn, images = work_of(panel, lambda: setattr(panel, trait, panel._initial[trait]))
    assert panel.picture.tobytes() == before, "going back gives the same pixels"
    assert drawn == 1 and images == 0, "what was computed is kept"


def test_every_control_is_tested(panels):
    # cover_top and source have tests of their own: they do nothing before something is covered or uploaded
    tested = {(name, trait) for name, move in MOVES for trait in move}
    for name, panel in panels.items():
        wanted = {c for c in panel.controls() if not c.startswith("weight_")} - {"cover_top", "source"}
        assert {(name, trait) for trait in wanted} <= tested


@pytest.mark.parametrize("name", ["stepper", "attention", "ranked", "sandbox"])
def test_render_is_pure(panels, name):
    panel = panels[name]
    panel.reset()
    shown, state = panel.picture.tobytes(), panel.state(**{"query" if name == "ranked" else "image": 1})
    first, second = panel.render(state).tobytes(), panel.render(state).tobytes()
    assert first == second != shown
    assert panel.picture.tobytes() == shown and panel.render(panel.state()).tobytes() == shown
    assert panel.render(state).size == panel.size


@pytest.mark.parametrize("name", ["stepper", "attention", "ranked", "sandbox"])
def test_static_picture_for_readers_without_a_kernel(panels, name):
    panel = panels[name]
    panel.reset()
    bundle = panel._repr_mimebundle_()
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as image:
        assert image.size == panel.size and image.convert("RGB").tobytes() == panel.picture.tobytes()
    assert "application/vnd.jupyter.widget-view+json" in bundle and panel.title in bundle["text/plain"]


@pytest.mark.parametrize(
    "name, trait, value",
    [
        ("stepper", "parts", 40),
        ("attention", "run", "resnet"),
        ("ranked", "top_k", 0),
        ("sandbox", "dy", 3.0),
    ],
)
def test_an_invalid_state_is_said_on_the_panel(panels, name, trait, value):
    panel = panels[name]
    panel.reset()
    good = panel.picture.tobytes()
    assert panel.widget is not None
    setattr(panel, trait, value)
    assert repr(value) in panel.error and "choose" in panel.error
    line = panel._widget.error
    assert line.layout.display != "none" and 'role="alert"' in line.value
    assert panel.picture.tobytes() == good
    panel.reset()
    assert panel.error == "" and panel._widget.error.layout.display == "none"


def test_an_injected_error_is_said_on_the_panel(panels, monkeypatch):
    panel = panels["stepper"]
    panel.reset()

    def broken(state):
        raise PriorError("a planted error")

    assert panel.widget is not None
    monkeypatch.setattr(panel, "render", broken)
    panel._widget.controls["parts"].value = 4  # as the reader does it
    assert panel.error == "a planted error" and "a planted error" in panel._widget.error.value
    monkeypatch.undo()
    panel.reset()
    assert panel.error == ""


# ---- the base -------------------------------------------------------------------------------------------------------


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


# ---- what the panels compute ----------------------------------------------------------------------------------------


def test_ranked_list_agrees_with_the_evaluation(panels, sidewalk_tiny):
    from reidkit.evaluation import evaluate_ranking

    panel = panels["ranked"]
    panel.reset()
    for name, run in panel.runs.items():
        q, g = (run.features(t).flatten(1) for t in (panel.queries, panel.gallery))
        kit = evaluate_ranking(q, g, panel.queries.pid, panel.gallery.pid, panel.queries.camid, panel.gallery.camid)
        ours = [panel.ap(panel.state(run=name), i) for i in range(len(panel.queries))]
        np.testing.assert_allclose(ours, kit.per_query.ap, atol=2e-3)  # near ties may change places


def test_ap_by_hand_and_the_junk_rule(panels):
    panel = panels["ranked"]
    panel.reset()
    panel.query = 2
    formula = panel.by_hand(panel.state(), terms=100).removeprefix("AP = ").split(" = ")
    assert eval(formula[0]) == pytest.approx(float(formula[1]), abs=5e-4)
    with_rule, without = panel.ranking(panel.state()), panel.ranking(panel.state(junk_rule=False))
    assert (with_rule.kind != "junk").all() and (without.kind == "junk").any() and len(without) == len(panel.gallery)
    more = panel.counted_right(panel.state(junk_rule=False), without)
    assert len(more) > len(panel.counted_right(panel.state(), with_rule))
    panel.set(**{name: 0.0 for name in panel.weight_names})
    assert "every part has weight 0" in panel.error
    panel.reset()


def test_weights_are_those_of_the_chosen_parts(panels):
    panel = panels["ranked"]
    state = panel.state(**{name: 0.0 for name in panel.weight_names[1:]})
    run = panel.runs[state.run]
    q, g = run.features(panel.queries)[5, 0], run.features(panel.gallery)[:, 0]  # part 1 alone
    np.testing.assert_allclose(panel.scores(state, 5), torch.cosine_similarity(g, q[None], dim=1), atol=1e-5)


def test_a_smaller_gallery_keeps_every_true_match(sidewalk_tiny):
    queries = sidewalk_tiny.query.head(4)
    small = smaller_gallery(queries, sidewalk_tiny.gallery, 40)
    wanted = sidewalk_tiny.gallery.pid.isin(queries.pid).sum()
    assert small.pid.isin(queries.pid).sum() == wanted and len(small) == max(40, wanted)
    assert smaller_gallery(queries, sidewalk_tiny.gallery, None) is sidewalk_tiny.gallery


def test_features_are_kept_on_disk(runs, sidewalk_tiny):
    name = "mpn-no-ca"
    first = open_runs({name: runs[name]}, sidewalk_tiny)[name]
    features = first.features(sidewalk_tiny.query)
    second = open_runs({name: runs[name]}, sidewalk_tiny)[name]
    second.model = None  # must not be needed
    second.__class__ = type("Kept", (type(second),), {"num_parts": first.num_parts})
    assert torch.equal(second.features(sidewalk_tiny.query), features)


def test_earlier_layers_are_the_same_network(runs, sidewalk_tiny):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 96, 32)
    for run in open_runs(runs, sidewalk_tiny).values():
        names = layer_names(run.model)
        assert names[0] == LAST and "layer2" in names
        for name in names:
            with torch.no_grad():
                assert torch.equal(at_layer(run.model, name).embed(images), run.model.embed(images))
    with pytest.raises(ReIDKitError, match="layer9"):
        at_layer(run.model, "layer9")


def test_crop_moves_the_person():
    image = np.zeros((20, 10, 3), np.uint8)
    image[8:12, 4:6] = 200
    assert np.array_equal(Crop().apply(image, (20, 10)), image)
    lower = Crop(dy=0.25, dx=0.2).apply(image, (20, 10))
    assert np.array_equal(lower[13:17, 6:8], image[8:12, 4:6]) and lower.sum() == image.sum()
    assert Crop(scale=2.0).apply(image, (20, 10)).sum() > 3 * image.sum()
    covered = Crop(cover=0.25, cover_top=0.5).apply(image, (20, 10))
    assert (covered[10:15] == COVER).all() and np.array_equal(covered[:10], image[:10])


def test_sandbox_drags_uploads_and_compares(panels):
    panel = panels["sandbox"]
    panel.reset()
    width, height = panel.crop_size()
    panel.on_pointer(40, 100, "down")
    panel.on_pointer(40, 100 + height / 5, "move")
    panel.on_pointer(40 + width / 10, 100 + height / 4, "up")
    assert (panel.dx, panel.dy) == (0.1, 0.25)
    panel.on_pointer(800, 100, "down")
    panel.on_pointer(800, 300, "move")
    assert (panel.dx, panel.dy) == (0.1, 0.25), "only the crop can be dragged"
    panel.straighten()
    straight = panel.similarities(panel.runs[panel.run_a], panel.state())
    moved = panel.similarities(panel.runs[panel.run_a], panel.state(dy=0.4))
    assert moved[0].shape == (6,) and moved[1] != straight[1] and moved[2] >= 1

    buffer = io.BytesIO()
    Image.fromarray(panel.original(panel.state())).save(buffer, "PNG")
    panel.upload("mine.png", buffer.getvalue())
    assert panel.error == "" and panel.source == "mine.png"
    parts, whole, rank = panel.similarities(panel.runs[panel.run_a], panel.state())
    torch.testing.assert_close(parts, torch.ones(6))  # compared with itself
    assert rank != rank and float(whole) == pytest.approx(1, abs=1e-5)
    panel.dy = 0.3
    assert panel.error == "" and panel.similarities(panel.runs[panel.run_a], panel.state())[1] < 0.999
    panel.guard(panel.upload, "bad.txt", b"no image")
    assert "'bad.txt' is not an image" in panel.error
    panel.reset()
    with pytest.raises(ReIDKitError, match="not an image"):
        read_upload("x", b"")


def test_where_the_cover_begins_matters_once_something_is_covered(panels):
    panel = panels["sandbox"]
    panel.reset()
    assert set(panel.hidden()) >= {"cover_top"}
    panel.cover = 0.3
    assert "cover_top" not in panel.hidden()
    before = panel.picture.tobytes()
    panel.cover_top = 0.2
    assert panel.picture.tobytes() != before
    panel.cover_top = 0.7
    assert panel.picture.tobytes() == before
    panel.reset()


def test_attention_of_a_control_and_of_a_small_network(panels):
    panel = panels["attention"]
    panel.reset()
    panel.set(control="random network", part=2)
    assert -1 <= panel.agreement(panel.state()) <= 1 and "correlation" in panel.status_text
    panel.set(run="ide", part=12)
    assert panel.error == "" and panel.part_index(panel.state()) == 0 and "whole body of 1" in panel.status_text
    panel.reset()


def test_a_network_that_needs_priors_says_so(sidewalk_tiny, tmp_path):
    from reidkit.models import create_model
    from reidkit.panels.kit.runs import PanelRun
    from reidkit.training import recipe_for

    model = create_model("baseline-ub", 24, backbone="small", part_dim=16)
    with pytest.raises(PriorError, match="reidkit priors build"):
        PanelRun("ub", model, recipe_for("baseline-ub", "smoke"), sidewalk_tiny)


@pytest.mark.parametrize("name", ["stepper", "attention", "ranked", "sandbox"])
def test_a_notebook_stores_the_picture_apart_from_the_widget(panels, monkeypatch, name):
    """So that a reader without a kernel gets a picture where JupyterLab finds no widget."""
    import IPython.display

    panel, shown = panels[name], []
    panel.reset()
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: shown.append(bundle))
    panel._ipython_display_()
    live, static = shown
    assert set(live) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert set(static) == {"image/png", "text/plain"} and len(static["image/png"]) < 250_000
    with Image.open(io.BytesIO(base64.b64decode(static["image/png"]))) as image:
        difference = np.abs(np.asarray(image.convert("RGB"), float) - np.asarray(panel.picture))
    assert image.size == panel.size and difference.mean() < 4


def test_attention_says_why_a_share_has_no_answer(runs, sidewalk_tiny, monkeypatch):
    """A stripe that the crop has cut off, and a map without evidence: words, not "nan%"."""
    panel = AttentionPanel({"mine": runs["mpn-no-ca"]}, sidewalk_tiny, count=3)
    state = panel.state()
    assert "% in its stripe of the body" in panel.status(state)
    below = np.ones_like(panel.truth.top)
    panel.truth = replace(panel.truth, top=1.2 * below, bottom=2.2 * below)  # the body is below the crop
    assert "its stripe is not in the picture" in panel.status(state) and "nan" not in panel.status(state)
    monkeypatch.setattr(panel, "maps", lambda *_: torch.zeros(panel.runs["mine"].num_parts, *panel.runs["mine"].size))
    assert "blank: no evidence" in panel.status(state) and "nan" not in panel.status(state)
    assert panel.render(state).size == panel.size


def test_photographs_have_no_ground_truth_and_need_none(runs, sidewalk_tiny, tmp_path):
    import shutil

    from reidkit.data import load_dataset

    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        shutil.copytree(sidewalk_tiny.root / folder, tmp_path / "Market-1501-v15.09.15" / folder)
    market = load_dataset("market1501", root=tmp_path)
    own = {"mine": runs["mpn-no-ca"]}
    attention = AttentionPanel(own, market, count=3)
    assert attention.error == "" and list(attention.numbers(attention.state())) == ["in its stripe of the image"]
    assert RankedList(own, market, gallery_size=40, checks=2).error == ""
    assert MisalignmentSandbox(own, market, count=3).error == ""
