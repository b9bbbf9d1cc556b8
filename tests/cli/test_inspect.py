"""inspect: tensors of a file, layers of a model."""

import json
import resource

import numpy as np
import pytest
from models.checkpoints import safetensors_bytes, tiny_bert

import qlm as package


def test_tensors_of_a_file(qlm, encoder):
    path = encoder / "model.safetensors"
    found = json.loads(qlm("inspect", path, "--json").out)
    tensors = package.tensors(path)
    assert set(found["tensors"]) == set(tensors)
    for name, row in found["tensors"].items():
        assert row == {"dtype": "float32", "shape": list(tensors[name].shape), "nbytes": tensors[name].nbytes}
    assert found["nbytes"] == sum(array.nbytes for array in tensors.values())
    text = qlm("inspect", path).out
    assert all(name in text for name in tensors)
    assert f"{len(tensors)} tensors" in text


def test_tensors_of_a_saved_file_of_arrays(qlm, tmp_path):
    path = tmp_path / "arrays.safetensors"
    q = package.quantize(np.linspace(-1, 1, 35, dtype=np.float32).reshape(5, 7), "int4", axis=0)
    package.save_tensors(path, {"codes": q, "scalar": np.array(3.0)})
    found = json.loads(qlm("inspect", path, "--json").out)["tensors"]
    assert found["codes"]["dtype"] == "int4"
    assert found["codes"]["shape"] == [5, 7]
    assert found["codes"]["nbytes"] == q.nbytes == 20 + 4 * 5
    assert found["scalar"] == {"dtype": "float64", "shape": [], "nbytes": 8}


@pytest.mark.parametrize("recipe", [None, "dynamic-int8", "weight-only-int4"])
def test_layers_of_a_model(qlm, classifier, tmp_path, recipe):
    folder = classifier
    if recipe:
        folder = tmp_path / "model"
        qlm("quantize", classifier, folder, "--recipe", recipe)
    found = json.loads(qlm("inspect", folder, "--json").out)
    model = package.load(folder)
    assert list(found["layers"]) == list(model.layers)
    for name, row in found["layers"].items():
        layer = model.layers[name]
        assert row == {"shape": list(layer.shape), "bits": layer.bits, "nbytes": layer.nbytes}
    assert (found["family"], found["num_parameters"], found["nbytes"]) == ("bert", model.num_parameters, model.nbytes)
    assert found["labels"] == ["negative", "positive"]
    text = qlm("inspect", folder).out
    assert all(name in text for name in model.layers)


def test_a_family_that_qlm_does_not_run_is_still_listed(qlm, tmp_path):
    folder = tiny_bert(tmp_path / "model", config={"model_type": "mamba", "architectures": ["MambaModel"]}, shards=2)
    found = json.loads(qlm("inspect", folder, "--json").out)
    assert "pooler.dense.weight" in found["tensors"]
    assert len(found["tensors"]) == 39


def test_a_family_that_qlm_does_not_run_without_weights(qlm, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    assert "GPT2LMHeadModel is not supported" in qlm("inspect", tmp_path, status=1).err.replace("'", "")


def test_nine_thousand_tensors_are_quick(qlm, tmp_path):
    path = tmp_path / "many.safetensors"
    names = (f"model.layers.{i // 10}.block_sparse_moe.experts.{i % 10}.w1.weight" for i in range(9000))
    path.write_bytes(safetensors_bytes({name: np.zeros((2, 3), np.float16) for name in names}))
    for words in (["inspect", path], ["inspect", path, "--json"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        text = qlm(*words).out
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # 2 s are promised; of the processor's time, since others may have the machine.
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5
        assert text.count("experts.") == 9000


def test_a_terminal_sets_the_width(on_terminal, tmp_path):
    path = tmp_path / "long.safetensors"
    path.write_bytes(safetensors_bytes({"a" * 150: np.zeros((2, 3), np.float32), "b": np.zeros(1, np.int8)}))
    shown = on_terminal("inspect", path)
    assert "…" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert max(map(len, on_terminal("inspect", path, columns=200).splitlines())) > 150


@pytest.mark.parametrize("content", [b"", b"not a model", b"# README\n\nmarkdown\n", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_something_else(qlm, tmp_path, content):
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    assert "file.bin: not a safetensors file" in qlm("inspect", path, status=1).err
