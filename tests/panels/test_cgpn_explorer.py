"""What the CGPN explorer computes, against the evaluation of the same network."""

import pytest
import torch
from needs import need

need("ipywidgets")
from reidkit.errors import ReIDKitError
from reidkit.evaluation import evaluate_ranking, extract_features
from reidkit.models import create_model
from reidkit.panels.cgpn_explorer import CGPNExplorer
from reidkit.panels.kit.runs import PanelRun
from reidkit.panels.kit.subset import subset
from reidkit.training import load_run, recipe_for


def test_explorer_ranks_with_the_features_that_are_on(panels, runs, sidewalk_tiny):
    panel, ds = panels["CGPNExplorer"], sidewalk_tiny
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
    panel = panels["CGPNExplorer"]
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
    panel = panels["CGPNExplorer"]
    panel.reset()
    low = panel.attention(panel.state(branch="b1", group="1/2-2"))[0]  # [96, 32]
    assert low[:40].max() == 0 and low[48:].max() > 0.99
    assert panel.attention(panel.state(branch="b2", group="global")).shape == (2, 96, 32)
    assert panel._rows(panel.state(branch="b2", group="2/3-2")) == "5 – 12"


def test_explorer_takes_networks_with_stripe_groups_only(runs, sidewalk_tiny):
    with pytest.raises(ReIDKitError, match="mpn s0 has no stripe groups"):
        CGPNExplorer(runs / "mpn-s0", sidewalk_tiny)
    dsa = create_model("dsa", 24, backbone="small", reduced_dim=16)  # two branches, and one feature of each stripe
    with pytest.raises(ReIDKitError, match="dsa s0 has no stripe groups"):
        CGPNExplorer(PanelRun("dsa s0", dsa, recipe_for("dsa", "smoke"), sidewalk_tiny), sidewalk_tiny)


def test_explorer_shows_mgn_too(sidewalk_tiny):
    torch.manual_seed(0)
    model = create_model("mgn", 24, backbone="small", reduced_dim=16)
    panel = CGPNExplorer(PanelRun("mgn", model, recipe_for("mgn", "smoke"), sidewalk_tiny), subset(sidewalk_tiny, 3))
    for branch, features in panel.branches.items():
        for group in features:
            panel.set(branch=branch, group=group)
            assert panel.error == ""
    assert list(panel.branches) == ["G", "P2", "P3"]
