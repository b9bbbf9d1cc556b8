"""The goals in docs/performance.md, the tables in docs/tables/ and README's of speed, made of benchmarks/results/.

    python benchmarks/tables.py [RESULT.json ...]   # take these results in, and write goals and tables
    python benchmarks/tables.py --check             # do they say what the results hold?

A result goes into the file of its CPU and instruction set; rows that it measured again replace older ones, and those of
other CPUs stay. Of rows that several of the results given have, the one in the middle counts. What stands between the
marks of docs/performance.md and README.md, and docs/tables/, is written by this program alone.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import goals

from qlm.bench import results
from qlm.bench.cases import OWN, Row
from qlm.bench.limits import SECTION as LIMITS
from qlm.bench.models import SECTION as MODEL
from qlm.bench.results import Result
from qlm.bench.shares import of_one_peak
from qlm.bench.views import duration, percent
from qlm.errors import FormatError
from qlm.views import markdown_table, significant

ROOT = Path(__file__).resolve().parent
FOLDER, PAGE, PAGES = ROOT / "results", ROOT.parent / "docs" / "performance.md", ROOT.parent / "docs" / "tables"
PARTS = ROOT.parent / "docs" / "performance"
README = ROOT.parent / "README.md"
WIDTH = 140  # of the pages' lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where the page is out of date")
    args = parser.parse_args()
    runs: dict[Path, list[Result]] = {}
    for path in args.results:
        try:
            found = results.load(path)
        except (FormatError, OSError) as error:
            sys.exit(f"{parser.prog}: error: {error}")
        runs.setdefault(home(found), []).append(found)
    for path, several in runs.items():
        take_in(path, results.middle(several))
    wanted = pages({path.stem: taken_together(results.load(path)) for path in sorted(FOLDER.glob("*.json"))})
    stale = [path for path in PAGES.glob("*.md") if path not in wanted]
    late = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if args.check:
        for path in [*late, *stale]:
            print(f"{path.name} is out of date: run python benchmarks/tables.py", file=sys.stderr)
        return int(bool(late or stale))
    PAGES.mkdir(exist_ok=True)
    for path in late:
        path.write_text(wanted[path], encoding="utf-8")
    for path in stale:
        path.unlink()
    return 0


def home(found: Result) -> Path:
    """The file of a result's CPU and instruction set."""
    machine = found["machine"]
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']} {machine['isa']}".lower()).strip("-")
    return FOLDER / f"{name}.json"


def take_in(target: Path, found: Result) -> None:
    FOLDER.mkdir(exist_ok=True)
    if target.exists():
        old = results.load(target)
        found = results.merged(old, found)
        found["software"] = {**old["software"], **found["software"]}
    results.save(target, found)


def taken_together(found: Result) -> Result:
    """Rows of several runs have one peak too."""
    return {**found, "rows": of_one_peak(found["rows"])}


def pages(found: dict[str, Result]) -> dict[Path, str]:
    """What each page is to hold; `found` by the names of their files."""
    speeds = (speed(one) for one in found.values())
    return {
        PAGE: between_marks(PAGE, "goals", [goal_section(name, one) for name, one in found.items()]),
        README: between_marks(README, "speed", [text for text in speeds if text]),
        **{PAGES / f"{name}.md": table_page(one) for name, one in found.items()},
    }


def between_marks(path: Path, word: str, parts: Iterable[str]) -> str:
    """The file's text with these parts where its marks are."""
    begin, end = f"<!-- {word}: begin (benchmarks/tables.py) -->", f"<!-- {word}: end -->"
    before, rest = path.read_text(encoding="utf-8").split(begin)
    return before + begin + "\n\n" + "\n".join(parts) + "\n" + end + rest.split(end)[1]


def speed(found: Result) -> str:
    """MiniLM by contender, the fastest first; nothing where qlm was held to fewer instructions than the CPU has."""
    rows = [row for row in found["rows"] if row["section"] == MODEL and row.get("median")]
    features = found["machine"]["features"]
    if not rows or (found["machine"]["isa"] == "avx2" and "avx512f" in features):
        return ""
    places = sorted({(row["threads"], -row["batch"] * row["length"], row["case"]) for row in rows})
    at: dict[str, dict[tuple[int, str], Row]] = {}
    for row in rows:
        at.setdefault(row["contender"], {})[row["threads"], row["case"]] = row
    order = sorted(at, key=lambda name: at[name].get((places[0][0], places[0][2]), {}).get("median", math.inf))
    cells = [
        [name, *(duration(at[name].get((threads, case), {}).get("median")) or "-" for threads, _, case in places)]
        for name in order
    ]
    heads = [f"{case}, {'one thread' if threads == 1 else f'{threads} threads'}" for threads, _, case in places]
    clock = ", CPU time amid other load" if any(row["clock"] == "cpu" for row in rows) else ""
    head = folded(f"{title(found)}{clock}; {software(found)}.")
    return f"{head}\n\n" + markdown_table(["", *heads], cells)


