"""Quantizing arrays and back: one value at a time. Products of what comes out are in products.py and matrices.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _core, dtypes, observers, qparams
from .arrays import (
    Array,
    Floats,
    Ints,
    Layout,
    as_real,
    axis_number,
    buffer_for,
    check_finite,
    check_out,
    choice,
    deliver,
    flag,
    granularity,
    layout,
    nonfinite_error,
    params_shape,
    shaped,
    to_float32,
)
from .dtypes import QType
from .errors import shown
from .qparams import Params, choose_qparams
from .qtensor import QTensor

__all__ = [
    "choose_qparams",
    "dequantize",
    "estimate_range",
    "fake_quantize",
    "fake_quantize_backward",
    "quantize",
    "quantize_dynamic",
]

GRIDS = ("affine", "interval")
_FLOAT32 = np.dtype(np.float32)
_LONGEST_RUN = 32768  # floats: a longer one is shared between threads, and read twice


class _Subject(NamedTuple):
    """An array to be quantized, and where its parameters change."""

    source: Array
    data: Floats
    axis: int | None
    group_size: int | None
    layout: Layout
    params_shape: tuple[int, ...]

    @classmethod
    def of(cls, x: object, axis: object, group_size: object, lent_axis: int | None = None) -> _Subject:
        source = as_real(x, "x")
        axis = _joint_axis(source.shape, axis, lent_axis)
        number, group = granularity(source.shape, axis, group_size)
        shape = source.shape
        where, params = layout(shape, number, group), params_shape(shape, number, group)
        return cls(source, to_float32(source), number, group, where, params)

    def refuse(self, bad: int) -> None:
        """Raises for the element `bad`, if there is one."""
        if bad >= 0:
            raise nonfinite_error("x", self.source, bad)


class _Codes(NamedTuple):
    """How codes are chosen: the bounds they are clamped to, and the parameters, flat."""

    lo: int
    hi: int
    scale: Floats
    zero: Ints | None


def quantize(
    x: object,
    dtype: object = "int8",
    *,
    axis: object = None,
    group_size: object = None,
    symmetric: object = None,
    observer: object = "minmax",
    scale: object = None,
    zero_point: object = None,
    grid: str = "affine",
    nonfinite: str = "raise",
    out: Array | None = None,
) -> QTensor:
    """Codes of `x` and the parameters they were made with.

    q = clamp(round_half_even(x / scale) + zero_point, qmin, qmax), with one scale for the tensor, for each index of
    `axis`, or for each `group_size` neighbours along the last axis (the last group may be short).

    x: real numbers of any shape; float64 and integers are rounded to float32 first.
    dtype: "int8", "uint8", "int16", "uint16", "int4", "uint4".
    symmetric: None means True for signed types.  Symmetric codes reach as far on either side of the zero point.
    observer: finds the range that the scale is made of; a name, or an observer, whose settings are used and which
        itself is left alone.
    scale, zero_point: used as they are, a scalar or one for each index or group; codes then span the whole type.
        Without a zero point it is 0, or 2**(bits - 1) of an unsigned type.
    grid: "interval" cuts [min, max] into 2**bits equal intervals and puts each value at its interval's midpoint.
    nonfinite: "saturate" gives NaN the code of 0 and infinities the ends of the finite values' range (of the type's
        codes where `scale` is given); "raise" is a ValueError with the first index.
    out: an array of the codes' dtype and x's shape, of any strides; it becomes `.values`.
    """
    if observer is _NAME and grid is _AFFINE and nonfinite is _RAISE and type(dtype) is str and dtype in _TYPES:
        direct = _core.quantize_direct(QTensor, x, _TYPES[dtype], axis, group_size, symmetric, scale, zero_point, out)
        if direct is not None:
            return direct
    qtype = dtypes.get(dtype)
    choice("grid", grid, GRIDS)
    choice("nonfinite", nonfinite, ("raise", "saturate"))
    watcher = _watcher(observer)
    subject = _Subject.of(x, axis, group_size, watcher.axis)
    check_out(out, subject.source.shape, qtype.storage)
    buffer = buffer_for(out, subject.source.shape, qtype.storage, subject.data)
    saturate = nonfinite == "saturate"
    if grid == "interval":
        _check_interval(scale, zero_point, symmetric, watcher)
        params = _quantize_interval(subject, qtype, saturate, buffer)
    elif scale is not None:
        _check_given(symmetric, zero_point, qtype, watcher)
        params = _quantize_given(subject, qtype, scale, zero_point, saturate, buffer)
    elif zero_point is not None:
        raise ValueError("zero_point needs a scale")
    else:
        use = qparams.symmetric_or_default(_joint_symmetric(symmetric, watcher.symmetric), qtype)
        params = _quantize_observed(subject, qtype, use, watcher, saturate, buffer)
    return QTensor._make(deliver(buffer, out), params, qtype, subject.axis, subject.group_size)


# A call's own time counts: the literals of defaults, and of most callers, are these objects.
_NAME, _AFFINE, _RAISE = "minmax", "affine", "raise"
_TYPES = dtypes.TYPES
_MINMAX = observers.MinMax()


def _watcher(observer: object) -> observers.Observer:
    """An observer for one array, of which nothing is asked but settings and `estimate`: min-max is made once."""
    return _MINMAX if type(observer) is str and observer == "minmax" else observers.resolve(observer)


# ---- the three ways to parameters --------------------------------------------------------------------------------


def _quantize_observed(
    subject: _Subject, qtype: QType, symmetric: bool, watcher: observers.Observer, saturate: bool, buffer: Array
) -> Params:
    by_definition = symmetric and qtype.signed
    if _is_minmax(watcher) and not saturate and in_short_runs(subject.layout):
        scale, zero, bad = _core.quantize_found(subject.data, subject.layout, qtype.name, symmetric, buffer)
        subject.refuse(bad)
    else:
        low, high, data = _observe(subject, watcher, saturate)
        scale, zero = _core.choose_qparams(low, high, qtype.name, symmetric)
        codes = _Codes(*qparams.code_bounds(qtype, symmetric), scale, None if by_definition else zero)
        _encode(subject, data, qtype, codes, buffer)
    shape = subject.params_shape
    zero_point = None if by_definition else shaped(zero.astype(qtype.storage), shape)
    return Params(shaped(scale, shape), zero_point)


def _quantize_given(
    subject: _Subject, qtype: QType, scale: object, zero_point: object, saturate: bool, buffer: Array
) -> Params:
    shape = subject.params_shape
    given = qparams.given_scale(scale, shape, positive=True)
    if zero_point is None:
        zero = qparams.default_zero_point(shape, qtype)
    else:
        zero = qparams.given_zero_point(zero_point, shape, qtype)
    codes = _Codes(qtype.min, qtype.max, qparams.flat_scale(given), qparams.flat_zeros(zero))
    finite = np.isfinite(subject.data) if saturate else None
    if finite is None or finite.all():
        _encode(subject, subject.data, qtype, codes, buffer)
    else:
        _encode(subject, np.where(finite, subject.data, np.float32(0)), qtype, codes, buffer)
        buffer[np.isposinf(subject.data)] = qtype.max
        buffer[np.isneginf(subject.data)] = qtype.min
    return Params(given, zero)


def _quantize_interval(subject: _Subject, qtype: QType, saturate: bool, buffer: Array) -> Params:
    low, high, bad = _core.range(subject.data, subject.layout)
    if not saturate:
        subject.refuse(bad)
    data = subject.data if bad < 0 else _saturated(subject, low, high)  # a NaN's 0 must not stretch the range
    try:
        scale, offset, constant = _core.interval_params(low, high, qtype.name)
    except ValueError as error:
        raise ValueError(f'x spans too wide a range for grid="interval": {error}') from None
    subject.refuse(_core.quantize_interval(data, subject.layout, qtype.name, low, scale, constant, buffer))
    shape = subject.params_shape
    return Params(shaped(scale, shape), None, shaped(offset, shape))


def in_short_runs(where: Layout) -> bool:
    """Whether each parameter has one run of elements, as rows and groups have, short enough to stay in a cache."""
    outer, _, inner, group = where
    length = group or inner
    return outer == 1 and 1 < length <= _LONGEST_RUN and inner % length == 0


def _encode(subject: _Subject, data: Floats, qtype: QType, codes: _Codes, buffer: Array) -> None:
    lo, hi, scale, zero = codes
    subject.refuse(_core.quantize(data, subject.layout, qtype.name, lo, hi, scale, zero, buffer))


def _observe(subject: _Subject, watcher: observers.Observer, saturate: bool) -> tuple[Floats, Floats, Floats]:
    """The range (flat) of what an observer sees in the array, and the array, saturated to it where asked for."""
    if not saturate:
        return (*watcher.estimate(subject.source, subject.data, subject.layout), subject.data)
    low, high, bad = _core.range(subject.data, subject.layout)
    data = subject.data if bad < 0 else _saturated(subject, low, high)
    return (*watcher.estimate(subject.source, data, subject.layout), data)


def _saturated(subject: _Subject, low: Floats, high: Floats) -> Floats:
    """The array with 0 for NaN and the ends of the finite values' ranges for infinities."""
    data = np.empty(subject.source.shape, np.float32)
    _core.replace_nonfinite(subject.data, subject.layout, low, high, data)
    return data


