"""Shares of a peak: one for all cases that have it."""

from __future__ import annotations

from collections.abc import Sequence

from .cases import Row

SHARES = ("share", "best_share", "net_share", "limit_seconds")


def of_one_peak(rows: Sequence[Row]) -> list[Row]:
    """The rows with all shares of a peak taken of its loop's fastest median among the cases: on two threads the loop of
    one case may have had one core, as another contender's thread still waited on the other, which shows as shares of up
    to 182 %."""
    fastest: dict[tuple[str, int], float] = {}
    for row in filter(_has_peak, rows):
        fastest[_peak_of(row)] = max(fastest.get(_peak_of(row), 0.0), row["gops"] / row["share"])
    return [_against(row, fastest[_peak_of(row)]) if _has_peak(row) else row for row in rows]


def _has_peak(row: Row) -> bool:
    return bool(row.get("gops") and row.get("share") and row.get("limit")) and not row["limit"].startswith("read")


def _peak_of(row: Row) -> tuple[str, int]:
    """What is multiplied, whatever the instruction, and the threads."""
    return row["limit"].split(" (")[0], row["threads"]


def _against(row: Row, peak: float) -> Row:
    slower = row["gops"] / row["share"] / peak
    return {**row, **{key: row[key] * slower for key in SHARES if row.get(key)}}
