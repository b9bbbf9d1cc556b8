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
    floats, codes = _arena.floats(size), _arena.codes(size // 4)
    source, target = (codes, floats) if what.startswith("dequantize") else (floats, codes)
    return Loop(what, scheme, float(size * rounds), lambda: _core.run_peak(index, rounds, source, target))


class _Arena:
    """Aligned memory that all loops share, written once so that every page is its own."""

    def __init__(self) -> None:
        self._floats, self._codes = np.empty(0, np.float32), np.empty(0, np.int8)

    def floats(self, nbytes: int) -> Array:
        if self._floats.nbytes < nbytes:
            self._floats = aligned(nbytes // 4, np.dtype(np.float32))
            self._floats[:] = np.resize(np.linspace(-10, 10, 4001, dtype=np.float32), nbytes // 4)
        return self._floats[: nbytes // 4]

    def codes(self, nbytes: int) -> Array:
        if self._codes.nbytes < nbytes:
            self._codes = aligned(nbytes, np.dtype(np.int8))
            self._codes[:] = 1
        return self._codes[:nbytes]


def aligned(count: int, dtype: np.dtype[np.generic], alignment: int = 64) -> Array:
    """An array of `count` elements whose data starts at a multiple of `alignment`."""
    block = np.empty(count * dtype.itemsize + alignment, np.uint8)
    start = -block.ctypes.data % alignment
    return block[start : start + count * dtype.itemsize].view(dtype)


def binary_size(nbytes: int) -> str:
    """ "64 KiB" or "1 MiB"."""
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"


_arena = _Arena()


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
