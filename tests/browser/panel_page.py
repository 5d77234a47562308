"""Driving panels in real JupyterLab: a notebook from a list of cells, and hands for its controls."""

import hashlib
import json
import time
import urllib.parse
import urllib.request

from playwright.sync_api import Locator, Page, expect
from servers import ERROR_OUTPUT, LIMIT, STDERR, TOKEN, new_page, open_in_lab, wait_for_kernel

SETUP = """
import torch
torch.set_num_threads(1)
from pathlib import Path
from reidkit import panels
from reidkit.data import load_dataset
from reidkit.panels.kit.subset import subset

runs = Path({runs!r})
networks = {{name: runs / (name + "-s0") for name in ("mpn", "cgpn", "ide")}}
pair = [runs / "mpn-s0", runs / "baseline-s0"]
ds = load_dataset("sidewalk", root={root!r}, size="tiny", progress=False)
few = subset(ds, 6)

def fragile(kind, trait, value):
    "The same kind of panel, with an error planted at one value of a trait."
    def draw(self, state):
        if getattr(state, trait) == value:
            raise KeyError("planted")
        return kind.draw(self, state)
    return type(kind.__name__, (kind,), dict(draw=draw))
"""
CELLS = {  # an error is planted at the end of one slider
    "PriorStepper": "fragile(panels.PriorStepper, 'parts', 12).from_dataset(ds, grid=(12, 4), count=6)",
    "AttentionPanel": "fragile(panels.AttentionPanel, 'part', 12)(networks, ds, count=8)",
    "RankedList": "fragile(panels.RankedList, 'top_k', 1)(networks, ds, checks=4)",
    "MisalignmentSandbox": "fragile(panels.MisalignmentSandbox, 'scale', 2.0)(networks, ds, count=6)",
    "VariantComparator": "fragile(panels.VariantComparator, 'length', 3)(pair, few, runs, level='mild')",
    "KSweep": "fragile(panels.KSweep, 'parts', 12)(runs / 'ide-s0', few)",
    "CGPNExplorer": "fragile(panels.CGPNExplorer, 'image', len(few.query))(runs / 'cgpn-s0', few)",
    "LossPlayground": "fragile(panels.LossPlayground, 'margin', 1.5)()",
}
PLACE = """(picture, [x, y]) => {  // of a point of the drawing, in the window
  const holds = ({ x: x0, y: y0, width, height }) => x0 <= x && x < x0 + width && y0 <= y && y < y0 + height;
  const piece = [...picture.querySelectorAll("svg.reidkit-piece")].find(svg => holds(svg.viewBox.baseVal));
  const at = new DOMPoint(x, y).matrixTransform(piece.getScreenCTM());
  return [at.x, at.y];
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


def end_kernel(lab: str, name: str) -> None:
    """Shut the kernel of one notebook down."""
    with urllib.request.urlopen(f"{lab}/api/sessions?token={TOKEN}", timeout=LIMIT) as answer:
        sessions = json.load(answer)
    for session in (s for s in sessions if s["path"].endswith(name)):
        url = f"{lab}/api/sessions/{session['id']}?token={TOKEN}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=LIMIT).close()


class PanelHand:
    """One panel on a page, found by its class name, and what a reader can do with it."""

    def __init__(self, page: Page, kind: str):
        self.page, self.box = page, page.locator(f".reidkit-panel.{kind}").last
        self.box.scroll_into_view_if_needed()
        self.picture = self.box.locator(".reidkit-sketch")
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
        """A fingerprint of the picture, its photographs included: where the page has scrolled to does not matter."""
        return hashlib.sha256(self.picture.inner_html().encode()).hexdigest()

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the panel's drawing is in the window, wherever its piece has flowed to."""
        self.box.scroll_into_view_if_needed()
        across, down = self.picture.evaluate(PLACE, [x, y])
        if not 0 < down < self.page.viewport_size["height"]:
            self.page.mouse.move(640, 600)
            self.page.mouse.wheel(0, down - 600)
            self.page.wait_for_timeout(STEP)
            across, down = self.picture.evaluate(PLACE, [x, y])
        return across, down

    def click_at(self, x: float, y: float) -> None:
        """A click on a point of the panel's drawing."""
        self.page.mouse.click(*self.place(x, y))

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


def drag(page: Page, x: float, y: float, dx: float, dy: float) -> None:
    """Press the mouse at (x, y) of the window, move it by (dx, dy) in steps, release it."""
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=5)
    page.mouse.up()


def no_problems(page: Page) -> bool:
    """No console error, no traceback, nothing on stderr."""
    outputs = page.locator(f"{ERROR_OUTPUT}, {STDERR}").all_inner_texts()
    assert page.problems == [] and outputs == [], (page.problems, outputs)
    return True
