"""One JupyterLab server and one headless Chromium for the browser tests of a worker.

`open_notebook(name)` opens a notebook in real JupyterLab, runs all its cells and returns the Playwright page.
Without Chromium the tests are skipped, except in continuous integration (CI=true), where that is a failure.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SCREENSHOTS = REPO / "build" / "screenshots"
TOKEN = "browser-tests"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight keep their outputs
}
KERNEL_READY = """() => {
  const widget = window.jupyterapp?.shell?.currentWidget;
  return Boolean(widget?.context?.isReady && widget.sessionContext?.session?.kernel);
}"""
ERROR_OUTPUT = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'


def pytest_collection_modifyitems(items):
    """All browser tests go to one worker, so that one server and one browser serve them."""
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


def find_chromium() -> str | None:
    """The browser named by CHROMIUM, or the first one on the PATH."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_server(url: str, process: subprocess.Popen, log: Path, seconds: float = 180) -> None:
    """Return once the URL answers; fail with the server's log when it exits or stays silent."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"no server at {url}:\n{log.read_text()[-3000:]}")


def stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "share", "JUPYTER_RUNTIME_DIR": "runtime",
               "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
               "IPYTHONDIR": "ipython"}  # fmt: skip
    environment = os.environ | {key: str(home / value) for key, value in folders.items()}
    port, log = free_port(), home / "server.log"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={work}",
               "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]  # fmt: skip
    with open(log, "w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    executable = find_chromium()
    if executable is None:
        message = "no Chromium: install it, or name one in CHROMIUM"
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield instance
        instance.close()


@pytest.fixture
def open_notebook(lab, browser):
    """A function: open `NN_name.ipynb`, wait for its kernel, run all cells, return the page.

    `page.problems` collects uncaught exceptions and console errors. A cell that raises is a failure.
    """
    contexts = []

    def open_(name: str, *, timeout: float = 60, run_timeout: float = 600):
        assert (REPO / "notebooks" / name).is_file(), f"notebooks/{name} is missing: run `make notebooks`"
        context = browser.new_context(viewport={"width": 1280, "height": 1400})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(run_timeout * 1000)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
        page.goto(f"{lab}/lab/tree/notebooks/{name}?token={TOKEN}&reset")
        page.wait_for_function(KERNEL_READY, timeout=timeout * 1000)
        ran = page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        errors = page.locator(ERROR_OUTPUT).all_inner_texts()
        assert ran is True and not errors, f"{name}: a cell raised: {errors[:1]}"
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def screenshot():
    """A function: save a picture of a page or of one element as build/screenshots/<name>.png, return the path."""

    def save(target, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        target.screenshot(path=path)
        return path

    return save
