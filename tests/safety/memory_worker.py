"""Calls the core while Python's allocators fail once, at every place; prints how often each call met that."""

from __future__ import annotations

import _testcapi
from collections.abc import Callable
from typing import Any

import numpy as np

import qlm
from qlm import _core

QUIET = 60  # runs in a row that met no failure: all places are behind us
# What CPython makes of any error, `int("x")` too, where there is no memory for its traceback.
TRACEBACK = "SystemError('error return without exception set')"
rng = np.random.default_rng(3)
x = rng.standard_normal((5, 96)).astype(np.float32)
w = rng.standard_normal((40, 96)).astype(np.float32)
ones, five, starts = np.ones(96, np.float32), np.ones(5, np.float32), np.array([0, 2, 5])
layout = (1, 5, 96, 0)
codes, scale = qlm.quantize(w, axis=0).values, qlm.quantize(w, axis=0).scale
grouped = qlm.quantize(w, "uint4", group_size=32)
packed = _core.pack(codes, "int8", 0, scale)
dynamic, finer = _core.Input("dynamic", "uint8"), _core.Input("dynamic", "uint8", group=32)
nan = np.full((1, 96), np.nan, np.float32)


def quantized() -> Any:
    out = np.empty((5, 96), np.int8)
    return _core.quantize(x, layout, "int8", -127, 127, five, None, out), out


def interval() -> Any:
    out = np.empty((5, 96), np.int8)
    low, constant = np.full(5, -4, np.float32), np.zeros(5, np.uint8)
    return _core.quantize_interval(x, layout, "int8", low, five, constant, out), out


def dequantized() -> Any:
    out = np.empty((40, 96), np.float32)
    _core.dequantize(codes, (1, 40, 96, 0), scale, None, None, out)
    return out


CALLS: dict[str, Callable[[], Any]] = {
    "linear_direct": lambda: _core.linear_direct(x, dynamic, packed),
    "linear": lambda: _core.linear(x, dynamic, (packed,)),
    "pack": lambda: _core.linear(x, dynamic, (_core.pack(codes, "int8", 0, scale),)),
    "another layout": lambda: _core.linear(x, finer, (_core.pack(codes, "int8", 0, scale),)),
    "range": lambda: _core.range(x, layout),
    "choose_qparams": lambda: _core.choose_qparams(scale, scale, "int8", True),
    "interval_params": lambda: _core.interval_params(scale, scale, "int8"),
    "quantize": quantized,
    "quantize_interval": interval,
    "dequantize": dequantized,
    "Input": lambda: _core.linear(codes, _core.Input("codes", "int8", scale=scale[:1]), (packed,)),
    "first_bad": lambda: _core.first_bad(x),
    "not finite": lambda: _core.linear(nan, dynamic, (packed,)),
    "gather": lambda: _core.gather(x, starts[:2]),
    "attention": lambda: _core.attention(x, x, x, starts, 2, 0.1, False),
    "layernorm": lambda: _core.layernorm(x, None, ones, ones, 1e-5),
    "pool": lambda: _core.pool(x, starts, "mean", True),
    "fake_quantize_backward": lambda: _core.fake_quantize_backward(x, x, layout, "int8", five, None),
    "matmul_codes": lambda: _core.matmul_codes(codes, "int8", packed, True),
    "qlm.linear": lambda: qlm.linear(x, grouped, activation="gelu"),
    "qlm.quantize": lambda: qlm.quantize(x, "uint8", axis=0).values,
    "qlm.matmul": lambda: qlm.matmul(codes, codes.T),
}


def attempt(call: Callable[[], Any]) -> Any:
    """The result, or the error."""
    try:
        return call()
    except Exception as error:
        return error


def shown(result: Any) -> Any:
    """The bytes of all arrays of a result, or the error's text."""
    if isinstance(result, Exception):
        return repr(result)
    return [np.asarray(part).tobytes() for part in (result if isinstance(result, tuple) else (result,))]


def main() -> None:
    for name, call in CALLS.items():
        wanted = shown(attempt(call))
        failures = quiet = place = 0
        while quiet < QUIET:
            _testcapi.set_nomemory(place, place + 1)
            try:
                found = attempt(call)
            finally:
                _testcapi.remove_mem_hooks()
            place += 1
            quiet += 1
            if isinstance(found, MemoryError) or repr(found) == TRACEBACK:
                failures, quiet = failures + 1, 0
            else:
                assert shown(found) == wanted, f"{name}, failure at {place - 1}: {found!r}"
            again = attempt(call)
            assert shown(again) == wanted, f"{name}, after the failure at {place - 1}: {again!r}"
        print(name, failures)


if __name__ == "__main__":
    main()
