"""The tables of docs/performance.md, made of the results that are kept in benchmarks/results/.

    python benchmarks/tables.py [RESULT.json ...]   # take these results in, and write the tables
    python benchmarks/tables.py --check             # do the tables say what the results hold?

A result goes into the file of its CPU and instruction set; rows that it measured again replace older ones, and those of
other CPUs stay. What stands between the two marks of docs/performance.md is written by this program alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from qlm.bench import results
from qlm.bench.cases import OWN, Row
from qlm.bench.limits import SECTION as LIMITS
from qlm.bench.models import SECTION as MODEL
from qlm.bench.results import Result
from qlm.bench.views import duration, percent
from qlm.views import markdown_table, significant

ROOT = Path(__file__).resolve().parent
FOLDER, PAGE = ROOT / "results", ROOT.parent / "docs" / "performance.md"
BEGIN, END = "<!-- tables: begin (benchmarks/tables.py) -->", "<!-- tables: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where the page is out of date")
    args = parser.parse_args()
    for path in args.results:
        take_in(results.load(path))
    page = PAGE.read_text(encoding="utf-8")
    written = with_tables(page, [results.load(path) for path in sorted(FOLDER.glob("*.json"))])
    if args.check:
        if written != page:
            print("docs/performance.md is out of date: run python benchmarks/tables.py", file=sys.stderr)
        return int(written != page)
    PAGE.write_text(written, encoding="utf-8")
    return 0


def take_in(found: Result) -> None:
    """Into the file of its CPU and instruction set."""
    machine = found["machine"]
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']} {machine['isa']}".lower()).strip("-")
    target = FOLDER / f"{name}.json"
    FOLDER.mkdir(exist_ok=True)
    if target.exists():
        old = results.load(target)
        found = results.merged(old, found)
        found["software"] = {**old["software"], **found["software"]}
    results.save(target, found)


def with_tables(page: str, found: Sequence[Result]) -> str:
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + "\n\n" + "\n".join(map(section, found)) + "\n" + END + after


def section(found: Result) -> str:
    """All tables of one CPU and instruction set."""
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["software"].items() if name != "qlm")
    head = f"### {machine['cpu']}, {machine['isa']}\n\nMedians, {found['date']}; {versions}.\n"
    parts = [head]
    for threads in sorted({row["threads"] for row in found["rows"]}):
        rows = [row for row in found["rows"] if row["threads"] == threads]
        word = "one thread" if threads == 1 else f"{threads} threads"
        if any(row["clock"] == "cpu" for row in rows):
            word += ", CPU time"
        for title, make in TABLES:
            text = make(rows)
            if text:
                parts.append(f"**{title}, {word}**\n\n{text}")
    return "\n".join(parts)


# ---- tables ------------------------------------------------------------------------------------------------------


def limits(rows: Sequence[Row]) -> str:
    cells = [
        [row["case"], row["scheme"], rate(row)] for row in rows if row["section"] == LIMITS and row["what"] in REGISTERS
    ]
    cells += [[row["case"], row["scheme"], rate(row)] for row in rows if is_memory_limit(row)]
    return markdown_table(["limit", "by", "GOP/s or GB/s"], cells, align=["left", "left", "right"]) if cells else ""


REGISTERS = ("int8", "int4", "int16", "float32")


def is_memory_limit(row: Row) -> bool:
    return row["section"] == LIMITS and row["what"] not in REGISTERS


def rate(row: Row) -> str:
    value = row.get("gops") or row.get("gbs")
    return significant(value) if value else "-"


def linears(kind: str) -> Callable[[Sequence[Row]], str]:
    """A line for each shape and number of rows, a column for each contender: GOP/s, and the share of the limit."""

    def make(rows: Sequence[Row]) -> str:
        return wide(
            [row for row in rows if row["section"] == f"linear {kind}"],
            ["out x in", "rows"],
            lambda row: (row["case"], str(row["m"])),
            rate,
        )

    return make


def arrays(rows: Sequence[Row]) -> str:
    """GB/s of float32, net of a call."""

    def net_rate(row: Row) -> str:
        seconds = row.get("net") or row.get("median")
        return significant(1e-9 * row["nbytes"] / seconds) if seconds else "-"

    found = [row for row in rows if row["section"] != LIMITS and "nbytes" in row]
    merged = [{**row, "contender": OWN if row["contender"] == OWN else "best peer"} for row in best_peers(found)]
    return wide(merged, ["work", "float32"], lambda row: (row["section"], row["case"]), net_rate)


def best_peers(rows: Iterable[Row]) -> list[Row]:
    """qlm's rows, and of each case the fastest peer's."""
    kept: list[Row] = []
    fastest: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row["contender"] == OWN:
            kept.append(row)
        elif row.get("median") and is_faster(row, fastest.get((row["section"], row["case"]))):
            fastest[row["section"], row["case"]] = row
    return kept + list(fastest.values())


def is_faster(row: Row, other: Row | None) -> bool:
    return other is None or row["median"] < other["median"]


def wide(
    rows: Sequence[Row], heads: list[str], key: Callable[[Row], tuple[str, ...]], cell: Callable[[Row], str]
) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(row["contender"] for row in rows))
    lines: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        lines.setdefault(key(row), {})[row["contender"]] = row
    cells = []
    for place, group in lines.items():
        own = group.get(OWN, {})
        share = own.get("net_share") or own.get("share")
        shown = [cell(group[name]) if name in group and "median" in group[name] else "-" for name in names]
        cells.append([*place, shown[0], percent(share) or "-", *shown[1:]])
    return markdown_table([*heads, names[0], "share", *names[1:]], cells)


def overhead(rows: Sequence[Row]) -> str:
    cells = [[row["case"], duration(row["median"])] for row in rows if row["section"] == "call overhead"]
    return markdown_table(["call from Python", "median"], cells) if cells else ""


def models(rows: Sequence[Row]) -> str:
    """A line for each contender, a column for each size."""
    found = [row for row in rows if row["section"] == MODEL]
    if not found:
        return ""
    sizes = list(dict.fromkeys(row["case"] for row in found))
    names = list(dict.fromkeys(row["contender"] for row in found))
    at = {(row["contender"], row["case"]): row for row in found}
    cells = []
    for name in names:
        group = [at.get((name, size), {}) for size in sizes]
        similar = next((f"{row['cosine']:.4f}" for row in group if "cosine" in row), "-")
        cells.append([name, *(duration(row.get("median")) or row.get("note") or "-" for row in group), similar])
    return markdown_table(["texts x tokens", *sizes, "cosine"], cells)


TABLES: tuple[tuple[str, Callable[[Sequence[Row]], str]], ...] = (
    ("MiniLM", models),
    ("int8 `linear`, GOP/s", linears("int8")),
    ("int4 `linear`, groups of 32, GOP/s", linears("int4 g32")),
    ("int4 `linear`, groups of 128, GOP/s", linears("int4 g128")),
    ("float32 `linear`, GOP/s", linears("float32")),
    ("weight-only int8 `linear`, GOP/s", linears("weight-only")),
    ("Arrays, GB/s of float32 net of a call", arrays),
    ("A call's own time", overhead),
    ("This machine's limits", limits),
)


if __name__ == "__main__":
    sys.exit(main())
