"""Comparator, K sweep, CGPN explorer, loss playground in real JupyterLab: controls, undo, keyboard, mouse, errors."""

import numpy as np
import pytest
from needs import need

need("playwright.sync_api")
from panel_page import (
    FRAGILE,
    PanelHand,
    choose_and_undo,
    controls_by_tab,
    meet_planted_error,
    no_problems,
    open_page,
    picture_at_its_size,
    toggle_and_undo,
    undo,
    write_notebook,
)
from playwright.sync_api import expect
from seeded_runs import train_runs

from reidkit.panels.kit.plane import PLANE, REACH
from reidkit.panels.loss_playground import TOP, first_points

SETUP = (
    FRAGILE
    + """
import torch
torch.set_num_threads(1)
from pathlib import Path
from reidkit.data import load_dataset
from reidkit.panels.cgpn_explorer import CGPNExplorer
from reidkit.panels.comparator import VariantComparator
from reidkit.panels.k_sweep import KSweep
from reidkit.panels.loss_playground import LossPlayground
from reidkit.panels.kit.subset import subset

runs = Path({runs!r})
ds = subset(load_dataset("sidewalk", root={root!r}, size="tiny", progress=False), 6)

"""
)
CELLS = {
    "VariantComparator": "fragile(VariantComparator, 'length', 3)([runs / 'mpn-s0', runs / 'baseline-s0'], ds, runs)",
    "KSweep": "fragile(KSweep, 'parts', 12)(runs / 'ide-s0', ds)",
    "CGPNExplorer": "fragile(CGPNExplorer, 'image', len(ds.query))(runs / 'cgpn-s0', ds)",
    "LossPlayground": "fragile(LossPlayground, 'margin', 1.5)()",
}


@pytest.fixture(scope="module")
def page(lab, browser, sidewalk_tiny, data_root, tmp_path_factory):
    """One notebook with the four panels, all cells run."""
    runs = train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"), ("mpn-s0", "baseline-s0", "cgpn-s0", "ide-s0"))
    write_notebook(lab, "panels_b.ipynb", [SETUP.format(root=str(data_root), runs=str(runs)), *CELLS.values()])
    page = open_page(lab, browser, "panels_b.ipynb")
    yield page
    page.context.close()


SLIDERS = {
    "VariantComparator": ["query", "list length"],
    "KSweep": ["guess: best K", "show K", "query image"],
    "CGPNExplorer": ["query image"],
    "LossPlayground": ["identities P", "images K", "margin", "lambda", "step size", "point"],
}
CHOICES = {
    "VariantComparator": [
        ("metric", "rank1", "mAP"),
        ("show", "how each part matches rank 1", "where each part looks"),
    ],
    "KSweep": [("metric", "rank1", "mAP")],
    "CGPNExplorer": [("stripe group", "global", "1/2-2")],
    "LossPlayground": [
        ("triplets", "all", "hardest (Eq. 3)"),
        ("distance", "cosine", "euclidean"),
        ("alignment", "sample-wise (Eq. 9)", "class-wise (Eq. 8)"),
        ("alignment", "none", "class-wise (Eq. 8)"),
    ],
}
TOGGLES = {"KSweep": ["reveal the numbers"], "CGPNExplorer": ["use b1-global", "use b3-3/4-2"]}


@pytest.mark.parametrize("kind, label", [(kind, label) for kind, labels in SLIDERS.items() for label in labels])
def test_sliders_by_keyboard(page, kind, label):
    hand = PanelHand(page, kind)
    key, back = ("ArrowLeft", "ArrowRight") if label == "list length" else ("ArrowRight", "ArrowLeft")
    undo(hand, lambda: hand.press(label, key), lambda: hand.press(label, back))
    assert no_problems(page)


@pytest.mark.parametrize("kind, choice", [(kind, choice) for kind, found in CHOICES.items() for choice in found])
def test_choices(page, kind, choice):
    choose_and_undo(page, kind, *choice)


@pytest.mark.parametrize("kind, label", [(kind, label) for kind, labels in TOGGLES.items() for label in labels])
def test_toggles_by_keyboard(page, kind, label):
    toggle_and_undo(page, kind, label)


@pytest.mark.parametrize(
    "kind, label, key",
    [
        ("VariantComparator", "list length", "Home"),
        ("KSweep", "show K", "End"),
        ("CGPNExplorer", "query image", "End"),
        ("LossPlayground", "margin", "End"),
    ],
)
def test_a_planted_error_is_on_the_panel_and_reset_removes_it(page, kind, label, key):
    meet_planted_error(page, kind, label, key)


