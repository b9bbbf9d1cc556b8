"""oneDNN, through a small C++ library (onednn.cc) that is built when it is first used."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import Peer, Work, per_channel

PLACES = (Path(sys.prefix), Path("/usr"), Path("/usr/local"))
SOURCE = Path(__file__).with_name("onednn.cc")


class OneDNN(Peer):
    name = "oneDNN"
    avx2: ClassVar[Mapping[str, str]] = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    sections: ClassVar[Mapping[str, str]] = {"linear int8": "oneDNN, int8 in", "linear float32": "oneDNN"}

    def find_missing(self) -> str | None:
        if place() is None:
            return "not installed"
        if shutil.which(compiler()) is None:
            return "no C++ compiler"
        return None

    def version(self) -> str:
        text = (place() / "include/oneapi/dnnl/dnnl_version.h").read_text()
        words = dict(line.split()[1:3] for line in text.splitlines() if line.startswith("#define DNNL_VERSION_"))
        return ".".join(words[f"DNNL_VERSION_{part}"] for part in ("MAJOR", "MINOR", "PATCH"))

    def linear(self, kind: str, weight: np.ndarray, x: np.ndarray) -> Work:
        if kind == "int8":
            matrix, scale = self.keep(kind, weight, lambda: per_channel(weight))
            step, zero = float(x.max() - x.min()) / 255, -float(x.min())
            rows = np.rint((x + zero) / step).astype(np.uint8)
            product = Product(self.threads, matrix, (scale * step).astype(np.float32), rows)
            # The rows' zero point is no part of the product that is timed: it is put right for the check.
            correction = zero * weight.sum(axis=1)
        else:
            product, correction = Product(self.threads, weight, None, x), 0
        return Work(product.run, lambda: product.result() - correction)


class Product:
    """One product with its weight and its rows inside."""

    def __init__(self, threads: int, weight: np.ndarray, scale: np.ndarray | None, x: np.ndarray) -> None:
        self.shape = len(x), len(weight)
        weight, x = np.ascontiguousarray(weight), np.ascontiguousarray(x)
        scales = None if scale is None else scale.ctypes.data
        self._handle = library().onednn_product(
            threads, len(x), *weight.shape, weight.ctypes.data, scales, x.ctypes.data
        )
        if not self._handle:
            raise RuntimeError("oneDNN refused the product")
        self._run = library().onednn_run
        weakref.finalize(self, library().onednn_free, self._handle)

    def run(self) -> None:
        self._run(self._handle)

    def result(self) -> np.ndarray:
        self.run()
        return np.ctypeslib.as_array(library().onednn_result(self._handle), self.shape).copy()


def place() -> Path | None:
    """Where its headers are: in this environment (packages onednn-devel-cpu-gomp, onednn-cpu-gomp) or the system."""
    return next((path for path in PLACES if (path / "include/oneapi/dnnl/dnnl.hpp").exists()), None)


def compiler() -> str:
    return os.environ.get("CXX", "g++")


@functools.cache
def library() -> ctypes.CDLL:
    root = place()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "onednn_peer.so")
        paths = [f"-I{root / 'include'}", f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}"]
        flags = ["-std=c++17", "-O2", "-fopenmp", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic,-z,now"]
        subprocess.run([compiler(), *flags, *paths, "-o", target, SOURCE, "-ldnnl"], check=True)
        # Other libraries in the process have a oneDNN of their own inside, of another version.
        found = ctypes.CDLL(str(target), mode=os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
    found.onednn_product.restype = ctypes.c_void_p
    found.onednn_product.argtypes = [*[ctypes.c_int] * 4, *[ctypes.c_void_p] * 3]
    found.onednn_run.argtypes = found.onednn_free.argtypes = found.onednn_result.argtypes = [ctypes.c_void_p]
    found.onednn_result.restype = ctypes.POINTER(ctypes.c_float)
    return found
