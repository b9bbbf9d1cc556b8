"""linear's short way, by which plain float32 arrays reach the kernels: it is taken, with the long way's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qlm
from qlm import _core, products

F32 = np.float32
K, N = 70, 33


def operands(rng: np.random.Generator, *rows: int) -> dict[str, Any]:
    return {
        "x": rng.standard_normal((*rows, K)).astype(F32),
        "bias": rng.standard_normal(N).astype(F32),
        "residual": rng.standard_normal((*rows, N)).astype(F32),
    }


def weights(rng: np.random.Generator) -> dict[str, Any]:
    w = rng.standard_normal((N, K)).astype(F32)
    return {
        "int8": qlm.quantize(w, axis=0),
        "uint4 groups": qlm.quantize(w, "uint4", group_size=32),
        "offsets": qlm.quantize(w, "uint8", axis=0, grid="interval"),
        "int16": qlm.quantize(w, "int16", axis=0),
        "float32": w,
    }


class Ways:
    """linear as it is, and by the long way alone; `taken` counts the calls that the short way finished."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch, self.direct, self.taken = monkeypatch, _core.linear_direct, 0

    def _counting(self, *args: Any) -> Any:
        result = self.direct(*args)
        self.taken += result is not None
        return result

    def run(self, weight: Any, **arguments: Any) -> tuple[Any, Any]:
        results = []
        for way in (self._counting, lambda *args: None):
            self.patch.setattr(products._core, "linear_direct", way)
            results.append(outcome(weight, **arguments))
        return results[0], results[1]


def outcome(weight: Any, **arguments: Any) -> Any:
    """The bytes of the result, or the error's type and text."""
    try:
        result = qlm.linear(arguments.pop("x"), weight, **arguments)
    except Exception as error:
        return type(error), str(error)
    return result.dtype, result.shape, result.tobytes()


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"input": "int8", "activation": "gelu"},
    {"input": "int16", "activation": "relu"},
    {"input": "float32", "activation": "silu"},
    {"group_size": 32},
    {"group_size": 1000},
    {"grid": "interval"},
]


