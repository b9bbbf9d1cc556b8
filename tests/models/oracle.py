"""BERT in float64 NumPy, written from the paper and the config's words: what the models' outputs are compared with.

Padded, batch by batch, masked by -inf: nothing here is shared with qlm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

erf = np.vectorize(math.erf, otypes=[np.float64])

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_pytorch_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


class Oracle:
    """A BERT of today's tensor names without a prefix, float64."""

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        self.config = config
        self.tensors = {name: np.asarray(value).astype(np.float64) for name, value in tensors.items()}

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return centred / scale * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def embeddings(self, ids: Any, types: Any) -> Array:
        words, positions, kinds = (
            self.tensors[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
        )
        return self.norm("embeddings.LayerNorm", words[ids] + positions[: ids.shape[1]] + kinds[types])

    def attention(self, layer: str, x: Array, mask: Any) -> Array:
        heads = self.config["num_attention_heads"]
        batch, length, hidden = x.shape
        q, k, v = (
            self.linear(f"{layer}.attention.self.{name}", x).reshape(batch, length, heads, -1).swapaxes(1, 2)
            for name in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(2, 3) / math.sqrt(hidden // heads)
        scores = np.where(mask[:, None, None, :], scores, -np.inf)
        with np.errstate(invalid="ignore"):
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
        return (weights @ v).swapaxes(1, 2).reshape(batch, length, hidden)

    def hidden(self, ids: Any, mask: Any = None, types: Any = None) -> Array:
        """The last hidden state [batch, length, hidden], 0 where masked."""
        mask = np.ones_like(ids, bool) if mask is None else np.asarray(mask, bool)
        x = self.embeddings(ids, np.zeros_like(ids) if types is None else types)
        for index in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{index}"
            seen = self.linear(f"{layer}.attention.output.dense", self.attention(layer, x, mask))
            x = self.norm(f"{layer}.attention.output.LayerNorm", x + seen)
            wide = FUNCTIONS[self.config["hidden_act"]](self.linear(f"{layer}.intermediate.dense", x))
            x = self.norm(f"{layer}.output.LayerNorm", x + self.linear(f"{layer}.output.dense", wide))
        return np.where(mask[..., None], x, 0)

    def logits(self, ids: Any, mask: Any = None, types: Any = None) -> Array:
        """Of a classifier; the pooler reads each row's first real token."""
        hidden = self.hidden(ids, mask, types)
        first = np.zeros(len(ids), int) if mask is None else np.argmax(np.asarray(mask, bool), axis=1)
        pooled = np.tanh(self.linear("pooler.dense", hidden[np.arange(len(ids)), first]))
        return self.linear("classifier", pooled)


def oracle_of(folder: Any) -> Oracle:
    """The oracle of a checkpoint's folder, whose file the safetensors library reads."""
    import json

    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), "np") as stream:
            for name in stream.keys():  # noqa: SIM118 - not a mapping
                tensors[name] = stream.get_tensor(name)
    return Oracle(config, tensors)
