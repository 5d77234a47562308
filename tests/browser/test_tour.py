"""The tour's page in a browser: no sideways scrolling on a telephone, every picture there, readable words."""

import pytest
from servers import new_page

from reidkit.reporting import plots
from reidkit.tour import page, people, words

WIDEST = "() => Math.max(...[...document.querySelectorAll('figure, p, h1, h2, h3, dd')].map(e => e.scrollWidth))"
SMALLEST = """() => Math.min(...[...document.querySelectorAll('p, dd, figcaption, td, a, h3')]
    .map(e => parseFloat(getComputedStyle(e).fontSize)))"""


@pytest.fixture(scope="module")
def tour_page(sidewalk_tiny, tmp_path_factory):
    """A page with all kinds of sections, of small networks."""
    import pandas as pd

    whole = page.TourPage(tmp_path_factory.mktemp("tour"), "Measured in a test.")
    networks = ("naive-mtl-sidewalk-small-quick-s0", "mpn-sidewalk-small-quick-s0")
    table = pd.DataFrame({"Baseline": ["80.3 / 71.7"], "MT Only": ["74.6 / 66.9"], "MPNo": ["75.2 / 67.4"]}, ["strong"])
    (whole.out / "00.html").write_text("page")
    whole.sections += [
        people.section(people.ask(sidewalk_tiny.at_level("strong"), networks, people=8, images=4)),
        page.tables({"Networks": table.rename_axis("level")}, words.explained(table.columns, table.index)),
        page.figures([page.Picture(plots.bars({"a": 1.0}), "bars")]),
        page.notebook_links(whole.out, [page.Notebook("00.html", "00 A notebook", 1)]),
    ]
    return whole.write("Step 3 of 4: executing the notebooks.", reload=False)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits(browser, screenshot, tour_page, width):
    shown = new_page(browser, width)
    shown.goto(tour_page.as_uri())
    shown.wait_for_function("() => [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert shown.evaluate("() => document.documentElement.scrollWidth") <= width
    assert shown.evaluate(WIDEST) <= width and shown.evaluate(SMALLEST) >= 12
    box = shown.locator(".scroll").first
    assert box.evaluate("e => e.scrollWidth <= e.clientWidth"), "the table of three networks needs no scrolling"
    assert shown.locator(".tile img").count() == 2 * 9 + 2 * 7
    assert shown.locator(".tile img").first.bounding_box()["width"] >= 60
    screenshot(shown, f"tour-{width}")
    assert shown.problems == []
    shown.context.close()
