"""qlm.linear from the outside, written from the definitions alone: any shape, weight, grid, activation and layout of
the operands gives the bits of tests/reference.py on every instruction set of this CPU and any number of threads."""

from __future__ import annotations

import os
import pickle
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import LAYOUTS

import qlm
from qlm import _core

F32 = np.float32
WORKER = Path(__file__).with_name("tier_worker.py")
ACTIVATIONS = {None: ref.IDENTITY, "relu": ref.RELU, "gelu": ref.GELU, "gelu_tanh": ref.GELU_TANH, "silu": ref.SILU}
WEIGHTS = ("int8", "uint8", "int4", "uint4", "int16", "uint16", "float32")
SECONDS = 120  # a call that takes longer hangs


class Tier:
    """A process that runs one instruction set."""

    def __init__(self, isa: str) -> None:
        tests = WORKER.parents[1]
        environment = {**os.environ, "QLM_ISA": isa}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(qlm.__file__).parents[1]), str(tests)])
        command = [sys.executable, str(WORKER)]
        self.isa = isa
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._receive() == isa

    def _receive(self) -> Any:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(SECONDS):
                self.process.kill()
                raise AssertionError(f"{self.isa}: no answer within {SECONDS} s")
        try:
            return pickle.load(self.process.stdout)
        except EOFError:
            raise AssertionError(f"{self.isa}: ended with status {self.process.wait()}") from None

    def ask(self, case: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        pickle.dump(case, self.process.stdin)
        self.process.stdin.flush()
        return self._receive()

    def close(self) -> None:
        assert self.process.stdin is not None
        with self.process:
            self.process.stdin.close()


@pytest.fixture(scope="module")
def tiers(isas: tuple[str, ...]) -> Iterator[Callable[[str], Tier]]:
    """The process of an instruction set; a new one where the last has died."""
    running: dict[str, Tier] = {}

    def tier(isa: str) -> Tier:
        if isa in running and running[isa].process.poll() is not None:
            running.pop(isa).close()
        if isa not in running:
            running[isa] = Tier(isa)
        return running[isa]

    yield tier
    for one in running.values():
        one.close()


# ---- operands ----------------------------------------------------------------------------------------------------


def evaluate(function: int, x: np.ndarray) -> np.ndarray:
    return _core.map(function, np.ascontiguousarray(x, F32))


def floats(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Rows of very different sizes; some of zeros, some of one value, some of a single spike, some of subnormals."""
    x = rng.standard_normal((rows, columns)) * np.exp(rng.uniform(-5, 5, (rows, 1)))
    kind = rng.integers(0, 16, rows)
    x[kind == 0] = 0
    x[kind == 1] = rng.standard_normal()
    x[kind == 2] *= rng.random(columns) < 0.1
    x[kind == 3] *= 1e-40
    x[kind == 4] = np.abs(x[kind == 4])
    return x.astype(F32)


def codes(rng: np.random.Generator, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    kind = ref.CodeType(dtype)
    if rng.random() < 0.25:
        return rng.choice([kind.min, kind.max], shape).astype(kind.storage)
    return rng.integers(kind.min, kind.max + 1, shape).astype(kind.storage)


def tensor(
    rng: np.random.Generator, dtype: str, shape: tuple[int, int], layout: str, form: str
) -> tuple[dict[str, Any], ref.Codes]:
    """A QTensor's parts, and the same as the reference has it.

    layout: "tensor", "axis", or a group size.  form: "plain", "zero" (zero points) or "offset" (float offsets).
    """
    rows, columns = shape
    kind = ref.CodeType(dtype)
    group = 0 if layout in ("tensor", "axis") else int(layout)
    by_row = (rows, len(ref.spans(columns, group if group < columns else 0)))
    size: tuple[int, ...] = {"tensor": (), "axis": (rows,)}.get(layout, by_row)
    scale = np.exp(rng.uniform(-6, 0, size)).astype(F32)
    if size and rng.random() < 0.2:  # as stored ones may be
        scale[rng.random(size) < 0.2] *= F32(-1)
        scale[rng.random(size) < 0.1] = 0
    middle = 0 if kind.signed else 1 << (kind.bits - 1)
    zero = rng.integers(kind.min, kind.max + 1, size) if form == "zero" else np.full(size, middle)
    zero = np.asarray(zero).astype(kind.storage)
    offset = np.asarray(rng.standard_normal(size)).astype(F32) if form == "offset" else None
    values = codes(rng, dtype, shape)
    parts = {"values": values, "scale": scale, "dtype": dtype, "offset": offset}
    parts |= {"axis": 0} if layout == "axis" else {"group_size": group} if group else {}
    if form == "zero":
        parts["zero_point"] = zero

    def spread(values: Any, dtype: Any) -> np.ndarray:
        values = np.asarray(values, dtype)
        return np.ascontiguousarray(np.broadcast_to(values[:, None] if values.ndim == 1 else values, by_row))

    group = group if group < columns else 0
    zeros = np.zeros(by_row, np.int32) if offset is not None else spread(zero, np.int32)
    stated = ref.Codes(values, spread(scale, F32), zeros, None if offset is None else spread(offset, F32), group)
    return parts, stated


def fits(a: str, b: str, length: int) -> bool:
    """Whether the groups of the two sides divide one another; a whole row is no group."""
    groups = [0 if layout in ("tensor", "axis") or int(layout) >= length else int(layout) for layout in (a, b)]
    return not min(groups) or max(groups) % min(groups) == 0


GROUPINGS = ("tensor", "axis", "axis", "32", "32", "64", "128", "20", "16")
INPUTS = ("uint8", "uint8", "int8", "int16", "float32", "codes")
CODES = ("uint8", "int8", "int4", "uint4", "int16", "uint16")


class Draws:
    """Choices of one case, all from one seed: what strategies of hypothesis would draw, without its near repeats."""

    def __init__(self, *seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def one_of(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def size(self, *limits: int) -> int:
        """1 to one of the limits; often the limit itself, or a neighbour of a multiple of 16."""
        limit = self.one_of(*limits)
        value = int(self.rng.integers(1, limit + 1))
        near = min(max(value // 16 * 16 + self.one_of(-1, 0, 0, 1), 1), limit)
        return self.one_of(value, value, near, near, limit)

    def maybe(self, value: Any) -> Any:
        return self.one_of(None, value)

    def grouping(self, other: str, length: int) -> str:
        return self.one_of(*(own for own in GROUPINGS if fits(own, other, length)))


def linear(draws: Draws, weight: str) -> tuple[dict[str, Any], Any]:
    """A call and what it must give."""
    rng, m, k, n = draws.rng, draws.size(4, 17, 70), draws.size(70, 130, 300), draws.size(20, 66, 130)
    activation, kind = draws.one_of(*ACTIVATIONS), draws.one_of(*INPUTS)
    layout, form = draws.one_of(*GROUPINGS), draws.one_of("plain", "plain", "zero", "offset")
    right: Any = None
    if weight == "float32":
        given = right = floats(rng, n, k)
        layout, form = "tensor", "plain"
    else:
        given, right = tensor(rng, weight, (n, k), layout, form)
    x, left, options = left_side(draws, (m, k), kind, layout, form)
    bias, residual = draws.maybe(rng.standard_normal(n).astype(F32)), draws.maybe(floats(rng, m, n))
    options |= {"activation": activation} if activation else {}
    case = {
        "x": x,
        "weight": given,
        "bias": bias,
        "residual": residual,
        "options": options,
        "out": draws.maybe(np.full((m, n), np.nan, F32)),
        "threads": draws.one_of(1, 2, 3),
        "layout": draws.one_of("C", "C", "C", *LAYOUTS),
        "weight_layout": draws.one_of("C", *LAYOUTS),
        "packed": draws.one_of(False, True),
    }
    rest = (bias, ACTIVATIONS[activation], residual, evaluate)
    if isinstance(left, ref.Codes) and isinstance(right, ref.Codes):
        return case, ref.linear_codes(left, right, *rest)
    return case, ref.linear_float(left.dequantize() if isinstance(left, ref.Codes) else left, right, *rest)


def left_side(
    draws: Draws, shape: tuple[int, int], kind: str, layout: str, form: str
) -> tuple[Any, Any, dict[str, Any]]:
    """x as it is given, x as the reference takes it, and the options that say so."""
    own = draws.grouping(layout, shape[1])
    if kind == "codes":
        forms = ["plain", "zero"] if form == "offset" else ["plain", "zero", "offset"]
        return *tensor(draws.rng, draws.one_of(*CODES), shape, own, draws.one_of(*forms)), {}
    x = floats(draws.rng, *shape)
    if kind == "float32":
        return x, x, {"input": kind}
    interval = form != "offset" and draws.one_of(False, False, False, True)
    group = 0 if own in ("tensor", "axis") else int(own)
    options: dict[str, Any] = {"input": kind} | ({"group_size": group} if group else {})
    options |= {"grid": "interval"} if interval else {}
    group = group if group < shape[1] else 0
    return x, ref.quantize_rows(x, kind, kind.startswith("int") and not interval, group, interval), options


# ---- tests -------------------------------------------------------------------------------------------------------


def describe(case: dict[str, Any]) -> str:
    def side(value: Any) -> str:
        if isinstance(value, np.ndarray):
            return f"float32{value.shape}"
        words = [value["dtype"], *(f"{name}={value[name]}" for name in ("axis", "group_size") if name in value)]
        words += [name for name in ("zero_point", "offset") if value.get(name) is not None]
        return f"{' '.join(words)}{value['values'].shape}"

    extras = [name for name in ("bias", "residual", "out") if case[name] is not None]
    settings = {name: case[name] for name in ("threads", "layout", "weight_layout", "packed", "options")}
    return f"x {side(case['x'])}, weight {side(case['weight'])}, {extras}, {settings}"


def assert_bits(tier: Tier, case: dict[str, Any], wanted: np.ndarray) -> None:
    got = tier.ask(case)
    place = f"{tier.isa}: {describe(case)}"
    assert isinstance(got, np.ndarray), f"{got}; {place}"
    assert got.dtype == F32, place
    assert got.shape == wanted.shape, place
    wrong = np.argwhere(got.view(np.int32) != wanted.view(np.int32))
    if len(wrong):
        where = tuple(wrong[0])
        text = f"{len(wrong)} of {got.size} differ, at {where} {got[where]!r} is not {wanted[where]!r}"
        raise AssertionError(f"{text}; {place}")


def sweep(weight: str, isas: tuple[str, ...], tiers: Callable[[str], Tier], seed: int, cases: int) -> None:
    for number in range(cases):
        case, wanted = linear(Draws(seed, WEIGHTS.index(weight), number), weight)
        for isa in isas:
            assert_bits(tiers(isa), case, wanted)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_linear_on_every_tier(weight: str, isas: tuple[str, ...], tiers: Callable[[str], Tier], seed: int) -> None:
    sweep(weight, isas, tiers, seed, 150)


@pytest.mark.slow
@pytest.mark.parametrize("weight", WEIGHTS)
def test_many_linears_on_every_tier(
    weight: str, isas: tuple[str, ...], tiers: Callable[[str], Tier], seed: int, pytestconfig: pytest.Config
) -> None:
    sweep(weight, isas, tiers, seed + 1, 1 + int(20000 * pytestconfig.option.sample))