@pytest.mark.parametrize("rows", [(), (1,), (5,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("extras", [(), ("bias",), ("bias", "residual")])
def test_the_short_way_is_taken(
    ways: Ways, rng: np.random.Generator, rows: tuple[int, ...], options: dict[str, Any], extras: tuple[str, ...]
) -> None:
    given = operands(rng, *rows)
    arguments = {"x": given["x"], **{name: given[name] for name in extras}, **options}
    for name, weight in weights(rng).items():
        before = ways.taken
        short, long = ways.run(qlm.pack(weight), **arguments)
        assert short == long
        floats_of_codes = name == "float32" and options.get("input") != "float32"
        both_offsets = name == "offsets" and options.get("grid") == "interval"
        assert ways.taken - before == (not floats_of_codes and not both_offsets), name


def spoiled(x: np.ndarray) -> dict[str, Any]:
    """Arrays that mean the same as x, but which kernels cannot read as they are."""
    shifted = np.zeros(x.nbytes + 1, np.uint8)[1:].view(F32).reshape(x.shape)
    shifted[...] = x
    return {
        "float64": x.astype(np.float64),
        "big-endian": x.astype(">f4"),
        "stepped": np.repeat(x, 2, axis=-1)[..., ::2],
        "fortran": np.asfortranarray(np.stack([x, x]))[0],
        "unaligned": shifted,
        "list": x.tolist(),
        "subclass": x.view(np.matrix) if x.ndim == 2 else x.astype(np.float64),
    }


@pytest.mark.parametrize("name", ["x", "bias", "residual"])
def test_other_arrays_take_the_long_way(ways: Ways, rng: np.random.Generator, name: str) -> None:
    given, packed = operands(rng, 4), qlm.pack(weights(rng)["int8"])
    plain, _ = ways.run(packed, **given)
    assert ways.taken == 1
    for kind, array in spoiled(given[name]).items():
        short, long = ways.run(packed, **{**given, name: array})
        if not (name == "x" and kind == "list"):  # Python's floats are float64
            assert short == plain, kind
        assert short == long, kind
    assert ways.taken == 1


def wrong_calls() -> dict[str, dict[str, Any]]:
    nan, inf = np.array([np.nan], F32), np.array([np.inf], F32)
    return {
        "x of nan": {"x": np.repeat(nan, K)},
        "x of inf": {"x": np.repeat(inf, K), "input": "int8"},
        "bias of nan": {"bias": np.repeat(nan, N)},
        "residual of inf": {"residual": np.full((4, N), np.inf, F32)},
        "features": {"x": np.ones((4, K + 1), F32)},
        "no axis": {"x": np.ones((), F32)},
        "bias's shape": {"bias": np.ones(N + 1, F32)},
        "bias's axes": {"bias": np.ones((1, N), F32)},
        "residual's shape": {"residual": np.ones((3, N), F32)},
        "out's shape": {"out": np.ones((3, N), F32)},
        "out's axes": {"out": np.ones(4 * N, F32)},
        "out's dtype": {"out": np.ones((4, N))},
        "out read-only": {"out": np.broadcast_to(np.ones(N, F32), (4, N))},
        "input": {"input": "uint4"},
        "input's type": {"input": ["uint8"]},
        "grid": {"grid": "cubic"},
        "grid's type": {"grid": None},
        "activation": {"activation": "tanh"},
        "activation's type": {"activation": 1},
        "group of 0": {"group_size": 0},
        "group of True": {"group_size": True},
        "group's type": {"group_size": 32.0},
        "float32 in groups": {"input": "float32", "group_size": 32},
        "float32 on a grid": {"input": "float32", "grid": "interval"},
        "an interval that overflows": {"x": np.full((4, K), 3e38, F32) * np.resize([1, -1], K).astype(F32)}
        | {"grid": "interval"},
    }


@pytest.mark.parametrize("name", wrong_calls())
def test_errors_are_the_long_ways(ways: Ways, rng: np.random.Generator, name: str) -> None:
    given = operands(rng, 4) | wrong_calls()[name]
    short, long = ways.run(qlm.pack(weights(rng)["int8"]), **given)
    assert short == long
    assert issubclass(short[0], (TypeError, ValueError)), short


def test_a_huge_group_is_the_row(ways: Ways, rng: np.random.Generator) -> None:
    packed, x = qlm.pack(weights(rng)["int8"]), operands(rng, 4)["x"]
    plain, _ = ways.run(packed, x=x)
    assert ways.run(packed, x=x, group_size=1 << 80) == (plain, plain)


def test_groups_that_do_not_divide_one_another(ways: Ways, rng: np.random.Generator) -> None:
    short, long = ways.run(qlm.pack(weights(rng)["uint4 groups"]), x=operands(rng, 4)["x"], group_size=48)
    assert short == long
    assert short[0] is ValueError


def test_weights_that_are_not_finite(ways: Ways, rng: np.random.Generator) -> None:
    w = weights(rng)["float32"]
    w[3, 4] = np.nan
    for kind in ("float32", "uint8"):
        short, long = ways.run(qlm.pack(w), x=operands(rng, 4)["x"], input=kind)
        assert short == long
        assert (short[0] is ValueError) == (kind == "uint8")


@pytest.mark.parametrize("shared", ["x", "bias", "residual"])
def test_out_may_share_memory_with_an_input(ways: Ways, rng: np.random.Generator, shared: str) -> None:
    for offset in (0, 1, N, 3 * N):
        results = []
        for way in (ways.direct, lambda *args: None):
            ways.patch.setattr(products._core, "linear_direct", way)
            given = operands(np.random.default_rng(5), 4)
            memory = np.zeros(4 * K + 8 * N, F32)
            part = memory[offset : offset + given[shared].size].reshape(given[shared].shape)
            part[...] = given[shared]
            out = memory[: 4 * N].reshape(4, N)
            result = qlm.linear(**{**given, shared: part}, weight=weights(np.random.default_rng(6))["int8"], out=out)
            assert result is out
            results.append(out.tobytes())
        assert results[0] == results[1]


def test_out_is_what_is_returned(ways: Ways, rng: np.random.Generator) -> None:
    given, packed, out = operands(rng, 4), qlm.pack(weights(rng)["int8"]), np.empty((4, N), F32)
    wanted = qlm.linear(**given, weight=packed)
    assert qlm.linear(**given, weight=packed, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    stepped = np.zeros((4, 2 * N), F32)
    assert qlm.linear(**given, weight=packed, out=stepped[:, ::2]).base is stepped
    np.testing.assert_array_equal(stepped[:, ::2], wanted)


def test_arguments_of_the_core(rng: np.random.Generator) -> None:
    packed, how = qlm.pack(weights(rng)["int8"])._packed, _core.Input("float")
    x = operands(rng, 4)["x"]
    with pytest.raises(TypeError, match="weight must be a PackedWeight"):
        _core.linear_direct(x, how, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="input must be an Input"):
        _core.linear_direct(x, "float", packed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="activation must be one of"):
        _core.linear_direct(x, how, packed, activation="cubic")
    static = _core.Input("static", "uint8", scale=np.ones(1, F32), zero=np.zeros(1, np.int32))
    assert _core.linear_direct(x, static, packed) is None
    assert _core.linear_direct(None, how, packed) is None
