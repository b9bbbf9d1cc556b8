"""quantize, dequantize and ranges against tests/reference.py, for every type, granularity and layout."""

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import reference as ref
from array_cases import DTYPES, arrays, granularities, parameter_view
from hypothesis import given
from hypothesis import strategies as st
from layouts import lay_out, layouts

import qlm

dtypes = st.sampled_from(DTYPES)


def groups_of(x: np.ndarray, axis: int | None, group: int | None) -> list[np.ndarray]:
    """The values behind each parameter, in the order of the flat parameters."""
    if axis is not None:
        return list(np.moveaxis(x, axis, 0))
    if group is not None:
        rows = x.reshape(-1, x.shape[-1]) if x.size or x.shape[-1] else np.zeros((0, 0), x.dtype)
        return [row[i : i + group] for row in rows for i in range(0, x.shape[-1], group)]
    return [x]


@given(st.data(), dtypes, st.booleans())
def test_scale_zero_point_and_codes(data: st.DataObject, dtype: str, symmetric: bool) -> None:
    x = data.draw(arrays())
    options = data.draw(granularities(x.ndim))
    before = x.tobytes()
    q = qlm.quantize(x, dtype, symmetric=symmetric, **options)
    assert x.tobytes() == before
    kind = ref.CodeType(dtype)
    wanted = [
        ref.choose_qparams(*ref.finite_range(part), dtype, symmetric)
        for part in groups_of(x.astype(np.float32), q.axis, q.group_size)
    ]
    np.testing.assert_array_equal(np.ravel(q.scale), np.array([scale for scale, _ in wanted], np.float32))
    zeros = np.array([zero for _, zero in wanted], kind.storage)
    if symmetric and kind.signed:
        assert q.zero_point is None
    else:
        assert q.zero_point.dtype == kind.storage
        np.testing.assert_array_equal(np.ravel(q.zero_point), zeros)
    scale = parameter_view(q.scale, x.shape, q.axis, q.group_size)
    zero = parameter_view(zeros.reshape(np.shape(q.scale)), x.shape, q.axis, q.group_size)
    codes = ref.quantize(x.astype(np.float32), scale, zero, *kind.bounds(symmetric))
    assert q.values.dtype == kind.storage
    np.testing.assert_array_equal(q.values, codes)
    floats = q.dequantize()
    assert floats.dtype == np.float32
    assert floats.tobytes() == ref.dequantize(q.values, scale, zero).tobytes()


@given(st.data(), dtypes)
def test_interval_grid(data: st.DataObject, dtype: str) -> None:
    x = data.draw(arrays())
    options = data.draw(granularities(x.ndim))
    kind = ref.CodeType(dtype)
    parts = groups_of(x.astype(np.float32), options.get("axis"), options.get("group_size"))
    try:
        grids = [ref.interval_params(*ref.finite_range(part), dtype) for part in parts]
    except ValueError:
        with pytest.raises(ValueError, match="interval"):
            qlm.quantize(x, dtype, grid="interval", **options)
        return
    q = qlm.quantize(x, dtype, grid="interval", **options)
    assert q.zero_point is None
    shape = np.shape(q.scale)
    np.testing.assert_array_equal(np.ravel(q.scale), np.array([grid.scale for grid in grids], np.float32))
    np.testing.assert_array_equal(np.ravel(q.offset), np.array([grid.offset for grid in grids], np.float32))
    views = [
        parameter_view(np.array(column).reshape(shape), x.shape, q.axis, q.group_size)
        for column in ([g.min for g in grids], [g.scale for g in grids], [g.constant for g in grids])
    ]
    codes = ref.interval_codes(x.astype(np.float32), views[0], views[1], 2**kind.bits, kind.min)
    np.testing.assert_array_equal(q.values, np.where(views[2], 0, codes))


