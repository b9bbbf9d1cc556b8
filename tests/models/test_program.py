"""The recorded forward against the same forward run step by step, and what a program refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.checkpoints import sentences, tiny_bert

import qlm
from qlm import Recipe, Scheme, _core
from qlm.models.batch import from_lists
from qlm.models.program import Eager, Recorder, Value, untapped

RECIPES: list[Any] = [
    None,
    "dynamic-int8",
    "static-int8",
    "dynamic-interval-int8",
    "weight-only-int4",
    Recipe("int8", "dynamic", method="smoothquant", method_options={"alpha": 0.5}),
    Recipe("int8", "dynamic", exclude=["*.key"], overrides={"*.output.dense": {"weights": "int16"}}),
]


def drawn(model: qlm.Model, lengths: list[int], rng: np.random.Generator) -> Any:
    vocab = model.config["vocab_size"]
    return from_lists([([int(i) for i in rng.integers(0, vocab, n)], [0] * n) for n in lengths])


@pytest.mark.parametrize("recipe", RECIPES)
def test_recorded_is_step_by_step(tmp_path: Path, rng: np.random.Generator, recipe: Any) -> None:
    """However sequences are cut into runs and shared among threads."""
    model = qlm.load(tiny_bert(tmp_path / "m"))
    if recipe is not None:
        model = qlm.quantize_model(model, recipe, calibration=sentences(20))
    tokens = drawn(model, [*(int(n) for n in rng.integers(1, 64, 60)), 0, 64, 1], rng)
    x = np.empty((len(tokens.ids), model.hidden_size), np.float32)
    model.embeddings(tokens, slice(None), x)
    expected = model.encode(x, Eager(model.weights.linears, tokens.starts, untapped))
    before = qlm.get_num_threads()
    try:
        for threads in (1, 2, 5):
            qlm.set_num_threads(threads)
            assert model._hidden(tokens).tobytes() == expected.tobytes()
    finally:
        qlm.set_num_threads(before)


GROUPS = Scheme("uint8", granularity="group", group_size=16)


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        (Recipe("int8", "dynamic"), "attention_8"),
        (Recipe("int8", "dynamic", activation_scheme=GROUPS), "attention_8"),
        (Recipe("int8"), "attention"),
        (Recipe("int8", "dynamic", overrides={"*.key": {"activation_scheme": "int16"}}), "attention"),
    ],
)
def test_attention_is_on_codes_where_its_inputs_were(tmp_path: Path, recipe: Recipe, kind: str) -> None:
    model = qlm.quantize_model(qlm.load(tiny_bert(tmp_path / "m")), recipe)
    recorder = Recorder(model.weights.linears, model.hidden_size)
    model.encode(recorder.rows, recorder)
    assert {step[0] for step in recorder._steps if step[0].startswith("attention")} == {kind}


def test_places_are_used_again(tmp_path: Path) -> None:
    """q, k and v lie side by side, what is wide lies where they were: no layer adds to the workspace."""
    model = qlm.load(tiny_bert(tmp_path / "m"))
    hidden = model.hidden_size
    recorder = Recorder(model.weights.linears, hidden)
    assert model.encode(recorder.rows, recorder) is recorder.rows
    recorder.program()
    places = {(value.at, value.width) for value in recorder._held}
    assert places == {(0, hidden), (hidden, hidden), (2 * hidden, hidden), (0, 2 * hidden)}


def test_values_that_are_held_together_lie_apart(rng: np.random.Generator) -> None:
    from qlm.models.program import _lay_out

    for _ in range(50):
        values = [Value(int(rng.integers(1, 9)), int(b), int(b + rng.integers(0, 5))) for b in rng.integers(0, 20, 12)]
        width = _lay_out(values)
        for i, a in enumerate(values):
            assert a.at is not None
            assert a.at + a.width <= width
            for b in values[:i]:
                together = a.begin <= b.end and b.begin <= a.end
                assert b.at is not None
                assert not together or a.at + a.width <= b.at or b.at + b.width <= a.at


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("token", [250, 599, 650])
def test_the_value_that_is_not_finite_is_named(rng: np.random.Generator, token: int, threads: int) -> None:
    """In whichever of the runs that are worked on side by side."""
    weight = qlm.pack(qlm.quantize(rng.standard_normal((8, 8)), axis=0))._packed
    rows = None, 8
    step = "linear", rows, _core.Input("dynamic", "uint8"), (weight,), None, None, None, ((0, 8),)
    norm = "layernorm", rows, rows, np.ones(8, np.float32), np.zeros(8, np.float32), 0.0
    program = _core.Program(8, 8, (norm, step))
    x = rng.standard_normal((700, 8)).astype(np.float32)
    x[:] = x[0]
    x[token, 3] = np.nan
    before = qlm.get_num_threads()
    try:
        qlm.set_num_threads(threads)
        with pytest.raises(_core.NonFinite) as caught:
            program.run(x, np.array([0, 300, 600, 700]))
    finally:
        qlm.set_num_threads(before)
    assert caught.value.args == (1, token, 0)


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        ((1,), TypeError, "a step must be a tuple"),
        ((("sum",),), ValueError, "a step's kind must be one of linear, divide, attention, attention_8, layernorm"),
        ((("divide", (0, 4)),), ValueError, "the step 'divide' has 3 items, got 1"),
        ((("divide", 0, (0, 4), np.ones(4, np.float32)),), TypeError, "a slot must be a tuple"),
        ((("divide", (5, 4), (0, 4), np.ones(4, np.float32)),), ValueError, "outside the rows and the workspace"),
        ((("divide", (2**63 - 1, 4), (0, 4), np.ones(4, np.float32)),), ValueError, "outside the rows"),
        ((("divide", (None, 5), (0, 4), np.ones(4, np.float32)),), ValueError, "outside the rows and the workspace"),
        ((("divide", (0, 4), (0, 3), np.ones(4, np.float32)),), ValueError, "operands are 4 and 3 wide"),
        ((("divide", (0, 4), (4, 4), np.ones(3, np.float32)),), ValueError, "divisor"),
        ((("attention", (0, 4), (0, 4), (0, 4), (0, 4), 3, 1.0, False),), ValueError, "heads must divide"),
        ((("attention_8", (0, 4), (0, 4), (0, 4), (0, 4), 2, 0.0),), ValueError, "scale must be positive"),
        ((("layernorm", (0, 4), (0, 4), np.ones(4, np.float32), np.ones(4, np.float32), -1.0),), ValueError, "eps"),
        ((("linear", (0, 4), None, (), None, None, None, ()),), TypeError, "input must be an Input"),
        ((("linear", (0, 4), _core.Input("float"), (), None, None, None, ()),), ValueError, "weights must be"),
    ],
)
def test_what_a_program_refuses(steps: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        _core.Program(4, 8, steps)


def test_linears_that_do_not_fit(rng: np.random.Generator) -> None:
    weight = qlm.pack(rng.standard_normal((3, 4)).astype(np.float32))._packed
    codes = _core.Input("codes", "int8", scale=np.ones(1, np.float32))
    feed = _core.Input("float")
    rows = None, 4
    for step, words in [
        (("linear", (0, 3), feed, (weight,), None, None, None, ((0, 3),)), "x has 3 columns"),
        (("linear", rows, feed, (weight,), None, None, None, ((0, 4),)), "width 4 for the 3 outputs"),
        (("linear", rows, feed, (weight,), None, None, rows, ((0, 3),)), "a residual of width 4"),
        (("linear", rows, codes, (weight,), None, None, None, ((0, 3),)), "cannot be codes"),
        (("linear", rows, feed, (weight,), (np.ones(4, np.float32),), None, None, ((0, 3),)), "bias"),
        (("linear", rows, feed, (weight,), (), None, None, ((0, 3),)), "biases must have one item"),
    ]:
        with pytest.raises(ValueError, match=words):
            _core.Program(4, 8, (step,))


def test_rows_that_do_not_fit() -> None:
    program = _core.Program(4, 0, ())
    program.run(np.ones((2, 4), np.float32), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="x has 3 columns"):
        program.run(np.ones((2, 3), np.float32), np.array([0, 2]))
    with pytest.raises(ValueError, match="starts"):
        program.run(np.ones((2, 4), np.float32), np.array([0, 1]))
    fixed = np.ones((2, 4), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="x is read-only"):
        program.run(fixed, np.array([0, 2]))
