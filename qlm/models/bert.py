"""BERT (J. Devlin et al., arXiv 1810.04805): a post-norm encoder, with a pooler and a sequence classifier or without.

Names are those of Hugging Face checkpoints; the prefix "bert." and the names gamma and beta of old files come and go.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..arrays import Floats, to_float32
from ..errors import FormatError, UnsupportedError, shown
from .base import Folder, Limits, Model
from .batch import Padded, Ragged
from .config import at_least, choice, flag, labels, number, unsupported_unless
from .linear import Tap
from .program import Eager, Machine, V, untapped
from .weights import Layout, Weights

PREFIX = "bert."
# In old files -> as it is called now.
RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
ENCODERS = ("BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForNextSentencePrediction")
CLASSIFIER = "BertForSequenceClassification"
HIDDEN_ACTS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
WORDS, POSITIONS, TYPES = (f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type"))
POOLER, HEAD = "pooler.dense", "classifier"


class Names(NamedTuple):
    """The names in one layer, linears as they are called together."""

    qkv: tuple[str, str, str]
    seen: str
    attention: tuple[str]
    attention_norm: str
    up: tuple[str]
    down: tuple[str]
    norm: str

    @classmethod
    def of(cls, index: int) -> Names:
        layer = f"encoder.layer.{index}"
        query, key, value = (f"{layer}.attention.self.{name}" for name in ("query", "key", "value"))
        return cls(
            (query, key, value),
            f"{layer}.attention.self",
            (f"{layer}.attention.output.dense",),
            f"{layer}.attention.output.LayerNorm",
            (f"{layer}.intermediate.dense",),
            (f"{layer}.output.dense",),
            f"{layer}.output.LayerNorm",
        )


class Config(NamedTuple):
    """config.json's values, checked."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    wide: int
    positions: int
    types: int
    act: str
    eps: float

    @classmethod
    def of(cls, config: Mapping[str, Any], file: str) -> Config:
        hidden = at_least(config, "hidden_size", 1, file)
        heads = at_least(config, "num_attention_heads", 1, file)
        if hidden % heads:
            reason = f"{heads} heads do not divide the hidden_size {hidden}"
            raise FormatError(reason, file=file, key="num_attention_heads")
        unsupported_unless(config, "position_embedding_type", ("absolute",), file)
        unsupported_unless(config, "quantization_config", (), file)
        for key in ("is_decoder", "add_cross_attention"):
            if flag(config, key, False, file):
                raise UnsupportedError(f"{file}: {key} is not supported")
        return cls(
            at_least(config, "vocab_size", 1, file),
            hidden,
            at_least(config, "num_hidden_layers", 0, file),
            heads,
            at_least(config, "intermediate_size", 1, file),
            at_least(config, "max_position_embeddings", 1, file),
            at_least(config, "type_vocab_size", 1, file, default=2),
            HIDDEN_ACTS[choice(config, "hidden_act", tuple(HIDDEN_ACTS), file, default="gelu")],
            number(config, "layer_norm_eps", file, default=1e-12),
        )


