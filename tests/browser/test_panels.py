"""What holds for every panel in real JupyterLab: controls by keyboard, undo, errors, sizes, names, stored pictures."""

import re

import pytest
from needs import need
from PIL import Image

need("playwright.sync_api")
from panel_page import CELLS, WIDE, PanelHand, drag, end_kernel, no_problems, open_page, undo
from playwright.sync_api import expect

NOTEBOOK = "panels.ipynb"
# Every kind of control of a panel, and the key on a slider that meets the planted error.
SLIDERS = {
    "PriorStepper": ["image", "threshold", "K", "head needs", "legs need"],
    "AttentionPanel": ["image", "part"],
    "RankedList": ["query", "top k", "weight 1", "weight 6"],
    "MisalignmentSandbox": ["image", "to the right", "down", "scale", "cover"],
    "VariantComparator": ["query", "list length"],
    "KSweep": ["guess: best K", "show K", "query image"],
    "CGPNExplorer": ["query image"],
    "LossPlayground": ["identities P", "images K", "margin", "lambda", "step size", "point"],
}
CHOICES = [  # panel, control, another option, the option at first
    ("AttentionPanel", "run", "cgpn", "mpn"),
    ("AttentionPanel", "method", "layercam", "gradcam"),
    ("AttentionPanel", "layer", "layer2", "last map"),
    ("AttentionPanel", "control", "random network", "none"),
    ("RankedList", "run", "cgpn", "mpn"),
    ("MisalignmentSandbox", "network A", "cgpn", "mpn"),
    ("MisalignmentSandbox", "network B", "ide", "cgpn"),
    ("MisalignmentSandbox", "part maps", "none", "gradcam"),
    ("VariantComparator", "level", "strong", "mild"),
    ("VariantComparator", "metric", "rank1", "mAP"),
    ("VariantComparator", "show", "how each part matches rank 1", "where each part looks"),
    ("KSweep", "metric", "rank1", "mAP"),
    ("CGPNExplorer", "stripe group", "global", "1/2-2"),
    ("LossPlayground", "triplets", "all", "hardest (Eq. 3)"),
    ("LossPlayground", "distance", "cosine", "euclidean"),
    ("LossPlayground", "alignment", "sample-wise (Eq. 9)", "class-wise (Eq. 8)"),
    ("LossPlayground", "alignment", "none", "class-wise (Eq. 8)"),
]
TOGGLES = [
    *(("PriorStepper", label) for label in ("drop the head", "drop the legs", "no segmentation")),
    ("RankedList", "junk rule"),
    ("KSweep", "reveal the numbers"),
    *(("CGPNExplorer", label) for label in ("use b1-global", "use b3-3/4-2")),
]
PLANTED = [
    ("PriorStepper", "K", "End"),
    ("AttentionPanel", "part", "End"),
    ("RankedList", "top k", "Home"),
    ("MisalignmentSandbox", "scale", "End"),
    ("VariantComparator", "list length", "Home"),
    ("KSweep", "show K", "End"),
    ("CGPNExplorer", "query image", "End"),
    ("LossPlayground", "margin", "End"),
]
TYPED = {"head needs": "0.05", "legs need": "0.1", "weight 1": "0", "weight 6": "0", "threshold": "0.95"}
DOWN = ("top k", "K", "list length")  # sliders that start at their end, or next to a value with the same picture
every_panel = pytest.mark.parametrize("kind", list(CELLS))


@pytest.fixture(scope="module")
def page(open_panels):
    """One notebook with the eight panels, all cells run."""
    page = open_panels(NOTEBOOK)
    yield page
    page.context.close()


@pytest.mark.parametrize("kind, label", [(kind, label) for kind, labels in SLIDERS.items() for label in labels])
def test_sliders_by_keyboard(page, kind, label):
    hand = PanelHand(page, kind)
    if label in TYPED:  # one step is too small to be seen: type a number, then go back by typing
        first = hand._control("widget-slider", label).locator(".widget-readout").inner_text()
        undo(hand, lambda: hand.type(label, TYPED[label]), lambda: hand.type(label, first))
    else:
        key, back = ("ArrowLeft", "ArrowRight") if label in DOWN else ("ArrowRight", "ArrowLeft")
        undo(hand, lambda: hand.press(label, key), lambda: hand.press(label, back))
    assert no_problems(page)


