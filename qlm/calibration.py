"""Ranges of what a model's linears read, from data that is run through the float model once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .arrays import Floats
from .errors import shown
from .models.base import Model
from .models.batch import Padded, Ragged, from_lists
from .observers import MinMax, MovingAverageMinMax

BATCH = 32
Progress = Callable[[int, int, str], None]


class Seen:
    """The range of one input, column by column: running minima and maxima, and their moving averages by batch."""

    def __init__(self, averages: bool) -> None:
        self._columns = MinMax(axis=1)
        self._averages = (MovingAverageMinMax(axis=1), MovingAverageMinMax()) if averages else None

    def update(self, x: Floats) -> None:
        """Takes in rows [tokens, in].  ValueError: NaN or infinities."""
        self._columns.update(x)
        for average in self._averages or ():
            average.update(x)

    def columns(self, observer: str) -> tuple[Floats, Floats]:
        """(min, max) of each column, [in]."""
        low, high = self._observed(observer)[0].range()
        return low, high

    def tensor(self, observer: str) -> tuple[Floats, Floats]:
        """(min, max) of the whole input, [1] each."""
        whole = self._observed(observer)[1]
        low, high = self.columns(observer) if whole is None else whole.range()
        return _least(low), _greatest(high)

    def _observed(self, observer: str) -> tuple[MinMax | MovingAverageMinMax, MovingAverageMinMax | None]:
        if observer == "minmax":
            return self._columns, None
        assert self._averages is not None
        return self._averages


def _least(low: Any) -> Floats:
    return np.array([np.min(low)], np.float32)  # a minimum rounds nothing: its bits depend on no order


def _greatest(high: Any) -> Floats:
    return np.array([np.max(high)], np.float32)


class Statistics:
    """What each linear's input looked like.  Linears that are called together share it.

    Nothing here depends on how calibration data was cut into batches, except moving averages, which are by batch.
    """

    def __init__(self, *, averages: bool = False) -> None:
        self._averages = averages
        self._seen: dict[tuple[str, ...], Seen] = {}
        self._group: dict[str, tuple[str, ...]] = {}

    def tap(self, names: tuple[str, ...], x: Floats) -> None:
        """Takes in the rows that the linears `names` read."""
        if names not in self._seen:
            self._seen[names] = Seen(self._averages)
            self._group.update(dict.fromkeys(names, names))
        try:
            self._seen[names].update(x)
        except ValueError as error:
            raise ValueError(f"{names[0]}: its input {str(error).removeprefix('x ')}") from None

    def of(self, name: str) -> Seen:
        """What the linear `name` read."""
        return self._seen[self._group[name]]

    def sharing(self, name: str) -> tuple[str, ...]:
        """The linears that read the same input, `name` among them."""
        return self._group[name]


def calibrate(model: Model, data: object, *, averages: bool = False, progress: Progress | None = None) -> Statistics:
    """Runs the data through the model, padding dropped, 32 texts at a time in their order.

    data: texts; token ids (an integer array [length] or [batch, length]); mappings of input_ids, attention_mask and
    token_type_ids; or any iterable of these.  ValueError: no token at all, or activations that are not finite.
    """
    statistics = Statistics(averages=averages)
    done = tokens = 0
    total = len(data) if isinstance(data, (list, tuple)) else 0
    for batch in batches(model, data):
        if len(batch.ids):
            model.observe(batch, statistics.tap)
        tokens += len(batch.ids)
        done += len(batch.starts) - 1
        if progress is not None:
            progress(min(done, total) if total else done, total, "calibrating")
    if not tokens:
        raise ValueError("calibration holds no token")
    return statistics


def batches(model: Model, data: object) -> Iterator[Ragged]:
    """The tokens of calibration data, in its order."""
    texts: list[str] = []
    for item in _items(data):
        if isinstance(item, str):
            texts.append(item)
            if len(texts) == BATCH:
                yield from_lists(model.tokenize(texts))
                texts = []
            continue
        if texts:
            yield from_lists(model.tokenize(texts))
            texts = []
        yield from _batch(model, item)
    if texts:
        yield from_lists(model.tokenize(texts))


def _items(data: object) -> Iterable[Any]:
    if isinstance(data, (str, Mapping)) or (isinstance(data, np.ndarray) and data.dtype.kind in "iu"):
        return [data]
    if isinstance(data, (list, tuple)) and data and all(isinstance(n, (int, np.integer)) for n in data):
        return [data]
    if isinstance(data, bytes) or not isinstance(data, Iterable):
        raise TypeError(f"calibration must be texts, token arrays or batches of them, got {shown(data)}")
    return data


def _batch(model: Model, item: Any) -> Iterator[Ragged]:
    if isinstance(item, (list, tuple)) and item and all(isinstance(text, str) for text in item):
        for begin in range(0, len(item), BATCH):
            yield from_lists(model.tokenize(item[begin : begin + BATCH]))
        return
    yield _tokens(model, item)


def _tokens(model: Model, item: Any) -> Ragged:
    parts = item if isinstance(item, Mapping) else {"input_ids": item}
    if "input_ids" not in parts:
        raise ValueError(f"calibration: a batch needs input_ids, got {shown(sorted(map(str, parts)))}")
    ids, mask, types = (_two_dimensional(parts.get(name)) for name in ("input_ids", "attention_mask", "token_type_ids"))
    padded = Padded.of(ids, mask, types)
    model.check_tokens(padded)
    return padded.ragged()


def _two_dimensional(value: Any) -> Any:
    """One sequence is a batch of one."""
    if value is None:
        return None
    array = np.asarray(value)
    return array[np.newaxis] if array.ndim == 1 else array
