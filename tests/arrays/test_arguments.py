"""Every bad argument of the array functions: one error that names it, the value, and the index where there is one."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qlm
from qlm import _core

F32 = np.float32
X = np.arange(6.0).reshape(2, 3)


class Raises:
    """An object whose conversion to an array fails with an error of its own."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise ZeroDivisionError("mine")


def read_only(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    array = np.zeros(shape, dtype)
    array.flags.writeable = False
    return array


QUANTIZE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": "text"}, TypeError, "x must hold real numbers .* got <U4"),
    ({"x": np.ones(2, bool)}, TypeError, "x must hold real numbers .* got bool"),
    ({"x": np.ones(2, complex)}, TypeError, "x must hold real numbers .* got complex128"),
    ({"x": np.array([None])}, TypeError, "x must hold real numbers .* got object"),
    ({"x": [Decimal(1)]}, TypeError, "x must hold real numbers .* got object"),
    ({"x": np.ones(2, np.longdouble)}, TypeError, "x must hold real numbers .* got (float128|longdouble)"),
    ({"x": np.zeros(2, "datetime64[s]")}, TypeError, "x must hold real numbers"),
    ({"x": np.zeros(2, [("a", float)])}, TypeError, "x must hold real numbers"),
    ({"x": np.ma.masked_invalid(X)}, TypeError, "x must be an array without a mask, got a MaskedArray"),
    ({"x": np.ma.masked_invalid(F32(X))}, TypeError, "x must be an array without a mask, got a MaskedArray"),
    ({"x": [2**70]}, TypeError, "x must hold real numbers .* got object"),
    ({"x": [[1.0], [1.0, 2.0]]}, ValueError, "^x is no array"),
    ({"x": Raises()}, ZeroDivisionError, "mine"),
    ({"dtype": "int9"}, ValueError, "dtype must be one of int4, uint4, int8, uint8, int16, uint16, got 'int9'"),
    ({"dtype": "Int8"}, ValueError, "dtype must be one of"),
    ({"dtype": "int32"}, ValueError, "dtype must be one of"),
    ({"dtype": float}, ValueError, "dtype must be one of .* got 'float64'"),
    ({"dtype": 8}, TypeError, "dtype must be the name of a type, got 8"),
    ({"dtype": object()}, TypeError, "dtype must be the name of a type"),
    *(
        ({"dtype": name}, qlm.UnsupportedError, name)
        for name in ("int2", "int3", "int5", "int6", "int7", "uint2", "uint3", "uint5", "uint6", "uint7", "nf4")
    ),
    ({"axis": 2}, ValueError, r"axis must be within -2..1 for shape \(2, 3\), got 2"),
    ({"axis": -3}, ValueError, "axis must be within .* got -3"),
    ({"axis": "0"}, TypeError, "axis must be an integer, got '0'"),
    ({"axis": False}, TypeError, "axis must be an integer, got False"),
    ({"axis": 0, "group_size": 2}, ValueError, "axis and group_size exclude each other, got axis=0, group_size=2"),
    ({"x": 1.0, "axis": 0}, ValueError, "axis must be None for an array of no axes"),
    ({"x": 1.0, "group_size": 4}, ValueError, "group_size must be None for an array of no axes"),
    ({"group_size": 0}, ValueError, "group_size must be at least 1, got 0"),
    ({"group_size": -5}, ValueError, "group_size must be at least 1, got -5"),
    ({"group_size": 2.0}, TypeError, "group_size must be an integer, got 2.0"),
    ({"symmetric": 1}, TypeError, "symmetric must be True, False or None, got 1"),
    ({"symmetric": "yes"}, TypeError, "symmetric must be True, False or None"),
    ({"observer": "entropy"}, NotImplementedError, "observer: entropy is not supported yet"),
    ({"observer": "entrop"}, ValueError, "observer must be"),
    ({"observer": qlm.observers.MinMax(axis=0), "axis": 1}, ValueError, "axis is 1, but the observer's is 0"),
    ({"observer": qlm.observers.MinMax(axis=0), "group_size": 1}, ValueError, "exclude each other"),
    ({"observer": qlm.observers.MinMax(symmetric=True), "symmetric": False}, ValueError, "symmetric is False"),
    ({"observer": "moving_average", "scale": 1.0}, ValueError, "observer has no use where scale is given"),
    ({"zero_point": 1}, ValueError, "zero_point needs a scale"),
    *(
        ({"scale": value}, ValueError, "scale must be finite and > 0")
        for value in (0, -0.0, -1.0, np.nan, np.inf, 1e-39, 2.0**-128, 1e39, 1e-60)
    ),
    ({"scale": [1.0, 0.0, 2.0], "axis": 1}, ValueError, r"scale must be .* got 0 at index \(1,\)"),
    ({"scale": [1.0, 2.0], "axis": 1}, ValueError, r"scale must be a scalar or an array of shape \(3,\), got"),
    ({"scale": [1.0] * 4, "axis": 1}, ValueError, r"got the shape \(4,\)"),
    ({"scale": [], "axis": 1}, ValueError, r"got the shape \(0,\)"),
    ({"scale": [[1.0] * 3] * 2}, ValueError, "or give axis or group_size"),
    ({"scale": "1"}, TypeError, "scale must hold real numbers"),
    ({"scale": True}, TypeError, "scale must hold real numbers"),
    ({"scale": 1.0, "zero_point": 128}, ValueError, "zero_point must be within -128..127 for int8, got 128"),
    ({"scale": 1.0, "zero_point": -1, "dtype": "uint8"}, ValueError, "zero_point must be within 0..255"),
    ({"scale": 1.0, "zero_point": 0.0}, TypeError, "zero_point must hold integers, got 0.0"),
    ({"scale": 1.0, "zero_point": [[1], [1, 2]]}, ValueError, "zero_point is no array"),
    ({"scale": 1.0, "zero_point": np.nan}, TypeError, "zero_point must hold integers, got nan"),
    ({"scale": 1.0, "zero_point": True}, TypeError, "zero_point must hold integers"),
    ({"scale": 1.0, "zero_point": [0, 1]}, ValueError, "zero_point must be a scalar"),
    ({"scale": 1.0, "zero_point": [0, 300, 0], "axis": 1}, ValueError, r"got 300 at index \(1,\)"),
    ({"scale": 1.0, "zero_point": 3, "symmetric": True}, ValueError, "zero_point must be 0 where symmetric is True"),
    ({"grid": "log"}, ValueError, "grid must be one of affine, interval, got 'log'"),
    ({"grid": None}, TypeError, "grid must be one of affine, interval"),
    ({"grid": "interval", "scale": 1.0}, ValueError, 'scale must be None with grid="interval"'),
    ({"grid": "interval", "zero_point": 1}, ValueError, 'zero_point must be None with grid="interval"'),
    ({"grid": "interval", "symmetric": False}, ValueError, 'symmetric must be None with grid="interval"'),
    ({"grid": "interval", "observer": "moving_average"}, ValueError, 'observer must be min-max with grid="interval"'),
    ({"grid": "interval", "x": [-3e38, 3e38], "dtype": "uint4"}, ValueError, "x spans too wide a range"),
    ({"nonfinite": "ignore"}, ValueError, "nonfinite must be one of raise, saturate, got 'ignore'"),
    ({"nonfinite": 0}, TypeError, "nonfinite must be one of"),
]

