"""CTranslate2: a BERT encoder with int8 or float32 linears, its model folder written from the checkpoint's tensors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import Encode, Peer
from .checkpoint import Checkpoint


class CTranslate2(Peer):
    name = "CTranslate2"
    modules = ("ctranslate2",)
    avx2: ClassVar[Mapping[str, str]] = {"CT2_FORCE_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    model_rows = ("CTranslate2 int8",)

    def encoders(self, checkpoint: Checkpoint) -> dict[str, Encode]:
        import ctranslate2

        with tempfile.TemporaryDirectory() as folder:
            spec = bert_spec(checkpoint)
            spec.validate()
            spec.optimize(quantization="int8")
            spec.save(folder)
            encoder = ctranslate2.Encoder(
                folder, device="cpu", compute_type="int8", inter_threads=1, intra_threads=self.threads
            )

        def encode(ids: np.ndarray) -> np.ndarray:
            out = encoder.forward_batch(ctranslate2.StorageView.from_array(ids.astype(np.int32)), lengths(ids))
            return np.array(out.last_hidden_state)

        def lengths(ids: np.ndarray) -> object:
            return ctranslate2.StorageView.from_array(np.full(len(ids), ids.shape[1], np.int32))

        return {"CTranslate2 int8": encode}


def bert_spec(checkpoint: Checkpoint) -> object:
    """The library's own description of a BERT, filled in by name."""
    from ctranslate2.specs import common_spec, transformer_spec

    config = checkpoint.config
    tensors = {name: value.copy() for name, value in checkpoint.tensors.items()}  # it changes them in place
    encoder = transformer_spec.TransformerEncoderSpec(
        config["num_hidden_layers"], config["num_attention_heads"], pre_norm=False,
        activation=common_spec.Activation.GELU, layernorm_embedding=True, num_source_embeddings=2,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )  # fmt: skip
    encoder.scale_embeddings = False
    for spec, name in zip(encoder.embeddings, ("word", "token_type"), strict=True):
        spec.weight = tensors[f"embeddings.{name}_embeddings.weight"]
    encoder.position_encodings.encodings = tensors["embeddings.position_embeddings.weight"]
    _norm(encoder.layernorm_embedding, tensors, "embeddings.LayerNorm")
    for index, layer in enumerate(encoder.layer):
        _layer(layer, tensors, f"encoder.layer.{index}")
    spec = transformer_spec.TransformerEncoderModelSpec(encoder)
    words = Path(checkpoint.folder, "vocab.txt")
    tokens = words.read_text(encoding="utf-8").splitlines() if words.exists() else _tokens(checkpoint)
    spec.register_vocabulary(tokens)
    spec.config.layer_norm_epsilon = float(config["layer_norm_eps"])
    spec.config.unk_token = "[UNK]"
    return spec


def _tokens(checkpoint: Checkpoint) -> list[str]:
    vocabulary = json.loads(Path(checkpoint.folder, "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _layer(layer: object, tensors: dict[str, np.ndarray], prefix: str) -> None:
    parts = [f"{prefix}.attention.self.{name}" for name in ("query", "key", "value")]
    attention = layer.self_attention
    attention.linear[0].weight = np.concatenate([tensors[f"{part}.weight"] for part in parts])
    attention.linear[0].bias = np.concatenate([tensors[f"{part}.bias"] for part in parts])
    _linear(attention.linear[1], tensors, f"{prefix}.attention.output.dense")
    _norm(attention.layer_norm, tensors, f"{prefix}.attention.output.LayerNorm")
    _linear(layer.ffn.linear_0, tensors, f"{prefix}.intermediate.dense")
    _linear(layer.ffn.linear_1, tensors, f"{prefix}.output.dense")
    _norm(layer.ffn.layer_norm, tensors, f"{prefix}.output.LayerNorm")


def _linear(spec: object, tensors: dict[str, np.ndarray], name: str) -> None:
    spec.weight, spec.bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _norm(spec: object, tensors: dict[str, np.ndarray], name: str) -> None:
    spec.gamma, spec.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
