"""QTensor: its parts, its protocols, and what it says of itself."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from array_cases import DTYPES, arrays, granularities, parameter_view
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import qlm
from qlm import QTensor, dtypes


@st.composite
def qtensors(draw: Any, min_dims: int = 0) -> QTensor:
    """Any QTensor: random codes and parameters, all granularities, zero points, offsets, float16 scales."""
    qtype = dtypes.get(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=0, max_side=6))
    values = draw(hnp.arrays(qtype.storage, shape, elements=st.integers(qtype.min, qtype.max)))
    options = draw(granularities(len(shape)))
    params = np.shape(qlm.quantize(values, qtype.name, **options).scale)
    numbers = st.floats(-100, 100, width=16)
    scale = draw(hnp.arrays(draw(st.sampled_from([np.float16, np.float32])), params, elements=numbers))
    zero = draw(st.none() | hnp.arrays(qtype.storage, params, elements=st.integers(qtype.min, qtype.max)))
    offset = draw(st.none() | hnp.arrays(np.float32, params, elements=numbers)) if zero is None else None
    return QTensor.from_parts(values, scale, zero, offset=offset, dtype=qtype.name, **options)


@given(qtensors())
def test_dequantized_numbers(q: QTensor) -> None:
    codes = q.values.astype(np.float32)
    scale = parameter_view(q.scale, q.shape, q.axis, q.group_size).astype(np.float32)
    if q.offset is None:
        zero = np.float32(0)
        if q.zero_point is not None:
            zero = parameter_view(q.zero_point, q.shape, q.axis, q.group_size).astype(np.float32)
        wanted = (codes - zero) * scale
    else:
        wanted = codes * scale + parameter_view(q.offset, q.shape, q.axis, q.group_size)
    assert q.dequantize().tobytes() == wanted.astype(np.float32).tobytes()


@given(qtensors())
def test_pickle_and_copies_are_equal(q: QTensor) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(q, protocol)) == q
    for other in (copy.copy(q), copy.deepcopy(q), q.copy()):
        assert other == q
        assert not np.may_share_memory(other.values, q.values)
        assert (other.axis, other.group_size, other.dtype, other.nbytes) == (q.axis, q.group_size, q.dtype, q.nbytes)


@given(qtensors(min_dims=1), st.data())
def test_rows(q: QTensor, data: st.DataObject) -> None:
    floats = q.dequantize()
    count = len(q)
    assert len(list(q)) == count
    index = data.draw(
        st.slices(count)
        | st.lists(st.booleans(), min_size=count, max_size=count).map(lambda m: np.array(m, bool))
        | (st.lists(st.integers(-count, count - 1)) if count else st.just([]))
        | (st.integers(-count, count - 1) if count else st.just(slice(None)))
    )
    rows = q[index]
    plain = floats[np.array(index, np.intp) if isinstance(index, list) else index]
    assert rows.shape == plain.shape
    assert rows.dequantize().tobytes() == plain.tobytes()
    assert rows == QTensor.from_parts(
        rows.values,
        rows.scale,
        rows.zero_point,
        offset=rows.offset,
        dtype=rows.dtype,
        axis=rows.axis,
        group_size=rows.group_size,
    )


@pytest.mark.parametrize("rows", [2, -3, np.int64(5)])
def test_a_row_out_of_range(rows: Any) -> None:
    with pytest.raises(IndexError, match="out of range"):
        qlm.quantize([[1.0], [2.0]])[rows]


@pytest.mark.parametrize("rows", [1.0, "a", None, (0, 0), True, [[0]], np.zeros((2, 2), bool), ...])
def test_what_is_no_row(rows: Any) -> None:
    with pytest.raises(TypeError):
        qlm.quantize([[1.0], [2.0]])[rows]


def test_a_group_may_be_larger_than_anything() -> None:
    q = QTensor.from_parts([1, 2, 3], [2.0], dtype="int8", group_size=10**30)
    np.testing.assert_array_equal(q[1:].dequantize(), [4, 6])
    matrix = QTensor.from_parts([[1, 2]], [[2.0]], dtype="int8", group_size=10**30)
    np.testing.assert_array_equal(qlm.linear(np.ones((1, 2)), matrix, input="float32"), [[6]])
    np.testing.assert_array_equal(qlm.matmul(qlm.quantize([[127.0]]), matrix), [[254, 508]])


def test_a_scalar_has_no_rows() -> None:
    q = qlm.quantize(1.0)
    with pytest.raises(IndexError):
        q[0]
    with pytest.raises(TypeError):
        len(q)


def test_equality_is_one_bool() -> None:
    q = qlm.quantize([[1.0, 2.0], [3.0, 4.0]], axis=0)
    same = qlm.quantize(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    assert (q == same) is True
    assert (q != same) is False
    others = [
        qlm.quantize([[1.0, 2.0], [3.0, 4.0]]),
        qlm.quantize([[1.0, 2.0], [3.0, 4.0]], axis=1),
        qlm.quantize([[1.0, 2.0], [3.0, 4.0]], "int16", axis=0),
        qlm.quantize([[1.0, 2.0], [3.0, 5.0]], axis=0),
        QTensor.from_parts(q.values, q.scale, [0, 0], dtype="int8", axis=0),
        QTensor.from_parts(q.values, q.scale.astype(np.float16), dtype="int8", axis=0),
        q[:1],
    ]
    for other in others:
        assert (q == other) is False
    assert (q == q.values) is False
    assert (q == "q") is False
    with pytest.raises(TypeError, match="unhashable"):
        hash(q)


def test_array_protocol() -> None:
    q = qlm.quantize([1.0, -2.0])
    np.testing.assert_array_equal(np.asarray(q), q.dequantize())
    assert np.asarray(q).dtype == np.float32
    assert np.asarray(q, np.float64).dtype == np.float64
    assert np.abs(q).max() == np.float32(2)
    with pytest.raises(ValueError, match="copy"):
        q.__array__(copy=False)


@pytest.mark.parametrize(
    ("options", "dtype", "nbytes"),
    [
        ({}, "int8", 15 + 4),
        ({}, "uint8", 15 + 4 + 1),
        ({"axis": 0}, "uint8", 15 + 3 * 5),
        ({"axis": 1}, "int16", 30 + 5 * 4),
        ({"group_size": 2}, "uint4", 9 + 9 * 5),
        ({}, "int4", 9 + 4),
        ({"grid": "interval"}, "int8", 15 + 8),
    ],
)
def test_nbytes_as_stored(options: dict[str, Any], dtype: str, nbytes: int) -> None:
    q = qlm.quantize(np.ones((3, 5)), dtype, **options)
    assert q.nbytes == nbytes


def test_attributes() -> None:
    q = qlm.quantize(np.ones((3, 5)), "uint4", axis=-1)
    assert (q.dtype, q.bits, q.shape, q.ndim, q.size) == ("uint4", 4, (3, 5), 2, 15)
    assert (q.axis, q.group_size) == (1, None)
    assert q.values.dtype == np.uint8
    assert q.scale.shape == q.zero_point.shape == (5,)
    assert q.zero_point.dtype == np.uint8
    scalar = qlm.quantize(np.ones(3))
    assert isinstance(scalar.scale, np.float32)
    assert scalar.zero_point is scalar.offset is None


def test_it_is_not_made_by_its_name() -> None:
    with pytest.raises(TypeError, match="from_parts"):
        QTensor()


# ---- from_parts ----------------------------------------------------------------------------------------------------


def test_zero_and_negative_scales_are_legal() -> None:
    q = QTensor.from_parts([[1, 2], [3, 4]], [0.0, -2.0], dtype="int8", axis=0)
    np.testing.assert_array_equal(q.dequantize(), [[0, 0], [-6, -8]])


def test_an_unsigned_type_counts_from_its_middle() -> None:
    assert QTensor.from_parts([3], 1.0, dtype="uint4").zero_point == 8
    assert QTensor.from_parts([3], 1.0, dtype="int4").zero_point is None
    assert QTensor.from_parts([3], 1.0, offset=2.0, dtype="uint4").dequantize()[0] == 5


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"values": [1.0]}, TypeError, "values must hold integers"),
        ({"values": [True]}, TypeError, "values must hold real numbers"),
        ({"values": [1, 8, 2]}, ValueError, r"values must be within -8..7 for int4, got 8 at index \(1,\)"),
        ({"scale": math.nan}, ValueError, "scale must be finite, got nan"),
        ({"scale": math.inf}, ValueError, "scale must be finite, got inf"),
        ({"scale": 1e39}, ValueError, "scale must be finite, got inf"),
        ({"scale": [1.0, 2.0]}, ValueError, r"scale must be a scalar .* got the shape \(2,\)"),
        ({"scale": "1"}, TypeError, "scale must hold real numbers"),
        ({"scale": None}, TypeError, "scale must hold real numbers"),
        ({"zero_point": 8}, ValueError, "zero_point must be within -8..7 for int4, got 8"),
        ({"zero_point": 1.0}, TypeError, "zero_point must hold integers"),
        ({"zero_point": 1, "offset": 1.0}, ValueError, "exclude each other"),
        ({"offset": math.inf}, ValueError, "offset must be finite"),
        ({"dtype": "int5"}, qlm.UnsupportedError, "int5"),
        ({"dtype": "float32"}, ValueError, "dtype must be one of"),
        ({"dtype": None}, TypeError, "dtype must be the name of a type"),
        ({"axis": 1}, ValueError, "axis must be within -1..0"),
        ({"axis": 0, "group_size": 1}, ValueError, "axis and group_size exclude each other"),
        ({"group_size": 0}, ValueError, "group_size must be at least 1, got 0"),
        ({"axis": 0.0}, TypeError, "axis must be an integer, got 0.0"),
        ({"axis": True}, TypeError, "axis must be an integer, got True"),
        ({"axis": 0, "scale": [1.0, 2.0]}, ValueError, r"scale must be a scalar or an array of shape \(3,\)"),
        ({"axis": 0, "scale": [1.0, math.nan, 2.0]}, ValueError, r"got nan at index \(1,\)"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    parts = {"values": [1, 2, 3], "scale": 1.0, "dtype": "int4", **changes}
    with pytest.raises(error, match=words):
        QTensor.from_parts(parts.pop("values"), parts.pop("scale"), parts.pop("zero_point", None), **parts)


# ---- figures and views ---------------------------------------------------------------------------------------------


@given(arrays())
def test_error_figures(x: np.ndarray) -> None:
    q = qlm.quantize(x)
    mine = q.error(x)
    exact, given_back = np.asarray(x, np.float64).ravel(), q.dequantize().astype(np.float64).ravel()
    difference = exact - given_back
    assert mine.max_abs == np.abs(difference).max(initial=0)
    assert mine.mse == pytest.approx((difference**2).mean() if x.size else 0, rel=1e-9)
    noise, signal = (difference**2).sum(), (exact**2).sum()
    if noise and signal:
        assert mine.sqnr_db == pytest.approx(10 * math.log10(signal / noise), rel=1e-9, abs=1e-9)
    norms = math.sqrt(signal) * math.sqrt((given_back**2).sum())
    if norms:
        assert mine.cosine == pytest.approx((exact * given_back).sum() / norms, rel=1e-9)


def test_figures_at_the_edges() -> None:
    assert qlm.quantize([0.0]).error([0.0]) == (0, 0, math.inf, 1)
    assert qlm.quantize([0.0]).error([1.0]) == (1, 1, 0, 0)
    assert qlm.quantize([1.0]).error([0.0]).sqnr_db == -math.inf
    with pytest.raises(ValueError, match="x must have the shape"):
        qlm.quantize([1.0]).error([1.0, 2.0])
    with pytest.raises(ValueError, match=r"x holds nan at index \(0,\)"):
        qlm.quantize([1.0]).error([math.nan])


@given(qtensors())
def test_views_of_any_tensor(q: QTensor) -> None:
    text, page = repr(q), q._repr_html_()
    assert text.startswith(f"QTensor({q.dtype}, shape={q.shape}")
    assert page.count("<table") == page.count("</table>") >= 1
    assert page.count("<tr>") == page.count("</tr>")


def test_the_notebook_table_says_what_matters() -> None:
    page = qlm.quantize(np.arange(200.0).reshape(2, 100), axis=0)._repr_html_()
    for words in ("QTensor int8", "2 × 100", "one per index of axis 0", "208 B of 800 B"):
        assert words in page
