"""What a candidate model costs and loses against a reference, measured on the user's own texts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from ._core import get_num_threads, pool
from .arrays import Array, Floats, to_float32
from .errors import shown
from .estimate import Estimate, mean, median, paired_difference, proportion
from .metrics import cosines, divergences
from .qtensor import QTensor, _error_stats
from .report import Comparison, LayerError, Report

if TYPE_CHECKING:
    from .models import Model
    from .models.linear import Linear

BATCH_SIZE = 32
LEAST_TIMINGS = 15  # short data is run again until each model has this many timings,
TIMING_SECONDS = 2.0  # or this much time has gone into them


@overload
def compare(
    reference: Model, candidate: Model, data: Iterable[Any], *, labels: Iterable[Any] | None = None
) -> Report: ...
@overload
def compare(
    reference: Model, candidate: Mapping[str, Model], data: Iterable[Any], *, labels: Iterable[Any] | None = None
) -> Comparison: ...
def compare(
    reference: Model,
    candidate: Model | Mapping[str, Model],
    data: Iterable[Any],
    *,
    labels: Iterable[Any] | None = None,
) -> Report | Comparison:
    """Runs the reference and the candidate, or each of {name: candidate}, over the same batches and reports the damage.

    data: texts, or arrays of token ids: one 1-D array a text, or a 2-D array.  It is read once, in batches of 32, and
    may be a generator.  labels: the true label of each text, as names or indices of the reference's labels; with them
    the report has accuracy and accuracy_drop.  agreement, flips and kl need models that classify.

    Times are of whole batches through the models (tokenized beforehand), each candidate right after the reference on
    equal threads, the first batch once unmeasured; the figure is the median of the paired ratios.  A short text list is
    run several times.  Raises TypeError or ValueError for data, labels or models that do not fit each other.
    """
    if isinstance(candidate, Mapping):
        return Comparison(measure(reference, candidate, data, labels))
    return measure(reference, {"candidate": candidate}, data, labels)["candidate"]


def measure(
    reference: Model,
    candidates: Mapping[str, Model],
    data: Iterable[Any],
    labels: Iterable[Any] | None = None,
    title: str = "reference",
    *,
    least_timings: int = LEAST_TIMINGS,
) -> dict[str, Report]:
    """A report for each candidate, by its name; `title` names the reference in them."""
    check_models(reference, candidates)
    tallies = {name: Tally(name, model) for name, model in candidates.items()}
    kept: list[Batch] = []
    texts = 0
    for batch in batches(reference, data, labels):
        if not texts:
            timed(reference, batch)
            for tally in tallies.values():
                tally.answer(batch)
        expected, seconds = timed(reference, batch)
        check_finite(expected, "reference", texts)
        for tally in tallies.values():
            found, own_seconds = tally.answer(batch)
            check_finite(found, tally.who, texts)
            tally.add(batch, expected, seconds, found, own_seconds)
        texts += batch.size
        if len(kept) < least_timings:
            kept.append(batch)
    if not texts:
        raise ValueError("data: no texts")
    time_again(reference, list(tallies.values()), kept, least_timings)
    return {name: make_report(reference, tally, title, texts) for name, tally in tallies.items()}


def check_models(reference: Model, candidates: Mapping[str, Model]) -> None:
    """TypeError, ValueError: no models, or models whose answers cannot be held against each other."""
    if not candidates:
        raise ValueError("candidate: no model to compare")
    for name in candidates:
        if not isinstance(name, str):
            raise TypeError(f"candidate: a name must be a string, got {shown(name)}")
    named = {f"candidate {shown(name)}": model for name, model in candidates.items()}
    for who, model in {"reference": reference, **named}.items():
        if not hasattr(model, "forward"):
            raise TypeError(f"{who} must be a Model, got {shown(model)}")
    for name, model in candidates.items():
        for word in ("labels", "hidden_size"):
            expected, found = getattr(reference, word), getattr(model, word)
            if expected != found:
                raise ValueError(f"candidate {shown(name)}: {word} {shown(found)}, the reference has {shown(expected)}")


# ---- data --------------------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Up to BATCH_SIZE texts as the reference's token ids, padded on the right: what Model.forward takes; and the index
    of each one's true label where it is known."""

    ids: Array
    mask: Array
    type_ids: Array
    labels: list[int] | None

    @property
    def size(self) -> int:
        return len(self.ids)


