"""What the benchmark programs share: options, progress, and what is done with the rows in the end."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from peers import KINDS

from qlm.bench import results, views
from qlm.bench.cases import Case, Row
from qlm.tables import wrapped

WIDTH = 80
START = time.monotonic()


def add_options(parser: argparse.ArgumentParser, *, seconds: float) -> None:
    parser.add_argument("--threads", type=_numbers, default=(1,), help="one number or several: 1,2")
    names = [*(kind.name for kind in KINDS), "none"]
    parser.add_argument("--peer", action="append", choices=names, help="only this peer (repeatable)")
    parser.add_argument("--seconds", type=float, default=seconds, help="for each figure")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of the whole run: no case is begun afterwards")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread amid other load")
    parser.add_argument("--quick", action="store_true", help="a few cases, briefly")
    parser.add_argument("--save", type=Path, help="the result as JSON")
    parser.add_argument("--plot", type=Path, help="a picture of the shares")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def within(args: argparse.Namespace, cases: Iterable[Case]) -> Iterator[Case]:
    """The cases that begin within --minutes; what has been measured by then is kept."""
    for case in cases:
        if time.monotonic() - START > 60 * args.minutes:
            print(f"stopped after {args.minutes:g} minutes, before {case.section} {case.name}", file=sys.stderr)
            return
        yield case


def progress_line(text: str) -> None:
    """On a terminal, in one line."""
    if sys.stderr.isatty():
        print(f"\r{text[: WIDTH - 1]:<{WIDTH - 1}}", end="", file=sys.stderr, flush=True)


def finish(args: argparse.Namespace, rows: Sequence[Row], versions: Mapping[str, str]) -> None:
    """Saves, draws and prints."""
    progress_line("")
    found = results.result(rows, seconds=args.seconds, versions=versions)
    if args.save:
        results.save(args.save, found)
    if args.plot:
        from qlm.bench.plot import save_plot

        save_plot(found, args.plot)
    machine = found["machine"]
    print(f"{machine['cpu']}, {machine['isa']}; " + ", ".join(f"{k} {v}" for k, v in found["software"].items()))
    shown = views.tables(found["rows"])
    for table in shown:
        print("\n" + table.to_text(WIDTH))
    print("\n" + wrapped(views.legend(shown), WIDTH))
