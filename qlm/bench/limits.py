"""This machine's limits on their own, as cases: what its loops reach on registers, and over memory by level."""

from __future__ import annotations

from collections.abc import Iterator

from .. import _core
from .bounds import STEP, Bound, binary_size
from .cases import Case, Contender
from .machine import caches

SECTION = "limits"
CPU = "this CPU"
MEMORY = 256 << 20  # bytes that no cache holds
CONVERTED = (64 << 10, 1 << 20, 64 << 20, 256 << 20)
QUICK = 1 << 20  # the largest array of a quick run


def limit_cases(*, quick: bool = False) -> Iterator[Case]:
    """Each loop; reads by level and conversions by size."""
    for what in dict.fromkeys(what for what, _, _ in _core.peaks()):
        if what == "read":
            places = level_sizes()
        elif _is_over_memory(what):
            places = {binary_size(size): size for size in CONVERTED}
        else:
            places = {"": 0}
        for place, nbytes in places.items():
            if not quick or nbytes <= QUICK:
                yield from _cases(what, place, nbytes)


def level_sizes() -> dict[str, int]:
    """An array in half of each cache (a quarter of the last, which cores share), and one in memory."""
    found = caches()
    sizes = {f"L{level}": size // (4 if level == max(found) else 2) for level, size in sorted(found.items())}
    return {**{name: max(STEP, size - size % STEP) for name, size in sizes.items()}, "memory": MEMORY}


def _cases(what: str, place: str, nbytes: int) -> Iterator[Case]:
    for loop in Bound((what,), 0.0, nbytes).loops():
        is_memory = bool(nbytes)
        yield Case(
            SECTION,
            f"{what} {place}".strip(),
            None if is_memory else loop.work,
            loop.work if is_memory else None,
            (),
            [Contender(CPU, loop.call)],
            facts={"what": what, "scheme": loop.scheme, "nbytes": nbytes},
        )


def _is_over_memory(what: str) -> bool:
    return any(name == what and operations == 0 for name, _, operations in _core.peaks())
