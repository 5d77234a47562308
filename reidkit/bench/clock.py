"""The one clock of every measurement: what a second is, what is not counted, and which of several turns is kept.

On a CPU a second is process time, user and system, of all threads: a busy machine disturbs it little. On a GPU it is
wall time until the device has finished the work. Both are taken of every call; `Seconds.on(device)` picks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.profiler

from reidkit.errors import ReIDKitError

CPU = torch.device("cpu")


class Seconds(NamedTuple):
    """How long something took: `wall` clock, and process time (`cpu`), in seconds."""

    wall: float
    cpu: float

    def on(self, device: torch.device) -> float:
        """The one that counts on this device: wall time of finished work on a GPU, process time elsewhere."""
        return self.wall if device.type == "cuda" else self.cpu

    def since(self, start: Seconds) -> Seconds:
        """What passed between two readings of `now`."""
        return Seconds(self.wall - start.wall, self.cpu - start.cpu)


def measure(
    work: Callable[[], Any], device: torch.device = CPU, *, calls: int = 1, at_least: float = 0.0, warm_up: int = 0
) -> Seconds:
    """Seconds a call of `work`.

    calls: how many are counted, more until they took `at_least` seconds (on `device`). warm_up: calls before those.
    """
    for _ in range(warm_up):
        work()
    done, start = 0, now(device)
    while True:
        work()
        done += 1
        if done >= calls:
            passed = now(device).since(start)
            if passed.on(device) >= at_least:
                return Seconds(passed.wall / done, passed.cpu / done)


def best_of_turns(ways: Mapping[str, Callable[[], Any]], turns: int, device: torch.device = CPU) -> dict[str, Seconds]:
    """{name: least seconds of a call} of several ways to do something; one turn of all ways after another.

    Raises ReIDKitError for fewer than one turn.
    """
    if turns < 1:
        raise ReIDKitError(f"{turns} turns measure nothing: ask for 1 or more")
    rows = [{name: measure(way, device) for name, way in ways.items()} for _ in range(turns)]
    return {name: Seconds(*map(min, zip(*(row[name] for row in rows)))) for name in ways}


def now(device: torch.device = CPU) -> Seconds:
    """What the clocks show when the device has done all that was asked of it: two readings make a measurement."""
    finish(device)
    return Seconds(time.perf_counter(), time.process_time())


class Timed:
    """`with Timed(device) as time: ...`, then `time.seconds` of the block and of what it asked the device to do."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.device, self.seconds = device, Seconds(0, 0)

    def __enter__(self) -> Self:
        self._start = now(self.device)
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = now(self.device).since(self._start)


class Busy(Timed):
    """`with Busy(device) as busy: ...`, then `busy.share` of the wall time a GPU computed or copied; None elsewhere."""

    share: float | None = None

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            self._profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
            self._profiler.start()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self.device.type != "cuda":
            return
        self._profiler.stop()
        events = [e for e in self._profiler.events() or () if e.device_type == torch.profiler.DeviceType.CUDA]
        spans = [(e.time_range.start, e.time_range.end) for e in events]
        self.share = round(covered(spans) / 1e6 / self.seconds.wall, 3)  # from microseconds


def busy_share(work: Callable[[], Any], device: torch.device, *, calls: int = 5) -> float | None:
    """The `Busy.share` of some calls; None, and none is made, for a device that is not asked."""
    if device.type != "cuda":
        return None
    with Busy(device) as busy:
        for _ in range(calls):
            work()
    return busy.share


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals (start, end)."""
    length, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length


def device_peak(work: Callable[[], Any], device: torch.device) -> float | None:
    """MB of a GPU that a call needs at its peak on top of what lies there before; None for other devices."""
    if device.type != "cuda":
        return None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 1)


def finish(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """torch with `count` threads, then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory(work: Callable[[], Any]) -> tuple[Any, float | None]:
    """(result, MB of resident memory that the call needed at its peak on top of what was there; None without /proc).

    Linux keeps a high-water mark a process; writing 5 to clear_refs sets it back to the present size. Only the first
    call of a process is honest: later ones find memory that the allocator kept.
    """
    if not sys.platform.startswith("linux"):
        return work(), None
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_kb("VmRSS")
    result = work()
    return result, round((resident_kb("VmHWM") - before) / 1024, 1)


def resident_kb(field: str) -> int:
    """A memory field of /proc/self/status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field + ":")).split()[1])
