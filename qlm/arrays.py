"""What every function of arrays does first and last: take an array-like, find its parameters' layout, fill `out`."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from .errors import shown

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Layout = tuple[int, int, int, int]

_FLOAT32 = np.dtype(np.float32)
_REAL_NAMES = frozenset({"float16", "float32", "float64", "bfloat16", "int4", "uint4"})


# ---- taking arguments --------------------------------------------------------------------------------------------


def as_real(x: object, name: str) -> Array:
    """An array-like of real numbers as an array, not converted yet.

    TypeError: anything but float16, bfloat16, float32, float64 and integers; an array with a mask, which would be lost.
    """
    if type(x) is not np.ndarray and _is_masked(x):
        raise TypeError(f"{name} must be an array without a mask, got a MaskedArray: fill it first (x.filled(0.0))")
    try:
        array = np.asarray(x)
    except ValueError as error:
        if not isinstance(x, (list, tuple)):
            raise  # an object's own __array__ failed: that error is its caller's
        raise ValueError(f"{name} is no array: {error}") from None
    # Native float32 first: a dtype's name is slow to find, and small calls feel it.
    if array.dtype is not _FLOAT32 and array.dtype.kind not in "iu" and array.dtype.name not in _REAL_NAMES:
        raise TypeError(
            f"{name} must hold real numbers (float16, bfloat16, float32, float64 or integers), got {array.dtype}"
        )
    return array


def _is_masked(x: object) -> bool:
    """NumPy imports numpy.ma for those who use it; who does not has no masked array."""
    module = sys.modules.get("numpy.ma")
    return module is not None and isinstance(x, module.MaskedArray)


def as_float32(x: object, name: str) -> Floats:
    """An array-like of real numbers as C-contiguous float32; a float64 past float32's range becomes infinite."""
    return to_float32(as_real(x, name))


def to_float32(array: Array) -> Floats:
    """The same of an array that `as_real` has passed."""
    if array.dtype is _FLOAT32:
        flags = array.flags
        return array if flags.c_contiguous and flags.aligned else contiguous(array, _FLOAT32)
    with np.errstate(over="ignore", invalid="ignore"):
        return contiguous(array, _FLOAT32)


def native(array: Array) -> np.dtype[Any]:
    """The array's type in this machine's byte order."""
    return array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")


def contiguous(array: Array, dtype: np.dtype[Any]) -> Array:
    """C-contiguous, aligned, native: what the C core reads.  The array itself where it is all that already."""
    plain = np.asarray(array, dtype, order="C")
    return plain if plain.flags.aligned else plain.copy()


def as_float32_finite(x: object, name: str) -> Floats:
    """as_float32; ValueError where a number is not finite."""
    source = as_real(x, name)
    data = to_float32(source)
    check_finite(name, source, data)
    return data


def check_finite(name: str, source: Array, data: Floats) -> None:
    """ValueError: `data`, the argument `source` as C-contiguous float32, holds a number that is not finite."""
    bad = _core.first_bad(data)
    if bad >= 0:
        raise nonfinite_error(name, source, bad)


def nonfinite_error(name: str, source: Array, flat: int) -> ValueError:
    """The error for element `flat` (in C order) of the argument `name`."""
    index = place(flat, source.shape)
    value = float(source[index])
    where = f" at index {index}" if index else ""
    why = " (infinite in float32)" if math.isfinite(value) else ""
    return ValueError(f"{name} holds {value:g}{why}{where}; it must be finite")


def place(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The index of element `flat` in C order."""
    return tuple(int(i) for i in np.unravel_index(flat, tuple(shape))) if shape else ()


def choice(name: str, value: object, words: Sequence[str]) -> None:
    """TypeError, ValueError: `value` is not one of the words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(words)}, got {shown(value)}")
    if value not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {shown(value)}")


