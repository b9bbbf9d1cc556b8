"""Cosine and KL divergence against float64 NumPy."""

import math

import numpy as np
import pytest

from qlm.metrics import cosine, cosines, divergences, log_softmax


def test_cosines_equal_numpys():
    random = np.random.default_rng(0)
    a = random.standard_normal((20, 48)).astype(np.float32)
    b = (a + 0.1 * random.standard_normal(a.shape)).astype(np.float32)
    x, y = a.astype(np.float64), b.astype(np.float64)
    expected = (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    np.testing.assert_allclose(cosines(a, b), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([1.0, 2.0], [1.0, 2.0], 1.0), ([1.0, 2.0], [-1.0, -2.0], -1.0), ([0.0, 0.0], [1.0, 0.0], 0.0),
     ([0.0, 0.0], [0.0, 0.0], 1.0), ([1e-200, 0.0], [1e-200, 0.0], 1.0), ([3.0, 0.0], [0.0, 2.0], 0.0)],
)  # fmt: skip
def test_cosine_of_special_vectors(a, b, expected):
    assert cosine(np.array(a), np.array(b)) == expected


def test_cosine_stays_within_one():
    random = np.random.default_rng(1)
    for _ in range(200):
        vector = random.standard_normal(7)
        assert cosine(vector, vector * random.uniform(0.1, 9)) <= 1.0


def test_divergences_equal_numpys():
    random = np.random.default_rng(2)
    p, q = random.standard_normal((2, 30, 5)) * 3
    softmax = [np.exp(x - x.max(1, keepdims=True)) for x in (p, q)]
    first, second = (x / x.sum(1, keepdims=True) for x in softmax)
    np.testing.assert_allclose(divergences(p, q), (first * np.log(first / second)).sum(1), rtol=1e-12)


def test_divergence_is_zero_of_equals_and_finite_at_the_ends():
    logits = np.array([[1000.0, -1000.0, 3.0]])
    assert divergences(logits, logits) == [0.0]
    assert divergences(logits, logits[:, ::-1])[0] == pytest.approx(997.0)


def test_log_softmax_sums_to_one():
    values = log_softmax([3.0, -2.0, 900.0, 899.5])
    assert math.fsum(map(math.exp, values)) == pytest.approx(1.0, abs=1e-15)
