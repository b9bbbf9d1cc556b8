"""The drivers of the C core, in the table in use, against tests/reference.py, exactly."""

import math

import numpy as np
import pytest
import reference as ref

from qlm import _core

F32 = np.float32
DTYPES = ("int8", "uint8", "int4", "uint4", "int16", "uint16")
LAYOUTS = (
    (1, 1, 1000, 0),
    (1, 1, 0, 0),
    (1, 7, 33, 0),
    (5, 1, 100, 0),
    (4, 9, 17, 0),
    (13, 40, 1, 0),
    (3, 70, 2, 0),
    (1, 6, 100, 32),
    (1, 5, 64, 16),
    (1, 300, 48, 1),
)


def same(got, wanted) -> None:
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    wrong = np.argwhere(got.view(f"u{got.itemsize}") != wanted.view(f"u{got.itemsize}"))
    assert not wrong.size, f"at {wrong[0]}: {got[tuple(wrong[0])]!r} is not {wanted[tuple(wrong[0])]!r}"


def parameter_index(layout: tuple[int, int, int, int]) -> np.ndarray:
    """[outer, channels, inner]: the parameter of each element."""
    outer, channels, inner, group = layout
    index = np.arange(channels)[None, :, None] * np.ones((outer, 1, inner), np.int64)
    if group:
        index = index * -(-inner // group) + np.arange(inner) // group
    return index


def parameter_count(layout: tuple[int, int, int, int]) -> int:
    _, channels, inner, group = layout
    return channels * -(-inner // group) if group else channels


def values(rng: np.random.Generator, layout: tuple[int, int, int, int]) -> np.ndarray:
    x = rng.standard_normal(layout[:3]) * np.exp(rng.uniform(-5, 5, layout[:3]))
    x[rng.random(layout[:3]) < 0.05] = -0.0
    return x.astype(F32)


def ranges(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ordinary, one-sided, tiny, huge, empty."""
    ends = rng.standard_normal((2, 4000)) * np.exp(rng.uniform(-103, 88, 4000))
    ends[:, ::5] *= rng.integers(0, 2, (2, 800))
    ends = np.sort(np.clip(ends, -float(ref.FLT_MAX), float(ref.FLT_MAX)).astype(F32), axis=0)
    top, least = ref.FLT_MAX, F32(1e-45)
    corners = [(-top, top), (0, top), (-top, 0), (-top, -top), (top, top), (0, 0), (-0.0, -0.0), (0, least)]
    corners += [
        (-least, least),
        (-1, 1),
        (3, 3),
        (-3, -3),
        (2.0**-128, 2.0**-127),
        (0, 255 * 2.0**-128),
        (1, 1 + 2.0**-23),
    ]
    return np.concatenate([ends, np.array(corners, F32).T], axis=1)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_choose_qparams(dtype, symmetric, rng):
    low, high = ranges(rng)
    scale, zero = _core.choose_qparams(low, high, dtype, symmetric)
    wanted = [ref.choose_qparams(*pair, dtype, symmetric) for pair in zip(low, high, strict=True)]
    same(scale, np.array([s for s, _ in wanted], F32))
    same(zero, np.array([z for _, z in wanted], np.int32))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint4", "int16"])
def test_interval_params(dtype, rng):
    kept, wanted = [], []
    for low, high in zip(*ranges(rng), strict=True):
        try:
            wanted.append(ref.interval_params(low, high, dtype))
            kept.append((low, high))
        except ValueError:
            with pytest.raises(ValueError, match="index 0"):
                _core.interval_params(np.array([low]), np.array([high]), dtype)
    assert 0 < len(kept) < 5000
    low, high = np.array(kept, F32).T.copy()
    scale, offset, constant = _core.interval_params(low, high, dtype)
    same(scale, np.array([w.scale for w in wanted], F32))
    same(offset, np.array([w.offset for w in wanted], F32))
    same(constant, np.array([w.constant for w in wanted], np.uint8))


def test_round_up_half(rng):
    scales = np.exp(rng.uniform(-20, 12, 3000)).astype(F32)
    scales = np.concatenate([scales, scales.astype(np.float16).astype(F32), np.array([65504, 65505, 6e-8, 1e-45], F32)])
    same(_core.round_up_half(scales), np.array([ref.round_up_half(s) for s in scales], F32))


def test_smoothquant_scales_are_near_float64(rng):
    act, w = np.exp(rng.uniform(-15, 10, (2, 2000))).astype(F32)
    for alpha in (0.0, 0.5, 0.85, 1.0):
        exact = np.maximum(act.astype(float), 1e-5) ** alpha / np.maximum(w.astype(float), 1e-5) ** (1 - alpha)
        assert (ref.ulps(_core.smoothquant_scales(act, w, alpha), exact) <= 0.51).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_range(layout, rng):
    x, index = values(rng, layout), parameter_index(layout)
    for bad in (False, True):
        if bad and x.size:
            x.reshape(-1)[rng.integers(x.size, size=5)] = np.nan, np.inf, -np.inf, -np.nan, np.inf
        low, high, first = _core.range(x, layout)
        wanted = [ref.finite_range(x[index == p]) for p in range(parameter_count(layout))]
        same(low, np.array([w[0] for w in wanted], F32))
        same(high, np.array([w[1] for w in wanted], F32))
        not_finite = np.flatnonzero(~np.isfinite(x.reshape(-1)))
        assert first == (not_finite[0] if not_finite.size else -1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantize_and_dequantize(dtype, layout, rng):
    x, index, kind = values(rng, layout), parameter_index(layout), ref.CodeType(dtype)
    params = parameter_count(layout)
    for symmetric in (False, True):
        scale = np.exp(rng.uniform(-4, 1, params)).astype(F32)
        low, high = kind.bounds(symmetric)
        zero = rng.integers(low, high + 1, params).astype(np.int32)
        codes = np.empty(x.shape, kind.storage)
        assert _core.quantize(x, layout, dtype, low, high, scale, zero, codes) == -1
        wanted = ref.quantize(x, scale[index], zero[index], low, high).astype(kind.storage)
        same(codes, wanted)
        offset = rng.standard_normal(params).astype(F32)
        for zeros, offsets in ((zero, None), (None, offset), (None, None)):
            out = np.empty(x.shape, F32)
            _core.dequantize(codes, layout, scale, zeros, offsets, out)
            z = 0 if zeros is None else zeros[index]
            same(out, ref.dequantize(codes, scale[index], z, F32(-0.0) if offsets is None else offsets[index]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint4", "uint16"])
def test_quantize_interval(dtype, layout, rng):
    x, index, kind = values(rng, layout), parameter_index(layout), ref.CodeType(dtype)
    low, high, _ = _core.range(x, layout)
    scale, _, constant = _core.interval_params(low, high, dtype)
    codes = np.empty(x.shape, kind.storage)
    assert _core.quantize_interval(x, layout, dtype, low, scale, constant, codes) == -1
    wanted = ref.interval_codes(x, low[index], scale[index], 2**kind.bits, kind.min)
    same(codes, np.where(constant[index] != 0, 0, wanted).astype(kind.storage))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fake_quantize_backward(layout, rng):
    """Batches of 4096 elements of a run by lanes in float32, added in float64."""
    x, grad, index = values(rng, layout), values(rng, layout), parameter_index(layout)
    params = parameter_count(layout)
    scale, zero = np.exp(rng.uniform(-3, 0, params)).astype(F32), rng.integers(-20, 20, params).astype(np.int32)
    grad_x, grad_scale = _core.fake_quantize_backward(grad, x, layout, "int8", scale, zero)
    wanted_x, wanted_scale = np.empty(x.shape, F32), np.zeros(params)
    for outer in range(layout[0]):
        for p in range(params):
            where = index[outer] == p
            part, slopes = ref.lsq(grad[outer][where], x[outer][where], scale[p], int(zero[p]), -128, 127)
            wanted_x[outer][where] = part
            for begin in range(0, slopes.size, 4096):
                wanted_scale[p] += float(ref.lanes_sum(slopes[begin : begin + 4096]))
    same(grad_x, wanted_x)
    same(grad_scale, wanted_scale)


def test_fake_quantize_backward_of_a_long_run(rng):
    x, grad = rng.standard_normal((2, 9001)).astype(F32)
    _, grad_scale = _core.fake_quantize_backward(grad, x, (1, 1, 9001, 0), "int4", np.array([0.2], F32), None)
    _, slopes = ref.lsq(grad, x, F32(0.2), 0, -8, 7)
    assert grad_scale[0] == sum(float(ref.lanes_sum(slopes[begin : begin + 4096])) for begin in (0, 4096, 8192))


def test_replace_nonfinite(rng):
    x = rng.standard_normal((6, 50)).astype(F32)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[rng.random(x.shape) < 0.2] = np.inf
    x[rng.random(x.shape) < 0.1] = -np.inf
    low, high = -rng.random(6).astype(F32), rng.random(6).astype(F32)
    wanted = np.where(
        np.isnan(x), F32(0), np.clip(x, np.where(np.isinf(x), low[:, None], x), np.where(np.isinf(x), high[:, None], x))
    )
    _core.replace_nonfinite(x, (1, 6, 50, 0), low, high, x)
    same(x, wanted.astype(F32))


STARTS = [0, 1, 4, 4, 21, 54]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "dim"), [(1, 32), (3, 16), (2, 5), (4, 1), (2, 33)])
def test_attention(heads, dim, causal, rng, bench):
    qkv = rng.standard_normal((STARTS[-1], 3 * heads * dim)).astype(F32)
    q, k, v = (qkv[:, i * heads * dim : (i + 1) * heads * dim] for i in range(3))
    scale = float(F32(dim**-0.5))
    got = _core.attention(q, k, v, np.array(STARTS, np.int64), heads, scale, causal)
    same(got, ref.attention(q, k, v, STARTS, heads, scale, causal, bench.evaluate))


@pytest.mark.parametrize("spread", [1, 30])
@pytest.mark.parametrize(("heads", "dim"), [(1, 32), (3, 16), (2, 5), (4, 1), (2, 33), (1, 70)])
def test_attention_8(heads, dim, spread, rng):
    qkv = (spread * rng.standard_normal((STARTS[-1], 3 * heads * dim))).astype(F32)
    q, k, v = (qkv[:, i * heads * dim : (i + 1) * heads * dim] for i in range(3))
    v[:, 0] = 0
    q[5] = 0
    scale = float(F32(dim**-0.5))
    got = _core.attention_8(q, k, v, np.array(STARTS, np.int64), heads, scale)
    same(got, ref.attention_8(q, k, v, STARTS, heads, scale))


def test_attention_8_of_many_tokens(rng):
    q, k, v = rng.standard_normal((3, 702, 8)).astype(F32)
    starts = [0, 700, 702]
    got = _core.attention_8(q, k, v, np.array(starts, np.int64), 2, 0.5)
    same(got, ref.attention_8(q, k, v, starts, 2, 0.5))


def test_attention_8_in_place_and_huge(rng):
    """The result may be q; scores past float32's range give NaN, not something else."""
    q, k, v = rng.standard_normal((3, STARTS[-1], 24)).astype(F32)
    starts = np.array(STARTS, np.int64)
    wanted = ref.attention_8(q, k, v, STARTS, 3, 0.25)
    _core.attention_8(q, k, v, starts, 3, 0.25, q)
    same(q, wanted)
    with np.errstate(all="ignore"):
        huge = ref.attention_8(q * F32(1e37), k * F32(1e37), v, STARTS, 3, 0.25)
    assert np.isnan(huge).any()
    same(_core.attention_8(q * F32(1e37), k * F32(1e37), v, starts, 3, 0.25), huge)


def test_attention_8_of_the_largest_float():
    """A weight of 1 times 127 codes of the largest float's scale is just finite."""
    q = np.array([[1, 0], [1, 0]], F32)
    k = np.array([[0, 0], [8 * math.log(2), 0]], F32)
    v = np.array([[np.finfo(F32).max, 1e-45], [0, 0]], F32)
    wanted = ref.attention_8(q, k, v, [0, 2], 1, 1.0)
    assert np.isfinite(wanted).all()
    assert wanted[0, 0] == pytest.approx(np.finfo(F32).max / 256, rel=1e-6)
    same(_core.attention_8(q, k, v, np.array([0, 2], np.int64), 1, 1.0), wanted)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_attention_8_names_the_value_that_is_not_finite(rng, which, value):
    qkv = rng.standard_normal((3, STARTS[-1], 24)).astype(F32)
    qkv[which, 30, 17] = value
    qkv[:, 30, 18] = qkv[2, 31, 0] = value  # later ones
    with pytest.raises(_core.NonFinite) as caught:
        _core.attention_8(*qkv, np.array(STARTS, np.int64), 3, 0.25)
    assert caught.value.args[0] == 30 * 24 + 17
    with pytest.raises(ValueError, match="scale must be positive"):
        _core.attention_8(*qkv, np.array(STARTS, np.int64), 3, 0.0)


@pytest.mark.parametrize("where", range(3))
def test_offsets_on_both_sides_are_refused_whichever_weight_has_them(rng, where):
    codes, one = rng.integers(-9, 9, (4, 8), np.int8), np.ones(1, F32)
    weights = [_core.pack(codes, "int8", 0, one, None, one if i == where else None) for i in range(3)]
    x, nothing = rng.standard_normal((2, 8)).astype(F32), (None,) * 3
    with pytest.raises(NotImplementedError, match="offsets of both"):
        _core.linear(x, _core.Input("dynamic", dtype="uint8", interval=True), tuple(weights), nothing, None, nothing)


@pytest.mark.parametrize("n", [1, 3, 16, 17, 384])
def test_layernorm(n, rng):
    x, y = rng.standard_normal((2, 9, n)).astype(F32)
    gain, bias = rng.standard_normal((2, n)).astype(F32)
    same(_core.layernorm(x, None, gain, bias, 1e-12), ref.layernorm(x, gain, bias, 1e-12))
    same(_core.layernorm(x, y, gain, bias, 1e-5), ref.layernorm(x + y, gain, bias, 1e-5))


@pytest.mark.parametrize("how", ["mean", "cls", "max", "lasttoken"])
@pytest.mark.parametrize("normalize", [False, True])
def test_pool(how, normalize, rng):
    starts = [0, 1, 4, 21, 54]
    for n in (1, 16, 31, 384):
        x = rng.standard_normal((54, n)).astype(F32)
        x[1:4] = 0
        same(_core.pool(x, np.array(starts, np.int64), how, normalize), ref.pool(x, starts, how, normalize))


@pytest.mark.parametrize(("dtype", "group"), [("int8", 0), ("uint8", 32), ("int16", 0), ("uint4", 7)])
def test_gather(dtype, group, rng):
    table = ref.quantize_rows(rng.standard_normal((40, 70)).astype(F32), dtype, False, group)
    ids = rng.integers(0, 40, 90)
    got = _core.gather(table.values, ids, table.scale, table.zero, None, group)
    same(got, table.dequantize()[ids])
    floats = table.dequantize()
    same(_core.gather(floats, ids), floats[ids])


def test_add(rng):
    a, b = rng.standard_normal((2, 5, 100)).astype(F32)
    same(_core.add(a, b), a + b)
