"""The short way of quantize and dequantize, by which plain arrays reach the kernels: it is taken, and gives what the
long way gives, errors included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import qlm
from qlm import _core, dtypes, ops, qtensor
from qlm.bench.machine import caches
from qlm.methods import rtn

F32 = np.float32
DTYPES = ("int8", "uint8", "int4", "uint4", "int16", "uint16")


class Ways:
    """A call as it is, and by the long way alone; `taken` counts the calls that the short way finished."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch, self.taken = monkeypatch, 0
        self.direct = {name: getattr(_core, name) for name in ("quantize_direct", "dequantize_direct")}

    def _counting(self, name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = self.direct[name](*args)
            self.taken += result is not None
            return result

        return call

    def run(self, call: Callable[[], Any]) -> tuple[Any, Any]:
        results = []
        for short in (True, False):
            for module in (ops, qtensor):
                for name in self.direct:
                    self.patch.setattr(module._core, name, self._counting(name) if short else lambda *args: None)
            results.append(outcome(call))
        return results[0], results[1]


def described(array: Any) -> Any:
    if array is None:
        return None
    return type(array), array.dtype, array.shape, np.asarray(array).tobytes()


def outcome(call: Callable[[], Any]) -> Any:
    """What came, to the bit, or the error's type and text."""
    try:
        result = call()
    except Exception as error:
        return type(error), str(error)
    if not isinstance(result, qlm.QTensor):
        return described(result)
    parts = (result.values, result.scale, result.zero_point, result.offset)
    return (*map(described, parts), result.dtype, result.axis, result.group_size)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(F32)


# What the short way takes: shape, options.
TAKEN: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((5, 64), {"scale": 0.03}),
    ((), {"scale": F32(0.5)}),
    ((3, 2, 7), {"scale": F32(0.5), "zero_point": 3}),
    ((5, 64), {}),
    ((7,), {"symmetric": False}),
    ((2, 1), {"symmetric": True}),
    ((5, 64), {"axis": 0}),
    ((5, 64), {"axis": -2, "symmetric": True}),
    ((5, 64), {"axis": 0, "symmetric": False}),
    ((2, 3, 96), {"group_size": 32}),
    ((2, 3, 96), {"group_size": 48, "symmetric": False}),
    ((64,), {"group_size": 1000}),
    ((1, 5, 64), {"axis": 1}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "options"), TAKEN)
@pytest.mark.parametrize("given_out", [False, True])
def test_the_short_way_is_taken(
    ways: Ways, rng: np.random.Generator, shape: tuple[int, ...], options: dict[str, Any], dtype: str, given_out: bool
) -> None:
    x = np.asarray(numbers(rng, *shape), F32)
    out = np.empty(shape, qlm.quantize(x, dtype, scale=1.0).values.dtype) if given_out else None
    floats = np.empty(shape, F32) if given_out else None
    short, long = ways.run(lambda: qlm.quantize(x, dtype, out=out, **options))
    assert short == long
    assert ways.taken == 1
    q = qlm.quantize(x, dtype, **options)
    short, long = ways.run(lambda: q.dequantize(out=floats))
    assert short == long
    assert ways.taken == 2


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_scales_that_are_given_along_an_axis(ways: Ways, rng: np.random.Generator, axis: int) -> None:
    x = numbers(rng, 3, 5, 7)
    scale = rng.uniform(0.01, 0.1, x.shape[axis]).astype(F32)
    for taken, dtype in enumerate(("int8", "int4", "int16")):
        short, long = ways.run(lambda dtype=dtype: qlm.quantize(x, dtype, axis=axis, scale=scale))
        assert short == long
        assert ways.taken == taken + 1
    assert not np.shares_memory(qlm.quantize(x, axis=axis, scale=scale).scale, scale)


def test_codes_over_the_scales(ways: Ways, rng: np.random.Generator) -> None:
    x, memory = numbers(rng, 8, 4), np.zeros(32, np.int8)
    scale = memory.view(F32)

    def call() -> Any:
        scale[:] = np.arange(1, 9, dtype=F32) / 50
        return qlm.quantize(x, axis=0, scale=scale, out=memory.reshape(8, 4))

    short, long = ways.run(call)
    assert short == long


