"""The libraries that qlm is measured against. One that is absent is a row that says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .base import Peer, Work
from .ctranslate2_peer import CTranslate2
from .ggml_peer import Ggml
from .onednn_peer import OneDNN
from .onnxruntime_peer import OnnxRuntime
from .openvino_peer import OpenVINO
from .torch_peer import Torch

KINDS = (OnnxRuntime, OpenVINO, OneDNN, Torch, Ggml, CTranslate2)

__all__ = ["Peer", "Work", "peers"]


def peers(threads: int, names: Sequence[str] | None = None) -> Iterator[Peer]:
    """All of them, or those whose names are given."""
    for kind in KINDS:
        if names is None or kind.name in names:
            yield kind(threads)
