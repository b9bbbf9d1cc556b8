"""Cases of the kernels of weights in groups and of 4-bit weights."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import reference as ref
from cases_matrix import LEFT_DTYPES, LEFT_LIMITS, drawn, factors, heights, maybe
from cases_rows import LONG, lengths_and_long
from kernel_case import F32, Case, Setting, cases_of, normal, poison, strided

# ---- panels --------------------------------------------------------------------------------------------------------


def int8_panel(codes: np.ndarray, step: int) -> np.ndarray:
    """codes [k, nr], k a multiple of step."""
    return codes.reshape(-1, step, codes.shape[1]).transpose(0, 2, 1).reshape(-1).astype(np.int8)


def nibble_panel(codes: np.ndarray) -> np.ndarray:
    """The halves of each step's codes side by side in its bytes: the first half below."""
    steps = int8_panel(codes, 4).reshape(-1, 2, 2 * codes.shape[1]).view(np.uint8) & 15
    return (steps[:, 0] | steps[:, 1] << 4).reshape(-1)


def padded(values: np.ndarray, axis: int, spans: list[tuple[int, int]], stride: int) -> np.ndarray:
    """Each span of an axis (padded with zeros) at a multiple of `stride`."""
    values = np.moveaxis(values, axis, 0)
    out = np.zeros((len(spans) * stride, *values.shape[1:]), values.dtype)
    for index, (start, end) in enumerate(spans):
        out[index * stride : index * stride + end - start] = values[start:end]
    return np.moveaxis(out, 0, axis)


# ---- groups --------------------------------------------------------------------------------------------------------