OUT: list[tuple[Any, type[Exception], str]] = [
    ([[0] * 3] * 2, TypeError, "out must be an array of int8 in native byte order, got 'list'"),
    (np.zeros((2, 3), np.uint8), TypeError, "out must be an array of int8"),
    (np.zeros((3, 2), np.int8), ValueError, r"out must have the shape \(2, 3\), got \(3, 2\)"),
    (np.zeros((1, 2, 3), np.int8), ValueError, "out must have the shape"),
    (read_only((2, 3), np.int8), ValueError, "out must be writable"),
    (np.lib.stride_tricks.as_strided(np.zeros(3, np.int8), (2, 3), (0, 1)), ValueError, "out has elements that share"),
]


@pytest.mark.parametrize(("options", "error", "words"), QUANTIZE)
def test_quantize(options: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"x": X, **options}
    for call in (qlm.quantize, qlm.fake_quantize):
        with pytest.raises(error, match=words):
            call(**arguments)


@pytest.mark.parametrize(("out", "error", "words"), OUT)
def test_out(out: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        qlm.quantize(X, out=out)


def test_out_of_another_byte_order() -> None:
    with pytest.raises(TypeError, match="native byte order, got an array of >i2"):
        qlm.quantize(X, "int16", out=np.zeros((2, 3), ">i2"))
    with pytest.raises(TypeError, match="out must be an array of float32"):
        qlm.quantize(X).dequantize(out=np.zeros((2, 3), ">f4"))
    with pytest.raises(TypeError, match="out must be an array of float32"):
        qlm.fake_quantize(X, out=np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: qlm.dequantize(X), TypeError, "q must be a QTensor, got 'ndarray'"),
        (lambda: qlm.quantize_dynamic(1.0), ValueError, "x must have at least one axis"),
        (lambda: qlm.quantize_dynamic([np.nan]), ValueError, r"x holds nan at index \(0,\)"),
        (lambda: qlm.quantize_dynamic(X, group_size=0), ValueError, "group_size must be at least 1"),
        (lambda: qlm.estimate_range(X, axis=5), ValueError, "axis must be within"),
        (lambda: qlm.estimate_range([1.0, -np.inf]), ValueError, r"x holds -inf at index \(1,\)"),
        (lambda: qlm.choose_qparams(1, 0), ValueError, "min must not be above max, got 1 and 0$"),
        (lambda: qlm.choose_qparams([0, 2], [1, 1]), ValueError, r"got 2 and 1 at index \(1,\)"),
        (lambda: qlm.choose_qparams(np.nan, 0), ValueError, "min holds nan"),
        (lambda: qlm.choose_qparams(0, 1e39), ValueError, r"max holds 1e\+39 \(infinite in float32\); it must"),
        (lambda: qlm.choose_qparams(0, np.inf), ValueError, "max holds inf"),
        (lambda: qlm.choose_qparams([0, 1], [1, 2, 3]), ValueError, "min and max must match"),
        (lambda: qlm.choose_qparams("0", 1), TypeError, "min must hold real numbers"),
        (lambda: qlm.fake_quantize_backward(X[0], X, scale=1.0), ValueError, "grad must have x's shape"),
        (lambda: qlm.fake_quantize_backward("x", X, scale=1.0), TypeError, "grad must hold real numbers"),
        (lambda: qlm.fake_quantize_backward(X, X + np.nan, scale=1.0), ValueError, r"x holds nan at index \(0, 0\)"),
        (lambda: qlm.fake_quantize_backward(X + np.inf, X, scale=1.0), ValueError, "grad holds inf"),
        (lambda: qlm.fake_quantize_backward(X, X, scale=0.0), ValueError, "scale must be finite and > 0"),
        (lambda: qlm.fake_quantize_backward(X, X, scale=1.0, zero_point=200), ValueError, "zero_point must be within"),
        (lambda: qlm.set_num_threads(0), ValueError, "0"),
        (lambda: qlm.set_num_threads("2"), TypeError, "n must be"),
        (lambda: qlm.set_num_threads(True), TypeError, "n must be an integer, got bool"),
    ],
)
def test_the_rest(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_call_works_after_each_failure() -> None:
    wanted = qlm.quantize(X)
    for options, _, _ in QUANTIZE:
        with pytest.raises(Exception):  # noqa: B017
            qlm.quantize(**{"x": X, **options})
    assert qlm.quantize(X) == wanted


# ---- importing -----------------------------------------------------------------------------------------------------


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PYTHONPATH": str(Path(qlm.__file__).parents[1]), **environment}
    return subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True)


