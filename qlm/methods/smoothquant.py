"""SmoothQuant (G. Xiao et al., arXiv 2211.10438, equations 3 and 4): scales that move the spread of activations into
the weights, s_j = max|X_j|**alpha / max|W_j|**(1 - alpha).

Nothing is folded into a neighbouring norm: the input is divided by s where it is quantized anyway, the weight is
quantized as W * s.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .. import _core
from ..arrays import Array, Floats, to_float32


def input_scales(low: Floats, high: Floats, weights: Iterable[tuple[str, Array]], alpha: float) -> Floats:
    """s, float32 [in], of an input whose columns lie in [low, high] and of all (name, weight [out, in]) that read it.

    ValueError: a weight that is not finite.
    """
    largest = np.zeros_like(low)
    for name, weight in weights:
        largest = np.maximum(largest, _column_amax(name, weight))
    return _core.smoothquant_scales(np.maximum(np.abs(low), np.abs(high)), largest, alpha)


def _column_amax(name: str, weight: Array) -> Floats:
    floats = to_float32(weight)
    rows, columns = floats.shape
    low, high, bad = _core.range(floats, (rows, columns, 1, 0))
    if bad >= 0:
        row, column = divmod(bad, columns)
        raise ValueError(f"{name}: the tensor holds {floats[row, column]:g} at index ({row}, {column})")
    return np.maximum(np.abs(low), np.abs(high))