@pytest.mark.parametrize("kind, label, other, first", CHOICES)
def test_choices(page, kind, label, other, first):
    hand = PanelHand(page, kind)
    undo(hand, lambda: hand.choose(label, other), lambda: hand.choose(label, first))
    assert no_problems(page)


@pytest.mark.parametrize("kind, label", TOGGLES)
def test_toggles_by_keyboard(page, kind, label):
    hand = PanelHand(page, kind)
    undo(hand, lambda: hand.toggle(label), lambda: hand.toggle(label))
    assert no_problems(page)


@pytest.mark.parametrize("kind, label, key", PLANTED)
def test_a_planted_error_is_on_the_panel_and_reset_removes_it(page, kind, label, key):
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


def test_the_tables_name_every_panel():
    assert SLIDERS.keys() == CELLS.keys() == {kind for kind, *_ in PLANTED}


@every_panel
def test_a_panel_fills_its_cell(page, kind, screenshot):
    """The picture is as wide as the output, and is not empty; a screenshot of the panel is kept."""
    hand = PanelHand(page, kind)
    hand.settled()
    wide, room = hand.picture.evaluate("p => [p.clientWidth, p.closest('.jp-OutputArea-output').clientWidth]")
    assert wide > 0.95 * room
    page.evaluate("document.activeElement.blur()")
    with Image.open(screenshot(hand.box, f"panel_{kind}")) as image:
        assert image.width >= wide and len(image.convert("L").getcolors(256)) > 50


@every_panel
def test_every_control_is_reached_by_tab_and_has_a_name(page, kind):
    hand = PanelHand(page, kind)
    hand.settled()
    wanted = hand.box.locator('[role="slider"], select, input[type="checkbox"], button:not([disabled])')
    unreachable = "es => es.filter(e => e.offsetParent !== null && e.tabIndex < 0).length"
    assert wanted.count() > 3 and wanted.evaluate_all(unreachable) == 0
    assert all(hand.box.locator("button").all_inner_texts())


WIDTHS = """panel => {  // what sticks out of the panel, what is smaller than can be read
  const right = panel.getBoundingClientRect().right + 1;
  const texts = [...panel.querySelectorAll(".reidkit-sketch p, .reidkit-sketch text")];
  const size = e => parseFloat(getComputedStyle(e).fontSize) * (e.getScreenCTM ? e.getScreenCTM().a : 1);
  return {
    out: [...panel.querySelectorAll("svg, p, select, button, input")]
      .filter(e => e.offsetParent !== null || e.ownerSVGElement !== undefined)
      .filter(e => e.getBoundingClientRect().right > right && !e.closest("svg svg")).length,
    smallest: Math.min(...texts.map(size)),
  };
}"""


@every_panel
@pytest.mark.parametrize("width", [420, 800, WIDE])
def test_a_panel_fits_its_page_and_can_be_read(page, kind, width):
    """The panel's own width, as on a telephone or beside a side bar: nothing sticks out, no words get tiny."""
    hand = PanelHand(page, kind)
    hand.settled()
    hand.box.evaluate("(panel, width) => panel.parentElement.style.width = `${width}px`", width)
    try:
        found = hand.box.evaluate(WIDTHS)
        assert found["out"] == 0 and found["smallest"] > 6.5, found
        if kind == "MisalignmentSandbox":  # the mouse is in units of the drawing, however large it is shown
            (x, y), (x1, y1) = hand.place(60, 150), hand.place(72, 222)
            drag(page, x, y, x1 - x, y1 - y)
            expect(hand.status).to_contain_text(re.compile(r"right \+0\.(09|10|11), down \+0\.(19|20|21)"))
            hand.click("reset")
            hand.settled()
    finally:
        hand.box.evaluate("panel => panel.parentElement.style.width = ''")


def test_a_reopened_notebook_shows_the_picture(page, lab, browser):
    """Last test of the file: it ends the kernel. While the panel lives, its static picture is hidden."""
    static = ".jp-OutputArea-child .jp-RenderedImage img"
    assert page.locator(static).count() == len(CELLS)
    for picture in page.locator(static).all():
        expect(picture).to_be_hidden()
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    end_kernel(lab, NOTEBOOK)
    again = open_page(lab, browser, NOTEBOOK, run=False)
    for picture in again.locator(static).all():
        expect(picture).to_be_visible()
        assert picture.evaluate("i => i.naturalWidth") in (900, 940, 960)
    assert again.locator(static).count() == len(CELLS)
    again.context.close()
