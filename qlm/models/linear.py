"""The linears of a model: objects found by name, so that one forward runs them as float, quantized, or observed.

y = act(x W^T + b) + residual.  A weight is a float array or a QTensor, [out, in]; what is done to x is its
`Activations`, or nothing.  Weights are laid out for the CPU when they first run, so a model that is only loaded,
quantized and saved never holds them twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..arrays import Array, Floats, to_float32
from ..errors import UnsupportedError
from ..products import pack
from ..qtensor import QTensor

Weight = Array | QTensor


@dataclass(frozen=True)
class Activations:
    """How a linear's input becomes integers.

    kind: "dynamic", each row (or each group_size neighbours of it) by its own range, or "static", by scale and
    zero_point, which calibration found.
    """

    kind: str
    dtype: str
    symmetric: bool = False
    grid: str = "affine"
    group_size: int | None = None
    scale: np.float32 | None = None
    zero_point: int | None = None

    def input(self, input_scale: Floats | None) -> _core.Input:
        """The description that the C core takes; `input_scale` divides each column of a static input."""
        if self.kind == "dynamic":
            return _core.Input(
                "dynamic",
                self.dtype,
                symmetric=self.symmetric,
                interval=self.grid == "interval",
                group=self.group_size or 0,
            )
        assert self.scale is not None
        return _core.Input(
            "static",
            self.dtype,
            symmetric=self.symmetric,
            scale=np.array([self.scale], np.float32),
            zero=np.array([self.zero_point], np.int32),
            divisor=None if input_scale is None else divisors(self.scale, input_scale),
        )


def divisors(scale: np.float32, input_scale: Floats) -> Floats:
    """What a static input is divided by, column by column: the two scales' product, rounded to float32."""
    with np.errstate(over="ignore", under="ignore"):
        product: Floats = np.multiply(np.float32(scale), input_scale, dtype=np.float32)
    return product


def divided(x: Floats, input_scale: Floats) -> Floats:
    """x / input_scale, each division rounded to float32 once: NumPy's are, on every CPU."""
    with np.errstate(all="ignore"):
        quotient: Floats = np.divide(x, input_scale)
    return quotient


@dataclass(frozen=True, eq=False)
class Linear:
    """One linear: its weight, its bias in the checkpoint's dtype, and how its input is fed.

    input_scale: SmoothQuant's s, one float32 per input feature: the weight stands for W * s, the input is divided by
    s.  activations None: the input stays float.
    """

    name: str
    weight: Weight
    bias: Array | None = None
    activations: Activations | None = None
    input_scale: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        rows, columns = self.weight.shape
        return rows, columns

    @property
    def bits(self) -> int:
        """Bits of a stored element of the weight."""
        return self.weight.bits if isinstance(self.weight, QTensor) else 8 * self.weight.dtype.itemsize

    @property
    def reads_bytes(self) -> bool:
        """Whether its input becomes codes of 8 bits or fewer."""
        feed = self.activations
        return feed is not None and feed.dtype not in ("int16", "uint16")

    @property
    def nbytes(self) -> int:
        """Bytes of the weight as stored, its parameters included, without the bias."""
        return int(self.weight.nbytes)

    def tensors(self) -> dict[str, Weight]:
        """All it stores, by the last part of the name."""
        parts: dict[str, Weight | None] = {
            "weight": self.weight,
            "bias": self.bias,
            "input_scale": self.input_scale,
        }
        if self.activations is not None and self.activations.kind == "static":
            zero = self.activations.zero_point
            parts["activation_scale"] = np.array(self.activations.scale, np.float32)
            parts["activation_zero_point"] = np.array(zero, np.int32)
        return {name: part for name, part in parts.items() if part is not None}


class LinearInfo(NamedTuple):
    """What `Model.layers` tells of a linear: shape (out, in), bits of a stored element, bytes of the weight as stored,
    and the weight itself, a float array in the checkpoint's dtype or a QTensor."""

    shape: tuple[int, int]
    bits: int
    nbytes: int
    weight: Weight


# ---- running -----------------------------------------------------------------------------------------------------

# Called as tap(names, x) with the float32 rows [tokens, in] that these linears are about to read.
Tap = Callable[[tuple[str, ...], Floats], None]


class Call(NamedTuple):
    """Linears that run in one call of the C core, ready: they share the description of their input."""

    positions: tuple[int, ...]
    input: _core.Input
    input_scale: Floats | None
    weights: tuple[_core.PackedWeight, ...]
    biases: tuple[Floats | None, ...]