def test_two_runs_change_places(page):
    hand = PanelHand(page, "VariantComparator")
    before = hand.settled()
    expect(hand.status).to_contain_text("on one seed")
    hand.choose("B", "mpn s0")
    expect(hand.error).to_contain_text("A and B are both 'mpn s0'")
    hand.choose("A", "baseline s0")
    expect(hand.error).to_be_hidden()
    hand.settled(before=before)
    hand.click("reset")
    assert hand.settled(target=before) == before
    assert no_problems(page)


def test_a_click_chooses_a_query(page):
    hand = PanelHand(page, "VariantComparator")
    hand.picture.scroll_into_view_if_needed()
    third = {"x": 180, "y": 220}  # thumbnail
    undo(hand, lambda: hand.picture.click(position=third), lambda: hand.click("reset"))
    hand.picture.click(position=third)
    expect(hand.handle("query")).to_have_attribute("aria-valuenow", "3.0")
    hand.click("reset")
    expect(hand.handle("query")).to_have_attribute("aria-valuenow", "1.0")
    assert no_problems(page)


def test_guess_then_reveal(page, screenshot):
    hand = PanelHand(page, "KSweep")
    before = hand.settled()
    expect(hand.status).to_contain_text("your guess: K = 3")
    hand.toggle("reveal the numbers")
    expect(hand.status).to_contain_text("cut only: mAP")
    hand.settled(before=before)
    screenshot(hand.box, "panel_KSweep_revealed")
    hand.click("reset")
    assert hand.settled(target=before) == before


def test_branches_and_features(page, screenshot):
    hand = PanelHand(page, "CGPNExplorer")
    before = hand.settled()
    undo(hand, lambda: hand.choose("branch", "b3"), lambda: hand.click("reset"))
    hand.choose("branch", "b3")
    expect(hand._control("widget-dropdown", "stripe group").locator("option")).to_have_count(6)  # global and five
    hand.click("reset")
    hand.click("only global")
    expect(hand.status).to_contain_text("3 of 12 features on")
    hand.settled(before=before)
    hand.picture.click(position={"x": 460, "y": 289})  # the name of the first feature
    expect(hand.status).to_contain_text("2 of 12 features on")
    hand.click("only local")
    expect(hand.status).to_contain_text("9 of 12 features on")
    hand.click("this branch on/off")
    expect(hand.status).to_contain_text("7 of 12 features on")
    hand.click("only global")
    expect(hand.status).to_contain_text("3 of 12 features on")  # the tick boxes have followed
    for name in ("b1-global", "b2-global", "b3-global"):
        hand.toggle(f"use {name}")
    expect(hand.error).to_contain_text("every feature is switched off")
    screenshot(hand.box, "panel_CGPNExplorer_error")
    hand.click("all features")
    expect(hand.error).to_be_hidden()
    assert hand.settled(target=before) == before
    assert no_problems(page)


def test_points_are_dragged_and_step(page):
    hand = PanelHand(page, "LossPlayground")
    hand.picture.scroll_into_view_if_needed()
    before, box, (x, y) = hand.settled(), hand.picture.bounding_box(), np.array(first_points()[0][1][0])  # filled B1
    start = box["x"] + (x / REACH + 1) / 2 * PLANE, box["y"] + (1 - y / REACH) / 2 * PLANE + TOP
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 90, start[1] + 60, steps=6)
    page.mouse.up()
    dragged = hand.settled(before=before)
    expect(hand.handle("point")).to_have_attribute("aria-valuenow", "4.0")
    assert float(hand.handle("its x").get_attribute("aria-valuenow")) == pytest.approx(x + 90 / PLANE * 3, abs=0.06)
    hand.press("its y", "ArrowUp")  # the same by keyboard
    higher = hand.settled(before=dragged)
    hand.press("its x", "ArrowLeft")
    hand.settled(before=higher)
    hand.click("reset")
    assert hand.settled(target=before) == before

    def total() -> float:
        return float(hand.status.inner_text().split("total ")[1].split()[0])

    first = total()
    hand.click("step")
    one = hand.settled(before=before)
    hand.click("10 steps")
    hand.settled(before=one)
    assert total() < first
    hand.click("reset")
    assert hand.settled(target=before) == before
    assert no_problems(page)


@pytest.mark.parametrize("kind", list(CELLS))
def test_pictures_are_shown_at_their_size(page, kind, screenshot):
    picture_at_its_size(page, kind, screenshot)


@pytest.mark.parametrize("kind", list(CELLS))
def test_every_control_is_reached_by_tab_and_has_a_name(page, kind):
    controls_by_tab(page, kind)
