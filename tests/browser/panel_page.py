"""Driving panels in real JupyterLab: a notebook from a list of cells, and hands for its controls."""

import hashlib
import json
import time
import urllib.parse
import urllib.request

from PIL import Image
from playwright.sync_api import Locator, Page, expect
from servers import ERROR_OUTPUT, LIMIT, TOKEN, new_page, open_in_lab, wait_for_kernel

STDERR = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'
FRAGILE = """
def fragile(kind, trait, value):
    "The same kind of panel, with an error planted at one value of a trait."
    def render(self, state):
        if getattr(state, trait) == value:
            raise KeyError("planted")
        return kind.render(self, state)
    return type(kind.__name__, (kind,), dict(render=render))
"""
PIXELS = """async image => {
  for (let tries = 0; tries < 50; tries++) {  // a picture may be replaced while it is decoded
    try { await image.decode(); break; } catch { await new Promise(done => setTimeout(done, 100)); }
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL();
}"""
WIDE = 1500  # pixels: every panel at its full size
STEP = 150  # milliseconds between two looks at a picture
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def write_notebook(lab: str, name: str, cells: list[str]) -> None:
    """Put a notebook of code cells into the server's folder of notebooks."""
    code = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "execution_count": None, "outputs": [], "source": c}
        for i, c in enumerate(cells)
    ]
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": KERNEL}, "cells": code}
    body = json.dumps({"type": "notebook", "format": "json", "content": content}).encode()
    request = urllib.request.Request(
        f"{lab}/api/contents/notebooks/{urllib.parse.quote(name)}?token={TOKEN}",
        data=body,
        method="PUT",
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=LIMIT).close()


def open_page(lab: str, browser, name: str, run: bool = True) -> Page:
    """Open a notebook of the server in a new window of its own; run all cells."""
    page = new_page(browser, WIDE)
    open_in_lab(page, lab, name, run)
    return page


def end_kernels(lab: str) -> None:
    """Shut every kernel of the server down."""
    with urllib.request.urlopen(f"{lab}/api/sessions?token={TOKEN}", timeout=LIMIT) as answer:
        sessions = json.load(answer)
    for session in sessions:
        url = f"{lab}/api/sessions/{session['id']}?token={TOKEN}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=LIMIT).close()


class PanelHand:
    """One panel on a page, found by its class name, and what a reader can do with it."""

    def __init__(self, page: Page, kind: str):
        self.page, self.box = page, page.locator(f".reidkit-panel.{kind}").last
        self.box.scroll_into_view_if_needed()
        self.picture = self.box.locator("img.reidkit-picture, .reidkit-picture img")
        self.status, self.error = self.box.locator(".reidkit-status"), self.box.locator(".reidkit-error")

    def _control(self, kind: str, label: str) -> Locator:
        exact = self.page.get_by_text(label, exact=True)
        return self.box.locator(f".{kind}", has=exact)

    def handle(self, label: str) -> Locator:
        return self._control("widget-slider", label).get_by_role("slider")

    def press(self, label: str, key: str) -> None:
        """A key on a slider's handle."""
        handle = self.handle(label)
        handle.focus()
        expect(handle).to_be_focused()
        self.page.keyboard.press(key)

    def type(self, label: str, number: str) -> None:
        """A number typed beside a slider."""
        readout = self._control("widget-slider", label).locator(".widget-readout")
        readout.fill(number)
        readout.press("Enter")

    def choose(self, label: str, option: str) -> None:
        self._control("widget-dropdown", label).locator("select").select_option(option)

    def toggle(self, label: str) -> None:
        """The space bar on a tick box."""
        self._control("widget-checkbox", label).locator("input").focus()
        self.page.keyboard.press("Space")

    def click(self, button: str) -> None:
        self.box.get_by_role("button", name=button, exact=True).click()

    def pixels(self) -> str:
        """A fingerprint of the picture as the browser decoded it: where the page has scrolled to does not matter."""
        return hashlib.sha256(self.picture.evaluate(PIXELS).encode()).hexdigest()

    def settled(self, before: str | None = None, target: str | None = None) -> str:
        """The picture once all that was done has been answered; waits for one that is not `before` (or is `target`)."""
        end, last = time.monotonic() + LIMIT, ""
        while time.monotonic() < end:
            wait_for_kernel(self.page)
            now = self.pixels()
            if now == last and now != before and target in (None, now):
                return now
            last = now
            self.page.wait_for_timeout(STEP)
        raise AssertionError("the picture did not change" if target is None else "the old picture did not come back")


def undo(hand: PanelHand, do, back) -> None:
    """`do` changes the picture, `back` restores the same pixels."""
    before = hand.settled()
    do()
    after = hand.settled(before=before)
    back()
    assert hand.settled(before=after, target=before) == before


def no_problems(page: Page) -> bool:
    """No console error, no traceback, nothing on stderr."""
    outputs = page.locator(f"{ERROR_OUTPUT}, {STDERR}").all_inner_texts()
    assert page.problems == [] and outputs == [], (page.problems, outputs)
    return True


# ---- what holds for every panel; each file says for which of its controls -------------------------------------------


def choose_and_undo(page: Page, kind: str, label: str, other: str, first: str) -> None:
    """Another option changes the picture, the first one restores it."""
    hand = PanelHand(page, kind)
    undo(hand, lambda: hand.choose(label, other), lambda: hand.choose(label, first))
    assert no_problems(page)


def toggle_and_undo(page: Page, kind: str, label: str) -> None:
    """The space bar changes the picture, once more restores it."""
    hand = PanelHand(page, kind)
    undo(hand, lambda: hand.toggle(label), lambda: hand.toggle(label))
    assert no_problems(page)


def meet_planted_error(page: Page, kind: str, label: str, key: str) -> None:
    """The key on a slider meets the error of FRAGILE: it is shown, the last good picture stays, reset removes it."""
    hand = PanelHand(page, kind)
    before = hand.settled()
    hand.press(label, key)
    expect(hand.error).to_contain_text("KeyError: 'planted'")
    expect(hand.error.locator('[role="alert"]')).to_be_visible()
    assert hand.settled() == before, "the last good picture stays"
    hand.click("reset")
    expect(hand.error).to_be_hidden()
    assert hand.settled(target=before) == before
    assert no_problems(page)


def picture_at_its_size(page: Page, kind: str, screenshot) -> None:
    """The picture is neither stretched nor empty; a screenshot of the panel is kept."""
    hand = PanelHand(page, kind)
    hand.settled()
    size = hand.picture.evaluate("i => [i.naturalWidth, i.naturalHeight, i.clientWidth, i.clientHeight]")
    assert size[:2] == size[2:], "a stretched picture is blurred"
    page.evaluate("document.activeElement.blur()")
    with Image.open(screenshot(hand.box, f"panel_{kind}")) as image:
        assert image.width >= size[0] and len(image.convert("L").getcolors(256)) > 50


def controls_by_tab(page: Page, kind: str) -> None:
    """Every control can be reached by the tab key, every button has a text."""
    hand = PanelHand(page, kind)
    hand.settled()
    wanted = hand.box.locator('[role="slider"], select, input[type="checkbox"], button:not([disabled])')
    unreachable = "es => es.filter(e => e.offsetParent !== null && e.tabIndex < 0).length"
    assert wanted.count() > 3 and wanted.evaluate_all(unreachable) == 0
    assert all(hand.box.locator("button").all_inner_texts())
