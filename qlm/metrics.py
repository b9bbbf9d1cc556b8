"""Distances between the answers of two models, row by row, in float64 (algorithms: docstrings).

Sums are `math.fsum`, exact and rounded once, and no NumPy reduction or transcendental runs, so that the figures do not
depend on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def cosines(first: Floats, second: Floats) -> list[float]:
    """Cosine of each pair of rows of two [n, d] arrays; 1 where both rows are zero, 0 where one is."""
    return [cosine(a, b) for a, b in zip(first.astype(np.float64), second.astype(np.float64), strict=True)]


def cosine(first: Floats, second: Floats) -> float:
    """Cosine of two vectors of float64, within [-1, 1].  Equal vectors give exactly 1."""
    if np.array_equal(first, second):
        return 1.0
    norms = [math.fsum((vector * vector).tolist()) for vector in (first, second)]
    if 0.0 in norms:
        return 0.0
    dot = math.fsum((first * second).tolist())
    return max(-1.0, min(1.0, dot / math.sqrt(norms[0]) / math.sqrt(norms[1])))


def divergences(reference: Floats, candidate: Floats) -> list[float]:
    """KL(reference || candidate) in nats of the softmax of each pair of rows of two [n, labels] arrays of logits."""
    return [
        divergence(log_softmax(a), log_softmax(b)) for a, b in zip(reference.tolist(), candidate.tolist(), strict=True)
    ]


def divergence(reference: Sequence[float], candidate: Sequence[float]) -> float:
    """sum p (log p - log q) of two lists of log-probabilities; rounding below 0 is cut."""
    return max(0.0, math.fsum(math.exp(p) * (p - q) for p, q in zip(reference, candidate, strict=True)))


def log_softmax(logits: Sequence[float]) -> list[float]:
    greatest = max(logits)
    total = math.log(math.fsum(math.exp(value - greatest) for value in logits))
    return [value - greatest - total for value in logits]
