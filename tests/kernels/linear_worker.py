"""Runs the cases of test_linear.py in a process of its own: QLM_ISA is read at import. Usage: FILE_IN FILE_OUT."""

import ctypes
import pickle
import sys
from typing import Any

import numpy as np

from qlm import _core


def packed(weight: dict[str, Any]) -> Any:
    names = ("values", "dtype", "group", "scale", "zero", "offset")
    return _core.pack(*(weight[name] for name in names))


def run_linear(case: dict[str, Any]) -> Any:
    """Outputs of one call, or the name of the exception and its flat index."""
    weights = tuple(packed(weight) for weight in case["weights"])
    given = _core.Input(case["kind"], **case["input"])
    x = case["x"].copy()
    try:
        outputs = _core.linear(x, given, weights, case["bias"], case["activation"], case["residual"])
    except ValueError as error:
        return type(error).__name__, error.args[0] if isinstance(error, _core.NonFinite) else str(error)
    assert x.tobytes() == case["x"].tobytes(), "the input was changed"
    return tuple(np.array(y) for y in outputs)


def run_matmul(case: dict[str, Any]) -> Any:
    return _core.matmul_codes(case["x"], case["dtype"], packed(case["weights"][0]), case["wide"])


def main(source: str, target: str) -> None:
    with open(source, "rb") as file:
        work = pickle.load(file)
    if work["preload"]:
        ctypes.CDLL(work["preload"])
    results = []
    for threads in work["threads"]:
        _core.set_num_threads(threads)
        results.append([run_matmul(case) if "wide" in case else run_linear(case) for case in work["cases"]])
    with open(target, "wb") as file:
        pickle.dump({"isa": _core.cpu_info()["isa"], "results": results}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
