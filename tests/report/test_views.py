"""Every figure of a report stands in each of its views."""

import json
import math
import re
import subprocess
import sys

import pytest

from qlm.estimate import Estimate
from qlm.report import ESTIMATES, Comparison, LayerError, Report
from qlm.views import significant


def make_report(candidate="dynamic-int8", *, answers=True, **changes):
    figures = {
        "reference": "minilm",
        "candidate": candidate,
        "texts": 200,
        "threads": 2,
        "reference_nbytes": 90_900_000,
        "nbytes": 23_100_000,
        "reference_milliseconds": 2.31,
        "milliseconds": 0.973,
        "size_ratio": Estimate(90.9 / 23.1),
        "speedup": Estimate(2.374, 2.311, 2.442),
        "cosine": Estimate(0.99862, 0.99851, 0.99873, min=0.99671),
        "agreement": Estimate(0.981, 0.962, 0.991) if answers else None,
        "flips": Estimate(0.019, 0.009, 0.038) if answers else None,
        "accuracy": Estimate(0.873, 0.852, 0.894) if answers else None,
        "accuracy_drop": Estimate(0.0021, -0.0034, 0.0076) if answers else None,
        "kl": Estimate(0.0014, 0.0011, 0.0018) if answers else None,
        "perplexity_ratio": None,
        "layers": {
            "encoder.layer.0.output.dense": LayerError(8, 41.27, 0.999963),
            "pooler.dense": LayerError(32, math.inf, 1.0),
        },
    }
    return Report(**{**figures, **changes})


COSTS = ["23.1 MB", "3.94", "0.973", "2.37", "2.31..2.44", "0.99862", "0.99851..0.99873", "0.99671"]
ANSWERS = [
    "98.1",
    "96.2..99.1",
    "1.9",
    "0.9..3.8",
    "87.3",
    "85.2..89.4",
    "0.21",
    "-0.34..0.76",
    "0.0014",
    "0.0011..0.0018",
]
LAYERS = ["encoder.layer.0.output.dense", "pooler.dense", "41.27", "0.999963", "inf"]


def views(shown):
    return {"markdown": shown.to_markdown(), "html": shown._repr_html_(), "text": shown.to_text(), "str": str(shown)}


@pytest.mark.parametrize("view", ["markdown", "html", "text", "str"])
def test_every_view_of_a_report_has_every_figure(view):
    text = views(make_report())[view]
    for figure in COSTS + ANSWERS + LAYERS + ["minilm", "200 texts", "2 threads"]:
        assert figure in text, (figure, text)


@pytest.mark.parametrize("view", ["markdown", "html", "text", "str"])
def test_every_view_of_a_comparison_has_every_figure_once_per_row(view):
    both = Comparison(
        {"dynamic": make_report(), "static": make_report("static-int8", kl=Estimate(0.0777, 0.0771, 0.0779))}
    )
    text = views(both)[view]
    for figure in COSTS + ANSWERS[:-2]:
        assert text.count(figure) >= 2, (figure, text)
    assert "0.0014" in text
    assert "0.078" in text
    assert "0.0011..0.0018" in text
    assert "dynamic" in text
    assert "static" in text
    assert "90.9 MB" in text
    if view in ("markdown", "html"):
        assert all(figure in text for figure in LAYERS)


@pytest.mark.parametrize(
    "shown", [make_report(), Comparison({"dynamic-interval-int8": make_report(), "b": make_report()})]
)
def test_text_fits_80_columns(shown):
    assert max(map(len, str(shown).splitlines())) <= 80
    assert max(map(len, make_report("x" * 200).to_text(80).splitlines()[1:])) <= 80


def test_figures_that_do_not_apply_are_left_out():
    report = make_report(answers=False)
    for text in views(report).values():
        assert "agreement" not in text
        assert "KL" not in text
        assert "perplexity" not in text
    assert report.to_dict()["kl"] is None
    mixed = Comparison({"with": make_report(), "without": report})
    assert mixed.to_markdown().count(" - ") >= 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.8, "5.80"),
        (12.0, "12.0"),
        (123.4, "123"),
        (1234.4, "1234"),
        (0.0123, "0.0123"),
        (9.999, "10.0"),
        (99.96, "100"),
        (0.0, "0.00"),
        (math.inf, "inf"),
    ],
)
def test_milliseconds_keep_their_zeros(value, text):
    assert significant(value) == text
    assert f" {text} " in make_report(milliseconds=value).to_markdown()
    assert text in Comparison({"a": make_report(milliseconds=value)}).to_text()


def test_report_dictionary_is_strict_json():
    report = make_report()
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    for name in ESTIMATES:
        figure = getattr(report, name)
        assert read[name] == (None if figure is None else figure.to_dict())
    assert read["cosine"]["min"] == 0.99671
    assert read["layers"]["pooler.dense"] == {"bits": 32, "sqnr_db": None, "cosine": 1.0}
    assert (read["threads"], read["texts"], read["nbytes"], read["milliseconds"]) == (2, 200, 23_100_000, 0.973)


def test_comparison_is_a_mapping():
    first, second = make_report("a"), make_report("b")
    both = Comparison({"a": first, "b": second})
    assert list(both) == ["a", "b"]
    assert len(both) == 2
    assert both["b"] is second
    assert "c" not in both
    assert dict(both.items()) == {"a": first, "b": second}
    assert both.to_dict() == {"a": first.to_dict(), "b": second.to_dict()}
    assert both.threads == 2
    with pytest.raises(KeyError):
        both["c"]
    with pytest.raises(ValueError, match="reports"):
        Comparison({})


def test_layer_errors_read_by_name_and_key():
    layer = make_report().layers["encoder.layer.0.output.dense"]
    assert layer.bits == layer["bits"] == 8
    assert layer.sqnr_db == layer["sqnr_db"]
    assert layer.cosine == layer["cosine"]
    with pytest.raises(KeyError):
        layer["to_dict"]


def test_markup_in_names_is_escaped():
    html = make_report("<b>&|").to_markdown() + make_report("<script>")._repr_html_()
    assert "<script>" not in html


def test_repr_is_one_line():
    assert repr(make_report()).startswith("Report('dynamic-int8' against 'minilm': size_ratio=3.935, speedup=2.374")
    assert "\n" not in repr(Comparison({"a": make_report()}))


@pytest.mark.parametrize(
    "shown", [make_report(), Comparison({"a": make_report(), "dynamic-interval-int8": make_report()})]
)
def test_rich_shows_every_figure_in_80_columns(shown):
    rich = pytest.importorskip("rich.console", reason="rich is not installed")
    console = rich.Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(shown)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for figure in COSTS + ANSWERS:
        assert figure in re.sub(r"\s+", " ", text), figure


def test_plot_draws_a_bar_for_each_layer():
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = make_report().plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(make_report().layers)
    assert [bar.get_width() for bar in axes.patches] == [41.27, 0.0]
    assert Comparison({"a": make_report(), "b": make_report()}).plot(axes) is axes
    assert len(axes.patches) == 6
    pyplot.close("all")


def test_plot_without_matplotlib_names_the_extra():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from qlm.report import plot_layers\n"
        "try: plot_layers({}, None)\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "qlm[plot]" in done.stdout
