"""The ways in which the same values can lie in memory, as a hypothesis strategy."""

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st


def _stepped(x: np.ndarray) -> np.ndarray:
    """Every second element along each axis of a larger array."""
    wide = np.zeros([2 * side + 1 for side in x.shape], x.dtype)
    view = wide[(..., *(slice(0, 2 * side, 2) for side in x.shape))]
    view[...] = x
    return view


def _reversed(x: np.ndarray) -> np.ndarray:
    flip = (slice(None, None, -1),) * x.ndim
    return x[flip].copy()[flip]


def _broadcast(x: np.ndarray) -> np.ndarray:
    """Stride 0 on an axis where all values are the same; else as it is."""
    for axis, side in enumerate(x.shape):
        first = x.take([0], axis) if side > 1 else x
        if side > 1 and first.tobytes() * side == np.moveaxis(x, axis, 0).tobytes():
            return np.broadcast_to(first, x.shape)
    return x


def _offset_by_1(x: np.ndarray) -> np.ndarray:
    """Not aligned."""
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _read_only(x: np.ndarray) -> np.ndarray:
    copy = np.array(x)
    copy.flags.writeable = False
    return copy


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda x: np.array(x, order="C"),
    "F": lambda x: np.array(x, order="F"),
    "T": lambda x: x.T.copy().T,
    "stepped": _stepped,
    "reversed": _reversed,
    "broadcast": _broadcast,
    "byteswapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "offset-by-1": _offset_by_1,
    "read-only": _read_only,
}


def lay_out(x: np.ndarray, layout: str) -> np.ndarray:
    """The values of x, bit for bit, in this layout."""
    return LAYOUTS[layout](x)


def layouts() -> st.SearchStrategy[str]:
    """Names for `lay_out`; shrinks towards "C"."""
    return st.sampled_from(list(LAYOUTS))
