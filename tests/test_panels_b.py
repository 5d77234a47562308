"""Panels without a browser: variant comparator, K sweep, CGPN explorer, loss playground."""

import base64
import io
import json
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from seeded_runs import train_runs

from reidkit import losses, report
from reidkit.errors import ReIDKitError
from reidkit.evaluation import evaluate_ranking, extract_features, top_k
from reidkit.panels.cgpn_explorer import CGPNExplorer
from reidkit.panels.comparator import VariantComparator
from reidkit.panels.interval import seed_differences
from reidkit.panels.k_sweep import KSweep, systems_of
from reidkit.panels.loss_playground import LossPlayground, batch_all_triplet, evaluate
from reidkit.panels.runs import open_runs
from reidkit.panels.subset import subset
from reidkit.training import load_run

SECONDS = 1.0  # of process time; measured 0.01 to 0.09, the aim is 0.2
NAMES = ["comparator", "sweep", "explorer", "playground"]


@pytest.fixture(scope="module")
def runs(sidewalk_tiny, tmp_path_factory):
    """Folder of small runs: two variants with two seeds each, MPN with 1 and 3 parts, CGPN, and IDE."""
    return train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def results(runs):
    """What `collect_results` says, with the systems called as the suite mpn-fig7 calls them."""
    table = report.collect_results(runs)
    return table.assign(system=[" ".join(w for w in s.split() if w.split("=")[0] in {
        "mpn", "baseline", "cgpn", "ide", "model.num_parts"}) for s in table.system])


@pytest.fixture(scope="module")
def panels(runs, results, sidewalk_tiny):
    """One panel of each kind; tests put back what they move."""
    from reidkit.priors import build_priors

    priors = build_priors(sidewalk_tiny, grid=(12, 4), splits="all", progress=False)
    sweep = KSweep(runs / "ide-s0", sidewalk_tiny, results, priors=priors)
    three = [runs / f"{name}-s0" for name in ("mpn", "baseline", "cgpn")]
    return {
        "comparator": VariantComparator(three, sidewalk_tiny, results), "sweep": sweep,
        "explorer": CGPNExplorer(runs / "cgpn-s0", sidewalk_tiny), "playground": LossPlayground(),
    }  # fmt: skip


MOVES = [
    ("comparator", {"a": "cgpn s0"}), ("comparator", {"b": "cgpn s0"}), ("comparator", {"metric": "rank1"}),
    ("comparator", {"metric": "mINP"}), ("comparator", {"place": 7}), ("comparator", {"view": "match"}),
    ("comparator", {"length": 3}),
    ("sweep", {"parts": 4}), ("sweep", {"guess": 5}), ("sweep", {"image": 3}), ("sweep", {"mode": "roi-mask"}),
    ("sweep", {"mode": "roi"}), ("sweep", {"metric": "rank1"}), ("sweep", {"reveal": True}),
    ("explorer", {"branch": "b3"}), ("explorer", {"group": "global"}), ("explorer", {"image": 4}),
    *(("explorer", {f"use_{k}": False}) for k in range(12)),
    ("playground", {"ids": 2}), ("playground", {"images": 4}), ("playground", {"mining": "all"}),
    ("playground", {"metric": "cosine"}), ("playground", {"margin": 0.9}), ("playground", {"alignment": "sample"}),
    ("playground", {"alignment": "batch"}), ("playground", {"alignment": ""}), ("playground", {"weight": 3.0}),
    ("playground", {"rate": 2.0}), ("playground", {"point": 5}), ("playground", {"x": 0.1}), ("playground", {"y": 0.9}),
]


@pytest.mark.parametrize("name, move", MOVES, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, *v.items())))
def test_a_control_changes_the_picture_and_undo_restores_it(panels, name, move):
    panel = panels[name]
    panel.reset()
    before, (trait, value) = panel.picture.tobytes(), next(iter(move.items()))
    start = time.process_time()
    setattr(panel, trait, value)
    seconds = time.process_time() - start
    assert panel.error == ""
    assert panel.picture.tobytes() != before, "the picture did not change"
    assert seconds < SECONDS or (name == "comparator" and trait in "ab"), "features of a run are extracted once"
    panel.set(**{k: v for k, v in panel._initial.items() if k in (trait, "group")})
    assert panel.picture.tobytes() == before, "going back gives the same pixels"


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