@given(st.data(), dtypes)
def test_a_given_scale_is_used_as_it_is(data: st.DataObject, dtype: str) -> None:
    x = data.draw(arrays())
    options = data.draw(granularities(x.ndim))
    kind = ref.CodeType(dtype)
    shape = np.shape(qlm.quantize(x, dtype, **options).scale)
    scale = np.float32(data.draw(st.floats(0.0009765625, 1000, width=16)))
    scales = np.full(shape, scale) if data.draw(st.booleans()) else scale
    zero = data.draw(st.none() | st.integers(kind.min, kind.max))
    q = qlm.quantize(x, dtype, scale=scales, zero_point=zero, **options)
    middle = 0 if kind.signed else 1 << (kind.bits - 1)
    wanted = ref.quantize(x.astype(np.float32), scale, middle if zero is None else zero, kind.min, kind.max)
    np.testing.assert_array_equal(q.values, wanted)
    assert np.shape(q.scale) == shape
    assert (q.scale == scale).all()
    assert (q.zero_point is None) == (zero is None and kind.signed)


@given(st.data(), dtypes, st.sampled_from(["affine", "interval"]))
def test_fake_quantize_is_quantize_and_back(data: st.DataObject, dtype: str, grid: str) -> None:
    x = data.draw(arrays()).astype(np.float32) / np.float32(4)
    options = data.draw(granularities(x.ndim))
    wanted = qlm.quantize(x, dtype, grid=grid, **options).dequantize()
    assert qlm.fake_quantize(x, dtype, grid=grid, **options).tobytes() == wanted.tobytes()


@given(st.data())
def test_estimate_range(data: st.DataObject) -> None:
    x = data.draw(arrays())
    options = data.draw(granularities(x.ndim))
    low, high = qlm.estimate_range(x, **options)
    axis = options["axis"] % x.ndim if "axis" in options else None
    wanted = [ref.finite_range(part) for part in groups_of(x.astype(np.float32), axis, options.get("group_size"))]
    for got, column in ((low, [w[0] for w in wanted]), (high, [w[1] for w in wanted])):
        assert got.dtype == np.float32
        assert np.ravel(got).tobytes() == np.array(column, np.float32).tobytes()


@given(arrays(), dtypes, layouts())
def test_out_takes_any_strides(x: np.ndarray, dtype: str, layout: str) -> None:
    wanted = qlm.quantize(x, dtype)
    if layout in ("broadcast", "byteswapped", "read-only"):
        layout = "stepped"
    out = np.asarray(lay_out(np.zeros(x.shape, wanted.values.dtype), layout))
    q = qlm.quantize(x, dtype, out=out)
    assert q.values is out
    assert q == wanted
    floats = np.asarray(lay_out(np.zeros(x.shape, np.float32), layout))
    assert q.dequantize(out=floats) is floats
    assert floats.tobytes() == wanted.dequantize().tobytes()
    assert qlm.dequantize(q, out=floats) is floats


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_out_may_overlap_the_input(rng: np.random.Generator, shift: int) -> None:
    memory = np.zeros(400, np.uint8)
    x = memory[:320].view(np.float32)
    x[:] = rng.normal(size=80)
    wanted = qlm.quantize(x.copy())
    out = memory[shift : shift + 80].view(np.int8)
    assert qlm.quantize(x, out=out) == wanted
    floats = memory[4 * shift : 4 * shift + 320].view(np.float32)
    np.testing.assert_array_equal(
        qlm.QTensor.from_parts(out, 0.5, dtype="int8").dequantize(out=floats), wanted.values * np.float32(0.5)
    )


def test_float64_is_rounded_to_float32_first() -> None:
    x = np.array([1.0, 0.1, 1 / 3])
    assert qlm.quantize(x) == qlm.quantize(x.astype(np.float32))
    assert qlm.quantize(np.array([1, 2, 300], np.int64)) == qlm.quantize([1.0, 2.0, 300.0])


def test_bfloat16(rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 5)).astype(ml_dtypes.bfloat16)
    assert qlm.quantize(x, axis=0) == qlm.quantize(x.astype(np.float32), axis=0)


@pytest.mark.parametrize("dtype", [np.int8, np.dtype("uint8"), ml_dtypes.int4, np.uint16])
def test_numpy_dtypes_name_types(dtype: Any) -> None:
    q = qlm.quantize([1.0, -1.0], dtype)
    assert q.dtype == np.dtype(dtype).name


def test_scalars_and_array_likes() -> None:
    assert qlm.quantize(3.0).values.shape == ()
    assert qlm.quantize(np.float32(3)).scale == np.float32(3) / np.float32(127)
    assert qlm.quantize([[1, 2], [3, 4]]) == qlm.quantize(memoryview(np.array([[1, 2], [3, 4]], np.float32)))


