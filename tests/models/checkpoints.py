"""Tiny random Hugging Face folders, shared by the tests of models, of the report and of the command line.

`tiny_bert(path, ...)` writes config.json, the weights (one safetensors file or several shards with their index) and a
WordPiece tokenizer.json.  The weights are random with a spread that lets texts differ; the same seed gives the same
bytes.  Import it as `from models.checkpoints import tiny_bert` (tests/conftest.py puts tests/ on the path).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TEXT = (
    "a the this that film movie story plot actor scene music was is not very really good bad great poor dull bright "
    "slow fast long short love hate like watch again never always fun sad happy funny boring clever ending start and "
    "but or with without of in on at to from for it he she they we you i . , ! ? ' -"
)
WORDS = TEXT.split()
PIECES = ("##s", "##ed", "##ing", "##ly", *("##" + letter for letter in "abcdefghijklmnopqrstuvwxyz"))
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary() -> dict[str, int]:
    tokens = dict.fromkeys((*SPECIAL, *WORDS, *"abcdefghijklmnopqrstuvwxyz0123456789", *PIECES))
    return {token: index for index, token in enumerate(tokens)}


def sentences(count: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 24 words of the vocabulary."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=random.integers(1, 25))) for _ in range(count)]


def write_tokenizer(folder: Path, max_length: int | None = None) -> None:
    """tokenizer.json: lower case, WordPiece, [CLS] text [SEP]; truncation at max_length tokens where it is given."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocab = vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    if max_length is not None:
        tokenizer.enable_truncation(max_length)
    tokenizer.save(str(folder / "tokenizer.json"))


def bert_config(
    *, labels: Sequence[str] | None, hidden: int, heads: int, layers: int, intermediate: int, positions: int
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": ["BertForSequenceClassification" if labels else "BertModel"],
        "model_type": "bert",
        "vocab_size": len(vocabulary()),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "hidden_act": "gelu",
        "max_position_embeddings": positions,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
    }
    if labels:
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    return config


def bert_shapes(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a BertModel, as in a checkpoint without the `bert.` prefix."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    yield "embeddings.word_embeddings.weight", (config["vocab_size"], hidden)
    yield "embeddings.position_embeddings.weight", (config["max_position_embeddings"], hidden)
    yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], hidden)
    yield from norm_shapes("embeddings.LayerNorm", hidden)
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        for name in ("query", "key", "value"):
            yield from linear_shapes(f"{layer}.attention.self.{name}", hidden, hidden)
        yield from linear_shapes(f"{layer}.attention.output.dense", hidden, hidden)
        yield from norm_shapes(f"{layer}.attention.output.LayerNorm", hidden)
        yield from linear_shapes(f"{layer}.intermediate.dense", wide, hidden)
        yield from linear_shapes(f"{layer}.output.dense", hidden, wide)
        yield from norm_shapes(f"{layer}.output.LayerNorm", hidden)
    yield from linear_shapes("pooler.dense", hidden, hidden)


def linear_shapes(name: str, out_features: int, in_features: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out_features, in_features)
    yield f"{name}.bias", (out_features,)


def norm_shapes(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def random_tensor(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    noise = random.standard_normal(shape)
    if "LayerNorm.weight" in name:
        return 1 + 0.1 * noise
    if len(shape) == 1:
        return 0.02 * noise
    return noise * (0.5 if "embeddings" in name else 1.5 / np.sqrt(shape[-1]))


def safetensors_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file, written from its specification; dtypes float16, bfloat16, float32, float64, integers."""
    words = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64", "int8": "I8", "uint8": "U8"}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, array in tensors.items():
        end = offset + array.nbytes
        header[name] = {"dtype": words[array.dtype.name], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in tensors.values())


def as_dtype(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16)
    return array.astype(dtype)


def write_weights(folder: Path, tensors: Mapping[str, np.ndarray], shards: int) -> None:
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors, {"format": "pt"}))
        return
    weight_map = {}
    for shard in range(shards):
        file_name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        names = list(tensors)[shard::shards]
        (folder / file_name).write_bytes(safetensors_bytes({name: tensors[name] for name in names}, {"format": "pt"}))
        weight_map.update(dict.fromkeys(names, file_name))
    total = sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def tiny_bert(
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    prefix: str = "",
    dtype: str = "float32",
    shards: int = 1,
    seed: int = 0,
    hidden: int = 32,
    heads: int = 4,
    layers: int = 2,
    intermediate: int = 64,
    positions: int = 64,
    max_length: int | None = None,
    config: Mapping[str, Any] | None = None,
    tokenizer: bool = True,
) -> Path:
    """Writes a random BERT into the folder `path` (made if absent) and returns it.

    labels: a sequence classifier (pooler and classifier head, id2label) instead of a plain encoder.  prefix: "bert."
    for the encoder's names, as classifiers have.  dtype: of the stored floats, bfloat16 too.  config: further keys of
    config.json, over the others.  max_length: truncation set in tokenizer.json.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    settings = bert_config(
        labels=labels, hidden=hidden, heads=heads, layers=layers, intermediate=intermediate, positions=positions
    )
    random = np.random.default_rng(seed)
    named = [(prefix + name, shape) for name, shape in bert_shapes(settings)]
    if labels:
        named += linear_shapes("classifier", len(labels), hidden)
    tensors = {name: as_dtype(random_tensor(name, shape, random), dtype) for name, shape in named}
    (folder / "config.json").write_text(json.dumps({**settings, **(config or {})}, indent=2))
    write_weights(folder, tensors, shards)
    if tokenizer:
        write_tokenizer(folder, max_length)
    return folder


def write_pooling(folder: Path, *, mode: str = "mean", normalize: bool = True, max_length: int | None = None) -> None:
    """sentence-transformers' files: modules.json, 1_Pooling/config.json and, where max_length is given, its limit."""
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if normalize else [])
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    keys = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "lasttoken": "lasttoken"}
    hidden = json.loads((folder / "config.json").read_text())["hidden_size"]
    modes = {f"pooling_mode_{key}": word == mode for word, key in keys.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": hidden, **modes}))
    if max_length is not None:
        limit = {"max_seq_length": max_length, "do_lower_case": False}
        (folder / "sentence_bert_config.json").write_text(json.dumps(limit))
