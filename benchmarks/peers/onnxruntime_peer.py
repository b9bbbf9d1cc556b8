"""ONNX Runtime: dynamic int8 (MatMulInteger, fused), MatMulNBits with int8 rows, float32, QuantizeLinear."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import Encode, Peer, Work, groups, per_group, two_a_byte
from .checkpoint import Checkpoint


class OnnxRuntime(Peer):
    name = "ONNX Runtime"
    modules = ("onnxruntime", "onnx")
    sections: ClassVar[Mapping[str, str]] = {
        "linear int8": "ONNX Runtime dynamic",
        "linear int4 g32": "ONNX Runtime",
        "linear int4 g128": "ONNX Runtime",
        "linear float32": "ONNX Runtime",
        "quantize": "ONNX Runtime",
        "quantize channels": "ONNX Runtime",
        "dequantize": "ONNX Runtime",
        "dequantize channels": "ONNX Runtime",
        "quantize rows": "ONNX Runtime, one row",
    }
    model_rows = ("ONNX Runtime float32", "ONNX Runtime dynamic int8")

    # ---- sessions ----

    def _session(self, model: object) -> object:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = self.threads, 1, 3
        # A pool that spins after its call would take the next contender's cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if self.threads == 1 else "0")
        data = model if isinstance(model, str) else model.SerializeToString()
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def _bound(self, session: object, x: np.ndarray, out: np.ndarray) -> Work:
        import onnxruntime

        binding = session.io_binding()
        source, target = (onnxruntime.OrtValue.ortvalue_from_numpy(array, "cpu") for array in (x, out))
        binding.bind_ortvalue_input("x", source)
        binding.bind_ortvalue_output("y", target)
        options = onnxruntime.RunOptions()

        def call(_held: object = (source, target)) -> None:
            session.run_with_iobinding(binding, options)

        def result() -> np.ndarray:
            call()
            return target.numpy()

        return Work(call, result)

    def _model(self, nodes: list[object], constants: dict[str, np.ndarray], x: np.dtype, y: np.dtype) -> object:
        from onnx import helper, numpy_helper

        def value(name: str, dtype: np.dtype) -> object:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [None, None])

        weights = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()]
        graph = helper.make_graph(nodes, "g", [value("x", x)], [value("y", y)], weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    # ---- linears ----

    def linear(self, kind: str, weight: np.ndarray, x: np.ndarray) -> Work:
        session = self.keep(kind, weight, lambda: self._session(self._product(kind, weight)))
        return self._bound(session, x, np.empty((len(x), len(weight)), np.float32))

    def _product(self, kind: str, weight: np.ndarray) -> object:
        from onnx import helper

        if groups(kind):
            return self._nbits(weight, groups(kind))
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        plain = self._model([node], {"w": weight.T}, np.float32, np.float32)
        return plain if kind == "float32" else self._dynamic(plain)

    def _dynamic(self, plain: object) -> object:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
            onnx.save(plain, str(source))
            # Fused operators have no shape inference, so the quantizer has to be told what they give.
            told = {"DefaultTensorType": onnx.TensorProto.FLOAT}
            logging.disable(logging.WARNING)  # that it would like a graph with shapes
            quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, extra_options=told)
            logging.disable(logging.NOTSET)
            return onnx.load(str(target))

    def _nbits(self, weight: np.ndarray, group: int) -> object:
        from onnx import helper

        codes, scale = per_group(weight, group)
        n, k = weight.shape
        # accuracy_level 4: rows quantized to int8, a scale for each block.
        attributes = {"K": k, "N": n, "bits": 4, "block_size": group, "accuracy_level": 4}
        node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **attributes)
        constants = {"w": two_a_byte(codes + 8), "s": scale[:, :, 0]}
        return self._model([node], constants, np.float32, np.float32)

    # ---- arrays ----

    def array(self, section: str, x: np.ndarray) -> Work:
        from onnx import helper

        channels, step = section.endswith("channels"), np.float32(0.03)
        constants = {"s": np.full(len(x), step) if channels else np.array(step), "z": np.zeros(len(x), np.int8)}
        constants["z"] = constants["z"] if channels else np.array(0, np.int8)
        axis = {"axis": 0} if channels else {}
        if section == "quantize rows":
            node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
            work = self._bound_dynamic(node, x)
        elif section.startswith("quantize"):
            node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **axis)
            session = self._session(self._model([node], constants, np.float32, np.int8))
            work = self._bound(session, x, np.empty(x.shape, np.int8))
        else:
            codes = np.clip(np.rint(x / step), -128, 127).astype(np.int8)
            node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], **axis)
            session = self._session(self._model([node], constants, np.int8, np.float32))
            return self._bound(session, codes, np.empty(x.shape, np.float32))
        scale = float(step) if section != "quantize rows" else 1.0
        return Work(work.call, lambda: work.result() * np.float32(scale))

    def _bound_dynamic(self, node: object, x: np.ndarray) -> Work:
        """One scale for the whole array: ONNX has no operator that quantizes row by row."""
        session = self._session(self._model([node], {}, np.float32, np.uint8))
        work = self._bound(session, x, np.empty(x.shape, np.uint8))
        zero = round(255 * float(-x.min()) / float(x.max() - x.min()))
        return Work(work.call, lambda: work.result().astype(np.float32) - zero)

    # ---- models ----

    def encoders(self, checkpoint: Checkpoint) -> dict[str, Encode]:
        from .onnx_bert import build

        plain = build(checkpoint.config, checkpoint.tensors)

        def encoder(model: object) -> Encode:
            session = self._session(model)
            return lambda ids: session.run(None, {"input_ids": ids})[0]

        return dict(zip(self.model_rows, map(encoder, (plain, self._dynamic(plain))), strict=True))
