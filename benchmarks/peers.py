"""The contenders: each gives token ids int64 [batch, length] -> hidden states. A peer that is absent says so."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from checkpoint import Checkpoint

import qlm

Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Contender:
    """`encode` is None where the peer is not installed."""

    name: str
    encode: Encode | None


def contenders(checkpoint: Checkpoint, threads: int, recipes: list[str]) -> list[Contender]:
    """qlm (float and each recipe) and every peer, all on `threads` threads."""
    return [*_qlm(checkpoint, threads, recipes), *_torch(checkpoint, threads), *_onnxruntime(checkpoint, threads)]


def _qlm(checkpoint: Checkpoint, threads: int, recipes: list[str]) -> list[Contender]:
    qlm.set_num_threads(threads)
    model = qlm.load(checkpoint.folder)
    calibration = (Path(__file__).parent.parent / "examples" / "calibration.txt").read_text().splitlines()
    found = [Contender("qlm float32", lambda ids: model.forward(ids).last_hidden_state)]
    for recipe in recipes:
        quantized = qlm.quantize_model(model, recipe, calibration=calibration if recipe.startswith("static") else None)
        found.append(Contender(f"qlm {recipe}", lambda ids, q=quantized: q.forward(ids).last_hidden_state))
    return found


def _torch(checkpoint: Checkpoint, threads: int) -> list[Contender]:
    names = ["torch float32", "torch dynamic int8"]
    try:
        import torch
        from torch_bert import Bert
    except ImportError:
        return [Contender(name, None) for name in names]
    torch.set_num_threads(threads)
    model = Bert(checkpoint.config, checkpoint.tensors).eval()
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear: _per_channel(torch)}, dtype=torch.qint8)

    def encoder(module: torch.nn.Module) -> Encode:
        def encode(ids: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return module(torch.from_numpy(ids)).numpy()

        return encode

    return [Contender(name, encoder(module)) for name, module in zip(names, (model, quantized), strict=True)]


def _per_channel(torch: object) -> object:
    return torch.ao.quantization.per_channel_dynamic_qconfig  # type: ignore[attr-defined]


def _onnxruntime(checkpoint: Checkpoint, threads: int) -> list[Contender]:
    names = ["ONNX Runtime float32", "ONNX Runtime dynamic int8"]
    try:
        import onnx
        import onnxruntime
        from onnx_bert import build
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        return [Contender(name, None) for name in names]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3

    def encoder(path: Path) -> Encode:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda ids: session.run(None, {"input_ids": ids})[0]

    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
        onnx.save(build(checkpoint.config, checkpoint.tensors), str(plain))
        # The fused operators have no shape inference, so the quantizer has to be told what they give.
        told = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(plain, small, per_channel=True, weight_type=QuantType.QInt8, extra_options=told)
        return [Contender(name, encoder(path)) for name, path in zip(names, (plain, small), strict=True)]
