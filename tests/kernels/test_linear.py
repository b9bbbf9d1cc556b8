"""linear and matmul_codes against tests/reference.py, exactly: every instruction set of this CPU, each in a process
of its own (QLM_ISA is read at import), with one thread and two."""

import os
import pickle
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference as ref
from kernel_runners import native_isas

import qlm

F32 = np.float32
THREADS = (1, 2)
WORKER = Path(__file__).with_name("linear_worker.py")
WEIGHT_TYPES = ("int8", "uint8", "int4", "uint4", "int16", "uint16")
INPUT_TYPES = ("uint8", "uint8", "int8", "int16", "uint16", "int4")


# ---- making cases --------------------------------------------------------------------------------------------------


def choice(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def rows(rng: np.random.Generator, m: int, k: int) -> np.ndarray:
    """Rows of very different sizes, some constant, some all zero."""
    x = rng.standard_normal((m, k)) * np.exp(rng.uniform(-6, 6, (m, 1)))
    x[rng.random(m) < 0.1] = 0
    x[rng.random(m) < 0.1] = rng.standard_normal()
    return x.astype(F32)


def make_weight(rng: np.random.Generator, n: int, k: int, group: int, dtype: str, form: str) -> ref.Codes:
    """form: "symmetric", "zero" (asymmetric), "offset" (float offsets) or "corners" (extreme codes alone)."""
    kind = ref.CodeType(dtype)
    if form == "symmetric":
        return maybe_half(rng, ref.quantize_rows(rows(rng, n, k), dtype, True, group))
    if form in ("zero", "offset"):
        return maybe_half(rng, ref.quantize_rows(rows(rng, n, k), dtype, False, group, interval=form == "offset"))
    values = rng.choice([kind.min, kind.max], (n, k)).astype(kind.storage)
    shape = (n, len(ref.spans(k, group)))
    zero = rng.choice([kind.min, 0, kind.max], shape).astype(np.int32)
    return ref.Codes(values, rng.uniform(0.001, 0.1, shape).astype(F32), zero, None, group)


def maybe_half(rng: np.random.Generator, weight: ref.Codes) -> ref.Codes:
    """With scales that float16 holds, as a packed weight keeps them, subnormal ones among them; or as it is."""
    if rng.random() < 0.5:
        return weight
    scale = np.where(rng.random(weight.scale.shape) < 0.1, F32(2.0**-22), weight.scale)
    return replace(weight, scale=np.clip(scale, 2.0**-24, 65504).astype(np.float16).astype(F32))


def weight_arguments(weight: ref.Codes, dtype: str) -> dict[str, Any]:
    zero = None if weight.offset is not None or not weight.zero.any() else weight.zero
    shared = {"values": weight.values, "dtype": dtype, "group": weight.group, "zero": zero}
    return shared | {"scale": weight.scale, "offset": weight.offset}


class Linear:
    """One call with up to three weights that share the input."""

    def __init__(self, rng: np.random.Generator, evaluate: ref.Evaluate, x: np.ndarray, kind: str, **options: Any):
        self.rng, self.evaluate, self.kind, self.x = rng, evaluate, kind, x
        self.input = options
        self.weights: list[Any] = []
        self.arguments: list[dict[str, Any]] = []
        self.activation = int(rng.integers(ref.SILU + 1))

    def quantized_input(self) -> ref.Codes:
        """The codes that the call's x is, or becomes."""
        options, x = self.input, self.x
        if self.kind == "dynamic":
            group = options.get("group", 0)
            return ref.quantize_rows(
                x, options["dtype"], options.get("symmetric", False), group, options.get("interval", False)
            )
        shape = (len(x), len(ref.spans(x.shape[1], options.get("group", 0))))
        scale = np.broadcast_to(options["scale"], shape)
        zero = np.broadcast_to(options["zero"] if options.get("zero") is not None else np.int32(0), shape)
        if self.kind == "codes":
            offset = options.get("offset")
            offset = None if offset is None else np.broadcast_to(offset, shape)
            return ref.Codes(x, scale, zero, offset, options.get("group", 0))
        kind, divisor = ref.CodeType(options["dtype"]), options.get("divisor")
        bounds = kind.bounds(options.get("symmetric", False))
        codes = ref.quantize(x, options["scale"] if divisor is None else divisor, options["zero"], *bounds)
        return ref.Codes(codes.astype(kind.storage), scale, zero, None, 0)

    def add(self, weight: ref.Codes | np.ndarray, dtype: str | None) -> None:
        self.weights.append(weight)
        if isinstance(weight, ref.Codes):
            self.arguments.append(weight_arguments(weight, str(dtype)))
        else:
            empty = dict.fromkeys(("dtype", "scale", "zero", "offset"))
            self.arguments.append({"values": weight, "group": 0} | empty)

    def finish(self) -> tuple[dict[str, Any], Any]:
        """The call and what it must give."""
        m, rng = len(self.x), self.rng
        widths = [len(argument["values"]) for argument in self.arguments]
        bias = tuple(choice(rng, None, rng.standard_normal(n).astype(F32)) for n in widths)
        residual = tuple(choice(rng, None, rng.standard_normal((m, n)).astype(F32)) for n in widths)
        case = {"kind": self.kind, "input": self.input, "x": self.x, "weights": self.arguments}
        case |= {"bias": bias, "residual": residual, "activation": self.activation}
        rest = [(b, self.activation, r, self.evaluate) for b, r in zip(bias, residual, strict=True)]
        if self.kind == "float":
            expected = [ref.linear_float(self.x, w, *r) for w, r in zip(self.weights, rest, strict=True)]
        else:
            codes = self.quantized_input()
            expected = [ref.linear_codes(codes, w, *r) for w, r in zip(self.weights, rest, strict=True)]
        return case, tuple(expected)


SIZES = (1, 2, 3, 4, 5, 6, 7, 12, 13, 16, 17, 31, 33)
DEPTHS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 160)


