"""A case: one piece of work, who does it, and what limits it.  Measuring one gives rows of a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import _core
from ..timing import Call, Clock, Timing, interleave
from .bounds import Bound, least_seconds

Row = dict[str, Any]
OWN = "qlm"  # a contender's name starts with this where the work is qlm's own


@dataclass(frozen=True)
class Contender:
    """Someone who does a case's work.  short: the same call on next to no data, whose time is that of the call itself;
    None: not measured.  call None: absent, for the reason that `note` gives."""

    name: str
    call: Call | None
    short: Call | None = None
    note: str | None = None


def absent(name: str, note: str = "not installed") -> Contender:
    return Contender(name, None, note=note)


@dataclass
class Case:
    """section, name: what a table shows.  operations (two for a multiply-add) and nbytes of the work: what GOP/s and
    GB/s count; None where they mean nothing.  beside: loops that are measured too, but limit nothing.  inputs: what
    another library needs to do the same."""

    section: str
    name: str
    operations: float | None
    nbytes: float | None
    bounds: tuple[Bound, ...]
    contenders: list[Contender]
    beside: tuple[Bound, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)


def measure(case: Case, *, seconds: float, clock: Clock = "wall") -> list[Row]:
    """A row for each contender, all of one interleaved run, the loops of the limits among them."""
    calls: dict[str, Call] = {}
    for contender in case.contenders:
        if contender.call is not None:
            calls[_key("call", contender.name)] = contender.call
        if contender.call is not None and contender.short is not None:
            calls[_key("short", contender.name)] = contender.short
    loops = {loop.name: loop for bound in (*case.bounds, *case.beside) for loop in bound.loops()}
    calls |= {_key("loop", name): loop.call for name, loop in loops.items()}
    timings = interleave(calls, seconds=seconds, clock=clock)
    times = {name: timings[_key("loop", name)] for name in loops}
    return [
        {
            **_row(case, one, timings.get(_key("call", one.name)), timings.get(_key("short", one.name)), times),
            "clock": clock,
        }
        for one in case.contenders
    ]


def _key(kind: str, name: str) -> str:
    return f"{kind} {name}"


def _row(
    case: Case, contender: Contender, timing: Timing | None, short: Timing | None, loops: Mapping[str, Timing]
) -> Row:
    row: Row = {"section": case.section, "case": case.name, **case.facts, "threads": _core.get_num_threads()}
    row["contender"] = contender.name
    if timing is None:
        return {**row, "note": contender.note}
    seconds = timing.median
    net = None if short is None else max(seconds - short.median, 0.0)
    row |= {**timing.to_dict(), "net": net}
    row["gops"] = None if case.operations is None else 1e-9 * case.operations / seconds
    row["gbs"] = None if case.nbytes is None else 1e-9 * case.nbytes / seconds
    limit = least_seconds(case.bounds, {name: loop.median for name, loop in loops.items()})
    at_best = least_seconds(case.bounds, {name: loop.best for name, loop in loops.items()})
    name, least = limit or (None, None)
    row |= {"limit": name, "limit_seconds": least, "share": least / seconds if least else None}
    row["best_share"] = at_best[1] / timing.best if at_best else None
    row["net_share"] = least / net if least and net else None
    row["loops"] = _loop_seconds((*case.bounds, *case.beside), loops)
    return {**row, "note": contender.note}


def _loop_seconds(bounds: Sequence[Bound], loops: Mapping[str, Timing]) -> dict[str, float]:
    """What the work would take at the speed of each loop that was measured."""
    return {
        loop.name: bound.amount * loops[loop.name].median / loop.work
        for bound in bounds
        for loop in bound.loops()
        if loop.name in loops
    }