@pytest.mark.parametrize("name, changes, message", [
    ("comparator", {"b": "mpn s0"}, "A and B are both 'mpn s0'"),
    ("comparator", {"place": 4000}, "query = 4000: choose 1 .."),
    ("sweep", {"parts": 99}, "show K = 99: choose 1 .. 12"),
    ("explorer", {f"use_{k}": False for k in range(12)}, "every feature is switched off"),
    ("explorer", {"branch": "b9"}, "branch = 'b9': choose one of b1, b2, b3"),
    ("explorer", {"group": "3/4-1"}, "stripe group = '3/4-1': choose one of global"),
    ("playground", {"margin": 9.0}, "margin = 9.0: choose 0.0 .. 1.5"),
    ("playground", {"point": 40}, "point = 40: choose 1 .. 18"),
    ("playground", {"x": -7.0}, "its x = -7.0"),
])  # fmt: skip
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
        kit = report.paired_difference(results, "mpn", "baseline", metric, level=sidewalk_tiny.level,
                                       dataset=sidewalk_tiny.name, preset="smoke")
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


# ---- K sweep --------------------------------------------------------------------------------------------------------

def test_sweep_cuts_the_map_of_the_network(panels, runs, sidewalk_tiny):
    panel, ds = panels["sweep"], sidewalk_tiny
    model, pooled = load_run(runs / "ide-s0"), []
    for table in (ds.query, ds.gallery):
        maps = torch.cat([panel.run.maps(p) for p in table.path]).numpy()              # [N, C, 12, w]
        stripes = [maps[:, :, 4 * k:4 * k + 4].max(axis=(2, 3)) for k in range(3)]
        pooled.append(np.concatenate(stripes, axis=1))
    assert model.backbone.channels == maps.shape[1]
    kit = evaluate_ranking(*pooled, ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid)
    assert panel.cut[3].mAP == pytest.approx(kit.mAP, abs=1e-3) and set(panel.cut) == set(range(1, 13))
    assert panel.stripes(panel.state(parts=5)).shape == (5, 3, 4)  # 12 rows become 5 * ceil(12 / 5)


def test_sweep_shows_trained_runs_only_when_revealed(panels, results, runs, sidewalk_tiny):
    panel = panels["sweep"]
    panel.reset()
    values = panel.trained("mAP")
    assert sorted(values) == [1, 3, 6] and len(values[6]) == 2
    one = results[(results.run == "mpn-3-s0") & (results.metric == "mAP") & (results.level == sidewalk_tiny.level)]
    assert values[3].tolist() == one.value.tolist() and systems_of(3) == ["mpn model.num_parts=3"]
    best = max(values, key=lambda k: values[k].mean())
    assert panel._lines(panel.state()) == [] and "reveal" in panel.verdict(panel.state())
    assert f"trained: best K = {best} ({100 * values[best].mean():.1f})" in panel.verdict(panel.state(reveal=True))
    assert "as you guessed" in panel.verdict(panel.state(reveal=True, guess=best))
    assert "mAP" not in panel.status(panel.state()) and "mAP" in panel.status(panel.state(reveal=True))


def test_sweep_without_results_and_with_a_folder(runs, sidewalk_tiny):
    few = subset(sidewalk_tiny, 3)
    alone = KSweep(runs / "cgpn-s0", few)  # the map of the first branch
    alone.reveal = True
    assert alone.error == "" and "no runs here" in alone.verdict(alone.state()) and "mode" in alone.hidden()
    folder = KSweep(runs / "ide-s0", few, runs)
    assert folder._run_of(3) is None  # part_dim 16 is another system than the suite's
    row = folder.results.run == "mpn-3-s0"
    folder.results.loc[row, "system"] = "mpn model.num_parts=3"
    assert folder._run_of(3) == runs / "mpn-3-s0"
    assert folder.part_maps(3, few.query.path.iloc[0]).shape == (3, 96, 32)
    folder.parts = 3
    assert folder.error == ""
    one_k = folder.results[folder.results.run == "mpn-3-s0"]
    assert KSweep(runs / "ide-s0", few, one_k).trained("mAP") == {}, "one K is no curve"


# ---- CGPN explorer --------------------------------------------------------------------------------------------------