def groups_that_fit(rng: np.random.Generator, k: int) -> tuple[int, int]:
    """Weight's and activations' groups (0: none), of which one divides the other."""
    small = choice(rng, 1, 2, 4, 8, 16, 32)
    big = small * choice(rng, 1, 2, 3)
    pair = choice(rng, (0, 0), (0, 0), (small, 0), (small, 0), (0, small), (small, big), (big, small), (small, small))
    return pair[0] if pair[0] < k else 0, pair[1] if pair[1] < k else 0


def random_linear(rng: np.random.Generator, evaluate: ref.Evaluate) -> tuple[dict[str, Any], Any]:
    m, k = choice(rng, 1, 1, *SIZES), choice(rng, *DEPTHS)
    weight_group, input_group = groups_that_fit(rng, k)
    kind = choice(rng, "dynamic", "dynamic", "dynamic", "static", "codes", "float")
    dtype, form = choice(rng, *INPUT_TYPES), choice(rng, "symmetric", "zero", "offset", "corners")
    if kind in ("static", "float"):
        input_group = 0
    options, x = input_options(rng, kind, dtype, m, k, input_group)
    call = Linear(rng, evaluate, x, kind, **options)
    weight_type = choice(rng, *WEIGHT_TYPES)
    for _ in range(choice(rng, 1, 1, 2, 3)):
        if form == "offset" and (options.get("interval") or options.get("offset") is not None):
            form = "zero"  # offsets on both sides are refused
        call.add(make_weight(rng, choice(rng, *SIZES, 65), k, weight_group, weight_type, form), weight_type)
        if rng.random() < 0.3:  # the next weight's layout is another
            weight_type, weight_group = choice(rng, weight_type, *WEIGHT_TYPES), choice(rng, weight_group, 0)
            form = choice(rng, "symmetric", "zero", "offset", "corners")
    return call.finish()


def input_options(
    rng: np.random.Generator, kind: str, dtype: str, m: int, k: int, group: int
) -> tuple[dict[str, Any], np.ndarray]:
    x = rows(rng, m, k)
    if kind == "float":
        return {}, x
    if kind == "dynamic":
        interval = bool(rng.random() < 0.25)
        symmetric = not interval and bool(rng.random() < 0.5)
        return {"dtype": dtype, "symmetric": symmetric, "interval": interval, "group": group}, x
    code = ref.CodeType(dtype)
    if kind == "static":
        scale = rng.uniform(0.01, 0.2, 1).astype(F32)
        divisor = choice(rng, None, (scale * rng.uniform(0.1, 3, k).astype(F32)).astype(F32))
        zero = rng.integers(code.min, code.max + 1, 1).astype(np.int32)
        return {"dtype": dtype, "scale": scale, "zero": zero, "divisor": divisor}, x
    codes = rng.integers(code.min, code.max + 1, (m, k)).astype(code.storage)
    shape = (m, len(ref.spans(k, group))) if group or rng.random() < 0.5 else (1,)
    options = {"dtype": dtype, "scale": rng.uniform(0.01, 0.2, shape).astype(F32), "group": group}
    if rng.random() < 0.3:
        return options | {"offset": rng.standard_normal(shape).astype(F32)}, codes
    return options | {"zero": rng.integers(code.min, code.max + 1, shape).astype(np.int32)}, codes