class Bert(Model):
    """A BERT encoder."""

    family = "bert"

    def __init__(self, config: Mapping[str, Any], weights: Weights, folder: Folder, recipe: Any = None) -> None:
        super().__init__(config, weights, folder, recipe)
        self._facts = Config.of(config, "config")
        self._norms = _norms(weights)
        self._layers = [Names.of(index) for index in range(self._facts.layers)]
        self._scale = 1.0 / math.sqrt(self._facts.hidden // self._facts.heads)
        self._labels = labels(config, weights.linears[HEAD].shape[0], "config") if HEAD in weights.linears else []

    @classmethod
    def short_name(cls, original: str) -> str:
        name = original.removeprefix(PREFIX)
        for old, new in RENAMED.items():
            if name.endswith(old):
                return name.removesuffix(old) + new
        return name

    @classmethod
    def layout(cls, config: Mapping[str, Any], has: Container[str], file: str) -> Layout:
        facts = Config.of(config, file)
        tables = {
            WORDS: (facts.vocab, facts.hidden),
            POSITIONS: (facts.positions, facts.hidden),
            TYPES: (facts.types, facts.hidden),
        }
        linears: dict[str, tuple[int, int]] = {}
        norms = ["embeddings.LayerNorm"]
        for index in range(facts.layers):
            names = Names.of(index)
            linears.update(dict.fromkeys((*names.qkv, *names.attention), (facts.hidden, facts.hidden)))
            linears[names.up[0]] = facts.wide, facts.hidden
            linears[names.down[0]] = facts.hidden, facts.wide
            norms += [names.attention_norm, names.norm]
        if _classifies(config, has, file) or f"{POOLER}.weight" in has:
            linears[POOLER] = facts.hidden, facts.hidden
        if _classifies(config, has, file):
            linears[HEAD] = len(labels(config, None, file)), facts.hidden
        if f"encoder.layer.{facts.layers}.output.dense.weight" in has:
            reason = f"{facts.layers} layers, but the weights have more"
            raise FormatError(reason, file=file, key="num_hidden_layers")
        vectors = {f"{norm}.{part}": (facts.hidden,) for norm in norms for part in ("weight", "bias")}
        return Layout(linears, tables, vectors)

    @classmethod
    def limits(cls, config: Mapping[str, Any], file: str) -> Limits:
        facts = Config.of(config, file)
        return Limits(facts.vocab, facts.positions, facts.hidden)

    @property
    def hidden_size(self) -> int:
        return self._facts.hidden

    @property
    def labels(self) -> list[str]:
        return list(self._labels)

    def check_tokens(self, padded: Padded) -> None:
        padded.check("input_ids", self._facts.vocab)
        padded.check("token_type_ids", self._facts.types)
        if padded.longest() > self._facts.positions:
            raise ValueError(
                f"input_ids must have at most {self._facts.positions} tokens a row, got {padded.longest()}"
            )

    # ---- the forward ---------------------------------------------------------------------------------------------

    def embeddings(self, tokens: Ragged, rows: slice, out: Floats) -> None:
        tables, name = self.weights.tables, "embeddings.LayerNorm"
        words = tables[WORDS](tokens.ids[rows])
        words = _core.add(words, tables[TYPES](tokens.type_ids[rows], out), words)
        positions = tables[POSITIONS](tokens.positions[rows], out)
        _core.layernorm(words, positions, *self._norms[name], self._facts.eps, out)

    def encode(self, x: V, on: Machine[V]) -> V:
        eps, heads = self._facts.eps, self._facts.heads
        for layer in self._layers:
            q, k, v = on.linear(layer.qkv, x)
            by_codes = all(self.weights.linears[name].reads_bytes for name in layer.qkv)
            seen = on.attention(layer.seen, (q, k, v), heads, self._scale, by_codes=by_codes)
            (x,) = on.linear(layer.attention, seen, residual=x)
            x = on.layernorm(x, self._norms[layer.attention_norm], eps)
            (wide,) = on.linear(layer.up, x, activation=self._facts.act)
            (x,) = on.linear(layer.down, wide, residual=x)
            x = on.layernorm(x, self._norms[layer.norm], eps)
        return x

    def head(self, hidden: Floats, starts: Any, tap: Tap = untapped) -> Floats | None:
        if not self._labels:
            return None
        (logits,) = Eager(self.weights.linears, starts, tap).linear((HEAD,), self._pooler(hidden, starts, tap))
        return logits

    def _pooler(self, hidden: Floats, starts: Any, tap: Tap) -> Floats:
        first = _core.pool(hidden, starts, "cls", False)
        (pooled,) = Eager(self.weights.linears, starts, tap).linear((POOLER,), first, activation="tanh")
        return pooled

    def observe(self, tokens: Ragged, tap: Tap) -> None:
        hidden = np.empty((len(tokens.ids), self.hidden_size), np.float32)
        self.embeddings(tokens, slice(None), hidden)
        hidden = self.encode(hidden, Eager(self.weights.linears, tokens.starts, tap))
        if self._labels:
            self.head(hidden, tokens.starts, tap)
        elif POOLER in self.weights.linears:
            self._pooler(hidden, tokens.starts, tap)


def _norms(weights: Weights) -> dict[str, tuple[Floats, Floats]]:
    """(gain, bias) of each layer norm."""
    names = [name.removesuffix(".weight") for name in weights.vectors if name.endswith(".weight")]
    return {
        name: (to_float32(weights.vectors[f"{name}.weight"]), to_float32(weights.vectors[f"{name}.bias"]))
        for name in names
    }


def _classifies(config: Mapping[str, Any], has: Container[str], file: str) -> bool:
    """Whether the checkpoint is a sequence classifier.  UnsupportedError: another architecture."""
    architectures = config.get("architectures")
    if architectures is None:
        return f"{HEAD}.weight" in has
    if not isinstance(architectures, list) or not all(isinstance(word, str) for word in architectures):
        raise FormatError(f"must be a list of strings, got {shown(architectures)}", file=file, key="architectures")
    if CLASSIFIER in architectures:
        return True
    if architectures and not any(word in ENCODERS for word in architectures):
        raise UnsupportedError(f"{file}: the architecture {', '.join(architectures)} is not supported")
    return False
