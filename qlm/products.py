"""Products: matmul of arrays and QTensors, the fused linear, and weights laid out for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from . import _core, qparams
from .arrays import (
    Array,
    Floats,
    as_float32,
    as_float32_finite,
    as_real,
    broadcast_shape,
    buffer_for,
    check_out,
    choice,
    contiguous,
    deliver,
    integer,
    nonfinite_error,
    to_float32,
)
from .errors import UnsupportedError
from .ops import GRIDS, quantize_dynamic
from .qtensor import QTensor

__all__ = ["PackedWeight", "linear", "matmul", "pack"]

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")
INPUTS = ("uint8", "int8", "int16", "float32")
_FLOAT32 = np.dtype(np.float32)

# The largest K at which no sum of products of two 8-bit types can leave int32: K * max|a * b| < 2**31.
_INT32_BOUND = {("int8", "int8"): 131_071, ("int8", "uint8"): 65_793, ("uint8", "uint8"): 33_025}
_CODES = frozenset({"int8", "uint8", "int16", "uint16"})


class PackedWeight:
    """A linear's weight [out, in], laid out once for this CPU's fastest kernel; made by qlm.pack."""

    __slots__ = ("_nonfinite", "_packed")
    _packed: _core.PackedWeight
    _nonfinite: ValueError | None  # why only a float product takes these weights

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError("a PackedWeight is made by qlm.pack")

    @classmethod
    def _make(cls, packed: _core.PackedWeight, nonfinite: ValueError | None = None) -> PackedWeight:
        self = object.__new__(cls)
        self._packed, self._nonfinite = packed, nonfinite
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        rows, columns = self._packed.shape
        return rows, columns

    @property
    def nbytes(self) -> int:
        """Bytes in memory: padding, and the layouts that inputs asked for since (int16, finer groups)."""
        return self._packed.nbytes

    @property
    def dtype(self) -> str:
        """The codes' type, or "float32"."""
        return self._packed.dtype

    def __repr__(self) -> str:
        return f"PackedWeight({self.dtype}, shape={self.shape}, nbytes={self.nbytes})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a PackedWeight belongs to this CPU: keep the QTensor, and pack it where it is used")


def pack(weight: object) -> PackedWeight:
    """`weight` [out, in], a QTensor or a float array, laid out for `linear`; a PackedWeight is returned as it is."""
    if isinstance(weight, PackedWeight):
        return weight
    if isinstance(weight, QTensor):
        return PackedWeight._make(_pack_codes(weight))
    source = as_real(weight, "weight")
    if source.ndim != 2:
        raise ValueError(f"weight must be [out, in], got the shape {source.shape}")
    data = to_float32(source)
    bad = _core.first_bad(data)
    nonfinite = nonfinite_error("weight", source, bad) if bad >= 0 else None
    return PackedWeight._make(_core.pack(data, None, 0, None, None, None), nonfinite)


def _pack_codes(weight: QTensor) -> _core.PackedWeight:
    if weight.ndim != 2:
        raise ValueError(f"weight must be [out, in], got the shape {weight.shape}")
    rows = _row_params(weight)
    codes = contiguous(weight.values, _native(weight.values))
    return _core.pack(codes, weight.dtype, rows.group, rows.scale, rows.zero, rows.offset)


# ---- parameters by row -------------------------------------------------------------------------------------------


class _RowParams(NamedTuple):
    """Parameters of a QTensor seen as rows of its last axis: [1] for all, [rows, 1], or [rows, groups]."""

    scale: Floats
    zero: Any
    offset: Any
    group: int


def _row_params(q: QTensor) -> _RowParams:
    length = q.shape[-1]
    scale, zero, offset = qparams.flat_scale(q.scale), qparams.flat_zeros(q.zero_point), qparams.flat_offset(q.offset)
    if not length and q.group_size is not None:
        return _RowParams(np.ones(1, np.float32), None, None, 0)  # no group, and no code that would need one
    if q.axis is None and q.group_size is None:
        return _RowParams(scale, zero, offset, 0)
    group = 0
    if q.axis == q.ndim - 1:
        group = 1  # a scale for each index of the last axis
    elif q.group_size is not None and q.group_size < length:
        group = q.group_size
    return _RowParams(_by_rows(q, scale), _by_rows(q, zero), _by_rows(q, offset), group)