def float_linear(rng: np.random.Generator, evaluate: ref.Evaluate) -> tuple[dict[str, Any], Any]:
    """A float weight; NaN and infinities propagate."""
    m, k = choice(rng, *SIZES, 50), choice(rng, *DEPTHS)
    x = rows(rng, m, k)
    if rng.random() < 0.3:
        x[rng.integers(m), rng.integers(k)] = choice(rng, np.nan, np.inf, -np.inf)
    call = Linear(rng, evaluate, x, "float")
    for _ in range(choice(rng, 1, 2)):
        call.add(rows(rng, choice(rng, *SIZES, 65), k), None)
    return call.finish()


# The deepest k at which 32-bit sums hold, by types (worst values).
BOUNDS = {
    ("int8", "int8"): 131071,
    ("uint8", "int8"): 65793,
    ("uint8", "uint8"): 33025,
    ("uint8", "uint4"): 561433,
}


def deep_linear(types: tuple[str, str], k: int, evaluate: ref.Evaluate) -> tuple[dict[str, Any], Any]:
    """The worst codes everywhere: (255 - 0)(255 - 0) k, 255 * 128 k, 128 * 128 k, with zero points at either end."""
    rng, (left, right) = np.random.default_rng(k), map(ref.CodeType, types)
    x = np.full((2, k), left.max if not left.signed else left.min, left.storage)
    x[1] = left.min
    options = {"dtype": left.name, "scale": np.array([0.01], F32), "zero": np.array([0 if left.signed else left.min])}
    options["zero"] = options["zero"].astype(np.int32)
    call = Linear(rng, evaluate, x, "codes", **options)
    call.activation = ref.IDENTITY
    values = np.full((3, k), right.min if right.signed else right.max, right.storage)
    values[1], values[2, ::2] = right.max, right.min
    zero = np.zeros((3, 1), np.int32)
    if not right.signed:
        zero[1] = right.max
    call.add(ref.Codes(values, np.full((3, 1), 0.02, F32), zero, None, 0), right.name)
    return call.finish()


def random_matmul(rng: np.random.Generator, k: int) -> tuple[dict[str, Any], Any]:
    m, n = choice(rng, *SIZES), choice(rng, *SIZES, 65)
    left, right = (ref.CodeType(choice(rng, "int8", "uint8", "int16", "uint16")) for _ in range(2))
    a = rng.choice([left.min, left.max, left.max - 1], (m, k)).astype(left.storage)
    b = rng.choice([right.min, right.max, right.min + 1], (n, k)).astype(right.storage)
    product = ref.integer_product(a, b)
    wide = left.bits > 8 or right.bits > 8 or abs(product).max(initial=0) >= 2**31 or bool(rng.random() < 0.3)
    weight = {"values": b, "dtype": right.name, "group": 0, "scale": np.ones(1, F32), "zero": None, "offset": None}
    case = {"x": a, "dtype": left.name, "weights": [weight], "wide": wide}
    return case, product if wide else product.astype(np.int32)


# ---- running them --------------------------------------------------------------------------------------------------


def run_worker(folder: Path, isa: str, cases: list[dict[str, Any]], preload: str = "") -> list[list[Any]]:
    source, target = folder / f"{isa}.in", folder / f"{isa}.out"
    source.write_bytes(pickle.dumps({"threads": THREADS, "cases": cases, "preload": preload}))
    installed = str(Path(qlm.__file__).parents[1])
    environment = os.environ | {"QLM_ISA": isa, "PYTHONPATH": installed}
    subprocess.run([sys.executable, str(WORKER), str(source), str(target)], check=True, env=environment, timeout=300)
    answer = pickle.loads(target.read_bytes())
    assert answer["isa"] == isa
    return answer["results"]


def describe(case: dict[str, Any]) -> str:
    weights = [
        (w["dtype"], w["values"].shape, w["group"], *(k for k in ("zero", "offset") if w[k] is not None))
        for w in case["weights"]
    ]
    options = {k: v.shape if isinstance(v, np.ndarray) else v for k, v in case.get("input", {}).items()}
    x, kind, activation = case["x"], case.get("kind"), case.get("activation")
    return f"x {x.dtype}{x.shape}, {kind} {options}, weights {weights}, activation {activation}"


def assert_equal(results: list[list[Any]], made: list[tuple[dict[str, Any], Any]], isa: str, seed: int) -> None:
    for threads, answers in zip(THREADS, results, strict=True):
        for answer, (case, expected) in zip(answers, made, strict=True):
            place = f"{isa}, {threads} threads, seed {seed}: {describe(case)}"
            answer, expected = (value if isinstance(value, tuple) else (value,) for value in (answer, expected))
            for got, wanted in zip(answer, expected, strict=True):
                assert isinstance(got, np.ndarray), f"{answer} {place}"
                assert got.dtype == wanted.dtype, place
                assert got.shape == wanted.shape, place
                wrong = np.argwhere(got.view(f"u{got.itemsize}") != wanted.view(f"u{got.itemsize}"))
                assert not wrong.size, (
                    f"{len(wrong)} of {got.size} differ, at {wrong[0]} {got[tuple(wrong[0])]!r} is not "
                    f"{wanted[tuple(wrong[0])]!r}; {place}"
                )


