"""Small tables for people: HTML for notebooks, Markdown for pull requests, and the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_CELL = "padding:2px 10px;text-align:{align};white-space:nowrap"


def html_table(
    headers: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: str | None = None,
    align: Sequence[str] | None = None,
) -> str:
    """An HTML table; every cell is escaped.  align: "left" or "right" of each column (first left, the others right).

    An empty `headers` leaves the head row out.
    """
    body = [list(row) for row in rows]
    width = max([len(headers), *(len(row) for row in body)], default=0)
    aligns = _aligns(align, width)
    lines = ['<table style="border-collapse:collapse;font-size:90%">']
    if caption:
        lines.append(f'<caption style="text-align:left;padding:4px 10px"><b>{escape(caption)}</b></caption>')
    if headers:
        lines.append("<thead>" + _html_row("th", headers, aligns) + "</thead>")
    lines.append("<tbody>")
    lines += [_html_row("td", row, aligns) for row in body]
    lines.append("</tbody></table>")
    return "\n".join(lines)


def _html_row(tag: str, cells: Sequence[object], aligns: Sequence[str]) -> str:
    parts = (
        f'<{tag} style="{_CELL.format(align=align)}">{escape(str(cell))}</{tag}>'
        for cell, align in zip(cells, aligns, strict=False)
    )
    return "<tr>" + "".join(parts) + "</tr>"


def markdown_table(
    headers: Sequence[object], rows: Iterable[Sequence[object]], *, align: Sequence[str] | None = None
) -> str:
    """A GitHub-flavoured Markdown table, its columns padded so that it also reads well as plain text."""
    body = [[_markdown_cell(cell) for cell in row] for row in [headers, *rows]]
    aligns = _aligns(align, len(headers))
    widths = [max(3, *(len(row[i]) for row in body)) for i in range(len(headers))]
    rule = ["-" * (w - 1) + ":" if a == "right" else "-" * w for w, a in zip(widths, aligns, strict=True)]
    lines = [_markdown_row(row, widths, aligns) for row in body]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: object) -> str:
    return str(cell).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _markdown_row(row: Sequence[str], widths: Sequence[int], aligns: Sequence[str]) -> str:
    cells = (c.rjust(w) if a == "right" else c.ljust(w) for c, w, a in zip(row, widths, aligns, strict=True))
    return "| " + " | ".join(cells) + " |"


def _aligns(align: Sequence[str] | None, width: int) -> Sequence[str]:
    return align if align is not None else ["left"] + ["right"] * (width - 1)


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits; "-" for None."""
    if value is None:
        return "-"
    if math.isinf(value) or math.isnan(value):
        return str(value)
    return f"{value:.{digits}g}"


def significant(value: float, digits: int = 3) -> str:
    """The same with zeros kept, so that a column's numbers are of equal precision: "5.80", "12.0", "123"."""
    if not math.isfinite(value):
        return str(value)
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return f"{value:.{max(digits - 1 - exponent, 0)}f}"


def size(nbytes: float) -> str:
    """Bytes in the unit that leaves one to four digits before the point: "812 B", "23.4 MB" (of 10**6 bytes)."""
    if abs(nbytes) < 1000:
        return f"{nbytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        nbytes /= 1000
        if abs(nbytes) < 999.95:
            return f"{nbytes:.1f} {unit}"
    return f"{nbytes / 1000:.1f} TB"


def import_pyplot() -> Any:
    """matplotlib.pyplot; ImportError that names the extra where matplotlib is missing."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install 'qlm[plot]'") from error
    return pyplot