def _by_rows(q: QTensor, params: Any) -> Any:
    """Flat parameters of an axis or of groups as [rows, groups]."""
    rows = math.prod(q.shape[:-1])
    if params is None or q.axis is None:
        return None if params is None else params.reshape(rows, -1 if rows else 1)
    if q.axis == q.ndim - 1:
        return np.ascontiguousarray(np.broadcast_to(params, (rows, q.shape[-1])))
    along = params.reshape([-1 if i == q.axis else 1 for i in range(q.ndim - 1)])
    return np.ascontiguousarray(np.broadcast_to(along, q.shape[:-1])).reshape(rows, 1)


# ---- linear ------------------------------------------------------------------------------------------------------


def linear(
    x: object,
    weight: object,
    bias: object = None,
    *,
    input: str = "uint8",
    group_size: object = None,
    grid: str = "affine",
    activation: str | None = None,
    residual: object = None,
    out: Array | None = None,
) -> Floats:
    """activation(x @ weight.T + bias) + residual, float32 [..., out_features].

    x: [..., in_features].  Real numbers are quantized row by row to `input` ("uint8", "int8", "int16"), as
    quantize_dynamic does (NaN and infinities raise), or stay float32 (input="float32": weight-only; NaN and infinities
    propagate).  A QTensor is used as it is.
    weight: [out_features, in_features]: a QTensor, a float array, or either from `pack`; the result is the same.  With
    float weights the product runs over the floats that the quantized rows stand for.
    bias: [out_features].  residual: anything that broadcasts to the result.
    group_size: of the activations; with a weight in groups too, either must divide the other.
    grid: "affine" or "interval", of the activations.
    activation: None, "relu", "gelu" (erf), "gelu_tanh", "silu".
    out: a float32 array of the result's shape, of any strides.
    """
    packed = weight if type(weight) is PackedWeight else pack(weight)
    if activation is not None:
        choice("activation", activation, ACTIVATIONS)
    if type(input) is str and type(grid) is str and (group_size is None or type(group_size) is int):
        how = _direct_input(input, group_size, grid, packed._nonfinite is None)
        if how is not None:
            result = _core.linear_direct(x, how, packed._packed, bias, activation, residual, out)
            if result is not None:
                return result
    return _linear(x, packed, bias, input, group_size, grid, activation, residual, out)


@lru_cache(maxsize=64)
def _direct_input(input: str, group_size: int | None, grid: str, finite: bool) -> _core.Input | None:
    """How _core.linear_direct takes real numbers; None where only the long way can say what is wrong."""
    if input not in INPUTS or grid not in GRIDS:
        return None
    if input == "float32":
        return None if group_size is not None or grid != "affine" else _core.Input("float")
    if not finite or (group_size is not None and not 1 <= group_size < 1 << 31):
        return None
    return _dynamic_input(input, group_size or 0, grid)


def _dynamic_input(input: str, group: int, grid: str) -> _core.Input:
    signed, interval = not input.startswith("u"), grid == "interval"
    return _core.Input("dynamic", dtype=input, symmetric=signed and not interval, interval=interval, group=group)


def _linear(
    x: object,
    packed: PackedWeight,
    bias: object,
    input: str,
    group_size: object,
    grid: str,
    activation: str | None,
    residual: object,
    out: Array | None,
) -> Floats:
    """linear of what is not plain, or wrong: the arrays are converted, or named."""
    choice("input", input, INPUTS)
    choice("grid", grid, GRIDS)
    feed = _feed(x, packed, input, group_size, grid)
    shape = (*feed.shape[:-1], packed.shape[0])
    any_number = feed.kind == "float" and input == "float32"
    if packed._nonfinite is not None and not any_number:
        raise ValueError(*packed._nonfinite.args)
    bias_data = None if bias is None else _vector("bias", bias, packed.shape[0], any_number)
    residual_data = None if residual is None else _addend(residual, shape, any_number)
    check_out(out, shape, _FLOAT32)
    buffer = buffer_for(out, shape, _FLOAT32, feed.rows, residual_data, bias_data)
    _run(feed, packed, bias_data, activation, residual_data, buffer)
    return deliver(buffer, out)


class _Feed(NamedTuple):
    """The left side of a linear: rows [m, k] and how the C core is to take them."""

    kind: str
    rows: Array
    how: _core.Input
    source: Array
    shape: tuple[int, ...]


