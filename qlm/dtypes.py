"""The integer types that codes may have, by name."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .errors import UnsupportedError, shown


class QType(NamedTuple):
    """A quantized type: codes min..max, kept in memory as `storage` (4-bit codes one to a byte)."""

    name: str
    bits: int
    signed: bool
    storage: np.dtype[Any]

    @property
    def min(self) -> int:
        """The least code."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        """The greatest code."""
        return (1 << (self.bits - int(self.signed))) - 1

    @property
    def middle(self) -> int:
        """The zero point of a symmetric tensor: 0, or 2**(bits - 1) of an unsigned type."""
        return 0 if self.signed else 1 << (self.bits - 1)


def _table(*names: str) -> dict[str, QType]:
    types = {}
    for name in names:
        bits, signed = int(name.lstrip("uint")), name.startswith("int")
        storage = np.dtype(f"{'' if signed else 'u'}int{max(bits, 8)}")
        types[name] = QType(name, bits, signed, storage)
    return types


TYPES = _table("int4", "uint4", "int8", "uint8", "int16", "uint16")
_LATER = frozenset({"nf4", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 3, 5, 6, 7))})


def get(dtype: object, argument: str = "dtype") -> QType:
    """The type named `dtype`, a string or anything that NumPy takes for a dtype (np.int8, ml_dtypes.int4).

    TypeError: not a dtype.  UnsupportedError: a type that this version lacks.  ValueError: an unknown name.
    """
    name = dtype if isinstance(dtype, str) else _numpy_name(dtype, argument)
    found = TYPES.get(name)
    if found is not None:
        return found
    if name in _LATER:
        raise UnsupportedError(f"{argument}: {name} is not supported yet, there are {', '.join(TYPES)}")
    raise ValueError(f"{argument} must be one of {', '.join(TYPES)}, got {shown(name)}")


def _numpy_name(dtype: object, argument: str) -> str:
    if not isinstance(dtype, (type, np.dtype)):
        raise TypeError(f"{argument} must be the name of a type, got {shown(dtype)}")
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        raise TypeError(f"{argument} must be the name of a type, got {shown(dtype)}") from None
