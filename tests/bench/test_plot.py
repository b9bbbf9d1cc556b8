"""A result as a picture: every word lies inside it, and no legend over what it explains."""

import pytest

from qlm.bench import cases, kernels, models, results

plot = pytest.importorskip("qlm.bench.plot", reason="matplotlib is not installed")
pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
LONG_CPU = "A Processor With Quite A Long Name (family 25, model 17)"


def of_linear(shapes, contenders=("qlm",), section="linear int8"):
    return [
        {"section": section, "case": f"{n} x 384", "contender": name, "threads": 1, "m": m, "share": 0.5}
        for n in range(shapes)
        for name in contenders
        for m in kernels.ROWS
    ]


def of_model():
    row = {"section": models.SECTION, "contender": cases.OWN, "threads": 2}
    return [{**row, "case": case, "share": share} for case, share in (("1 x 16", 0.3), ("1 x 128", 1.4))]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws rows and gives the figure."""
    kept = []
    monkeypatch.setattr(plot, "import_pyplot", lambda: pyplot)
    monkeypatch.setattr(pyplot, "close", kept.append)

    def draw(rows):
        found = results.result(rows, seconds=1.0)
        found["machine"]["cpu"] = LONG_CPU
        plot.save_plot(found, tmp_path / "out.png")
        return kept[-1]

    yield draw
    monkeypatch.undo()
    for figure in kept:
        pyplot.close(figure)


@pytest.mark.parametrize(
    "rows", [of_model(), of_linear(2), of_linear(21, ("qlm", "peer")), of_linear(3) + of_linear(1, section="x")]
)
def test_words_have_room(drawn, rows):
    figure = drawn(rows)
    inside = figure.bbox.padded(1)
    words = [figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)]
    assert all(words)
    for text in (figure._suptitle, *(ax.get_legend() for ax in figure.axes)):
        box = text.get_window_extent()
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1
    for ax in figure.axes:
        assert ax.get_legend().get_window_extent().y1 < ax.bbox.y0


def test_a_picture_is_whole_or_not_there(drawn, monkeypatch, tmp_path):
    def full(writer, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qlm.formats.atomic.Writer.write", full)
    with pytest.raises(OSError, match="No space"):
        drawn(of_model())
    assert not list(tmp_path.iterdir())


def test_shares_above_the_limit_are_seen(drawn):
    (ax,) = drawn(of_model()).axes
    assert ax.get_ylim()[1] > 1.4


def test_every_line_of_qlm_can_be_told_apart(drawn):
    (ax,) = drawn(of_linear(21, ("qlm", "peer"))).axes
    own = [line for line in ax.lines if line.get_label().endswith("x 384")]
    assert len({(line.get_color(), line.get_linestyle()) for line in own}) == len(own) == 21
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "others"
