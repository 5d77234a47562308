"""What the K sweep and the CGPN explorer compute, against the evaluation of the same networks."""

import numpy as np
import pytest
import torch
from needs import need
from PIL import Image
from seeded_runs import suite_names, train_runs

need("ipywidgets")

from reidkit.errors import ReIDKitError
from reidkit.evaluation import evaluate_ranking, extract_features
from reidkit.panels.cgpn_explorer import CGPNExplorer
from reidkit.panels.k_sweep import KSweep, systems_of
from reidkit.panels.kit.chart import Line, draw_chart
from reidkit.panels.kit.subset import subset
from reidkit.training import load_run


@pytest.fixture(scope="module")
def runs(sidewalk_tiny, tmp_path_factory):
    """Folder of small runs: MPN with 6 (two seeds), 1 and 3 parts, CGPN, and IDE."""
    names = ("mpn-s0", "mpn-s1", "mpn-1-s0", "mpn-3-s0", "cgpn-s0", "ide-s0")
    return train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"), names)


@pytest.fixture(scope="module")
def results(runs):
    return suite_names(runs)


@pytest.fixture(scope="module")
def panels(runs, results, sidewalk_tiny):
    """One panel of each kind; tests put back what they move."""
    return {
        "sweep": KSweep(runs / "ide-s0", sidewalk_tiny, results),
        "explorer": CGPNExplorer(runs / "cgpn-s0", sidewalk_tiny),
    }


# ---- K sweep --------------------------------------------------------------------------------------------------------


def test_sweep_cuts_the_map_of_the_network(panels, runs, sidewalk_tiny):
    panel, ds = panels["sweep"], sidewalk_tiny
    model, pooled = load_run(runs / "ide-s0"), []
    for table in (ds.query, ds.gallery):
        maps = torch.cat([panel.run.maps(p) for p in table.path]).numpy()  # [N, C, 12, w]
        stripes = [maps[:, :, 4 * k : 4 * k + 4].max(axis=(2, 3)) for k in range(3)]
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


@pytest.mark.parametrize("points", [{}, {3: []}, {2: [40.0], 3: [], 6: [50.0, 52.0]}])
def test_a_chart_draws_the_values_there_are(points):
    """A line without values, or with none at one x, leaves them out: no axis numbers, no mark."""
    line = Line("trained", "trained networks", "#D55E00", points)
    picture = Image.new("RGB", (300, 240), "white")
    draw_chart(picture, (50, 20, 280, 160), [line], x_label="K", y_label="mAP", xs=range(1, 7), marks={})
    coloured = (np.asarray(picture)[21:160, 51:280] == (0xD5, 0x5E, 0x00)).all(axis=2)
    filled = [x for x, values in points.items() if values]
    columns = [50 + (x - 0.5) / 6 * 230 for x in filled]
    assert coloured.any() == bool(filled) and all(coloured[:, round(c) - 51].any() for c in columns)
    numbers = (np.asarray(picture)[25:155, :45] != 255).any()
    assert numbers == bool(filled)


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
    low = panel.attention(panel.state(branch="b1", group="1/2-2"))[0]  # [96, 32]
    assert low[:40].max() == 0 and low[48:].max() > 0.99
    assert panel.attention(panel.state(branch="b2", group="global")).shape == (2, 96, 32)
    assert panel._rows(panel.state(branch="b2", group="2/3-2")) == "5 – 12"


def test_explorer_takes_branched_networks_only(runs, sidewalk_tiny):
    with pytest.raises(ReIDKitError, match="mpn s0 has no branches"):
        CGPNExplorer(runs / "mpn-s0", sidewalk_tiny)


def test_explorer_shows_mgn_too(sidewalk_tiny):
    from reidkit.models import create_model
    from reidkit.panels.kit.runs import PanelRun
    from reidkit.training import recipe_for

    torch.manual_seed(0)
    model = create_model("mgn", 24, backbone="small", reduced_dim=16)
    panel = CGPNExplorer(PanelRun("mgn", model, recipe_for("mgn", "smoke"), sidewalk_tiny), subset(sidewalk_tiny, 3))
    for branch, features in panel.branches.items():
        for group in features:
            panel.set(branch=branch, group=group)
            assert panel.error == ""
    assert list(panel.branches) == ["G", "P2", "P3"]
