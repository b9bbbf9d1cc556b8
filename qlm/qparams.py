"""Scales, zero points and offsets: checking those that a caller gives, choosing those of a range."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _core, dtypes
from .arrays import (
    Array,
    Floats,
    Ints,
    as_real,
    broadcast_shape,
    check_finite,
    flag,
    place,
    shaped,
    to_float32,
)
from .dtypes import QType
from .errors import shown


class Params(NamedTuple):
    """The parameters of a tensor in their final shape; zero_point and offset exclude each other."""

    scale: Any
    zero_point: Any = None
    offset: Any = None


def symmetric_or_default(symmetric: object, qtype: QType) -> bool:
    """symmetric=None: True for signed types, False for unsigned ones."""
    given = flag("symmetric", symmetric)
    return qtype.signed if given is None else given


def code_bounds(qtype: QType, symmetric: bool) -> tuple[int, int]:
    """The least and greatest code: those of a symmetric range reach as far on either side of the zero point."""
    if not symmetric:
        return qtype.min, qtype.max
    reach = (1 << (qtype.bits - 1)) - 1
    return qtype.middle - reach, qtype.middle + reach


def choose_qparams(min: object, max: object, dtype: object = "int8", *, symmetric: object = None) -> tuple[Any, Any]:
    """The scale (float32) and zero point (the codes' dtype) of the ranges [min, max], scalars or arrays.

    Symmetric (None: for signed types): scale = max(|min|, |max|) / (2**(bits - 1) - 1), zero point 0, or
    2**(bits - 1) of an unsigned type.  Asymmetric: the range is widened to hold 0, scale = (max - min) / (qmax - qmin),
    zero_point = clamp(round_half_even(qmin - min / scale)).  A range of zeros has the scale 1.
    ValueError: a bound that is not finite, min > max, shapes that do not match.
    """
    qtype = dtypes.get(dtype)
    use_symmetric = symmetric_or_default(symmetric, qtype)
    low, high = _bounds(min, max)
    scale, zero = _core.choose_qparams(low.reshape(-1), high.reshape(-1), qtype.name, use_symmetric)
    return shaped(scale, low.shape), shaped(zero.astype(qtype.storage), low.shape)


def _bounds(min: object, max: object) -> tuple[Floats, Floats]:
    sources = as_real(min, "min"), as_real(max, "max")
    try:
        shape = broadcast_shape(sources[0].shape, sources[1].shape)
    except ValueError:
        raise ValueError(f"min and max must match, got the shapes {sources[0].shape} and {sources[1].shape}") from None
    spread = [np.broadcast_to(array, shape) for array in sources]
    low, high = (to_float32(array) for array in spread)
    for name, data, source in (("min", low, spread[0]), ("max", high, spread[1])):
        check_finite(name, source, data)
    if (low > high).any():
        index = place(int(np.argmax(low > high)), low.shape)
        raise ValueError(f"min must not be above max, got {low[index]:g} and {high[index]:g}{_at(index)}")
    return low, high


# ---- parameters that are given -----------------------------------------------------------------------------------


def given_scale(scale: object, shape: tuple[int, ...], *, positive: bool) -> Any:
    """A scale given by the caller, in the shape of the parameters: a copy, float16 if it was, else float32.

    positive: it must be > 0 with a finite inverse, as quantizing needs; a stored one must be finite.
    """
    # What the checks of arrays take is half of a small call.
    if not shape and positive and isinstance(scale, (float, np.float32)) and 2.0**-126 <= scale < 2.0**127:
        return np.float32(scale)
    source = as_real(scale, "scale")
    values = _spread(source, shape, "scale")
    values = values.copy() if values.dtype == np.float16 else to_float32(values).copy()
    wide = to_float32(values)
    bad = _core.first_bad(wide, positive)
    if bad >= 0:
        index = place(bad, shape)
        rule = "finite and > 0, and so must be its inverse" if positive else "finite"
        raise ValueError(f"scale must be {rule}, got {wide[index]:g}{_at(index)}")
    return values[()]


def given_zero_point(zero_point: object, shape: tuple[int, ...], qtype: QType) -> Any:
    """A zero point given by the caller: integers within the type's codes, in the codes' dtype."""
    if not shape and type(zero_point) is int and qtype.min <= zero_point <= qtype.max:
        return qtype.storage.type(zero_point)
    try:
        source = np.asarray(zero_point)
    except ValueError as error:
        raise ValueError(f"zero_point is no array: {error}") from None
    if source.dtype.kind not in "iu" and source.dtype.name not in ("int4", "uint4"):
        raise TypeError(f"zero_point must hold integers, got {shown(zero_point) if source.ndim == 0 else source.dtype}")
    values = _spread(source, shape, "zero_point")
    bad = (values < qtype.min) | (values > qtype.max)
    if bad.any():
        index = place(int(np.argmax(bad)), shape)
        raise ValueError(
            f"zero_point must be within {qtype.min}..{qtype.max} for {qtype.name}, got {int(values[index])}{_at(index)}"
        )
    return values.astype(qtype.storage)[()]


def given_offset(offset: object, shape: tuple[int, ...]) -> Any:
    """A float offset given by the caller: finite, float32."""
    source = as_real(offset, "offset")
    values = to_float32(_spread(source, shape, "offset")).copy()
    bad = _core.first_bad(values)
    if bad >= 0:
        index = place(bad, shape)
        raise ValueError(f"offset must be finite, got {values[index]:g}{_at(index)}")
    return values[()]


def default_zero_point(shape: tuple[int, ...], qtype: QType) -> Any:
    """Where none is given: none (0) of a signed type, the middle of an unsigned one."""
    return None if qtype.signed else np.full(shape, qtype.middle, qtype.storage)[()]


def _spread(values: Array, shape: tuple[int, ...], name: str) -> Array:
    """One value for all, or exactly one for each parameter."""
    if values.shape == shape:
        return values
    if values.ndim == 0:
        return np.broadcast_to(values, shape)
    if not shape and values.size == 1:
        return values.reshape(())
    wanted = f"a scalar or an array of shape {shape}" if shape else "a scalar (or give axis or group_size)"
    raise ValueError(f"{name} must be {wanted}, got the shape {values.shape}")


def _at(index: tuple[int, ...]) -> str:
    return f" at index {index}" if index else ""


# ---- for the C core ----------------------------------------------------------------------------------------------


def flat_scale(values: Any) -> Floats:
    """Scales as the C core takes them: flat float32."""
    return np.array((values,)) if type(values) is np.float32 else np.asarray(values, np.float32, order="C").reshape(-1)


def flat_offset(values: Any) -> Floats | None:
    """The same of offsets; None stays None."""
    return None if values is None else flat_scale(values)


def flat_zeros(values: Any) -> Ints | None:
    """The same of zero points, int32; None stays None."""
    return None if values is None else np.asarray(values, np.int32, order="C").reshape(-1)