def table_page(found: Result) -> str:
    """All tables of one CPU and instruction set."""
    measured = folded(f"Medians, {software(found)}.")
    parts = [
        f"# {title(found)}\n\n"
        "Written by `python benchmarks/tables.py`; [benchmarks/README.md](../../benchmarks/README.md) says how it is "
        f'measured.\n"share" is qlm\'s, of the limit that the work runs into.\n\n{measured}\n'
    ]
    for threads in sorted({row["threads"] for row in found["rows"]}):
        rows = [row for row in found["rows"] if row["threads"] == threads]
        word = "one thread" if threads == 1 else f"{threads} threads"
        if any(row["clock"] == "cpu" for row in rows):
            word += ", CPU time"
        for heading, make in TABLES:
            text = make(rows)
            if text:
                parts.append(f"## {heading}, {word}\n\n{text}")
    return "\n".join(parts)


def folded(text: str) -> str:
    """Broken at spaces alone: hyphens stand in links too."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def title(found: Result) -> str:
    return f"{found['machine']['cpu']}, {found['machine']['isa']}"


def software(found: Result) -> str:
    versions = (f"{name} {version}" for name, version in found["software"].items() if name != "qlm")
    return f"{found['date']}; " + ", ".join(versions)


# ---- goals -------------------------------------------------------------------------------------------------------


def goal_section(name: str, found: Result) -> str:
    """A line for each goal; nothing of it where the instruction set has none."""
    aims = goals.goals_of(found["machine"]["isa"])
    head = f"### {title(found)}\n\n" + folded(f"[All tables](tables/{name}.md). {peaks(found)}") + "\n"
    if aims is None:
        return head
    lines = [goal_line(goal, aims, found) for goal in goals.GOALS if aims in goal.aims]
    return f"{head}\n" + markdown_table(
        ["work", "beside", "goal", "one thread", "two threads", "short of it"], lines, align=["left"] * 6
    )


def peaks(found: Result) -> str:
    """Some limits, of each number of threads: "int8 466 / 915 GOP/s"."""
    at: dict[tuple[str, str], list[str]] = {}
    for row in sorted(found["rows"], key=lambda row: row["threads"]):
        if row["section"] == LIMITS and row["case"] in ("int8", "read L1", "read L2", "read L3", "read memory"):
            at.setdefault((row["case"], row["scheme"]), []).append(rate(row))
    shown = [f"{case} ({scheme}) {' / '.join(rates)}" for (case, scheme), rates in at.items()]
    return f"Limits, GOP/s and GB/s, one / two threads: {', '.join(shown)}." if shown else ""


def goal_line(goal: goals.Goal, aims: str, found: Result) -> list[str]:
    missed, cells = False, {}
    for threads in (1, 2):
        aim = goal.aims[aims].get(threads)
        rows = [row for row in found["rows"] if row["threads"] == threads]
        figures = goal.figures(rows, found) if aim else {}
        told = not all(map(math.isnan, figures.values()))
        cells[threads] = goal_cell(goal, aim, figures) if told else ("not measured" if aim else "")
        missed |= "**" in cells[threads]
    short = part_link(goals.PARTS[goal.part][aims]) if missed else ""
    return [goal.work, goal.measure, goal_aim(goal, goal.aims[aims]), cells[1], cells[2], short]


def goal_aim(goal: goals.Goal, aims: goals.Aims) -> str:
    """One for all threads where they are alike."""
    shown = list(dict.fromkeys(" / ".join(map(goal.show, aim)) for aim in aims.values()))
    return ("<= " if goal.at_most else ">= ") + " / ".join(shown) + goal.unit


def goal_cell(goal: goals.Goal, aim: Sequence[float], figures: goals.Figures) -> str:
    """What falls short is bold."""

    def shown(value: float, least: float) -> str:
        if math.isnan(value):
            return "-"
        return goal.show(value) if goal.meets(value, least) else f"**{goal.show(value)}**"

    if len(aim) > 1:
        return " / ".join(shown(value, least) for value, least in zip(figures.values(), aim, strict=False)) + goal.unit
    place, worst = min(figures.items(), key=lambda item: -item[1] if goal.at_most else item[1])
    best = min(figures.values()) if goal.at_most else max(figures.values())
    met = sum(goal.meets(value, aim[0]) for value in figures.values())
    text = shown(worst, aim[0])
    if goal.show(best) != goal.show(worst):
        text += f" to {goal.show(best)}"
    return text + goal.unit + (f"; {met} of {len(figures)}, least {place}" if met < len(figures) > 1 else "")


def part_link(name: str) -> str:
    """A link to a page of docs/performance/, by its title."""
    title = (PARTS / f"{name}.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    return f"[{title}](performance/{name}.md)"


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
