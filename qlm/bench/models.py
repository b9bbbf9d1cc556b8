"""Cases over a whole model: one forward at several sizes, for the model as it is and by each recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import Array
from ..models import Model
from ..models.base import Limits
from ..timing import Call
from .bounds import Bound
from .cases import OWN, Case, Contender, Row


class Size(NamedTuple):
    """Sentences in a batch, and tokens in each."""

    batch: int
    length: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.length}"


SIZES = (Size(1, 16), Size(1, 128), Size(32, 128))
QUICK_SIZES = (Size(1, 16),)
SECTION = "model"
FLOAT = f"{OWN} float"

Encode = Callable[[Array], object]  # token ids int64 [batch, length], without padding -> hidden states


def own_encoders(model: Model, candidates: Mapping[str, Model]) -> dict[str, Encode]:
    """qlm's contenders: the model itself, and each candidate by the name of its recipe."""
    models = {FLOAT: model, **{f"{OWN} {name}": candidate for name, candidate in candidates.items()}}
    return {name: encoder(model) for name, model in models.items()}


def encoder(model: Model) -> Encode:
    return lambda ids: model.forward(ids).last_hidden_state


def model_cases(
    model: Model, encoders: Mapping[str, Encode], sizes: Sequence[Size], name: str, missing: Sequence[Contender] = ()
) -> Iterator[Case]:
    """A case for each size; `name` is the model's in the rows, `missing`: contenders that are absent."""
    for size in sizes:
        ids = random_ids(model, size)
        operations = 2.0 * multiply_adds(model) * ids.size
        yield Case(
            SECTION,
            str(size),
            operations,
            None,
            (Bound(("int8",), operations),),
            [*(Contender(contender, _call(encode, ids)) for contender, encode in encoders.items()), *missing],
            facts={"model": name, "batch": size.batch, "length": size.length},
        )


def _call(encode: Encode, ids: Array) -> Call:
    return lambda: encode(ids)


def random_ids(model: Model, size: Size) -> Array:
    """ValueError: longer than the model takes."""
    if size.length > longest(model):
        raise ValueError(f"{size.length} tokens are more than the model takes, {longest(model)}")
    ids: Array = np.random.default_rng(0).integers(0, _limits(model).vocab_size, size, np.int64)
    return ids


def longest(model: Model) -> int:
    """Tokens of the longest sequence that the model takes."""
    return _limits(model).positions


def _limits(model: Model) -> Limits:
    return type(model).limits(model.config, "config.json")


def multiply_adds(model: Model) -> int:
    """Of the linears of all blocks, for one token; pooler and classifier see one token of each text: left out."""
    return sum(
        int(np.prod(layer.shape)) for name, layer in model.layers.items() if any(map(str.isdigit, name.split(".")))
    )


def compare_with(rows: Sequence[Row], base: str) -> None:
    """Adds to each row how many times faster than the contender `base` it was."""
    times = {(row["case"], row["threads"]): row["median"] for row in rows if row["contender"] == base}
    for row in rows:
        reference = times.get((row["case"], row["threads"]))
        if reference and row.get("median"):
            row["speedup"] = reference / row["median"]
