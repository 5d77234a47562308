"""Notebook 00 in real JupyterLab: every cell runs, the pictures and tables are on the page."""

import os
import shutil

import pytest
from PIL import Image


def test_start_here(open_notebook, screenshot):
    page = open_notebook("00_start_here.ipynb")
    assert page.get_by_text("reidkit/losses.py").count() >= 1
    table = page.locator(".jp-OutputArea-output table", has_text="torchvision")
    table.first.scroll_into_view_if_needed()
    assert "missing" not in table.first.locator("tr", has_text="torchvision").inner_text()
    figure = page.locator(".jp-OutputArea-output img").first
    figure.scroll_into_view_if_needed()
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    assert figure.bounding_box()["width"] > 200
    assert page.get_by_text("not attempted yet").count() >= 1
    picture = screenshot(page, "00_start_here")
    with Image.open(picture) as image:
        assert image.size == (1280, 1400) and len(image.convert("L").getcolors(256)) > 20
    assert page.problems == []


def test_a_missing_browser_is_a_failure_in_ci(pytester_environment):
    """CI=true turns the skip into an error; a reader's machine without Chromium only skips."""
    ci, reader = pytester_environment(CI="true"), pytester_environment(CI="")
    assert "1 error" in ci and "no Chromium" in ci
    assert "1 skipped" in reader


@pytest.fixture
def pytester_environment(tmp_path):
    """Run a one-line browser test in another process, with an empty PATH; returns what pytest printed."""
    import subprocess
    import sys

    from_here = os.path.join(os.path.dirname(__file__), "conftest.py")
    shutil.copy(from_here, tmp_path / "conftest.py")
    (tmp_path / "test_it.py").write_text("def test_it(browser):\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser\n")

    def run(**variables):
        environment = {**os.environ, "PATH": str(tmp_path), "CHROMIUM": "", **variables}
        command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:xdist", "-p", "no:cacheprovider", str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout + done.stderr

    return run
