"""The clock of the benchmarks, with hands that a test moves: what counts, what does not, what is kept."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reidkit.bench import clock
from reidkit.bench.clock import (
    Seconds,
    best_of_turns,
    busy_share,
    covered,
    device_peak,
    measure,
    peak_memory,
    using_threads,
)

GPU = torch.device("cuda")


@pytest.fixture
def hands(monkeypatch):
    """The two hands of the clock; `tick(wall, cpu)` is work that takes so long."""
    hands = SimpleNamespace(wall=100.0, cpu=10.0, calls=[])

    def tick(wall, cpu, name="work"):
        hands.wall, hands.cpu = hands.wall + wall, hands.cpu + cpu
        hands.calls.append(name)

    hands.tick = tick
    fake = SimpleNamespace(perf_counter=lambda: hands.wall, process_time=lambda: hands.cpu)
    monkeypatch.setattr(clock, "time", fake)
    return hands


def test_a_cpu_counts_process_time_and_a_gpu_the_wall():
    assert Seconds(3.0, 2.0).on(torch.device("cpu")) == 2.0 and Seconds(3.0, 2.0).on(GPU) == 3.0


def test_seconds_a_call(hands):
    assert measure(lambda: hands.tick(3, 2)) == (3, 2)
    assert measure(lambda: hands.tick(3, 2), calls=4) == (3, 2) and len(hands.calls) == 1 + 4


def test_warm_up_does_not_count(hands):
    took = iter([50, 40, 3, 5])
    assert measure(lambda: hands.tick(0, next(took)), calls=2, warm_up=2) == (0, 4)


def test_a_short_job_is_repeated_until_it_has_taken_long_enough(hands):
    assert measure(lambda: hands.tick(9, 2), at_least=7) == (9, 2) and len(hands.calls) == 4  # by process time


def test_a_gpu_is_waited_for(hands, monkeypatch):
    """The work is only asked for at once; it is finished when the device says so."""
    queued = []

    def finished(device):
        assert device == GPU
        while queued:
            hands.tick(queued.pop(), 0, "finished")

    monkeypatch.setattr(torch.cuda, "synchronize", finished)
    assert measure(lambda: queued.append(6), GPU, calls=3, warm_up=1).on(GPU) == 6
    assert hands.calls == ["finished"] * 4 and queued == []


def test_the_best_of_turns(hands):
    times = {"a": iter([(5, 3), (4, 6), (9, 9)]), "b": iter([(1, 1), (2, 2), (7, 0)])}
    ways = {name: lambda name=name: hands.tick(*next(times[name]), name) for name in times}
    assert best_of_turns(ways, 3) == {"a": (4, 3), "b": (1, 0)}
    assert hands.calls == ["a", "b"] * 3, "in turns: what disturbs one disturbs the other"


def test_threads_are_as_before_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_peak_memory_is_that_of_the_call():
    def work():
        block = np.ones(200 * 2**20, np.uint8)
        return int(block[-1])

    result, peak = peak_memory(work)
    assert result == 1 and 190 < peak < 400


def test_without_proc_memory_is_not_said(monkeypatch):
    monkeypatch.setattr(clock.sys, "platform", "darwin")
    assert peak_memory(lambda: 3) == (3, None)


def test_the_union_of_intervals():
    assert covered([]) == 0 and covered([(3, 5), (0, 2)]) == 4
    assert covered([(0, 4), (1, 2), (3, 6), (6, 7), (9, 9)]) == 7  # overlapping, nested, touching, empty


def test_the_time_of_a_block(hands):
    with clock.Timed() as time:
        hands.tick(3, 2)
    hands.tick(5, 5)
    assert time.seconds == (3, 2)


def test_how_busy_a_gpu_was_in_a_block(hands, monkeypatch):
    """Two of its four seconds, by a profiler's events in microseconds; what a CPU did is not counted."""
    span = lambda start, end, kind: SimpleNamespace(device_type=kind, time_range=SimpleNamespace(start=start, end=end))  # noqa: E731
    gpu, cpu = torch.profiler.DeviceType.CUDA, torch.profiler.DeviceType.CPU
    events = [span(0, 1.5e6, gpu), span(0, 4e6, cpu), span(1e6, 2e6, gpu)]
    fake = SimpleNamespace(start=lambda: None, stop=lambda: None, events=lambda: events)
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: fake)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    with clock.Busy(GPU) as busy:
        hands.tick(4, 1)
    assert busy.share == 0.5 and busy.seconds == (4, 1)


def test_what_only_a_gpu_tells_is_none_elsewhere():
    done = []
    with clock.Busy() as busy:
        pass
    assert busy.share is None
    assert busy_share(lambda: done.append(1), torch.device("cpu")) is None
    assert device_peak(lambda: done.append(1), torch.device("cpu")) is None and done == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_busy_time_and_peak_of_a_gpu():
    a = torch.randn(4096, 4096, device="cuda")
    assert 0.5 < busy_share(lambda: [a @ a for _ in range(50)], a.device) <= 1.01
    assert busy_share(lambda: sum(range(2_000_000)), a.device) == 0
    assert 60 <= device_peak(lambda: a @ a, a.device) < 200
