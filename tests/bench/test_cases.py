"""The parts of qlm.bench: shapes, limits, rows, results and tables."""

import json
from collections import Counter

import numpy as np
import pytest

import qlm
from qlm import _core
from qlm.bench import bounds, cases, kernels, limits, machine, models, results, shapes, views
from qlm.bench.bounds import Bound, aligned, least_seconds
from qlm.timing import Timing


def timing(seconds):
    return Timing(seconds, seconds, seconds, seconds, samples=5, calls=1, cpu=seconds, foreign=0.0)


@pytest.fixture
def instant(monkeypatch):
    """Each call runs once and has taken a millisecond; calls that ran, by name."""
    ran = Counter()

    def interleave(calls, **_):
        for name, call in calls.items():
            call()
            ran[name] += 1
        return {name: timing(1e-3) for name in calls}

    monkeypatch.setattr(cases, "interleave", interleave)
    return ran


# ---- shapes and cases --------------------------------------------------------------------------------------------


def test_shapes_of_each_model():
    for model in shapes.MODELS:
        assert len(shapes.shapes_of(model)) >= 4
    assert shapes.Shape(1536, 384) in shapes.shapes_of("minilm")
    assert shapes.shapes()[shapes.Shape(2304, 768)] == ["bert-base", "gpt2"]
    assert str(shapes.Shape(3, 4)) == "3 x 4"


def test_quick_cases_all_work(instant):
    rows = [row for case in kernels.quick_cases() for row in cases.measure(case, seconds=1.0)]
    assert len(rows) == 1 + 2 * 2 * len(kernels.KINDS) + 2 * len(kernels.ARRAY_WORKS)
    assert len({results.row_key(row) for row in rows}) == len(rows)
    for row in rows:
        if row["section"].startswith("linear"):
            assert row["gops"] == pytest.approx(2e-6 * row["m"] * row["n"] * row["k"])
        assert row["best_share"] == row["share"]
        if "nbytes" in row:
            assert row["gbs"] == pytest.approx(1e-6 * row["nbytes"])


def test_full_cases_cover_shapes_rows_and_kinds(monkeypatch):
    monkeypatch.setattr(
        kernels, "linear_cases", lambda shape, rows, kinds: [(shape, m, k) for m in rows for k in kinds]
    )
    monkeypatch.setattr(kernels, "array_cases", lambda size: [size])
    found = list(kernels.cases())[1:]
    linears = len(shapes.shapes()) * len(kernels.ROWS) * len(kernels.KINDS)
    assert len([one for one in found if isinstance(one, tuple)]) == linears
    assert found[-4:] == list(kernels.SIZES)


def test_contenders_do_the_same_work(rng):
    """What is timed gives what qlm.linear gives."""
    weight = rng.standard_normal((48, 64)).astype(np.float32)
    for kind in kernels.KINDS:
        case = kernels.linear_case(kind, weight, kind.pack(weight), None, 5)
        found = case.contenders[0].call()
        np.testing.assert_allclose(found, case.inputs["x"] @ weight.T, atol=8 if "int4" in kind.name else 1)


def test_bits_of_a_kind():
    assert [kind.bits for kind in kernels.KINDS] == [8, 4.5, 4.125, 32, 8]


def test_limit_cases(instant):
    rows = [row for case in limits.limit_cases(quick=True) for row in cases.measure(case, seconds=1.0)]
    assert {row["what"] for row in rows} == {what for what, _, _ in _core.peaks()}
    for row in rows:
        assert (row["gops"] is None) == (row["nbytes"] > 0) == (row["gbs"] is not None)
    assert len({results.row_key(row) for row in rows}) == len(rows)


def test_model_cases(instant, tmp_path):
    from models.checkpoints import tiny_bert

    model = qlm.load(tiny_bert(tmp_path / "model"))
    encoders = models.own_encoders(model, {"dynamic-int8": qlm.quantize_model(model, "dynamic-int8")})
    sizes = [models.Size(2, 3)]
    found = list(models.model_cases(model, encoders, sizes, "tiny", [cases.absent("peer")]))
    rows = [row for case in found for row in cases.measure(case, seconds=1.0)]
    models.compare_with(rows, models.FLOAT)
    assert [row["contender"] for row in rows] == ["qlm float", "qlm dynamic-int8", "peer"]
    assert [row.get("speedup") for row in rows] == [1.0, 1.0, None]
    assert rows[2]["note"] == "not installed"
    expected = sum(np.prod(model.layers[name].shape) for name in model.layers if ".layer." in name)
    assert rows[0]["gops"] == pytest.approx(2e-6 * expected * 6)
    with pytest.raises(ValueError, match="more than the model takes"):
        models.random_ids(model, models.Size(1, models.longest(model) + 1))


# ---- limits of a row ---------------------------------------------------------------------------------------------


def test_the_slowest_limit_counts_and_the_fastest_of_its_loops(monkeypatch):
    loops = [("int8", "a", 100.0), ("int8", "b", 100.0), ("read", "c", 0.0)]
    monkeypatch.setattr(_core, "peaks", lambda: loops)
    bounds = (Bound(("int8",), 6e8), Bound(("read",), 1e6, 1 << 20))
    by_name = {loop.name: loop for bound in bounds for loop in bound.loops()}
    seconds = {"int8 (a)": 2.0, "int8 (b)": 1.0, "read (c)": 1.0}
    timings = {name: seconds[name] * loop.work * 1e-9 for name, loop in by_name.items()}
    assert least_seconds(bounds, timings) == ("int8 (b)", pytest.approx(0.6))
    assert least_seconds((bounds[1],), timings) == ("read (c)", pytest.approx(1e-3))
    assert least_seconds((), timings) is None


