"""ggml, from the shared libraries that llama-cpp-python was built with (its C functions, through ctypes)."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import Peer, Work, held_to_avx2

F32, Q4_0, Q8_0 = 0, 2, 8  # enum ggml_type
TYPES = {"int8": Q8_0, "int4 g32": Q4_0, "float32": F32}
BLOCK_BYTES = {Q8_0: 34, Q4_0: 18}  # of 32 numbers
SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
# Mangled, since no header names it: the memory in which 4-bit and 8-bit weights are interleaved for the CPU's kernels.
REPACKED = "_Z35ggml_backend_cpu_repack_buffer_typev"
# ggml's instructions are those that it was built for, so a second build holds it to AVX2: `make bench-ggml-avx2`.
AVX2_VARIABLE = "QLM_BENCH_GGML_AVX2"  # names its folder where that is not AVX2_FOLDER
AVX2_FOLDER = Path(__file__).resolve().parents[2] / "build" / "ggml-avx2"
BEYOND_AVX2 = ("ggml_cpu_has_avx_vnni", "ggml_cpu_has_avx512")  # int f(void), of the build and not of the CPU


class Ggml(Peer):
    name = "ggml"
    modules = ("llama_cpp",)
    sections: ClassVar[Mapping[str, str]] = {
        "linear int8": "ggml q8_0",
        "linear int4 g32": "ggml q4_0",
        "linear float32": "ggml",
        "quantize int8 g32": "ggml q8_0",
        "dequantize int8 g32": "ggml q8_0",
        "quantize int4 g32": "ggml q4_0",
        "dequantize int4 g32": "ggml q4_0",
    }

    def find_missing(self) -> str | None:
        if libraries() is None:
            return "not built for AVX2" if held_to_avx2() else "not installed"
        return None

    def _held(self) -> str | None:
        more = held_to_avx2() and any(getattr(libraries()[1], name)() for name in BEYOND_AVX2)
        return "built for more than AVX2" if more else None

    def version(self) -> str:
        return next(importlib.metadata.distributions(name="llama-cpp-python", path=[str(installed())])).version

    # ---- linears ----

    def linear(self, kind: str, weight: np.ndarray, x: np.ndarray) -> Work:
        matrix = self.keep(kind, weight, lambda: Matrix(TYPES[kind], weight))
        product = Product(matrix, x, self.threads)
        return Work(product.run, product.result)

    # ---- arrays ----

    def array(self, section: str, x: np.ndarray) -> Work:
        cpu, word = libraries()[1], "q4_0" if "int4" in section else "q8_0"
        blocks = np.zeros(x.size // 32 * BLOCK_BYTES[Q4_0 if "int4" in section else Q8_0], np.uint8)
        quantize, dequantize = (getattr(cpu, f"{verb}_row_{word}") for verb in ("quantize", "dequantize"))
        floats, size = np.empty(x.shape, np.float32), ctypes.c_int64(x.size)
        at = _pointer(x), _pointer(blocks), _pointer(floats)
        held = x, blocks, floats  # by the calls below, which have their addresses

        def forth(_held: tuple[np.ndarray, ...] = held) -> None:
            quantize(at[0], at[1], size)

        def back(_held: tuple[np.ndarray, ...] = held) -> None:
            dequantize(at[1], at[2], size)

        def result() -> np.ndarray:
            forth()
            back()
            return floats

        forth()
        return Work(forth if section.startswith("quantize") else back, result)


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class Matrix:
    """A weight as ggml keeps it: interleaved where its CPU kernels know such a form."""

    def __init__(self, kind: int, weight: np.ndarray) -> None:
        base = libraries()[0]
        n, k = weight.shape
        self.shape = n, k
        if kind == F32 or not self._make(kind, repacked_memory()):
            self._make(kind, None)
        data = np.empty(base.ggml_nbytes(self.tensor), np.uint8)
        if kind == F32:
            data[:] = weight.reshape(-1).view(np.uint8)
        else:
            base.ggml_quantize_chunk(kind, _pointer(weight), _pointer(data), 0, n, k, None)
        base.ggml_backend_tensor_set(self.tensor, _pointer(data), 0, data.nbytes)

    def _make(self, kind: int, memory: int | None) -> bool:
        """A tensor without its data; whether kernels for interleaved weights will take it."""
        self.context = Context()
        self.tensor = libraries()[0].ggml_new_tensor_2d(self.context.handle, kind, *self.shape[::-1])
        self.context.allocate(memory)
        return memory is not None and bool(Tensor.from_address(self.tensor).extra)


class Product:
    def __init__(self, matrix: Matrix, x: np.ndarray, threads: int) -> None:
        base, cpu = libraries()
        self._matrix, self._threads, self._context = matrix, threads, Context()
        rows = base.ggml_new_tensor_2d(self._context.handle, F32, x.shape[1], len(x))
        self._out = base.ggml_mul_mat(self._context.handle, matrix.tensor, rows)
        self._graph = base.ggml_new_graph(self._context.handle)
        base.ggml_build_forward_expand(self._graph, self._out)
        self._context.allocate()
        base.ggml_backend_tensor_set(rows, _pointer(x), 0, x.nbytes)
        cpu.ggml_backend_cpu_set_n_threads(backend(), threads)
        self._compute = base.ggml_backend_graph_compute
        self._shape = len(x), matrix.shape[0]

    def run(self) -> None:
        self._compute(backend(), self._graph)

    def result(self) -> np.ndarray:
        self.run()
        out = np.empty(self._shape, np.float32)
        libraries()[0].ggml_backend_tensor_get(self._out, _pointer(out), 0, out.nbytes)
        return out


class Context:
    """Descriptions of tensors, and then memory for them."""

    SIZE = 1 << 20

    def __init__(self) -> None:
        base = libraries()[0]
        self.handle = base.ggml_init(InitParams(self.SIZE, None, True))
        weakref.finalize(self, base.ggml_free, self.handle)

    def allocate(self, kind: int | None = None) -> None:
        base = libraries()[0]
        if kind is None:
            buffer = base.ggml_backend_alloc_ctx_tensors(self.handle, backend())
        else:
            buffer = base.ggml_backend_alloc_ctx_tensors_from_buft(self.handle, kind)
        if not buffer:
            raise RuntimeError("ggml has no memory for the tensors")
        weakref.finalize(self, base.ggml_backend_buffer_free, buffer)


class InitParams(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class Tensor(ctypes.Structure):
    """struct ggml_tensor: `extra` is set where interleaved memory knows the tensor's type and shape."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
    )


