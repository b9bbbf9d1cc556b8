"""Models saved and loaded again: to the bit, in one step, and refused where a file was changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.checkpoints import safetensors_bytes, sentences, tiny_bert, write_pooling

import qlm
from qlm import FormatError, QTensor, Recipe, Scheme, UnsupportedError
from qlm.formats.safetensors import SafetensorsFile
from qlm.recipe import RECIPES

TEXTS = sentences(12)
QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tiny_bert(tmp_path / "model", labels=["no", "yes"], prefix="bert.", dtype="float16")
    write_pooling(folder, max_length=20)
    return folder


def names_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


OTHERS = {
    "groups of activations": Recipe("int8", "dynamic", activation_scheme=Scheme("int8", group_size=8)),
    "uint4": Recipe("uint4", "dynamic", group_size=16, embeddings=Scheme("uint4", group_size=32)),
    "interval weights": Recipe(Scheme("int8", grid="interval"), "dynamic", embeddings=Scheme("uint8", grid="interval")),
    "one scale": Recipe(Scheme("int8", granularity="tensor"), exclude=["classifier"]),
    "smooth dynamic": Recipe("int8", "dynamic", method="smoothquant"),
}


@pytest.mark.parametrize("recipe", [None, *RECIPES, *OTHERS])
def test_round_trip_to_the_bit(folder: Path, tmp_path: Path, recipe: str | None) -> None:
    model = qlm.load(folder)
    if recipe is not None:
        model = qlm.quantize_model(model, OTHERS.get(recipe, recipe), calibration=TEXTS)
    model.save(tmp_path / "saved")
    loaded = qlm.load(tmp_path / "saved")
    assert loaded.classify(TEXTS).tobytes() == model.classify(TEXTS).tobytes()
    assert loaded.embed(TEXTS).tobytes() == model.embed(TEXTS).tobytes()
    assert (loaded.recipe, loaded.config, loaded.labels) == (model.recipe, model.config, model.labels)
    assert (loaded.nbytes, loaded.num_parameters) == (model.nbytes, model.num_parameters)
    for name, layer in model.layers.items():
        again = loaded.layers[name].weight
        if isinstance(layer.weight, QTensor):
            assert again == layer.weight
        else:
            assert again.dtype == layer.weight.dtype
            assert np.asarray(again).tobytes() == layer.weight.tobytes()
    loaded.save(tmp_path / "again")
    for name in names_below(tmp_path / "saved"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


@pytest.mark.parametrize("recipe", [name for name in RECIPES if not RECIPES[name].needs_calibration])
def test_quantizing_while_loading_is_the_same(folder: Path, tmp_path: Path, recipe: str) -> None:
    quantized, loaded = qlm.quantize_model(qlm.load(folder), recipe), qlm.load(folder, recipe=recipe)
    quantized.save(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="quantized already"):
        qlm.load(tmp_path / "a", recipe=recipe)


def test_loading_needs_no_calibration_or_refuses(folder: Path) -> None:
    with pytest.raises(ValueError, match="calibration"):
        qlm.load(folder, recipe="static-int8")
    with pytest.raises(ValueError, match="matches no layer"):
        qlm.load(folder, recipe=Recipe(exclude=["nothing"]))


def test_what_a_folder_holds(folder: Path, tmp_path: Path) -> None:
    """Names as in the checkpoint; any reader of safetensors can read it."""
    model = qlm.quantize_model(qlm.load(folder), "static-int8", calibration=TEXTS)
    model.save(tmp_path / "saved")
    assert names_below(tmp_path / "saved") == names_below(folder)
    for name in names_below(folder) - {"model.safetensors", "config.json"}:
        assert (tmp_path / "saved" / name).read_bytes() == (folder / name).read_bytes()
    config = json.loads((tmp_path / "saved/config.json").read_text())
    assert config.pop("qlm") == {"version": 1}
    assert config == json.loads((folder / "config.json").read_text())
    from safetensors import safe_open

    with safe_open(str(tmp_path / "saved/model.safetensors"), "np") as stream:
        stored = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
        described = json.loads(stream.metadata()["qlm"])
    codes, scale = stored[f"{QUERY}.weight"], stored[f"{QUERY}.weight_scale"]
    assert (codes.dtype, scale.dtype) == (np.int8, np.float32)
    weight = model.layers["encoder.layer.0.attention.self.query"].weight
    assert isinstance(weight, QTensor)
    assert np.array_equal(codes * scale[:, None], weight.dequantize())
    assert stored[f"{QUERY}.input_scale"].shape == (32,)
    assert stored[f"{QUERY}.activation_scale"].shape == stored[f"{QUERY}.activation_zero_point"].shape == ()
    assert stored[f"{QUERY}.bias"].dtype == np.float16
    assert described["layers"][QUERY] == {
        "kind": "static", "dtype": "uint8", "granularity": "tensor", "group_size": None, "symmetric": False,
        "grid": "affine",
    }  # fmt: skip
    assert described["recipe"] == model.recipe.to_dict()  # type: ignore[union-attr]
    assert described["tensors"][f"{QUERY}.weight"]["dtype"] == "int8"


def test_float_activations_of_a_quantized_folder(folder: Path, tmp_path: Path) -> None:
    model = qlm.load(folder)
    for recipe in ("dynamic-int8", "static-int8"):
        qlm.quantize_model(model, recipe, calibration=TEXTS).save(tmp_path / recipe)
    weight_only = qlm.quantize_model(model, "weight-only-int8")
    loaded = qlm.load(tmp_path / "dynamic-int8", activations=None)
    assert loaded.classify(TEXTS).tobytes() == weight_only.classify(TEXTS).tobytes()
    loaded.save(tmp_path / "w")
    assert qlm.load(tmp_path / "w").classify(TEXTS).tobytes() == weight_only.classify(TEXTS).tobytes()
    smooth = qlm.load(tmp_path / "static-int8", activations=None)
    assert np.abs(smooth.classify(TEXTS) - model.classify(TEXTS)).max() < 0.05
    dynamic = qlm.load(tmp_path / "w", activations="dynamic")
    assert dynamic.classify(TEXTS).tobytes() == qlm.load(tmp_path / "dynamic-int8").classify(TEXTS).tobytes()
    with pytest.raises(ValueError, match="activations"):
        qlm.load(folder, activations="static")
    with pytest.raises(TypeError, match="activations"):
        qlm.load(folder, activations=8)  # type: ignore[arg-type]


# ---- saving in one step -----------------------------------------------------------------------------------------


def test_a_target_that_is_something_else(folder: Path, tmp_path: Path) -> None:
    model = qlm.load(folder)
    target = tmp_path / "target"
    model.save(target)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        model.save(target)
    assert (target / "notes.txt").read_text() == "mine"
    (target / "notes.txt").unlink()
    with pytest.raises(FileExistsError):
        model.save(target, overwrite=False)
    model.save(target)
    with pytest.raises(NotADirectoryError):
        model.save(target / "config.json")
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "absent" / "below")
    assert sorted(os.listdir(tmp_path)) == ["model", "target"]


def test_a_model_over_its_own_folder(folder: Path) -> None:
    model = qlm.quantize_model(qlm.load(folder), "dynamic-int8")
    model.save(folder)
    assert qlm.load(folder).classify(TEXTS).tobytes() == model.classify(TEXTS).tobytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_a_save_that_fails_leaves_what_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    from qlm.models import store

    qlm.load(folder).save(tmp_path / "target")
    before = {name: (tmp_path / "target" / name).read_bytes() for name in names_below(tmp_path / "target")}
    model = qlm.quantize_model(qlm.load(folder), "dynamic-int8")

    def fail(sink: Any, *_: Any, **__: Any) -> None:
        sink.write(memoryview(b"x" * 1000))
        raise error

    monkeypatch.setattr(store, "write_tensors", fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        model.save(tmp_path / "target")
    after = {name: (tmp_path / "target" / name).read_bytes() for name in names_below(tmp_path / "target")}
    assert after == before
    assert sorted(os.listdir(tmp_path)) == ["model", "target"]
    with pytest.raises(error if isinstance(error, type) else type(error)):
        model.save(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["model", "target"]


def test_formats(folder: Path, tmp_path: Path) -> None:
    model = qlm.load(folder)
    for name in ("gguf", "onnx", "compressed-tensors"):
        with pytest.raises(UnsupportedError, match=name):
            model.save(tmp_path / "x", format=name)
    with pytest.raises(ValueError, match="format"):
        model.save(tmp_path / "x", format="zip")
    with pytest.raises(ValueError, match="type"):
        model.save(tmp_path / "x", type="Q8_0")  # type: ignore[arg-type]
    for argument, value in {"path": 3, "format": 3, "overwrite": 3}.items():
        with pytest.raises(TypeError, match=argument):
            model.save(**{"path": tmp_path / "x", argument: value})  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


# ---- folders that were changed -----------------------------------------------------------------------------------


def edit(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """change(tensors, description) of the saved file."""
    path = folder / "model.safetensors"
    with SafetensorsFile(path) as file:
        values = {name: np.asarray(file[name]) for name in file}
        described = json.loads(file.metadata["qlm"])
    change(values, described)
    path.write_bytes(safetensors_bytes_of(values, {"qlm": json.dumps(described)}))


def safetensors_bytes_of(values: dict[str, Any], metadata: dict[str, str]) -> bytes:
    """Also int32, which checkpoints have no other use for."""
    from qlm.formats.safetensors import Part, write

    class Sink(bytearray):
        def write(self, data: memoryview) -> None:
            self.extend(data)

    sink = Sink()
    write(sink, {name: Part.of(value) for name, value in values.items()}, metadata)
    assert safetensors_bytes({}) != sink
    return bytes(sink)


def tensor(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda values, _: values.update({f"{QUERY}.{name}": value})


def without(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda values, _: values.pop(f"{QUERY}.{name}")


def says(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda _, described: described["layers"][QUERY].update({key: value})


def table(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda _, described: described.update({key: value})


ONES = np.ones(32, np.float32)


@pytest.mark.parametrize(
    "change",
    [
        tensor("input_scale", ONES[:31]),
        tensor("input_scale", ONES * 0),
        tensor("input_scale", -ONES),
        tensor("input_scale", ONES * np.float32(np.inf)),
        tensor("input_scale", ONES * np.float32(np.nan)),
        tensor("input_scale", ONES * np.float32(1e-39)),
        tensor("input_scale", ONES.astype(np.float64)),
        lambda values, _: values.update(
            {f"{QUERY}.input_scale": ONES * np.float32(1e38), f"{QUERY}.activation_scale": np.float32(1e38)}
        ),
        tensor("activation_scale", np.float32(0)),
        tensor("activation_scale", np.float32(-1)),
        tensor("activation_scale", np.float32(np.nan)),
        tensor("activation_scale", np.float64(1)),
        tensor("activation_scale", ONES),
        tensor("activation_zero_point", np.int32(256)),
        tensor("activation_zero_point", np.int32(-1)),
        tensor("activation_zero_point", np.float32(1)),
        tensor("activation_zero_point", np.zeros(1, np.int32)),
        without("activation_scale"),
        without("activation_zero_point"),
        without("weight_scale"),
        without("weight"),
        tensor("weight", np.zeros((32, 32), np.float32)),
        tensor("weight", np.zeros((32, 16), np.int8)),
        tensor("weight_scale", ONES * np.float32(np.inf)),
        tensor("weight_scale", np.ones((32, 2), np.float32)),
        says("kind", "sometimes"),
        says("kind", None),
        says("dtype", "int99"),
        says("dtype", 8),
        says("grid", "log"),
        says("grid", "interval"),
        says("symmetric", 1),
        says("group_size", 0),
        says("group_size", 8),
        says("group_size", "8"),
        says("group_size", 2**31),
        says("group_size", 2**70),
        lambda _, described: described["layers"].pop(QUERY),
        lambda _, described: described["layers"].update({"encoder.layer.9": described["layers"][QUERY]}),
        table("layers", {}),
        lambda _, described: described["layers"].update({QUERY: "static"}),
        lambda _, described: described["layers"].update({QUERY: {"kind": "static"}}),
        table("layers", []),
        table("tensors", []),
        table("tensors", {"a": {"dtype": "int8", "shape": [1], "axis": None, "group_size": None}}),
        table("recipe", {"weights": "int99"}),
        table("recipe", "int8"),
        table("recipe", [1]),
        table("recipe", 3),
        table("recipe", {"group_size": 2**31}),
        table("version", "1"),
    ],
)
def test_changed_folders(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    qlm.quantize_model(qlm.load(folder), "static-int8", calibration=TEXTS).save(tmp_path / "saved")
    edit(tmp_path / "saved", lambda *_: None)
    qlm.load(tmp_path / "saved")
    edit(tmp_path / "saved", change)
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        qlm.load(tmp_path / "saved")


@pytest.mark.parametrize(
    "change",
    [says("dtype", "int4"), says("dtype", "int3"), table("version", 2), table("recipe", {"weights": "int3"})],
)
def test_folders_of_later_versions(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    qlm.quantize_model(qlm.load(folder), "static-int8", calibration=TEXTS).save(tmp_path / "saved")
    edit(tmp_path / "saved", change)
    with pytest.raises(UnsupportedError, match=r"model\.safetensors"):
        qlm.load(tmp_path / "saved")


def test_quantized_weights_of_another_program(folder: Path, tmp_path: Path) -> None:
    """They come without a recipe; what is done to their activations outlives a save all the same."""
    qlm.quantize_model(qlm.load(folder), "weight-only-int8").save(tmp_path / "saved")
    edit(tmp_path / "saved", lambda _, described: [described.pop(key) for key in ("recipe", "layers")])
    weight_only, dynamic = qlm.load(tmp_path / "saved"), qlm.load(tmp_path / "saved", activations="dynamic")
    assert weight_only.recipe is None
    assert dynamic.classify(TEXTS).tobytes() != weight_only.classify(TEXTS).tobytes()
    for model in (weight_only, dynamic):
        model.save(tmp_path / "again")
        assert qlm.load(tmp_path / "again").classify(TEXTS).tobytes() == model.classify(TEXTS).tobytes()
