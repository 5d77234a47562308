"""Read many damaged files in a process of its own, with bounds on memory and processor time, and count what became
of them."""

import os
import random
import resource
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reidkit.errors import ReIDKitError

MEMORY = 1 << 30  # bytes that reading one small file may take beyond what the process has
SECONDS = 10  # of processor time, for one file


@dataclass(frozen=True)
class Kind:
    """A kind of file that the kit reads back.

    file: a whole one, in a folder that may be written to. read: what is done with it, -> the value. mutate: a function
    of mutants.py. check: AssertionError for a value that must not have been accepted. cost: one file of a dear kind is
    read where `cost` of a cheap one are.
    """

    name: str
    file: Path
    read: Callable[[], Any]
    mutate: Callable[[bytes, random.Random], bytes]
    check: Callable[[Any], None] = lambda value: None
    cost: int = 1


@dataclass
class Outcome:
    """What became of the mutants of a kind: read, refused, or one of the faults. examples: of each fault, the first."""

    counts: Counter = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> dict[str, str]:
        """{fault: example}; {} where every file was read or refused in the kit's own words."""
        return {k: v for k, v in self.examples.items() if k not in ("read", "refused")}


class TooLong(BaseException):
    """The processor time for one file is over."""


def fuzz(kind: Kind, mutants: int, seed: int = 0) -> Outcome:
    """Damage the file `mutants` times and read it, in a child process; the whole file is put back afterwards."""
    whole, outcome, first = kind.file.read_bytes(), Outcome(), 0
    try:
        while first < mutants:
            read_end, write_end = os.pipe()
            if not (child := os.fork()):
                os.close(read_end)
                _child(kind, whole, range(first, mutants), seed, write_end)
            os.close(write_end)
            with os.fdopen(read_end, encoding="utf-8", errors="replace") as lines:
                told = [line.rstrip("\n").partition("\t") for line in lines]
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            for fault, _, example in told:
                outcome.counts[fault] += 1
                outcome.examples.setdefault(fault, example)
            first += len(told)
            if first < mutants:  # it died over this one
                fault = f"killed by signal {-status}" if status < 0 else f"ended with code {status}"
                outcome.counts[fault] += 1
                outcome.examples.setdefault(fault, f"mutant {first}")
                first += 1
    finally:
        _put(kind.file, whole)
    return outcome


def mutant(kind: Kind, whole: bytes, seed: int, number: int) -> bytes:
    """The damaged file of this number."""
    return kind.mutate(whole, random.Random(f"{kind.name} {seed} {number}"))


def _put(file: Path, content: bytes) -> None:
    file.unlink(missing_ok=True)  # it may be a link to a whole one
    file.write_bytes(content)


def _child(kind: Kind, whole: bytes, numbers: range, seed: int, pipe: int) -> None:
    """Tell "outcome <tab> example" of each mutant to the pipe; never returns."""
    code = 1
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, _too_long)
        warnings.simplefilter("ignore")
        for number in numbers:
            _put(kind.file, mutant(kind, whole, seed, number))
            used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 2 * SECONDS, resource.RLIM_INFINITY))  # C code too
            fault, example = _read(kind)
            os.write(pipe, f"{fault}\tmutant {number}: {' '.join(example.split())[:400]}\n".encode("utf-8", "replace"))
        code = 0
    finally:
        os._exit(code)


def _too_long(*_) -> None:
    raise TooLong


def _read(kind: Kind) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        kind.check(kind.read())
    except ReIDKitError as error:
        named = kind.file.name in str(error) or kind.file.parent.name in str(error)
        return ("refused", str(error)) if named else ("does not name the file", str(error))
    except AssertionError as error:
        return "accepted", str(error)
    except TooLong:
        return "hang", "".join(traceback.format_exc(limit=-3))
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "/reidkit/" in f.filename][-1:]
        places = " ".join(f"{Path(f.filename).name}:{f.lineno}" for f in [*ours, where])
        return type(error).__name__, f"{error} ({places})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "read", ""
