"""Assertions for pytest: a model still answers as it did, an array is still close to what it was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .comparison import measure
from .errors import shown
from .estimate import Estimate
from .views import number

if TYPE_CHECKING:
    from .models import Model
    from .qtensor import QTensor


def assert_accuracy(
    reference: Model,
    candidate: Model,
    data: Iterable[Any],
    *,
    labels: Iterable[Any] | None = None,
    min_agreement: float | None = None,
    max_accuracy_drop: float | None = None,
    max_perplexity_ratio: float | None = None,
    max_kl: float | None = None,
) -> None:
    """Fails unless the candidate's answers on `data` keep every limit given; data and labels are those of qlm.compare.

    The measured value is held against the limit, not the end of its interval.  min_agreement and max_accuracy_drop
    are shares: 0.99 is 99 %, 0.002 is 0.2 points.  Raises AssertionError with the broken limits and the whole report;
    ValueError where a limit says nothing about these models (no classifier, no labels), or none is given.
    """
    __tracebackhide__ = True
    limits = checked_limits(
        min_agreement=min_agreement,
        max_accuracy_drop=max_accuracy_drop,
        max_perplexity_ratio=max_perplexity_ratio,
        max_kl=max_kl,
    )
    report = measure(reference, {"candidate": candidate}, data, labels, least_timings=0)["candidate"]
    broken = broken_limits(limits, {word: getattr(report, word[4:]) for word in limits})
    if broken:
        raise AssertionError("\n".join([*broken, "", str(report)]))


def assert_quantized_close(
    q: QTensor,
    x: npt.ArrayLike,
    *,
    max_abs: float | None = None,
    min_sqnr_db: float | None = None,
    min_cosine: float | None = None,
) -> None:
    """Fails unless the quantized tensor `q`, dequantized, is as close to the float array `x` (same shape) as every
    limit given asks: greatest absolute error, signal to noise in dB, cosine of all elements taken as one vector.

    Raises AssertionError with the figures and the worst element (index, values, code, scale); ValueError for another
    shape or no limit.
    """
    __tracebackhide__ = True
    if not hasattr(q, "error"):
        raise TypeError(f"q must be a QTensor, got {shown(type(q).__name__)}")
    limits = checked_limits(max_abs=max_abs, min_sqnr_db=min_sqnr_db, min_cosine=min_cosine)
    expected = np.asarray(x)
    if expected.shape != q.shape:
        raise ValueError(f"x must have the shape of q, {q.shape}, got {expected.shape}")
    stats = q.error(expected)
    figures = {"max_abs": stats.max_abs, "min_sqnr_db": stats.sqnr_db, "min_cosine": stats.cosine}
    broken = broken_limits(limits, figures)
    if broken:
        raise AssertionError("\n".join([*broken, worst_element(q, expected)]))


def checked_limits(**limits: float | None) -> dict[str, float]:
    """The limits that are given, by the argument's name: min_... or max_... a figure."""
    given = {word: limit for word, limit in limits.items() if limit is not None}
    if not given:
        raise ValueError(f"no limit is given, so nothing would be checked: give one of {', '.join(limits)}")
    for word, limit in given.items():
        if isinstance(limit, bool) or not isinstance(limit, (int, float, np.integer, np.floating)):
            raise TypeError(f"{word} must be a number, got {shown(limit)}")
        if math.isnan(limit):
            raise ValueError(f"{word} must be a number, got nan")
    return given


def broken_limits(limits: Mapping[str, float], figures: Mapping[str, float | None]) -> list[str]:
    """A line for each limit that its figure breaks; a figure that is NaN breaks every limit."""
    lines = []
    for word, limit in limits.items():
        figure = figures[word]
        if figure is None:
            needs = "labels" if word == "max_accuracy_drop" else "models that give it"
            raise ValueError(f"{word}: {word[4:]} cannot be judged here, it needs {needs}")
        at_least = word.startswith("min_")
        if (figure >= limit) if at_least else (figure <= limit):
            continue
        name = word if word == "max_abs" else word[4:]
        lines.append(f"{name} is {written(figure)}, which breaks {word} = {limit:g}")
    return lines


def written(figure: float) -> str:
    if isinstance(figure, Estimate):
        return f"{number(figure.value)} (95 %: {number(figure.low)}..{number(figure.high)})"
    return number(float(figure))


def worst_element(q: QTensor, expected: npt.NDArray[Any]) -> str:
    """Where the greatest absolute error is, NaN before all, and what stands there."""
    got = q.dequantize()
    errors = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    if not errors.size:
        return "the arrays are empty"
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(errors)), errors.shape))
    return (
        f"worst element {list(index)}: {expected[index]!s} became {got[index]!s}, off by {errors[index]:.6g}; "
        f"code {q.values[index]!s}, scale {parameter_at(q, np.asarray(q.scale), index)!s}"
    )


def parameter_at(q: QTensor, parameters: npt.NDArray[Any], index: tuple[int, ...]) -> Any:
    """The scale that the element at `index` shares."""
    if q.axis is not None:
        return parameters[index[q.axis]]
    if q.group_size is not None:
        return parameters[index[:-1] + (index[-1] // q.group_size,)]  # noqa: RUF005
    return parameters[()]
