"""What every number of qlm is, stated in NumPy: the oracle of the tests.

Written from the definitions (csrc/kernels/kernels.h, docs), not from the C code. Arithmetic is float32, rounded once
per operation, unless float64 is named; `fma` is an exactly rounded float32 fused multiply-add. exp, tanh, erf and GELU
are polynomials of the library: the functions that need them take the library's own as the argument `evaluate`, and
`FUNCTIONS_FLOAT64` has what these are checked against, to 2 units in the last place.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

F32, F64 = np.float32, np.float64
FLT_MAX = np.finfo(F32).max
CANONICAL_NAN = np.uint32(0x7FC00000).view(F32)
IDENTITY, RELU, GELU, GELU_TANH, SILU, TANH, EXP, ERF = range(8)
LANES = 16

np.seterr(all="ignore")  # infinities and NaN are values here, not mistakes

Evaluate = Callable[[int, np.ndarray], np.ndarray]


def f32(x) -> np.ndarray:
    return np.asarray(x, F32)


def canonical(x: np.ndarray) -> np.ndarray:
    """NaN results are stored as 0x7FC00000."""
    return np.where(np.isnan(x), CANONICAL_NAN, x).astype(F32)


# ---- sums ----------------------------------------------------------------------------------------------------------


def fma(a, b, c) -> np.ndarray:
    """fl(a * b + c) with one rounding: the float64 product of two float32 is exact; the float64 sum is rounded to odd
    (Boldo and Melquiond 2008), after which rounding to float32 is as if there had been no rounding before."""
    product, c = np.asarray(a, F64) * np.asarray(b, F64), np.asarray(c, F64)
    total = np.atleast_1d(product + c)
    part = total - product
    error = (product - (total - part)) + (c - part)
    bits = total.view(np.int64)
    even_and_inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    away_from_zero = (error > 0) == (total > 0)
    odd = (bits + np.where(even_and_inexact, np.where(away_from_zero, 1, -1), 0)).view(F64)
    return odd.astype(F32).reshape(np.broadcast_shapes(product.shape, c.shape))


def chain(a, b, start=0.0) -> np.ndarray:
    """[m, n] = a [m, k] @ b [k, n]: one chain of fused multiply-adds in ascending k, from `start`."""
    a, b = f32(a), f32(b)
    acc = np.broadcast_to(f32(start), (a.shape[0], b.shape[1]))
    for k in range(a.shape[1]):
        acc = fma(a[:, k, None], b[k], acc)
    return acc.astype(F32)


def lanes_sum(x) -> np.ndarray:
    """Sum over the last axis: element i goes to lane i mod 16, ascending; then l + 8, l + 4, l + 2, l + 1."""
    x = f32(x)
    lanes = np.zeros((*x.shape[:-1], LANES), F32)
    for begin in range(0, x.shape[-1], LANES):
        part = x[..., begin : begin + LANES]
        lanes[..., : part.shape[-1]] += part
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def wrap32(x) -> np.ndarray:
    """int64 to int32, modulo 2**32."""
    return (np.asarray(x, np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def integer_product(a, b) -> np.ndarray:
    """a [m, k] @ b [n, k].T in exact 64-bit integers."""
    return np.asarray(a, np.int64) @ np.asarray(b, np.int64).T


# ---- functions -----------------------------------------------------------------------------------------------------


def _each(function: Callable[[float], float], x: np.ndarray) -> np.ndarray:
    return np.array([function(value) for value in np.ravel(x)], F64).reshape(np.shape(x))


FUNCTIONS_FLOAT64: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    TANH: lambda x: np.tanh(np.asarray(x, F64)),
    EXP: lambda x: np.where(np.asarray(x) < F32(-87.3), 0.0, np.exp(np.asarray(x, F64))),
    ERF: lambda x: _each(math.erf, np.asarray(x, F64)),
    GELU: lambda x: _each(lambda value: value * math.erfc(-value * math.sqrt(0.5)) / 2, np.asarray(x, F64)),
}


def activation(function: int, x, evaluate: Evaluate) -> np.ndarray:
    """The composed functions from the library's own exp and tanh; GELU and erf are its own."""
    x = f32(x)
    half = F32(0.5) * x
    if function == RELU:
        return np.where(np.isnan(x) | (x > 0), x, F32(0))
    if function == GELU_TANH:
        cubic = F32(0.044715) * ((x * x) * x)
        return half * (F32(1) + evaluate(TANH, F32(math.sqrt(2 / math.pi)) * (x + cubic)))
    if function == SILU:
        return x / (F32(1) + evaluate(EXP, -x))
    return x if function == IDENTITY else evaluate(function, x)


