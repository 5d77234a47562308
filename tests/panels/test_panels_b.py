"""Panels without a browser: variant comparator, K sweep, CGPN explorer, loss playground."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from counting import work_of
from needs import need
from PIL import Image
from seeded_runs import suite_names, train_runs

need("ipywidgets")

from reidkit.errors import ReIDKitError
from reidkit.evaluation import evaluate_ranking, extract_features, top_k
from reidkit.panels.cgpn_explorer import CGPNExplorer
from reidkit.panels.comparator import VariantComparator
from reidkit.panels.k_sweep import KSweep, trained_curve
from reidkit.panels.kit.interval import seed_differences
from reidkit.panels.kit.runs import open_runs
from reidkit.panels.kit.subset import subset
from reidkit.panels.loss_playground import LossPlayground
from reidkit.reporting import report
from reidkit.training import load_run

# Images that a backbone sees when a control moves; other controls need none, and neither does going back.
IMAGES = {
    **{("comparator", trait): 2 for trait in ("a", "b", "metric", "place")},  # a query under two networks
    ("sweep", "image"): 1,
    ("explorer", "group"): 1,
    ("explorer", "image"): 1,
}
NAMES = ["comparator", "sweep", "explorer", "playground"]


@pytest.fixture(scope="module")
def runs(sidewalk_tiny, tmp_path_factory):
    """Folder of small runs: two variants with two seeds each, MPN with 1 and 3 parts, CGPN, and IDE."""
    return train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def results(runs):
    return suite_names(runs)


@pytest.fixture(scope="module")
def panels(runs, results, sidewalk_tiny):
    """One panel of each kind; tests put back what they move."""
    from reidkit.priors import build_priors

    priors = build_priors(sidewalk_tiny, grid=(12, 4), splits="all", progress=False)
    sweep = KSweep(runs / "ide-s0", sidewalk_tiny, results, priors=priors)
    three = [runs / f"{name}-s0" for name in ("mpn", "baseline", "cgpn")]
    return {
        "comparator": VariantComparator(three, sidewalk_tiny, results),
        "sweep": sweep,
        "explorer": CGPNExplorer(runs / "cgpn-s0", sidewalk_tiny),
        "playground": LossPlayground(),
    }


MOVES = [
    ("comparator", {"a": "cgpn s0"}),
    ("comparator", {"b": "cgpn s0"}),
    ("comparator", {"metric": "rank1"}),
    ("comparator", {"metric": "mINP"}),
    ("comparator", {"place": 7}),
    ("comparator", {"view": "match"}),
    ("comparator", {"length": 3}),
    ("sweep", {"parts": 4}),
    ("sweep", {"guess": 5}),
    ("sweep", {"image": 3}),
    ("sweep", {"mode": "roi-mask"}),
    ("sweep", {"mode": "roi"}),
    ("sweep", {"metric": "rank1"}),
    ("sweep", {"reveal": True}),
    ("explorer", {"branch": "b3"}),
    ("explorer", {"group": "global"}),
    ("explorer", {"image": 4}),
    *(("explorer", {f"use_{k}": False}) for k in range(12)),
    ("playground", {"ids": 2}),
    ("playground", {"images": 4}),
    ("playground", {"mining": "all"}),
    ("playground", {"metric": "cosine"}),
    ("playground", {"margin": 0.9}),
    ("playground", {"alignment": "sample"}),
    ("playground", {"alignment": "batch"}),
    ("playground", {"alignment": ""}),
    ("playground", {"weight": 3.0}),
    ("playground", {"rate": 2.0}),
    ("playground", {"point": 5}),
    ("playground", {"x": 0.1}),
    ("playground", {"y": 0.9}),
]


@pytest.mark.parametrize("name, move", MOVES, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, *v.items())))
def test_a_control_changes_the_picture_and_undo_restores_it(panels, name, move):
    panel = panels[name]
    panel.reset()
    before, (trait, value) = panel.picture.tobytes(), next(iter(move.items()))
    drawn, images = work_of(panel, lambda: setattr(panel, trait, value))
    assert panel.error == ""
    assert panel.picture.tobytes() != before, "the picture did not change"
    assert drawn == 1 and images <= IMAGES.get((name, trait), 0), "features of a run are extracted once"
    back = {k: v for k, v in panel._initial.items() if k in (trait, "group")}
    drawn, images = work_of(panel, lambda: panel.set(**back))
    assert panel.picture.tobytes() == before, "going back gives the same pixels"
    assert drawn == 1 and images == 0, "what was computed is kept"


def test_every_control_is_tested(panels):
    tested = {(name, trait) for name, move in MOVES for trait in move}
    assert {(name, trait) for name, panel in panels.items() for trait in panel.controls()} == tested


@pytest.mark.parametrize("name", NAMES)
def test_render_is_pure(panels, name):
    panel = panels[name]
    panel.reset()
    shown = panel.picture.tobytes()
    state = panel.state(**{"comparator": {"place": 3}, "playground": {"margin": 1.1}}.get(name, {"image": 2}))
    first, second = panel.render(state).tobytes(), panel.render(state).tobytes()
    assert first == second != shown
    assert panel.picture.tobytes() == shown == panel.render(panel.state()).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_static_picture_for_readers_without_a_kernel(panels, name):
    panel = panels[name]
    panel.reset()
    bundle = panel._repr_mimebundle_()
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as image:
        assert image.size == panel.size and image.convert("RGB").tobytes() == panel.picture.tobytes()
    assert "application/vnd.jupyter.widget-view+json" in bundle and panel.title in bundle["text/plain"]


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("comparator", {"b": "mpn s0"}, "A and B are both 'mpn s0'"),
        ("comparator", {"place": 4000}, "query = 4000: choose 1 .."),
        ("sweep", {"parts": 99}, "show K = 99: choose 1 .. 12"),
        ("explorer", {f"use_{k}": False for k in range(12)}, "every feature is switched off"),
        ("explorer", {"branch": "b9"}, "branch = 'b9': choose one of b1, b2, b3"),
        ("explorer", {"group": "3/4-1"}, "stripe group = '3/4-1': choose one of global"),
        ("playground", {"margin": 9.0}, "margin = 9.0: choose 0.0 .. 1.5"),
        ("playground", {"point": 40}, "point = 40: choose 1 .. 18"),
        ("playground", {"x": -7.0}, "its x = -7.0"),
    ],
)
def test_an_invalid_state_is_said_on_the_panel(panels, name, changes, message):
    panel = panels[name]
    panel.reset()
    assert panel.widget
    good = panel.picture.tobytes()
    panel.set(**changes)
    assert message in panel.error and panel._widget.error.layout.display != "none"
    assert panel.picture.tobytes() == good, "the last good picture stays"
    panel.reset()
    assert panel.error == "" and panel._widget.error.layout.display == "none" and panel.picture.tobytes() == good


@pytest.mark.parametrize("name", NAMES)
def test_an_injected_error_is_said_on_the_panel(panels, name, monkeypatch):
    panel = panels[name]
    panel.reset()
    assert panel.widget

    def broken(state):
        raise KeyError("planted")

    monkeypatch.setattr(panel, "render", broken)
    control = {"comparator": "length", "sweep": "parts", "explorer": "image", "playground": "ids"}[name]
    panel._widget.controls[control].value = 3 if control != "ids" else 2  # as the reader does it
    assert panel.error == "KeyError: 'planted'" and "planted" in panel._widget.error.value
    monkeypatch.undo()
    panel.reset()
    assert panel.error == ""


# ---- comparator -----------------------------------------------------------------------------------------------------


def test_comparator_numbers_are_those_of_the_evaluation(panels, runs, sidewalk_tiny):
    panel, ds = panels["comparator"], sidewalk_tiny
    panel.reset()
    change = panel.differences(panel.state())
    per_query = []
    for name in ("mpn-s0", "baseline-s0"):
        model = load_run(runs / name)
        qf, gf = (extract_features(model, t, size=(96, 32), progress=False) for t in (ds.query, ds.gallery))
        kit = evaluate_ranking(qf, gf, ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid)
        ours = panel.ranking(name.replace("-", " "))
        assert ours.mAP == kit.mAP and ours.rank(1) == kit.rank(1)
        saved = json.loads((runs / name / "result.json").read_text())["metrics"][ds.level]
        assert ours.mAP == pytest.approx(saved["mAP"], abs=0.01)  # training may evaluate in half precision
        per_query.append(kit.per_query)
        row = ds.query.iloc[4]
        listed = top_k(qf[4], gf, 5, q_pid=row.pid, q_camid=row.camid, g_pids=ds.gallery.pid, g_camids=ds.gallery.camid)
        pd.testing.assert_frame_equal(panel.ranked_list(name.replace("-", " "), 4, 5), listed)
    expected = (per_query[0].ap - per_query[1].ap).dropna()
    pd.testing.assert_series_equal(change.sort_index(), expected, check_names=False)
    assert change.is_monotonic_decreasing
    first = panel.differences(panel.state(metric="rank1"))
    hits = [(t.first_hit_rank == 1).astype(float) for t in per_query]
    assert first.mean() == pytest.approx((hits[0] - hits[1])[expected.index].mean())


def test_comparator_interval_is_that_of_the_report(panels, results, sidewalk_tiny):
    panel = panels["comparator"]
    for metric in ("mAP", "rank1", "mINP"):
        ours = panel.seeds(panel.state(metric=metric))
        kit = report.paired_difference(
            results, "mpn", "baseline", metric, level=sidewalk_tiny.level, dataset=sidewalk_tiny.name, preset="smoke"
        )
        assert ours.difference == kit and ours.difference.n == 2 and str(kit) == ours.words
        assert np.mean(list(ours.points.values())) == pytest.approx(kit.mean)
    assert "[" in panel.seeds(panel.state()).words
    assert "one seed" in panel.seeds(panel.state(a="cgpn s0")).words


def test_an_interval_that_means_nothing_says_why(results):
    row = {r.run: r for r in results.itertuples()}
    a, b = row["mpn-s0"], row["baseline-s0"]

    def say(a, b, level="mild"):
        return seed_differences(results, a, b, "mAP", level).words

    assert "not in the results" in say(None, b)
    assert "two runs of one system, mpn" in say(a, row["mpn-s1"])
    assert "unknown level" in say(a, b, "foggy")
    assert "not comparable" in say(a, pd.Series({"dataset": "market1501", "preset": "smoke", "system": "mpn"}))


def test_comparator_click_chooses_a_query(panels):
    panel = panels["comparator"]
    panel.reset()
    change = panel.differences(panel.state())
    panel.on_pointer(panel.size[0] - 20, 200, "down")
    assert panel.place == len(change)
    panel.on_pointer(80, 200, "down")
    assert panel.place == 2
    panel.on_pointer(panel.size[0] / 2, 120, "down")
    assert panel.place == len(change) // 2 + 1
    panel.on_pointer(10, 600, "down")
    assert panel.place == len(change) // 2 + 1
    panel.reset()


def test_comparator_opens_what_a_reader_has(runs, sidewalk_tiny, tmp_path):
    with pytest.raises(ReIDKitError, match="needs two runs"):
        VariantComparator([runs / "mpn-s0"], sidewalk_tiny)
    report.collect_results(runs).to_csv(tmp_path / "all.csv", index=False)
    few = subset(sidewalk_tiny, 4)
    panel = VariantComparator({"mine": runs / "mpn-s0", "theirs": runs / "baseline-s0"}, few, tmp_path / "all.csv")
    assert panel.error == "" and panel.seeds(panel.state()).difference.n == 2
    ready = VariantComparator(open_runs([runs / "mpn-s0", runs / "baseline-s0"], few), few)
    assert ready.error == "" and "on one seed" in ready.status_text
    for run in ready.runs.values():
        run.weights = None  # networks that come from no folder
    loose = VariantComparator(ready.runs, few)
    assert loose.error == "" and "not in the results" in loose.status_text
    assert len(few.query) < len(sidewalk_tiny.query) and set(few.query.pid) == set(few.gallery.pid)
    with pytest.raises(ReIDKitError, match="at least 2"):
        subset(sidewalk_tiny, 1)


def test_the_curve_over_k_is_of_one_preset(results, sidewalk_tiny):
    one = results.system[results.variant == "mpn"].iloc[0]
    other = results[results.system == one].assign(preset="long", value=0.0)  # one K only
    both = pd.concat([other, results])
    alone, mixed = (trained_curve(table, "mAP", sidewalk_tiny) for table in (results, both))
    assert len(alone) > 1 and list(alone) == list(mixed)
    assert all((mixed[parts] == alone[parts]).all() and mixed[parts].max() > 0 for parts in alone)