def batches(reference: Model, data: Iterable[Any], labels: Iterable[Any] | None) -> Iterator[Batch]:
    """The data in batches, with their labels beside them; neither is read further than the batch."""
    truth = None if labels is None else label_indices(labels, reference.labels)
    rows = items(data)
    for first in rows:
        chunk = [first, *itertools.islice(rows, BATCH_SIZE - 1)]
        wanted = None if truth is None else list(itertools.islice(truth, len(chunk)))
        if wanted is not None and len(wanted) < len(chunk):
            raise ValueError("labels: fewer than the texts in data")
        yield padded([tokens_of(reference, item) for item in chunk], wanted)
    if truth is not None and next(truth, None) is not None:
        raise ValueError("labels: more than the texts in data")


def tokens_of(reference: Model, item: Any) -> tuple[Sequence[int], Sequence[int]]:
    """Token ids and segment numbers of a text, or of a row of ids, which is one segment."""
    if isinstance(item, str):
        return reference.tokenize([item])[0]
    row = np.asarray(item)
    if row.dtype.kind not in "iu" or not row.size:
        raise TypeError(f"data must hold texts or rows of integer token ids, got {shown(item)}")
    return row.tolist(), [0] * row.size


def padded(tokens: Sequence[tuple[Sequence[int], Sequence[int]]], labels: list[int] | None) -> Batch:
    shape = len(tokens), max(len(ids) for ids, _ in tokens)
    ids, mask, type_ids = (np.zeros(shape, np.int64) for _ in range(3))
    for row, (numbers, segments) in enumerate(tokens):
        ids[row, : len(numbers)] = numbers
        type_ids[row, : len(numbers)] = segments
        mask[row, : len(numbers)] = 1
    return Batch(ids, mask, type_ids, labels)


def items(data: Iterable[Any]) -> Iterator[Any]:
    """The texts or rows of token ids in data, one by one."""
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
        raise TypeError(f"data must be a list of texts or of token arrays, got {shown(data)}")
    for item in data:
        depth = 1 if isinstance(item, str) else dimensions(item)
        if depth == 1:
            yield item
        elif depth == 2:
            yield from item
        else:
            raise TypeError(f"data must hold texts or arrays of token ids, got {shown(item)}")


def dimensions(item: Any) -> int:
    try:
        return np.ndim(item)
    except ValueError:
        raise ValueError(f"data: rows of different lengths in {shown(item)}") from None


def label_indices(labels: Iterable[Any], names: Sequence[str]) -> Iterator[int]:
    """Labels, given by name or index, as indices."""
    if not names:
        raise ValueError("labels: the reference does not classify")
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise TypeError(f"labels must be a list of names or indices, got {shown(labels)}")
    known = {**{str(index): index for index in range(len(names))}, **{name: i for i, name in enumerate(names)}}
    for position, label in enumerate(labels):
        if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
            index = int(label) if 0 <= label < len(names) else None
        else:
            index = known.get(label) if isinstance(label, str) else None
        if index is None:
            raise ValueError(f"labels[{position}]: {shown(label)} is none of {shown(list(names))} and no index of them")
        yield index


# ---- measuring ---------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What a model says of a batch: embeddings [n, d], and logits [n, labels] of a classifier."""

    embeddings: Floats
    logits: Floats | None


def timed(model: Model, batch: Batch) -> tuple[Answer, float]:
    """What the model says of the batch, and the seconds that its forward pass took."""
    begin = time.perf_counter()
    output = model.forward(batch.ids, batch.mask, batch.type_ids)
    seconds = time.perf_counter() - begin
    return Answer(embeddings(model, output.last_hidden_state, batch), output.logits), seconds


def embeddings(model: Model, states: Floats, batch: Batch) -> Floats:
    """[n, d] by the model's own pooling of the states [n, t, d]."""
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(batch.mask, axis=1))])
    rows = np.ascontiguousarray(states[batch.mask.astype(bool)])
    pooling = model.folder.pooling
    return pool(rows, starts, pooling.mode, pooling.normalize)  # type: ignore[arg-type]


def check_finite(answer: Answer, who: str, first: int) -> None:
    """ValueError: a NaN or infinity in the answers to the batch whose first text is number `first` of the data."""
    for array in (answer.embeddings, answer.logits):
        if array is not None and not (good := np.isfinite(array).all(axis=1)).all():
            raise ValueError(f"{who}: the answer to data[{first + int(np.argmin(good))}] is not finite")