class Linears(Mapping[str, Linear]):
    """A model's linears by name."""

    def __init__(self, linears: Mapping[str, Linear]) -> None:
        self._linears = dict(linears)
        self._calls: dict[tuple[str, ...], list[Call]] = {}

    def __getitem__(self, name: str) -> Linear:
        return self._linears[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._linears)

    def __len__(self) -> int:
        return len(self._linears)

    def calls(self, names: tuple[str, ...]) -> list[Call]:
        """The calls that run the linears `names` together, ready; made when first asked for."""
        calls = self._calls.get(names)
        if calls is None:
            calls = self._calls[names] = self._prepare(names)
        return calls

    def run(
        self,
        names: tuple[str, ...],
        x: Floats,
        activation: str | None = None,
        residual: Floats | None = None,
    ) -> Sequence[Floats]:
        """The outputs of the linears `names` for x [tokens, in], float32 [tokens, out] each.

        ValueError: an input that is to be quantized holds NaN or infinities.
        """
        calls = self.calls(names)
        if len(calls) == 1:
            return _run_call(names, calls[0], x, activation, residual)
        outputs: list[Any] = [None] * len(names)
        for call in calls:
            for position, y in zip(call.positions, _run_call(names, call, x, activation, residual), strict=True):
                outputs[position] = y
        return outputs

    def _prepare(self, names: tuple[str, ...]) -> list[Call]:
        groups: dict[object, list[int]] = {}
        for position, name in enumerate(names):
            groups.setdefault(_input_key(self._linears[name]), []).append(position)
        return [self._call(names, tuple(positions)) for positions in groups.values()]

    def _call(self, names: tuple[str, ...], positions: tuple[int, ...]) -> Call:
        linears = [self._linears[names[position]] for position in positions]
        first = linears[0]
        feed = _core.Input("float") if first.activations is None else first.activations.input(first.input_scale)
        is_static = first.activations is not None and first.activations.kind == "static"
        return Call(
            positions,
            feed,
            None if is_static else first.input_scale,
            tuple(pack(linear.weight)._packed for linear in linears),
            tuple(None if linear.bias is None else to_float32(linear.bias) for linear in linears),
        )


def _input_key(linear: Linear) -> object:
    scale = linear.input_scale
    return linear.activations, None if scale is None else scale.tobytes()


def _run_call(
    names: tuple[str, ...], call: Call, x: Floats, activation: str | None, residual: Floats | None
) -> tuple[Floats, ...]:
    if call.input_scale is not None:
        x = divided(x, call.input_scale)
    nothing = (None,) * len(call.weights)
    residuals = nothing if residual is None else (residual,)
    try:
        return _core.linear(x, call.input, call.weights, call.biases, activation, residuals, nothing)
    except _core.NonFinite as error:
        raise not_finite(names[call.positions[0]], *divmod(error.args[0], max(x.shape[1], 1))) from None
    except NotImplementedError as error:
        raise UnsupportedError(f"{names[call.positions[0]]}: {error}") from None


def not_finite(name: str, token: int, feature: int) -> ValueError:
    """What to raise where a linear's input cannot be quantized."""
    where = f"feature {feature} of token {token}"
    return ValueError(f"{name}: its input is not finite ({where} of the batch)")


# ---- embedding tables --------------------------------------------------------------------------------------------


class Table:
    """An embedding table [rows, n], float or quantized by rows or groups of them; codes stay codes in memory."""

    def __init__(self, name: str, weight: Weight) -> None:
        self.name = name
        self.weight = weight
        self._gather = self._make_gather()

    @property
    def rows(self) -> int:
        """Its number of rows: ids are below it."""
        return int(self.weight.shape[0])

    def __call__(self, ids: Array, out: Floats | None = None) -> Floats:
        """The rows `ids` (int64, within the table), float32 [len(ids), n]; in `out` if it is given, or not."""
        return self._gather(ids, out)

    def _make_gather(self) -> Callable[[Array, Floats | None], Floats]:
        weight = self.weight
        if not isinstance(weight, QTensor):
            if weight.dtype == np.float32:
                return lambda ids, out: _core.gather(weight, ids, out=out)
            return lambda ids, out: to_float32(weight[ids])
        values = np.ascontiguousarray(weight.values)
        scale, zero, offset = (_flat(part) for part in (weight.scale, weight.zero_point, weight.offset))
        assert scale is not None
        scale = scale.astype(np.float32)
        zero = None if zero is None else zero.astype(np.int32)
        group = weight.group_size or 0
        group = group if group < weight.shape[1] else 0
        return lambda ids, out: _core.gather(values, ids, scale, zero, offset, group, out)


def _flat(part: Any) -> Array | None:
    return None if part is None else np.ascontiguousarray(part).reshape(-1)