def _feed(x: object, packed: PackedWeight, input: str, group_size: object, grid: str) -> _Feed:
    if isinstance(x, QTensor):
        if group_size is not None or grid != "affine":
            raise ValueError("group_size and grid must be left out where x is a QTensor, which has its own")
        _check_features(x.shape, packed)
        return _float_feed(x.dequantize(), packed) if packed.dtype == "float32" else _code_feed(x, packed)
    source = as_real(x, "x")
    _check_features(source.shape, packed)
    if input == "float32":
        if group_size is not None or grid != "affine":
            raise ValueError('group_size and grid must be left out with input="float32"')
        return _float_feed(source, packed)
    group = _activation_group(group_size, packed)
    if packed.dtype == "float32":
        return _float_feed(quantize_dynamic(source, input, group_size=group or None, grid=grid).dequantize(), packed)
    rows = to_float32(source).reshape(_rows(source.shape), packed.shape[1])
    return _Feed("dynamic", rows, _dynamic_input(input, group, grid), source, source.shape)


def _float_feed(source: Array, packed: PackedWeight) -> _Feed:
    rows = to_float32(source).reshape(_rows(source.shape), packed.shape[1])
    return _Feed("float", rows, _core.Input("float"), source, source.shape)


def _code_feed(x: QTensor, packed: PackedWeight) -> _Feed:
    params = _row_params(x)
    _check_groups(params.group, packed)
    codes = contiguous(x.values, _native(x.values))
    how = _core.Input(
        "codes", dtype=x.dtype, group=params.group, scale=params.scale, zero=params.zero, offset=params.offset
    )
    return _Feed("codes", codes.reshape(_rows(x.shape), packed.shape[1]), how, x.values, x.shape)


def _rows(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1])


def _check_features(shape: tuple[int, ...], packed: PackedWeight) -> None:
    if not shape or shape[-1] != packed.shape[1]:
        raise ValueError(
            f"x must have {packed.shape[1]} features in its last axis, as weight {packed.shape}, got the shape {shape}"
        )


def _activation_group(group_size: object, packed: PackedWeight) -> int:
    """0 where a group holds the whole row."""
    if group_size is None:
        return 0
    group = integer("group_size", group_size)
    if group < 1:
        raise ValueError(f"group_size must be at least 1, got {group}")
    group = group if group < packed.shape[1] else 0
    _check_groups(group, packed)
    return group


def _check_groups(group: int, packed: PackedWeight) -> None:
    other = packed._packed.group_size
    if not group or not other or other >= packed.shape[1]:
        return
    if max(group, other) % min(group, other):
        raise ValueError(f"group_size {group} of the activations and {other} of the weight: one must divide the other")


def _vector(name: str, value: object, count: int, any_number: bool) -> Floats:
    data = as_float32(value, name) if any_number else as_float32_finite(value, name)
    if data.shape != (count,):
        raise ValueError(f"{name} must have the shape ({count},), got {data.shape}")
    return data


def _addend(residual: object, shape: tuple[int, ...], any_number: bool) -> Floats:
    data = as_float32(residual, "residual") if any_number else as_float32_finite(residual, "residual")
    try:
        return np.ascontiguousarray(np.broadcast_to(data, shape)).reshape(shape)
    except ValueError:
        raise ValueError(f"residual must broadcast to {shape}, got the shape {data.shape}") from None


def _run(
    feed: _Feed, packed: PackedWeight, bias: Floats | None, activation: str | None, residual: Floats | None, out: Array
) -> None:
    rows, columns = len(feed.rows), packed.shape[0]
    if not out.size:
        return
    target = out.reshape(rows, columns)
    addend = None if residual is None else residual.reshape(rows, columns)
    try:
        _core.linear(feed.rows, feed.how, (packed._packed,), (bias,), activation, (addend,), (target,))
    except _core.NonFinite as error:
        raise nonfinite_error("x", feed.source, error.args[0]) from None
    except ValueError as error:
        raise ValueError(f"x: {error}") from None
    except NotImplementedError as error:
        raise UnsupportedError(f"linear: {error}") from None


# ---- matmul ------------------------------------------------------------------------------------------------------


def matmul(a: object, b: object) -> Array:
    """a @ b by NumPy's shape rules, batch axes included.

    Codes (int8, uint8, int16, uint16) times codes: the exact integer product, int32 of two 8-bit types up to the K at
    which it could overflow (131071 for int8 x int8, 65793 for int8 x uint8, 33025 for uint8 x uint8), else int64.
    Numbers times numbers: float32, one chain of fused multiply-adds in ascending k per element.
    QTensor times QTensor: float32, from the exact integer product.  Numbers times a QTensor: `a` goes through
    quantize_dynamic first.  ValueError: shapes that do not match, a scale or zero point that varies along K (groups of
    `a` excepted), NaN and infinities that would have to be quantized.
    """
    if isinstance(b, QTensor):
        return _quantized_product(a if isinstance(a, QTensor) else _quantized_rows(a, b), b)
    if isinstance(a, QTensor):
        raise TypeError("b must be a QTensor where a is one: quantize b, or dequantize a")
    return _array_product(as_real(_not_packed("a", a), "a"), as_real(_not_packed("b", b), "b"))


