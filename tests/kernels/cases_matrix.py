"""Cases of the matrix kernels, their epilogues, and the left operand of the int8 product."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import reference as ref
from cases_rows import BOUNDS_8, LONG, code_case, interval_rows, lengths_and_long, near_ties, scales, to_quantize
from kernel_case import F32, SPECIAL, Case, Setting, cases_of, normal, poison, special, strided, with_non_finite

U8, S8, S16 = range(3)
LEFT_DTYPES = {U8: np.dtype(np.uint8), S8: np.dtype(np.int8), S16: np.dtype(np.int16)}
LEFT_LIMITS = {U8: (0, 255), S8: (-128, 127), S16: (-128, 255)}
CORNERS = np.array([-128, -127, 0, 127])


def depths(setting: Setting) -> tuple[int, ...]:
    if setting.few:
        return 0, 1, 7
    return (*range(20), 31, 32, 33, 63, 64, 65, 127, 257)


def heights(setting: Setting, most: int) -> range | tuple[int, ...]:
    return (1, most) if setting.few else range(1, most + 1)


def drawn(setting: Setting, shape: tuple[int, ...], low: int, high: int, dtype: Any) -> np.ndarray:
    """Integers of a kind: random, the extremes alone, or one extreme everywhere."""
    corners = [low, low + 1, 0, high - 1, high]
    kind = setting.rng.integers(4)
    if kind == 0:
        return setting.rng.choice(corners, shape).astype(dtype)
    if kind == 1:
        return np.full(shape, setting.choice(low, high), dtype)
    return setting.rng.integers(low, high + 1, shape).astype(dtype)


# ---- products ------------------------------------------------------------------------------------------------------


def float_matrix(setting: Setting, m: int, n: int) -> np.ndarray:
    rng, kind = setting.rng, setting.rng.integers(6)
    if kind == 0:
        values = special(rng, m * n)
    elif kind == 1:
        values = with_non_finite(rng, normal(rng, m * n), 0.01)
    elif kind == 2:
        values = normal(rng, m * n) * np.exp(rng.uniform(-40, 40, m * n)).astype(F32)
    else:
        values = normal(rng, m * n)
    return values.astype(F32).reshape(m, n)


@cases_of("gemm_f32")
def gemm_f32(setting: Setting) -> Iterator[Case]:
    nr, rng = setting.constants.nr, setting.rng
    for k in depths(setting):
        for m in heights(setting, setting.constants.mr_f32):
            a, b, start = float_matrix(setting, m, k), float_matrix(setting, k, nr), float_matrix(setting, m, nr)
            accumulate = int(rng.integers(2))
            lda, ldc = k + int(rng.integers(4)), nr + int(rng.integers(3))
            expected = ref.chain(a, b, start if accumulate else 0.0)
            before = start if accumulate else poison(m * nr, F32).reshape(m, nr)
            given = {"m": m, "k": k, "a": strided(a, lda), "lda": lda, "b": b.reshape(-1), "c": strided(before, ldc)}
            given |= {"ldc": ldc, "accumulate": accumulate}
            yield Case(given, {"c": strided(expected, ldc)}, any_nan=True)


@cases_of("gemv_f32")
def gemv_f32(setting: Setting) -> Iterator[Case]:
    nr = setting.constants.nr
    for panels in (0, 1, 4, 6) if setting.few else range(14):
        k = setting.choice(*depths(setting))
        for m in (1, 2):
            a, b = float_matrix(setting, m, k), float_matrix(setting, k, panels * nr)
            lda, ldc = k + int(setting.rng.integers(4)), panels * nr + int(setting.rng.integers(3))
            given = {"m": m, "k": k, "panels": panels, "a": strided(a, lda), "lda": lda, "ldc": ldc}
            given["b"] = b.reshape(k, panels, nr).transpose(1, 0, 2).reshape(-1).copy()
            given["c"] = strided(poison(m * panels * nr, F32).reshape(m, -1), ldc)
            yield Case(given, {"c": strided(ref.chain(a, b), ldc)}, any_nan=True)


WORDS, CODES_8 = (-32768, 32767), ((-128, 127), (0, 255))


def words_case(setting: Setting, a: np.ndarray, b: np.ndarray) -> Case:
    """a [m, 2 k2], b [2 k2, nr]."""
    (m, k), nr, rng = a.shape, setting.constants.nr, setting.rng
    panel = b.reshape(-1, 2, nr).transpose(0, 2, 1).reshape(-1).copy()
    lda, ldc = k + int(rng.integers(4)), nr + int(rng.integers(3))
    given = {"m": m, "k2": k // 2, "a": strided(a, lda), "lda": lda, "b": panel, "ldc": ldc}
    given["c"] = poison((m - 1) * ldc + nr, np.int64)
    return Case(given, {"c": strided(ref.integer_product(a, b.T), ldc)})


def words_cases(setting: Setting, left: tuple[int, int], right: tuple[int, int]) -> Iterator[Case]:
    for pairs in depths(setting):
        for m in heights(setting, setting.constants.mr_16):
            a = drawn(setting, (m, 2 * pairs), *left, np.int16)
            yield words_case(setting, a, drawn(setting, (2 * pairs, setting.constants.nr), *right, np.int16))


def extreme_words(setting: Setting, left: tuple[int, int], right: tuple[int, int]) -> Iterator[Case]:
    """One product everywhere, the largest of either sign: sums of 128 pairs are what 32 bits can just hold."""
    for pairs in (129,) if setting.few else (127, 128, 129, 256, 300):
        for value in left:
            for weight in right:
                a = np.full((2, 2 * pairs), value, np.int16)
                yield words_case(setting, a, np.full((2 * pairs, setting.constants.nr), weight, np.int16))


@cases_of("gemm_16")
def gemm_16(setting: Setting) -> Iterator[Case]:
    """-32768 squared, twice, overflows 32 bits: the reason for 64-bit sums."""
    yield from words_cases(setting, WORDS, WORDS)
    yield from extreme_words(setting, WORDS, (-32768, -32513, -256, 255, 32767))


@cases_of("gemm_16_8")
def gemm_16_8(setting: Setting) -> Iterator[Case]:
    for narrow in CODES_8:
        for left, right in ((WORDS, narrow), (narrow, WORDS)):
            yield from words_cases(setting, left, right)
            yield from extreme_words(setting, left, right)


def gemm_8_case(setting: Setting, a: np.ndarray, b: np.ndarray) -> Case:
    """a [m, k] left elements, b [k, nr]; k is a multiple of k_step."""
    step, nr, rng = setting.constants.k_step, setting.constants.nr, setting.rng
    (m, k), panel = a.shape, b.reshape(-1, step, nr).transpose(0, 2, 1).reshape(-1).copy()
    stride, ldc = k + int(rng.integers(3)), nr + int(rng.integers(3))
    given = {"m": m, "kg": k // step, "a": strided(a, stride), "lda": stride * a.itemsize, "b": panel, "ldc": ldc}
    given["c"] = poison((m - 1) * ldc + nr, np.int32)
    return Case(given, {"c": strided(ref.wrap32(ref.integer_product(a, b.T)), ldc)})


@cases_of("gemm_8")
def gemm_8(setting: Setting) -> Iterator[Case]:
    constants, left = setting.constants, setting.constants.left_type
    for kg in depths(setting):
        for m in heights(setting, constants.mr_8):
            a = drawn(setting, (m, kg * constants.k_step), *LEFT_LIMITS[left], LEFT_DTYPES[left])
            b = drawn(setting, (kg * constants.k_step, constants.nr), -128, 127, np.int8)
            yield gemm_8_case(setting, a, b)


@cases_of("gemm_8")
def gemm_8_at_the_bound(setting: Setting) -> Iterator[Case]:
    """K where int32 just holds the sum of the worst products, and past it, where it wraps: 65 793 * 255 * 128 =
    2 147 483 520 <= 2**31 - 1 for u8 by s8, 131 071 * 128 * 128 = 2 147 467 264 for s8 by s8."""
    if setting.few:
        return
    constants, left = setting.constants, setting.constants.left_type
    low, high = LEFT_LIMITS[left]
    bound = 131071 if left == S8 else 65793
    for k in (bound, bound + 1, 2 * bound):
        padded = -(-k // constants.k_step) * constants.k_step
        for value, weight in ((high, -128), (high, 127), (low, -128)):
            a = np.full((2, padded), value, LEFT_DTYPES[left])
            b = np.full((padded, constants.nr), weight, np.int8)
            b[k:] = 0
            yield gemm_8_case(setting, a, b)


def widths(setting: Setting) -> tuple[int, ...]:
    """Outputs: of a part of a panel, of one, of several and a part."""
    nr = setting.constants.nr
    if setting.few:
        return 1, nr, 2 * nr + 3
    return (*range(nr + 2), 2 * nr - 1, 2 * nr, 2 * nr + 17, 5 * nr)


def panels_of(setting: Setting, b: np.ndarray) -> np.ndarray:
    """b [k, n], n a multiple of nr, as panels one behind another."""
    step, nr = setting.constants.k_step, setting.constants.nr
    return b.reshape(b.shape[0] // step, step, b.shape[1] // nr, nr).transpose(2, 0, 3, 1).reshape(-1).copy()


def linear_8_case(setting: Setting, a: np.ndarray, b: np.ndarray, n: int) -> Case:
    """a [m, k] left elements, b [k, n padded]."""
    rng, (m, k) = setting.rng, a.shape
    stride, sums = k + int(rng.integers(3)), b.astype(np.int64).sum(axis=0)[:n]
    zx = drawn(setting, (m,), -255, 255, np.int32)
    rest = drawn(setting, (m,), -(2**31), 2**31 - 1, np.int32)
    zw = maybe(setting, drawn(setting, (n,), -255, 255, np.int32))
    acc = ref.integer_product(a, b.T)[:, :n] - zx[:, None].astype(np.int64) * sums
    if zw is not None:
        acc = acc - zw.astype(np.int64) * rest[:, None]
    sw, sx, bias = factors(setting, n), factors(setting, m), maybe(setting, normal(rng, n))
    residual = maybe(setting, float_matrix(setting, m, n))
    ldr, ldo = n + int(rng.integers(3)), n + int(rng.integers(3))
    y = ref.epilogue((ref.f32(ref.wrap32(acc)) * sw) * sx[:, None], bias, ref.IDENTITY, residual, setting.evaluate)
    given = {"m": m, "n": n, "kg": k // setting.constants.k_step, "a": strided(a, stride), "lda": stride * a.itemsize}
    given |= {"b": panels_of(setting, b), "zx": zx, "rest": rest, "sums": sums.astype(np.int32), "zw": zw, "sw": sw}
    given |= {"sx": sx, "bias": bias, "residual": None if residual is None else strided(residual, ldr), "ldr": ldr}
    given |= {"out": strided(poison(m * n, F32).reshape(m, n), ldo), "ldo": ldo, "far": int(rng.integers(2))}
    given |= {"next": np.zeros(64 * 9, np.uint8), "lines": int(rng.integers(10))}  # nothing is read from there
    return Case(given, {"out": strided(y, ldo)})


@cases_of("linear_8")
def linear_8(setting: Setting) -> Iterator[Case]:
    constants, left = setting.constants, setting.constants.left_type
    for m in heights(setting, constants.rows_8):
        for n in widths(setting):
            k = constants.k_step * setting.choice(*depths(setting))
            a = drawn(setting, (m, k), *LEFT_LIMITS[left], LEFT_DTYPES[left])
            b = drawn(setting, (k, -(-n // constants.nr) * constants.nr), -128, 127, np.int8)
            yield linear_8_case(setting, a, b, n)


@cases_of("linear_8")
def linear_8_of_long_rows(setting: Setting) -> Iterator[Case]:
    """Past 192 steps of k sums lie in memory between pieces, where a call has more rows than a tile (AVX2)."""
    if setting.few:
        return
    constants, left = setting.constants, setting.constants.left_type
    for steps in (192, 193, 384, 400, 577):
        m, n, k = (
            setting.choice(*range(1, constants.rows_8 + 1)),
            setting.choice(*widths(setting)),
            steps * constants.k_step,
        )
        a = drawn(setting, (m, k), *LEFT_LIMITS[left], LEFT_DTYPES[left])
        b = drawn(setting, (k, -(-n // constants.nr) * constants.nr), -128, 127, np.int8)
        yield linear_8_case(setting, a, b, n)


@cases_of("linear_8")
def linear_8_at_the_bound(setting: Setting) -> Iterator[Case]:
    """The largest sums of codes that the correction takes: 32768 times -128, or 127."""
    if setting.few:
        return
    constants, left = setting.constants, setting.constants.left_type
    for value in LEFT_LIMITS[left]:
        for weight in (-128, 127):
            a = np.full((3, 32768), value, LEFT_DTYPES[left])
            yield linear_8_case(setting, a, np.full((32768, constants.nr), weight, np.int8), constants.nr)


# ---- epilogues -----------------------------------------------------------------------------------------------------


def maybe(setting: Setting, value: Any) -> Any:
    return value if setting.rng.random() < 0.6 else None


def factors(setting: Setting, n: int) -> np.ndarray:
    values = np.abs(normal(setting.rng, n, 0.01))
    return np.where(setting.rng.random(n) < 0.03, setting.rng.choice(SPECIAL, n), values).astype(F32)


def tiles(setting: Setting) -> Iterator[tuple[int, int]]:
    lengths = (0, 1, 17, 32) if setting.few else (*range(50), 63, 64, 65)
    for n in lengths:
        for _ in range(1 if setting.few else 4):
            yield int(setting.rng.integers(1, 17)), n


class Finish:
    """The end of an epilogue: bias, activation, residual, output."""

    def __init__(self, setting: Setting, m: int, n: int) -> None:
        self.bias = maybe(setting, normal(setting.rng, n))
        self.activation = int(setting.rng.integers(ref.ERF + 1))
        self.residual = maybe(setting, float_matrix(setting, m, n))
        self.ldr, self.ldo = n + int(setting.rng.integers(3)), n + int(setting.rng.integers(3))
        self.out = strided(poison(m * n, F32).reshape(m, n), self.ldo)

    def arguments(self) -> dict[str, Any]:
        shared = {name: getattr(self, name) for name in ("bias", "activation", "ldr", "out", "ldo")}
        return shared | {"residual": None if self.residual is None else strided(self.residual, self.ldr)}

    def expected(self, setting: Setting, y: np.ndarray) -> dict[str, np.ndarray]:
        y = ref.epilogue(y, self.bias, self.activation, self.residual, setting.evaluate)
        return {"out": strided(y, self.ldo)}


@cases_of("epilogue_f32")
def epilogue_f32(setting: Setting) -> Iterator[Case]:
    for m, n in tiles(setting):
        acc, finish, ldacc = float_matrix(setting, m, n), Finish(setting, m, n), n + int(setting.rng.integers(3))
        sw, sx = maybe(setting, factors(setting, n)), maybe(setting, factors(setting, m))
        y = acc if sw is None else acc * sw
        y = y if sx is None else y * sx[:, None]
        given = {"m": m, "n": n, "acc": strided(acc, ldacc), "ldacc": ldacc, "sw": sw, "sx": sx} | finish.arguments()
        yield Case(given, finish.expected(setting, y))


def total(setting: Setting, m: int, n: int) -> tuple[np.ndarray, dict[str, Any]]:
    """t [m, n] and the arguments that describe it."""
    t, ldt = float_matrix(setting, m, n), n + int(setting.rng.integers(3))
    return t, {"m": m, "n": n, "t": strided(t, ldt), "ldt": ldt}


@cases_of("rank1_f32")
def rank1_f32(setting: Setting) -> Iterator[Case]:
    for m, n in tiles(setting):
        t, given = total(setting, m, n)
        row, col = float_matrix(setting, 1, m)[0], float_matrix(setting, 1, n)[0]
        t = ref.fma(row[:, None], col, t)
        yield Case(given | {"row": row, "col": col}, {"t": strided(t, given["ldt"])}, any_nan=True)


@cases_of("affine_f32")
def affine_f32(setting: Setting) -> Iterator[Case]:
    for m, n in tiles(setting):
        t, given = total(setting, m, n)
        sx, c, column = factors(setting, m), float_matrix(setting, 1, n)[0], float_matrix(setting, 1, m)[0]
        if setting.rng.random() < 0.5:
            given |= {"zx": column, "offset": None}
            t = (t - column[:, None] * c) * sx[:, None]
        else:
            given |= {"zx": None, "offset": column}
            t = t * sx[:, None] + column[:, None] * c
        yield Case(given | {"sx": sx, "c": c}, {"t": strided(t, given["ldt"])}, any_nan=True)


# ---- the left operand of the int8 product --------------------------------------------------------------------------


def shifted_bounds(setting: Setting) -> tuple[np.dtype, list[tuple[int, int, int]]]:
    """Element type, and (zero, lo, hi) as the drivers shift them into it."""
    left = setting.constants.left_type
    low, high = LEFT_LIMITS[left]
    shifted = [(z + s, a + s, b + s) for z, a, b in BOUNDS_8[:6] for s in (0, 128, -128)]
    return LEFT_DTYPES[left], [(z, a, b) for z, a, b in shifted if a >= low and b <= high]


@cases_of("left_quantize")
def left_quantize(setting: Setting) -> Iterator[Case]:
    dtype, bounds = shifted_bounds(setting)
    for scale in scales(setting):
        zero, low, high = setting.choice(*bounds)
        values = to_quantize(setting, scale, LONG)
        codes = ref.quantize(values, scale, zero, low, high)
        for n in lengths_and_long(setting):
            given = {"x": values[:n], "n": n, "scale": scale, "zero": zero, "lo": low, "hi": high}
            yield code_case(given, codes[:n], "a", dtype)


@cases_of("left_quantize_cols")
def left_quantize_columns(setting: Setting) -> Iterator[Case]:
    (dtype, bounds), rng = shifted_bounds(setting), setting.rng
    for _ in setting.some(6):
        zero, low, high = setting.choice(*bounds)
        scale = np.exp(rng.uniform(-60, 60, LONG)).astype(F32)
        x = np.where(rng.random(LONG) < 0.1, special(rng, LONG), near_ties(rng, LONG, 1.0) * scale).astype(F32)
        codes = ref.quantize(x, scale, zero, low, high)
        for n in lengths_and_long(setting):
            given = {"x": x[:n], "n": n, "scale": scale[:n], "zero": zero, "lo": low, "hi": high}
            yield code_case(given, codes[:n], "a", dtype)


@cases_of("left_interval")
def left_interval(setting: Setting) -> Iterator[Case]:
    left = setting.constants.left_type
    for x, low, scale, levels in interval_rows(setting):
        firsts = [first for first in (0, -levels // 2, 128 - levels // 2) if first >= LEFT_LIMITS[left][0]]
        first = setting.choice(*(f for f in firsts if f + levels - 1 <= LEFT_LIMITS[left][1]))
        codes = ref.interval_codes(x, low, scale, levels, first)
        for n in lengths_and_long(setting):
            given = {"x": x[:n], "n": n, "min": low, "scale": scale, "levels": levels, "lo": first}
            yield code_case(given, codes[:n], "a", LEFT_DTYPES[left])


@cases_of("left_widen")
def left_widen(setting: Setting) -> Iterator[Case]:
    left = setting.constants.left_type
    for is_signed in (0, 1):
        codes = setting.rng.permutation(np.arange(2048) % 256).astype(np.uint8)
        values = codes.view(np.int8).astype(np.int32) if is_signed else codes.astype(np.int32)
        shift = {U8: 128 if is_signed else 0, S8: 0 if is_signed else -128, S16: 0}[left]
        elements = (values + shift).astype(LEFT_DTYPES[left])
        for n in setting.lengths:
            given = {"codes": codes[:n], "n": n, "codes_signed": is_signed, "a": poison(n, LEFT_DTYPES[left])}
            yield Case(given, {"a": elements[:n]})


@cases_of("left_weights")
def left_weights(setting: Setting) -> Iterator[Case]:
    left, rng = setting.constants.left_type, setting.rng
    for n in lengths_and_long(setting):
        drawn = rng.normal(0, rng.choice([0.1, 4, 100]), n).astype(F32)
        ties = (rng.choice([0, 0.5, -1.5, -12.5, 29.5, -30], n) + rng.choice([0, 1e-6, -1e-6], n)).astype(F32)
        for x in (drawn, ties, special(rng, n), np.full(n, -np.inf, F32)):
            rows = np.stack([x, rng.permutation(x)])[: int(rng.integers(1, 3))]
            with np.errstate(all="ignore"):
                codes = ref.attention_weights(rows)
            elements = (codes - (128 if left == S8 else 0)).astype(LEFT_DTYPES[left])
            given = {"m": len(rows), "n": n, "x": rows, "ldx": n, "lda": n * elements.itemsize}
            given |= {"a": poison(rows.size, elements.dtype), "sums": poison(len(rows), np.int32)}
            yield Case(given, {"a": elements.reshape(-1), "sums": codes.sum(axis=1).astype(np.int32)})


@cases_of("left_sum")
def left_sum(setting: Setting) -> Iterator[Case]:
    left = setting.constants.left_type
    low, high = LEFT_LIMITS[left]
    for n in lengths_and_long(setting) if setting.few else (*setting.lengths, LONG, 70001):
        for values in (setting.rng.integers(low, high + 1, n), np.full(n, low), np.full(n, high)):
            yield Case({"a": values.astype(LEFT_DTYPES[left]), "n": n}, result=int(values.sum()))


class Dequantizing:
    """Int8 panels one behind another and their parameters, zero points and offsets given or not."""

    def __init__(self, setting: Setting, k0: int, count: int, panels: int) -> None:
        step, rng, n = setting.constants.k_step, setting.rng, panels * setting.constants.nr
        padded = -(-(k0 + count) // step) * step
        b = rng.integers(-128, 128, (padded, n)).astype(np.int8)
        scale, zero = normal(rng, n), maybe(setting, rng.integers(-255, 256, n).astype(F32))
        offset = maybe(setting, np.where(rng.random(n) < 0.5, F32(-0.0), normal(rng, n)).astype(F32))
        none = np.zeros(n, F32)
        given_offset = -none if offset is None else offset
        self.values = ref.dequantize(b[k0 : k0 + count], scale, none if zero is None else zero, given_offset)
        self.stride = padded * setting.constants.nr
        self.arguments = {"b": panels_of(setting, b), "k0": k0, "count": count}
        self.arguments |= {"scale": scale, "zero": zero, "offset": offset}


@cases_of("unpack_8")
def unpack_8(setting: Setting) -> Iterator[Case]:
    for count in (0, 1, 5) if setting.few else range(19):
        for k0 in (0, 1, 2, 3, 4, 9):
            panel = Dequantizing(setting, k0, count, 1)
            expected = panel.values.reshape(-1)
            yield Case(panel.arguments | {"out": poison(expected.size, F32)}, {"out": expected})


@cases_of("gemv_8")
def gemv_8(setting: Setting) -> Iterator[Case]:
    for panels in (0, 1, 4) if setting.few else range(6):
        for k0 in (0, 1, 2, 3, 4, 9):
            count = setting.choice(*depths(setting))
            m, n = int(setting.rng.integers(1, 7)), panels * setting.constants.nr
            weight, a = Dequantizing(setting, k0, count, panels), float_matrix(setting, m, count)
            start, lda, ldc = float_matrix(setting, m, n), count + int(setting.rng.integers(4)), n + 1
            given = {"m": m, "panels": panels, "a": strided(a, lda), "lda": lda, "stride": weight.stride}
            given |= {"c": strided(start, ldc), "ldc": ldc}
            yield Case(weight.arguments | given, {"c": strided(ref.chain(a, weight.values, start), ldc)}, any_nan=True)