# ---- options that exclude each other -----------------------------------------------------------------------------


def _joint_axis(shape: tuple[int, ...], given: object, lent: int | None) -> object:
    """axis, or the one that an observer lends.  ValueError: they differ."""
    if given is None or lent is None:
        return lent if given is None else given
    if axis_number(shape, given) != axis_number(shape, lent):
        raise ValueError(f"axis is {shown(given)}, but the observer's is {lent}")
    return given


def _joint_symmetric(symmetric: object, lent: bool | None) -> bool | None:
    """The same for symmetric."""
    given = flag("symmetric", symmetric)
    if given is None or lent is None or given == lent:
        return lent if given is None else given
    raise ValueError(f"symmetric is {given}, but the observer's is {lent}")


def _is_minmax(watcher: observers.Observer) -> bool:
    return type(watcher) is observers.MinMax and watcher.symmetric is None


def _check_interval(scale: object, zero_point: object, symmetric: object, watcher: observers.Observer) -> None:
    for name, value in (("scale", scale), ("zero_point", zero_point), ("symmetric", symmetric)):
        if value is not None:
            raise ValueError(f'{name} must be None with grid="interval", got {shown(value)}')
    if not _is_minmax(watcher):
        raise ValueError(f'observer must be min-max with grid="interval", got {watcher!r}')


