"""The forward of BERT against a float64 restatement, in every form that a checkpoint comes in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.checkpoints import safetensors_bytes, sentences, tiny_bert
from models.oracle import Oracle, oracle_of

import qlm
from qlm.formats.tensors import tensors as read_tensors

# float32 against float64 over a few layers of unit-sized numbers.
TOLERANCE = 2e-5


def plain(name: str) -> str:
    return (
        name.removeprefix("bert.")
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias")
    )


def read_oracle(folder: Path) -> Oracle:
    config = json.loads((folder / "config.json").read_text())
    values: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with read_tensors(file) as stored:
            values.update({plain(name): np.asarray(stored[name]).astype(np.float32) for name in stored})
    return Oracle(config, values)


def random_ids(model: qlm.Model, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, model.config["vocab_size"], shape)


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("act", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"])
def test_activations(tmp_path: Path, rng: np.random.Generator, act: str) -> None:
    folder = tiny_bert(tmp_path / "m", config={"hidden_act": act, "layer_norm_eps": 1e-6})
    model = qlm.load(folder)
    ids = random_ids(model, (3, 11), rng)
    close(model.forward(ids).last_hidden_state, read_oracle(folder).hidden(ids))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("prefix", "shards"), [("", 1), ("bert.", 3)])
def test_dtypes_shards_and_prefix(
    tmp_path: Path, rng: np.random.Generator, dtype: str, prefix: str, shards: int
) -> None:
    folder = tiny_bert(tmp_path / "m", dtype=dtype, prefix=prefix, shards=shards)
    model = qlm.load(folder)
    ids = random_ids(model, (2, 9), rng)
    close(model.forward(ids).last_hidden_state, read_oracle(folder).hidden(ids))
    assert model.forward(ids).logits is None
    assert model.labels == []
    assert next(iter(model.layers)) == "encoder.layer.0.attention.self.query"
    assert model.layers["pooler.dense"].shape == (32, 32)
    bits = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}[dtype]
    assert {layer.bits for layer in model.layers.values()} == {bits}
    assert model.nbytes == model.num_parameters * bits // 8


def test_the_safetensors_library_reads_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tiny_bert(tmp_path / "m")
    model = qlm.load(folder)
    ids = random_ids(model, (1, 5), rng)
    close(model.forward(ids).last_hidden_state, oracle_of(folder).hidden(ids))


def test_names_of_old_files(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tiny_bert(tmp_path / "m", prefix="bert.")
    with read_tensors(folder / "model.safetensors") as stored:
        old = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): stored[
                name
            ]
            for name in stored
        }
    old["bert.embeddings.position_ids"] = np.arange(64)[None]
    old["cls.predictions.bias"] = np.zeros(3, np.float32)
    old = {name: np.asarray(value, np.float32) if "position_ids" in name else value for name, value in old.items()}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(old))
    model = qlm.load(folder)
    ids = random_ids(model, (2, 7), rng)
    close(model.forward(ids).last_hidden_state, read_oracle(folder).hidden(ids))
    quantized = qlm.quantize_model(model, "dynamic-int8")
    quantized.save(tmp_path / "q")
    with read_tensors(tmp_path / "q" / "model.safetensors") as stored:
        assert "bert.embeddings.LayerNorm.gamma" in stored
        assert "bert.encoder.layer.0.attention.self.query.weight_scale" in stored.file
    loaded = qlm.load(tmp_path / "q")
    assert loaded.forward(ids).last_hidden_state.tobytes() == quantized.forward(ids).last_hidden_state.tobytes()


@pytest.mark.parametrize("labels", [["score"], ["no", "yes"], ["a", "b", "c", "d", "e"]])
def test_classifiers(tmp_path: Path, rng: np.random.Generator, labels: list[str]) -> None:
    """Regression is a classifier of one label, multi-label one of many: logits are all that is asked for."""
    folder = tiny_bert(tmp_path / "m", labels=labels, prefix="bert.")
    model = qlm.load(folder)
    ids, mask = random_ids(model, (4, 8), rng), np.ones((4, 8), int)
    mask[1, 5:] = 0
    mask[2, :3] = 0
    out = model.forward(ids, mask)
    assert model.labels == labels
    assert out.logits is not None
    close(out.logits, read_oracle(folder).logits(ids, mask))
    assert model.classify(sentences(5)).shape == (5, len(labels))
    assert model.classify(sentences(1)[0]).shape == (len(labels),)


def test_a_classifier_without_names_of_labels(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m", labels=["x", "y"], config={"id2label": None, "num_labels": 2})
    assert qlm.load(folder).labels == ["LABEL_0", "LABEL_1"]


def test_segments(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tiny_bert(tmp_path / "m")
    model = qlm.load(folder)
    ids, types = random_ids(model, (3, 10), rng), rng.integers(0, 2, (3, 10))
    close(model.forward(ids, None, types).last_hidden_state, read_oracle(folder).hidden(ids, None, types))


def test_masks_anywhere(tmp_path: Path, rng: np.random.Generator) -> None:
    """Masked tokens are as if they were not there; positions stay the index."""
    folder = tiny_bert(tmp_path / "m")
    model = qlm.load(folder)
    ids, mask = random_ids(model, (6, 13), rng), rng.random((6, 13)) < 0.6
    mask[0] = False
    mask[1] = True
    out = model.forward(ids, mask).last_hidden_state
    expected = read_oracle(folder).hidden(ids, mask)
    close(out[1:], expected[1:])
    assert not out[~mask].any()
    noise = np.where(mask, ids, rng.integers(-5, 10**6, ids.shape))
    assert model.forward(noise, mask).last_hidden_state.tobytes() == out.tobytes()


@pytest.mark.parametrize("recipe", [None, "dynamic-int8", "static-int8", "dynamic-interval-int8", "weight-only-int4"])
def test_batch_and_padding_change_no_bit(tmp_path: Path, rng: np.random.Generator, recipe: str | None) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m", labels=["no", "yes"]))
    if recipe is not None:
        model = qlm.quantize_model(model, recipe, calibration=sentences(20))
    lengths = rng.integers(1, 30, 9)
    rows = [random_ids(model, (1, n), rng) for n in lengths]
    alone = [model.forward(row) for row in rows]
    width = int(lengths.max()) + 3
    ids, mask = np.full((9, width), 7), np.zeros((9, width), int)
    for index, row in enumerate(rows):
        ids[index, : row.shape[1]] = row
        mask[index, : row.shape[1]] = 1
    order = rng.permutation(9)
    together = model.forward(ids[order], mask[order])
    assert together.logits is not None
    for place, index in enumerate(order):
        expected = alone[index]
        assert together.last_hidden_state[place, : lengths[index]].tobytes() == expected.last_hidden_state[0].tobytes()
        assert expected.logits is not None
        assert together.logits[place].tobytes() == expected.logits[0].tobytes()


def test_empty_batches(tmp_path: Path) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m", labels=["no", "yes"]))
    out = model.forward(np.zeros((0, 4), int))
    assert out.last_hidden_state.shape == (0, 4, 32)
    assert out.logits is not None
    assert out.logits.shape == (0, 2)
    out = model.forward(np.zeros((2, 0), int))
    assert out.last_hidden_state.shape == (2, 0, 32)
    assert model.embed([]).shape == (0, 32)
    assert model.classify([]).shape == (0, 2)


def test_a_model_without_layers_and_a_long_batch(tmp_path: Path, rng: np.random.Generator) -> None:
    """More tokens than run at a time."""
    folder = tiny_bert(tmp_path / "m", layers=0)
    model = qlm.load(folder)
    ids = random_ids(model, (150, 64), rng)
    close(model.forward(ids).last_hidden_state, read_oracle(folder).hidden(ids))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([1, 2],), ValueError, "input_ids must be [batch, length]"),
        (([[1], [1, 2]],), ValueError, "input_ids"),
        (([[1.5]],), TypeError, "input_ids must hold integers"),
        (([["a"]],), TypeError, "input_ids"),
        (([[1, -1]],), ValueError, "input_ids must be within 0..133, got -1 at index (0, 1)"),
        (([[1, 134]],), ValueError, "got 134 at index (0, 1)"),
        (([[2**63]],), ValueError, "input_ids"),
        (([[1, 2]], [[1]]), ValueError, "attention_mask must have the shape"),
        (([[1, 2]], [[1, 2]]), ValueError, "attention_mask must hold 0 and 1, got 2 at index (0, 1)"),
        (([[1, 2]], [["a", "b"]]), TypeError, "attention_mask"),
        (([[1, 2]], None, [[0, 2]]), ValueError, "token_type_ids must be within 0..1"),
        (([[1] * 65],), ValueError, "at most 64 tokens"),
    ],
)
def test_bad_tokens(tmp_path: Path, arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m"))
    assert model.config["vocab_size"] == 134
    with pytest.raises(error) as caught:
        model.forward(*arguments)
    assert words in str(caught.value)


def test_nan_weights_run_as_nan_and_do_not_quantize(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    with read_tensors(folder / "model.safetensors") as stored:
        values = {name: np.asarray(stored[name]) for name in stored}
    values["encoder.layer.1.intermediate.dense.weight"][3, 4] = np.nan
    (folder / "model.safetensors").write_bytes(safetensors_bytes(values))
    model = qlm.load(folder)
    assert np.isnan(model.forward([[1, 2, 3]]).last_hidden_state).all()
    with pytest.raises(
        ValueError, match=r"encoder\.layer\.1\.intermediate\.dense\.weight.* holds nan at index \(3, 4\)"
    ):
        qlm.quantize_model(model, "dynamic-int8")
    with pytest.raises(ValueError, match=r"encoder\.layer\.1\.output\.dense: its input holds nan"):
        qlm.quantize_model(model, "static-int8", calibration=sentences(3))


def test_infinite_activations_are_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    with read_tensors(folder / "model.safetensors") as stored:
        values = {name: np.asarray(stored[name]) for name in stored}
    values["embeddings.LayerNorm.bias"][2] = np.inf
    (folder / "model.safetensors").write_bytes(safetensors_bytes(values))
    model = qlm.load(folder, recipe="dynamic-int8")
    with pytest.raises(ValueError, match=r"encoder\.layer\.0\.attention\.self\.query: its input is not finite"):
        model.forward([[1, 2, 3]])
