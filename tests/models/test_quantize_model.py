"""Quantizing models: what each recipe does to a linear, on what data, by whom, and what it refuses."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.checkpoints import sentences, tiny_bert

import qlm
from qlm import QTensor, Recipe, Scheme
from qlm.models.linear import Linear
from qlm.recipe import RECIPES
from qlm.workflow import quantize_model

QUERY, KEY, DOWN = (
    f"encoder.layer.1.{name}" for name in ("attention.self.query", "attention.self.key", "output.dense")
)
TEXTS = sentences(40)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> qlm.Model:
    return qlm.load(tiny_bert(tmp_path_factory.mktemp("model") / "m", labels=["no", "yes"]))


def linear(model: qlm.Model, name: str) -> Linear:
    return model.weights.linears[name]


def weight(model: qlm.Model, name: str) -> QTensor:
    found = linear(model, name).weight
    assert isinstance(found, QTensor)
    return found


def inputs_of(model: qlm.Model, name: str, texts: list[str]) -> np.ndarray:
    """All rows that a linear reads, from the tap."""
    rows: list[np.ndarray] = []

    def tap(names: tuple[str, ...], x: np.ndarray) -> None:
        if name in names:
            rows.append(x.copy())

    from qlm.calibration import batches

    for batch in batches(model, texts):
        model.observe(batch, tap)
    return np.concatenate(rows)


def same_bits(a: qlm.Model, b: qlm.Model) -> bool:
    return a.classify(TEXTS).tobytes() == b.classify(TEXTS).tobytes()


# ---- what recipes do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_answers_as_float_does(model: qlm.Model, recipe: str) -> None:
    quantized = quantize_model(model, recipe, calibration=TEXTS)
    assert quantized.recipe == Recipe.of(recipe)
    assert all(isinstance(layer.weight, QTensor) for layer in quantized.layers.values())
    assert all(isinstance(layer.weight, np.ndarray) for layer in model.layers.values())
    assert quantized.num_parameters == model.num_parameters
    assert quantized.nbytes < model.nbytes
    a, b = model.embed(TEXTS), quantized.embed(TEXTS)
    cosine = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    assert cosine.min() > (0.9 if recipe == "weight-only-int4" else 0.99)


def test_weights_are_rounded_to_nearest_by_row(model: qlm.Model) -> None:
    quantized = quantize_model(model, "dynamic-int8")
    assert weight(quantized, QUERY) == qlm.quantize(model.layers[QUERY].weight, "int8", axis=0)
    table = quantized.weights.tables["embeddings.word_embeddings"].weight
    assert table == qlm.quantize(model.weights.tables["embeddings.word_embeddings"].weight, "int8", axis=0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_groups_of_four_bits_have_half_scales(model: qlm.Model, symmetric: bool) -> None:
    quantized = quantize_model(model, Recipe(Scheme("int4", symmetric=symmetric), group_size=8))
    found, floats = weight(quantized, QUERY), np.asarray(model.layers[QUERY].weight)
    low, high = qlm.estimate_range(floats, group_size=8)
    scale, _ = qlm.choose_qparams(low, high, "int4", symmetric=symmetric)
    half = scale.astype(np.float16)
    half = np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)
    assert found.scale.dtype == np.float16
    assert found.scale.tobytes() == half.tobytes()
    wide = half.astype(np.float64)
    zero = 0 if symmetric else np.clip(np.rint(-8 - np.minimum(low.astype(np.float64), 0) / wide), -8, 7)
    codes = np.rint(floats.reshape(32, 4, 8) / half.astype(np.float32)[..., None]) + np.expand_dims(zero, -1)
    assert np.array_equal(found.values, np.clip(codes, -8, 7).reshape(32, 32))
    assert found.error(floats).max_abs <= wide.max() * 0.5001


def test_scales_past_half_name_the_tensor(model: qlm.Model) -> None:
    from qlm.methods.rtn import round_to_nearest

    scheme = Scheme("int4", granularity="group", group_size=4, observer="minmax")
    with pytest.raises(ValueError, match=r"the\.name: the tensor needs a scale of 142857, past float16's"):
        round_to_nearest(np.full((2, 4), 1e6, np.float32), scheme, "the.name")


@pytest.mark.parametrize("scheme", ["uint8", "int8", "int16"])
def test_a_dynamic_linear_is_qlm_linear(model: qlm.Model, rng: np.random.Generator, scheme: str) -> None:
    quantized = quantize_model(model, Recipe("int8", "dynamic", activation_scheme=scheme))
    x = rng.standard_normal((5, 32)).astype(np.float32)
    (found,) = quantized.weights.linears.run((QUERY,), x)
    expected = qlm.linear(x, weight(quantized, QUERY), linear(model, QUERY).bias, input=scheme)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("scheme", ["uint8", "int8", "int16"])
def test_a_static_linear_is_qlm_linear_of_a_qtensor(model: qlm.Model, rng: np.random.Generator, scheme: str) -> None:
    quantized = quantize_model(model, Recipe("int8", "static", activation_scheme=scheme), calibration=TEXTS)
    activations = linear(quantized, DOWN).activations
    assert activations is not None
    seen = inputs_of(model, DOWN, TEXTS)
    scale, zero = qlm.choose_qparams(seen.min(), seen.max(), scheme)
    assert (activations.scale, activations.zero_point) == (scale, int(zero))
    x = (2 * rng.standard_normal((5, 64))).astype(np.float32)
    (found,) = quantized.weights.linears.run((DOWN,), x)
    symmetric = scheme != "uint8"
    bound = {"uint8": 255, "int8": 127, "int16": 32767}[scheme]
    codes = np.clip(np.rint(x / scale) + int(zero), -bound if symmetric else 0, bound)
    fed = QTensor.from_parts(codes.astype(scheme), scale, zero, dtype=scheme)
    expected = qlm.linear(fed, weight(quantized, DOWN), linear(model, DOWN).bias)
    assert found.tobytes() == expected.tobytes()


def test_smoothquant(model: qlm.Model, rng: np.random.Generator) -> None:
    """s = max|X|^a / max|W|^(1 - a), W over all that read the input; the weight W s, the input x / (scale s)."""
    quantized = quantize_model(model, "static-int8", calibration=TEXTS)
    names = [f"encoder.layer.1.attention.self.{name}" for name in ("query", "key", "value")]
    seen = inputs_of(model, QUERY, TEXTS)
    floats = [np.asarray(model.layers[name].weight) for name in names]
    act = np.maximum(np.abs(seen).max(0).astype(np.float64), 1e-5)
    largest = np.maximum(np.abs(np.stack(floats)).max((0, 1)).astype(np.float64), 1e-5)
    s = linear(quantized, QUERY).input_scale
    assert s is not None
    np.testing.assert_allclose(s, act**0.85 / largest**0.15, rtol=1e-6)
    for name, values in zip(names, floats, strict=True):
        assert weight(quantized, name) == qlm.quantize(values * s, "int8", axis=0)
        assert np.array_equal(linear(quantized, name).input_scale, s)
        assert linear(quantized, name).activations == linear(quantized, QUERY).activations
    activations = linear(quantized, QUERY).activations
    assert activations is not None
    scale, zero = qlm.choose_qparams((seen / s).min(), (seen / s).max(), "uint8")
    assert (activations.scale, activations.zero_point) == (scale, int(zero))
    x = rng.standard_normal((5, 32)).astype(np.float32)
    found = quantized.weights.linears.run(tuple(names), x)
    codes = np.clip(np.rint(x / (scale * s)) + int(zero), 0, 255)
    fed = QTensor.from_parts(codes.astype(np.uint8), scale, zero, dtype="uint8")
    for name, y in zip(names, found, strict=True):
        expected = qlm.linear(fed, weight(quantized, name), linear(model, name).bias)
        assert y.tobytes() == expected.tobytes()


def test_smoothquant_with_dynamic_activations(model: qlm.Model, rng: np.random.Generator) -> None:
    recipe = Recipe("int8", "dynamic", method="smoothquant", method_options={"alpha": 0.5})
    quantized = quantize_model(model, recipe, calibration=TEXTS)
    x = rng.standard_normal((5, 32)).astype(np.float32)
    (found,) = quantized.weights.linears.run((QUERY,), x)
    s = linear(quantized, QUERY).input_scale
    assert found.tobytes() == qlm.linear(x / s, weight(quantized, QUERY), linear(model, QUERY).bias).tobytes()


def test_moving_averages(model: qlm.Model) -> None:
    recipe = Recipe("int8", "static", observer="moving_average")
    activations = linear(quantize_model(model, recipe, calibration=TEXTS), DOWN).activations
    assert activations is not None
    watcher = qlm.observers.MovingAverageMinMax()
    for texts in (TEXTS[:32], TEXTS[32:]):
        watcher.update(inputs_of(model, DOWN, texts))
    assert activations.scale == watcher.qparams("uint8")[0]


def test_parts_of_a_model(model: qlm.Model) -> None:
    recipe = Recipe(
        "int8",
        "dynamic",
        exclude=["classifier", "*.key"],
        overrides={"*.output.dense": {"weights": "int16", "activations": None}},
    )
    quantized = quantize_model(model, recipe)
    assert quantized.layers[KEY].bits == quantized.layers["classifier"].bits == 32
    assert quantized.layers[DOWN].bits == 16
    assert linear(quantized, DOWN).activations is None
    assert quantized.layers[QUERY].bits == 8
    assert quantized.weights.tables == model.weights.tables
    assert quantized.classify(TEXTS).shape == (40, 2)


def test_embeddings_alone_by_groups(model: qlm.Model) -> None:
    recipe = Recipe("int8", embeddings=Scheme("int4", group_size=8), exclude=["*"])
    quantized = quantize_model(model, recipe)
    table = quantized.weights.tables["embeddings.word_embeddings"]
    assert isinstance(table.weight, QTensor)
    ids = np.array([3, 0, 7])
    assert table(ids).tobytes() == table.weight.dequantize()[ids].tobytes()


# ---- calibration data -------------------------------------------------------------------------------------------


def forms(model: qlm.Model) -> Iterator[Any]:
    """The same tokens in all forms that calibration takes."""
    assert model.tokenizer is not None
    ids = [row.ids for row in model.tokenizer.encode(TEXTS)]
    width = max(map(len, ids))
    padded = np.zeros((len(ids), width), int)
    mask = np.zeros_like(padded)
    for index, row in enumerate(ids):
        padded[index, : len(row)] = row
        mask[index, : len(row)] = 1
    yield TEXTS
    yield iter(TEXTS)
    yield tuple(reversed(TEXTS))
    yield [TEXTS[:7], TEXTS[7:]]
    yield [np.array(row) for row in ids]
    yield ids
    yield {"input_ids": padded, "attention_mask": mask}
    yield ({"input_ids": padded[i : i + 3], "attention_mask": mask[i : i + 3]} for i in range(0, len(ids), 3))
    yield [TEXTS[0], ids[1], *TEXTS[2:]]


def test_the_form_and_cut_of_calibration_data_change_nothing(model: qlm.Model) -> None:
    models = [quantize_model(model, "static-int8", calibration=data) for data in forms(model)]
    assert all(same_bits(models[0], other) for other in models[1:])


def test_a_token_array(model: qlm.Model) -> None:
    ids = np.arange(20).reshape(4, 5)
    recipe = "static-int8"
    assert same_bits(
        quantize_model(model, recipe, calibration=ids), quantize_model(model, recipe, calibration=list(ids))
    )


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (None, ValueError, "calibration must be given"),
        ([], ValueError, "no token"),
        ([[]], ValueError, "no token"),
        (3, TypeError, "calibration"),
        (b"text", TypeError, "calibration"),
        ([3.5], TypeError, "input_ids"),
        ([[1, 2], "good", 1000], ValueError, "input_ids"),
        ([[1, 1000]], ValueError, "got 1000"),
        ([{"ids": [1]}], ValueError, "input_ids"),
        ([None], TypeError, "input_ids"),
    ],
)
def test_bad_calibration(model: qlm.Model, data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        quantize_model(model, "static-int8", calibration=data)


# ---- who does the work ------------------------------------------------------------------------------------------


class OneByOne(Executor):
    """An executor that works when asked."""

    def __init__(self) -> None:
        self.submitted = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_executors(model: qlm.Model) -> None:
    expected = quantize_model(model, "static-int8", calibration=TEXTS)
    own = OneByOne()
    assert same_bits(quantize_model(model, "static-int8", calibration=TEXTS, executor=own), expected)
    assert own.submitted == len(model.layers)
    with ThreadPoolExecutor(3) as threads:
        assert same_bits(quantize_model(model, "static-int8", calibration=TEXTS, executor=threads), expected)


def test_processes(model: qlm.Model) -> None:
    expected = quantize_model(model, "static-int8", calibration=TEXTS)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert same_bits(quantize_model(model, "static-int8", calibration=TEXTS, executor=processes), expected)


def test_progress(model: qlm.Model) -> None:
    steps: list[tuple[int, int, str]] = []
    quantize_model(model, "static-int8", calibration=TEXTS, progress=lambda *step: steps.append(step))
    calibrating = [step for step in steps if step[2] == "calibrating"]
    work = [step for step in steps if step[2] != "calibrating"]
    assert calibrating == [(32, 40, "calibrating"), (40, 40, "calibrating")]
    assert [done for done, _, _ in work] == list(range(1, len(work) + 1))
    assert {total for _, total, _ in work} == {len(work)} == {len(model.layers) + 3}
    assert {what for _, _, what in work} == {*model.layers, *model.weights.tables}


def test_a_bar(model: qlm.Model, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    quantize_model(model, "dynamic-int8", progress=True)
    assert capsys.readouterr().out == ""


def test_a_bar_without_rich(model: qlm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match=r"qlm\[llm\]"):
        quantize_model(model, "dynamic-int8", progress=True)


def test_ctrl_c(model: qlm.Model) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_model(model, "dynamic-int8", progress=interrupt)
    assert quantize_model(model, "dynamic-int8").classify("good").shape == (2,)


# ---- what is refused --------------------------------------------------------------------------------------------


def test_refused(model: qlm.Model) -> None:
    quantized = quantize_model(model, "dynamic-int8")
    with pytest.raises(ValueError, match=r"query is quantized already"):
        quantize_model(quantized, "weight-only-int8")
    with pytest.raises(ValueError, match=r"embeddings is quantized already"):
        quantize_model(quantized, Recipe("int8", embeddings="int8", exclude=["*"]))
    with pytest.raises(ValueError, match=r"matches no layer"):
        quantize_model(model, Recipe("int8", include=["encoder.layer.9.*"]))
    with pytest.raises(ValueError, match=r"recipe must be one of dynamic-int8"):
        quantize_model(model, "int8")
    with pytest.raises(TypeError, match="model"):
        quantize_model("model", "dynamic-int8")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="progress"):
        quantize_model(model, "dynamic-int8", progress="bar")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="executor"):
        quantize_model(model, "dynamic-int8", executor=3)  # type: ignore[arg-type]


def test_classify_needs_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no classifier"):
        qlm.load(tiny_bert(tmp_path / "m")).classify("good")


# ---- signals ----------------------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, threading, time
import qlm
model = qlm.load(sys.argv[1])
texts = ["good film " * 20] * 2000
work = {
    "embed": lambda: model.embed(texts),
    "calibrate": lambda: qlm.quantize_model(model, "static-int8", calibration=texts),
    "quantize": lambda: [qlm.quantize_model(model, "dynamic-int8") for _ in range(10**6)],
    "save": lambda: [model.save(sys.argv[2]) for _ in range(10**6)],
}
for name, run in work.items():
    threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        while True:
            run()
    except KeyboardInterrupt:
        print(name)
"""


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    command = [sys.executable, "-c", INTERRUPTED, str(folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["embed", "calibrate", "quantize", "save"], done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"m", "out"}
    qlm.load(tmp_path / "out")