def flag(name: str, value: object) -> bool | None:
    """True, False or None."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    raise TypeError(f"{name} must be True, False or None, got {shown(value)}")


def integer(name: str, value: object) -> int:
    """An int, or anything that can be an index, but no bool."""
    if not isinstance(value, (bool, np.bool_)):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name} must be an integer, got {shown(value)}")


# ---- layouts of parameters ---------------------------------------------------------------------------------------


def granularity(shape: Sequence[int], axis: object, group_size: object) -> tuple[int | None, int | None]:
    """axis (from 0 up) and group_size, checked against a shape.  ValueError: both, or out of range."""
    if axis is not None and group_size is not None:
        raise ValueError(
            f"axis and group_size exclude each other, got axis={shown(axis)}, group_size={shown(group_size)}"
        )
    if axis is not None:
        return axis_number(shape, axis), None
    if group_size is None:
        return None, None
    number = integer("group_size", group_size)
    if number < 1:
        raise ValueError(f"group_size must be at least 1, got {number}")
    if not shape:
        raise ValueError(f"group_size must be None for an array of no axes, got {number}")
    return None, number


def axis_number(shape: Sequence[int], axis: object) -> int:
    """axis, counted from 0 up.  ValueError: out of range."""
    number, count = integer("axis", axis), len(shape)
    if not count:
        raise ValueError(f"axis must be None for an array of no axes, got {number}")
    if not -count <= number < count:
        raise ValueError(f"axis must be within {-count}..{count - 1} for shape {tuple(shape)}, got {number}")
    return number % count


def broadcast_shape(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """The shape that two arrays broadcast to: np.broadcast_shapes, which ends at 32 axes.  ValueError: none."""
    if not a and not b:
        return ()
    count = max(len(a), len(b))
    pairs = list(zip((*[1] * (count - len(a)), *a), (*[1] * (count - len(b)), *b), strict=True))
    if any(m != n and m != 1 and n != 1 for m, n in pairs):
        raise ValueError(f"the shapes {tuple(a)} and {tuple(b)} do not broadcast")
    return tuple(n if m == 1 else m for m, n in pairs)


def params_shape(shape: Sequence[int], axis: int | None, group_size: int | None) -> tuple[int, ...]:
    """The shape of scales: (), (n,) for an axis, (..., groups) for groups of the last axis."""
    if axis is not None:
        return (shape[axis],)
    if group_size is not None:
        return (*shape[:-1], -(-shape[-1] // group_size))
    return ()


def layout(shape: Sequence[int], axis: int | None, group_size: int | None) -> Layout:
    """(outer, channels, inner, group) as the C core counts an array's parameters (csrc/qlm.h)."""
    if axis is not None:
        if len(shape) == 2:
            return (1, shape[0], shape[1], 0) if axis == 0 else (shape[0], shape[1], 1, 0)
        return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), 0
    if group_size is not None:
        return 1, math.prod(shape[:-1]), shape[-1], min(group_size, max(shape[-1], 1))
    return 1, 1, math.prod(shape), 0


def shaped(flat: Array, shape: tuple[int, ...]) -> Any:
    """Parameters in their shape; a NumPy scalar where there is one for the whole tensor."""
    return flat.reshape(shape)[()]


# ---- results -----------------------------------------------------------------------------------------------------


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """TypeError, ValueError: `out`, if given, is no writable native array of exactly this shape and dtype."""
    if out is None:
        return
    if not isinstance(out, np.ndarray) or out.dtype != dtype or not out.dtype.isnative:
        got = f"an array of {out.dtype.str}" if isinstance(out, np.ndarray) else shown(type(out).__name__)
        raise TypeError(f"out must be an array of {dtype} in native byte order, got {got}")
    if out.shape != shape:
        raise ValueError(f"out must have the shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writable")
    if out.size and any(stride == 0 and n > 1 for stride, n in zip(out.strides, shape, strict=True)):
        raise ValueError(f"out has elements that share memory: strides {out.strides}")


def buffer_for(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: Array | None) -> Array:
    """Where the C core may write: `out` if it can take it as it is, and shares no memory with an input."""
    if out is None or not (out.flags.c_contiguous and out.flags.aligned):
        return np.empty(shape, dtype)
    if any(array is not None and np.may_share_memory(out, array) for array in inputs):
        return np.empty(shape, dtype)
    return out.view(np.ndarray)


def deliver(buffer: Array, out: Array | None) -> Array:
    """The result, in `out` where it was given."""
    if out is None:
        return buffer
    if not np.may_share_memory(buffer, out):
        out[...] = buffer
    return out
