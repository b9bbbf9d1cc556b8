"""What commands print: JSON, pairs and tables on stdout, progress on stderr."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Advance = Callable[[int, int, str], None]


def print_json(value: Any, *, indent: int | None = 2) -> None:
    print(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """One `name  value` a line, the values below each other and wrapped to the terminal."""
    indent = max(len(name) for name, _ in pairs) + 2
    for name, value in pairs:
        lines = textwrap.wrap(value, max(20, terminal_width() - indent), break_on_hyphens=False) or [""]
        print(f"{name:<{indent}}{lines[0]}")
        for line in lines[1:]:
            print(" " * indent + line)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """A plain table, quick for thousands of rows; on a terminal it fits the width, a pipe gets every name whole."""
    from ..tables import Table

    width = terminal_width() if sys.stdout.isatty() else None
    print(Table("", headers, rows, left=left).to_text(width))


def print_report(report: Any) -> None:
    """A Report or Comparison: by rich on a terminal where it is installed, else as plain text."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
        except ImportError:
            pass
        else:
            Console().print(report)
            return
    print(report.to_text(terminal_width()))


def terminal_width() -> int:
    """Columns of the terminal (of COLUMNS, where set); 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


@contextmanager
def progress(description: str) -> Iterator[Advance | None]:
    """A callback (done, total, what) that draws a bar on stderr, if that is a terminal and rich is installed."""
    bar = make_bar() if sys.stderr.isatty() else None
    if bar is None:
        yield None
        return
    with bar:
        task = bar.add_task(description, total=None)

        def advance(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total or None, description=what or description)

        yield advance


def make_bar() -> Any:
    """rich's progress bar on stderr, or None without rich."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
