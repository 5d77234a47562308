"""Servers and pages of the browser tests, and how long a busy machine may take over anything: `LIMIT`."""

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LIMIT = 600  # seconds: longer than anything here takes on a machine that does other things, too
TOKEN = "browser-tests"
KERNEL_READY = """() => {
  const widget = window.jupyterapp?.shell?.currentWidget;
  return Boolean(widget?.context?.isReady && widget.sessionContext?.session?.kernel);
}"""
# An empty request is answered after all that was sent before it; what a widget held back meanwhile goes out then, and
# is waited for in the second round. Voila's page shows nobody its kernel: there a test waits for what it can see.
KERNEL_IDLE = """async limit => {
  const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
  const frame = () => new Promise(done => requestAnimationFrame(done));
  const late = new Promise((_, fail) => setTimeout(() => fail(new Error("the kernel does not answer")), limit));
  for (let round = 0; kernel && round < 2; round++) {
    await frame();
    const request = {code: "", silent: true, store_history: false, stop_on_error: false};
    await Promise.race([kernel.requestExecute(request).done, late]);
  }
  await frame();
}"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
ERROR_OUTPUT = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'

STDERR = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'


def find_chromium() -> str | None:
    """The browser named by CHROMIUM, or the first one on the PATH."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(url: str, process: subprocess.Popen) -> bool:
    """Wait for the server: True once the URL answers, False when the process ends or stays silent."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=LIMIT).close()
            return True
        except OSError:
            time.sleep(0.1)  # it does not listen yet: ask again
    return False


@contextmanager
def serving(command: list[str], path: str, log: Path, **options) -> Iterator[str]:
    """Run a Jupyter server while the block runs: its address, once `path` answers there; else fail with its log.

    A free port may be another program's by the time the server asks for it: then the server ends, and tries another.
    """
    for _ in range(3):
        address = f"http://127.0.0.1:{(port := free_port())}"
        with open(log, "w") as output:
            process = subprocess.Popen([*command, f"--port={port}"], stdout=output, stderr=output, **options)
        try:
            if answers(address + path, process):
                yield address
                return
        finally:
            stop(process)
    pytest.fail(f"no server:\n{log.read_text()[-3000:]}")


def stop(process: subprocess.Popen) -> None:
    """End a process; wait until it has ended."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def new_page(browser, width: int):
    """A page in a window of its own. `page.problems` collects uncaught exceptions and console errors."""
    page = browser.new_context(viewport={"width": width, "height": 1400}).new_page()
    page.set_default_timeout(LIMIT * 1000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    return page


def wait_for_kernel(page) -> None:
    """Return when the kernel has done all that was asked of it, and the page has shown it."""
    page.evaluate(KERNEL_IDLE, LIMIT * 1000)


def open_in_lab(page, lab: str, name: str, run: bool = True) -> None:
    """Open a notebook of the server, wait for its kernel, run all cells. A cell that raises is a failure."""
    page.goto(f"{lab}/lab/tree/notebooks/{name}?token={TOKEN}&reset")
    page.wait_for_function(KERNEL_READY)
    if run:
        ran = page.evaluate(RUN_ALL)
        wait_for_kernel(page)
        errors = page.locator(f"{ERROR_OUTPUT}, {STDERR}").all_inner_texts()
        assert ran is True and not errors, f"{name}: a cell raised: {errors[:1]}"
