"""The timers, on a clock that moves only when a call says so."""

import gc
import itertools

import pytest

from qlm import timing


class Clock:
    """Stands in for time: calls move it."""

    def __init__(self):
        self.now = self.slept = 0  # nanoseconds
        self.spin_until = 0  # other threads of the process spin, also while it sleeps

    def call(self, *seconds):
        """A call that takes these times in turn, over and over; .count is how often it ran."""

        def work():
            self.now += round(1e9 * seconds[work.count % len(seconds)])
            work.count += 1

        work.count = 0
        return work

    def sleep(self, seconds):
        begin = self.now
        self.now += round(1e9 * seconds)
        self.slept += self.now - max(begin, min(self.spin_until, self.now))

    def perf_counter(self):
        return 1e-9 * self.now

    def process_time(self):
        return 1e-9 * (self.now - self.slept)


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(timing, "CLOCKS", {"wall": lambda: fake.now, "cpu": lambda: fake.now // 2})
    for name in ("perf_counter", "process_time", "sleep"):
        monkeypatch.setattr(timing.time, name, getattr(fake, name))
    return fake


def test_a_steady_call_has_its_own_time(clock):
    found = timing.time_call(clock.call(0.01), seconds=1.0)
    assert found.median == found.low == found.high == found.best == pytest.approx(0.01)
    assert found.spread == 0
    assert found.calls == 1
    assert found.cpu == pytest.approx(0.01)
    assert 80 <= found.samples <= 100  # those that fit one second, less the first of each turn


def test_the_first_call_is_not_measured(clock):
    call = clock.call(5.0, *[0.01] * 10_000)
    assert timing.time_call(call, seconds=0.5).high == pytest.approx(0.01)


def test_short_calls_are_timed_together(clock):
    found = timing.time_call(clock.call(1e-6), seconds=0.1)
    assert found.median == pytest.approx(1e-6)
    assert found.calls * 1e-6 >= timing.SAMPLE
    assert found.calls < 4 * timing.SAMPLE / 1e-6


def test_a_call_too_short_for_the_clock_ends(clock):
    found = timing.time_call(clock.call(*[0.0] * 15, 1e-7), seconds=0.002)
    assert found.median == pytest.approx(1e-7 / 16, rel=0.01)


def test_long_calls_get_the_least_number_of_samples(clock):
    call = clock.call(3.0)
    assert timing.time_call(call, seconds=0.1, least=4).samples == 4
    assert call.count <= 6  # one to warm up, one to learn its length


def test_quartiles_median_and_best(clock):
    call = clock.call(*[1e-3 * (31 * i % 101) for i in range(1, 101)])  # 1 to 100 ms, shuffled
    found = timing.time_call(call, seconds=30.0)
    assert found.best <= 0.003
    assert found.median == pytest.approx(0.05, rel=0.1)
    assert found.low == pytest.approx(0.025, rel=0.2)
    assert found.high == pytest.approx(0.075, rel=0.1)
    assert found.spread == pytest.approx((found.high - found.low) / found.median)


def test_contenders_take_turns(clock):
    order = []

    def named(name, seconds):
        work = clock.call(seconds)
        return lambda: (order.append(name), work())

    found = timing.interleave({"a": named("a", 0.02), "b": named("b", 0.04)}, seconds=1.0)
    assert found["a"].median == pytest.approx(0.02)
    assert found["b"].median == pytest.approx(0.04)
    turns = sum(before != after for before, after in itertools.pairwise(order))
    assert turns >= 20


def test_a_drift_of_the_machine_hits_all_alike(clock):
    """The machine slows down to a half in the middle: medians taken one after the other would differ by 2."""

    def slowing():
        clock.now += 10_000_000 if clock.now < 2_000_000_000 else 20_000_000

    found = timing.interleave({"a": slowing, "b": slowing}, seconds=2.0)
    assert found["a"].median == pytest.approx(found["b"].median, rel=0.01)


@pytest.mark.parametrize(("spins", "waits"), [(0, 0.002), (0.005, 0.008), (10, 0.3)])
def test_a_turn_begins_when_other_threads_have_ended_their_spinning(clock, spins, waits):
    """Not for ever: a library may have a thread that works."""
    clock.spin_until = round(1e9 * spins)
    timing.wait_for_quiet()
    assert clock.perf_counter() == pytest.approx(waits)


def test_cpu_clock(clock):
    assert timing.time_call(clock.call(0.01), clock="cpu").median == pytest.approx(0.005)


def test_an_error_comes_through_and_the_collector_is_back(clock):
    def fail():
        raise RuntimeError("no")

    assert gc.isenabled()
    with pytest.raises(RuntimeError):
        timing.time_call(fail)
    assert gc.isenabled()


def test_no_calls():
    assert timing.interleave({}, seconds=10.0) == {}


def test_real_clock_and_foreign_load():
    found = timing.time_call(lambda: sum(range(1000)), seconds=0.02)
    assert 0 < found.best <= found.low <= found.median <= found.high
    assert found.cpu > 0
    assert found.foreign is None or found.foreign >= 0
    assert set(found.to_dict()) == {"median", "low", "high", "best", "samples", "calls", "cpu", "foreign"}


def test_without_proc_stat(monkeypatch):
    monkeypatch.setattr(timing, "_foreign_seconds", lambda: None)
    assert timing.ForeignLoad().cores() is None
