"""A plain PyTorch BERT encoder over a checkpoint's tensors: the float peer, and what torch's own quantization takes."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, hidden: int, inner: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.attention_out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps)
        self.intermediate = nn.Linear(hidden, inner)
        self.output = nn.Linear(inner, hidden)
        self.output_norm = nn.LayerNorm(hidden, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, hidden = x.shape
        q, k, v = (
            linear(x).view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, hidden)
        x = self.attention_norm(self.attention_out(mixed) + x)
        return self.output_norm(self.output(nn.functional.gelu(self.intermediate(x))) + x)


PARTS = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "attention_out": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense", "output": "output.dense", "output_norm": "output.LayerNorm",
}  # fmt: skip


class Bert(nn.Module):
    def __init__(self, config: dict[str, int], tensors: dict[str, np.ndarray]) -> None:
        super().__init__()
        hidden, eps = config["hidden_size"], float(config["layer_norm_eps"])
        self.words = nn.Embedding(config["vocab_size"], hidden)
        self.positions = nn.Embedding(config["max_position_embeddings"], hidden)
        self.types = nn.Embedding(config["type_vocab_size"], hidden)
        self.norm = nn.LayerNorm(hidden, eps)
        self.layers = nn.ModuleList(
            Layer(hidden, config["intermediate_size"], config["num_attention_heads"], eps)
            for _ in range(config["num_hidden_layers"])
        )
        self.load_state_dict({mine: torch.from_numpy(tensors[theirs]) for mine, theirs in self.names()})

    def names(self) -> list[tuple[str, str]]:
        pairs = [
            (f"{mine}.weight", f"embeddings.{theirs}_embeddings.weight")
            for mine, theirs in (("words", "word"), ("positions", "position"), ("types", "token_type"))
        ]
        pairs += [(f"norm.{kind}", f"embeddings.LayerNorm.{kind}") for kind in ("weight", "bias")]
        for index in range(len(self.layers)):
            pairs += [
                (f"layers.{index}.{mine}.{kind}", f"encoder.layer.{index}.{theirs}.{kind}")
                for mine, theirs in PARTS.items()
                for kind in ("weight", "bias")
            ]
        return pairs

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x)
        return x
