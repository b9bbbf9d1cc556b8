"""What a case of a kernel is, the values that cases are made of, and how a case is run and checked."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import reference as ref
from kernel_header import Constants, signatures
from kernel_runners import KernelFault, Runner

F32 = np.float32
FLT_MAX, TINY = ref.FLT_MAX, F32(2.0**-126)
_TIES_AND_LIMITS = (0.0, 0.5, 1.0, 1.5, 2.5, 127.5, 128.5, 255.5, 8388607.5, 16777216.0, 2.0**31, 2.0**32)
_TINY_AND_HUGE = (1e-45, 1e-39, 2.0**-126, 1e-20, 1e-7, 1e20, 3e38, float(FLT_MAX))
_ENDS_OF_FUNCTIONS = (87.25, 87.3, 87.33654, 87.4, 88.7, 88.73, 9.0, 3.9)
_MAGNITUDES = (*_TIES_AND_LIMITS, *_TINY_AND_HUGE, *_ENDS_OF_FUNCTIONS)
SPECIAL = np.array([sign * value for value in _MAGNITUDES for sign in (1, -1)], F32)
NON_FINITE = np.array(
    [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF812345, 0x7FFFFFFF], np.uint32
).view(F32)

LENGTHS = {
    "all": tuple(range(1025)),
    "quick": (*range(82), 95, 96, 97, 111, 112, 113, 127, 128, 129, 191, 192, 193, 251, 255, 256, 257, 511, 513, 1021),
    "few": (0, 1, 2, 15, 17, 37),
}


@dataclass
class Case:
    """A call and what it must give. `outputs`: by parameter name the array afterwards, `free`: where it is
    unspecified. An argument that is not among the outputs must stay as it is."""

    arguments: dict[str, Any]
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    result: Any = None
    free: dict[str, np.ndarray] = field(default_factory=dict)
    any_nan: bool = False  # a NaN of any bits is as good as another
    any_zero: bool = False  # so is a zero of either sign


@dataclass
class Setting:
    """What case makers may ask for."""

    constants: Constants
    level: str
    evaluate: ref.Evaluate
    rng: np.random.Generator

    @property
    def lengths(self) -> tuple[int, ...]:
        return LENGTHS[self.level]

    @property
    def few(self) -> bool:
        return self.level == "few"

    def some(self, count: int) -> range:
        """Random repetitions: `count` natively."""
        return range(max(1, count // 20) if self.few else count)

    def choice(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]


Maker = Callable[[Setting], Iterator[Case]]
MAKERS: dict[str, list[Maker]] = {}


def cases_of(*kernels: str) -> Callable[[Maker], Maker]:
    """Registers a maker of cases for kernels; a maker for several is called with the name too (see `bind`)."""

    def register(maker: Maker) -> Maker:
        for kernel in kernels:
            MAKERS.setdefault(kernel, []).append(maker if len(kernels) == 1 else bind(maker, kernel))
        return maker

    return register


def bind(maker: Any, kernel: str) -> Maker:
    return lambda setting: maker(setting, kernel)


def make_cases(kernel: str, setting: Setting) -> Iterator[Case]:
    for maker in MAKERS[kernel]:
        yield from maker(setting)


def rng_for(kernel: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(kernel.encode())])


# ---- values --------------------------------------------------------------------------------------------------------


def normal(rng: np.random.Generator, n: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(n) * scale).astype(F32)


def any_bits(rng: np.random.Generator, n: int) -> np.ndarray:
    """Every float32 pattern alike: huge, tiny, NaN, infinite."""
    return rng.integers(0, 2**32, n, dtype=np.uint32).view(F32)


def special(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice(SPECIAL, n)


def with_non_finite(rng: np.random.Generator, values: np.ndarray, share: float = 0.1) -> np.ndarray:
    return np.where(rng.random(values.size) < share, rng.choice(NON_FINITE, values.size), values).astype(F32)


def near_ties(rng: np.random.Generator, n: int, scale: float) -> np.ndarray:
    """Odd multiples of scale / 2, up to 3 units in the last place away."""
    middle = ((rng.integers(-140, 270, n) + 0.5) * np.float64(scale)).astype(F32)
    steps = rng.integers(-3, 4, n).astype(np.int32)
    return (middle.view(np.int32) + steps).view(F32)


def float_sets(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    """The kinds of rows that every float kernel must take, finite ones first."""
    return [
        normal(rng, n),
        np.full(n, rng.standard_normal(), F32),
        special(rng, n),
        normal(rng, n, 1e-39),
        normal(rng, n, 1e37),
        with_non_finite(rng, normal(rng, n)),
        any_bits(rng, n),
    ]


def poison(count: int, dtype: Any) -> np.ndarray:
    return np.full(count * np.dtype(dtype).itemsize, 0xA5, np.uint8).view(dtype)


def strided(rows: np.ndarray, stride: int, fill: int = 0xA5) -> np.ndarray:
    """Rows laid `stride` elements apart in one flat array that ends with the last row; poison between them."""
    m, n = rows.shape
    if m == 0:
        return np.empty(0, rows.dtype)
    flat = poison(m * stride, rows.dtype)
    flat.reshape(m, stride)[:, :n] = rows
    return flat[: (m - 1) * stride + n].copy()


# ---- checking ------------------------------------------------------------------------------------------------------


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


def differences(actual: np.ndarray, expected: np.ndarray, case: Case, name: str) -> np.ndarray:
    """Flat indices that are wrong."""
    assert actual.dtype == expected.dtype, (name, actual.dtype, expected.dtype)
    wrong = _bits(actual) != _bits(expected)
    if actual.dtype.kind == "f" and wrong.any():
        a, e = actual.reshape(-1), expected.reshape(-1)
        if case.any_nan:
            wrong &= ~(np.isnan(a) & np.isnan(e))
        if case.any_zero:
            wrong &= ~((a == 0) & (e == 0))
    if name in case.free:
        wrong &= ~case.free[name].reshape(-1)
    return np.flatnonzero(wrong)


def describe(arguments: dict[str, Any]) -> str:
    shown = []
    for name, value in arguments.items():
        if isinstance(value, np.ndarray):
            head = np.array2string(value.reshape(-1)[:12], threshold=12)
            shown.append(f"{name}={value.dtype}[{value.size}] {head}")
        else:
            shown.append(f"{name}={value!r}")
    return ", ".join(shown)


def check(runner: Runner, isa: str, kernel: str, case: Case, guard: str) -> str:
    """Runs a case; what is wrong, or ""."""
    names = [parameter.name for parameter in signatures()[kernel].parameters]
    assert set(case.arguments) == set(names), (kernel, set(case.arguments) ^ set(names))
    values = [case.arguments[name] for name in names]
    called = [value.copy() if isinstance(value, np.ndarray) else value for value in values]
    try:
        result = runner.call(isa, kernel, *called, guard=guard)
    except KernelFault as fault:
        return f"{fault}; guard {guard}; {describe(case.arguments)}"
    for name, before, now in zip(names, values, called, strict=True):
        if not isinstance(now, np.ndarray):
            continue
        wrong = differences(now, case.outputs.get(name, before), case, name)
        if wrong.size:
            at, wanted = int(wrong[0]), case.outputs.get(name, before).reshape(-1)[wrong[0]]
            got = now.reshape(-1)[at]
            return (
                f"{kernel}_{isa}: {name}[{at}] is {got!r}, not {wanted!r} ({wrong.size} of {now.size} differ); "
                f"guard {guard}; {describe(case.arguments)}"
            )
    if case.result is not None:
        kind = np.float32 if signatures()[kernel].result == "float" else np.int64
        got, wanted = np.array([result], kind), np.array([case.result], kind)
        if differences(got, wanted, case, "the result").size:
            return f"{kernel}_{isa}: the result is {got[0]!r}, not {wanted[0]!r}; {describe(case.arguments)}"
    return ""
