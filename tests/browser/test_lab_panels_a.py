"""Stepper, attention, ranked list and sandbox in real JupyterLab: controls, undo, keyboard, mouse, errors."""

import re

import pytest
from needs import need
from PIL import Image

need("playwright.sync_api")
from panel_page import (
    FRAGILE,
    WIDE,
    PanelHand,
    choose_and_undo,
    controls_by_tab,
    end_kernels,
    meet_planted_error,
    no_problems,
    open_page,
    picture_at_its_size,
    toggle_and_undo,
    undo,
    write_notebook,
)
from panel_runs import tiny_runs
from playwright.sync_api import expect

SETUP = (
    FRAGILE
    + """
import torch
torch.set_num_threads(1)
from pathlib import Path
from reidkit.data import load_dataset
from reidkit.panels.attention_panel import AttentionPanel
from reidkit.panels.misalignment import MisalignmentSandbox
from reidkit.panels.prior_stepper import PriorStepper
from reidkit.panels.ranked_list import RankedList

ds = load_dataset("sidewalk", root={root!r}, size="tiny", progress=False)
runs = {runs!r}

"""
)
CELLS = {
    "PriorStepper": "fragile(PriorStepper, 'parts', 12).from_dataset(ds, grid=(12, 4), count=6)",
    "AttentionPanel": "fragile(AttentionPanel, 'part', 12)(runs, ds, count=8)",
    "RankedList": "fragile(RankedList, 'top_k', 1)(runs, ds, checks=4)",
    "MisalignmentSandbox": "fragile(MisalignmentSandbox, 'scale', 2.0)(runs, ds, count=6)",
}


@pytest.fixture(scope="module")
def page(lab, browser, sidewalk_tiny, data_root, tmp_path_factory):
    """One notebook with the four panels, all cells run."""
    runs = tiny_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"))
    setup = SETUP.format(root=str(data_root), runs={name: str(path) for name, path in runs.items()})
    write_notebook(lab, "panels_a.ipynb", [setup, *CELLS.values()])
    page = open_page(lab, browser, "panels_a.ipynb")
    yield page
    page.context.close()


SLIDERS = {
    "PriorStepper": ["image", "threshold", "K", "head needs", "legs need"],
    "AttentionPanel": ["image", "part"],
    "RankedList": ["query", "top k", "weight 1", "weight 6"],
    "MisalignmentSandbox": ["image", "to the right", "down", "scale", "cover"],
}
CHOICES = {
    "AttentionPanel": [
        ("run", "cgpn", "mpn-no-ca"),
        ("method", "layercam", "gradcam"),
        ("layer", "layer2", "last map"),
        ("control", "random network", "none"),
    ],
    "RankedList": [("run", "cgpn", "mpn-no-ca")],
    "MisalignmentSandbox": [
        ("network A", "cgpn", "mpn-no-ca"),
        ("network B", "ide", "cgpn"),
        ("part maps", "none", "gradcam"),
    ],
}
TOGGLES = {"PriorStepper": ["drop the head", "drop the legs", "no segmentation"], "RankedList": ["junk rule"]}
HARD = {"head needs": "0.05", "legs need": "0.1", "weight 1": "0", "weight 6": "0", "threshold": "0.95"}


@pytest.mark.parametrize("kind, label", [(kind, label) for kind, labels in SLIDERS.items() for label in labels])
def test_sliders_by_keyboard(page, kind, label):
    hand = PanelHand(page, kind)
    if label in HARD:  # one step is too small to be seen: type a number, then go back by typing
        first = hand._control("widget-slider", label).locator(".widget-readout").inner_text()
        undo(hand, lambda: hand.type(label, HARD[label]), lambda: hand.type(label, first))
    else:
        key, back = ("ArrowLeft", "ArrowRight") if label in ("top k", "K") else ("ArrowRight", "ArrowLeft")
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
        ("PriorStepper", "K", "End"),
        ("AttentionPanel", "part", "End"),
        ("RankedList", "top k", "Home"),
        ("MisalignmentSandbox", "scale", "End"),
    ],
)
def test_a_planted_error_is_on_the_panel_and_reset_removes_it(page, kind, label, key):
    meet_planted_error(page, kind, label, key)


def test_numbers_follow_the_controls(page):
    hand = PanelHand(page, "PriorStepper")
    hand.toggle("drop the legs")
    expect(hand.status).to_contain_text("not reliable (no leg)")
    hand.click("reset")
    expect(hand.status).to_contain_text("| reliable")
    ranked = PanelHand(page, "RankedList")
    shown = ranked.status.inner_text()
    assert "AP = (" in shown and "rule on" in shown
    ranked.toggle("junk rule")
    expect(ranked.status).to_contain_text("rule off")
    ranked.click("reset")
    expect(ranked.status).to_have_text(shown)
    expect(ranked._control("widget-slider", "weight 12")).to_be_hidden()  # mpn has 6 parts
    ranked.choose("run", "cgpn")
    expect(ranked._control("widget-slider", "weight 12")).to_be_visible()
    ranked.click("reset")