@pytest.mark.parametrize("kind", ["float16", "offset", "stepped"])
def test_parameters_of_other_kinds(ways: Ways, rng: np.random.Generator, kind: str) -> None:
    codes, scale = rng.integers(-7, 8, (4, 64)).astype(np.int8), rng.uniform(0.1, 1, (4, 2)).astype(F32)
    offset = numbers(rng, 4, 2) if kind == "offset" else None
    if kind == "float16":
        scale = scale.astype(np.float16)
    q = qlm.QTensor.from_parts(codes, scale, offset=offset, dtype="int4", group_size=32)
    if kind == "stepped":
        q = q[::2]
    short, long = ways.run(q.dequantize)
    assert short == long
    assert ways.taken == (kind != "stepped")


def wrong_calls(rng: np.random.Generator) -> dict[str, Callable[[], Any]]:
    x, nan = numbers(rng, 4, 64), numbers(rng, 4, 64)
    nan[2, 3] = np.nan
    q = qlm.quantize(x, axis=0)
    read_only = np.empty(x.shape, np.int8)
    read_only.flags.writeable = False
    return {
        "nan, scale given": lambda: qlm.quantize(nan, scale=0.1),
        "nan in rows": lambda: qlm.quantize(nan, axis=0),
        "nan in groups": lambda: qlm.quantize(nan, "uint8", group_size=32),
        "scale of 0": lambda: qlm.quantize(x, scale=0.0),
        "scales of 0": lambda: qlm.quantize(x, axis=0, scale=np.zeros(4, F32)),
        "scales without inverse": lambda: qlm.quantize(x, axis=0, scale=np.full(4, 1e-40, F32)),
        "scales' shape": lambda: qlm.quantize(x, axis=0, scale=np.ones(5, F32)),
        "zero point": lambda: qlm.quantize(x, scale=1.0, zero_point=128),
        "zero point alone": lambda: qlm.quantize(x, zero_point=1),
        "axis": lambda: qlm.quantize(x, axis=2),
        "axis of True": lambda: qlm.quantize(x, axis=True),
        "group of 0": lambda: qlm.quantize(x, group_size=0),
        "both": lambda: qlm.quantize(x, axis=0, group_size=32),
        "symmetric": lambda: qlm.quantize(x, axis=0, symmetric=1),
        "dtype": lambda: qlm.quantize(x, "int17"),
        "grid": lambda: qlm.quantize(x, grid="cubic"),
        "out's dtype": lambda: qlm.quantize(x, scale=1.0, out=np.empty(x.shape, np.uint8)),
        "out's shape": lambda: qlm.quantize(x, scale=1.0, out=np.empty((4, 63), np.int8)),
        "out read-only": lambda: qlm.quantize(x, scale=1.0, out=read_only),
        "no axes": lambda: qlm.quantize_dynamic(F32(1)),
        "floats' dtype": lambda: q.dequantize(out=np.empty(x.shape)),
        "floats' shape": lambda: q.dequantize(out=np.empty((4, 63), F32)),
    }


def test_errors_are_the_long_ways(ways: Ways, rng: np.random.Generator) -> None:
    for name, call in wrong_calls(rng).items():
        short, long = ways.run(call)
        assert short == long, name
        assert issubclass(short[0], (TypeError, ValueError)), name
    assert ways.taken == 0


def test_other_arrays_take_the_long_way(ways: Ways, rng: np.random.Generator) -> None:
    x = numbers(rng, 4, 64)
    plain, _ = ways.run(lambda: qlm.quantize(x, axis=0))
    arrays = (x.astype(np.float64), x.astype(">f4"), np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], x.tolist())
    for array in (*arrays, x.view(np.matrix)):
        short, long = ways.run(lambda array=array: qlm.quantize(array, axis=0))
        assert short == long == plain
    assert ways.taken == 1


