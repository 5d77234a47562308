"""What a reader does with one panel in real JupyterLab: drag, click, upload, guess, step; numbers follow."""

import numpy as np
import psutil
import pytest
from needs import need
from PIL import Image

need("playwright.sync_api")
from panel_page import PanelHand, drag, no_problems, undo
from playwright.sync_api import expect

from reidkit.panels.kit.plane import PLANE, REACH, TOP
from reidkit.panels.kit.upload import LIMIT
from reidkit.panels.loss_playground import first_points


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
    before = hand.settled()
    drag_crop(hand, 0.1, 0.2)
    expect(hand.status).to_contain_text("right +0.10, down +0.20")
    after = hand.settled(before=before)
    page.mouse.move(*hand.place(70, 300))  # the button is up: nothing follows
    assert hand.settled() == after
    hand.click("straighten")
    assert hand.settled(before=after, target=before) == before
    assert no_problems(page)


def drag_crop(hand: PanelHand, right: float, down: float) -> None:
    """Drag the crop by shares of its width and height; tiny's images are 32 x 96, so it is 120 x 360 large."""
    (x, y), (x1, y1) = hand.place(60, 150), hand.place(60 + 120 * right, 150 + 360 * down)
    drag(hand.page, x, y, x1 - x, y1 - y)


SHIFT = "() => document.querySelector('.MisalignmentSandbox svg.reidkit-grip g').getAttribute('transform') ?? ''"
FRAMES = """() => {  // every new place of the crop, from frame to frame
  const seen = window.seen = [];
  const look = () => {
    const now = document.querySelector(".MisalignmentSandbox svg.reidkit-grip g").getAttribute("transform") ?? "";
    if (seen[seen.length - 1] !== now) seen.push(now);
    window.looking = requestAnimationFrame(look);
  };
  look();
}"""


def kernel_process(page) -> psutil.Process:
    """The process of the page's kernel, a child of the server."""
    name = page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.id")
    children = psutil.Process().children(recursive=True)
    return next(child for child in children if any(name in word for word in child.cmdline()))


def test_the_crop_follows_the_mouse_while_the_kernel_is_frozen(page):
    """The browser itself moves the crop, to a new place with every move of the mouse; the networks come after."""
    hand = PanelHand(page, "MisalignmentSandbox")
    before = hand.settled()
    (x, y), (_, lower) = hand.place(60, 150), hand.place(60, 150 + 0.2 * 360)
    page.evaluate(FRAMES)
    kernel, steps = kernel_process(page), 20
    kernel.suspend()
    try:
        page.mouse.move(x, y)
        page.mouse.down()
        for i in range(1, steps + 1):
            page.mouse.move(x, y + (lower - y) * i / steps)
            page.wait_for_function("wanted => window.seen.length >= wanted", arg=1 + i)
        page.mouse.up()
        assert page.evaluate(SHIFT) == page.evaluate("window.seen.at(-1)") != ""
    finally:
        kernel.resume()
    page.evaluate("cancelAnimationFrame(window.looking)")
    expect(hand.status).to_contain_text("down +0.20")
    hand.settled(before=before)
    assert page.evaluate(SHIFT) == "", "the kernel's picture has taken over"
    hand.click("reset")
    assert hand.settled(target=before) == before


def test_a_reset_right_after_a_drag_resets(page):
    """No move that is still on its way may come after the reset, neither in the browser nor in the kernel."""
    hand = PanelHand(page, "MisalignmentSandbox")
    before = hand.settled()
    reset = hand.box.get_by_role("button", name="reset", exact=True)
    for _ in range(3):
        drag_crop(hand, 0.2, 0.3)
        reset.evaluate("button => button.click()")  # at once, wherever the page has scrolled to
        expect(hand.status).to_contain_text("right +0.00, down +0.00")
        assert hand.settled(target=before) == before and page.evaluate(SHIFT) == ""


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


@pytest.mark.parametrize("kind", ["MisalignmentSandbox", "AttentionPanel"])
def test_an_upload_above_the_limit_is_refused_and_the_connection_lives(page, tmp_path, kind):
    """By size, in the browser: what is sent is no file, and the panel goes on answering."""
    hand = PanelHand(page, kind)
    before = hand.settled()
    expect(hand.box.get_by_text("at most 10 MB")).to_be_visible()
    (tmp_path / "<b>large<b>.png").write_bytes(b"x" * (LIMIT + 1))
    upload(hand, tmp_path / "<b>large<b>.png")
    expect(hand.error).to_contain_text("'<b>large<b>.png' has 10.0 MB, and a notebook server takes at most 10 MB")
    assert hand.error.locator("b", has_text="large").count() == 0
    hand.press("image", "ArrowRight")
    expect(hand.error).to_be_hidden()
    hand.settled(before=before)
    hand.click("reset")
    assert hand.settled(target=before) == before
    assert no_problems(page)


def test_two_uploads_are_compared(page, tmp_path):
    hand = PanelHand(page, "MisalignmentSandbox")
    before = hand.settled()
    for name, seed in (("one.png", 40), ("two.png", 90)):
        Image.effect_mandelbrot((64, 128), (-2, -1.5, 1, 1.5), seed).save(tmp_path / name)
        upload(hand, tmp_path / name)
        expect(hand.picture).to_contain_text(name)
    expect(hand.status).to_contain_text("no rank")
    assert [hand._control("widget-dropdown", label).locator("select").input_value() for label in ("crop",)]
    hand.choose("compare with", "one.png")
    expect(hand.status).to_contain_text("similarity 1.000")
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
    third = (180, 220)  # thumbnail
    undo(hand, lambda: hand.click_at(*third), lambda: hand.click("reset"))
    hand.click_at(*third)
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
    hand.click_at(460, 289)  # the name of the first feature
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
    before, (x, y) = hand.settled(), np.array(first_points()[0][1][0])  # filled B1
    there = (x / REACH + 1) / 2 * PLANE, (1 - y / REACH) / 2 * PLANE + TOP
    start, end = hand.place(*there), hand.place(there[0] + 90, there[1] + 60)
    drag(page, *start, end[0] - start[0], end[1] - start[1])
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