def _check_given(symmetric: object, zero_point: object, qtype: QType, watcher: observers.Observer) -> None:
    if not _is_minmax(watcher):
        raise ValueError(f"observer has no use where scale is given, got {watcher!r}")
    if flag("symmetric", symmetric) and zero_point is not None and np.any(np.asarray(zero_point) != qtype.middle):
        raise ValueError(f"zero_point must be {qtype.middle} where symmetric is True, got {shown(zero_point)}")


# ---- ranges ------------------------------------------------------------------------------------------------------


def estimate_range(
    x: object, *, axis: object = None, group_size: object = None, observer: object = "minmax"
) -> tuple[Any, Any]:
    """(min, max) of `x`, float32: scalars, one per index of `axis`, or one per group ([..., groups]).

    An empty range is 0, 0.  ValueError: NaN or an infinity, found in the same pass.
    """
    watcher = _watcher(observer)
    subject = _Subject.of(x, axis, group_size, watcher.axis)
    low, high = watcher.estimate(subject.source, subject.data, subject.layout)
    return shaped(low, subject.params_shape), shaped(high, subject.params_shape)


def quantize_dynamic(
    x: object,
    dtype: object = "uint8",
    *,
    symmetric: object = None,
    group_size: object = None,
    grid: str = "affine",
    out: Array | None = None,
) -> QTensor:
    """Each row of the last axis quantized by its own range, as a linear's activations are.

    A 2-D x gives axis=0 and scales [n]; any other shape one group per row, scales [..., 1].  group_size: that many
    neighbours of a row share a scale instead.  ValueError: a NaN or an infinity, an x of no axes.
    """
    matrix = type(x) is np.ndarray and x.ndim == 2
    if matrix and group_size is None and grid is _AFFINE and type(dtype) is str and dtype in _TYPES:
        direct = _core.quantize_direct(QTensor, x, _TYPES[dtype], 0, None, symmetric, None, None, out)
        if direct is not None:
            return direct
    source = x if type(x) is np.ndarray and x.dtype is _FLOAT32 else as_real(x, "x")
    if not source.ndim:
        raise ValueError("x must have at least one axis")
    if group_size is None and source.ndim == 2:
        return quantize(source, dtype, axis=0, symmetric=symmetric, grid=grid, out=out)
    if group_size is None:
        group_size = max(source.shape[-1], 1)
    return quantize(source, dtype, group_size=group_size, symmetric=symmetric, grid=grid, out=out)


