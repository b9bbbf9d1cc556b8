"""Tables of a result, in 80 columns: one for each section and number of threads, a line for each contender."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..tables import Table
from ..views import significant
from .cases import Row
from .limits import SECTION as LIMITS
from .models import SECTION as MODEL

LEGEND = {
    "±": "±: half the quartiles' distance.",
    "share": "share: of this machine's limit, reached by plain loops in the same run (`of`; a model's linears: int8).",
    "net": "net: the share without the time of a call on next to no data.",
    "cosine": "cosine: of the mean of the hidden states with the float model's.",
}


class Column(NamedTuple):
    header: str
    cell: Callable[[Row], str]


def tables(rows: Iterable[Row]) -> list[Table]:
    """In the order of the rows."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["section"], row.get("model", ""), row["threads"]), []).append(row)
    return [_table(section, model, threads, group) for (section, model, threads), group in groups.items()]


def legend(shown: Sequence[Table]) -> str:
    """What the headers mean that the tables have."""
    headers = {header for table in shown for header in table.headers}
    return " ".join(text for header, text in LEGEND.items() if header in headers)


def _table(section: str, model: str, threads: int, rows: list[Row]) -> Table:
    columns = [column for column in _columns(section) if any(column.cell(row) for row in rows)]
    title = f"{section} {model}".strip() + f", {threads} thread{'s' if threads > 1 else ''}"
    return Table("", [title, *(column.header for column in columns)], _lines(rows, columns))


def _columns(section: str) -> list[Column]:
    time = [Column("median", lambda row: duration(row.get("median"))), Column("±", spread)]
    if section == LIMITS:
        return [*time, *RATES]
    if section == MODEL:
        return [*time, Column("texts/s", texts_per_second), Column("vs float", versus), *SHARES, COSINE]
    return [*time, *RATES, *SHARES, Column("net", lambda row: percent(row.get("net_share"))), Column("of", limit_word)]


def _lines(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """A case with one contender is one line; with several, its name and below it a line for each."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(case_word(row), []).append(row)
    lines: list[list[str]] = []
    alone = all(len(group) == 1 for group in cases.values())
    for name, group in cases.items():
        if not alone:
            lines.append([name, *[""] * len(columns)])
        for row in group:
            first = name if alone else "  " + row["contender"]
            lines.append([first, *(column.cell(row) for column in columns)])
            if row.get("note"):
                lines[-1][1] = row["note"]
    return lines


def case_word(row: Row) -> str:
    """ "128 x 1536 x 384": rows, outputs and inputs of a linear."""
    word = f"{row['m']} x {row['case']}" if "m" in row else row["case"]
    return f"{word}, {row['scheme']}" if "scheme" in row else str(word)


# ---- cells -------------------------------------------------------------------------------------------------------


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{significant(seconds * factor)} {unit}"
    return f"{significant(seconds)} s"


def rate(value: float | None) -> str:
    return "" if value is None else significant(value)


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}%"


def spread(row: Row) -> str:
    """Half the distance of the quartiles."""
    if "median" not in row or not row["median"]:
        return ""
    return percent((row["high"] - row["low"]) / 2 / row["median"])


def limit_word(row: Row) -> str:
    """ "int8" of "int8 (vpdpbusd zmm)"; "stream" for a loop with streaming stores."""
    name = str(row.get("limit") or "").partition(" (")[0]
    return "stream" if name.endswith(" stream") else name


def texts_per_second(row: Row) -> str:
    return "" if "median" not in row or "batch" not in row else significant(row["batch"] / row["median"])


def versus(row: Row) -> str:
    value = row.get("speedup")
    return "" if value is None else f"{value:.2f}x"


def cosine(row: Row) -> str:
    value = row.get("cosine")
    return "" if value is None else f"{value:.4f}"


RATES = [
    Column("GOP/s", lambda row: rate(row.get("gops"))),
    Column("GB/s", lambda row: rate(row.get("gbs"))),
]
SHARES = [Column("share", lambda row: percent(row.get("share")))]
COSINE = Column("cosine", cosine)
