"""Notebook 00 in real JupyterLab: every cell runs, the pictures and tables are on the page."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from PIL import Image


def test_start_here(open_notebook, screenshot):
    page = open_notebook("00_start_here.ipynb")
    page.get_by_text("reidkit/losses.py").first.wait_for(state="attached")
    table = page.locator(".jp-OutputArea-output table", has_text="torchvision")
    table.first.scroll_into_view_if_needed()
    assert "missing" not in table.first.locator("tr", has_text="torchvision").inner_text()
    figure = page.locator(".jp-OutputArea-output img").first
    figure.scroll_into_view_if_needed()
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    assert figure.bounding_box()["width"] > 200
    page.get_by_text("not attempted yet").first.wait_for(state="attached")
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
    here = Path(servers.__file__).parent
    helpers = os.pathsep.join([str(here), *sys.path])
    (tmp_path / "conftest.py").write_bytes((here / "conftest.py").read_bytes())
    (tmp_path / "test_it.py").write_text("def test_it(browser):\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser\n    xdist_group\n")

    def run(**variables):
        environment = {**os.environ, "PATH": str(tmp_path), "CHROMIUM": "", "PYTHONPATH": helpers, **variables}
        command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:xdist", "-p", "no:cacheprovider", str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout + done.stderr

    return run
