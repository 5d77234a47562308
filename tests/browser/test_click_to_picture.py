"""From click to picture, for every control of every panel: as ratios to one reference action of the same run.

The table is printed (pytest -s) and kept as build/click_to_picture.csv. Times include the kernel, the way to the
browser and its drawing; a busy machine makes both sides of a ratio slow, so only gross ones fail.
"""

import csv
import statistics

import pytest
from needs import need
from paths import REPO

need("playwright.sync_api")
from panel_page import CELLS, PanelHand, no_problems
from test_panels import CHOICES, DOWN, SLIDERS, TOGGLES, TYPED

WATCH = """picture => {  // from the first event of an action to the frame after the new picture
  window.times = {};
  for (const type of ["keydown", "pointerdown", "change", "click"])
    document.addEventListener(type, () => { window.times.start ??= performance.now(); }, { capture: true });
  const shown = () => requestAnimationFrame(() => { window.times.end = performance.now(); });
  new MutationObserver(shown).observe(picture, { childList: true });
}"""
GROSS = 60  # times the reference: a control that makes a reader wait for what could be kept or drawn at once
MORE = {  # clicks and buttons beside `reset`, by panel: (name, what to do)
    "VariantComparator": [("a thumbnail", lambda hand: hand.click_at(180, 220))],
    "CGPNExplorer": [
        ("a stripe group", lambda hand: hand.click_at(600, 100)),
        ("a name", lambda hand: hand.click_at(460, 289)),
        *((b, lambda hand, b=b: hand.click(b)) for b in ("only global", "only local", "this branch on/off")),
    ],
    "LossPlayground": [(button, lambda hand, b=button: hand.click(b)) for button in ("step", "10 steps")],
}


def actions(kind: str):
    """(name of a control, what a reader does with it) of one panel."""
    for label in SLIDERS[kind]:
        key = "End" if label in TYPED else "ArrowLeft" if label in DOWN else "ArrowRight"
        yield label, lambda hand, label=label, key=key: hand.press(label, key)
    for owner, label, other, _ in CHOICES:
        if owner == kind:
            yield f"{label}: {other}", lambda hand, label=label, other=other: hand.choose(label, other)
    for owner, label in TOGGLES:
        if owner == kind:
            yield label, lambda hand, label=label: hand.toggle(label)
    yield from MORE.get(kind, [])


@pytest.fixture(scope="module")
def page(open_panels):
    """One notebook with the eight panels, all cells run."""
    page = open_panels("times.ipynb")
    yield page
    page.context.close()


def timed(hand: PanelHand, action) -> float:
    """Milliseconds from the first event of an action to the frame that shows its picture."""
    hand.page.evaluate("window.times = {}")
    action(hand)
    hand.page.wait_for_function("window.times.end")
    return hand.page.evaluate("window.times.end - window.times.start")


def test_from_click_to_picture(page):
    reference, rows = PanelHand(page, "PriorStepper"), []

    def one_reference() -> float:
        """One step of K in the prior stepper, which asks no network; and back."""
        reference.picture.evaluate(WATCH)
        reference.settled()
        there = timed(reference, lambda hand: hand.press("K", "ArrowLeft"))
        return statistics.mean([there, timed(reference, lambda hand: hand.press("K", "ArrowRight"))])

    for kind in CELLS:
        unit = one_reference()
        hand = PanelHand(page, kind)
        hand.settled()
        hand.picture.evaluate(WATCH)
        for name, action in actions(kind):
            there = timed(hand, action)
            hand.settled()
            back = timed(hand, lambda hand: hand.click("reset"))
            hand.settled()
            rows.append((kind, name, round(there), round(there / unit, 1), round(back / unit, 1)))
        rows.append((kind, "reset", "", "", max(row[4] for row in rows if row[0] == kind)))
    table = [("panel", "control", "ms, first visit", "ratio, first visit", "ratio, reset"), *rows]
    (REPO / "build").mkdir(exist_ok=True)
    with open(REPO / "build" / "click_to_picture.csv", "w", newline="") as file:
        csv.writer(file).writerows(table)
    for row in table:
        print("{:20} {:40} {:>16} {:>20} {:>14}".format(*map(str, row)))
    slow = [row for row in rows if row[3] != "" and min(row[3], row[4]) > GROSS]
    assert slow == [], "slow even when everything is known"
    assert no_problems(page)
