"""Strategies that the tests of arrays share: granularities, types, layouts and hard values."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layouts import lay_out, layouts

DTYPES = ("int8", "uint8", "int16", "uint16", "int4", "uint4")
FLOATS = ("float32", "float64", "float16")
FLT_MAX = float(np.finfo(np.float32).max)

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)
matrices = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)
hard_values = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 1e-45, -1e-45, 1e-38, 1.1754944e-38, FLT_MAX, -FLT_MAX, 127.0, 128.0, 1e-30]
)


def elements(dtype: np.dtype[Any]) -> st.SearchStrategy[float]:
    """Finite values, in float32's range, the hard ones often."""
    limit = min(float(np.finfo(dtype).max), FLT_MAX)
    plain = st.floats(-1e4, 1e4, width=16)
    wild = st.floats(-limit, limit, width=min(dtype.itemsize * 8, 32))
    return plain | wild | hard_values.filter(lambda v: abs(v) <= limit).map(dtype.type).map(float)


@st.composite
def arrays(draw: Callable[..., Any], shape: st.SearchStrategy[tuple[int, ...]] = shapes) -> np.ndarray:
    """A float array of some type, shape and layout."""
    dtype = np.dtype(draw(st.sampled_from(FLOATS)))
    x = draw(hnp.arrays(dtype, shape, elements=elements(dtype)))
    return lay_out(x, draw(layouts()))


@st.composite
def granularities(draw: Callable[..., Any], ndim: int) -> dict[str, int]:
    """Options that an array of this many axes takes."""
    kind = draw(st.sampled_from(["tensor", "axis", "group"] if ndim else ["tensor"]))
    if kind == "axis":
        return {"axis": draw(st.integers(-ndim, ndim - 1))}
    return {"group_size": draw(st.integers(1, 12))} if kind == "group" else {}


def parameter_view(params: Any, shape: tuple[int, ...], axis: int | None, group: int | None) -> np.ndarray:
    """Parameters repeated so that each element of the tensor meets its own."""
    params = np.asarray(params)
    if axis is not None:
        along = [1] * len(shape)
        along[axis] = shape[axis]
        return np.broadcast_to(params.reshape(along), shape)
    if group is not None:
        return np.repeat(params, group, axis=-1)[..., : shape[-1]]
    return np.broadcast_to(params, shape)
