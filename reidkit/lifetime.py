"""Processes that end together: a child does not outlive the one that started it, and a signal ends all of them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "REIDKIT_PARENT"  # environment: the process number of who waits for this one
SIGTERM_CODE, SIGINT_CODE = 143, 130  # 128 + the number of the signal, as shells say it


def end_with(parent: int) -> None:
    """Let the system end this process (SIGTERM) when its parent ends, however that ends. Linux; elsewhere nothing."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it has ended already
        os._exit(SIGTERM_CODE)


def end_with_pool(parent: int) -> None:
    """`end_with` the process whose pool this one belongs to, and leave Ctrl-C, which all of them get, to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


def end_with_caller() -> None:
    """`end_with` the process that named itself in the environment, if one did."""
    if (parent := os.environ.pop(PARENT, "")).isdecimal():
        end_with(int(parent))


def with_me() -> dict[str, str]:
    """The environment for a child that calls `end_with_caller`."""
    return {**os.environ, PARENT: str(os.getpid())}
