"""Observers: the range of a stream of arrays, found in one pass.

Every observer takes symmetric=None and axis=None; `.update(x)` sees an array, `.range()` gives (min, max),
`.qparams(dtype)` the scale and zero point, `.merge(other)` adds what another one has seen, `.reset()` forgets.
A range is float32: a scalar each, or one per index of `axis`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np

from . import _core
from .arrays import (
    Array,
    Floats,
    Layout,
    as_real,
    flag,
    granularity,
    integer,
    layout,
    nonfinite_error,
    shaped,
    to_float32,
)
from .errors import UnsupportedError, shown
from .qparams import choose_qparams

__all__ = ["MinMax", "MovingAverageMinMax", "Observer"]

Self = TypeVar("Self", bound="Observer")


class _State(NamedTuple):
    """Flat minima and maxima, and which of them have seen a value at all."""

    low: Floats
    high: Floats
    seen: Array


class Observer:
    """The base of all observers: running minima and maxima, and how a new array's are taken in."""

    def __init__(self, *, symmetric: bool | None = None, axis: int | None = None) -> None:
        self.symmetric = flag("symmetric", symmetric)
        self.axis = None if axis is None else integer("axis", axis)
        self._state: _State | None = None

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"

    def _settings(self) -> dict[str, Any]:
        return {"symmetric": self.symmetric, "axis": self.axis}

    def reset(self) -> None:
        """Forgets what it has seen; the settings stay."""
        self._state = None

    def update(self, x: object) -> None:
        """Sees an array of any shape (with `axis`: the same number of indices each time).

        ValueError: NaN or an infinity, which leaves the observer as it was.
        """
        source = as_real(x, "x")
        axis, _ = granularity(source.shape, self.axis, None)
        where = layout(source.shape, axis, None)
        if self._state is not None and len(self._state.low) != where[1] and axis is not None:
            raise ValueError(f"x must have {len(self._state.low)} indices along axis {self.axis}, got {where[1]}")
        low, high = self.estimate(source, to_float32(source), where)
        fresh = _State(low, high, np.full(low.shape, where[0] * where[2] > 0))
        self._state = fresh if self._state is None else self._joined(self._state, fresh)

    def estimate(self, source: Array, data: Floats, where: Layout) -> tuple[Floats, Floats]:
        """What this kind of observer finds in one array alone: (min, max), flat, one for each parameter.

        ValueError: `source`, the argument that `data` was made of, holds a number that is not finite.
        """
        low, high, bad = _core.range(data, where)
        if bad >= 0:
            raise nonfinite_error("x", source, bad)
        return low, high

    def _joined(self, old: _State, new: _State) -> _State:
        raise NotImplementedError

    def merge(self: Self, other: Observer) -> Self:
        """Adds what `other` has seen, and returns self.  TypeError: another kind of observer.

        ValueError: other settings, or another number of indices along the axis.
        """
        if type(other) is not type(self):
            raise TypeError(f"other must be a {type(self).__name__}, got {shown(other)}")
        if other._settings() != self._settings():
            raise ValueError(f"other must have the settings of {self!r}, got {other!r}")
        if other._state is None:
            return self
        if self._state is not None and len(self._state.low) != len(other._state.low):
            count = len(self._state.low)
            raise ValueError(f"other must have seen {count} indices along the axis, got {len(other._state.low)}")
        self._state = other._state if self._state is None else self._joined(self._state, other._state)
        return self

    def range(self) -> tuple[Any, Any]:
        """(min, max), float32; 0 and 0 where all arrays were empty.  ValueError: nothing seen yet."""
        if self._state is None:
            raise ValueError(f"{self!r} has seen no array yet")
        low, high, _ = self._state
        shape = () if self.axis is None else low.shape
        return shaped(low.copy(), shape), shaped(high.copy(), shape)

    def qparams(self, dtype: object = "int8") -> tuple[Any, Any]:
        """The scale and zero point of the range, as qlm.choose_qparams gives them."""
        low, high = self.range()
        return choose_qparams(low, high, dtype, symmetric=self.symmetric)


class MinMax(Observer):
    """The least and the greatest value of all arrays; exact, in any order."""

    def _joined(self, old: _State, new: _State) -> _State:
        both = old.seen & new.seen
        low = np.where(both, np.minimum(old.low, new.low), np.where(new.seen, new.low, old.low))
        high = np.where(both, np.maximum(old.high, new.high), np.where(new.seen, new.high, old.high))
        return _State(low, high, old.seen | new.seen)


class MovingAverageMinMax(Observer):
    """m <- m + averaging_constant * (m_of_the_array - m) for minima and maxima; the first array starts them.

    Each step is computed in float64 and rounded to float32 once.  Depends on the order, so it cannot merge.
    Source: torch.ao.quantization.MovingAverageMinMaxObserver.
    """

    def __init__(
        self, averaging_constant: float = 0.01, *, symmetric: bool | None = None, axis: int | None = None
    ) -> None:
        super().__init__(symmetric=symmetric, axis=axis)
        if isinstance(averaging_constant, bool) or not isinstance(averaging_constant, (int, float, np.number)):
            raise TypeError(f"averaging_constant must be a number, got {shown(averaging_constant)}")
        if not 0 < averaging_constant <= 1:
            raise ValueError(f"averaging_constant must be within 0..1 and not 0, got {averaging_constant}")
        self.averaging_constant = float(averaging_constant)

    def _settings(self) -> dict[str, Any]:
        return {"averaging_constant": self.averaging_constant, **super()._settings()}

    def merge(self: Self, other: Observer) -> Self:
        """TypeError: a moving average depends on the order of what it has seen."""
        raise TypeError("a moving average depends on order and cannot be merged")

    def _joined(self, old: _State, new: _State) -> _State:
        low, high = self._moved(old.low, new.low), self._moved(old.high, new.high)
        first = new.seen & ~old.seen
        low = np.where(first, new.low, np.where(new.seen, low, old.low))
        high = np.where(first, new.high, np.where(new.seen, high, old.high))
        return _State(low, high, old.seen | new.seen)

    def _moved(self, old: Floats, new: Floats) -> Floats:
        start, step = old.astype(np.float64), new.astype(np.float64)
        moved: Floats = (start + self.averaging_constant * (step - start)).astype(np.float32)
        moved += np.float32(0)  # no -0.0
        return moved


# By the names that recipes store.
NAMED: dict[str, type[Observer]] = {"minmax": MinMax, "moving_average": MovingAverageMinMax}


# What users may write, without what does not matter in it.
_WORDS = {"minmax": "minmax", "movingaverage": "moving_average", "movingaverageminmax": "moving_average"}
_LATER = frozenset({"percentile", "mse", "entropy"})


def canonical(word: str) -> str:
    """The key of NAMED that a word means.

    Case, "-" and "_" do not matter: "minmax", "moving_average", "moving-average-minmax".
    UnsupportedError: an observer that a later version will have.  ValueError: no observer's name.
    """
    plain = word.lower().replace("-", "").replace("_", "")
    if plain in _LATER:
        raise UnsupportedError(f"observer: {word} is not supported yet, there are {', '.join(NAMED)}")
    if plain not in _WORDS:
        raise ValueError(f"observer must be one of {', '.join(NAMED)}, got {shown(word)}")
    return _WORDS[plain]


def resolve(observer: object) -> Observer:
    """A fresh observer of the kind and settings that a name or an observer gives."""
    if isinstance(observer, Observer):
        return type(observer)(**observer._settings())
    if not isinstance(observer, str):
        raise TypeError(f"observer must be a name or an observer, got {shown(observer)}")
    return NAMED[canonical(observer)]()
