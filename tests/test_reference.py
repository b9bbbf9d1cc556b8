"""The oracle itself: tests/reference.py against exact rational arithmetic and values worked out by hand."""

import ctypes
import ctypes.util
from fractions import Fraction

import numpy as np
import pytest
import reference as ref
from layouts import LAYOUTS, lay_out

F32 = np.float32


def hard_triples(rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Products that nearly cancel the addend, that sit near ties, and plain random patterns."""
    bits = rng.integers(0, 2**32, (3, n), dtype=np.uint32)
    a, b, c = bits.view(F32)
    near = rng.random(n) < 0.6
    a = np.where(near, rng.standard_normal(n), a).astype(F32)
    b = np.where(near, rng.standard_normal(n), b).astype(F32)
    shift = np.ldexp(1.0, rng.integers(-30, 31, n))
    close = (-np.float64(a) * np.float64(b) * np.where(rng.random(n) < 0.5, 1.0, shift)).astype(F32)
    return a, b, np.where(near, close, c).astype(F32)


def test_fma_equals_the_c_librarys(rng):
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    library.fmaf.argtypes, library.fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
    a, b, c = hard_triples(rng, 20_000)
    wanted = np.array([library.fmaf(*triple) for triple in zip(a, b, c, strict=True)], F32)
    got = ref.fma(a, b, c)
    same = (got.view(np.uint32) == wanted.view(np.uint32)) | (np.isnan(got) & np.isnan(wanted))
    assert same.all(), [x[~same][:3] for x in (a, b, c, got, wanted)]


def test_fma_is_the_float_next_to_the_exact_value(rng):
    a, b, c = (x[:2000] for x in hard_triples(rng, 6000))
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    for x, y, z in zip(a[finite], b[finite], c[finite], strict=True):
        got, exact = ref.fma(x, y, z)[()], Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        if not np.isfinite(got):
            assert abs(exact) > Fraction(float(ref.FLT_MAX))
            continue
        error = abs(Fraction(float(got)) - exact)
        for neighbour in (np.nextafter(got, F32(-np.inf)), np.nextafter(got, F32(np.inf))):
            if np.isfinite(neighbour):
                assert error <= abs(Fraction(float(neighbour)) - exact), (x, y, z)


def test_fma_rounds_once():
    """(1 + 2**-23)**2 - 1 - 2**-22 = 2**-46: lost where the product is rounded first."""
    a = F32(1 + 2.0**-23)
    assert ref.fma(a, a, F32(-1 - 2.0**-22)) == F32(2.0**-46)


def test_lanes_sum_order():
    """17 values: element 16 joins lane 0; then lanes fold by 8, 4, 2, 1."""
    x = np.zeros(17, F32)
    x[0], x[16], x[8] = 2.0**24, 1.0, 1.0
    assert ref.lanes_sum(x) == F32(2.0**24)  # (2**24 + 1) + 1, each time to even
    x[0], x[16], x[8] = 2.0**24, 0.0, 2.0
    assert ref.lanes_sum(x) == F32(2.0**24 + 2)
    assert ref.lanes_sum(np.empty(0, F32)).tobytes() == F32(0).tobytes()


@pytest.mark.parametrize(
    ("low", "high", "dtype", "symmetric", "scale", "zero"),
    [
        (-1.0, 2.0, "int8", True, F32(2.0 / 127), 0),
        (-1.0, 2.0, "uint8", True, F32(2.0 / 127), 128),
        (-1.0, 2.0, "uint8", False, F32(3.0 / 255), 85),
        (1.0, 2.0, "uint8", False, F32(2.0 / 255), 0),
        (-2.0, -1.0, "uint4", False, F32(2.0 / 15), 15),
        (0.0, 0.0, "uint8", False, F32(1), 0),
        (0.0, 0.0, "int8", True, F32(1), 0),
        (0.0, 1e-38, "uint8", False, F32(2.0**-126), 0),
        (0.0, 1e-38, "int16", True, F32(2.0**-126), 0),
    ],
)
def test_qparams_by_hand(low, high, dtype, symmetric, scale, zero):
    assert ref.choose_qparams(low, high, dtype, symmetric) == (scale, zero)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint4", "int16", "uint16"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_qparams_of_huge_ranges_stay_finite(dtype, symmetric):
    for low, high in ((-ref.FLT_MAX, ref.FLT_MAX), (0, ref.FLT_MAX), (-ref.FLT_MAX, 1.0)):
        scale, zero = ref.choose_qparams(low, high, dtype, symmetric)
        first, last = ref.CodeType(dtype).bounds(symmetric)
        assert np.isfinite(scale)
        assert np.isfinite(ref.dequantize([first, last], scale, zero)).all()


def test_interval_grid_by_hand():
    grid = ref.interval_params(-1.0, 1.0, "uint8")
    assert (grid.scale, grid.offset, grid.constant) == (F32(2 / 256), F32(-1 + 1 / 256), False)
    codes = ref.interval_codes([-1.0, -0.99999, 0.0, 0.999, 1.0, 5.0], grid.min, grid.scale, 256, 0)
    assert codes.tolist() == [0, 0, 128, 255, 255, 255]
    assert ref.interval_params(3.0, 3.0, "int8").constant
    assert ref.interval_params(3.0, 3.0, "int8").offset == 3
    tiny = ref.interval_params(0.0, 1e-37, "uint8")
    assert tiny.constant
    assert tiny.offset == F32(5e-38)


def test_quantize_rounds_half_to_even():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e30, -1e30], F32)
    assert ref.quantize(x, 1.0, 0, -128, 127).tolist() == [0, 2, 2, 0, -2, -2, 127, -128]


def test_round_up_half():
    assert ref.round_up_half(F32(1.0)) == 1
    assert ref.round_up_half(F32(1.0001)) == F32(1 + 2.0**-10)
    assert ref.round_up_half(F32(1e-30)) == F32(2.0**-24)
    assert np.isinf(ref.round_up_half(F32(65505)))


def test_grouped_linear_is_close_to_the_float_product(rng):
    """All the forms of the integer linear approximate the same product."""
    x, w = rng.standard_normal((5, 48)).astype(F32), rng.standard_normal((7, 48)).astype(F32)
    for group in (0, 16):
        for dtype, symmetric in (("int8", True), ("uint8", False)):
            weight = ref.quantize_rows(w, dtype, symmetric, group)
            for act_group, interval in ((0, False), (0, True), (8, False), (16, False)):
                rows = ref.quantize_rows(x, "uint8", False, act_group, interval)
                y = ref.linear_codes(rows, weight, None, ref.IDENTITY, None, lambda f, v: v)
                exact = rows.dequantize().astype(np.float64) @ weight.dequantize().astype(np.float64).T
                assert np.abs(y - exact).max() < 1e-4
                assert np.abs(y - x @ w.T).max() < 0.5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 4), (2, 0, 3), (2, 3, 4)])
def test_layouts_keep_every_value(layout, shape, rng):
    for dtype in (np.float32, np.float64, np.float16, np.int8, np.uint16):
        x = (rng.standard_normal(shape) * 50).astype(dtype)
        laid = lay_out(x, layout)
        assert laid.shape == x.shape
        assert laid.astype(dtype).tobytes() == x.tobytes()
