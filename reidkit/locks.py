"""Locks between processes: a file that one of them holds. The system frees it when its holder ends, however it ends.

`locked` waits for its turn: two commands that fill one cache do so one after the other. `held` refuses: one run folder
has one training. Systems without `fcntl` (Windows) do not lock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from reidkit.errors import ReIDKitError
from reidkit.files import MACHINE, disk_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held: set[Path] = set()  # locks of `held` that this process has


@contextmanager
def locked(path: str | Path, waiting: str) -> Iterator[IO | None]:
    """Hold the lock file `path` during the block; while another process holds it, say `waiting` and wait.

    Yields the open file: a child process that inherits it holds the lock too, also after its parent's death. None
    without `fcntl`. The file is gone after the block; its folder, which is made where it is missing, stays.
    Raises OSError where it cannot be made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield None
        return
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        if _stands_at(path, file):
            break
        file.close()
    with file:
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)  # while it is still locked: nobody else can hold this file now


@contextmanager
def held(path: str | Path, taken: str, error: type[ReIDKitError]) -> Iterator[None]:
    """Hold the lock file `path` during the block, or raise `error` at once where a living process holds it.

    taken: the message, in which "{pid}" becomes what the holder is called. A dead process's lock is taken over. A
    process may hold a lock twice: its inner block changes nothing.
    """
    path = Path(os.path.abspath(path))
    if fcntl is None or path in _held:
        yield
        return
    try:
        file = _own_file(path, taken, error)
    except OSError as e:
        raise disk_error(f"cannot write {path}", e, error) from e
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {MACHINE}\n")
        file.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            path.unlink(missing_ok=True)  # while it is still locked: nobody else can hold this file now


def _own_file(path: Path, taken: str, error: type[ReIDKitError]) -> IO:
    """The lock file, open and locked; `error` where another process has it."""
    assert fcntl is not None  # `held` asked
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            file.close()
            raise error(taken.format(pid=holder)) from None
        if _stands_at(path, file):
            return file
        file.close()


def _stands_at(path: Path, file: IO) -> bool:
    """Whether an open file is the one at `path`: its holder may have removed it between our opening and locking it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
