"""What a reader does with one panel in real JupyterLab: drag, click, upload, guess, step; numbers follow."""

import numpy as np
import pytest
from needs import need
from PIL import Image

need("playwright.sync_api")
from panel_page import PanelHand, drag, no_problems, undo
from playwright.sync_api import expect

from reidkit.panels.kit.plane import PLANE, REACH
from reidkit.panels.loss_playground import TOP, first_points


@pytest.fixture(scope="module")
def page(open_panels):
    """One notebook with the eight panels, all cells run."""
    page = open_panels("gestures.ipynb")
    yield page
    page.context.close()


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
    expect(hand.status).not_to_contain_text("mpn: similarity 1.000")
    (tmp_path / "bad.png").write_text("no image")
    upload(hand, tmp_path / "bad.png")
    expect(hand.error).to_contain_text("'bad.png' is not an image that can be read")
    hand.click("reset")
    assert hand.settled(target=before) == before


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
