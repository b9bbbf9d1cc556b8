"""Cases of the kernels that work element by element or along a row."""

from collections.abc import Iterator

import numpy as np
import reference as ref
from kernel_case import (
    F32,
    FLT_MAX,
    TINY,
    Case,
    Setting,
    any_bits,
    cases_of,
    float_sets,
    near_ties,
    normal,
    poison,
    special,
    with_non_finite,
)

# zero, lo, hi
BOUNDS_8 = (
    (0, -128, 127),
    (0, -127, 127),
    (128, 1, 255),
    (77, 0, 255),
    (-128, -128, 127),
    (8, 0, 15),
    (512, -512, 512),
)
BOUNDS_16 = ((0, -32768, 32767), (0, -32767, 32767), (32768, 0, 65535), (-65535, -65535, 65535), (12345, 1, 65535))
LONG = 4099  # a prime: rows long enough to meet rare values

LONG_SHAPES = [(3, 2049), (2, 4096)]


def widest(setting: Setting) -> int:
    return max(setting.lengths)


# ---- ranges --------------------------------------------------------------------------------------------------------


@cases_of("range_f32")
def range_rows(setting: Setting) -> Iterator[Case]:
    for values in float_sets(setting.rng, widest(setting)):
        for n in setting.lengths:
            x = values[:n]
            finite = x[np.isfinite(x)]
            low, high = setting.choice((np.inf, -np.inf), (0.25, -0.5), (-1e30, 1e-40))
            outputs = {
                "min": np.array([finite.min(initial=F32(low))], F32),
                "max": np.array([finite.max(initial=F32(high))], F32),
            }
            given = {"x": x, "n": n, "min": np.array([low], F32), "max": np.array([high], F32)}
            yield Case(given, outputs, int(finite.size < n), any_zero=True)


def group_shapes(setting: Setting) -> list[tuple[int, int]]:
    """Numbers and lengths of groups: 32 has a loop of its own, 64 and 16 are how many are taken at a time."""
    shapes = [(1, 1), (5, 7), (17, 32), (131, 32), (16, 32), (33, 64), (3, 100), (0, 32), (70, 16), (2, 129)]
    return [setting.choice(*shapes), (67, 32)] if setting.few else shapes


@cases_of("range_cols_f32")
def range_columns(setting: Setting) -> Iterator[Case]:
    for values in float_sets(setting.rng, widest(setting)):
        low, high = normal(setting.rng, values.size), normal(setting.rng, values.size)
        low[::3], high[::3] = np.inf, -np.inf
        finite = np.isfinite(values)
        lower, higher = np.where(finite & (values < low), values, low), np.where(finite & (values > high), values, high)
        for n in setting.lengths:
            given = {"x": values[:n], "n": n, "min": low[:n], "max": high[:n]}
            yield Case(given, {"min": lower[:n], "max": higher[:n]}, int(not finite[:n].all()), any_zero=True)


# ---- codes ---------------------------------------------------------------------------------------------------------


def scales(setting: Setting) -> list[np.float32]:
    rng = setting.rng
    fixed = [F32(0.5), F32(1.0), F32(2.0**-126), F32(3e38), F32(3e-39), F32(1 / 3)]
    drawn = [F32(np.exp(rng.uniform(-80, 80))) for _ in setting.some(4)] + [F32(rng.uniform(0.01, 0.1))]
    return fixed[:2] + drawn if setting.few else fixed + drawn


def to_quantize(setting: Setting, scale: F32, n: int) -> np.ndarray:
    """Values around the codes' range, on and near ties, special, some not finite."""
    rng = setting.rng
    parts = [normal(rng, n, 60.0) * scale, near_ties(rng, n, float(scale)), special(rng, n), any_bits(rng, n)]
    # Where ties are rare, most vectors go without a division.
    shares = ([0.3, 0.5, 0.1, 0.1], [0.99, 0.006, 0.004, 0.0], [1.0, 0.0, 0.0, 0.0])[rng.integers(3)]
    chosen = np.choose(rng.choice(4, n, p=shares), parts).astype(F32)
    if rng.random() < 0.7:
        chosen = np.where(np.isfinite(chosen), chosen, F32(0))
    return chosen.astype(F32)