INSIDE = """([image, page]) => {
  const [inner, outer] = [image, document.querySelector(page)].map(e => e.getBoundingClientRect());
  return inner.right <= outer.right;
}"""


def drag(page, x: float, y: float, dx: float, dy: float) -> None:
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=5)
    page.mouse.up()


def test_the_crop_is_dragged_with_the_mouse(page):
    hand = PanelHand(page, "MisalignmentSandbox")
    hand.picture.scroll_into_view_if_needed()
    before, box = hand.settled(), hand.picture.bounding_box()
    drag(page, box["x"] + 60, box["y"] + 150, 12, 72)  # of a crop of 120 x 360 pixels
    expect(hand.status).to_contain_text("right +0.10, down +0.20")
    after = hand.settled(before=before)
    page.mouse.move(box["x"] + 70, box["y"] + 300)  # the button is up: nothing follows
    assert hand.settled() == after
    hand.click("straighten")
    assert hand.settled(before=after, target=before) == before
    assert no_problems(page)


def test_the_cover_moves(page):
    hand = PanelHand(page, "MisalignmentSandbox")
    expect(hand._control("widget-slider", "cover from")).to_be_hidden()  # nothing is covered
    before = hand.settled()
    hand.type("cover", "0.3")
    hand.settled(before=before)
    undo(hand, lambda: hand.press("cover from", "ArrowLeft"), lambda: hand.press("cover from", "ArrowRight"))
    hand.click("reset")
    assert hand.settled(target=before) == before


def upload(hand: PanelHand, path) -> None:
    with hand.page.expect_file_chooser() as chosen:
        hand.box.get_by_role("button", name="upload a crop").click()
    chosen.value.set_files(path)


def test_a_crop_is_uploaded(page, tmp_path):
    hand = PanelHand(page, "MisalignmentSandbox")
    before = hand.settled()
    Image.effect_mandelbrot((64, 128), (-2, -1.5, 1, 1.5), 60).save(tmp_path / "mine.png")
    upload(hand, tmp_path / "mine.png")
    expect(hand.status).to_contain_text("similarity 1.000, no rank")
    hand.press("down", "ArrowRight")
    expect(hand.status).to_contain_text("down +0.01")
    expect(hand.status).not_to_contain_text("mpn-no-ca: similarity 1.000")
    (tmp_path / "bad.png").write_text("no image")
    upload(hand, tmp_path / "bad.png")
    expect(hand.error).to_contain_text("'bad.png' is not an image that can be read")
    hand.click("reset")
    assert hand.settled(target=before) == before


@pytest.mark.parametrize("kind", list(CELLS))
def test_pictures_are_shown_at_their_size(page, kind, screenshot):
    picture_at_its_size(page, kind, screenshot)


@pytest.mark.parametrize("kind", list(CELLS))
def test_every_control_is_reached_by_tab_and_has_a_name(page, kind):
    controls_by_tab(page, kind)


@pytest.mark.parametrize("kind", list(CELLS))
def test_a_narrow_page_shrinks_the_picture(page, kind):
    hand = PanelHand(page, kind)
    hand.settled()
    page.set_viewport_size({"width": 1100, "height": 1400})
    try:
        page.wait_for_function(INSIDE, arg=[hand.picture.element_handle(), ".jp-Notebook"])  # nothing is cut off
        box = hand.picture.bounding_box()
        natural = hand.picture.evaluate("i => i.naturalWidth / i.naturalHeight")
        assert box["width"] < 900 and box["width"] / box["height"] == pytest.approx(natural, rel=0.02)
        if kind == "MisalignmentSandbox":  # the mouse is in the picture's own pixels
            shrunk = box["width"] / 960
            drag(page, box["x"] + 60 * shrunk, box["y"] + 150 * shrunk, 12 * shrunk, 72 * shrunk)
            expect(hand.status).to_contain_text(re.compile(r"right \+0\.(09|10|11), down \+0\.(19|20|21)"))
            hand.click("reset")
            hand.settled()
    finally:
        page.set_viewport_size({"width": WIDE, "height": 1400})
        page.wait_for_function("image => image.clientWidth === image.naturalWidth", arg=hand.picture.element_handle())


def test_a_reopened_notebook_shows_the_picture(page, lab, browser):
    """Last test of the file: it ends the kernel. While the panel lives, its static picture is hidden."""
    static = ".jp-OutputArea-child .jp-RenderedImage img"
    assert page.locator(static).count() == len(CELLS)
    for picture in page.locator(static).all():
        expect(picture).to_be_hidden()
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    end_kernels(lab)
    again = open_page(lab, browser, "panels_a.ipynb", run=False)
    for picture in again.locator(static).all():
        expect(picture).to_be_visible()
        assert picture.evaluate("i => i.naturalWidth") == 960
    assert again.locator(static).count() == len(CELLS)
    again.context.close()
