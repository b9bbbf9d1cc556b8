"""Recipes: what they mean, what they refuse, and their other forms."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import qlm
from qlm import FormatError, Recipe, Scheme, UnsupportedError
from qlm.recipe import RECIPES

NAMES = [f"encoder.layer.{index}.{part}" for index in range(2) for part in ("query", "output.dense")]


def layer(recipe: Recipe, name: str = NAMES[0]) -> Any:
    found = recipe.layers(NAMES)[name]
    assert found is not None
    return found


def test_what_is_left_out_is_filled() -> None:
    dynamic = layer(Recipe("int8", "dynamic"))
    assert dynamic.weights == Scheme("int8", granularity="channel", observer="minmax")
    assert dynamic.activation_scheme == Scheme("uint8", granularity="token", observer="minmax")
    assert not dynamic.activation_scheme.is_symmetric
    static = layer(Recipe("int8", "static", observer="moving_average"))
    assert static.activation_scheme == Scheme("uint8", granularity="tensor", observer="moving_average")
    grouped = layer(Recipe("int4", group_size=32))
    assert grouped.weights == Scheme("int4", granularity="group", group_size=32, observer="minmax")
    assert grouped.activations is None
    assert grouped.activation_scheme is None
    groups = layer(Recipe("int8", "dynamic", activation_scheme=Scheme("int8", group_size=64)))
    assert groups.activation_scheme.granularity == "group"
    assert layer(Recipe("int8", "static", method="smoothquant")).options == {"alpha": 0.5}


def test_what_is_left_out_of_a_scheme_is_none() -> None:
    scheme = Scheme()
    left_out = (scheme.granularity, scheme.group_size, scheme.symmetric, scheme.observer)
    assert left_out == (None, None, None, None)
    assert scheme.to_dict() == {"dtype": "int8"}
    static = Recipe("int8", "static", observer="moving_average", activation_scheme=Scheme("uint8"))
    assert layer(static).activation_scheme.observer == "moving_average"


@pytest.mark.parametrize("name", ["percentile", "MSE", "entropy"])
def test_observers_of_later_versions(name: str) -> None:
    """The same error wherever an observer is named."""
    uses: list[Any] = [
        lambda: Scheme(observer=name),
        lambda: Recipe("int8", "static", observer=name),
        lambda: qlm.quantize([1.0], observer=name),
        lambda: qlm.estimate_range([1.0], observer=name),
    ]
    for use in uses:
        with pytest.raises(UnsupportedError, match=f"^observer: {name} is not supported yet"):
            use()


def test_names_of_observers() -> None:
    assert Scheme(observer="Moving-Average").observer == "moving_average"
    assert Recipe("int8", "static", observer="MovingAverageMinMax").observer == "moving_average"


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_round_trip(name: str) -> None:
    recipe = Recipe.of(name)
    assert Recipe.of(recipe) is recipe
    assert Recipe.of(recipe.to_dict()) == recipe
    assert Recipe.of(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert recipe.needs_calibration == name.startswith("static")
    assert dataclasses.replace(recipe, exclude=["*.query"]).exclude == ("*.query",)


def test_all_settings_round_trip(tmp_path: Path) -> None:
    recipe = Recipe(
        Scheme("uint4", symmetric=False, observer="minmax"),
        "static",
        group_size=16,
        observer="moving_average",
        method="smoothquant",
        method_options={"alpha": 0.7},
        embeddings=Scheme("int8", group_size=8),
        include=["encoder.*"],
        exclude=["*.query"],
        overrides={"*.1.*": {"weights": Scheme("int8", granularity="channel"), "activations": "dynamic"}},
    )
    plain = recipe.to_dict()
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(plain))
    assert Recipe.of(path) == recipe
    assert Recipe.of(str(path)) == recipe


def test_toml(tmp_path: Path) -> None:
    pytest.importorskip("tomllib")
    path = tmp_path / "recipe.toml"
    path.write_text(
        'activations = "dynamic"\nembeddings = "int8"\n[weights]\ndtype = "int4"\ngroup_size = 32\n'
        '[overrides."*.query"]\nweights = "int8"\n'
    )
    recipe = Recipe.of(path)
    assert layer(recipe).weights.dtype == "int8"
    assert layer(recipe, NAMES[1]).weights.group_size == 32


def test_include_exclude_overrides() -> None:
    recipe = Recipe(
        "int4",
        "dynamic",
        group_size=32,
        include=["encoder.layer.0.*", "*.1.query"],
        exclude=["*.0.query"],
        overrides={
            "*.query": {"weights": Scheme("int8", granularity="channel"), "activations": None},
            "*.1.query": {"group_size": 64},
        },
    )
    found = recipe.layers(NAMES)
    assert found["encoder.layer.0.query"] is None
    assert found["encoder.layer.1.output.dense"] is None
    assert found["encoder.layer.0.output.dense"].weights.group_size == 32  # type: ignore[union-attr]
    last = found["encoder.layer.1.query"]
    assert last is not None
    assert (last.weights.dtype, last.weights.group_size, last.activations) == ("int8", 64, None)


def test_an_override_wins_over_what_it_contradicts() -> None:
    token = Recipe(
        "int8",
        "dynamic",
        activation_scheme=Scheme("int8", granularity="token"),
        overrides={"*.query": {"activations": "static"}, "*.dense": {"weights": None}},
    )
    assert layer(token).activation_scheme.granularity == "tensor"
    assert layer(token).activation_scheme.dtype == "int8"
    assert token.layers(NAMES)[NAMES[1]] is None
    assert token.needs_calibration
    smooth = Recipe("int8", "static", method="smoothquant", overrides={"*.query": {"activations": None}})
    assert layer(smooth).methods == ("rtn",)


@pytest.mark.parametrize("argument", ["include", "exclude", "overrides"])
def test_a_pattern_that_matches_nothing(argument: str) -> None:
    value: Any = {"*.key": {"weights": "int4"}} if argument == "overrides" else ["*.key"]
    with pytest.raises(ValueError, match=rf"{argument}: the pattern '\*\.key' matches no layer"):
        Recipe(**{argument: value}).layers(NAMES)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Scheme("int9"), ValueError, "int9"),
        (lambda: Scheme("int3"), UnsupportedError, "int3"),
        (lambda: Scheme("nf4"), UnsupportedError, "nf4"),
        (lambda: Scheme(8), TypeError, "dtype"),
        (lambda: Scheme(granularity="row"), ValueError, "granularity"),
        (lambda: Scheme(granularity="group"), ValueError, "group_size"),
        (lambda: Scheme(granularity="channel", group_size=4), ValueError, "contradicts"),
        (lambda: Scheme(group_size=0), ValueError, "group_size"),
        (lambda: Scheme(group_size=2.0), TypeError, "group_size"),
        (lambda: Scheme(group_size=True), TypeError, "group_size"),
        (lambda: Scheme(symmetric=1), TypeError, "symmetric"),
        (lambda: Scheme(observer="entropy"), UnsupportedError, "entropy"),
        (lambda: Scheme(observer="nearest"), ValueError, "observer"),
        (lambda: Scheme(grid="log"), ValueError, "grid"),
        (lambda: Recipe(Scheme("int4", group_size=8, grid="interval")), UnsupportedError, "interval"),
        (lambda: Recipe(Scheme("int16", grid="interval")), UnsupportedError, "interval"),
        (lambda: Scheme(grid="interval", symmetric=True), ValueError, "interval"),
        (lambda: Scheme(grid="interval", observer="moving_average"), ValueError, "interval"),
        (lambda: Recipe("int8", "dynamic", activation_scheme=Scheme(granularity="tensor")), ValueError, "tensor"),
        (lambda: Recipe("int8", "static", activation_scheme=Scheme(granularity="token")), ValueError, "token"),
        (lambda: Recipe("int8", "static", activation_scheme=Scheme(group_size=8)), ValueError, "group"),
        (lambda: Recipe("int8", "dynamic", activation_scheme=Scheme(granularity="channel")), ValueError, "channel"),
        (lambda: Recipe("int8", activation_scheme="int8"), ValueError, "activation_scheme"),
        (lambda: Recipe("int8", "dynamic", activation_scheme="int4"), UnsupportedError, "int4"),
        (lambda: Recipe("int8", "static", activation_scheme=Scheme("uint8", grid="interval")), UnsupportedError, "int"),
        (lambda: Recipe(Scheme(granularity="token")), ValueError, "token"),
        (lambda: Recipe(Scheme(granularity="channel"), group_size=32), ValueError, "group_size"),
        (lambda: Recipe(Scheme(group_size=16), group_size=32), ValueError, "contradicts the recipe's 32"),
        (
            lambda: Recipe("int8", "static", observer="minmax", activation_scheme=Scheme(observer="moving_average")),
            ValueError,
            "contradicts",
        ),
        (lambda: Recipe("int8", "dynamic", observer="moving_average"), ValueError, "observer"),
        (
            lambda: Recipe("int8", "dynamic", group_size=48, activation_scheme=Scheme("uint8", group_size=32)),
            ValueError,
            "neither divides",
        ),
        (lambda: Recipe(None), TypeError, "weights"),
        (lambda: Recipe("int8", "both"), ValueError, "activations"),
        (lambda: Recipe("int8", 3), TypeError, "activations"),
        (lambda: Recipe(method="gptq"), UnsupportedError, "gptq"),
        (lambda: Recipe(method="best"), ValueError, "method"),
        (lambda: Recipe(method="rtn+rtn"), ValueError, "method"),
        (lambda: Recipe(method="smoothquant"), ValueError, "smoothquant"),
        (lambda: Recipe(method_options={"alpha": 0.5}), ValueError, "alpha"),
        (lambda: Recipe("int8", "static", method="smoothquant", method_options={"alpha": 2}), ValueError, "alpha"),
        (lambda: Recipe("int8", "static", method="smoothquant", method_options={"alpha": "x"}), TypeError, "alpha"),
        (lambda: Recipe("int8", "static", method="smoothquant", method_options={"beta": 1}), ValueError, "beta"),
        (lambda: Recipe(embeddings=Scheme(granularity="tensor")), ValueError, "embeddings"),
        (lambda: Recipe(embeddings="int5"), UnsupportedError, "int5"),
        (lambda: Recipe(include="*.query"), TypeError, "include"),
        (lambda: Recipe(exclude=[3]), TypeError, "exclude"),
        (lambda: Recipe(overrides=["*"]), TypeError, "overrides"),
        (lambda: Recipe(overrides={"*": "int8"}), TypeError, "overrides"),
        (lambda: Recipe(overrides={"*": {"embeddings": "int8"}}), ValueError, "embeddings"),
        (lambda: Recipe(overrides={"*": {"activations": "static", "method": "best"}}), ValueError, "method"),
        (lambda: Recipe.of("dynamic-int7"), ValueError, "dynamic-int8"),
        (lambda: Recipe.of({"weight": "int8"}), ValueError, "weight"),
        (lambda: Recipe.of(8), TypeError, "recipe"),
    ],
)
def test_refused(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.json", "{"),
        ("r.json", "[]"),
        ("r.json", '{"weights": "int8", "weights": "int4"}'),
        ("r.json", '{"weights": "int99"}'),
        ("r.json", '{"activations": "sometimes"}'),
        ("r.json", '{"include": "x"}'),
        ("r.toml", "weights = "),
        ("r.toml", 'weight = "int8"'),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str) -> None:
    if name.endswith("toml"):
        pytest.importorskip("tomllib")
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=name):
        Recipe.of(tmp_path / name)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recipe.of(tmp_path / "absent.json")
