import sys; sys.path[:0]=["/work/main/tests/browser","/work/main/tests"]
from test_lab_panels_b import *
def test_diag(page):
    hand=PanelHand(page,"VariantComparator")
    def shot(n):
        page.wait_for_timeout(1500); hand.picture.screenshot(path=f"/tmp/d_{n}.png"); print(n, hand.picture.bounding_box(), hand.status.inner_text(), hand.handle("list length").get_attribute("aria-valuenow"))
    shot("a"); hand.press("list length","ArrowLeft"); shot("b"); hand.press("list length","ArrowRight"); shot("c")
    hand.click("reset"); shot("d")