@pytest.mark.parametrize("offset", [0, 1, 64])
def test_out_may_share_memory(ways: Ways, rng: np.random.Generator, offset: int) -> None:
    memory, values = np.zeros(4096, np.uint8), numbers(rng, 4, 64)

    def quantized() -> Any:
        x = memory[: values.nbytes].view(F32).reshape(values.shape)
        x[...] = values
        return qlm.quantize(x, axis=0, out=memory[offset : offset + values.size].view(np.int8).reshape(values.shape))

    def back() -> Any:
        q = quantized()
        floats = memory[4 * offset : 4 * offset + values.nbytes].view(F32).reshape(values.shape)
        return q.dequantize(out=floats)

    for call in (quantized, back):
        short, long = ways.run(call)
        assert short == long


def test_what_is_returned_is_out(rng: np.random.Generator) -> None:
    x, out, floats = numbers(rng, 4, 64), np.empty((4, 64), np.int8), np.empty((4, 64), F32)
    q = qlm.quantize(x, axis=0, out=out)
    assert q.values is out
    assert q.dequantize(out=floats) is floats


def test_arguments_of_the_core(rng: np.random.Generator) -> None:
    x = numbers(rng, 4, 64)
    int8 = dtypes.get("int8")
    with pytest.raises(ValueError, match="dtype must be one of"):
        _core.quantize_direct(qlm.QTensor, x, int8._replace(name="int5"), None, None, None, 0.1, None, None)
    with pytest.raises(TypeError, match="qtype must be a QType"):
        _core.quantize_direct(qlm.QTensor, x, "int8", None, None, None, 0.1, None, None)  # type: ignore[arg-type]
    for kind in (object, int8):
        with pytest.raises(TypeError, match="kind must be a type derived from TensorParts"):
            _core.quantize_direct(kind, x, int8, None, None, None, 0.1, None, None)  # type: ignore[type-var]
    assert _core.quantize_direct(qlm.QTensor, x, int8, 1 << 80, None, None, None, None, None) is None
    assert _core.quantize_direct(qlm.QTensor, x[:0], int8, 0, None, None, None, None, None) is None
    assert _core.dequantize_direct(None, None, None, F32(1), None, None, None) is None
    assert _core.dequantize_direct(x.astype(np.int8), None, None, None, None, None, None) is None


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("size", [32, 64, 48, 1000])
def test_float16_scales_in_one_pass(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, dtype: str, symmetric: bool, size: int
) -> None:
    scheme = qlm.Scheme(dtype, granularity="group", group_size=size, symmetric=symmetric, observer="minmax")
    in_one_pass = rtn._in_one_pass
    for spread in (1.0, 1e-6, 1e-8, 5e4, 1e7):  # among them scales below float16's normal numbers, and past its end
        weight = numbers(rng, 24, 192) * F32(spread)
        weight[3], weight[4] = 0, np.abs(weight[4])
        assert (in_one_pass(weight, scheme) is None) == (spread == 1e7)
        results = []
        for way in (in_one_pass, lambda *args: None):
            monkeypatch.setattr(rtn, "_in_one_pass", way)
            results.append(outcome(lambda weight=weight: rtn.round_to_nearest(weight, scheme, "w")))
        assert results[0] == results[1]
    weight[5, 6] = np.nan
    assert in_one_pass(weight, scheme) is None


@pytest.mark.parametrize("threads", [1, 2])
def test_arrays_past_the_last_cache(rng: np.random.Generator, threads: int) -> None:
    """They are stored past the caches; rows by themselves are not, and must be the same."""
    last = max(caches().values(), default=4 << 20)
    if last > 64 << 20:
        pytest.skip(f"the last cache has {last >> 20} MiB")
    x = np.resize(numbers(rng, 1 << 16), (last // 5 // 1000 + 50, 1000))  # not a multiple of 16 to a row
    before = qlm.get_num_threads()
    qlm.set_num_threads(threads)
    try:
        for options in ({"scale": 0.03}, {"axis": 0}, {"group_size": 40}):
            q = qlm.quantize(x, "uint8", **options)
            floats = q.dequantize()
            for rows in (slice(0, 40), slice(len(x) // 2, len(x) // 2 + 40), slice(-40, None)):
                part = qlm.quantize(x[rows], "uint8", **options)
                np.testing.assert_array_equal(q.values[rows], part.values)
                np.testing.assert_array_equal(floats[rows], part.dequantize())
    finally:
        qlm.set_num_threads(before)