class Groups:
    """A tile of groups: its operands as the kernels take them, and what it must give."""

    def __init__(self, setting: Setting, step: int, m: int, k: int, group: int, codes: tuple[int, int], left: int):
        rng, nr = setting.rng, setting.constants.nr
        self.m, self.k, self.group, self.step, self.nr = m, k, group, step, nr
        self.spans = [(start, min(start + group, k)) for start in range(0, k, group)]
        self.a = drawn(setting, (m, k), *LEFT_LIMITS[left], LEFT_DTYPES[left])
        self.b = drawn(setting, (k, nr), *codes, np.int8)
        self.rows = m + int(rng.integers(3))
        groups = len(self.spans)

        def by_row(values: np.ndarray) -> np.ndarray:
            return strided(values, self.rows)

        self.half = int(rng.integers(2))
        self.sw = factors(setting, groups * nr).reshape(groups, nr)
        if self.half:
            self.sw = np.clip(self.sw, -60000, 60000).astype(np.float16)
        self.zw = maybe(setting, drawn(setting, (groups, nr), -128, 127, np.int8))
        self.ow = maybe(setting, normal(rng, groups * nr).reshape(groups, nr))
        self.sx = maybe(setting, factors(setting, groups * m).reshape(groups, m))
        self.zx = maybe(setting, drawn(setting, (groups, m), -255, 255, np.int32))
        if self.zx is not None and self.sx is None:
            self.zx[:] = self.zx[0, 0]
        self.ox = maybe(setting, normal(rng, groups * m).reshape(groups, m))
        self.rest = drawn(setting, (groups, m), -255 * group, 255 * group, F32)
        self.folded = False
        self.centred = normal(rng, groups * m, 100).reshape(groups, m)
        self.by_row = by_row
        self.finish = self.finishing(setting)

    def fold(self, setting: Setting) -> None:
        """Zero points of 4 bits that meet the sums of a itself, which the kernel is not given."""
        self.zw = drawn(setting, (len(self.spans), self.nr), -8, 7, np.int8)
        sums = [self.a[:, start:end].astype(np.int64).sum(1) for start, end in self.spans]
        zx = 0 if self.zx is None else self.zx * np.array([end - start for start, end in self.spans])[:, None]
        self.rest, self.folded = (np.array(sums) - zx).astype(F32), True

    def finishing(self, setting: Setting) -> dict[str, Any]:
        """What the kernel makes of t: nothing, or outputs."""
        rng, m, nr = setting.rng, self.m, self.nr
        names = ("scale", "zero", "shift", "chain", "bias", "residual")
        given: dict[str, Any] = dict.fromkeys(names) | {"far": int(rng.integers(2))}
        given |= {"ldr": nr + int(rng.integers(3)), "ldo": nr + int(rng.integers(3))}
        if rng.random() < 0.6:
            given |= {"scale": factors(setting, m), "chain": normal(rng, nr), "bias": maybe(setting, normal(rng, nr))}
            given["zero" if rng.random() < 0.5 else "shift"] = drawn(setting, (m,), -255, 255, F32)
            self.residual = maybe(setting, normal(rng, m * nr).reshape(m, nr))
            given["residual"] = None if self.residual is None else strided(self.residual, given["ldr"])
        return given | {"out": poison((m - 1) * given["ldo"] + nr, F32)}

    def arguments(self, panel: np.ndarray) -> dict[str, Any]:
        stride = -(-self.group // self.step) * self.step
        left = padded(self.a, 1, self.spans, stride)
        lda = left.shape[1] + 4
        given = {"m": self.m, "k": self.k, "group": self.group, "a": strided(left, lda), "lda": lda * left.itemsize}
        given |= {"b": panel, "sw": self.sw.reshape(-1), "half": self.half, "rows": self.rows}
        for name in ("zw", "ow"):
            values = getattr(self, name)
            given[name] = None if values is None else values.reshape(-1)
        for name in ("zx", "sx", "ox"):
            values = getattr(self, name)
            given[name] = None if values is None else self.by_row(values)
        if self.zx is not None and self.sx is None:
            given["zx"] = self.zx[0, :1].copy()
        given["rest"] = self.by_row(self.rest) if self.zw is not None and not self.folded else None
        given["centred"] = self.by_row(self.centred) if self.ow is not None else None
        return given | self.finish

    def padded_codes(self) -> np.ndarray:
        return padded(self.b, 0, self.spans, -(-self.group // self.step) * self.step)

    def expected(self) -> np.ndarray:
        """The outputs, at their stride."""
        return strided(self.finished(self.sums()), self.finish["ldo"])

    def finished(self, t: np.ndarray) -> np.ndarray:
        given = self.finish
        if given["scale"] is None:
            return t
        scale, row = given["scale"][:, None], given["shift"] if given["zero"] is None else given["zero"]
        shift = row[:, None] * given["chain"]
        t = t * scale + shift if given["zero"] is None else (t - shift) * scale
        t = t if given["bias"] is None else t + given["bias"]
        return t if self.residual is None else t + self.residual

    def sums(self) -> np.ndarray:
        t = np.zeros((self.m, self.nr), F32)
        for n, (start, end) in enumerate(self.spans):
            weights = self.b[start:end].astype(np.int64).sum(0)
            acc = ref.integer_product(self.a[:, start:end], self.b[start:end].T)
            zw = np.zeros(self.nr, np.int64) if self.zw is None else self.zw[n].astype(np.int64)
            if self.zx is not None:
                acc = acc - self.zx[n][:, None].astype(np.int64) * weights
            rest, sw = self.rest[n][:, None].astype(np.int64), self.sw[n].astype(F32)
            value = ref.f32(ref.wrap32(acc - zw * rest))
            t = ref.fma(value, sw, t) if self.sx is None else ref.fma(value * sw, self.sx[n][:, None], t)
            if self.ow is not None:
                t = ref.fma(self.centred[n][:, None], self.ow[n], t)
            if self.ox is not None:
                t = ref.fma(self.ox[n][:, None], sw * ref.f32(ref.wrap32(weights - (end - start) * zw)), t)
        return t


def group_shapes(setting: Setting, most: int) -> Iterator[tuple[int, int, int]]:
    """(m, k, group): whole groups, short last ones, groups that are no whole number of steps, one group of k."""
    shapes = [(64, 32), (7, 7)] if setting.few else [
        *((k, group) for group in (32, 64, 128) for k in (group, 2 * group, 3 * group + 9)),
        *((k, group) for group in (1, 2, 3, 4, 5, 12, 31, 33, 36, 68) for k in (group, 2 * group + 1, 5 * group)),
        *((k, k) for k in (8, 100, 257)),
        (1100, 4),  # more groups than GROUPS_LESS_MOST (gemm_groups.inc.h)
    ]  # fmt: skip
    for k, group in shapes:
        for m in heights(setting, most):
            yield m, k, group


@cases_of("gemm_8_groups")
def gemm_8_groups(setting: Setting) -> Iterator[Case]:
    constants = setting.constants
    for m, k, group in group_shapes(setting, constants.mr_8):
        groups = Groups(setting, constants.k_step, m, k, group, (-128, 127), constants.left_type)
        given = groups.arguments(int8_panel(groups.padded_codes(), constants.k_step))
        yield Case(given, {"out": groups.expected()}, any_nan=True)


def panel_4(codes: np.ndarray, expanded: int) -> dict[str, Any]:
    return {"expanded": expanded, "b": int8_panel(codes, 4) if expanded else nibble_panel(codes)}


@cases_of("gemm_4_groups")
def gemm_4_groups(setting: Setting) -> Iterator[Case]:
    constants = setting.constants
    for m, k, group in group_shapes(setting, constants.mr_4):
        expanded = int(setting.rng.integers(2))
        codes = (-128, 127) if expanded and constants.fold_4 else (-8, 7)
        groups = Groups(setting, 4, m, k, group, codes, constants.left_4)
        if constants.fold_4 == 2 and not expanded and setting.rng.integers(2):
            groups.fold(setting)
        panel = panel_4(groups.padded_codes(), expanded)
        yield Case(groups.arguments(panel["b"]) | panel, {"out": groups.expected()}, any_nan=True)


# ---- 4 bits --------------------------------------------------------------------------------------------------------


def gemm_4_case(setting: Setting, a: np.ndarray, b: np.ndarray) -> Case:
    """a [m, k] left elements, b [k, nr]; k is a multiple of 4."""
    rng, (m, k), nr = setting.rng, a.shape, setting.constants.nr
    lda, ldc = k + int(rng.integers(3)), nr + int(rng.integers(3))
    given = {"m": m, "steps": k // 4, "a": strided(a, lda), "lda": lda, "ldc": ldc}
    given |= panel_4(b, int(rng.integers(2)))
    given["c"] = poison((m - 1) * ldc + nr, np.int32)
    return Case(given, {"c": strided(ref.wrap32(ref.integer_product(a, b.T)), ldc)})


@cases_of("gemm_4")
def gemm_4(setting: Setting) -> Iterator[Case]:
    constants, left = setting.constants, setting.constants.left_4
    for steps in (0, 1, 9) if setting.few else (*range(20), 31, 32, 33, 63, 64, 65, 127):
        for m in heights(setting, constants.mr_4):
            a = drawn(setting, (m, 4 * steps), *LEFT_LIMITS[left], LEFT_DTYPES[left])
            yield gemm_4_case(setting, a, drawn(setting, (4 * steps, constants.nr), -8, 7, np.int8))


@cases_of("gemm_4")
def gemm_4_of_extreme_codes(setting: Setting) -> Iterator[Case]:
    """Pairs and eights of pairs at the ends of int16, and the longest sum."""
    constants, left = setting.constants, setting.constants.left_4
    for k in (32, 36) if setting.few else (32, 36, 64, 65536):
        for value in LEFT_LIMITS[left]:
            for code in (-8, 7):
                a = np.full((min(2, constants.mr_4), k), value, LEFT_DTYPES[left])
                yield gemm_4_case(setting, a, np.full((k, constants.nr), code, np.int8))


@cases_of("expand_4")
def expand_4(setting: Setting) -> Iterator[Case]:
    nr = setting.constants.nr
    for k, group in ((0, 4), (4, 4), (20, 20), (9, 5)) if setting.few else expanded_shapes():
        spans = [(start, min(start + group, k)) for start in range(0, k, group)]
        codes, zw = drawn(setting, (k, nr), -8, 7, np.int8), drawn(setting, (len(spans), nr), -128, 127, np.int8)
        less = setting.rng.random() < 0.5
        exact = codes - np.repeat(zw, group, 0)[:k] if less else codes
        stride = -(-group // 4) * 4
        given = {"b": nibble_panel(padded(codes, 0, spans, stride)), "k": k, "group": group}
        given |= {"zw": zw.reshape(-1) if less else None, "out": poison(len(spans) * stride * nr, np.int8)}
        yield Case(given, {"out": int8_panel(padded(exact, 0, spans, stride), 4)})


def expanded_shapes() -> Iterator[tuple[int, int]]:
    for group in (1, 2, 3, 4, 5, 8, 12, 31, 32, 33, 128):
        for k in (group, 2 * group + 1, 3 * group - 1, 4 * group):
            yield k, group
    yield 0, 4


@cases_of("left_sum_4")
def left_sum_4(setting: Setting) -> Iterator[Case]:
    left = setting.constants.left_4
    low, high = LEFT_LIMITS[left]
    for n in lengths_and_long(setting) if setting.few else (*setting.lengths, LONG, 70001):
        for values in (setting.rng.integers(low, high + 1, n), np.full(n, low), np.full(n, high)):
            yield Case({"a": values.astype(LEFT_DTYPES[left]), "n": n}, result=int(values.sum()))


@cases_of("unpack_4")
def unpack_4(setting: Setting) -> Iterator[Case]:
    nr, rng = setting.constants.nr, setting.rng
    for count in (0, 1, 5) if setting.few else range(19):
        for first in (0, 3) if setting.few else range(6):
            codes = drawn(setting, ((first + count + 3) // 4 * 4, nr), -8, 7, np.int8)
            zero = drawn(setting, (nr,), -16, 16, np.int32).astype(F32)
            scale, offset = factors(setting, nr), normal(rng, nr)
            rows = ref.f32(codes[first : first + count])
            given = {"b": nibble_panel(codes), "k0": first, "count": count, "scale": scale, "zero": zero}
            given |= {"offset": offset, "out": poison(count * nr, F32)}
            yield Case(given, {"out": ((rows - zero) * scale + offset).reshape(-1)}, any_nan=True)
