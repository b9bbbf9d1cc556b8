"""QTensor: integer codes with the parameters that say which numbers they stand for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from . import _core, dtypes, qparams
from .arrays import (
    Array,
    Floats,
    as_real,
    buffer_for,
    check_out,
    contiguous,
    deliver,
    granularity,
    integer,
    layout,
    nonfinite_error,
    params_shape,
    place,
)
from .dtypes import QType
from .errors import shown

_FLOAT32 = np.dtype(np.float32)
_ERROR_ROWS = 1 << 20  # elements of float64 temporaries at a time


class ErrorStats(NamedTuple):
    """How far a tensor is from the floats it stands for; cosine is 1.0 and sqnr_db infinite where it is exact."""

    mse: float
    max_abs: float
    sqnr_db: float
    cosine: float


class QTensor(_core.TensorParts):
    """Codes and parameters: x = (values - zero_point) * scale, or values * scale + offset, in float32.

    Made by qlm.quantize, qlm.quantize_dynamic, QTensor.from_parts and qlm.tensors.

    values: int8, uint8, int16 or uint16, the tensor's shape (4-bit codes lie one to a byte).
    scale: float32 or float16; a scalar, [n] for `axis`, [..., groups] for `group_size`.
    zero_point: the codes' dtype and scale's shape; None with an offset, or where a signed type's is 0 by definition.
    offset: float32, scale's shape; None unless the grid has float offsets.
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError("a QTensor is made by qlm.quantize or QTensor.from_parts")

    @classmethod
    def _make(
        cls, values: Array, params: tuple[Any, Any, Any], qtype: QType, axis: int | None, group_size: int | None
    ) -> QTensor:
        """From parts that are known to fit; params: scale, zero point and offset."""
        self = object.__new__(cls)
        self._values, self._qtype, self._axis, self._group_size = values, qtype, axis, group_size
        self._scale, self._zero_point, self._offset = params
        return self

    @classmethod
    def from_parts(
        cls,
        values: object,
        scale: object,
        zero_point: object = None,
        *,
        offset: object = None,
        dtype: object,
        axis: object = None,
        group_size: object = None,
    ) -> QTensor:
        """A QTensor of codes and parameters that are there already.

        values: integers within the range of `dtype`, any shape.  scale: finite (0 and below are legal), a scalar, or
        one per index of `axis` or group of `group_size` of the last axis; float16 stays float16.  zero_point: integers
        within the range of `dtype`; without one and without an offset it is 0, or 2**(bits - 1) of an unsigned type.
        TypeError, ValueError: a part that does not fit, by name and index.
        """
        qtype = dtypes.get(dtype)
        codes = _given_values(values, qtype)
        axis_number, group = granularity(codes.shape, axis, group_size)
        shape = params_shape(codes.shape, axis_number, group)
        if offset is not None and zero_point is not None:
            raise ValueError("zero_point and offset exclude each other")
        parts = qparams.Params(
            qparams.given_scale(scale, shape, positive=False),
            qparams.given_zero_point(zero_point, shape, qtype) if zero_point is not None else None,
            qparams.given_offset(offset, shape) if offset is not None else None,
        )
        if zero_point is None and offset is None:
            parts = parts._replace(zero_point=qparams.default_zero_point(shape, qtype))
        return cls._make(codes, parts, qtype, axis_number, group)

    # ---- what it is ----------------------------------------------------------------------------------------------

    @property
    def values(self) -> Array:
        """The codes, in the tensor's shape."""
        return self._values

    @property
    def scale(self) -> Any:
        """float32 or float16: a scalar, [n] for `axis`, [..., groups] for `group_size`."""
        return self._scale

    @property
    def zero_point(self) -> Any:
        """The codes' dtype, scale's shape; None with an offset, or where a signed type's is 0 by definition."""
        return self._zero_point

    @property
    def offset(self) -> Any:
        """float32, scale's shape; None unless the grid has float offsets."""
        return self._offset

    @property
    def dtype(self) -> str:
        """The name of the codes' type: "int8", "uint4"."""
        return self._qtype.name

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self._qtype.bits

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._values.shape

    @property
    def ndim(self) -> int:
        """Its number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Its number of elements."""
        return math.prod(self.shape)

    @property
    def axis(self) -> int | None:
        """The axis whose indices have a scale each, from 0 up; None: no such axis."""
        return self._axis

    @property
    def group_size(self) -> int | None:
        """Neighbours along the last axis that share a scale; None: no groups."""
        return self._group_size

    @property
    def nbytes(self) -> int:
        """Bytes as stored: codes below 8 bits packed along the last axis, and the parameters."""
        parts = (self._scale, self._zero_point, self._offset)
        return packed_nbytes(self.shape, self.bits) + sum(int(part.nbytes) for part in parts if part is not None)

    # ---- the numbers it stands for -------------------------------------------------------------------------------

    def dequantize(self, *, out: Array | None = None) -> Floats:
        """float32, the tensor's shape: (values - zero_point) * scale, or values * scale + offset, no fused operation.

        out: a float32 array of that shape, of any strides.
        """
        direct = _core.dequantize_direct(
            self._values, self._axis, self._group_size, self._scale, self._zero_point, self._offset, out
        )
        return self._dequantize(out) if direct is None else direct

    def _dequantize(self, out: Array | None) -> Floats:
        """The same of any arrays."""
        check_out(out, self.shape, _FLOAT32)
        codes = contiguous(self._values, self._qtype.storage)
        scale, zero, offset = (
            qparams.flat_scale(self._scale),
            qparams.flat_zeros(self._zero_point),
            qparams.flat_offset(self._offset),
        )
        buffer = buffer_for(out, self.shape, _FLOAT32, codes, scale, zero, offset)
        _core.dequantize(codes, layout(self.shape, self._axis, self._group_size), scale, zero, offset, buffer)
        return deliver(buffer, out)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a QTensor has no floats to share: they are computed, so copy=False is not possible")
        floats = self.dequantize()
        return floats if dtype is None else floats.astype(dtype, copy=False)

    def error(self, x: object) -> ErrorStats:
        """How far this tensor is from `x`, an array of the same shape; figures in float64."""
        source = as_real(x, "x")
        if source.shape != self.shape:
            raise ValueError(f"x must have the shape {self.shape}, got {source.shape}")
        return _error_stats(source, self.dequantize())

    # ---- protocols -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a QTensor of no axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[QTensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, rows: object) -> QTensor:
        """Rows, by an int (which drops the first axis), a slice, a 1-D array of ints or a mask."""
        if not self.shape:
            raise IndexError("a QTensor of no axes has no rows")
        return _take_rows(self, _row_index(rows, self.shape[0]))

    def __eq__(self, other: object) -> bool:
        """One bool: the same type, shape and granularity, and every code and parameter the same to the bit."""
        if isinstance(other, QTensor):
            return self._key() == other._key() and all(
                _same(a, b) for a, b in zip(self._parts(), other._parts(), strict=True)
            )
        return False if isinstance(other, np.ndarray) else NotImplemented

    def _key(self) -> tuple[object, ...]:
        return self._qtype.name, self.shape, self._axis, self._group_size

    def _parts(self) -> tuple[Any, ...]:
        return self._values, self._scale, self._zero_point, self._offset

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (*self._parts(), self._qtype.name, self._axis, self._group_size)

    def copy(self) -> QTensor:
        """A QTensor that shares no memory with this one."""
        parts = (None if part is None else part.copy() for part in self._parts()[1:])
        return self._make(self._values.copy(), qparams.Params(*parts), self._qtype, self._axis, self._group_size)

    def __copy__(self) -> QTensor:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> QTensor:
        return self.copy()

    def __repr__(self) -> str:
        words = [self.dtype, f"shape={self.shape}"]
        words += [f"axis={self._axis}"] if self._axis is not None else []
        words += [f"group_size={self._group_size}"] if self._group_size is not None else []
        words += [f"{name}={_summary(part)}" for name, part in self._named_parts()]
        return f"QTensor({', '.join(words)})"

    def _named_parts(self) -> list[tuple[str, Any]]:
        named = (("scale", self._scale), ("zero_point", self._zero_point), ("offset", self._offset))
        return [(name, part) for name, part in named if part is not None]

    def _repr_html_(self) -> str:
        from . import views  # for notebooks alone

        floats = 4 * self.size
        rows: list[tuple[object, object]] = [
            ("shape", " × ".join(map(str, self.shape)) or "scalar"),
            ("scales", self._granularity()),
            ("bytes", f"{views.size(self.nbytes)} of {views.size(floats)} as float32"),
            ("codes", _summary(self._values)),
            *((name, _summary(part)) for name, part in self._named_parts()),
        ]
        table = views.html_table((), rows, caption=f"QTensor {self.dtype}", align=("left", "left"))
        return table + _preview(self)

    def _granularity(self) -> str:
        if self._axis is not None:
            return f"one per index of axis {self._axis}"
        return "one" if self._group_size is None else f"one per group of {self._group_size} of the last axis"


