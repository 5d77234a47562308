"""Notebook 12 as the web page that `make dashboard` opens: Voila, no code, eight panels that answer."""

import os
import re
import shlex
import sys
import time

import pytest
from needs import need
from paths import REPO

from reidkit.data import load_dataset

need("playwright.sync_api")
from panel_page import PanelHand
from playwright.sync_api import expect
from servers import LIMIT, new_page, serving

NOTEBOOK = "12_dashboard.ipynb"
KINDS = [
    "PriorStepper",
    "VariantComparator",
    "KSweep",
    "AttentionPanel",
    "RankedList",
    "MisalignmentSandbox",
    "CGPNExplorer",
    "LossPlayground",
]


# Not ours: Voila's own page links icons on the network, which panels do not use, and the browser repeats that
# without the address. (JupyterLab's jupytext extension, which needs a document manager, is left out by the Makefile.)
FOREIGN = ("no answer: https://cdn.jsdelivr.net/npm/@fortawesome/", "Failed to load resource: net::ERR_")


def make_dashboard() -> list[str]:
    """The command of the Makefile's target, without its interpreter."""
    recipe = re.search(r"^dashboard:.*\n(?:\t@#.*\n)*\t\$\(PY\) (.+)$", (REPO / "Makefile").read_text(), flags=re.M)
    return shlex.split(recipe[1])


def test_the_makefile_opens_this_notebook():
    command = make_dashboard()
    assert command[:2] == ["-m", "voila"] and command[-1] == f"notebooks/{NOTEBOOK}"


def our_problems(page) -> list[str]:
    """Console errors, exceptions and failed requests of the page, without those of `FOREIGN`."""
    return [problem for problem in page.problems if not any(known in problem for known in FOREIGN)]


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory):
    """The page, all its cells run. Needs the notebook and finished (or shipped) runs of its networks."""
    if not (REPO / "notebooks" / NOTEBOOK).is_file():
        pytest.fail(f"notebooks/{NOTEBOOK} is missing: run `make notebooks`")
    load_dataset("sidewalk", root=REPO / "data", size="medium", progress=False)  # as `make dashboard` does first
    home = tmp_path_factory.mktemp("voila")
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {key: str(home / value) for key, value in folders.items()}
    command = [sys.executable, *make_dashboard(), "--no-browser", "--Voila.ip=127.0.0.1"]
    answer = "/voila/static/voila.js"
    with serving(command, answer, home / "voila.log", cwd=REPO, env=environment) as address:
        page = new_page(browser, 1280)
        page.on("requestfailed", lambda request: page.problems.append(f"no answer: {request.url}"))
        page.set_default_timeout(3 * LIMIT * 1000)  # eight panels of real networks open before the page is shown
        start = time.monotonic()
        page.goto(address, wait_until="commit")
        for which in (".reidkit-panel", ".reidkit-panel.LossPlayground"):
            page.locator(which).first.wait_for()
            print(f"{which}: {time.monotonic() - start:.0f} s after the page was asked for")
        page.set_default_timeout(LIMIT * 1000)
        yield page
        page.context.close()


def test_eight_panels_and_no_code(dashboard, screenshot):
    for kind in KINDS:
        hand = PanelHand(dashboard, kind)
        expect(hand.box).to_have_count(1)
        expect(hand.error).to_be_hidden()
        expect(hand.status).not_to_be_empty()
        assert hand.picture.locator("svg.reidkit-piece").count() > 1
        screenshot(hand.box, f"gallery_{kind}")
    assert dashboard.get_by_text("import VariantComparator").count() == 0, "Voila hides the code"
    assert dashboard.get_by_text("Traceback").count() == 0
    dashboard.locator("h1").first.scroll_into_view_if_needed()
    screenshot(dashboard, "12_dashboard")
    assert our_problems(dashboard) == []


@pytest.mark.parametrize("width", [420, 1280, 1920])
def test_the_page_fits_every_width(dashboard, screenshot, width):
    """No sideways scrolling from a telephone to a projector, and panels fill the page; screenshots to look at."""
    dashboard.set_viewport_size({"width": width, "height": 1000})
    try:
        for kind in KINDS:
            hand = PanelHand(dashboard, kind)
            screenshot(hand.box, f"{kind}_{width}")
            picture = hand.picture.evaluate("p => p.clientWidth")
            assert picture > 0.85 * width, f"{kind} leaves the page empty"
        assert dashboard.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        dashboard.set_viewport_size({"width": 1280, "height": 1400})


def test_panels_answer_on_the_page(dashboard, screenshot):
    sweep = PanelHand(dashboard, "KSweep")
    before = sweep.settled()
    sweep.toggle("reveal the numbers")
    expect(sweep.status).to_contain_text("cut only: mAP")
    sweep.settled(before=before)
    explorer = PanelHand(dashboard, "CGPNExplorer")
    explorer.click("only global")
    expect(explorer.status).to_contain_text("3 of 12 features on")
    playground = PanelHand(dashboard, "LossPlayground")
    before = playground.settled()
    playground.press("margin", "ArrowRight")
    playground.settled(before=before)
    comparator = PanelHand(dashboard, "VariantComparator")
    comparator.choose("B", "mpn")
    expect(comparator.error).to_contain_text("A and B are both 'mpn'")
    screenshot(comparator.box, "12_dashboard_error")
    comparator.click("reset")
    expect(comparator.error).to_be_hidden()
    screenshot(comparator.box, "12_dashboard_comparator")
    assert our_problems(dashboard) == []