def _array_product(a: Array, b: Array) -> Array:
    plan = _Plan.of(a.shape, b.shape)
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        return _integer_product(a, b, plan)
    return _float_product(to_float32(a), to_float32(b), plan)


def _quantized_rows(a: object, b: QTensor) -> QTensor:
    """`a` as the left side of a product with `b`, its rows quantized; errors name it."""
    source = as_real(_not_packed("a", a), "a")
    _Plan.of(source.shape, b.shape)
    try:
        return quantize_dynamic(source)
    except ValueError:
        as_float32_finite(source, "a")
        raise


def _not_packed(name: str, value: object) -> object:
    if isinstance(value, PackedWeight):
        raise TypeError(f"{name} must be an array or a QTensor; a PackedWeight goes into qlm.linear")
    return value


class _Plan(NamedTuple):
    """A product cut into matrices: [m, k] @ [k, n] for every index of `batch`."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    batch: tuple[int, ...]
    result: tuple[int, ...]

    @classmethod
    def of(cls, a: tuple[int, ...], b: tuple[int, ...]) -> _Plan:
        if not a or not b:
            raise ValueError(f"a and b must have at least one axis, got the shapes {a} and {b}")
        left = a if len(a) > 1 else (1, *a)
        right = b if len(b) > 1 else (*b, 1)
        if left[-1] != right[-2]:
            raise ValueError(f"a and b do not match: shapes {a} and {b} have {left[-1]} and {right[-2]} along K")
        try:
            batch = broadcast_shape(left[:-2], right[:-2])
        except ValueError:
            raise ValueError(f"a and b do not match: the batch axes of {a} and {b}") from None
        if len(right) == 2 and len(left) > 2:  # one right side for all: the batch is more rows
            return cls((math.prod(left[:-1]), left[-1]), right, (), _result(a, b, batch))
        return cls(left, right, batch, _result(a, b, batch))

    def matrices(self, a: Array, b: Array, out: Array) -> Iterator[tuple[Array, Array, Array]]:
        """Views of a [m, k], b [k, n] and out [m, n], matrix by matrix."""
        rows, columns = self.left[-2], self.right[-1]
        if not self.batch:
            yield a.reshape(self.left), b.reshape(self.right), out.reshape(rows, columns)
            return
        left = np.broadcast_to(a.reshape(self.left), (*self.batch, *self.left[-2:]))
        right = np.broadcast_to(b.reshape(self.right), (*self.batch, *self.right[-2:]))
        target = out.reshape(*self.batch, rows, columns)
        for index in product(*map(range, self.batch)):
            yield left[index], right[index], target[index]


def _result(a: tuple[int, ...], b: tuple[int, ...], batch: tuple[int, ...]) -> tuple[int, ...]:
    return (*batch, *(a[-2:-1] if len(a) > 1 else ()), *(b[-1:] if len(b) > 1 else ()))


def _integer_product(a: Array, b: Array, plan: _Plan) -> Array:
    left_name, right_name = _code_name("a", a), _code_name("b", b)
    wide = plan.left[-1] > _INT32_BOUND.get((min(left_name, right_name), max(left_name, right_name)), -1)
    out = np.zeros(plan.result, np.int64 if wide else np.int32)
    if not out.size or not plan.left[-1]:
        return out
    for left, right, target in plan.matrices(a, b, out):
        packed = _core.pack(_transposed(right), right_name, 0, None, None, None)
        rows = contiguous(left, _native(a))
        _core.matmul_codes(rows, left_name, packed, wide, target)
    return out


def _code_name(argument: str, array: Array) -> str:
    """The name of the array's type; from its letter, since NumPy takes microseconds to make one."""
    name = f"{'int' if array.dtype.kind == 'i' else 'uint'}{8 * array.dtype.itemsize}"
    if name not in _CODES:
        raise TypeError(f"{argument} must hold int8, uint8, int16 or uint16 for an exact product, got {array.dtype}")
    return name


def _native(array: Array) -> np.dtype[Any]:
    return array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")


def _float_product(a: Floats, b: Floats, plan: _Plan) -> Floats:
    out = np.zeros(plan.result, np.float32)
    if not out.size or not plan.left[-1]:
        return out
    how = _core.Input("float")
    for left, right, target in plan.matrices(a, b, out):
        packed = _core.pack(_transposed(right), None, 0, None, None, None)
        _core.linear(contiguous(left, _FLOAT32), how, (packed,), (None,), None, (None,), (target,))
    return out


