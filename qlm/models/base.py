"""Model: what every family shares.  A family adds its forward and the names of its tensors."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from .. import _core
from ..arrays import Floats, integer
from ..errors import UnsupportedError, shown
from .batch import Padded, Ragged, from_lists
from .linear import LinearInfo, Tap
from .pooling import Pooling
from .program import Machine, Program, Recorder, V
from .store import Saved, save_model
from .weights import Layout, Weights

if TYPE_CHECKING:
    from ..formats.tokenizer import Tokenizer
    from ..recipe import Recipe

# Tokens that are embedded at a time, so that what is added up on the way stays in the caches.
EMBEDDED_TOKENS = 256
LATER_FORMATS = ("compressed-tensors", "gguf", "onnx")


class Output(NamedTuple):
    """last_hidden_state: float32 [batch, length, hidden], zeros where a token was masked.  logits: float32
    [batch, labels], None without a classifier."""

    last_hidden_state: Floats
    logits: Floats | None


class Limits(NamedTuple):
    """Ids are below vocab_size, a sequence has at most `positions` tokens, each a vector of `hidden` features."""

    vocab_size: int
    positions: int
    hidden: int


class Folder(NamedTuple):
    """What a model keeps of its folder beside the weights: texts to numbers and back, and files to save again."""

    tokenizer: Tokenizer | None = None
    pooling: Pooling = Pooling()
    assets: Mapping[str, bytes] = MappingProxyType({})


class Model:
    """A model that runs on this CPU; made by `qlm.load` and `qlm.quantize_model`, and never changed.

    config: config.json's content.  tokenizer: None where the folder has none.  layers: the linears by Hugging Face's
    names without the family's prefix.  recipe: what it was quantized by, None for a float model.
    """

    family: ClassVar[str]

    def __init__(
        self, config: Mapping[str, Any], weights: Weights, folder: Folder, recipe: Recipe | None = None
    ) -> None:
        self._config = dict(config)
        self.weights = weights
        self.folder = folder
        self.recipe = recipe

    # ---- what a family defines -----------------------------------------------------------------------------------

    @classmethod
    def short_name(cls, original: str) -> str:
        """A tensor's name in today's files without the family's prefix, from its name in a checkpoint."""
        raise NotImplementedError

    @classmethod
    def layout(cls, config: Mapping[str, Any], has: Container[str], file: str) -> Layout:
        """The tensors that a checkpoint of this config has.  FormatError, UnsupportedError: names file and key."""
        raise NotImplementedError

    @classmethod
    def limits(cls, config: Mapping[str, Any], file: str) -> Limits:
        """What a tokenizer and a pooling must agree with."""
        raise NotImplementedError

    def embeddings(self, tokens: Ragged, rows: slice, out: Floats) -> None:
        """What the layers begin with, of these tokens, to `out` [t, hidden]."""
        raise NotImplementedError

    def encode(self, x: V, on: Machine[V]) -> V:
        """The layers, from what `embeddings` gave to the last hidden state, which must be where x was."""
        raise NotImplementedError

    def head(self, hidden: Floats, starts: Any) -> Floats | None:
        """The logits [sequences, labels] of what `encode` gave; None without a classifier."""
        raise NotImplementedError

    def observe(self, tokens: Ragged, tap: Tap) -> None:
        """Runs every linear on the tokens; `tap` sees their inputs."""
        raise NotImplementedError

    @property
    def labels(self) -> list[str]:
        """The classifier's labels, empty without one."""
        raise NotImplementedError

    @property
    def hidden_size(self) -> int:
        """Features of a token's vector."""
        raise NotImplementedError

    # ---- what it is ----------------------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """A copy of config.json's content."""
        return copy.deepcopy(self._config)

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Texts to token ids; None where the folder has no tokenizer."""
        return self.folder.tokenizer

    @property
    def layers(self) -> Mapping[str, LinearInfo]:
        """The linears by name, in the order of the forward."""
        linears = self.weights.linears
        return {
            name: LinearInfo(linear.shape, linear.bits, linear.nbytes, linear.weight)
            for name, linear in linears.items()
        }

    @property
    def num_parameters(self) -> int:
        """Elements of all weights, biases, embedding tables and norms; scales are none."""
        return self.weights.num_parameters

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as they are stored: codes and their parameters, floats in the checkpoint's own dtype."""
        return self.weights.nbytes

    def __repr__(self) -> str:
        kind = "float" if self.recipe is None else "quantized"
        return (
            f"{type(self).__name__}({kind}, {len(self.weights.linears)} linears, {self.num_parameters} parameters, "
            f"{self.nbytes} bytes)"
        )

    # ---- running -------------------------------------------------------------------------------------------------

    def forward(self, input_ids: object, attention_mask: object = None, token_type_ids: object = None) -> Output:
        """Runs tokens, integers [batch, length] each; attention_mask: 1 for real tokens and 0 for padding.

        Masked tokens are dropped before any computation, wherever they stand, and their outputs are 0.  A row's
        result depends on no other row, nor on padding, to the bit.
        TypeError, ValueError: an argument by name, with the index of a value out of range.
        """
        padded = Padded.of(input_ids, attention_mask, token_type_ids)
        self.check_tokens(padded)
        tokens = padded.ragged()
        hidden = self._hidden(tokens)
        logits = self.head(hidden, tokens.starts)
        return Output(padded.unpack(hidden), logits)

    def _hidden(self, tokens: Ragged) -> Floats:
        """The last hidden state of the tokens, [t, hidden]."""
        hidden = np.empty((len(tokens.ids), self.hidden_size), np.float32)
        for begin in range(0, len(hidden), EMBEDDED_TOKENS):
            rows = slice(begin, begin + EMBEDDED_TOKENS)
            self.embeddings(tokens, rows, hidden[rows])
        self._program.run(hidden, tokens.starts)
        return hidden

    @functools.cached_property
    def _program(self) -> Program:
        """The layers, recorded when they first run."""
        recorder = Recorder(self.weights.linears, self.hidden_size)
        self.encode(recorder.rows, recorder)
        return recorder.program()

    def check_tokens(self, padded: Padded) -> None:
        """ValueError: tokens that this model has no embedding for, or more than it has positions for."""
        raise NotImplementedError

    def embed(self, texts: str | Iterable[str], batch_size: int = 32, normalize: bool | None = None) -> Floats:
        """Sentence embeddings [n, hidden] by the folder's pooling (mean where it has none); one string gives [hidden].

        normalize: None does as the folder says.  A text's embedding does not depend on batch_size or other texts.
        """
        if normalize is not None and not isinstance(normalize, (bool, np.bool_)):
            raise TypeError(f"normalize must be True, False or None, got {shown(normalize)}")
        pooling = self.folder.pooling
        unit = pooling.normalize if normalize is None else bool(normalize)

        def pooled(tokens: Ragged) -> Floats:
            return _core.pool(self._hidden(tokens), tokens.starts, pooling.mode, unit)  # type: ignore[arg-type]

        return self._each_text(texts, batch_size, self.hidden_size, pooled)

    def classify(self, texts: str | Iterable[str], batch_size: int = 32) -> Floats:
        """Logits [n, labels]; one string gives [labels].  ValueError: the model has no classifier."""
        if not self.labels:
            raise ValueError(f"this {self.family} model has no classifier")

        def logits(tokens: Ragged) -> Floats:
            found = self.head(self._hidden(tokens), tokens.starts)
            assert found is not None
            return found

        return self._each_text(texts, batch_size, len(self.labels), logits)

    def _each_text(self, texts: str | Iterable[str], batch_size: int, width: int, run: Any) -> Floats:
        """run(tokens) of batches of texts, the longest first, as rows in the texts' order."""
        size = integer("batch_size", batch_size)
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        sequences = self.tokenize([texts] if isinstance(texts, str) else texts)
        out = np.empty((len(sequences), width), np.float32)
        order = sorted(range(len(sequences)), key=lambda index: -len(sequences[index][0]))
        for begin in range(0, len(order), size):
            chosen = order[begin : begin + size]
            out[chosen] = run(from_lists([sequences[index] for index in chosen]))
        return out[0] if isinstance(texts, str) else out

    def tokenize(self, texts: Iterable[str]) -> Sequence[tuple[Sequence[int], Sequence[int]]]:
        """(ids, segment numbers) of each text, cut to the model's length."""
        if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, Iterable):  # type: ignore[unreachable]
            raise TypeError(f"texts must be a string or strings, got {shown(texts)}")
        if self.tokenizer is None:
            raise ValueError("texts need a tokenizer, and the model's folder has no tokenizer.json and no vocab.txt")
        return self.tokenizer.encode(list(texts))

    # ---- saving --------------------------------------------------------------------------------------------------

    def save(
        self, path: str | os.PathLike[str], format: str = "qlm", *, type: None = None, overwrite: bool = True
    ) -> None:
        """Writes a folder that `qlm.load` takes: config.json, model.safetensors, the tokenizer's files as they were.

        An existing folder is replaced in one step, or left whole.  ValueError: the folder holds a file that no save
        writes.  FileExistsError: it exists, and overwrite is False.  UnsupportedError: another format.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path must be a string or a path, got {shown(path)}")
        if not isinstance(format, str):
            raise TypeError(f"format must be a string, got {shown(format)}")
        if not isinstance(overwrite, (bool, np.bool_)):
            raise TypeError(f"overwrite must be True or False, got {shown(overwrite)}")
        if format in LATER_FORMATS:
            raise UnsupportedError(f"format: {format} is not supported yet, there is qlm")
        if format != "qlm":
            raise ValueError(f"format must be 'qlm', got {shown(format)}")
        if type is not None:
            raise ValueError(f"type is for format 'gguf', got {shown(type)}")
        recipe = None if self.recipe is None else self.recipe.to_dict()
        save_model(path, Saved(self.config, self.weights, self.folder.assets, recipe), overwrite=overwrite)
