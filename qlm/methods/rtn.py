"""Round to nearest: every number to its nearest code, ranges from the weight itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..arrays import Array, Floats, layout, params_shape, to_float32
from ..ops import choose_qparams, estimate_range, in_short_runs, quantize
from ..qparams import Params
from ..qtensor import QTensor
from ..scheme import Scheme


def round_to_nearest(weight: Array, scheme: Scheme, name: str) -> QTensor:
    """The rows of `weight` [out, in] by a complete scheme: a scale for each row ("channel"), for each group of it, or
    one for all ("tensor").

    ValueError, by the tensor's name: it holds NaN or infinities, or a group's scale is past float16's range.
    """
    floats = to_float32(weight)
    try:
        if scheme.granularity == "group" and scheme.type.bits <= 4:
            return _with_half_scales(floats, scheme)
        return quantize(
            floats,
            scheme.dtype,
            axis=0 if scheme.granularity == "channel" else None,
            group_size=scheme.group_size,
            symmetric=scheme.symmetric,
            observer=scheme.observer,
            grid=scheme.grid,
        )
    except ValueError as error:
        raise ValueError(f"{name}: the tensor {str(error).removeprefix('x ')}") from None


def _with_half_scales(floats: Floats, scheme: Scheme) -> QTensor:
    """Groups of 4 bits: each scale is rounded up to float16, then its zero point and codes are chosen with it.

    A larger scale keeps symmetric codes within their bound: |x| / scale <= amax / (amax / 7) up to rounding, whose
    nearest integer is 7.
    """
    found = _in_one_pass(floats, scheme)
    if found is not None:
        return found
    low, high = estimate_range(floats, group_size=scheme.group_size, observer=scheme.observer)
    scale, _ = choose_qparams(low, high, scheme.dtype, symmetric=scheme.is_symmetric)
    half = _core.round_up_half(np.ascontiguousarray(scale).reshape(-1)).reshape(scale.shape)
    if not np.isfinite(half).all():
        worst = float(scale.max())
        raise ValueError(f"needs a scale of {worst:g}, past float16's largest, 65504")
    zero = None if scheme.is_symmetric else _zero_points(low, half, scheme)
    return quantize(floats, scheme.dtype, group_size=scheme.group_size, scale=half.astype(np.float16), zero_point=zero)


def _in_one_pass(floats: Floats, scheme: Scheme) -> QTensor | None:
    """The same where rows are whole groups; None where they are not, or something is wrong, which the long way says."""
    qtype, symmetric = scheme.type, scheme.is_symmetric
    where = layout(floats.shape, None, scheme.group_size)
    if not in_short_runs(where):
        return None
    codes = np.empty(floats.shape, qtype.storage)
    scale, zero, bad = _core.quantize_found(floats, where, qtype.name, symmetric, codes, True)
    if bad >= 0 or not np.isfinite(scale).all():
        return None
    shape = params_shape(floats.shape, None, scheme.group_size)
    zero_point = None if symmetric and qtype.signed else zero.astype(qtype.storage).reshape(shape)
    params = Params(scale.astype(np.float16).reshape(shape), zero_point)
    return QTensor._make(codes, params, qtype, None, scheme.group_size)


def _zero_points(low: Floats, scale: Floats, scheme: Scheme) -> Array:
    """clamp(rint(qmin - min(low, 0) / scale)), in float64."""
    qtype = scheme.type
    exact = np.rint(qtype.min - np.minimum(low.astype(np.float64), 0.0) / scale.astype(np.float64))
    clamped: np.ndarray[Any, Any] = np.clip(exact, qtype.min, qtype.max).astype(qtype.storage)
    return clamped
