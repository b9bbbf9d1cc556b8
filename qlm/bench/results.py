"""A result: the rows of a run and what they were measured on, as a versioned JSON file (benchmarks/README.md)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FormatError
from ..formats import strictjson
from ..formats.atomic import write_file
from .cases import Row
from .machine import machine, software
from .shares import of_one_peak

FORMAT, VERSION = "qlm-bench", 1
Result = dict[str, Any]

# What tells the rows of a result apart.
KEY = ("section", "model", "case", "m", "scheme", "threads", "contender")


def result(rows: Sequence[Row], *, seconds: float, versions: Mapping[str, str] | None = None) -> Result:
    """seconds: of each contender.  versions: those of other libraries."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "machine": machine(),
        "software": {**software(), **(versions or {})},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": seconds,
        "rows": [_rounded(row) for row in of_one_peak(rows)],
    }


def _rounded(value: Any) -> Any:
    """Floats with the six digits that a measurement has at most."""
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def save(path: Path, found: Result) -> None:
    """Whole or not at all; a row a line."""
    rows = ",\n".join(json.dumps(row, allow_nan=False) for row in found["rows"])
    rest = json.dumps({**found, "rows": []}, indent=1, allow_nan=False)
    with write_file(path) as writer:
        writer.write((rest.removesuffix("[]\n}") + f"[\n{rows}\n]}}\n").encode())


def load(path: Path) -> Result:
    """FormatError: not a result, one of another version, or without what every reader needs."""
    found = strictjson.parse(path.read_bytes(), file=path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise FormatError(f"not a result of qlm bench: format is not {FORMAT!r}", file=path)
    if found.get("version") != VERSION:
        raise FormatError(f"version {found.get('version')!r} is not {VERSION}", file=path, key="version")
    machine = found.get("machine")
    if not isinstance(machine, dict) or not all(isinstance(machine.get(word), str) for word in ("cpu", "isa")):
        raise FormatError("machine must be an object that names cpu and isa", file=path, key="machine")
    if not isinstance(found.get("software"), dict):
        raise FormatError("software must be an object", file=path, key="software")
    rows = found.get("rows")
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise FormatError("rows must be objects with a section, case, contender and threads", file=path, key="rows")
    return found


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or type(row.get("threads")) is not int:
        return False
    return all(isinstance(row.get(word), str) for word in ("section", "case", "contender"))


def merged(old: Result, new: Result) -> Result:
    """The new result, with the old one's rows that it did not measure again."""
    again = {row_key(row) for row in new["rows"]}
    return {**new, "rows": [*(row for row in old["rows"] if row_key(row) not in again), *new["rows"]]}


def middle(runs: Sequence[Result]) -> Result:
    """Of rows that several runs have, the one whose median is in the middle; of two the slower one.  "runs" in the row
    says how many there were.  Software is that of all, all else the last run's."""
    by_key: dict[tuple[Any, ...], list[Row]] = {}
    for row in (row for run in runs for row in run["rows"]):
        by_key.setdefault(row_key(row), []).append(row)
    software = {name: version for run in runs for name, version in run["software"].items()}
    return {**runs[-1], "software": software, "rows": [_middle_row(rows) for rows in by_key.values()]}


def _middle_row(rows: Sequence[Row]) -> Row:
    timed = sorted((row for row in rows if row.get("median")), key=lambda row: row["median"])
    if len(timed) < 2:
        return (timed or rows)[-1]
    return {**timed[len(timed) // 2], "runs": len(timed)}


def row_key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in KEY)