def repacked_memory() -> int | None:
    found = getattr(libraries()[1], REPACKED, None)
    if found is not None:
        found.restype = ctypes.c_void_p
    return None if found is None else found()


@functools.cache
def backend() -> int:
    return libraries()[1].ggml_backend_cpu_init()


def installed() -> Path | None:
    """Where the package is whose libraries are used; None where there is none."""
    if held_to_avx2():
        places = [Path(os.environ.get(AVX2_VARIABLE) or AVX2_FOLDER)]
    else:
        spec = importlib.util.find_spec("llama_cpp")
        places = [Path(place).parent for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if all(path.exists() for path in library_paths(place))), None)


def library_paths(place: Path) -> list[Path]:
    return [place / "llama_cpp" / "lib" / f"libggml-{part}.so" for part in ("base", "cpu")]


@functools.cache
def libraries() -> tuple[ctypes.CDLL, ctypes.CDLL] | None:
    """(libggml-base, libggml-cpu); None where they are not there."""
    place = installed()
    if place is None:
        return None
    base, cpu = (ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for path in library_paths(place))
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    _declare(base, "ggml_init", pointer, InitParams)
    _declare(base, "ggml_free", None, pointer)
    _declare(base, "ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, number, number)
    _declare(base, "ggml_nbytes", size, pointer)
    _declare(base, "ggml_quantize_chunk", size, ctypes.c_int, pointer, pointer, number, number, number, pointer)
    _declare(base, "ggml_mul_mat", pointer, pointer, pointer, pointer)
    _declare(base, "ggml_new_graph", pointer, pointer)
    _declare(base, "ggml_build_forward_expand", None, pointer, pointer)
    _declare(base, "ggml_backend_alloc_ctx_tensors", pointer, pointer, pointer)
    _declare(base, "ggml_backend_alloc_ctx_tensors_from_buft", pointer, pointer, pointer)
    _declare(base, "ggml_backend_buffer_free", None, pointer)
    _declare(base, "ggml_backend_tensor_set", None, pointer, pointer, size, size)
    _declare(base, "ggml_backend_tensor_get", None, pointer, pointer, size, size)
    _declare(base, "ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)
    _declare(base, "ggml_log_set", None, pointer, pointer)
    base.ggml_log_set(ctypes.cast(SILENT, pointer), None)
    _declare(cpu, "ggml_backend_cpu_init", pointer)
    _declare(cpu, "ggml_backend_cpu_set_n_threads", None, pointer, ctypes.c_int)
    return base, cpu


def _declare(library: ctypes.CDLL, name: str, result: object, *arguments: object) -> None:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
