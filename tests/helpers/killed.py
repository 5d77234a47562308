"""A process that is killed at a chosen moment, however fast or busy the machine is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

PROLOGUE = """
import fnmatch, os, signal, sys
left = {count}
def watch(event, arguments):
    global left
    if event == "os.rename" and fnmatch.fnmatch(os.path.basename(os.fspath(arguments[1])), {name!r}):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
"""


def run_until_killed(code: str, *arguments: str, at: str, count: int, cwd: Path) -> None:
    """Run Python code in another process; kill -9 when a file is about to get its name, for the `count`-th time.

    at: a pattern of file names. Fails when the process ends in another way.
    """
    program = PROLOGUE.format(count=count, name=at) + code
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == -signal.SIGKILL, f"it ended by itself: {done.stdout[-3000:]}"
