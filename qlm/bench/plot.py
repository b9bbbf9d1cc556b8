"""A result as a picture: the share of the machine's limit that each piece of work reaches."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..formats.atomic import write_file
from ..views import import_pyplot
from .bounds import binary_size
from .cases import Row
from .limits import SECTION as LIMITS
from .models import SECTION as MODEL
from .results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
PANEL = (4.4, 3.4)  # inches, the legend below it included
LEAST_WIDTH = 6.4  # of a picture, for its title
LEGEND_COLUMNS = 4
STYLES = ("-", "--", ":")  # one for each ten colours


def save_plot(found: Result, path: Path) -> None:
    """Writes a file of the type that the name's ending tells.  ImportError without matplotlib (extra `plot`);
    ValueError: an ending that matplotlib does not know, or nothing to show."""
    pyplot = import_pyplot()
    panels = _panels(found["rows"])
    if not panels:
        raise ValueError("nothing to plot: no row has a share of a limit")
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    size = (max(columns * PANEL[0], LEAST_WIDTH), lines * PANEL[1] + 0.4)
    figure, axes = pyplot.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    machine = found["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['isa']}\nshare of this machine's limit", fontsize="medium")
    for ax, (title, rows) in zip(axes.flat, panels.items(), strict=False):
        _draw(ax, title, rows)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    picture = BytesIO()  # whole before a file is begun: a full disk leaves none
    figure.savefig(picture, dpi=120, format=path.suffix.removeprefix(".").lower())
    pyplot.close(figure)
    with write_file(path) as writer:
        writer.write(picture.getbuffer())


def _panels(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows with a share, by what stands above them."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("share") is None or row["section"] == LIMITS:
            continue
        threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
        section = "arrays" if "nbytes" in row else row["section"]
        panels.setdefault(f"{section}, {threads}", []).append(row)
    return panels


def _draw(ax: Axes, title: str, rows: Sequence[Row]) -> None:
    ax.set_title(title, fontsize="small")
    ax.axhline(1, color="0.6", linewidth=0.8)
    ax.tick_params(labelsize="x-small")
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    if rows[0]["section"] == MODEL:
        _bars(ax, rows)
    else:
        _lines(ax, rows, "m" if "m" in rows[0] else "nbytes")
    ax.set_ylim(0, max(1.1, ax.get_ylim()[1]))
    ax.legend(fontsize=5, ncols=LEGEND_COLUMNS, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _lines(ax: Axes, rows: Sequence[Row], key: str) -> None:
    """Share over rows or bytes: a line for each shape or operation, and for each contender beside qlm in grey."""
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        label = row["case"] if key == "m" else row["section"]
        series.setdefault((row["contender"], label), []).append((row[key], row.get("net_share") or row["share"]))
    first = rows[0]["contender"]
    own = [label for name, label in series if name == first]
    for (name, label), points in series.items():
        x, y = zip(*sorted(points), strict=True)
        if name == first:
            style = STYLES[own.index(label) // 10 % len(STYLES)]
            ax.plot(x, y, style, marker="o", markersize=3, linewidth=1, label=label)
        else:
            ax.plot(x, y, marker=".", markersize=2, linewidth=0.5, color="0.7", zorder=1)
    if len(own) < len(series):
        ax.plot([], [], linewidth=0.5, color="0.7", label="others")
    places = sorted({row[key] for row in rows})
    ax.set_xscale("log", base=2)
    ax.set_xticks(places, [str(place) if key == "m" else binary_size(place) for place in places])
    ax.set_xlabel("rows" if key == "m" else "float32", fontsize="x-small")


def _bars(ax: Axes, rows: Sequence[Row]) -> None:
    """A group for each size, a bar for each contender."""
    sizes = list(dict.fromkeys(row["case"] for row in rows))
    names = list(dict.fromkeys(row["contender"] for row in rows))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        shares = {row["case"]: row["share"] for row in rows if row["contender"] == name}
        at = [sizes.index(size) + index * width for size in shares]
        ax.bar(at, list(shares.values()), width, label=name)
    ax.set_xticks([place + 0.4 - width / 2 for place in range(len(sizes))], sizes)
