"""Tokens as a model runs them: sequences packed one behind another, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Array, Floats
from ..errors import shown

Ints = npt.NDArray[np.int64]


class Ragged(NamedTuple):
    """The tokens of several sequences: int64 [t] each, and `starts` [sequences + 1], where each one begins."""

    ids: Ints
    type_ids: Ints
    positions: Ints
    starts: Ints

    @property
    def lengths(self) -> Ints:
        """Tokens of each sequence."""
        return np.diff(self.starts)


def from_lists(sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Ragged:
    """From (ids, segment numbers) of each sequence, at positions from 0."""
    lengths = [len(ids) for ids, _ in sequences]
    starts = np.array([0, *accumulate(lengths)], np.int64)
    total = int(starts[-1])
    ids = np.fromiter(chain.from_iterable(ids for ids, _ in sequences), np.int64, total)
    types = np.fromiter(chain.from_iterable(types for _, types in sequences), np.int64, total)
    positions = np.arange(total, dtype=np.int64)
    if len(lengths) > 1:
        positions -= np.repeat(starts[:-1], lengths)
    return Ragged(ids, types, positions, starts)


class Padded(NamedTuple):
    """Tokens as a caller gives them: int64 [batch, length], and which of them are real (None: all)."""

    ids: Ints
    mask: npt.NDArray[np.bool_] | None
    type_ids: Ints

    @classmethod
    def of(cls, input_ids: object, attention_mask: object, token_type_ids: object) -> Padded:
        """Checked: TypeError, ValueError by the argument's name."""
        ids = _integers("input_ids", input_ids)
        if ids.ndim != 2:
            raise ValueError(f"input_ids must be [batch, length], got the shape {ids.shape}")
        types = np.zeros_like(ids) if token_type_ids is None else _integers("token_type_ids", token_type_ids)
        mask = None if attention_mask is None else _mask(attention_mask)
        for name, array in (("attention_mask", mask), ("token_type_ids", types)):
            if array is not None and array.shape != ids.shape:
                raise ValueError(f"{name} must have the shape of input_ids, {ids.shape}, got {array.shape}")
        return cls(ids, mask, types)

    def ragged(self) -> Ragged:
        """Without what is masked, wherever it stands; a position is a token's index in its row."""
        batch, length = self.ids.shape
        positions = np.arange(length, dtype=np.int64)
        if self.mask is None:
            starts = np.arange(batch + 1, dtype=np.int64) * length
            return Ragged(self.ids.reshape(-1), self.type_ids.reshape(-1), np.tile(positions, batch), starts)
        starts = np.zeros(batch + 1, np.int64)
        np.cumsum(self.mask.sum(axis=1), out=starts[1:])
        places = np.broadcast_to(positions, self.ids.shape)
        return Ragged(self.ids[self.mask], self.type_ids[self.mask], places[self.mask], starts)

    def unpack(self, rows: Floats) -> Floats:
        """[batch, length, n] of rows [t, n], zeros where masked."""
        shape = (*self.ids.shape, rows.shape[1])
        if self.mask is None:
            return rows.reshape(shape)
        out = np.zeros(shape, np.float32)
        out[self.mask] = rows
        return out

    def longest(self) -> int:
        """One past the last place of a real token in any row."""
        if self.mask is None:
            return self.ids.shape[1] if len(self.ids) else 0
        used = np.flatnonzero(self.mask.any(axis=0))
        return int(used[-1]) + 1 if used.size else 0

    def check(self, name: str, below: int) -> None:
        """ValueError: a real token's `name` is not in 0..below-1."""
        values = self.ids if name == "input_ids" else self.type_ids
        bad = (values < 0) | (values >= below)
        if self.mask is not None:
            bad &= self.mask
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            value = int(values[row, column])
            raise ValueError(f"{name} must be within 0..{below - 1}, got {value} at index ({row}, {column})")


def _integers(name: str, value: object) -> Ints:
    array = _array(name, value)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must hold integers, got {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be within int64, got {array.max()}")
    return np.ascontiguousarray(array, np.int64)


def _mask(value: object) -> npt.NDArray[np.bool_]:
    array = _array("attention_mask", value)
    if array.dtype.kind not in "biuf" and array.size:
        raise TypeError(f"attention_mask must hold 0 and 1, got {array.dtype}")
    bad = (array != 0) & (array != 1)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"attention_mask must hold 0 and 1, got {array[index]} at index {index}")
    return np.ascontiguousarray(array != 0)


def _array(name: str, value: object) -> Array:
    try:
        array: npt.NDArray[Any] = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, got rows of different lengths in {shown(value)}") from None
    if array.dtype == object:
        raise TypeError(f"{name} must be an array of numbers, got {shown(value)}")
    return array
