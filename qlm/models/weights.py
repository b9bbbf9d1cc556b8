"""What a model has learned, by name, and how it is taken from a checkpoint.

A family says in a Layout which tensors it has and of what shape; names are Hugging Face's without the family's
prefix.  The checkpoint's own names are kept, so that a save writes those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..arrays import Array
from ..errors import FormatError, UnsupportedError
from ..qtensor import QTensor
from .linear import Linear, Linears, Table, Weight

FLOATS = ("float16", "bfloat16", "float32", "float64")


class Layout(NamedTuple):
    """A family's tensors: linears (out, in), each with or without a bias, embedding tables (rows, n), vectors (n)."""

    linears: Mapping[str, tuple[int, int]]
    tables: Mapping[str, tuple[int, int]]
    vectors: Mapping[str, tuple[int]]


class Source(Protocol):
    """Tensors to be read by the names of a Layout, one at a time."""

    def __contains__(self, name: object, /) -> bool:
        """Whether there is such a tensor."""

    def original(self, name: str) -> str:
        """The tensor's name in the file."""

    def file(self, name: str) -> str:
        """The file that holds it, or should."""

    def read(self, name: str) -> Weight:
        """Its value."""

    def linear(self, name: str, weight: Weight, bias: Array | None) -> Linear:
        """The linear `name` of these parts, with what the file says about its input."""


@dataclass(frozen=True)
class Weights:
    """linears, tables and vectors by name; `names` gives the checkpoint's names of their tensors."""

    linears: Linears
    tables: Mapping[str, Table]
    vectors: Mapping[str, Array]
    names: Mapping[str, str] = field(default_factory=dict)

    def tensors(self) -> Iterator[tuple[str, Weight]]:
        """All that is stored, by the checkpoint's names."""
        for name, table in self.tables.items():
            yield self.stored_name(name, "weight"), table.weight
        for name, vector in self.vectors.items():
            yield self.names.get(name, name), vector
        for name, linear in self.linears.items():
            for part, value in linear.tensors().items():
                yield self.stored_name(name, part), value

    def stored_name(self, name: str, part: str) -> str:
        """The checkpoint's name of a part of a linear or table."""
        weight = self.names.get(f"{name}.weight", f"{name}.weight")
        return weight.removesuffix("weight") + part

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(int(value.nbytes) for _, value in self.tensors())

    @property
    def num_parameters(self) -> int:
        """Elements of weights, biases, tables and vectors; scales are none."""
        arrays: list[Any] = [table.weight for table in self.tables.values()]
        arrays += self.vectors.values()
        arrays += [linear.weight for linear in self.linears.values()]
        arrays += [linear.bias for linear in self.linears.values() if linear.bias is not None]
        return sum(int(array.size) for array in arrays)


class Convert(NamedTuple):
    """What happens to tensors while they are read: each linear and each table passes through."""

    linear: Callable[[Linear], Linear]
    table: Callable[[Table], Table]


KEEP = Convert(lambda linear: linear, lambda table: table)


def read_weights(source: Source, layout: Layout, convert: Convert = KEEP) -> Weights:
    """Reads a Layout's tensors, one at a time.  FormatError: one is missing, or has another shape or type."""
    names: dict[str, str] = {}
    tables, vectors, linears = {}, {}, {}
    for name, shape in layout.tables.items():
        tables[name] = convert.table(Table(name, _read(source, f"{name}.weight", shape, names)))
    for name, length in layout.vectors.items():
        vectors[name] = _read_floats(source, name, length, names)
    for name, (rows, columns) in layout.linears.items():
        bias = _read_floats(source, f"{name}.bias", (rows,), names) if f"{name}.bias" in source else None
        weight = _read(source, f"{name}.weight", (rows, columns), names)
        linears[name] = convert.linear(source.linear(name, weight, bias))
    return Weights(Linears(linears), tables, vectors, names)


def _read(source: Source, name: str, shape: tuple[int, ...], names: dict[str, str]) -> Weight:
    if name not in source:
        raise FormatError("the tensor is missing", file=source.file(name), key=source.original(name))
    value = source.read(name)
    names[name] = source.original(name)
    if value.shape != shape:
        reason = f"the tensor has the shape {list(value.shape)}, config.json asks for {list(shape)}"
        raise FormatError(reason, file=source.file(name), key=names[name])
    if not isinstance(value, QTensor) and value.dtype.name.startswith("float8"):
        raise UnsupportedError(f"{source.file(name)}: {names[name]} has the type {value.dtype}")
    if not isinstance(value, QTensor) and value.dtype.name not in FLOATS:
        reason = f"the tensor holds {value.dtype}, it must hold floats"
        raise FormatError(reason, file=source.file(name), key=names[name])
    return value


def _read_floats(source: Source, name: str, shape: tuple[int, ...], names: dict[str, str]) -> Array:
    value = _read(source, name, shape, names)
    if isinstance(value, QTensor):
        raise FormatError("the tensor holds codes, it must hold floats", file=source.file(name), key=names[name])
    return value
