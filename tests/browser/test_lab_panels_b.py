"""Comparator, K sweep, CGPN explorer and loss playground in real JupyterLab: mouse, keyboard, errors, same pixels."""

import hashlib
import json
import time
import urllib.request

import numpy as np
import pytest
from conftest import CHROMIUM_ARGUMENTS, ERROR_OUTPUT, KERNEL_READY, REPO, TOKEN  # noqa: F401
from seeded_runs import train_runs

PANELS = ("VariantComparator", "KSweep", "CGPNExplorer", "LossPlayground")
CELLS = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from reidkit.data import load_dataset
from reidkit.panels.subset import subset
ds, runs = subset(load_dataset("sidewalk", root={data!r}, size="tiny"), 6), Path({runs!r})
---
from reidkit.panels.comparator import VariantComparator
comparator = VariantComparator([runs / "mpn-s0", runs / "baseline-s0"], ds, runs)
comparator
---
from reidkit.panels.k_sweep import KSweep
sweep = KSweep(runs / "ide-s0", ds)
sweep
---
from reidkit.panels.cgpn_explorer import CGPNExplorer
explorer = CGPNExplorer(runs / "cgpn-s0", ds)
explorer
---
from reidkit.panels.loss_playground import LossPlayground
playground = LossPlayground()
playground
"""


@pytest.fixture(scope="module")
def page(lab, browser, sidewalk_tiny, data_root, tmp_path_factory):
    """A generated notebook with the four panels, all cells run, on one page."""
    runs = train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"), ("mpn-s0", "baseline-s0", "cgpn-s0", "ide-s0"))
    cells = CELLS.format(data=str(data_root), runs=str(runs)).strip().split("\n---\n")
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {
        "name": "python3", "display_name": "Python 3", "language": "python"}}, "cells": [
        {"cell_type": "code", "id": f"c{i}", "source": c, "metadata": {}, "outputs": [], "execution_count": None}
        for i, c in enumerate(cells)]}  # fmt: skip
    body = json.dumps({"type": "notebook", "format": "json", "content": notebook}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"token {TOKEN}"}
    urllib.request.urlopen(urllib.request.Request(f"{lab}/api/contents/panels_b.ipynb", body, headers, method="PUT"))
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.goto(f"{lab}/lab/tree/panels_b.ipynb?token={TOKEN}&reset")
    page.wait_for_function(KERNEL_READY, timeout=120_000)
    ran = page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    assert ran is True, page.locator(ERROR_OUTPUT).all_inner_texts()[:1]
    yield page
    context.close()


class OnPage:
    """One panel on the page, driven as a reader does."""

    def __init__(self, page, name):
        self.page, self.box = page, page.locator(f".reidkit-panel.{name}")
        self.picture, self.status = self.box.locator(".reidkit-picture"), self.box.locator(".reidkit-status")
        self.error = self.box.locator(".reidkit-error")
        self.picture.scroll_into_view_if_needed()
        self.box.get_by_role("button", name="reset").click()
        self.page.wait_for_timeout(300)

    def pixels(self):
        """A digest of what is on the screen."""
        self.settle()
        return hashlib.sha256(self.picture.screenshot()).hexdigest()

    def settle(self):
        image = self.picture if self.picture.evaluate("e => e.tagName") == "IMG" else self.picture.locator("img")
        handle = image.element_handle()
        self.page.wait_for_function("i => i.complete && i.naturalWidth > 0", arg=handle)

    def changed(self, before, seconds=20):
        """Wait for other pixels than `before`, then until they stay the same; returns them."""
        end, last = time.monotonic() + seconds, before
        while time.monotonic() < end:
            now = self.pixels()
            if now != before and now == last:
                return now
            last = now
            self.page.wait_for_timeout(120)
        raise AssertionError("the picture did not change")

    def becomes(self, wanted, seconds=20):
        """Wait until the pixels are `wanted` again."""
        end = time.monotonic() + seconds
        while self.pixels() != wanted:
            assert time.monotonic() < end, "going back gives other pixels"
            self.page.wait_for_timeout(120)

    def slider(self, label):
        """The handle that the keyboard moves."""
        return self.box.locator(".widget-slider", has=self.page.get_by_text(label, exact=True)).get_by_role("slider")

    def choice(self, label):
        return self.box.locator(".widget-dropdown", has=self.page.get_by_text(label, exact=True)).locator("select")

    def tick(self, label):
        return self.box.locator(".widget-checkbox", has_text=label).locator("input")

    def button(self, label):
        return self.box.get_by_role("button", name=label, exact=True)


@pytest.fixture
def on_page(page):
    """A function: the panel of a class name, reset. Afterwards the page must not have complained."""
    yield lambda name: OnPage(page, name)
    assert page.problems == []


SLIDERS = [("VariantComparator", "query"), ("VariantComparator", "list length"), ("KSweep", "guess: best K"),
           ("KSweep", "show K"), ("KSweep", "query image"), ("CGPNExplorer", "query image"),
           ("LossPlayground", "identities P"), ("LossPlayground", "images each K"), ("LossPlayground", "margin"),
           ("LossPlayground", "lambda"), ("LossPlayground", "step size"), ("LossPlayground", "point"),
           ("LossPlayground", "its x"), ("LossPlayground", "its y")]  # fmt: skip
CHOICES = [("VariantComparator", "metric"), ("VariantComparator", "show"), ("KSweep", "metric"),
           ("CGPNExplorer", "stripe group"), ("LossPlayground", "triplets"), ("LossPlayground", "distance"),
           ("LossPlayground", "alignment")]  # fmt: skip


@pytest.mark.parametrize("name, label", SLIDERS)
def test_a_slider_moves_by_keyboard_and_back(on_page, name, label):
    panel = on_page(name)
    before = panel.pixels()
    low = panel.slider(label).get_attribute("aria-valuemin") == panel.slider(label).get_attribute("aria-valuenow")
    at_end = panel.slider(label).get_attribute("aria-valuemax") == panel.slider(label).get_attribute("aria-valuenow")
    there, back = ("ArrowLeft", "ArrowRight") if at_end and not low else ("ArrowRight", "ArrowLeft")
    panel.slider(label).focus()
    panel.page.keyboard.press(there)
    after = panel.changed(before)
    panel.slider(label).focus()
    panel.page.keyboard.press(back)
    if label in ("its x", "its y"):  # the first place lies between two steps of the slider: reset instead
        panel.changed(after)
        panel.button("reset").click()
    panel.becomes(before)


@pytest.mark.parametrize("name, label", CHOICES)
def test_a_choice_changes_the_picture_and_back(on_page, name, label):
    panel = on_page(name)
    before, select = panel.pixels(), panel.choice(label)
    options = select.locator("option").all_inner_texts()
    first = select.evaluate("e => e.selectedIndex")
    select.select_option(index=(first + 1) % len(options))
    panel.changed(before)
    select.focus()
    select.select_option(index=first)
    panel.becomes(before)


def test_two_runs_change_places(on_page, screenshot):
    panel = on_page("VariantComparator")
    before = panel.pixels()
    screenshot(panel.box, "comparator")
    panel.choice("B").select_option("mpn s0")  # the same run twice
    panel.error.get_by_text("A and B are both 'mpn s0'").wait_for()
    assert panel.pixels() == before, "the last good picture stays"
    panel.choice("A").select_option("baseline s0")
    panel.error.wait_for(state="hidden")
    panel.changed(before)
    panel.button("reset").click()
    panel.becomes(before)


def test_a_click_chooses_a_query(on_page):
    panel = on_page("VariantComparator")
    before, value = panel.pixels(), panel.slider("query").get_attribute("aria-valuenow")
    assert float(value) == 1
    panel.picture.click(position={"x": 180, "y": 220})  # the third thumbnail
    panel.changed(before)
    assert float(panel.slider("query").get_attribute("aria-valuenow")) == 3
    panel.button("reset").click()
    panel.becomes(before)


def test_guess_then_reveal(on_page, screenshot):
    panel = on_page("KSweep")
    before = panel.pixels()
    assert "mAP" not in panel.status.inner_text()
    panel.tick("reveal the numbers").focus()
    panel.page.keyboard.press("Space")
    panel.changed(before)
    assert "cut only: mAP" in panel.status.inner_text()
    screenshot(panel.box, "k_sweep")
    panel.page.keyboard.press("Space")
    panel.becomes(before)


def test_branches_and_features(on_page, screenshot):
    panel = on_page("CGPNExplorer")
    before = panel.pixels()
    screenshot(panel.box, "cgpn_explorer")
    panel.choice("branch").select_option("b3")
    panel.changed(before)
    assert panel.choice("stripe group").locator("option").count() == 6  # global and five groups
    panel.button("reset").click()
    panel.becomes(before)
    for k, name in ((0, "b1-global"), (11, "b3-3/4-2")):
        panel.tick(f"use {name}").uncheck()
        panel.changed(before)
        assert "11 of 12 features on" in panel.status.inner_text(), k
        panel.tick(f"use {name}").check()
        panel.becomes(before)
    panel.button("only global").click()
    panel.changed(before)
    assert "3 of 12 features on" in panel.status.inner_text()
    panel.picture.click(position={"x": 460, "y": 284 + 5})  # the name of the first feature
    panel.status.get_by_text("2 of 12 features on").wait_for()
    panel.button("all features").click()
    panel.becomes(before)
    panel.button("this branch on/off").click()
    panel.status.get_by_text("9 of 12 features on").wait_for()
    panel.button("only global").click()
    for name in ("b1-global", "b2-global"):
        panel.tick(f"use {name}").uncheck()
    panel.status.get_by_text("1 of 12 features on").wait_for()
    panel.tick("use b3-global").uncheck()
    panel.error.get_by_text("every feature is switched off").wait_for()
    screenshot(panel.box, "cgpn_explorer_error")
    panel.button("reset").click()
    panel.becomes(before)
    assert not panel.error.is_visible()


def test_points_are_dragged(on_page, screenshot):
    from reidkit.panels.loss_playground import TOP, first_points
    from reidkit.panels.plane import PLANE, REACH

    panel = on_page("LossPlayground")
    before = panel.pixels()
    screenshot(panel.box, "loss_playground")
    x, y = np.array(first_points()[0][1][0])                                           # filled B1
    box = panel.picture.bounding_box()
    start = box["x"] + (x / REACH + 1) / 2 * PLANE, box["y"] + (1 - y / REACH) / 2 * PLANE + TOP
    panel.page.mouse.move(*start)
    panel.page.mouse.down()
    panel.page.mouse.move(start[0] + 90, start[1] + 60, steps=6)
    panel.page.mouse.up()
    panel.changed(before)
    assert float(panel.slider("point").get_attribute("aria-valuenow")) == 4
    wanted = x + 90 / PLANE * 2 * REACH
    panel.page.wait_for_timeout(300)
    assert float(panel.slider("its x").get_attribute("aria-valuenow")) == pytest.approx(wanted, abs=0.06)
    panel.button("reset").click()
    panel.becomes(before)


def test_steps_follow_the_arrows(on_page):
    panel = on_page("LossPlayground")
    before, total = panel.pixels(), lambda: float(panel.status.inner_text().split("total ")[1].split()[0])
    first = total()
    panel.button("step").click()
    one = panel.changed(before)
    panel.button("10 steps").focus()
    panel.page.keyboard.press("Enter")
    panel.changed(one)
    assert total() < first
    panel.button("reset").click()
    panel.becomes(before)


@pytest.mark.parametrize("name, variable, control", [
    ("VariantComparator", "comparator", "list length"), ("KSweep", "sweep", "show K"),
    ("CGPNExplorer", "explorer", "query image"), ("LossPlayground", "playground", "images each K"),
])  # fmt: skip
def test_an_injected_error_appears_on_the_panel(on_page, name, variable, control):
    panel = on_page(name)
    before = panel.pixels()
    run = ("code => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
           ".requestExecute({code}).done.then(reply => reply.content.status)")
    assert panel.page.evaluate(run, f"{variable}.render = lambda state: 1 / 0") == "ok"
    panel.slider(control).focus()
    key = "ArrowLeft" if name == "VariantComparator" else "ArrowRight"
    panel.page.keyboard.press(key)
    panel.error.get_by_text("ZeroDivisionError: division by zero").wait_for()
    assert panel.error.locator('[role="alert"]').count() == 1 and panel.pixels() == before
    assert panel.page.evaluate(run, f"del {variable}.render; {variable}.reset()") == "ok"
    panel.error.wait_for(state="hidden")
    panel.becomes(before)


def test_every_control_is_reached_by_tab(page):
    for name in PANELS:
        inside = page.locator(f".reidkit-panel.{name}")
        wanted = inside.locator('[role="slider"], select, input[type="checkbox"], button:not([disabled])')
        hidden = wanted.evaluate_all("es => es.filter(e => e.offsetParent !== null && e.tabIndex < 0).length")
        assert wanted.count() > 3 and hidden == 0
    assert page.problems == []
