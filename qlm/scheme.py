"""Scheme: how one tensor, or one kind of activations, becomes integers."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, SupportsIndex

from . import dtypes
from .errors import shown
from .observers import NAMED, canonical

GRANULARITIES = ("channel", "tensor", "group", "token")
OBSERVERS = tuple(NAMED)
GRIDS = ("affine", "interval")
MAX_GROUP = 2**31 - 1


@dataclass(frozen=True)
class Scheme:
    """A type and a grid, and what shares one scale.  What is left out is None here (`Scheme().observer`) and filled
    where the scheme is used: a recipe's own group_size and observer come first, then what is said below.

    dtype: int8, uint8, int16, uint16, int4 or uint4.
    granularity: "channel" (one scale per output of a weight, per row of an embedding table), "tensor", "group"
    (group_size neighbours along the last axis) or "token" (one per row of activations, found while they run).  Left
    out: "group" where group_size is given, else "channel" of weights, "token" of dynamic and "tensor" of static
    activations.
    symmetric: None is True for signed types and False for unsigned ones.
    observer: how a range is found, "minmax" or "moving_average"; left out, "minmax".
    grid: "affine", or "interval", which cuts [min, max] into 2**bits equal intervals.

    TypeError, ValueError: an argument that means nothing.  UnsupportedError: what a later version will have.
    """

    dtype: str = "int8"
    _: KW_ONLY
    granularity: str | None = None
    group_size: int | None = None
    symmetric: bool | None = None
    observer: str | None = None
    grid: str = "affine"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", dtypes.get(self.dtype).name)
        object.__setattr__(self, "group_size", checked_group_size(self.group_size))
        object.__setattr__(self, "observer", checked_observer(self.observer))
        self._check_words()
        self._check_group()
        self._check_grid()

    def _check_words(self) -> None:
        check_word("granularity", self.granularity, GRANULARITIES)
        if self.grid is None:
            raise TypeError("grid must be a string, got None")
        check_word("grid", self.grid, GRIDS)
        if self.symmetric is not None and not isinstance(self.symmetric, bool):
            raise TypeError(f"symmetric must be True, False or None, got {shown(self.symmetric)}")

    def _check_group(self) -> None:
        if self.granularity == "group" and self.group_size is None:
            raise ValueError("granularity 'group' needs a group_size")
        if self.group_size is not None and self.granularity not in (None, "group"):
            raise ValueError(f"group_size {self.group_size} contradicts granularity {self.granularity!r}")

    def _check_grid(self) -> None:
        if self.grid == "affine":
            return
        if self.symmetric is not None:
            raise ValueError(f"symmetric={self.symmetric} means nothing on grid 'interval', whose range is not centred")
        if self.observer not in (None, "minmax"):
            raise ValueError(f"grid 'interval' takes the observer 'minmax', got {self.observer!r}")

    @property
    def type(self) -> dtypes.QType:
        """The type `dtype` names."""
        return dtypes.get(self.dtype)

    @property
    def is_symmetric(self) -> bool:
        """`symmetric`, with None resolved."""
        return self.type.signed if self.symmetric is None else self.symmetric

    def to_dict(self) -> dict[str, Any]:
        """The settings that were given, for JSON or TOML."""
        left_out = {"granularity": None, "group_size": None, "symmetric": None, "observer": None, "grid": "affine"}
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if name not in left_out or value != left_out[name]}

    @classmethod
    def of(cls, value: object, argument: str) -> Scheme:
        """A Scheme, the name of a dtype, or a dictionary of settings, as a Scheme.  `argument` names it in errors."""
        if isinstance(value, Scheme):
            return value
        if isinstance(value, Mapping):
            check_keys(value, [field.name for field in fields(cls)], argument)
            return cls(**value)
        if isinstance(value, str):
            return cls(dtypes.get(value, argument).name)
        raise TypeError(f"{argument} must be a dtype's name, a Scheme or a dictionary, got {shown(value)}")


def fill(scheme: Scheme, place: str, *, group_size: int | None, observer: str | None, default: str) -> Scheme:
    """The scheme with nothing left out, for `place` of a recipe: its group_size and observer come in where the scheme
    has none.  `default` is the granularity without groups.  ValueError: the two contradict each other."""
    if group_size is not None:
        if scheme.group_size not in (None, group_size):
            raise ValueError(f"{place}: group_size {scheme.group_size} contradicts the recipe's {group_size}")
        if scheme.granularity not in (None, "group"):
            raise ValueError(f"{place}: granularity {scheme.granularity!r} contradicts the recipe's group_size")
    if observer is not None and scheme.observer not in (None, observer):
        raise ValueError(f"{place}: observer {scheme.observer!r} contradicts the recipe's {observer!r}")
    group = scheme.group_size if scheme.group_size is not None else group_size
    granularity = scheme.granularity
    if granularity is None:
        granularity = default if group is None else "group"
    return Scheme(
        scheme.dtype,
        granularity=granularity,
        group_size=group,
        symmetric=scheme.symmetric,
        observer=scheme.observer or observer or "minmax",
        grid=scheme.grid,
    )


# ---- checks shared with recipes ----------------------------------------------------------------------------------


def check_word(argument: str, value: object, words: tuple[str, ...]) -> None:
    """None or one of the words."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, got {shown(value)}")
    if value not in words:
        raise ValueError(f"{argument} must be one of {', '.join(words)}, got {shown(value)}")


def checked_observer(value: object) -> str | None:
    """None, or the name of an observer that this version has; case, "-" and "_" do not matter."""
    if isinstance(value, str):
        return canonical(value)
    check_word("observer", value, OBSERVERS)
    return None


def checked_group_size(value: object) -> int | None:
    """None, or an integer from 1 to MAX_GROUP as int."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"group_size must be an integer, got {shown(value)}")
    size = operator.index(value)
    if not 1 <= size <= MAX_GROUP:
        raise ValueError(f"group_size must be within 1..{MAX_GROUP}, got {size}")
    return size


def check_keys(given: Mapping[Any, Any], known: list[str], argument: str) -> None:
    """ValueError: a key that is not among the known ones."""
    for key in given:
        if key not in known:
            raise ValueError(f"{argument} has no setting {shown(key)}, there are {', '.join(known)}")