def ulps(value, exact) -> np.ndarray:
    """Distance of float32 values from float64 ones in units in the last place of the exact value, rounded."""
    exact = np.asarray(exact, F64)
    unit = np.spacing(np.maximum(np.abs(exact), np.finfo(F32).tiny).astype(F32)).astype(F64)
    return np.abs(np.asarray(value, F64) - exact) / unit


# ---- parameters and codes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CodeType:
    """A quantized type: "int8", "uint4", ..."""

    name: str

    @property
    def bits(self) -> int:
        return int(self.name.lstrip("uint"))

    @property
    def signed(self) -> bool:
        return not self.name.startswith("u")

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return self.min + (1 << self.bits) - 1

    @property
    def storage(self) -> np.dtype:
        return np.dtype(f"{'' if self.signed else 'u'}int{8 if self.bits <= 8 else 16}")

    def bounds(self, symmetric: bool) -> tuple[int, int]:
        """Codes of a symmetric range stay as far from the zero point on either side."""
        if not symmetric:
            return self.min, self.max
        middle, reach = (0 if self.signed else 1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return middle - reach, middle + reach


def finite_range(x) -> tuple[np.float32, np.float32]:
    """Of the finite values; 0, 0 where there is none. -0.0 does not show."""
    x = f32(x).ravel()
    x = x[np.isfinite(x)]
    if x.size == 0:
        return F32(0), F32(0)
    return x.min() + F32(0), x.max() + F32(0)


def inverse_overflows(scale) -> bool:
    return not np.isfinite(F32(1) / F32(scale))


def choose_qparams(low, high, dtype: str, symmetric: bool, half: bool = False) -> tuple[np.float32, int]:
    """Scale and zero point of the range [low, high]: float64, the scale rounded to float32 once (half: then up to
    float16, infinite past it, before the zero point is chosen)."""
    kind = CodeType(dtype)
    low, high = float(F32(low)), float(F32(high))
    first, last = kind.bounds(symmetric)
    if symmetric:
        zero = 0 if kind.signed else 1 << (kind.bits - 1)
        span, steps = max(abs(low), abs(high)), last - zero
    else:
        low, high = min(low, 0.0), max(high, 0.0)
        span, steps, zero = high - low, kind.max - kind.min, 0
    scale = F32(span / steps) if span else F32(1)
    if inverse_overflows(scale):
        scale = F32(2.0**-126)
    if half:
        with np.errstate(over="ignore"):
            scale = round_up_half(scale)
    if not symmetric:
        zero = int(min(max(np.rint(kind.min - low / float(scale)), kind.min), kind.max))
    reach = max(zero - first, last - zero)
    if not half and not np.isfinite(F32(reach) * scale):
        exact = float(FLT_MAX) / reach
        scale = F32(exact)
        if float(scale) > exact:
            scale = np.nextafter(scale, F32(0))
    return scale, zero


def round_up_half(scale) -> np.float32:
    """float16 not below the scale, as float32."""
    half = np.float16(scale)
    if float(half) < float(F32(scale)):
        half = np.nextafter(half, np.float16(np.inf))
    return F32(half)


def quantize(x, scale, zero, low: int, high: int) -> np.ndarray:
    """clamp(rint(x / scale) + zero, low, high) as int32; zero for what is not finite."""
    x, scale = f32(x), f32(scale)
    codes = np.rint(x / scale) + f32(zero)
    return np.where(np.isfinite(x), np.clip(codes, F32(low), F32(high)), 0).astype(np.int32)


def dequantize(codes, scale, zero=0, offset=-0.0) -> np.ndarray:
    """(q - zero) * scale + offset; an offset of -0.0 adds nothing."""
    return (f32(codes) - f32(zero)) * f32(scale) + f32(offset)


@dataclass(frozen=True)
class Interval:
    """An interval grid: 2**bits equal intervals of [min, max], a code stands for its midpoint."""

    min: np.float32
    scale: np.float32
    offset: np.float32
    constant: bool


def interval_params(low, high, dtype: str) -> Interval:
    """ValueError where a midpoint overflows."""
    kind = CodeType(dtype)
    low, high = F32(low) + F32(0), F32(high) + F32(0)
    scale = F32((float(high) - float(low)) / 2**kind.bits)
    if inverse_overflows(scale):
        middle = low if low == high else F32((float(low) + float(high)) / 2)
        return Interval(low, F32(1), middle, True)
    offset = F32(float(low) + (0.5 - kind.min) * float(scale))
    ends = dequantize([kind.min, kind.max], scale, 0, offset)
    if not (np.isfinite(offset) and np.isfinite(ends).all()):
        raise ValueError("midpoints overflow")
    return Interval(low, scale, offset, False)


def interval_codes(x, low, scale, levels: int, first: int) -> np.ndarray:
    """first + clamp(floor((x - low) / scale), 0, levels - 1), all in float64."""
    x = np.asarray(f32(x), F64)
    place = np.floor((x - F64(low)) / F64(scale))
    return np.where(np.isfinite(x), first + np.clip(place, 0, levels - 1), 0).astype(np.int32)


@dataclass(frozen=True)
class Codes:
    """Integers with parameters per group of the last axis: scale, zero and offset are [rows, groups]."""

    values: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    offset: np.ndarray | None
    group: int

    def spans(self) -> list[slice]:
        return spans(self.values.shape[-1], self.group)

    def dequantize(self) -> np.ndarray:
        parts = []
        for g, span in enumerate(self.spans()):
            offset = F32(-0.0) if self.offset is None else self.offset[:, g, None]
            parts.append(dequantize(self.values[:, span], self.scale[:, g, None], self.zero[:, g, None], offset))
        return np.concatenate(parts, axis=1) if parts else np.zeros(self.values.shape, F32)


def spans(length: int, group: int) -> list[slice]:
    """The groups of a row, the last may be short; group 0: one of the whole row, even an empty one."""
    if group == 0:
        return [slice(0, length)]
    return [slice(begin, min(begin + group, length)) for begin in range(0, length, group)]


def quantize_rows(x, dtype: str, symmetric: bool, group: int = 0, interval: bool = False) -> Codes:
    """Each row (or group of a row) of x by its own range."""
    x, kind = f32(x), CodeType(dtype)
    parts = spans(x.shape[1], group)
    values = np.zeros(x.shape, kind.storage)
    scale, offset = np.ones((len(x), len(parts)), F32), np.zeros((len(x), len(parts)), F32)
    zero = np.zeros((len(x), len(parts)), np.int32)
    for row in range(len(x)):
        for g, span in enumerate(parts):
            low, high = finite_range(x[row, span])
            if interval:
                grid = interval_params(low, high, dtype)
                scale[row, g], offset[row, g] = grid.scale, grid.offset
                codes = interval_codes(x[row, span], grid.min, grid.scale, 2**kind.bits, kind.min)
                values[row, span] = 0 if grid.constant else codes
            else:
                scale[row, g], zero[row, g] = choose_qparams(low, high, dtype, symmetric)
                values[row, span] = quantize(x[row, span], scale[row, g], zero[row, g], *kind.bounds(symmetric))
    return Codes(values, scale, zero, offset if interval else None, group)


# ---- linear --------------------------------------------------------------------------------------------------------


def epilogue(y, bias, function: int, residual, evaluate: Evaluate) -> np.ndarray:
    """act(y + bias) + residual; what is None is no operation."""
    y = f32(y) if bias is None else f32(y) + f32(bias)
    y = activation(function, y, evaluate)
    return canonical(y if residual is None else y + f32(residual))


def weight_chain(weight: Codes) -> np.ndarray:
    """C of the definitions: per output, the chain over groups of scale * (sum of code - zero)."""
    chained = np.zeros(len(weight.values), F32)
    for g, span in enumerate(weight.spans()):
        sums = (weight.values[:, span].astype(np.int64) - weight.zero[:, g, None]).sum(axis=1)
        chained = fma(f32(sums), weight.scale[:, g], chained)
    return chained


def _grouped_rows(x: Codes, weight: Codes) -> np.ndarray:
    """Groups in the weight, one scale per row of activations: everything before the bias."""
    total = np.zeros((len(x.values), len(weight.values)), F32)
    values, zero = x.values.astype(np.int64), x.zero[:, :1].astype(np.int64)
    for g, span in enumerate(weight.spans()):
        shifted = weight.values[:, span].astype(np.int64) - weight.zero[:, g, None]
        total = fma(f32(integer_product(values[:, span], shifted)), weight.scale[:, g], total)
        if weight.offset is not None:
            sums = values[:, span].sum(axis=1, keepdims=True) - values[:, span].shape[1] * zero
            total = fma(f32(sums), weight.offset[:, g], total)
    chained = weight_chain(weight)
    if x.offset is not None:
        return total * x.scale[:, :1] + x.offset[:, :1] * chained
    return (total - f32(zero) * chained) * x.scale[:, :1]


def _grouped_both(x: Codes, weight: Codes) -> np.ndarray:
    """Groups in the activations (and perhaps the weight): over the finer of the two, zero points in integers; float
    offsets of either side join the chain after each group's product."""
    total = np.zeros((len(x.values), len(weight.values)), F32)
    length = x.values.shape[1]
    for span in spans(length, min(x.group, weight.group or length)):
        gx, gw = span.start // x.group, span.start // weight.group if weight.group else 0
        left = x.values[:, span].astype(np.int64) - x.zero[:, gx, None]
        right = weight.values[:, span].astype(np.int64) - weight.zero[:, gw, None]
        product = f32(integer_product(left, right)) * weight.scale[:, gw]
        total = fma(product, x.scale[:, gx, None], total)
        if weight.offset is not None:
            total = fma((f32(left.sum(axis=1)) * x.scale[:, gx])[:, None], weight.offset[:, gw], total)
        if x.offset is not None:
            total = fma(x.offset[:, gx, None], weight.scale[:, gw] * f32(right.sum(axis=1)), total)
    return total


def linear_codes(x: Codes, weight: Codes, bias, function: int, residual, evaluate: Evaluate) -> np.ndarray:
    """act(x @ weight.T + bias) + residual from the exact integer products. One group is as good as none."""
    if len(x.spans()) > 1:
        y = _grouped_both(x, weight)
    elif len(weight.spans()) > 1 or weight.offset is not None or x.offset is not None:
        y = _grouped_rows(x, weight)
    else:
        left = x.values.astype(np.int64) - x.zero[:, :1]
        right = weight.values.astype(np.int64) - weight.zero[:, :1]
        y = (f32(integer_product(left, right)) * weight.scale[:, 0]) * x.scale[:, :1]
    return epilogue(y, bias, function, residual, evaluate)


def linear_float(x, weight, bias, function: int, residual, evaluate: Evaluate) -> np.ndarray:
    """Weight-only and float linears: a chain over k; a quantized weight is dequantized first."""
    values = weight.dequantize() if isinstance(weight, Codes) else f32(weight)
    return epilogue(chain(x, values.T), bias, function, residual, evaluate)


# ---- the rest of a transformer -------------------------------------------------------------------------------------


def layernorm(x, gain, bias, eps) -> np.ndarray:
    x = f32(x)
    n = F32(x.shape[-1])
    centred = x - (lanes_sum(x) / n)[..., None]
    variance = lanes_sum(centred * centred) / n
    inverse = F32(1) / np.sqrt(variance + F32(eps))
    return canonical(((centred * inverse[..., None]) * f32(gain)) + f32(bias))


def softmax(x, scale, evaluate: Evaluate) -> tuple[np.ndarray, np.ndarray]:
    """exp(x * scale - max) over the last axis, not divided, and its sum."""
    scaled = f32(x) * F32(scale)
    shifted = scaled - scaled.max(axis=-1, keepdims=True, initial=F32(-np.inf))
    weights = evaluate(EXP, shifted)
    return canonical(weights), canonical(lanes_sum(weights))


def attention(q, k, v, starts: Sequence[int], heads: int, scale, causal: bool, evaluate: Evaluate) -> np.ndarray:
    """[t, heads * dim]; sequence s is rows starts[s] .. starts[s + 1]."""
    q, k, v = f32(q), f32(k), f32(v)
    dim = q.shape[1] // heads
    out = np.zeros(q.shape, F32)
    for begin, end in pairwise(starts):
        for head in range(heads):
            columns = slice(head * dim, (head + 1) * dim)
            for row in range(begin, end):
                keys = slice(begin, row + 1 if causal else end)
                scores = chain(q[row : row + 1, columns], k[keys, columns].T)
                weights, total = softmax(scores, scale, evaluate)
                out[row, columns] = chain(weights, v[keys, columns])[0] / total[0]
    return canonical(out)


WEIGHT = [F32(float.fromhex(c)) for c in ("0x1.c0dfb40p+3", "0x1.ee1c40p+5", "0x1.619304p+7")]


def attention_weights(x) -> np.ndarray:
    """rint(255 * 2**(x - max)) over the last axis, by one polynomial; 0 below -30 and for NaN."""
    x = f32(x)
    with np.errstate(invalid="ignore"):
        d = x - x.max(axis=-1, keepdims=True, initial=F32(-np.inf), where=~np.isnan(x))
    d = np.where(d > F32(-30), d, F32(-30)).astype(F32)
    count = np.rint(d)
    p = fma(fma(fma(WEIGHT[0], d - count, WEIGHT[1]), d - count, WEIGHT[2]), d - count, F32(255))
    return np.rint(np.ldexp(p, count.astype(int))).astype(np.int64)


def attention_8(q, k, v, starts: Sequence[int], heads: int, scale) -> np.ndarray:
    """The same as `attention` on codes: of q and k by token, of v by sequence and feature."""
    q, k, v = f32(q), f32(k), f32(v)
    dim = q.shape[1] // heads
    out = np.zeros(q.shape, F32)

    def codes(x, axis: int) -> tuple[np.ndarray, np.ndarray]:
        largest = np.abs(x).max(axis=axis, initial=0)
        scales = np.array([choose_qparams(-a, a, "int8", True)[0] for a in largest], F32)
        return quantize(x, np.expand_dims(scales, axis), 0, -127, 127), scales

    for begin, end in pairwise(starts):
        (qc, qs), (kc, ks), (vc, vs) = (codes(x[begin:end], axis) for x, axis in ((q, 1), (k, 1), (v, 0)))
        factor = (qs * F32(scale)) * F32(float.fromhex("0x1.715476p+0"))
        for head in range(heads):
            columns = slice(head * dim, (head + 1) * dim)
            scores = (f32(integer_product(qc[:, columns], kc[:, columns])) * ks) * factor[:, None]
            weights = attention_weights(scores)
            inverse = F32(1) / f32(weights.sum(axis=1))
            sums = f32(integer_product(weights, vc[:, columns].T))
            out[begin:end, columns] = (sums * vs[columns]) * inverse[:, None]
    return canonical(out)


def pool(x, starts: Sequence[int], how: str, normalize: bool) -> np.ndarray:
    x = f32(x)
    rows = []
    for begin, end in pairwise(starts):
        if how == "mean":
            row = np.zeros(x.shape[1], F32)
            for token in x[begin:end]:
                row = row + token
            row = row / F32(end - begin)
        else:
            row = {"cls": x[begin], "lasttoken": x[end - 1], "max": x[begin:end].max(axis=0)}[how]
        if normalize:
            row = row / np.maximum(np.sqrt(lanes_sum(row * row)), F32(1e-12))
        rows.append(row)
    return f32(rows).reshape(len(rows), x.shape[1])


def lsq(grad, x, scale, zero: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Straight-through gradient of x, and the elements whose sum by lanes is the gradient of the scale."""
    grad, v = f32(grad), f32(x) / F32(scale)
    code = np.rint(v) + F32(zero)
    inside = (code >= low) & (code <= high)
    slope = np.where(inside, np.rint(v) - v, np.where(code < low, F32(low) - F32(zero), F32(high) - F32(zero)))
    return np.where(inside, grad, F32(0)), grad * slope.astype(F32)
