"""Timing of several calls in one process, in turns, so that a drift of the machine hits all alike."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Literal

Call = Callable[[], object]
Clock = Literal["wall", "cpu"]

# Nanoseconds.  "cpu" is that of the whole process: it leaves out the time in which the machine ran others, and is right
# for calls that run on one thread.
CLOCKS: dict[str, Callable[[], int]] = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}

TURN = 0.05  # seconds that a call has before the next one's turn
SAMPLE = 1e-4  # short calls are timed together, so that reading the clock twice is less than a thousandth
# Between turns: workers of other libraries' pools spin for a while after their call, some for 200 ms.
PAUSE = 0.002  # seconds in which the process must have used next to no CPU
PAUSES_MOST = 150
LEAST_SAMPLES = 5


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, warm: the median of the samples, their quartiles and the least."""

    median: float
    low: float
    high: float
    best: float
    samples: int
    calls: int  # that one sample took together
    cpu: float  # CPU seconds of this process for one call, all threads together
    foreign: float | None  # cores that others used meanwhile; None where the system does not tell

    @property
    def spread(self) -> float:
        """The distance of the quartiles, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def to_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


class _Contender:
    """One call and its samples."""

    def __init__(self, call: Call, clock: Callable[[], int]) -> None:
        self.call, self.clock = call, clock
        self.calls = 1
        self.samples: list[float] = []
        self.cpu: list[float] = []

    def warm_up(self) -> None:
        """The first call, which may allocate and start threads, and then as many as a sample needs."""
        self.call()
        while (took := self._sample() * self.calls) < SAMPLE:
            self.calls = max(2 * self.calls, int(self.calls * min(1.2 * SAMPLE / max(took, 1e-9), 100)))

    def turn(self, seconds: float) -> None:
        """Samples for `seconds`, at least one.  A call that is short against a turn first runs unmeasured: others have
        had the caches meanwhile."""
        begin, before = time.perf_counter(), len(self.samples)
        if self.samples and self.samples[-1] * self.calls < seconds / 4:
            self._sample()
        cpu = time.process_time()
        while len(self.samples) == before or time.perf_counter() - begin < seconds:
            self.samples.append(self._sample())
        self.cpu.append((time.process_time() - cpu) / (self.calls * (len(self.samples) - before)))

    def _sample(self) -> float:
        call, clock = self.call, self.clock
        start = clock()
        for _ in repeat(None, self.calls):
            call()
        return 1e-9 * (clock() - start) / self.calls

    def timing(self, foreign: float | None) -> Timing:
        low, median, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return Timing(
            median, low, high, min(self.samples), len(self.samples), self.calls, statistics.median(self.cpu), foreign
        )


def interleave(
    calls: Mapping[str, Call], *, seconds: float = 1.0, least: int = LEAST_SAMPLES, clock: Clock = "wall"
) -> dict[str, Timing]:
    """Times each call warm, in turns, each for about `seconds` and at least `least` (2 or more) samples.

    clock "wall" is what a user waits; "cpu" the CPU time of this process, for calls on one thread amid other load.
    """
    contenders = {name: _Contender(call, CLOCKS[clock]) for name, call in calls.items()}
    load = ForeignLoad()
    turn = min(TURN, seconds / LEAST_SAMPLES)
    with _no_collection():
        for contender in contenders.values():
            contender.warm_up()
        end = time.perf_counter() + seconds * len(contenders)
        while contenders and (_fewest(contenders) < least or time.perf_counter() < end):
            for contender in contenders.values():
                if len(contenders) > 1:
                    wait_for_quiet()
                contender.turn(turn)
    foreign = load.cores()
    return {name: contender.timing(foreign) for name, contender in contenders.items()}


def wait_for_quiet() -> None:
    """Until the other threads of this process use no CPU, or for PAUSES_MOST pauses."""
    for _ in range(PAUSES_MOST):
        before = time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - before < PAUSE / 4:
            return


def time_call(call: Call, *, seconds: float = 1.0, least: int = LEAST_SAMPLES, clock: Clock = "wall") -> Timing:
    """The timing of one call alone."""
    return interleave({"": call}, seconds=seconds, least=least, clock=clock)[""]


def _fewest(contenders: Mapping[str, _Contender]) -> int:
    return min(len(contender.samples) for contender in contenders.values())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's garbage collector stays out of the samples."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# ---- the machine's other load ------------------------------------------------------------------------------------


class ForeignLoad:
    """How many cores others have used since this was made: the machine's busy time less this process's own."""

    def __init__(self) -> None:
        self._start, self._begin = _foreign_seconds(), time.perf_counter()

    def cores(self) -> float | None:
        """None where the system has no /proc/stat."""
        now, elapsed = _foreign_seconds(), time.perf_counter() - self._begin
        if now is None or self._start is None or elapsed <= 0:
            return None
        return max(0.0, (now - self._start) / elapsed)


def _foreign_seconds() -> float | None:
    try:
        with open("/proc/stat", encoding="ascii") as file:
            first = file.readline().split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, *irq_and_stolen = (int(word) for word in first[1:9])
    ticks = user + nice + system + sum(irq_and_stolen)
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()