@dataclass
class Tally:
    """What has been seen of one candidate."""

    name: str
    model: Model
    cosines: list[float] = field(default_factory=list)
    divergences: list[float] = field(default_factory=list)
    seconds: list[tuple[float, float]] = field(default_factory=list)  # a text's, of reference and candidate
    same: int = 0
    judged: int = 0  # texts with a true label, of which were right:
    candidate_right: int = 0
    only_reference_right: int = 0
    only_candidate_right: int = 0

    @property
    def who(self) -> str:
        """The candidate, for messages."""
        return f"candidate {shown(self.name)}"

    def answer(self, batch: Batch) -> tuple[Answer, float]:
        """`timed`.  ValueError: tokens that the reference takes and the candidate does not."""
        try:
            return timed(self.model, batch)
        except ValueError as error:
            raise ValueError(f"{self.who}: {error}") from error

    def add(self, batch: Batch, expected: Answer, expected_seconds: float, found: Answer, seconds: float) -> None:
        count = batch.size
        self.seconds.append((expected_seconds / count, seconds / count))
        self.cosines += cosines(expected.embeddings, found.embeddings)
        if expected.logits is None or found.logits is None:
            return
        self.divergences += divergences(expected.logits, found.logits)
        for index, (a, b) in enumerate(zip(best(expected.logits), best(found.logits), strict=True)):
            self.same += a == b
            if batch.labels is not None:
                self._judge(a == batch.labels[index], b == batch.labels[index])

    def _judge(self, reference_right: bool, candidate_right: bool) -> None:
        self.judged += 1
        self.candidate_right += candidate_right
        self.only_reference_right += reference_right and not candidate_right
        self.only_candidate_right += candidate_right and not reference_right


def best(logits: Floats) -> list[int]:
    """The label of each row: its greatest logit, the first of equals."""
    return [int(label) for label in np.argmax(logits, axis=1)]


def time_again(reference: Model, tallies: Sequence[Tally], kept: Sequence[Batch], least_timings: int) -> None:
    """Runs the kept batches again, the reference and each candidate in turn, until there are enough timings."""
    end = time.perf_counter() + TIMING_SECONDS
    for batch in itertools.cycle(kept):
        if len(tallies[0].seconds) >= least_timings or time.perf_counter() > end:
            return
        count = batch.size
        expected_seconds = timed(reference, batch)[1]
        for tally in tallies:
            tally.seconds.append((expected_seconds / count, timed(tally.model, batch)[1] / count))


# ---- reporting ---------------------------------------------------------------------------------------------------


def make_report(reference: Model, tally: Tally, title: str, texts: int) -> Report:
    model, judged = tally.model, tally.judged
    classifies = bool(tally.divergences)
    return Report(
        reference=title,
        candidate=tally.name,
        texts=texts,
        threads=get_num_threads(),
        reference_nbytes=reference.nbytes,
        nbytes=model.nbytes,
        reference_milliseconds=1000 * float(median([expected for expected, _ in tally.seconds])),
        milliseconds=1000 * float(median([seconds for _, seconds in tally.seconds])),
        size_ratio=Estimate(reference.nbytes / model.nbytes),
        speedup=median([expected / seconds for expected, seconds in tally.seconds]),
        cosine=mean(tally.cosines, least=True),
        agreement=proportion(tally.same, texts) if classifies else None,
        flips=proportion(texts - tally.same, texts) if classifies else None,
        accuracy=proportion(tally.candidate_right, judged) if judged else None,
        accuracy_drop=(
            paired_difference(tally.only_reference_right, tally.only_candidate_right, judged) if judged else None
        ),
        kl=mean(tally.divergences) if classifies else None,
        perplexity_ratio=None,
        layers=layer_errors(reference, model),
    )


def layer_errors(reference: Model, candidate: Model) -> dict[str, LayerError]:
    """The error of each linear's weight that both models have, by its name."""
    known = reference.weights.linears
    return {
        name: layer_error(known[name], linear) for name, linear in candidate.weights.linears.items() if name in known
    }


def layer_error(expected: Linear, found: Linear) -> LayerError:
    stats = _error_stats(effective_weight(expected), effective_weight(found))
    return LayerError(found.bits, stats.sqnr_db, stats.cosine)


def effective_weight(linear: Linear) -> Floats:
    """What the weight does to the linear's own input: SmoothQuant's divisor of the input taken out again."""
    weight = linear.weight
    floats = weight.dequantize() if isinstance(weight, QTensor) else to_float32(weight)
    return floats if linear.input_scale is None else floats / linear.input_scale