def code_case(given: dict, codes: np.ndarray, output: str, dtype: np.dtype) -> Case:
    """Codes keep their low byte or word; those of values that are not finite are unspecified."""
    x = given["x"]
    finite = np.isfinite(x)
    arguments = given | {output: poison(x.size, dtype)}
    outputs = {output: codes.astype(dtype)}
    return Case(arguments, outputs, int(not finite.all()), free={output: ~finite})


def lengths_and_long(setting: Setting) -> tuple[int, ...]:
    return setting.lengths if setting.few else (*setting.lengths, LONG)


@cases_of("quantize_f32_8", "quantize_f32_16")
def quantize_rows(setting: Setting, kernel: str) -> Iterator[Case]:
    narrow = kernel.endswith("_8")
    dtype = np.dtype(np.uint8 if narrow else np.uint16)
    for scale in scales(setting):
        zero, low, high = setting.choice(*(BOUNDS_8 if narrow else BOUNDS_16))
        values = to_quantize(setting, scale, LONG)
        codes = ref.quantize(values, scale, zero, low, high)
        for n in lengths_and_long(setting):
            given = {"x": values[:n], "n": n, "scale": scale, "zero": zero, "lo": low, "hi": high}
            yield code_case(given, codes[:n], "out", dtype)


@cases_of("quantize_groups_f32_8")
def quantize_groups(setting: Setting) -> Iterator[Case]:
    """In batches, and so long that they come one by one."""
    rng = setting.rng
    for groups, n in [*group_shapes(setting), *(LONG_SHAPES[:1] if setting.few else LONG_SHAPES)]:
        _, low, high = setting.choice(*BOUNDS_8)
        one = setting.choice(*scales(setting))
        scale = np.where(rng.random(groups) < 0.3, one, np.exp(rng.uniform(-3, 3, groups))).astype(F32)
        zeros = (
            None if low <= 0 <= high and rng.random() < 0.5 else rng.integers(low, high + 1, groups).astype(np.int32)
        )
        rows = [to_quantize(setting, s, n) for s in scale]
        codes = [
            ref.quantize(row, s, 0 if zeros is None else zeros[g], low, high)
            for g, (row, s) in enumerate(zip(rows, scale, strict=True))
        ]
        x = np.concatenate([np.zeros(0, F32), *rows])
        given = {"x": x, "groups": groups, "n": n, "scale": scale, "zero": zeros, "lo": low, "hi": high}
        for stream in (0, 1):
            codes_in_all = np.concatenate([np.zeros(0, np.int32), *codes])
            yield code_case(given | {"stream": stream}, codes_in_all, "out", np.dtype(np.uint8))


def found_rows(setting: Setting, groups: int, n: int) -> np.ndarray:
    """Groups whose ranges lie anywhere, zeros and the ends of the types among them."""
    rng = setting.rng
    spread = np.where(rng.random(groups) < 0.4, rng.uniform(-88, 88, groups), rng.uniform(-6, 2, groups))
    rows = rng.standard_normal((groups, n)).astype(F32) * np.exp(spread).astype(F32)[:, None]
    kind = rng.integers(0, 12, groups)
    rows[kind == 0] = 0
    rows[kind == 1] = np.abs(rows[kind == 1])
    rows[kind == 2] = -np.abs(rows[kind == 2])
    rows[kind == 3] = special(rng, rows[kind == 3].size).reshape(-1, n)
    ends = kind == 4  # every code of the grid, and its ties
    rows[ends] = (rng.integers(-254, 255, rows[ends].shape) / 2 * np.exp(spread[ends])[:, None]).astype(F32)
    rows[~np.isfinite(rows)] = 1.0
    rows[kind == 5] = with_non_finite(rng, rows[kind == 5].reshape(-1), setting.choice(0.0, 0.05)).reshape(-1, n)
    return rows


FOUND_SHAPES = ((16, 32), (33, 32), (35, 64), (16, 128), (5, 128), (3, 256), (2, 1024), (4, 2048), (3, 2049), (2, 4096))


def found_shapes(setting: Setting) -> list[tuple[int, int]]:
    """One batch and several, whole and not; rows that are batches of one."""
    if setting.few:
        return [setting.choice(*FOUND_SHAPES[:5]), setting.choice(*FOUND_SHAPES[5:])]
    return [*group_shapes(setting), *FOUND_SHAPES]