def test_explorer_ranks_with_the_features_that_are_on(panels, runs, sidewalk_tiny):
    panel, ds = panels["explorer"], sidewalk_tiny
    panel.reset()
    model = load_run(runs / "cgpn-s0")
    q, g = (extract_features(model, t, size=(96, 32), flip="mean", progress=False) for t in (ds.query, ds.gallery))
    ids = ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid

    def rank(columns):
        return evaluate_ranking(q[:, columns], g[:, columns], *ids)

    everything = list(range(q.shape[1]))
    assert panel.ranking(panel.used(panel.state())).mAP == pytest.approx(rank(everything).mAP, abs=1e-6)
    panel.set(use_0=False, use_5=False)
    left = [c for c in everything if c // 16 not in (0, 5)]
    assert panel.ranking(panel.used(panel.state())).mAP == pytest.approx(rank(left).mAP, abs=1e-6)
    assert "10 of 12 features on" in panel.status_text and f"mAP {100 * rank(left).mAP:.1f}" in panel.status_text
    panel.reset()


def test_explorer_buttons_and_clicks(panels):
    panel = panels["explorer"]
    panel.reset()
    actions = panel.actions()
    actions["only global"]()
    assert panel.used(panel.state()) == (0, 1, 2)
    actions["only local"]()
    assert panel.used(panel.state()) == tuple(range(3, 12))
    actions["all features"]()
    actions["this branch on/off"]()
    assert panel.used(panel.state()) == tuple(k for k in range(12) if k not in (0, 3, 4))
    actions["this branch on/off"]()
    assert len(panel.used(panel.state())) == 12
    box, k = panel._tiles()[-1]
    panel.on_pointer(box[0] + 3, box[1] + 3, "down")
    assert (panel.branch, panel.group) == ("b3", "3/4-2") and panel.chosen(panel.state()) == k
    panel.on_pointer(450, 284 + 2 * panel._step() + 3, "down")
    assert panel.use_2 is False
    panel.branch = "b1"
    assert panel.group == "global" and panel.error == ""  # b1 has no 3/4-2
    panel.reset()


def test_explorer_looks_inside_the_stripe_group(panels):
    panel = panels["explorer"]
    panel.reset()
    low = panel.attention(panel.state(branch="b1", group="1/2-2"))[0]                   # [96, 32]
    assert low[:40].max() == 0 and low[48:].max() > 0.99
    assert panel.attention(panel.state(branch="b2", group="global")).shape == (2, 96, 32)
    assert panel._rows(panel.state(branch="b2", group="2/3-2")) == "5 – 12"


def test_explorer_takes_branched_networks_only(runs, sidewalk_tiny):
    with pytest.raises(ReIDKitError, match="mpn s0 has no branches"):
        CGPNExplorer(runs / "mpn-s0", sidewalk_tiny)


def test_explorer_shows_mgn_too(sidewalk_tiny):
    from reidkit.models import create_model
    from reidkit.panels.runs import PanelRun
    from reidkit.training import recipe_for

    torch.manual_seed(0)
    model = create_model("mgn", 24, backbone="small", reduced_dim=16)
    panel = CGPNExplorer(PanelRun("mgn", model, recipe_for("mgn", "smoke"), sidewalk_tiny), subset(sidewalk_tiny, 3))
    for branch, features in panel.branches.items():
        for group in features:
            panel.set(branch=branch, group=group)
            assert panel.error == ""
    assert list(panel.branches) == ["G", "P2", "P3"]


# ---- loss playground ------------------------------------------------------------------------------------------------

def some_points(seed=0):
    return torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("mining", ["hard", "all"])
@pytest.mark.parametrize("alignment", ["", "class", "sample", "batch"])
def test_playground_arrows_are_gradients(mining, alignment):
    points = some_points()
    settings = {"margin": 0.8, "metric": "euclidean", "mining": mining, "alignment": alignment, "weight": 1.7}
    result, step = evaluate(points, **settings), 1e-6
    assert result.total == pytest.approx(result.triplet + 1.7 * result.alignment)
    numeric = np.zeros(points.shape)
    for place in np.ndindex(points.shape):
        moved = [points.clone(), points.clone()]
        moved[0][place] += step
        moved[1][place] -= step
        values = [evaluate(m, **settings).total for m in moved]
        numeric[place] = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(result.gradient, numeric, atol=1e-6)


def test_playground_losses_are_those_of_the_kit():
    points = some_points(1)
    main, aux, labels = points[0].flatten(0, 1), points[1].flatten(0, 1), torch.tensor([0, 0, 1, 1, 2, 2])
    usual = {"margin": 0.5, "metric": "cosine", "mining": "hard", "alignment": "class", "weight": 1.0}

    def get(**changes):
        return evaluate(points, **usual | changes)

    assert get().triplet == pytest.approx(float(losses.batch_hard_triplet(main, labels, 0.5, "cosine")))
    assert get().alignment == pytest.approx(float(losses.class_alignment(main, aux, labels)))
    assert get(alignment="sample").alignment == pytest.approx(float(losses.sample_alignment(main, aux)))
    assert get(alignment="batch").alignment == pytest.approx(float(losses.batch_alignment(main, aux)))
    assert get(alignment="").alignment == 0 and get(alignment="").total == get().triplet


@pytest.mark.parametrize("margin", [0.0, 0.4, 3.0])
def test_every_triplet_counts(margin):
    x, labels = some_points(2)[0].flatten(0, 1), [0, 0, 1, 1, 2, 2]
    slow = []
    for a in range(6):
        for p in range(6):
            for n in range(6):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    slow.append(max(float((x[a] - x[p]).norm() - (x[a] - x[n]).norm()) + margin, 0.0))
    expected = sum(slow) / max(sum(v > 0 for v in slow), 1)
    assert float(batch_all_triplet(x, torch.tensor(labels), margin, "euclidean")) == pytest.approx(expected)


def test_playground_steps_down_and_resets(panels):
    panel = panels["playground"]
    panel.reset()
    before, picture = panel.result(panel.state()).total, panel.picture.tobytes()
    panel.rate = 0.1
    panel.actions()["step"]()
    assert panel.result(panel.state()).total < before and panel.error == ""
    panel.actions()["10 steps"]()
    assert panel.result(panel.state()).total < before
    assert (panel.x, panel.y) == panel.points[0][0][0]
    panel.reset()
    assert panel.picture.tobytes() == picture


def test_playground_sliders_that_round_move_nothing(panels):
    """A slider in the browser reports the nearest of its steps when a point lies between two of them."""
    panel = panels["playground"]
    panel.reset()
    points, picture = panel.points, panel.picture.tobytes()
    for name in ("x", "y"):
        setattr(panel, name, round(getattr(panel, name) * 20) / 20)
    assert panel.points == points and panel.picture.tobytes() == picture
    panel.x = round(panel.x * 20) / 20 + 0.05
    assert panel.points[0][0][0][0] == round(panel.x, 4) and panel.points[0][0][0][1] == points[0][0][0][1]
    panel.reset()
    assert panel.points == points


def test_playground_points_can_be_dragged(panels):
    from reidkit.panels.loss_playground import TOP
    from reidkit.panels.plane import PLANE, REACH

    panel = panels["playground"]
    panel.reset()

    def pixel(x, y):
        return (x / REACH + 1) / 2 * PLANE, (1 - y / REACH) / 2 * PLANE + TOP

    start = panel.points[1][2][0]                                                        # hollow C1
    panel.on_pointer(*pixel(*start), "down")
    assert panel.point == 9 + 7 and (panel.x, panel.y) == start
    panel.on_pointer(*pixel(-0.5, 0.25), "move")
    panel.on_pointer(*pixel(-0.5, 0.3), "up")
    assert panel.points[1][2][0] == (-0.5, 0.3) == (panel.x, panel.y)
    panel.on_pointer(*pixel(1.2, 1.2), "move")
    assert panel.points[1][2][0] == (-0.5, 0.3), "nothing is held any more"
    panel.on_pointer(*pixel(-0.5, 0.3), "down")
    panel.on_pointer(5000, -5000, "up")
    assert panel.points[1][2][0] == (REACH, REACH), "points stay on the plane"
    panel.alignment = ""
    assert panel.point <= 9 and panel.error == ""
    panel.reset()


def test_playground_tells_the_triplet_of_the_chosen_anchor(panels):
    from reidkit.panels.plane import anchor_story, violations

    panel = panels["playground"]
    panel.reset()
    points = np.array(panel.points)[0, :3, :3].reshape(9, 2)
    far = max(np.linalg.norm(points[0] - points[i]) for i in (1, 2))
    near = min(np.linalg.norm(points[0] - points[i]) for i in range(3, 9))
    story = anchor_story(panel.state())
    assert f"{far:.2f}\n" in story and f"{near:.2f}\n" in story
    assert f"= {max(far - near + panel.margin, 0):.2f}" in story
    assert violations(panel.state(margin=0.0))[0] <= violations(panel.state(margin=1.5))[0] == 9
    assert "in no\ntriplet" in anchor_story(panel.state(point=10))
