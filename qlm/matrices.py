"""matmul: products of arrays and QTensors, batch axes included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from . import _core, qparams
from .arrays import Array, Floats, as_float32_finite, as_real, broadcast_shape, contiguous, native, to_float32
from .errors import UnsupportedError
from .ops import quantize_dynamic
from .products import PackedWeight, row_params
from .qtensor import QTensor

__all__ = ["matmul"]

_FLOAT32 = np.dtype(np.float32)

# The largest K at which no sum of products of two 8-bit types can leave int32: K * max|a * b| < 2**31.
_INT32_BOUND = {("int8", "int8"): 131_071, ("int8", "uint8"): 65_793, ("uint8", "uint8"): 33_025}
_CODES = frozenset({"int8", "uint8", "int16", "uint16"})


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
        rows = contiguous(left, native(a))
        _core.matmul_codes(rows, left_name, packed, wide, target)
    return out


def _code_name(argument: str, array: Array) -> str:
    """The name of the array's type; from its letter, since NumPy takes microseconds to make one."""
    name = f"{'int' if array.dtype.kind == 'i' else 'uint'}{8 * array.dtype.itemsize}"
    if name not in _CODES:
        raise TypeError(f"{argument} must hold int8, uint8, int16 or uint16 for an exact product, got {array.dtype}")
    return name


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
    """[k, n] as the C-contiguous native [n, k] that is packed.

    A few rows at a time, whose lines a cache holds until they are used up: at 4096 x 4096 some 3 times faster than
    NumPy's copy of the whole, in which no Ctrl-C would be seen. A copy of up to 64 rows is faster in one piece.
    """
    depth, columns = right.shape
    turned = np.empty((columns, depth), native(right))
    step = max(64 if depth <= 64 else 32, (1 << 14) // max(columns, 1))
    for first in range(0, depth, step):
        turned[:, first : first + step] = right[first : first + step].T
    return turned


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
    rows, columns = row_params(a), _columns(b, plan)
    parts = [_by_batch(part, plan, rows_of=True) for part in (rows.scale, rows.zero, rows.offset)]
    right_parts = [_by_batch(part, plan, rows_of=False) for part in columns]
    group = rows.group if rows.group < depth else 0
    indices = product(*map(range, plan.batch))
    for index, (left, right, target) in zip(indices, plan.matrices(a.values, b.values, out), strict=True):
        scale, zero, offset = (None if part is None else np.ascontiguousarray(part[index]) for part in parts)
        how = _core.Input("codes", dtype=a.dtype, group=group, scale=scale, zero=zero, offset=offset)
        scale, zero, offset = (None if part is None else np.ascontiguousarray(part[index]) for part in right_parts)
        packed = _core.pack(_transposed(right), b.dtype, 0, scale, zero, offset)
        _multiply(contiguous(left, native(left)), how, packed, target)
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