# ---- and back ----------------------------------------------------------------------------------------------------


def dequantize(q: QTensor, *, out: Array | None = None) -> Floats:
    """q.dequantize(): float32, (values - zero_point) * scale, or values * scale + offset."""
    if not isinstance(q, QTensor):
        raise TypeError(f"q must be a QTensor, got {shown(type(q).__name__)}")
    return q.dequantize(out=out)


def fake_quantize(
    x: object,
    dtype: object = "int8",
    *,
    axis: object = None,
    group_size: object = None,
    symmetric: object = None,
    observer: object = "minmax",
    scale: object = None,
    zero_point: object = None,
    grid: str = "affine",
    nonfinite: str = "raise",
    out: Array | None = None,
) -> Floats:
    """What is left of `x` after quantize(x, ...).dequantize(), bit for bit: float32.  out: a float32 array."""
    source = as_real(x, "x")
    check_out(out, source.shape, _FLOAT32)
    q = quantize(
        source,
        dtype,
        axis=axis,
        group_size=group_size,
        symmetric=symmetric,
        observer=observer,
        scale=scale,
        zero_point=zero_point,
        grid=grid,
        nonfinite=nonfinite,
    )
    return q.dequantize(out=out)


def fake_quantize_backward(
    grad: object, x: object, dtype: object = "int8", *, scale: object, zero_point: object = 0, axis: object = None
) -> tuple[Floats, Any]:
    """The gradients of fake quantization with respect to x and to the scale, straight-through and LSQ.

    grad, x: the same shape.  grad_x (float32): grad where qmin <= round(x / scale) + zero_point <= qmax, else 0.
    grad_scale (float32, scale's shape): the sum of grad times round(x / scale) - x / scale inside, qmin - zero_point
    or qmax - zero_point outside.  Source: Esser et al., Learned step size quantization (arXiv 1902.08153), without
    its factor 1 / sqrt(N qmax).
    """
    qtype = dtypes.get(dtype)
    subject = _Subject.of(x, axis, None)
    incoming = _Subject.of(as_real(grad, "grad"), None, None)
    if incoming.source.shape != subject.source.shape:
        raise ValueError(f"grad must have x's shape {subject.source.shape}, got {incoming.source.shape}")
    for name, part in (("grad", incoming), ("x", subject)):
        check_finite(name, part.source, part.data)
    shape = subject.params_shape
    flat = qparams.flat_scale(qparams.given_scale(scale, shape, positive=True))
    zero = qparams.flat_zeros(qparams.given_zero_point(zero_point, shape, qtype))
    grad_x, grad_scale = _core.fake_quantize_backward(
        incoming.data, subject.data, subject.layout, qtype.name, flat, zero
    )
    with np.errstate(over="ignore"):
        return grad_x, shaped(grad_scale.astype(np.float32), shape)
