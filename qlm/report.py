"""What a comparison found, and its views: dictionary, text, terminal, Markdown, notebook, plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from .estimate import Estimate, finite_or_none
from .tables import Table
from .views import import_pyplot, number, significant, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Group

ESTIMATES = (
    "size_ratio", "speedup", "cosine", "agreement", "flips", "accuracy", "accuracy_drop", "kl", "perplexity_ratio",
)  # fmt: skip
TEXT_WIDTH = 80


@dataclass(frozen=True)
class LayerError:
    """How far the weight of one linear is from the reference's: `bits` of a stored element, `sqnr_db` (20 log10 of
    the norm over the error's norm; inf where nothing changed) and `cosine`.  Also read by key: error["bits"]."""

    bits: float
    sqnr_db: float
    cosine: float

    def __getitem__(self, key: str) -> float:
        if key not in ("bits", "sqnr_db", "cosine"):
            raise KeyError(key)
        value: float = getattr(self, key)
        return value

    def to_dict(self) -> dict[str, float | None]:
        return {"bits": self.bits, "sqnr_db": finite_or_none(self.sqnr_db), "cosine": finite_or_none(self.cosine)}


@dataclass(frozen=True, repr=False)
class Report:
    """One candidate against the reference.  Each figure is an Estimate with a 95 % interval, or None where it does not
    apply (no labels known, no classifier).

    size_ratio: bytes of the reference over those of the candidate, floats counted in the checkpoint's own dtype.
    speedup: median over batches of the reference's time over the candidate's, run in turn on equal `threads`.
    cosine: mean over the texts of the cosine between the two embeddings; its `.min` is the least.
    agreement, flips: share of the texts given the same, or another, label.  accuracy: the candidate's.
    accuracy_drop: the reference's accuracy less the candidate's (0.01 is one point).
    kl: mean over the texts of KL(reference || candidate) of the label probabilities, in nats.
    layers: per linear the error of its weight.  milliseconds, reference_milliseconds: median time of a text.
    """

    reference: str
    candidate: str
    texts: int
    threads: int
    reference_nbytes: int
    nbytes: int
    reference_milliseconds: float
    milliseconds: float
    size_ratio: Estimate
    speedup: Estimate
    cosine: Estimate | None
    agreement: Estimate | None
    flips: Estimate | None
    accuracy: Estimate | None
    accuracy_drop: Estimate | None
    kl: Estimate | None
    perplexity_ratio: Estimate | None
    layers: Mapping[str, LayerError]

    def to_dict(self) -> dict[str, Any]:
        """All of it for json.dumps: an Estimate is {value, low, high}, cosine also has min."""
        plain = {
            name: getattr(self, name)
            for name in (
                "reference", "candidate", "texts", "threads", "reference_nbytes", "nbytes", "reference_milliseconds",
                "milliseconds",
            )
        }  # fmt: skip
        estimates = {name: getattr(self, name) for name in ESTIMATES}
        return {
            **plain,
            **{name: None if value is None else value.to_dict() for name, value in estimates.items()},
            "layers": {name: layer.to_dict() for name, layer in self.layers.items()},
        }

    def to_markdown(self) -> str:
        """A table of the figures and one of each layer's weight error, as Markdown."""
        return "\n".join(table.to_markdown() for table in self._tables())

    def to_text(self, width: int = TEXT_WIDTH) -> str:
        """The same as plain text, `width` columns at most."""
        return "\n\n".join(table.to_text(width) for table in self._tables())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Bars of each layer's SQNR, on matplotlib axes; ImportError without matplotlib (extra `plot`)."""
        return plot_layers({self.candidate: self}, ax)

    def _tables(self) -> list[Table]:
        rows = [[row.label, *row.cells(self)] for row in FIGURES if row.applies([self])]
        layers = [
            [name, number(layer.bits), decibels(layer.sqnr_db), f"{layer.cosine:.6f}"]
            for name, layer in self.layers.items()
        ]
        caption = f"{self.candidate} against {self.reference}: {self._setting()}"
        return [
            Table(caption, ["figure", "value", "95 % interval"], rows),
            Table("weights", ["layer", "bits", "SQNR dB", "cosine"], layers),
        ]

    def _setting(self) -> str:
        return f"{counted(self.texts, 'text')}, {counted(self.threads, 'thread')}"

    def _repr_html_(self) -> str:
        figures, layers = self._tables()
        return figures.to_html() + folded(layers)

    def __rich__(self) -> Group:
        return stacked(self._tables())

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        figures = [f"{name}={float(getattr(self, name)):.4g}" for name in ESTIMATES if getattr(self, name) is not None]
        return f"Report({self.candidate!r} against {self.reference!r}: {', '.join(figures)})"