def test_four_bits_fall_back_to_the_limit_of_eight(monkeypatch):
    monkeypatch.setattr(_core, "peaks", lambda: [("int8", "dot", 8.0)])
    assert [loop.what for loop in Bound(("int4",), 1.0).loops()] == ["int8"]
    monkeypatch.setattr(_core, "peaks", lambda: [("int8", "dot", 8.0), ("int4", "nibbles", 8.0)])
    assert [loop.what for loop in Bound(("int4",), 1.0).loops()] == ["int4"]


def test_net_of_a_call(monkeypatch):
    times = {"call qlm": timing(5e-3), "short qlm": timing(1e-3)}
    monkeypatch.setattr(cases, "interleave", lambda calls, **_: {name: times[name] for name in calls})
    case = cases.Case("s", "c", 1e9, None, (), [cases.Contender("qlm", list, list)])
    (row,) = cases.measure(case, seconds=1.0)
    assert row["net"] == pytest.approx(4e-3)
    assert row["gops"] == pytest.approx(200)
    assert row["share"] is row["net_share"] is None


def test_aligned():
    array = aligned(100, np.dtype(np.float32))
    assert array.shape == (100,)
    assert array.ctypes.data % 64 == 0


# ---- results -----------------------------------------------------------------------------------------------------


def a_result(*rows):
    return results.result(rows, seconds=1.0)


def test_a_result_goes_to_a_file_and_back(tmp_path):
    found = a_result({"section": "s", "case": "c", "threads": 1, "contender": "qlm"})
    results.save(tmp_path / "r.json", found)
    assert results.load(tmp_path / "r.json") == found
    assert found["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "format"),
        ("{", "JSON"),
        ('{"format": "qlm-bench", "version": 2}', "version 2"),
        ('{"format": 1}', "format"),
    ],
)
def test_other_files_are_refused(tmp_path, text, said):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(qlm.FormatError, match=said):
        results.load(tmp_path / "r.json")


def test_merging_keeps_what_was_not_measured_again():
    row = {"section": "s", "case": "c", "threads": 1, "contender": "qlm", "median": 1.0}
    other = {**row, "threads": 2}
    newer = {**row, "median": 2.0}
    assert results.merged(a_result(row, other), a_result(newer))["rows"] == [other, newer]


def test_of_several_runs_the_middle_row_counts():
    row = {"section": "s", "case": "c", "threads": 1, "contender": "qlm"}
    absent = {**row, "contender": "peer", "note": "not installed"}
    once = {**row, "threads": 2, "median": 5.0}
    runs = [a_result({**row, "median": median}, absent) for median in (3.0, 9.0, 2.0)]
    assert results.middle([*runs, a_result(once)])["rows"] == [{**row, "median": 3.0, "runs": 3}, absent, once]
    assert results.middle(runs[:2])["rows"][0]["median"] == 9.0
    runs[0]["software"]["peer"] = "1.2"
    assert results.middle(runs)["software"] == {**runs[1]["software"], "peer": "1.2"}


def test_the_machine_is_named():
    found = machine.machine()
    assert found["cpu"]
    assert found["isa"] == qlm.cpu_info()["isa"]
    assert all(size > 1024 for size in found["caches"].values())
    json.dumps(found)


# ---- tables ------------------------------------------------------------------------------------------------------


def test_one_contender_is_one_line_and_several_are_grouped():
    row = {"section": "linear int8", "case": "8 x 4", "m": 2, "threads": 1, "contender": "qlm", "limit": "int8 (x)"}
    row |= {**timing(1.5e-6).to_dict(), "gops": 12.345, "share": 0.5}
    (table,) = views.tables([row])
    assert table.headers == ["linear int8, 1 thread", "median", "±", "GOP/s", "share", "of"]
    assert table.rows == [["2 x 8 x 4", "1.50 us", "0%", "12.3", "50%", "int8"]]
    (table,) = views.tables([row, {**row, "contender": "peer", "note": "not installed", "median": None}])
    assert [line[0] for line in table.rows] == ["2 x 8 x 4", "  qlm", "  peer"]
    assert table.rows[2][1] == "not installed"


def test_tables_are_apart_by_section_and_threads():
    row = {"section": "a", "case": "c", "threads": 1, "contender": "qlm", "median": 1.0, "low": 1.0, "high": 1.0}
    headers = [table.headers[0] for table in views.tables([row, {**row, "threads": 2}, {**row, "section": "b"}])]
    assert headers == ["a, 1 thread", "a, 2 threads", "b, 1 thread"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1.234e-7, "0.123 us"), (9.99e-4, "999 us"), (0.9996, "1.00 s"), (12.0, "12.0 s"), (345.6, "346 s")],
)
def test_durations(seconds, shown):
    assert views.duration(seconds) == shown


def test_loops_over_memory_write_nothing_that_others_read():
    """Codes of floats of codes would shrink to 0, which some CPUs store faster than other values."""
    loops = [loop for what in ("quantize", "dequantize") for loop in Bound((what,), 0.0, 1 << 16).loops()]
    before = bounds._floats.first(1 << 14).copy(), bounds._codes.first(1 << 14).copy()
    for loop in 2 * loops:
        loop.call()
    np.testing.assert_array_equal(bounds._floats.first(1 << 14), before[0])
    np.testing.assert_array_equal(bounds._codes.first(1 << 14), before[1])
    assert np.count_nonzero(bounds._codes_written.first(1 << 14)) > 1 << 13
