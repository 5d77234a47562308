"""One JupyterLab server and one headless Chromium for the browser tests of a worker.

`open_notebook(name)` opens a notebook in real JupyterLab, runs all its cells and returns the Playwright page.
Without Chromium the tests are skipped, except in continuous integration (CI=true), where that is a failure.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from needs import missing, need
from paths import REPO
from servers import LIMIT, TOKEN, find_chromium, new_page, open_in_lab, serving

SCREENSHOTS = REPO / "build" / "screenshots"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight keep their outputs
}


def pytest_collection_modifyitems(items):
    """All browser tests go to one worker, so that one server and one browser serve them."""
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """The address of a JupyterLab server over a copy of the repository's notebooks.

    The copy lies beside links to data/, runs/ and results/, so that `../data` means what it means in the repository.
    """
    home = tmp_path_factory.mktemp("lab")
    work = home / "work"
    shutil.copytree(REPO / "notebooks", work / "notebooks", ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for name in ("data", "runs", "results"):
        (REPO / name).mkdir(exist_ok=True)
        (work / name).symlink_to(REPO / name)
    for plugin, settings in LAB_SETTINGS.items():
        file = home / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {key: str(home / value) for key, value in folders.items()}
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={work}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]
    with serving(command, f"/api/status?token={TOKEN}", home / "server.log", env=environment) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium. What a test expects of a page may take a while."""
    playwright_api = need("playwright.sync_api")
    executable = find_chromium()
    if executable is None:
        missing("no Chromium: install it, or name one in CHROMIUM")
    playwright_api.expect.set_options(timeout=LIMIT * 1000)
    with playwright_api.sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS, timeout=LIMIT * 1000)
        yield instance
        instance.close()


@pytest.fixture
def open_notebook(lab, browser):
    """A function: open `NN_name.ipynb`, wait for its kernel, run all cells, return the page (see `new_page`)."""
    pages = []

    def open_(name: str):
        assert (REPO / "notebooks" / name).is_file(), f"notebooks/{name} is missing: run `make notebooks`"
        pages.append(new_page(browser, 1280))
        open_in_lab(pages[-1], lab, name)
        return pages[-1]

    yield open_
    for page in pages:
        page.context.close()


@pytest.fixture(scope="session")
def open_panels(lab, browser, sidewalk_tiny, data_root, tmp_path_factory):
    """A function: put a notebook of the eight panels on the server, run all its cells, return the page."""
    from panel_page import CELLS, SETUP, open_page, write_notebook
    from seeded_runs import train_runs

    names = ("mpn-s0", "baseline-s0", "cgpn-s0", "ide-s0")
    runs = train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"), names)

    def open_(name: str):
        write_notebook(lab, name, [SETUP.format(root=str(data_root), runs=str(runs)), *CELLS.values()])
        return open_page(lab, browser, name)

    return open_


@pytest.fixture
def screenshot():
    """A function: save a picture of a page or of one element as build/screenshots/<name>.png, return the path."""

    def save(target, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        target.screenshot(path=path)
        return path

    return save