def test_float16_scales_stay_float16() -> None:
    scale = np.array([0.5, 0.25], np.float16)
    q = qlm.quantize(np.ones((2, 3)), axis=0, scale=scale)
    assert q.scale.dtype == np.float16
    assert q.scale is not scale
    np.testing.assert_array_equal(q.values, [[2] * 3, [4] * 3])
    assert q.dequantize().dtype == np.float32


# ---- NaN and infinities --------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("bad", [NAN, -NAN, INF, -INF, 1e39, -1e300])
@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"group_size": 2}, {"scale": 1.0}, {"grid": "interval"}])
def test_what_is_not_finite_is_refused_with_its_first_index(bad: float, options: dict[str, Any]) -> None:
    x = np.zeros((3, 4))
    x[1, 2] = x[2, 3] = bad
    for call in (qlm.quantize, qlm.fake_quantize):
        with pytest.raises(ValueError, match=r"^x holds .* at index \(1, 2\)"):
            call(x, **options)


def spoiled(data: st.DataObject, x: np.ndarray) -> np.ndarray:
    """x with a few numbers that are not finite."""
    dirty = np.array(x)
    for index in data.draw(st.lists(st.integers(0, x.size - 1), max_size=5)) if x.size else []:
        dirty[np.unravel_index(index, x.shape)] = data.draw(st.sampled_from([NAN, INF, -INF]))
    return dirty


