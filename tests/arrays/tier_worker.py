"""Runs qlm.linear on one instruction set for test_linear_sweep.py: pickled cases come in, answers go out.

QLM_ISA is read at import, hence a process for each.  Arrays that are plain lie against a page that cannot be touched,
so that a kernel that reads or writes past an operand's end dies here.
"""

from __future__ import annotations

import ctypes
import mmap
import pickle
import sys
from typing import Any

import numpy as np
from layouts import lay_out

import qlm

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


class Edge:
    """Memory whose end is a page without access."""

    def __init__(self, pages: int = 64) -> None:
        self.size = pages * PAGE
        self.map = mmap.mmap(-1, self.size + PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        if _libc.mprotect(ctypes.c_void_p(self.address + self.size), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, array: np.ndarray) -> np.ndarray:
        """A copy whose last byte is the last that may be touched; one at a time."""
        if not 0 < array.nbytes <= self.size:
            return array
        raw = np.frombuffer(self.map, np.uint8, array.nbytes, self.size - array.nbytes)
        view = raw.view(array.dtype).reshape(array.shape)
        view[...] = array
        return view


EDGES = {name: Edge() for name in ("x", "bias", "residual", "out")}


def laid_out(name: str, array: np.ndarray | None, layout: str) -> np.ndarray | None:
    if array is None:
        return None
    return EDGES[name].place(array) if layout == "C" else lay_out(array, layout)


def tensor(parts: dict[str, Any] | np.ndarray, layout: str) -> Any:
    """A QTensor of its parts; a float array as it is."""
    if isinstance(parts, np.ndarray):
        return lay_out(parts, layout)
    return qlm.QTensor.from_parts(**{**parts, "values": lay_out(parts["values"], layout)})


def answer(case: dict[str, Any]) -> Any:
    """The result, or the error's type and text."""
    if qlm.get_num_threads() != case["threads"]:
        qlm.set_num_threads(case["threads"])
    layout = case["layout"]
    x = case["x"]
    x = laid_out("x", x, layout) if isinstance(x, np.ndarray) else tensor(x, layout)
    weight = tensor(case["weight"], case["weight_layout"])
    out = laid_out("out", case["out"], "stepped" if layout == "stepped" else "C")
    arguments = {name: laid_out(name, case[name], layout) for name in ("bias", "residual")}
    try:
        given = qlm.pack(weight) if case["packed"] else weight
        result = qlm.linear(x, given, **arguments, **case["options"], out=out)
    except Exception as error:
        return type(error).__name__, str(error)
    assert out is None or result is out
    for name, given in (("x", x), ("bias", arguments["bias"]), ("residual", arguments["residual"])):
        if isinstance(given, np.ndarray):
            assert given.astype(np.float32).tobytes() == case[name].tobytes(), f"{name} was changed"
    return np.array(result)


def main() -> None:
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    pickle.dump(qlm.cpu_info()["isa"], outgoing)
    outgoing.flush()
    while True:
        try:
            case = pickle.load(incoming)
        except EOFError:
            return
        pickle.dump(answer(case), outgoing)
        outgoing.flush()


if __name__ == "__main__":
    main()