class Comparison(Mapping[str, Report]):
    """Candidates by name, each a Report against the same reference on the same texts; its views have a row for each."""

    def __init__(self, reports: Mapping[str, Report]) -> None:
        if not reports:
            raise ValueError("reports: a comparison needs at least one candidate")
        self._reports = dict(reports)

    def __getitem__(self, name: str) -> Report:
        return self._reports[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reports)

    def __len__(self) -> int:
        return len(self._reports)

    @property
    def threads(self) -> int:
        """Threads that every model ran on."""
        return self._first().threads

    def to_dict(self) -> dict[str, Any]:
        """{name: the report's dictionary}."""
        return {name: report.to_dict() for name, report in self.items()}

    def to_markdown(self) -> str:
        """A row for each candidate, then each layer's weight error, as Markdown."""
        return self._wide_table().to_markdown() + "\n" + self._layer_table().to_markdown()

    def to_text(self, width: int = TEXT_WIDTH) -> str:
        """A row for each candidate and its worst layer, as plain text, `width` columns at most."""
        return "\n\n".join(table.to_text(width) for table in self._narrow_tables())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Each candidate's SQNR by layer, on matplotlib axes; ImportError without matplotlib (extra `plot`)."""
        return plot_layers(self._reports, ax)

    def _first(self) -> Report:
        return next(iter(self.values()))

    def _caption(self) -> str:
        first = self._first()
        return (
            f"against {first.reference} ({size(first.reference_nbytes)}, "
            f"{significant(first.reference_milliseconds)} ms per text): {first._setting()}"
        )

    def _wide_table(self) -> Table:
        """All figures of a candidate in its one row, each with its interval."""
        figures = [figure for figure in FIGURES if figure.applies(list(self.values()))]
        rows = [[name, *(figure.in_line(report) for figure in figures)] for name, report in self.items()]
        return Table(self._caption(), ["candidate", *(figure.label for figure in figures)], rows)

    def _narrow_tables(self) -> list[Table]:
        """The same cut in parts that 80 columns hold, each interval below its value; of the weights only the worst."""
        first = self._first()
        costs = self._part(f"compared with {first.reference}: {first._setting()}", is_cost=True)
        answers = self._part("answers", is_cost=False)
        rows = [[name, *worst_layer(report)] for name, report in self.items()]
        worst = Table("worst weight", ["", "layer", "SQNR dB"], rows, left=2)
        return [table for table in (costs, answers, worst) if len(table.headers) > 1]

    def _part(self, caption: str, *, is_cost: bool) -> Table:
        """Either half of the figures; the reference's own costs come first."""
        figures = [f for f in FIGURES if f.is_cost is is_cost and f.applies(list(self.values()))]
        rows = [[name, *(figure.below(report) for figure in figures)] for name, report in self.items()]
        if is_cost:
            first = self._first()
            own = {"size": size(first.reference_nbytes), "ms per text": significant(first.reference_milliseconds)}
            rows.insert(0, [first.reference, *(own.get(figure.label, "") for figure in figures)])
        return Table(caption, ["", *(figure.short for figure in figures)], rows)

    def _layer_table(self) -> Table:
        names = list(dict.fromkeys(name for report in self.values() for name in report.layers))
        rows = [[name, *(layer_cell(report.layers.get(name)) for report in self.values())] for name in names]
        return Table("weights: bits, SQNR dB, cosine", ["layer", *self], rows)

    def _repr_html_(self) -> str:
        return self._wide_table().to_html() + folded(self._layer_table())

    def __rich__(self) -> Group:
        return stacked(self._narrow_tables())

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return "Comparison({" + ", ".join(f"{name!r}: {report!r}" for name, report in self.items()) + "})"