@cases_of("quantize_symmetric_f32_8", "quantize_asymmetric_f32_8")
def quantize_found(setting: Setting, kernel: str) -> Iterator[Case]:
    symmetric = kernel == "quantize_symmetric_f32_8"
    for groups, n in found_shapes(setting):
        for half in (0, 1):
            dtype = setting.choice("int8", "uint8", "int4", "uint4")
            rows, kind = found_rows(setting, groups, n), ref.CodeType(dtype)
            low, high = kind.bounds(symmetric)
            finite = np.isfinite(rows).all(1)
            params = [
                ref.choose_qparams(*ref.finite_range(row), dtype, symmetric, bool(half)) for row in rows
            ]  # of rows that are not finite they are unspecified
            scale = np.array([s for s, _ in params], F32)
            zero = np.array([z for _, z in params], np.int32)
            usable = finite & np.isfinite(scale)
            codes = [ref.quantize(row, s, z, low, high) for row, (s, z) in zip(rows, params, strict=True)]
            outputs = {"scale": scale, "out": np.array(codes, np.int32).reshape(groups, n).astype(np.uint8).reshape(-1)}
            free = {"scale": ~finite, "out": np.repeat(~usable, n)}
            given = {"x": rows.reshape(-1), "groups": groups, "n": n, "half": half, "scale": poison(groups, F32)}
            if symmetric:
                given |= {"bound": (high - low) // 2, "middle": high - (high - low) // 2}
            else:
                given |= {"lo": low, "hi": high, "zero": poison(groups, np.int32)}
                outputs["zero"], free["zero"] = zero, ~usable
            given["out"] = poison(groups * n, np.uint8)
            for stream in (0, 1):
                yield Case(given | {"stream": stream}, outputs, int(not finite.all()), free=free)


@cases_of("quantize_f32_16")
def quantize_16_ties(setting: Setting) -> Iterator[Case]:
    """Codes of many bits, where x * (1 / scale) misses a tie often."""
    for _ in setting.some(20):
        scale = F32(np.exp(setting.rng.uniform(-40, 40)))
        middle = ((setting.rng.integers(-40000, 40000, LONG) + 0.5) * np.float64(scale)).astype(F32)
        x = (middle.view(np.int32) + setting.rng.integers(-2, 3, LONG).astype(np.int32)).view(F32)
        given = {"x": x, "n": LONG, "scale": scale, "zero": 0, "lo": -32768, "hi": 32767}
        yield code_case(given, ref.quantize(x, scale, 0, -32768, 32767), "out", np.dtype(np.uint16))


def column_places(scale, zero, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """quantize.inc.h: 2^16 / scale, NaN where that may not be used, and 2^16 (zero + 1/2) + slack."""
    with np.errstate(over="ignore", divide="ignore"):
        inverse = F32(1) / scale
    usable = (inverse >= F32(2.0**-126)) & (inverse <= F32(2.0**111)) & (zero >= low) & (zero <= high)
    usable &= high <= (127 if low < 0 else 255) and low >= -128
    slack = F32(int((high - low) / 128 + 0.75))
    return np.where(usable, inverse * F32(65536), F32(np.nan)), (zero + F32(0.5)) * F32(65536) + slack


def columns(setting: Setting, bounds: tuple, margin: int = 0) -> dict:
    """A row, and a scale and a zero point for each of its elements."""
    rng, n = setting.rng, widest(setting)
    _, low, high = setting.choice(*bounds)
    # Of scales within reason, few elements are divided.
    spread = setting.choice(60, 3)
    zero = rng.integers(low - margin, high + 1 + margin, n).astype(F32)
    scale = np.exp(rng.uniform(-spread, spread, n)).astype(F32)
    parts = [normal(rng, n, 30.0) * scale, near_ties(rng, n, 1.0) * scale, special(rng, n)]
    x = np.choose(rng.choice(3, n, p=setting.choice([0.0, 0.9, 0.1], [0.995, 0.005, 0.0])), parts).astype(F32)
    if rng.random() < 0.3:
        x = with_non_finite(rng, x, 0.01)
    return {"x": x, "scale": scale, "zero": zero, "lo": low, "hi": high}


@cases_of("column_places_f32")
def places_of_columns(setting: Setting) -> Iterator[Case]:
    for _ in setting.some(6):
        given = columns(setting, BOUNDS_8, margin=3)
        given["scale"][:8] = 2.0**-126, 2.0**-110, 2.0**-111, 2.0**-112, 2.0**126, 2.0**127, 1.0, 3.0
        inverse, start = column_places(given["scale"], given["zero"], given["lo"], given["hi"])
        for n in setting.lengths:
            cut = {"scale": given["scale"][:n], "zero": given["zero"][:n], "n": n, "lo": given["lo"], "hi": given["hi"]}
            outputs = {"inverse": inverse[:n], "start": start[:n]}
            yield Case(cut | {"inverse": poison(n, F32), "start": poison(n, F32)}, outputs, any_nan=True)


@cases_of("quantize_cols_f32_8", "quantize_cols_f32_16")
def quantize_columns(setting: Setting, kernel: str) -> Iterator[Case]:
    narrow = kernel.endswith("_8")
    dtype = np.dtype(np.uint8 if narrow else np.uint16)
    for round_number in setting.some(12):
        given = columns(setting, BOUNDS_8 if narrow else BOUNDS_16)
        codes = ref.quantize(given["x"], given["scale"], given["zero"], given["lo"], given["hi"])
        places = column_places(given["scale"], given["zero"], given["lo"], given["hi"])
        for n in setting.lengths:
            cut = {name: given[name][:n] for name in ("x", "scale", "zero")}
            if narrow:
                inverse, start = (None, None) if round_number % 2 else (part[:n].copy() for part in places)
                cut |= {"inverse": inverse, "start": start}
            yield code_case(given | cut | {"n": n}, codes[:n], "out", dtype)


def interval_rows(setting: Setting) -> Iterator[tuple[np.ndarray, F32, F32, int]]:
    """x, min, scale, levels: values on and near the borders of the intervals, and far outside."""
    rng = setting.rng
    spans = [(-1.0, 1.0), (-FLT_MAX, FLT_MAX), (1e-30, 3e-30), (1000.0, 1000.01), (-7.5, -7.25), (0.0, 1e-35)]
    spans += [tuple(sorted(rng.standard_normal(2) * np.exp(rng.uniform(-30, 30)))) for _ in setting.some(6)]
    for low, high in spans[-3:] if setting.few else spans:
        levels = setting.choice(256, 256, 16)
        low, scale = F32(low), F32((float(F32(high)) - float(F32(low))) / levels)
        if ref.inverse_overflows(scale):
            continue
        border = (float(low) + rng.integers(-4, levels + 5, LONG) * float(scale)).astype(F32)
        border = (border.view(np.int32) + rng.integers(-2, 3, LONG).astype(np.int32)).view(F32)
        inside = rng.uniform(float(low), float(high), LONG).astype(F32)
        x = np.where(rng.random(LONG) < 0.5, border, inside)
        x = np.where(rng.random(LONG) < 0.02, special(rng, LONG), x).astype(F32)
        x = np.where(np.isfinite(x), x, low).astype(F32)
        yield with_non_finite(rng, x, 0.01) if rng.random() < 0.3 else x, low, scale, levels


@cases_of("interval_f32_8")
def interval(setting: Setting) -> Iterator[Case]:
    for x, low, scale, levels in interval_rows(setting):
        first = setting.choice(0, -levels // 2)
        codes = ref.interval_codes(x, low, scale, levels, first)
        for n in lengths_and_long(setting):
            given = {"x": x[:n], "n": n, "min": low, "scale": scale, "levels": levels, "lo": first}
            yield code_case(given, codes[:n], "out", np.dtype(np.uint8))


# ---- dequantize ----------------------------------------------------------------------------------------------------

CODE_TYPES = {"s8": np.int8, "u8": np.uint8, "s16": np.int16, "u16": np.uint16}


def all_codes(setting: Setting, dtype: type, n: int) -> np.ndarray:
    info = np.iinfo(dtype)
    codes = setting.rng.integers(info.min, info.max + 1, n).astype(dtype)
    codes[:256] = np.arange(info.min, info.min + 256).astype(dtype)
    codes[-2:] = info.min, info.max
    return codes


@cases_of(*(f"dequantize_{code}_f32" for code in CODE_TYPES))
def dequantize_rows(setting: Setting, kernel: str) -> Iterator[Case]:
    dtype = CODE_TYPES[kernel.split("_")[1]]
    info, codes = np.iinfo(dtype), all_codes(setting, CODE_TYPES[kernel.split("_")[1]], 1024)
    for scale in (0.05, -0.125, 0.0, 1e-40, 3e38, 1 / 3):
        zero = int(setting.rng.integers(info.min, info.max + 1)) if setting.rng.random() < 0.7 else 0
        offset = setting.choice(F32(-0.0), F32(-0.0), F32(0.0), F32(1.7), F32(-1e-39))
        expected = ref.dequantize(codes, F32(scale), zero, offset)
        for n in setting.lengths:
            given = {"q": codes[:n], "n": n, "scale": scale, "zero": zero, "offset": offset, "out": poison(n, F32)}
            yield Case(given, {"out": expected[:n]}, any_nan=True)


@cases_of(*(f"dequantize_groups_{code}_f32" for code in CODE_TYPES))
def dequantize_groups(setting: Setting, kernel: str) -> Iterator[Case]:
    dtype, rng = CODE_TYPES[kernel.split("_")[2]], setting.rng
    info = np.iinfo(dtype)
    for groups, n in group_shapes(setting):
        codes = all_codes(setting, dtype, max(groups * n, 512))[: groups * n]
        scale = np.where(rng.random(groups) < 0.1, special(rng, groups), normal(rng, groups)).astype(F32)
        zero = rng.integers(info.min, info.max + 1, groups).astype(np.int32) if rng.random() < 0.5 else None
        offset = normal(rng, groups) if rng.random() < 0.5 else None
        rows = [
            ref.dequantize(
                codes[g * n : (g + 1) * n],
                s,
                0 if zero is None else zero[g],
                F32(-0.0) if offset is None else offset[g],
            )
            for g, s in enumerate(scale)
        ]
        given = {"q": codes, "groups": groups, "n": n, "scale": scale, "zero": zero, "offset": offset}
        given["out"] = poison(groups * n, F32)
        expected = np.concatenate([np.zeros(0, F32), *rows])
        for stream in (0, 1):
            yield Case(given | {"stream": stream}, {"out": expected}, any_nan=True)


@cases_of(*(f"dequantize_cols_{code}_f32" for code in CODE_TYPES))
def dequantize_columns(setting: Setting, kernel: str) -> Iterator[Case]:
    dtype, rng = CODE_TYPES[kernel.split("_")[2]], setting.rng
    info, n_all = np.iinfo(dtype), 1024
    codes = all_codes(setting, dtype, n_all)
    for _ in setting.some(4):
        scale = np.where(rng.random(n_all) < 0.1, special(rng, n_all), normal(rng, n_all)).astype(F32)
        zero = rng.integers(info.min, info.max + 1, n_all).astype(F32)
        offset = np.where(rng.random(n_all) < 0.3, F32(-0.0), normal(rng, n_all)).astype(F32)
        expected = ref.dequantize(codes, scale, zero, offset)
        for n in setting.lengths:
            given = {"q": codes[:n], "n": n, "scale": scale[:n], "zero": zero[:n], "offset": offset[:n]}
            yield Case(given | {"out": poison(n, F32)}, {"out": expected[:n]}, any_nan=True)


# ---- rows of floats ------------------------------------------------------------------------------------------------


@cases_of("layernorm_f32")
def layernorm(setting: Setting) -> Iterator[Case]:
    """Rows are taken four at a time; each case has at most twice as many and all but one."""
    rng = setting.rng
    for values in float_sets(rng, widest(setting)):
        gain, bias = normal(rng, values.size), normal(rng, values.size)
        eps = setting.choice(F32(1e-12), F32(1e-5), F32(0))
        for n in setting.lengths[1:]:
            rows = int(rng.integers(8))
            x = np.stack([rng.permutation(values[:n]) for _ in range(rows)]) if rows else np.empty((0, n), F32)
            given = {"x": x, "rows": rows, "n": n, "gain": gain[:n], "bias": bias[:n], "eps": eps}
            out = ref.layernorm(x, gain[:n], bias[:n], eps)
            given |= {"out": poison(rows * n, F32), "ranges": None}
            outputs = {"out": out.reshape(-1)}
            if setting.choice(True, False):
                given["ranges"] = poison(rows * 2, F32)
                outputs["ranges"] = np.stack([least(out), -least(-out)], 1).reshape(-1) if rows else np.empty(0, F32)
            yield Case(given, outputs)


def least(rows: np.ndarray) -> np.ndarray:
    """Of each row, NaN left out; no other value: infinity."""
    return np.where(np.isnan(rows), F32(np.inf), rows).min(axis=1) + F32(0)


@cases_of("softmax_f32")
def softmax(setting: Setting) -> Iterator[Case]:
    rng, n_all = setting.rng, widest(setting)
    sets = [normal(rng, n_all, 5.0), np.full(n_all, 3.0, F32), special(rng, n_all), normal(rng, n_all, 1e37)]
    for values in sets:
        scale = setting.choice(F32(1.0), F32(0.17677669), F32(1e-3))
        for n in setting.lengths[1:]:
            weights, total = ref.softmax(values[:n], scale, setting.evaluate)
            given = {"x": values[:n].copy(), "n": n, "scale": scale}
            yield Case(given, {"x": weights}, total, any_nan=True)


@cases_of("softmax_f32")
def softmax_of_nan(setting: Setting) -> Iterator[Case]:
    """A NaN or an infinity anywhere: the sum is NaN, so that every output of the row becomes one; the weights
    themselves are those of the scalar tier."""
    for n in setting.lengths[1:]:
        x = normal(setting.rng, n)
        x[setting.rng.integers(n)] = setting.choice(np.nan, -np.nan, np.inf)
        weights, total = ref.softmax(x, 1.0, setting.evaluate)
        given = {"x": x, "n": n, "scale": 1.0}
        yield Case(given, {"x": weights}, total, any_nan=True, free={"x": np.ones(n, bool)})


@cases_of("divide_f32")
def divide(setting: Setting) -> Iterator[Case]:
    for values in float_sets(setting.rng, widest(setting)):
        divisor = setting.choice(F32(3.0), F32(1e-40), F32(-7e20), F32(0.0), TINY)
        expected = ref.canonical(values / divisor)
        for n in setting.lengths:
            given = {"x": values[:n], "n": n, "divisor": divisor, "out": poison(n, F32)}
            yield Case(given, {"out": expected[:n]})


@cases_of("add_f32")
def add(setting: Setting) -> Iterator[Case]:
    for a in float_sets(setting.rng, widest(setting)):
        b = setting.choice(*float_sets(setting.rng, a.size))
        expected = ref.canonical(a + b)
        for n in setting.lengths:
            yield Case({"a": a[:n], "b": b[:n], "n": n, "out": poison(n, F32)}, {"out": expected[:n]})


@cases_of("squares_f32")
def squares(setting: Setting) -> Iterator[Case]:
    for values in float_sets(setting.rng, widest(setting)):
        for n in setting.lengths:
            x = values[:n]
            yield Case({"x": x, "n": n}, result=ref.lanes_sum(x * x), any_nan=True)


def function_arguments(setting: Setting, n: int) -> np.ndarray:
    rng = setting.rng
    parts = [normal(rng, n, 3.0), rng.uniform(-100, 100, n).astype(F32), special(rng, n), any_bits(rng, n)]
    return np.choose(rng.choice(4, n, p=[0.5, 0.2, 0.15, 0.15]), parts).astype(F32)


@cases_of("map_f32")
def functions(setting: Setting) -> Iterator[Case]:
    """exp, tanh and erf against the scalar tier (which test_functions.py compares with float64)."""
    for function in range(ref.ERF + 1):
        x = function_arguments(setting, LONG)
        expected = ref.canonical(ref.activation(function, x, setting.evaluate))
        for n in lengths_and_long(setting):
            given = {"function": function, "x": x[:n], "n": n, "out": poison(n, F32)}
            yield Case(given, {"out": expected[:n]})


@cases_of("lsq_f32")
def lsq(setting: Setting) -> Iterator[Case]:
    rng, n_all = setting.rng, widest(setting)
    for zero, low, high in BOUNDS_8[:6]:
        scale = F32(np.exp(rng.uniform(-10, 10)))
        x = np.where(rng.random(n_all) < 0.1, special(rng, n_all), near_ties(rng, n_all, float(scale))).astype(F32)
        grad = normal(rng, n_all)
        grad_x, slopes = ref.lsq(grad, x, scale, zero, low, high)
        for n in setting.lengths:
            given = {"grad": grad[:n], "x": x[:n], "n": n, "scale": scale, "zero": zero, "lo": low, "hi": high}
            expected = {"grad_x": grad_x[:n]}
            yield Case(given | {"grad_x": poison(n, F32)}, expected, ref.lanes_sum(slopes[:n]), any_nan=True)