@pytest.fixture(scope="module")
def random_cases(seed, bench):
    rng = np.random.default_rng([seed, 5])
    made = [random_linear(rng, bench.evaluate) for _ in range(250)]
    made += [float_linear(rng, bench.evaluate) for _ in range(40)]
    return made + [random_matmul(rng, choice(rng, 0, *DEPTHS)) for _ in range(40)]


@pytest.fixture(scope="module")
def deep_cases(bench):
    made = [deep_linear(types, bound + past, bench.evaluate) for types, bound in BOUNDS.items() for past in (0, 1)]
    rng = np.random.default_rng(7)
    return made + [random_matmul(rng, k) for k in (*[257, 300, 512, 1030] * 6, 33025, 33026, 65793, 131072)]


@pytest.mark.parametrize("isa", native_isas())
def test_random_linears(isa, random_cases, tmp_path, seed):
    assert_equal(run_worker(tmp_path, isa, [case for case, _ in random_cases]), random_cases, isa, seed)


@pytest.mark.parametrize("isa", native_isas())
def test_linears_at_the_bound_of_32_bit_sums_and_past_it(isa, deep_cases, tmp_path, seed):
    assert_equal(run_worker(tmp_path, isa, [case for case, _ in deep_cases]), deep_cases, isa, seed)


FLUSHING = """
#include <xmmintrin.h>
__attribute__((constructor)) static void flush_subnormals(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
"""


@pytest.fixture(scope="module")
def flushing_library(tmp_path_factory):
    """Sets FTZ and DAZ in the thread that loads it, as a library built with -ffast-math may."""
    if platform.machine() != "x86_64" or not shutil.which("gcc"):
        pytest.skip("needs gcc on x86-64")
    folder = tmp_path_factory.mktemp("flushing")
    (folder / "flush.c").write_text(FLUSHING)
    library = str(folder / "flush.so")
    subprocess.run(["gcc", "-shared", "-fPIC", str(folder / "flush.c"), "-o", library], check=True)
    return library


@pytest.mark.parametrize("isa", native_isas())
def test_linears_do_not_see_that_the_caller_flushes_subnormals(isa, flushing_library, bench, tmp_path, rng, seed):
    made = []
    for _ in range(20):
        x, weight = rows(rng, 5, 40) * F32(1e-38), rows(rng, 18, 40)
        call = Linear(rng, bench.evaluate, x, choice(rng, "float", "dynamic"))
        call.input = {"dtype": "uint8"} if call.kind == "dynamic" else {}
        if call.kind == "float":
            call.add(weight, None)
        else:
            call.add(ref.quantize_rows(weight, "int8", True), "int8")
        made.append(call.finish())
    results = np.concatenate([abs(y[0]).ravel() for _, y in made])
    assert ((results > 0) & (results < 2.0**-126)).any(), "no subnormal result"
    assert_equal(run_worker(tmp_path, isa, [case for case, _ in made], flushing_library), made, isa, seed)


@pytest.mark.parametrize("isa", native_isas())
def test_the_first_value_that_is_not_finite_is_named(isa, tmp_path, rng):
    """In whatever block or thread it lies; of many rows the second thread, which begins in their middle, finds another
    one before."""
    made = []
    for m, k, at in ((1, 1, 0), (5, 33, 5 * 33 - 1), (300, 40, 7777), (300, 40, 0), (9000, 64, 9000 * 64 // 3)):
        x = rng.standard_normal((m, k)).astype(F32)
        x.reshape(-1)[at] = choice(rng, np.nan, np.inf, -np.inf)
        x.reshape(-1)[at + 1 :: 3] = np.nan
        for options in (
            {"dtype": "uint8"},
            {"dtype": "int16", "symmetric": True},
            {"dtype": "uint8", "interval": True},
        ):
            call = Linear(rng, lambda f, v: v, x, "dynamic", **options)
            call.activation = ref.IDENTITY
            call.add(make_weight(rng, 17, k, 0, "int8", "symmetric"), "int8")
            made.append((call, at))
    cases = []
    for call, _ in made:
        empty = {"bias": (None,), "residual": (None,), "activation": ref.IDENTITY}
        cases.append({"kind": call.kind, "input": call.input, "x": call.x, "weights": call.arguments} | empty)
    for answers in run_worker(tmp_path, isa, cases):
        assert answers == [("NonFinite", at) for _, at in made]
