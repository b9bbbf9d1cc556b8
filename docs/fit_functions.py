"""Fits the polynomials of csrc/kernels/functions.inc.h and prints them as C constants.

Run it with NumPy and mpmath: ``python docs/fit_functions.py``.

Three polynomials carry exp, tanh and erf:

- ``(exp(r) - 1 - r) / r**2`` on [-log(2) / 2, log(2) / 2], weighted by what an error does to exp(r) - 1;
- ``log(erfc(-b)) / b - 1`` for b in [-3.93, 0], weighted by what an error does to erf(-b): near 0 it counts in full,
  near -3.93 hardly at all;
- ``(tanh(a) / a - 1) / t`` with t = a**2 for a in [0, 0.55], weighted by what an error does to tanh(a).

A fourth makes attention's weights of 8 bits: ``(255 * 2**r - 255) / r`` on [-1 / 2, 1 / 2], weighted by what an error
does to 2**r; printed from the first power on.

GELU has eight of its own, one for each eighth of what it covers: the normal tail Phi(-a) in r, |r| <= 1 / 2, where a =
(i + r + 1 / 2) / 1.409; the last ends at r = 1 / 4 with exactly 0.

Each fit is minimax by Lawson's iteration: weighted least squares, each weight multiplied by the error at its point.
Then the coefficients are rounded to float32 one after the other, lowest power first, and the rest is fitted again.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp
import numpy as np

Array = np.ndarray
Function = Callable[[mp.mpf], mp.mpf]
UNIT = 2.0**24  # errors are printed in units of half a float32 spacing at 1
GELU_PIECES, GELU_DEGREE = 8, 6
GELU_SCALE = float.fromhex("0x1.68ba2ep+0")  # 7.75 / 5.5: 5.5 times it, less 1 / 2, rounds to 7 + GELU_END
GELU_END = 0.25
POINTS = 1200  # even: none of them is 0

mp.mp.dps = 40


def chebyshev_points(low: float, high: float) -> Array:
    """Points that lie dense at both ends, where minimax errors peak."""
    angles = np.pi * (np.arange(POINTS) + 0.5) / POINTS
    return (low + high) / 2 - (high - low) / 2 * np.cos(angles)


def evaluate(function: Function, points: Array) -> Array:
    return np.array([np.longdouble(mp.nstr(function(mp.mpf(float(p))), 30)) for p in points])


def least_squares(matrix: Array, target: Array) -> Array:
    """float64 least squares, refined once with a long double residual."""
    size = np.abs(matrix).max(axis=0)
    scaled = (matrix / size).astype(np.float64)
    solution = np.linalg.lstsq(scaled, target.astype(np.float64), rcond=None)[0] / size
    residual = target - matrix @ solution
    return solution + np.linalg.lstsq(scaled, residual.astype(np.float64), rcond=None)[0] / size


def minimax(powers: Array, target: Array, weight: Array, iterations: int = 200) -> tuple[Array, float]:
    """Coefficients of ``powers`` with the least largest weighted error, and that error."""
    emphasis = np.ones(len(target), dtype=np.longdouble)
    best: tuple[Array, float] | None = None
    for _ in range(iterations):
        root = np.sqrt(emphasis / emphasis.sum())
        coefficients = least_squares(powers * (weight * root)[:, None], target * weight * root)
        errors = np.abs(powers @ coefficients - target) * weight
        worst = float(errors.max())
        if best is None or worst < best[1]:
            best = coefficients, worst
        emphasis = emphasis * (errors / errors.max()) + np.longdouble(1e-30)
    assert best is not None
    return best


def powers_of(points: Array, degree: int) -> Array:
    return np.stack([points.astype(np.longdouble) ** k for k in range(degree + 1)], axis=1)


def fit_float32(powers: Array, target: Array, weight: Array) -> tuple[list[float], float]:
    """float32 coefficients, lowest power first, and the largest weighted error that they leave."""
    rest = target.copy()
    rounded: list[float] = []
    for k in range(powers.shape[1]):
        coefficient = float(np.float32(minimax(powers[:, k:], rest, weight)[0][0]))
        rounded.append(coefficient)
        rest = rest - powers[:, k] * np.longdouble(coefficient)
    return rounded, float((np.abs(rest) * weight).max())


def show(name: str, values: list[float]) -> None:
    for index, value in enumerate(values):
        print(f"    {name}_{index}  {value.hex()}  {value!r}")


def fit(name: str, points: Array, function: Function, weight: Function, degree: int) -> None:
    powers = powers_of(points, degree)
    coefficients, error = fit_float32(powers, evaluate(function, points), evaluate(weight, points))
    print(f"{name}: error {error * UNIT:.3f} / 2**24")
    show(name, coefficients)


def show_halves(name: str, value: mp.mpf) -> None:
    """A float32 and the float32 that it lacks."""
    high = float(np.float32(value))
    show(name, [high, float(np.float32(value - mp.mpf(high)))])


def small_tanh(t: mp.mpf) -> mp.mpf:
    a = mp.sqrt(t)
    return (mp.tanh(a) / a - 1) / t


def horner(coefficients: list[float], x: float) -> float:
    """By float32 fused multiply-adds, lowest power first; a long double holds a product and a sum well enough."""
    value = np.float32(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = np.float32(np.longdouble(value) * np.longdouble(x) + np.longdouble(coefficient))
    return float(value)


def fit_tail(piece: int) -> tuple[list[float], float]:
    """The normal tail over one piece, as GELU takes it."""
    last = piece == GELU_PIECES - 1
    points = chebyshev_points(-0.5, GELU_END if last else 0.5)
    target = evaluate(lambda r: mp.ncdf(-(r + piece + mp.mpf("0.5")) / mp.mpf(GELU_SCALE)), points)
    powers, weight = powers_of(points, GELU_DEGREE), np.ones(POINTS, dtype=np.longdouble)
    if not last:
        return fit_float32(powers, target, weight)
    powers = powers[:, 1:] - np.longdouble(GELU_END) ** np.arange(1, GELU_DEGREE + 1)
    rest, error = fit_float32(powers, target - target[-1], weight)  # what is left at the end is left out all over
    return [-horner(rest, GELU_END) * GELU_END, *rest], error


def fit_gelu() -> None:
    pieces = [fit_tail(piece) for piece in range(GELU_PIECES)]
    print(f"QLM_GELU: largest error {max(error for _, error in pieces) * UNIT:.3f} / 2**24")
    for power in range(GELU_DEGREE + 1):
        print(f"    {{{', '.join(coefficients[power].hex() for coefficients, _ in pieces)}}}")


def main() -> None:
    half = float(mp.log(2) / 2)
    points = chebyshev_points(-half, half)
    fit("QLM_EXP", points, lambda r: (mp.expm1(r) - r) / r**2, lambda r: abs(r**2 / mp.expm1(r)), 4)

    points = chebyshev_points(-3.93, 0.0)
    fit("QLM_ERFC", points, lambda b: mp.log(mp.erfc(-b)) / b - 1, lambda b: b * mp.erfc(-b) / mp.erf(b), 8)

    points = chebyshev_points(0.0, 0.55**2)
    fit("QLM_TANH", points, small_tanh, lambda t: t * mp.sqrt(t) / mp.tanh(mp.sqrt(t)), 4)

    points = chebyshev_points(-0.5, 0.5)
    fit("QLM_WEIGHT", points, lambda r: 255 * mp.expm1(r * mp.log(2)) / r, lambda r: abs(r / 255 / mp.power(2, r)), 2)

    fit_gelu()
    show_halves("log(2)", mp.log(2))
    show_halves("log2(e)", 1 / mp.log(2))


if __name__ == "__main__":
    main()