def packed_nbytes(shape: tuple[int, ...], bits: int) -> int:
    """Bytes of codes as stored: below 8 bits each row of the last axis is packed and padded to a byte."""
    if not shape:
        return -(-bits // 8)
    return math.prod(shape[:-1]) * -(-shape[-1] * bits // 8)


def _rebuild(
    values: Array, scale: Any, zero_point: Any, offset: Any, dtype: str, axis: int | None, group_size: int | None
) -> QTensor:
    params = qparams.Params(scale, zero_point, offset)
    return QTensor._make(values, params, dtypes.TYPES[dtype], axis, group_size)


def _given_values(values: object, qtype: QType) -> Array:
    source = as_real(values, "values")
    if source.dtype.kind not in "iu" and source.dtype.name not in ("int4", "uint4"):
        raise TypeError(f"values must hold integers, got {source.dtype}")
    if source.dtype == qtype.storage and qtype.bits == 8 * source.dtype.itemsize:
        return source.astype(qtype.storage, copy=False, subok=False)
    bad = (source < qtype.min) | (source > qtype.max)
    if bad.any():
        index = place(int(np.argmax(bad)), source.shape)
        raise ValueError(
            f"values must be within {qtype.min}..{qtype.max} for {qtype.name}, "
            f"got {int(source[index])}" + (f" at index {index}" if index else "")
        )
    return source.astype(qtype.storage, copy=False, subok=False)


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


# ---- rows --------------------------------------------------------------------------------------------------------


def _row_index(rows: object, count: int) -> Any:
    """An int within range, a slice, or an array of ints or bools that selects rows."""
    if isinstance(rows, slice):
        return rows
    if isinstance(rows, (list, np.ndarray)):
        index = np.asarray(rows)
        if index.ndim == 1 and (index.dtype.kind in "iu" or not index.size):
            return index.astype(np.intp)
        if index.ndim == 1 and index.dtype == np.bool_:
            return index
        if index.ndim or index.dtype.kind not in "iu":
            raise TypeError(f"rows must be an int, a slice, or a 1-D array of ints or bools, got {shown(rows)}")
        rows = int(index)
    number = integer("rows", rows)
    if not -count <= number < count:
        raise IndexError(f"row {number} is out of range for {count} rows")
    return number % count


def _take_rows(q: QTensor, index: Any) -> QTensor:
    axis, group = q.axis, q.group_size
    parts = [q.scale, q.zero_point, q.offset]
    if group is not None and q.ndim == 1:
        # groups along the rows themselves: each element brings its group's parameters along
        parts = [None if part is None else np.repeat(part, min(group, len(q)))[: len(q)] for part in parts]
        axis, group = 0, None
    if axis == 0 or group is not None:
        parts = [None if part is None else part[index] for part in parts]
    if isinstance(index, int) and axis is not None:
        axis = axis - 1 if axis else None
    return QTensor._make(q.values[index, ...], qparams.Params(*parts), dtypes.TYPES[q.dtype], axis, group)


# ---- figures -----------------------------------------------------------------------------------------------------


def _error_stats(source: Array, floats: Floats) -> ErrorStats:
    """Sums in float64, piece by piece: reports, not results, so their order is free."""
    exact, given = source.reshape(-1), floats.reshape(-1)
    squares = products = ours = theirs = worst = 0.0
    for begin in range(0, exact.size, _ERROR_ROWS):
        x = exact[begin : begin + _ERROR_ROWS].astype(np.float64)
        y = given[begin : begin + _ERROR_ROWS].astype(np.float64)
        if not np.isfinite(x).all():
            raise nonfinite_error("x", source, begin + int(np.argmin(np.isfinite(x))))
        difference = np.abs(x - y)
        worst = max(worst, float(difference.max()))
        squares += float((difference * difference).sum())
        products += float((x * y).sum())
        theirs += float((x * x).sum())
        ours += float((y * y).sum())
    cosine = 1.0 if worst == 0 else _cosine(products, theirs, ours)  # rounding would leave equals short of 1
    return ErrorStats(squares / max(exact.size, 1), worst, _decibels(theirs, squares), cosine)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _cosine(product: float, a: float, b: float) -> float:
    if a == 0 or b == 0:
        return 1.0 if a == b else 0.0
    return min(1.0, max(-1.0, product / (math.sqrt(a) * math.sqrt(b))))


def _summary(part: Any) -> str:
    """A number, or the span of an array's numbers."""
    array = np.asarray(part)
    if not array.size:
        return "none"
    low, high = array.min(), array.max()
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"


_PREVIEW = 6


def _preview(q: QTensor) -> str:
    """The first rows and columns, as codes over the numbers they stand for."""
    from . import views

    if not q.ndim or not q.size:
        return ""
    corner = q[:_PREVIEW]
    while corner.ndim > 2:
        corner = corner[0]
    codes, floats = np.atleast_2d(corner.values), np.atleast_2d(corner.dequantize())
    rows = [
        [f"{code} → {value:.4g}" for code, value in zip(row[:_PREVIEW], numbers[:_PREVIEW], strict=True)]
        for row, numbers in zip(codes[:_PREVIEW], floats[:_PREVIEW], strict=True)
    ]
    return views.html_table((), rows, caption="first codes → numbers", align=("right",) * _PREVIEW)
