"""A forward in steps.  A family says its forward once, in terms of a Machine; there are two.

`Eager` runs each step on arrays at once, and lets a tap see what linears read.  `Recorder` writes the steps down and
makes of them a `_core.Program`, which runs without a step back to Python.  Both give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from .. import _core
from ..arrays import Floats
from .linear import Linears, Tap, not_finite

Norm = tuple[Floats, Floats]
V = TypeVar("V")


def untapped(names: tuple[str, ...], x: Floats) -> None:
    """A Tap for nobody."""


class Machine(Protocol[V]):
    """Runs or records steps on values: float32 rows, one a token."""

    def linear(
        self, names: tuple[str, ...], x: V, activation: str | None = None, residual: V | None = None
    ) -> tuple[V, ...]:
        """act(x W^T + bias) + residual of each linear; a residual is for one linear and cannot be read again."""

    def attention(self, name: str, qkv: tuple[V, V, V], heads: int, scale: float, *, by_codes: bool) -> V:
        """softmax(q k^T * scale) v by head, within each sequence, on floats or on codes of 8 bits; q cannot be read
        again.  `name` is for messages."""

    def layernorm(self, x: V, norm: Norm, eps: float) -> V:
        """By (gain, bias); x cannot be read again."""


class Eager:
    """A Machine on the rows of some sequences."""

    def __init__(self, linears: Linears, starts: Any, tap: Tap) -> None:
        self._linears = linears
        self._starts = starts
        self._tap = tap

    def linear(
        self, names: tuple[str, ...], x: Floats, activation: str | None = None, residual: Floats | None = None
    ) -> tuple[Floats, ...]:
        """As Machine says."""
        self._tap(names, x)
        return tuple(self._linears.run(names, x, activation, residual))

    def attention(
        self, name: str, qkv: tuple[Floats, Floats, Floats], heads: int, scale: float, *, by_codes: bool
    ) -> Floats:
        """As Machine says."""
        if not by_codes:
            return _core.attention(*qkv, self._starts, heads, scale, False)
        try:
            return _core.attention_8(*qkv, self._starts, heads, scale)
        except _core.NonFinite as error:
            raise not_finite(name, *divmod(error.args[0], qkv[0].shape[1])) from None

    def layernorm(self, x: Floats, norm: Norm, eps: float) -> Floats:
        """As Machine says."""
        return _core.layernorm(x, None, *norm, eps)


@dataclass
class Value:
    """Rows that steps write and read: `width` floats a token, held from step `begin` to step `end`."""

    width: int
    begin: int
    end: int
    at: int | None = None  # in the workspace; None: the rows of the program themselves


class Recorder:
    """A Machine that writes steps down."""

    def __init__(self, linears: Linears, hidden: int) -> None:
        self.rows = Value(hidden, 0, 0)
        self._linears = linears
        self._held: list[Value] = []
        self._steps: list[tuple[Any, ...]] = []
        self._names: list[str] = []

    def linear(
        self, names: tuple[str, ...], x: Value, activation: str | None = None, residual: Value | None = None
    ) -> tuple[Value, ...]:
        """As Machine says."""
        self._linears.run(names, np.empty((0, x.width), np.float32))  # what cannot run says so, by name
        outs: dict[int, Value] = {}
        for call in self._linears.calls(names):
            fed = x if call.input_scale is None else self._divided(names, x, call.input_scale)
            results = [residual or self._new(weight.shape[0]) for weight in call.weights]
            self._step(names[call.positions[0]], "linear", fed, call.input, call.weights, call.biases, activation,
                       residual, tuple(results))  # fmt: skip
            outs.update(zip(call.positions, results, strict=True))
        return tuple(outs[position] for position in range(len(names)))

    def _divided(self, names: tuple[str, ...], x: Value, divisor: Floats) -> Value:
        quotient = self._new(x.width)
        self._step(names[0], "divide", x, quotient, divisor)
        return quotient

    def attention(
        self, name: str, qkv: tuple[Value, Value, Value], heads: int, scale: float, *, by_codes: bool
    ) -> Value:
        """As Machine says."""
        q = qkv[0]
        if by_codes:
            self._step(name, "attention_8", *qkv, q, heads, scale)
        else:
            self._step(name, "attention", *qkv, q, heads, scale, False)
        return q

    def layernorm(self, x: Value, norm: Norm, eps: float) -> Value:
        """As Machine says."""
        self._step("layernorm", "layernorm", x, x, *norm, eps)
        return x

    def _new(self, width: int) -> Value:
        value = Value(width, len(self._steps), len(self._steps))
        self._held.append(value)
        return value

    def _step(self, name: str, *step: Any) -> None:
        for item in _values(step):
            item.end = len(self._steps)
        self._names.append(name)
        self._steps.append(step)

    def program(self) -> Program:
        """The steps so far; the last one's result must be in the rows."""
        width = _lay_out(self._held)
        steps = tuple(tuple(_placed(item) for item in step) for step in self._steps)
        return Program(_core.Program(self.rows.width, width, steps), tuple(self._names))


def _values(step: tuple[Any, ...]) -> list[Value]:
    parts = [part for item in step for part in (item if isinstance(item, tuple) else (item,))]
    return [part for part in parts if isinstance(part, Value)]


def _placed(item: Any) -> Any:
    if isinstance(item, Value):
        return item.at, item.width
    if isinstance(item, tuple):
        return tuple(_placed(part) for part in item)
    return item


def _lay_out(values: list[Value]) -> int:
    """Gives each value the first place that none has that is held at the same time; the width of it all."""
    placed: list[tuple[int, Value]] = []
    for value in values:
        at = 0
        for start, other in sorted(placed, key=lambda pair: pair[0]):
            if other.begin <= value.end and value.begin <= other.end and start < at + value.width:
                at = max(at, start + other.width)
        value.at = at
        placed.append((at, value))
    return max((start + value.width for start, value in placed), default=0)


class Program:
    """A recorded forward."""

    def __init__(self, program: _core.Program, names: tuple[str, ...]) -> None:
        self._program = program
        self._names = names

    def run(self, x: Floats, starts: Any) -> None:
        """Runs the sequences starts[s] to starts[s + 1] of x [tokens, hidden], in place.

        ValueError: the input of a linear that is to be quantized holds NaN or infinities.
        """
        try:
            self._program.run(x, starts)
        except _core.NonFinite as error:
            step, token, feature = error.args
            raise not_finite(self._names[step], token, feature) from None
