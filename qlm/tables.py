"""A small table that shows itself as text, in a terminal, as Markdown and as HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .views import html_table, markdown_table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

GAP = "  "


@dataclass(frozen=True)
class Table:
    """Rows of cells below headers; the first `left` columns are set left, the others right.  A cell may hold several
    lines: text shows them below each other, HTML and Markdown in one line."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def to_text(self, width: int | None = None) -> str:
        """Plain text, `width` columns at most.  The first column gives way: folded beside cells of several lines,
        else with its middle cut out."""
        rows = [[cell.split("\n") for cell in row] for row in (self.headers, *self.rows)]
        widths = [max(len(line) for cell in column for line in cell) for column in zip(*rows, strict=True)]
        if width is not None:
            others = sum(widths[1:]) + len(GAP) * (len(widths) - 1)
            widths[0] = min(widths[0], max(width - others, 8))
        lines = [wrapped(self.caption, width)] if self.caption else []
        for row in rows:
            height = max(map(len, row))
            row[0] = fold(row[0][0], widths[0], height)
            columns = [cell + [""] * (height - len(cell)) for cell in row]
            lines += [self._line(parts, widths) for parts in zip(*columns, strict=True)]
        return "\n".join(lines)

    def _line(self, parts: Sequence[str], widths: Sequence[int]) -> str:
        cells = [
            part.ljust(width) if index < self.left else part.rjust(width)
            for index, (part, width) in enumerate(zip(parts, widths, strict=True))
        ]
        return GAP.join(cells).rstrip()

    def to_markdown(self) -> str:
        caption = f"**{self.caption}**\n\n" if self.caption else ""
        return caption + markdown_table(self._flat(self.headers), map(self._flat, self.rows), align=self._aligns())

    def to_html(self) -> str:
        rows = [self._flat(row) for row in self.rows]
        return html_table(self._flat(self.headers), rows, caption=self.caption or None, align=self._aligns())

    def to_rich(self) -> RichTable:
        """For rich's console, without the caption; ImportError where rich is missing."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False)
        for index, header in enumerate(self.headers):
            is_left = index < self.left
            table.add_column(
                Text(header), justify="left" if is_left else "right", header_style="cyan", no_wrap=not is_left,
                overflow="fold",
            )  # fmt: skip
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def _flat(self, row: Sequence[str]) -> list[str]:
        return [" ".join(cell.split("\n")) for cell in row]

    def _aligns(self) -> list[str]:
        return ["left" if index < self.left else "right" for index in range(len(self.headers))]


def wrapped(text: str, width: int | None) -> str:
    """The text broken at spaces into lines of at most `width`."""
    return "\n".join(textwrap.wrap(text, width or len(text) or 1))


def fold(text: str, width: int, lines: int) -> list[str]:
    """The text in at most `lines` lines of `width`, broken at spaces and hyphens; what is longer loses its middle."""
    if lines > 1 and len(text) > width:
        parts = textwrap.wrap(text, width)
        if len(parts) <= lines:
            return parts
    return [shorten(text, width)]


def shorten(text: str, width: int) -> str:
    """The text, its middle replaced by an ellipsis where it is longer than `width`."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]
