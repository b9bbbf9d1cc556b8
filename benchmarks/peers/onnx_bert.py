"""A BERT encoder as an ONNX graph, built from a checkpoint's tensors: what ONNX Runtime's row runs.

Attention is written with ONNX Runtime's own fused operator, as its transformer optimizer leaves it, so that the peer is
at its best.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Collects nodes and initialisers."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output


def _linear(graph: Graph, tensors: dict[str, np.ndarray], x: str, name: str, out: str) -> str:
    weight = graph.constant(f"{name}.weight_t", tensors[f"{name}.weight"].T)
    product = graph.node("MatMul", [x, weight], f"{out}.product")
    return graph.node("Add", [product, graph.constant(f"{name}.bias", tensors[f"{name}.bias"])], out)


def _norm(graph: Graph, tensors: dict[str, np.ndarray], x: str, name: str, eps: float, out: str) -> str:
    gain = graph.constant(f"{name}.weight", tensors[f"{name}.weight"])
    bias = graph.constant(f"{name}.bias", tensors[f"{name}.bias"])
    return graph.node("LayerNormalization", [x, gain, bias], out, axis=-1, epsilon=eps)


def _attention(graph: Graph, tensors: dict[str, np.ndarray], x: str, prefix: str, heads: int) -> str:
    parts = ("query", "key", "value")
    names = [f"{prefix}.attention.self.{part}" for part in parts]
    weight = graph.constant(f"{prefix}.qkv", np.concatenate([tensors[f"{name}.weight"].T for name in names], axis=1))
    bias = graph.constant(f"{prefix}.qkv_bias", np.concatenate([tensors[f"{name}.bias"] for name in names]))
    return graph.node("Attention", [x, weight, bias], f"{prefix}.mixed", domain="com.microsoft", num_heads=heads)


def _layer(graph: Graph, tensors: dict[str, np.ndarray], x: str, prefix: str, heads: int, eps: float) -> str:
    mixed = _attention(graph, tensors, x, prefix, heads)
    out = _linear(graph, tensors, mixed, f"{prefix}.attention.output.dense", f"{prefix}.attention_out")
    total = graph.node("Add", [out, x], f"{prefix}.attention_sum")
    x = _norm(graph, tensors, total, f"{prefix}.attention.output.LayerNorm", eps, f"{prefix}.attention_norm")
    inner = _linear(graph, tensors, x, f"{prefix}.intermediate.dense", f"{prefix}.inner")
    active = graph.node("Gelu", [inner], f"{prefix}.active", domain="com.microsoft")
    out = _linear(graph, tensors, active, f"{prefix}.output.dense", f"{prefix}.out")
    total = graph.node("Add", [out, x], f"{prefix}.sum")
    return _norm(graph, tensors, total, f"{prefix}.output.LayerNorm", eps, f"{prefix}.norm")


def build(config: dict[str, int], tensors: dict[str, np.ndarray]) -> onnx.ModelProto:
    """input_ids int64 [batch, length] -> last_hidden_state float32 [batch, length, hidden]; no mask: no padding."""
    graph, eps, hidden = Graph(), float(config["layer_norm_eps"]), config["hidden_size"]
    words = graph.constant("words", tensors["embeddings.word_embeddings.weight"])
    positions = graph.constant("positions", tensors["embeddings.position_embeddings.weight"])
    kind = graph.constant("kind", tensors["embeddings.token_type_embeddings.weight"][0])
    zero, one, step = (graph.constant(f"n{n}", np.array([n], np.int64)) for n in (0, 1, 2))
    length = graph.node("Slice", [graph.node("Shape", ["input_ids"], "shape"), one, step], "length")
    embedded = graph.node("Gather", [words, "input_ids"], "embedded")
    placed = graph.node("Add", [embedded, graph.node("Slice", [positions, zero, length], "places")], "placed")
    x = _norm(graph, tensors, graph.node("Add", [placed, kind], "sum"), "embeddings.LayerNorm", eps, "x")
    for index in range(config["num_hidden_layers"]):
        x = _layer(graph, tensors, x, f"encoder.layer.{index}", config["num_attention_heads"], eps)
    graph.node("Identity", [x], "last_hidden_state")
    proto = helper.make_graph(
        graph.nodes, "bert",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", hidden])],
        list(graph.constants.values()),
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=9)
