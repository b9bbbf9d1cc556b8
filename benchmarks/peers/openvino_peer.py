"""OpenVINO: static int8 (through nncf for a whole model), compressed 4-bit weights with dynamic rows, bf16, float32."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from .base import Encode, Peer, Work, groups, per_channel, per_group, two_a_byte
from .checkpoint import Checkpoint, calibration_ids


class OpenVINO(Peer):
    name = "OpenVINO"
    modules = ("openvino",)
    avx2: ClassVar[Mapping[str, str]] = {"ONEDNN_MAX_CPU_ISA": "AVX2"}  # of the oneDNN inside
    sections: ClassVar[Mapping[str, str]] = {
        "linear int8": "OpenVINO static",
        "linear int4 g32": "OpenVINO",
        "linear int4 g128": "OpenVINO",
        "linear float32": "OpenVINO",
    }
    model_rows = ("OpenVINO float32", "OpenVINO bf16", "OpenVINO static int8")

    def _compile(self, model: object, **properties: object) -> object:
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            **properties,
        }
        return openvino.Core().compile_model(model, "CPU", settings)

    # ---- linears ----

    def linear(self, kind: str, weight: np.ndarray, x: np.ndarray) -> Work:
        import openvino

        compiled = self.keep(kind, weight, lambda: self._linear(kind, weight, x))
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

        def call(_held: np.ndarray = x) -> None:
            request.infer()

        def result() -> np.ndarray:
            call()
            return request.get_output_tensor(0).data

        return Work(call, result)

    def _linear(self, kind: str, weight: np.ndarray, x: np.ndarray) -> object:
        import openvino
        import openvino.opset13 as ops

        rows = ops.parameter([-1, weight.shape[1]], np.float32)
        source, properties = rows, {}
        if kind == "int8":
            source, matrix = self._static(ops, rows, x), self._channels(ops, weight)
        elif kind == "float32":
            matrix = ops.constant(weight)
        else:
            matrix = self._groups(ops, weight, groups(kind))
            properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = groups(kind)
        product = ops.matmul(source, matrix, False, True)
        return self._compile(openvino.Model([product], [rows]), **properties)

    def _static(self, ops: object, rows: object, x: np.ndarray) -> object:
        """Rows quantized with one scale that is known beforehand: unsigned codes, which its kernels like best."""
        low, high = (ops.constant(np.float32(value)) for value in (x.min(), x.max()))
        return ops.fake_quantize(rows, low, high, low, high, 256)

    def _channels(self, ops: object, weight: np.ndarray) -> object:
        codes, scale = per_channel(weight)
        return ops.multiply(ops.convert(ops.constant(codes), np.float32), ops.constant(scale))

    def _groups(self, ops: object, weight: np.ndarray, group: int) -> object:
        import openvino

        codes, scale = per_group(weight, group)
        packed = openvino.Tensor(openvino.Type.i4, list(codes.shape))
        packed.data.reshape(-1)[:] = two_a_byte(codes).reshape(-1)
        halves = ops.convert(ops.constant(packed), np.float16)
        scaled = ops.multiply(halves, ops.constant(scale.astype(np.float16)))
        joined = ops.reshape(scaled, ops.constant(np.array(weight.shape)), False)
        return ops.convert(joined, np.float32)

    # ---- models ----

    def encoders(self, checkpoint: Checkpoint) -> dict[str, Encode | str]:
        found: dict[str, Encode | str] = {"OpenVINO float32": self._encoder(self._compile(self._bert(checkpoint)))}
        try:
            halves = self._compile(self._bert(checkpoint), INFERENCE_PRECISION_HINT="bf16")
            found["OpenVINO bf16"] = self._encoder(halves)
        except RuntimeError:
            found["OpenVINO bf16"] = "not on this instruction set"
        if importlib.util.find_spec("nncf") is not None:
            found["OpenVINO static int8"] = self._encoder(self._compile(self._quantized(checkpoint)))
        return found

    def _bert(self, checkpoint: Checkpoint) -> object:
        import openvino
        import torch

        from .torch_bert import Bert

        example = torch.zeros((1, 8), dtype=torch.int64)
        model = openvino.convert_model(Bert(checkpoint.config, checkpoint.tensors).eval(), example_input=example)
        model.reshape([-1, -1])
        return model

    def _encoder(self, compiled: object) -> Encode:
        request = compiled.create_infer_request()
        return lambda ids: request.infer({0: ids}, share_inputs=True)[0]

    def _quantized(self, checkpoint: Checkpoint) -> object:
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        data = nncf.Dataset(list(calibration_ids(checkpoint)), lambda ids: {0: ids})
        return _quietly(
            lambda: nncf.quantize(self._bert(checkpoint), data, model_type=nncf.ModelType.TRANSFORMER, subset_size=128)
        )


def _quietly(work: Callable[[], object]) -> object:
    """Without the progress bars that it writes."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return work()
