"""A figure with its 95 % interval, and the intervals themselves.

Sums are `math.fsum` and draws come from one seeded generator, so a report says the same on every CPU.

* Share of n texts: Wilson's score interval (E. B. Wilson, JASA 1927), which keeps inside [0, 1] and has a width at
  0 of n and n of n, where the usual p +- z s is a point.
* Difference of two shares of the same n texts: Bonett and Price's adjusted Wald interval for paired proportions
  (Journal of Educational and Behavioral Statistics 2012), which has a width where no answer differs.
* Mean: percentile bootstrap (B. Efron) of 2000 resamples.
* Median: the two order statistics that hold it with at least 95 %, by the binomial distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES = 2000
SEED = 20240229


class Estimate(float):
    """A float that knows its 95 % interval: `value`, `low`, `high`, and `min`, the least single value, where one is
    kept.  Arithmetic, comparison, hashing and formatting are those of the value alone."""

    __slots__ = ("_high", "_low", "_min")
    _low: float
    _high: float
    _min: float | None

    def __new__(
        cls, value: float, low: float | None = None, high: float | None = None, *, min: float | None = None
    ) -> Estimate:
        """Without low and high the figure is exact: both are the value."""
        self = super().__new__(cls, value)
        self._low = float(value if low is None else low)
        self._high = float(value if high is None else high)
        self._min = None if min is None else float(min)
        return self

    @property
    def value(self) -> float:
        return float(self)

    @property
    def low(self) -> float:
        return self._low

    @property
    def high(self) -> float:
        return self._high

    @property
    def min(self) -> float | None:
        return self._min

    def __repr__(self) -> str:
        least = "" if self._min is None else f", min={self._min!r}"
        return f"Estimate({self.value!r}, {self._low!r}, {self._high!r}{least})"

    def __str__(self) -> str:
        return float.__repr__(self)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self.value, self._low, self._high, self._min)

    def to_dict(self) -> dict[str, float | None]:
        """{value, low, high}, and min where there is one; None stands for what JSON cannot say (inf, NaN)."""
        figures = {"value": self.value, "low": self._low, "high": self._high}
        if self._min is not None:
            figures["min"] = self._min
        return {name: finite_or_none(figure) for name, figure in figures.items()}


def _restore(value: float, low: float, high: float, least: float | None) -> Estimate:
    return Estimate(value, low, high, min=least)


def finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def proportion(count: int, total: int) -> Estimate:
    """The share count / total with Wilson's interval."""
    share = count / total
    z2 = Z95 * Z95 / total
    centre = (share + z2 / 2) / (1 + z2)
    half = Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total)) / (1 + z2)
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return Estimate(share, low, high)


def paired_difference(only_first: int, only_second: int, total: int) -> Estimate:
    """Share of the first minus share of the second over the same `total` texts, of which `only_first` count for the
    first alone and `only_second` for the second alone.  Two texts, one of each kind, are added before the interval."""
    first = (only_first + 1) / (total + 2)
    second = (only_second + 1) / (total + 2)
    centre = first - second
    half = Z95 * math.sqrt((first + second - centre * centre) / (total + 2))
    return Estimate((only_first - only_second) / total, max(-1.0, centre - half), min(1.0, centre + half))


def mean(values: Sequence[float], *, least: bool = False) -> Estimate:
    """The mean with its bootstrap interval; of one value alone the interval is that value.  least: keep the minimum."""
    average = math.fsum(values) / len(values)
    low, high = bootstrap_mean(values)
    return Estimate(average, min(low, average), max(high, average), min=min(values) if least else None)


def bootstrap_mean(values: Sequence[float]) -> tuple[float, float]:
    """Percentile interval of the mean.  Resamples are summed one draw at a time, all side by side: element-wise sums,
    whose bits do not depend on the CPU as those of a NumPy reduction may."""
    data = np.asarray(values, np.float64)
    draw = np.random.Generator(np.random.PCG64(SEED))
    totals = np.zeros(RESAMPLES)
    for _ in range(data.size):
        totals += data[draw.integers(data.size, size=RESAMPLES)]
    ordered = np.sort(totals / data.size)
    outside = int(0.025 * RESAMPLES)
    return float(ordered[outside]), float(ordered[RESAMPLES - 1 - outside])


def median(values: Sequence[float]) -> Estimate:
    """The median with its order-statistics interval; below six values no pair reaches 95 %: the least and greatest."""
    ordered = sorted(values)
    size = len(ordered)
    middle = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2
    rank = max(1, binomial_tail_rank(size))
    return Estimate(middle, ordered[rank - 1], ordered[size - rank])


def binomial_tail_rank(size: int) -> int:
    """The greatest r with P(fewer than r of `size` fair coins show heads) <= 2.5 %; 0 if none."""
    ways, below, rank, tosses = 1, 0, 0, 2**size  # ways: size over rank
    while True:
        below += ways
        if below * 40 > tosses:
            return rank
        ways = ways * (size - rank) // (rank + 1)
        rank += 1
