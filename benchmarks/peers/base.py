"""What a peer can do: linears, element-wise operations and whole models, each prepared once and then called."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import qlm
from qlm.timing import Call

from .checkpoint import Checkpoint

Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Work:
    """A call, and how its result is read for the check before it is timed."""

    call: Call
    result: Callable[[], np.ndarray]


class Peer:
    """`threads` for all that it does. A subclass says what it offers; what it has not is left out of a table."""

    name = ""
    modules: tuple[str, ...] = ()  # packages that it needs
    # The environment that holds it to AVX2, read when the library is loaded; None: nothing does.
    avx2: ClassVar[Mapping[str, str] | None] = None
    # What rows it has in which section, so that an absent peer can have them too.
    sections: ClassVar[Mapping[str, str]] = {}
    model_rows: tuple[str, ...] = ()

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._kept: tuple[str, object, object] | None = None
        self.missing = self.find_missing() or self._held()

    def find_missing(self) -> str | None:
        """None where all that the peer needs is there, else what a table says."""
        return None if all(map(importlib.util.find_spec, self.modules)) else "not installed"

    def _held(self) -> str | None:
        """What a table says where others are to be held to AVX2 and cannot be."""
        if not held_to_avx2():
            return None
        if self.avx2 is None:
            return "cannot be held to AVX2"
        os.environ.update(self.avx2)
        return None

    def version(self) -> str:
        import importlib.metadata

        return importlib.metadata.version(self.modules[0])

    def linear(self, kind: str, weight: np.ndarray, x: np.ndarray) -> Work:
        """`kind` is that of qlm.bench.kernels; weight [n, k], x [m, k], float32."""
        raise NotImplementedError

    def array(self, section: str, x: np.ndarray) -> Work:
        raise NotImplementedError

    def encoders(self, checkpoint: Checkpoint) -> dict[str, Encode | str]:
        """Token ids int64 [batch, length] -> hidden states, for each of `model_rows`; text: why there is none."""
        raise NotImplementedError

    def keep(self, kind: str, weight: np.ndarray, make: Callable[[], object]) -> object:
        """What `make` gives, made once for the rows of one weight: the cases of a weight follow each other."""
        if self._kept is None or self._kept[0] != kind or self._kept[1] is not weight:
            self._kept = None  # before the next one is made
            self._kept = (kind, weight, make())
        return self._kept[2]


def held_to_avx2() -> bool:
    """With QLM_ISA=avx2 on a CPU that has more, others are held to it too."""
    info = qlm.cpu_info()
    return info["isa"] == "avx2" != info["isas"][-1]


def groups(kind: str) -> int | None:
    """Of "int4 g32": 32."""
    return int(kind.partition(" g")[2]) if " g" in kind else None


def per_channel(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes and a scale for each output."""
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, 1e-12).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def per_group(weight: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes -8..7 as int8 [n, k / group, group] and scales [n, k / group, 1]."""
    n, k = weight.shape
    blocks = weight.reshape(n, k // group, group)
    scale = np.maximum(np.abs(blocks).max(axis=2, keepdims=True) / 7, 1e-12).astype(np.float32)
    return np.clip(np.rint(blocks / scale), -8, 7).astype(np.int8), scale


def two_a_byte(codes: np.ndarray) -> np.ndarray:
    """Codes -8..7 along the last axis as bytes, the first in the low bits."""
    low = codes.astype(np.uint8) & 15
    return low[..., 0::2] | (low[..., 1::2] << 4)