@given(st.data(), dtypes)
def test_saturate_with_a_range_of_its_own(data: st.DataObject, dtype: str) -> None:
    x = spoiled(data, data.draw(arrays()).astype(np.float32))
    q = qlm.quantize(x, dtype, nonfinite="saturate", **data.draw(granularities(x.ndim)))
    kind = ref.CodeType(dtype)
    ranges = [ref.finite_range(part) for part in groups_of(x, q.axis, q.group_size)]
    wanted = [(*span, *ref.choose_qparams(*span, dtype, kind.signed)) for span in ranges]
    columns = np.array(wanted, np.float64).reshape(-1, 4).T
    low, high, scale, zero = (
        parameter_view(column.reshape(np.shape(q.scale)), x.shape, q.axis, q.group_size) for column in columns
    )
    clean = np.where(np.isnan(x), 0, np.clip(x, low, high))
    np.testing.assert_array_equal(q.values, ref.quantize(clean, scale, zero, *kind.bounds(kind.signed)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturate_with_a_given_scale(dtype: str) -> None:
    kind = ref.CodeType(dtype)
    zero = kind.min + 3
    q = qlm.quantize([NAN, INF, -INF, 1.0], dtype, scale=1e38, zero_point=zero, nonfinite="saturate")
    assert q.values.tolist() == [zero, kind.max, kind.min, zero]


@given(st.data(), dtypes)
def test_saturate_cuts_the_interval_of_the_finite_values(data: st.DataObject, dtype: str) -> None:
    """The code that NaN gets is that of 0, which must not stretch an interval far from 0."""
    x = np.array(data.draw(st.permutations([NAN, INF, -INF, 10.0, 11.5, 14.0])), np.float32)
    q = qlm.quantize(x, dtype, grid="interval", nonfinite="saturate")
    wanted = qlm.quantize(np.clip(np.nan_to_num(x, nan=0.0), 10, 14), dtype, grid="interval")
    assert q == wanted


def test_saturate_without_a_finite_value() -> None:
    q = qlm.quantize([[NAN, INF], [1.0, 2.0]], axis=0, nonfinite="saturate")
    assert q.scale[0] == 1
    assert q.values[0].tolist() == [0, 0]


# ---- parameters ----------------------------------------------------------------------------------------------------


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(0, 2.0**100, width=32), dtypes, st.booleans()
)
def test_choose_qparams(low: float, span: float, dtype: str, symmetric: bool) -> None:
    high = max(np.float32(low + span), np.float32(low))
    if not np.isfinite(high):
        return
    scale, zero = qlm.choose_qparams(low, high, dtype, symmetric=symmetric)
    wanted_scale, wanted_zero = ref.choose_qparams(np.float32(low), high, dtype, symmetric)
    assert (scale, int(zero)) == (wanted_scale, wanted_zero)
    assert zero.dtype == ref.CodeType(dtype).storage


def test_choose_qparams_of_64_axes() -> None:
    scale, _ = qlm.choose_qparams(np.zeros((1,) * 64), 127)
    assert scale.shape == (1,) * 64
    assert scale.item() == 1


def test_choose_qparams_of_arrays() -> None:
    scale, zero = qlm.choose_qparams([[-1, 0, 2]], [1, 0, 3], "uint8")
    assert scale.shape == zero.shape == (1, 3)
    assert scale[0, 1] == 1
    assert qlm.choose_qparams(-1, 1)[1] == 0


@pytest.mark.parametrize("shape", [(5,), (4, 6), (2, 3, 4), (1, 1), (3, 0), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("grid", ["affine", "interval"])
def test_quantize_dynamic(rng: np.random.Generator, shape: tuple[int, ...], grid: str) -> None:
    x = rng.normal(size=shape)
    q = qlm.quantize_dynamic(x, grid=grid)
    assert q.dtype == "uint8"
    if len(shape) == 2:
        assert (q.axis, q.group_size) == (0, None)
        assert q.scale.shape == shape[:1]
    elif x.size:
        assert (q.axis, q.group_size) == (None, shape[-1])
        assert q.scale.shape == (*shape[:-1], 1)
    rows = x.reshape(math.prod(shape[:-1]), shape[-1])
    for row, codes in zip(rows, q.values.reshape(rows.shape), strict=True):
        np.testing.assert_array_equal(qlm.quantize(row, "uint8", grid=grid).values, codes)


def test_quantize_dynamic_in_groups(rng: np.random.Generator) -> None:
    q = qlm.quantize_dynamic(rng.normal(size=(3, 10)), "int8", group_size=4)
    assert q.scale.shape == (3, 3)
    assert q.zero_point is None


def test_an_observer_lends_its_settings(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 6))
    observer = qlm.observers.MinMax(symmetric=False, axis=1)
    assert qlm.quantize(x, observer=observer) == qlm.quantize(x, axis=1, symmetric=False)
    with pytest.raises(ValueError, match="has seen no array"):
        observer.range()
    assert qlm.quantize(x, observer="moving-average") == qlm.quantize(x)
    low, _ = qlm.estimate_range(x, observer=observer)
    assert low.shape == (6,)
    for axis, lent in ((-1, 1), (1, -1)):  # one axis, counted from either end
        assert qlm.quantize(x, axis=axis, observer=qlm.observers.MinMax(axis=lent)) == qlm.quantize(x, axis=1)


# ---- gradients -----------------------------------------------------------------------------------------------------


@given(st.data(), dtypes)
def test_gradients(data: st.DataObject, dtype: str) -> None:
    x = data.draw(arrays()).astype(np.float32)
    x = np.clip(x, -1e4, 1e4)
    grad = np.float32(data.draw(st.floats(-4, 4, width=16))) * np.ones_like(x)
    axis = data.draw(st.none() | st.integers(0, x.ndim - 1)) if x.ndim else None
    kind = ref.CodeType(dtype)
    zero = data.draw(st.integers(kind.min, kind.max))
    scale = np.float32(data.draw(st.floats(0.0625, 8, width=16)))
    grad_x, grad_scale = qlm.fake_quantize_backward(grad, x, dtype, scale=scale, zero_point=zero, axis=axis)
    wanted_x, terms = ref.lsq(grad, x, scale, zero, kind.min, kind.max)
    np.testing.assert_array_equal(grad_x, wanted_x)
    assert grad_scale.dtype == np.float32
    assert np.shape(grad_scale) == (() if axis is None else (x.shape[axis],))
    total = (
        np.moveaxis(terms, axis, 0).reshape(x.shape[axis], -1) if axis is not None and x.size else terms.reshape(1, -1)
    )
    if x.size:
        bound = 1e-5 * np.abs(total).astype(np.float64).sum(axis=1) + 1e-30
        assert (np.abs(np.ravel(grad_scale) - total.astype(np.float64).sum(axis=1)) <= bound).all()