def test_import_loads_nothing_heavy() -> None:
    done = run("import qlm, sys; print(sorted(sys.modules))")
    assert done.returncode == 0, done.stderr
    loaded = set(ast.literal_eval(done.stdout))
    assert not loaded & {"torch", "tokenizers", "rich", "matplotlib", "ml_dtypes", "jinja2", "safetensors", "onnx"}
    assert not loaded & {"qlm.models", "qlm.workflow", "qlm.report", "qlm.formats.safetensors"}


def test_public_names() -> None:
    done = run("import qlm; print([n for n in qlm.__all__ if not hasattr(qlm, n)], dir(qlm) == sorted(qlm.__all__))")
    assert done.stdout.strip() == "[] True", done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qlm.nothing


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("QLM_ISA", "sse9", "scalar"),
        ("QLM_ISA", "neon", "scalar"),
        ("QLM_ISA", "SCALAR", "scalar"),
        ("QLM_NUM_THREADS", "0", "QLM_NUM_THREADS"),
        ("QLM_NUM_THREADS", "two", "QLM_NUM_THREADS"),
    ],
)
def test_a_bad_word_in_the_environment_is_an_import_error(name: str, value: str, words: str) -> None:
    done = run("import qlm", **{name: value})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert value in last
    assert words in last


def test_no_module_of_arrays_and_formats_runs_what_it_reads() -> None:
    """Data only: no pickle, eval or import by name where files are read."""
    package = Path(qlm.__file__).parent
    for path in [*package.glob("*.py"), *package.glob("formats/*.py")]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"pickle", "marshal", "shelve", "urllib", "socket", "http"}, (
                path
            )
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path


@pytest.mark.parametrize("size", [1, 5, 4096, 4097, 300_000])
def test_the_first_bad_value(rng: np.random.Generator, size: int) -> None:
    """Of arrays of one slice and of many; values that only scales may not have."""
    x = rng.uniform(0.5, 1, size).astype(np.float32)
    assert _core.first_bad(x) == _core.first_bad(x, True) == -1
    for value in (np.nan, np.inf, -np.inf, 0.0, -1.0, 2.0**-128):
        places = np.unique(rng.integers(0, size, 3))
        changed = x.copy()
        changed[places] = value
        assert _core.first_bad(changed, True) == places[0]
        assert _core.first_bad(changed) == (-1 if np.isfinite(value) else places[0])
    assert _core.first_bad(np.zeros((0, 3), np.float32), True) == -1
    with pytest.raises(TypeError, match="x must be a float32 array"):
        _core.first_bad(np.zeros(3))  # type: ignore[arg-type]