def _transposed(right: Array) -> Array:
    """[k, n] as the C-contiguous native [n, k] that is packed."""
    return np.ascontiguousarray(right.T, _native(right))


# ---- products of QTensors ----------------------------------------------------------------------------------------


class _Columns(NamedTuple):
    """Parameters of the right side, one for each column: [*batch, n] views."""

    scale: Array
    zero: Array | None
    offset: Array | None


def _quantized_product(a: QTensor, b: QTensor) -> Floats:
    plan = _Plan.of(a.shape, b.shape)
    if a.axis == a.ndim - 1 and a.shape[-1] != 1:
        raise ValueError(_varies("a", a, f"axis {a.axis}"))
    depth = plan.left[-1]
    _check_columns(b, depth)
    out = np.zeros(plan.result, np.float32)
    if not out.size or not depth:
        return out
    rows, columns = _row_params(a), _columns(b, plan)
    parts = [_by_batch(part, plan, rows_of=True) for part in (rows.scale, rows.zero, rows.offset)]
    right_parts = [_by_batch(part, plan, rows_of=False) for part in columns]
    group = rows.group if rows.group < depth else 0
    indices = product(*map(range, plan.batch))
    for index, (left, right, target) in zip(indices, plan.matrices(a.values, b.values, out), strict=True):
        scale, zero, offset = (None if part is None else np.ascontiguousarray(part[index]) for part in parts)
        how = _core.Input("codes", dtype=a.dtype, group=group, scale=scale, zero=zero, offset=offset)
        scale, zero, offset = (None if part is None else np.ascontiguousarray(part[index]) for part in right_parts)
        packed = _core.pack(_transposed(right), b.dtype, 0, scale, zero, offset)
        _multiply(contiguous(left, _native(left)), how, packed, target)
    return out


def _multiply(rows: Array, how: _core.Input, packed: _core.PackedWeight, target: Array) -> None:
    try:
        _core.linear(rows, how, (packed,), (None,), None, (None,), (target,))
    except NotImplementedError as error:
        raise UnsupportedError(f"matmul: {error}") from None


def _by_batch(params: Any, plan: _Plan, *, rows_of: bool) -> Any:
    """Parameters that can be indexed by a batch index: [*batch, m, groups] of rows, [*batch, n] of columns."""
    if params is None or not plan.batch:
        return params  # of rows as they are; of columns one for all, or one for each
    if rows_of and params.ndim == 1:  # one for the whole tensor
        return np.broadcast_to(params, (*plan.batch, 1))
    if rows_of:
        shape = (*plan.left[:-1], params.shape[-1])
        return np.broadcast_to(params.reshape(shape), (*plan.batch, *shape[-2:]))
    return np.broadcast_to(params, (*plan.batch, plan.right[-1]))


def _check_columns(b: QTensor, depth: int) -> None:
    """ValueError: a parameter that varies along K."""
    k_axis = max(b.ndim - 2, 0)
    if depth != 1 and b.axis == k_axis:
        raise ValueError(_varies("b", b, f"axis {b.axis}"))
    if b.group_size is not None and (depth != 1 if b.ndim > 1 else b.group_size < depth):
        raise ValueError(_varies("b", b, f"axis {k_axis}, in groups of {b.group_size} along the last axis,"))


def _columns(b: QTensor, plan: _Plan) -> _Columns:
    zero, offset = qparams.flat_zeros(b.zero_point), qparams.flat_offset(b.offset)
    return _Columns(
        _spread_columns(qparams.flat_scale(b.scale), b, plan),
        None if zero is None else _spread_columns(zero, b, plan),
        None if offset is None else _spread_columns(offset, b, plan),
    )


def _spread_columns(flat: Array, b: QTensor, plan: _Plan) -> Array:
    """Flat parameters as [*batch of b, n]."""
    if b.axis is not None:
        shape = [1] * len(plan.right)
        shape[b.axis] = flat.size
        return flat.reshape(shape)[..., 0, :]
    if b.group_size is None:
        return np.broadcast_to(flat, plan.right[-1:])
    if b.ndim == 1:
        return flat
    columns = b.shape[-1]
    groups = flat.reshape(*b.shape[:-1], -1)
    return np.repeat(groups, min(b.group_size, columns), axis=-1)[..., 0, :columns]


def _varies(name: str, q: QTensor, what: str) -> str:
    return (
        f"{name} has a scale for each index of {what} which the product sums over; qlm.linear takes such a "
        f"QTensor (as its weight, [out, in]), matmul does not"
    )
