"""Files that are whole or not there: the one way in which the kit writes a file, and readers that set a limit.

A file is written under a temporary name in its own folder, brought to the disk and then renamed, so a killed process
or a full disk leaves the whole old file, never half a new one.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reidkit.errors import CheckpointError, ReIDKitError

LEAST = 1 << 12  # bytes that a disk must take to count as one that can be written
JSON_BYTES = 16 << 20  # a result with all its levels has some 20 kB
MACHINE = platform.node()  # a folder may be shared by several machines, each with process numbers of its own
# .NAME.PID@MACHINE.NUMBER.tmp; older kits wrote .NAME.PID.tmp
TEMPORARY = re.compile(r"\..+?\.(?P<pid>\d{1,10})(@(?P<machine>.+)\.\d+)?\.tmp")
ADVICE = {
    errno.ENOSPC: "make room, or choose another disk",
    errno.EDQUOT: "your quota is used up: make room, or choose another disk",
    errno.EFBIG: "this shell (ulimit -f) or disk takes no larger file: raise the limit, or choose another disk",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.EACCES: "change its permissions, or choose another folder",
    errno.EPERM: "change its permissions, or choose another folder",
}

_numbers = itertools.count()
_being_written: set[str] = set()  # names of this process's temporary files


def disk_error(what: str, cause: OSError, error: type[ReIDKitError] = ReIDKitError) -> ReIDKitError:
    """The error for a disk that refuses: what was tried, why it failed, what to do. what: "cannot write x.csv"."""
    advice = ADVICE.get(cause.errno or 0, "check the path and the disk, then try again")
    return error(f"{what}: {cause.strerror or cause}; {advice}")


@contextmanager
def replacing(path: str | Path, error: type[ReIDKitError] = ReIDKitError) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block ends without an error.

    The folder is made where it is missing, and temporary files of processes that were killed are removed from it.
    The file gets the permissions of any new file, whatever the writer in the block gave it. A link stays one: what it
    leads to is replaced.
    Raises `error` where the disk does not take the file, or `path` is a pipe or a device; what stood at `path` before
    is then untouched.
    """
    path = _plain(path, error)
    name = f".{path.name}.{os.getpid()}@{MACHINE}.{next(_numbers)}.tmp"
    temporary = Path(os.path.abspath(path)).with_name(name)  # pandas would take a leading ~ for the home folder
    _being_written.add(temporary.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as e:
        cause = _refusal_of_the_disk(e, temporary, path)
        if cause is None:
            raise
        raise disk_error(f"cannot write {path}", cause, error) from e
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _being_written.discard(temporary.name)


def check_writable(path: str | Path, error: type[ReIDKitError] = ReIDKitError) -> None:
    """Raise `error` where a file cannot be written at `path`: asked before work whose result is to go there.

    The folder is made where it is missing; what stands at `path` is not touched.
    """
    path = _plain(path, error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe(path, path.parent)
    except OSError as e:
        raise disk_error(f"cannot write {path}", e, error) from e


def _plain(path: str | Path, error: type[ReIDKitError]) -> Path:
    """Where a file is written: at `path`, or at what a link there leads to. `error` for a pipe or a device."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise error(f"cannot write {path}: it is a pipe or a device, which nothing can replace; name a file")
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def probe(path: Path, folder: Path) -> None:
    """OSError where a folder that is there does not take a file, or the file's own name is taken by a folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(LEAST))
        file.flush()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")


def reserve(path: Path) -> None:
    """Take room on the disk for all of a file that has its length, but no content yet. OSError where there is none.

    Systems without `posix_fallocate` take it as it is written.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def bring_to_disk() -> None:
    """Wait until the disks hold everything that was written: one call for a folder of thousands of small files."""
    if hasattr(os, "sync"):  # not on Windows
        os.sync()


def write_text(path: str | Path, text: str, error: type[ReIDKitError] = ReIDKitError) -> None:
    """Write a text file in UTF-8, whole or not at all (see `replacing`)."""
    with replacing(path, error) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, error: type[ReIDKitError] = ReIDKitError) -> None:
    """Write JSON, readable and with sorted keys, whole or not at all (see `replacing`)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n", error)


def read_json(
    path: str | Path, *, missing: str, error: type[ReIDKitError] = CheckpointError, limit: int = JSON_BYTES
) -> dict[str, Any]:
    """The object in a JSON file of at most `limit` bytes.

    Raises `error`: with the text `missing` where there is no such file, else naming the file and what is wrong with it.
    """
    text = read_bytes(path, limit, missing, error)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise error(f"{path} cannot be read as JSON ({e}); delete it and make it again") from e
    if not isinstance(found, dict):
        raise error(f"{path} holds no JSON object but {text[:40]!r}; delete it and make it again")
    return found


def read_bytes(path: str | Path, limit: int, missing: str, error: type[ReIDKitError]) -> bytes:
    """The bytes of a file of at most `limit`; `error` as in `read_json`."""
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise error(missing) from None
    except OSError as e:
        raise disk_error(f"{path} cannot be read", e, error) from e
    if len(content) > limit:
        raise error(f"{path} has more than {limit:,} bytes, too many for what it should hold; move it away")
    return content


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `replacing` that processes of this machine left when they were killed."""
    for name in os.listdir(folder):
        found = TEMPORARY.fullmatch(name)
        if not found or name in _being_written or found["machine"] not in (None, MACHINE):
            continue
        if not runs_here(int(found["pid"])):
            with suppress(OSError):  # another process was quicker, or it is not ours to remove
                os.unlink(folder / name)


def runs_here(pid: int) -> bool:
    """Whether another process has this number. This process has it: the file is of an earlier one with its number."""
    if os.name != "posix":
        return True  # asking is not harmless elsewhere
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it runs, and belongs to another user
        return True
    return pid != os.getpid()


def _refusal_of_the_disk(e: Exception, temporary: Path, path: Path) -> OSError | None:
    """The OSError behind a failed write; None where the disk is not to blame.

    Writers in Rust (safetensors) tell its number in their text, those in C++ (torch.save) nothing: then the file is
    asked whether it takes more.
    """
    if isinstance(e, OSError):
        about = e.filename is None or Path(os.fsdecode(e.filename)) in {temporary, path, *path.parents}
        return e if e.errno and about else None
    if isinstance(e, ReIDKitError):
        return None
    if found := re.search(r"\(os error (\d+)\)", str(e)):
        return OSError(int(found[1]), os.strerror(int(found[1])))
    try:
        with temporary.open("ab") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as refusal:
        return refusal
    return None


def has_content(path: Path) -> bool:
    """Whether a file is there and not empty, as some file systems leave it when the power fails after a renaming."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
