"""This machine's limits beside a piece of work: the C core's loops (csrc/peaks.h) as calls, and what they allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .. import _core
from ..arrays import Array
from ..timing import Call

STEP = 16384  # bytes that a loop over memory takes at least
REGISTER_ROUNDS = 60_000  # about half a millisecond
LEAST_BYTES = 32 << 20  # that a call over memory goes through: small arrays several times


@dataclass(frozen=True)
class Bound:
    """A work does `amount` (operations, or bytes over memory) of what each loop called one of `whats` does; the loops
    are alternatives, and the fastest is the limit.  nbytes: the array of a loop over memory."""

    whats: tuple[str, ...]
    amount: float
    nbytes: int = 0

    def loops(self) -> list[Loop]:
        """Those of the tier in use; int4 has the limit of int8 where no scheme of its own is faster."""
        found = [loop for what in self.whats for loop in _loops(what, self.nbytes)]
        return found or (_loops("int8", 0) if "int4" in self.whats else [])


@dataclass(frozen=True)
class Loop:
    """One call of a loop: it does `work` operations or bytes, on each thread where it runs on registers."""

    what: str
    scheme: str
    work: float
    call: Call

    @property
    def name(self) -> str:
        return f"{self.what} ({self.scheme})"


def _loops(what: str, nbytes: int) -> list[Loop]:
    return [
        _register_loop(index, name, scheme, operations) if operations else _memory_loop(index, name, scheme, nbytes)
        for index, (name, scheme, operations) in enumerate(_core.peaks())
        if name == what
    ]


def _register_loop(index: int, what: str, scheme: str, operations: float) -> Loop:
    work = operations * REGISTER_ROUNDS * _core.get_num_threads()
    return Loop(what, scheme, work, lambda: _core.run_peak(index, REGISTER_ROUNDS))


def _memory_loop(index: int, what: str, scheme: str, nbytes: int) -> Loop:
    size = max(STEP, -(-nbytes // STEP) * STEP)
    rounds = max(1, LEAST_BYTES // size)
    if what.startswith("dequantize"):
        source, target = _codes.first(size // 4), _floats_written.first(size // 4)
    else:
        source, target = _floats.first(size // 4), _codes_written.first(size // 4)
    return Loop(what, scheme, float(size * rounds), lambda: _core.run_peak(index, rounds, source, target))


class _Memory:
    """Aligned memory that all loops share, written once so that every page is its own.

    What loops read none of them writes: codes of floats of codes shrink to 0 in a few turns, and lines of zeros are
    stored past the caches 2.5 times as fast as others (72 for 28 GB/s, Zen 4).
    """

    def __init__(self, values: Array) -> None:
        self._values = values
        self._array = values[:0]

    def first(self, count: int) -> Array:
        if self._array.size < count:
            self._array = aligned(count, self._values.dtype)
            self._array[:] = np.resize(self._values, count)
        return self._array[:count]


def aligned(count: int, dtype: np.dtype[np.generic], alignment: int = 64) -> Array:
    """An array of `count` elements whose data starts at a multiple of `alignment`."""
    block = np.empty(count * dtype.itemsize + alignment, np.uint8)
    start = -block.ctypes.data % alignment
    return block[start : start + count * dtype.itemsize].view(dtype)


def binary_size(nbytes: int) -> str:
    """ "64 KiB" or "1 MiB"."""
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"


_ramp = np.linspace(-10, 10, 4001, dtype=np.float32)
_floats, _floats_written = _Memory(_ramp), _Memory(_ramp)
_codes, _codes_written = _Memory((12 * _ramp).astype(np.int8)), _Memory((12 * _ramp).astype(np.int8))


def least_seconds(bounds: tuple[Bound, ...], seconds: Mapping[str, float]) -> tuple[str, float] | None:
    """(the loop that limits the work, the seconds it would take at that loop's speed); None without any loop.

    seconds: of a call of each of the bounds' loops, by name.
    """
    found = []
    for bound in bounds:
        alternatives = [
            (bound.amount * seconds[loop.name] / loop.work, loop.name) for loop in bound.loops() if loop.name in seconds
        ]
        if alternatives:
            found.append(min(alternatives))
    if not found:
        return None
    least, name = max(found)
    return name, least
