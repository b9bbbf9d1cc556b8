"""exp, tanh, erf and positive GELU are within 2 units in the last place of float64; the scalar tier stands for all."""

import numpy as np
import pytest
import reference as ref

POINTS = 200_000
RANGES = {
    ref.EXP: [(-87.3, 88.72), (-1.0, 1.0), (-1e-3, 1e-3)],
    ref.TANH: [(-10.0, 10.0), (-0.7, 0.7), (-1e-3, 1e-3)],
    ref.ERF: [(-4.5, 4.5), (-1.0, 1.0), (-1e-3, 1e-3)],
    ref.GELU: [(0.0, 8.0), (0.0, 1.0), (0.0, 1e-3)],
}


@pytest.mark.parametrize("function", RANGES, ids=["exp", "tanh", "erf", "gelu"])
def test_function_is_within_2_ulps(bench, rng, function):
    for low, high in RANGES[function]:
        x = rng.uniform(low, high, POINTS // 4).astype(np.float32)
        x = np.concatenate([x, np.linspace(low, high, POINTS // 20).astype(np.float32)])
        distance = ref.ulps(bench.evaluate(function, x), ref.FUNCTIONS_FLOAT64[function](x))
        worst = int(distance.argmax())
        assert distance[worst] <= 2, f"{distance[worst]:.3f} units at {x[worst]!r}"


def test_gelu_below_zero(bench, rng):
    """What Phi(x) lacks, times |x|: it is 0 from -5.5 on."""
    x = np.concatenate([rng.uniform(-8, 0, POINTS), -np.geomspace(1e-30, 8, POINTS // 2)]).astype(np.float32)
    error = np.abs(bench.evaluate(ref.GELU, x) - ref.FUNCTIONS_FLOAT64[ref.GELU](x))
    assert (error <= 1.25 * 2.0**-24 * np.abs(x)).all()
    assert error.max() <= 1.2e-7


@pytest.mark.parametrize("function", [ref.EXP, ref.TANH, ref.ERF], ids=["exp", "tanh", "erf"])
def test_function_of_small_and_subnormal_values(bench, rng, function):
    """Each binade down to the subnormals, both signs. A subnormal result is held to its own spacing."""
    exponents = np.repeat(np.arange(-149, 2), 200)
    x = np.ldexp(rng.uniform(1, 2, exponents.size), exponents).astype(np.float32)
    x = np.concatenate([x, -x])
    distance = ref.ulps(bench.evaluate(function, x), ref.FUNCTIONS_FLOAT64[function](x))
    worst = int(distance.argmax())
    assert distance[worst] <= 2, f"{distance[worst]:.3f} units at {x[worst]!r}"


SPECIAL_VALUES = {
    ref.EXP: [(0.0, 1.0), (-0.0, 1.0), (np.inf, np.inf), (-np.inf, 0.0), (-87.4, 0.0), (-1e30, 0.0), (89.0, np.inf)],
    ref.TANH: [(0.0, 0.0), (-0.0, -0.0), (np.inf, 1.0), (-np.inf, -1.0), (50.0, 1.0), (-1e30, -1.0)],
    ref.ERF: [(0.0, 0.0), (-0.0, -0.0), (np.inf, 1.0), (-np.inf, -1.0), (50.0, 1.0), (-1e30, -1.0)],
    ref.GELU: [(0.0, 0.0), (-0.0, 0.0), (np.inf, np.inf), (-np.inf, 0.0), (5.5, 5.5), (-5.5, 0.0), (-1e30, 0.0)],
    ref.RELU: [(-1.0, 0.0), (-0.0, 0.0), (2.5, 2.5), (-np.inf, 0.0), (np.inf, np.inf)],
    ref.IDENTITY: [(-0.0, -0.0), (1e-45, 1e-45), (-np.inf, -np.inf)],
}


@pytest.mark.parametrize("function", SPECIAL_VALUES)
def test_function_at_special_values(bench, function):
    x, wanted = np.array(SPECIAL_VALUES[function], np.float32).T.copy()
    assert bench.evaluate(function, x).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("function", range(ref.ERF + 1))
def test_nan_is_stored_as_the_canonical_one(bench, function):
    x = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF812345], np.uint32).view(np.float32)
    assert (bench.evaluate(function, x).view(np.uint32) == 0x7FC00000).all()
