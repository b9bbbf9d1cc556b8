"""PyTorch: its dynamic int8 linear, its 4-bit one (bfloat16 rows), float32, and quantization of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from .base import Encode, Peer, Work, groups, per_group
from .checkpoint import Checkpoint


class Torch(Peer):
    name = "torch"
    modules = ("torch",)
    sections: ClassVar[Mapping[str, str]] = {
        "linear int8": "torch dynamic",
        "linear int4 g32": "torch int4, bf16 in",
        "linear int4 g128": "torch int4, bf16 in",
        "linear float32": "torch",
        "quantize": "torch",
        "quantize channels": "torch",
        "dequantize": "torch",
        "dequantize channels": "torch",
    }
    model_rows = ("torch float32", "torch dynamic int8")

    def _torch(self) -> object:
        import torch

        torch.set_num_threads(self.threads)
        torch.set_grad_enabled(False)
        return torch

    def linear(self, kind: str, weight: np.ndarray, x: np.ndarray) -> Work:
        torch = self._torch()
        rows = torch.from_numpy(x)
        if kind == "int8":
            module = self.keep(kind, weight, lambda: self._dynamic(torch, weight))
        elif kind == "float32":
            module = self.keep(kind, weight, lambda: self._float(torch, weight))
        else:
            packed, scales = self.keep(kind, weight, lambda: self._int4(torch, weight, groups(kind)))
            group, rows = groups(kind), rows.bfloat16()

            def module(rows: object) -> object:
                return torch.ops.aten._weight_int4pack_mm_for_cpu(rows, packed, group, scales)

        return Work(lambda: module(rows), lambda: module(rows).float().numpy())

    def _float(self, torch: object, weight: np.ndarray) -> object:
        module = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        module.weight.copy_(torch.from_numpy(weight))
        return module

    def _dynamic(self, torch: object, weight: np.ndarray) -> object:
        model = torch.nn.Sequential(self._float(torch, weight)).eval()
        return quantized(torch, model)[0]

    def _int4(self, torch: object, weight: np.ndarray, group: int) -> tuple[object, object]:
        codes, scale = per_group(weight, group)
        unsigned = torch.from_numpy((codes.reshape(weight.shape) + 8).astype(np.int32))
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(unsigned, 1)
        scales = torch.from_numpy(scale[:, :, 0].T.copy())
        return packed, torch.stack([scales, torch.zeros_like(scales)], dim=2).bfloat16().contiguous()

    def array(self, section: str, x: np.ndarray) -> Work:
        torch = self._torch()
        values = torch.from_numpy(x)
        if section.endswith("channels"):
            scales = torch.full((len(x),), 0.03, dtype=torch.float64)
            zeros = torch.zeros(len(x), dtype=torch.int64)

            def quantize() -> object:
                return torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8)
        else:

            def quantize() -> object:
                return torch.quantize_per_tensor(values, 0.03, 0, torch.qint8)

        if section.startswith("quantize"):
            return Work(quantize, lambda: quantize().int_repr().numpy() * np.float32(0.03))
        codes = quantize()
        return Work(codes.dequantize, lambda: codes.dequantize().numpy())

    def encoders(self, checkpoint: Checkpoint) -> dict[str, Encode]:
        torch = self._torch()
        from .torch_bert import Bert

        model = Bert(checkpoint.config, checkpoint.tensors).eval()

        def encoder(module: object) -> Encode:
            def encode(ids: np.ndarray) -> np.ndarray:
                with torch.inference_mode():
                    return module(torch.from_numpy(ids)).numpy()

            return encode

        return dict(zip(self.model_rows, map(encoder, (model, quantized(torch, model))), strict=True))


def quantized(torch: object, model: object) -> object:
    """A copy whose linears are torch's own dynamic ones, a scale for each output."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that module of torch is deprecated, and has no successor on CPUs
        how = {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
        return torch.ao.quantization.quantize_dynamic(model, how, dtype=torch.qint8)
