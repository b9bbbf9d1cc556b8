"""Interleaved timing: every contender in turn, round after round, so that a drift of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, and the quartiles as a measure of spread."""

    median: float
    low: float
    high: float
    rounds: int


TURN = 0.05  # seconds that a contender has before the next one's turn


def interleave(
    calls: Mapping[str, Callable[[], object]], *, seconds: float = 10.0, warmup: int = 2
) -> dict[str, Timing]:
    """Time each call warm, in turns, for about `seconds` in all and at least five rounds.

    A turn of a short call is many of them, after one that is not counted: others have run meanwhile and have taken the
    caches.
    """
    for call in calls.values():
        for _ in range(warmup):
            call()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 5 or time.perf_counter() < end:
        for name, call in calls.items():
            samples[name] += _turn(call)
        rounds += 1
    return {name: _summary(values) for name, values in samples.items()}


def _turn(call: Callable[[], object]) -> list[float]:
    times: list[float] = []
    begin = time.perf_counter()
    while not times or time.perf_counter() - begin < TURN:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[1:] or times


def _summary(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return Timing(median, low, high, len(values))