class Figure(NamedTuple):
    """A line or column of the tables: how one number of a report is called and written."""

    label: str
    short: str
    is_cost: bool
    get: Callable[[Report], float | None]
    write: Callable[[float], str]

    def applies(self, reports: Sequence[Report]) -> bool:
        return any(self.get(report) is not None for report in reports)

    def cells(self, report: Report) -> tuple[str, str]:
        """The value and its interval; the interval is empty where the value is exact."""
        value = self.get(report)
        if value is None:
            return "-", ""
        if not isinstance(value, Estimate) or value.low == value.high:
            return self.write(value), ""
        return self.write(value), f"{self.write(value.low)}..{self.write(value.high)}"

    def in_line(self, report: Report) -> str:
        value, interval = self.cells(report)
        return f"{value} ({interval})" if interval else value

    def below(self, report: Report) -> str:
        return "\n".join(filter(None, self.cells(report)))


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def ratio(value: float) -> str:
    return f"{value:.2f}"


def points(value: float) -> str:
    return f"{100 * value + 0.0:.2f}"


def two_digits(value: float) -> str:
    """Two significant digits, zeros kept: the ends of an interval then look alike."""
    return f"{value:#.2g}"


def decibels(value: float) -> str:
    return f"{value:.2f}"


def least_cosine(report: Report) -> float | None:
    return None if report.cosine is None else report.cosine.min


def worst_layer(report: Report) -> list[str]:
    """The linear whose weight has the least SQNR, and that."""
    if not report.layers:
        return ["-", "-"]
    name, layer = min(report.layers.items(), key=lambda item: item[1].sqnr_db)
    return [name, decibels(layer.sqnr_db)]


FIGURES = (
    Figure("size", "size", True, lambda report: report.nbytes, size),
    Figure("size ratio", "ratio", True, lambda report: report.size_ratio, ratio),
    Figure("ms per text", "ms/text", True, lambda report: report.milliseconds, significant),
    Figure("speed-up", "speed-up", True, lambda report: report.speedup, ratio),
    Figure("cosine", "cosine", True, lambda report: report.cosine, lambda value: f"{value:.5f}"),
    Figure("least cosine", "least", True, least_cosine, lambda value: f"{value:.5f}"),
    Figure("agreement, %", "agree %", False, lambda report: report.agreement, percent),
    Figure("flips, %", "flips %", False, lambda report: report.flips, percent),
    Figure("accuracy, %", "accuracy %", False, lambda report: report.accuracy, percent),
    Figure("accuracy drop, points", "drop", False, lambda report: report.accuracy_drop, points),
    Figure("KL divergence", "KL", False, lambda report: report.kl, two_digits),
    Figure("perplexity ratio", "perplexity", False, lambda report: report.perplexity_ratio, number),
)


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def layer_cell(layer: LayerError | None) -> str:
    return "-" if layer is None else f"{number(layer.bits)}, {decibels(layer.sqnr_db)}, {layer.cosine:.6f}"


def folded(table: Table) -> str:
    """A table that a notebook shows on a click."""
    return f"<details><summary>{escape(table.caption)}</summary>{table.to_html()}</details>"


def stacked(tables: Sequence[Table]) -> Group:
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    for table in tables:
        parts += [Text(table.caption, style="bold"), table.to_rich(), Text("")]
    return Group(*parts[:-1])


def plot_layers(reports: Mapping[str, Report], ax: Axes | None) -> Axes:
    pyplot = import_pyplot()
    names = list(dict.fromkeys(name for report in reports.values() for name in report.layers))
    if ax is None:
        _, ax = pyplot.subplots(figsize=(8, 1 + 0.25 * len(names)), layout="constrained")
    thickness = 0.8 / len(reports)
    for index, (label, report) in enumerate(reports.items()):
        shown = [row for row, name in enumerate(names) if name in report.layers]
        ax.barh(
            [row + index * thickness for row in shown],
            [finite_or_none(report.layers[names[row]].sqnr_db) or 0.0 for row in shown],
            thickness,
            label=label,
        )
    ax.set_yticks([row + 0.4 - thickness / 2 for row in range(len(names))], names, fontsize="small")
    ax.invert_yaxis()
    ax.set_xlabel("SQNR of the weight, dB (higher is better; no bar: unchanged)")
    ax.legend()
    return ax
