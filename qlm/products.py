"""The fused linear, and weights laid out for it. matmul is in matrices.py."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from . import _core, qparams
from .arrays import (
    Array,
    Floats,
    as_float32,
    as_float32_finite,
    as_real,
    buffer_for,
    check_out,
    choice,
    contiguous,
    deliver,
    integer,
    native,
    nonfinite_error,
    to_float32,
)
from .errors import UnsupportedError
from .ops import GRIDS, quantize_dynamic
from .qtensor import QTensor

__all__ = ["PackedWeight", "linear", "pack"]

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")
INPUTS = ("uint8", "int8", "int16", "float32")
_FLOAT32 = np.dtype(np.float32)


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

    def __copy__(self) -> PackedWeight:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedWeight:
        return self  # nothing of it changes but layouts that are added

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
    rows = row_params(weight)
    codes = contiguous(weight.values, native(weight.values))
    return _core.pack(codes, weight.dtype, rows.group, rows.scale, rows.zero, rows.offset)


# ---- parameters by row -------------------------------------------------------------------------------------------


class RowParams(NamedTuple):
    """Parameters of a QTensor seen as rows of its last axis: [1] for all, [rows, 1], or [rows, groups]."""

    scale: Floats
    zero: Any
    offset: Any
    group: int


def row_params(q: QTensor) -> RowParams:
    length = q.shape[-1]
    scale, zero, offset = qparams.flat_scale(q.scale), qparams.flat_zeros(q.zero_point), qparams.flat_offset(q.offset)
    if not length and q.group_size is not None:
        return RowParams(np.ones(1, np.float32), None, None, 0)  # no group, and no code that would need one
    if q.axis is None and q.group_size is None:
        return RowParams(scale, zero, offset, 0)
    group = 0
    if q.axis == q.ndim - 1:
        group = 1  # a scale for each index of the last axis
    elif q.group_size is not None and q.group_size < length:
        group = q.group_size
    return RowParams(_by_rows(q, scale), _by_rows(q, zero), _by_rows(q, offset), group)


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
    if group_size is None and grid is _AFFINE and type(input) is str:
        how = _PLAIN_INPUTS.get(input)
    else:
        how = _direct_input(input, group_size, grid)
    if how is not None:
        result = _core.linear_direct(x, how, packed._packed, bias, activation, residual, out)
        if result is not None:
            return result
    return _linear(x, packed, bias, input, group_size, grid, activation, residual, out)


def _direct_input(input: object, group_size: object, grid: object) -> _core.Input | None:
    """How _core.linear_direct takes real numbers; None where only the long way can say what is wrong."""
    if type(input) is not str or type(grid) is not str or input not in INPUTS or grid not in GRIDS:
        return None
    if group_size is not None and (type(group_size) is not int or not 1 <= group_size < 1 << 31):
        return None
    return _input_of_words(input, group_size, grid)


@lru_cache(maxsize=64)
def _input_of_words(input: str, group_size: int | None, grid: str) -> _core.Input | None:
    if input == "float32":
        return None if group_size is not None or grid != _AFFINE else _core.Input("float")
    return _dynamic_input(input, group_size or 0, grid)


def _dynamic_input(input: str, group: int, grid: str) -> _core.Input:
    signed, interval = not input.startswith("u"), grid == "interval"
    return _core.Input("dynamic", dtype=input, symmetric=signed and not interval, interval=interval, group=group)


# A call's own time counts: these are found faster than by all three words, and the literal of a default, or of most
# callers, is this object.
_AFFINE = "affine"
_PLAIN_INPUTS = {word: _input_of_words(word, None, _AFFINE) for word in INPUTS}


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
    params = row_params(x)
    _check_groups(params.group, packed)
    codes = contiguous(x.values, native(x.values))
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
    if not rows:
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
