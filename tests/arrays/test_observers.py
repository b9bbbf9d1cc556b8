"""Observers: many updates are one big one, order matters only for the moving average, settings and misuse."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import qlm
from qlm.observers import MinMax, MovingAverageMinMax, Observer, resolve

numbers = st.floats(-1e6, 1e6, width=32)
batches = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(3)), elements=numbers), min_size=1, max_size=5
)


@given(batches, st.sampled_from([None, 1, -1]))
def test_many_updates_equal_one(parts: list[np.ndarray], axis: int | None) -> None:
    one, many = MinMax(axis=axis), MinMax(axis=axis)
    one.update(np.concatenate(parts))
    for part in parts:
        many.update(part)
    halves = [MinMax(axis=axis), MinMax(axis=axis)]
    for i, part in enumerate(parts):
        halves[i % 2].update(part)
    merged = halves[1].merge(halves[0])
    assert merged is halves[1]
    for other in (many, merged):
        for got, wanted in zip(other.range(), one.range(), strict=True):
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, wanted)


@given(batches)
def test_a_moving_average_by_its_formula(parts: list[np.ndarray]) -> None:
    observer = MovingAverageMinMax(0.1)
    low = high = None
    for part in parts:
        observer.update(part)
        if part.size:
            first = low is None
            low = part.min() if first else np.float32(float(low) + 0.1 * (float(part.min()) - float(low)))
            high = part.max() if first else np.float32(float(high) + 0.1 * (float(part.max()) - float(high)))
    wanted = (low or 0, high or 0)
    assert observer.range() == wanted


def test_a_moving_average_near_the_ends_of_float32() -> None:
    largest = np.finfo(np.float32).max
    observer = MovingAverageMinMax(0.5)
    observer.update([-largest, largest])
    observer.update([largest, largest])
    assert observer.range() == (0, largest)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint16"])
@pytest.mark.parametrize("axis", [None, 0])
def test_parameters_are_those_of_quantize(rng: np.random.Generator, dtype: str, axis: int | None) -> None:
    x = rng.normal(size=(4, 6)) + 1
    for symmetric in (None, False, True):
        observer = MinMax(symmetric=symmetric, axis=axis)
        observer.update(x)
        q = qlm.quantize(x, dtype, symmetric=symmetric, axis=axis)
        scale, zero = observer.qparams(dtype)
        np.testing.assert_array_equal(scale, q.scale)
        np.testing.assert_array_equal(zero, 0 if q.zero_point is None else q.zero_point)
    assert qlm.quantize(x, dtype, scale=scale, zero_point=zero, axis=axis).scale.shape == np.shape(scale)


def test_what_is_not_finite_leaves_the_observer_as_it_was() -> None:
    observer = MinMax()
    observer.update([1.0, 2.0])
    with pytest.raises(ValueError, match=r"^x holds inf at index \(1,\)"):
        observer.update([9.0, np.inf])
    assert observer.range() == (1, 2)


def test_reset_forgets_and_keeps_settings() -> None:
    observer = MovingAverageMinMax(0.5, symmetric=False, axis=0)
    observer.update(np.ones((2, 3)))
    observer.reset()
    assert repr(observer) == "MovingAverageMinMax(averaging_constant=0.5, symmetric=False, axis=0)"
    with pytest.raises(ValueError, match="has seen no array"):
        observer.range()
    observer.update(np.ones((5, 3)))
    assert observer.range()[0].shape == (5,)


def test_an_empty_array_has_no_range_of_its_own() -> None:
    observer = MinMax()
    observer.update(np.ones(0))
    assert observer.range() == (0, 0)
    observer.update([3.0, 4.0])
    observer.update(np.ones(0))
    assert observer.range() == (3, 4)


def test_ranges_do_not_alias_the_state() -> None:
    observer = MinMax(axis=0)
    observer.update([[1.0], [2.0]])
    observer.range()[0][:] = 9
    np.testing.assert_array_equal(observer.range()[0], [1, 2])


def test_merging() -> None:
    empty, full = MinMax(), MinMax()
    full.update([1.0, 5.0])
    assert full.merge(MinMax()).range() == (1, 5)
    assert empty.merge(full).range() == (1, 5)
    with pytest.raises(TypeError, match="depends on order"):
        MovingAverageMinMax().merge(MovingAverageMinMax())
    with pytest.raises(TypeError, match="other must be a MinMax"):
        full.merge(MovingAverageMinMax())
    with pytest.raises(ValueError, match="settings"):
        full.merge(MinMax(axis=0))
    three, four = MinMax(axis=0), MinMax(axis=0)
    three.update(np.ones(3))
    four.update(np.ones(4))
    with pytest.raises(ValueError, match="3 indices"):
        three.merge(four)
    with pytest.raises(ValueError, match="3 indices along axis 0, got 4"):
        three.update(np.ones(4))


@pytest.mark.parametrize("name", ["minmax", "MinMax", "min-max", "MIN_MAX"])
def test_names_of_min_max(name: str) -> None:
    assert type(resolve(name)) is MinMax


@pytest.mark.parametrize("name", ["moving_average", "moving-average-minmax", "MovingAverage", "MovingAverageMinMax"])
def test_names_of_the_moving_average(name: str) -> None:
    assert type(resolve(name)) is MovingAverageMinMax


def test_an_observer_gives_a_fresh_one() -> None:
    mine = MovingAverageMinMax(0.3, axis=1)
    mine.update(np.ones((2, 2)))
    fresh = resolve(mine)
    assert fresh is not mine
    assert repr(fresh) == repr(mine)
    with pytest.raises(ValueError, match="no array"):
        fresh.range()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: resolve("percentil"), ValueError, "observer must be one of minmax, moving_average, got 'percentil'"),
        (lambda: resolve("Percentile"), qlm.UnsupportedError, "observer: Percentile is not supported yet"),
        (lambda: resolve(MinMax), TypeError, "observer must be a name or an observer"),
        (lambda: resolve(None), TypeError, "observer must be a name or an observer"),
        (lambda: MinMax(symmetric=1), TypeError, "symmetric must be True, False or None, got 1"),
        (lambda: MinMax(axis=1.0), TypeError, "axis must be an integer, got 1.0"),
        (lambda: MovingAverageMinMax(0), ValueError, "averaging_constant must be within 0..1"),
        (lambda: MovingAverageMinMax(float("nan")), ValueError, "averaging_constant must be within 0..1"),
        (lambda: MovingAverageMinMax("x"), TypeError, "averaging_constant must be a number"),
        (lambda: MinMax(axis=2).update(np.ones((2, 2))), ValueError, "axis must be within"),
    ],
)
def test_misuse(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_the_base_is_no_observer_by_itself() -> None:
    base = Observer()
    base.update([1.0])
    with pytest.raises(NotImplementedError):
        base.update([2.0])
