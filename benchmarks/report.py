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
from qlm.cli.bench import check_measuring
from qlm.cli.options import UsageError
from qlm.tables import wrapped

WIDTH = 80
START = time.monotonic()


def add_options(parser: argparse.ArgumentParser, *, seconds: float) -> None:
    parser.add_argument("--threads", type=numbers, default=(1,), help="one number or several: 1,2")
    names = [*(kind.name for kind in KINDS), "none"]
    parser.add_argument("--peer", action="append", choices=names, help="only this peer (repeatable)")
    parser.add_argument("--seconds", type=float, default=seconds, help="for each figure")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of the whole run: no case is begun afterwards")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread amid other load")
    parser.add_argument("--quick", action="store_true", help="a few cases, briefly")
    parser.add_argument("--save", type=Path, help="the result as JSON")
    parser.add_argument("--plot", type=Path, help="a picture of the shares")


def numbers(text: str, between: str = ",") -> tuple[int, ...]:
    """Of "1,2"."""
    words = text.split(between)
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 1 << 31 for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} must be whole numbers above 0, {between!r} between them")
    return tuple(map(int, words))


def pair(text: str) -> tuple[int, int]:
    """Of "4096x11008"."""
    found = numbers(text, "x")
    if len(found) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} must be two numbers, such as 32x128")
    return found[0], found[1]


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; what can be wrong with them is said before the work."""
    args = parser.parse_args()
    if max(args.threads) > 1024:
        parser.error(f"--threads must be at most 1024, got {max(args.threads)}")
    try:
        check_measuring(args, max(args.threads))
    except (OSError, UsageError, ImportError) as error:
        parser.error(str(error))
    return args


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
    if not rows:
        sys.exit("nothing was measured: no case has what was asked for")
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
