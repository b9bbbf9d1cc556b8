"""Folders that are not what they should be, and hub caches that are: every case by what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.checkpoints import safetensors_bytes, tiny_bert

import qlm
from qlm import FormatError, UnsupportedError
from qlm.formats.tensors import tensors as read_tensors

MISSING = object()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_bert(tmp_path / "model", labels=["no", "yes"])


def change_json(path: Path, key: str, value: Any) -> None:
    content = json.loads(path.read_text())
    if value is MISSING:
        del content[key]
    else:
        content[key] = value
    path.write_text(json.dumps(content))


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with read_tensors(folder / "model.safetensors") as stored:
        values: dict[str, Any] = {name: np.asarray(stored[name]) for name in stored}
    change(values)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(values))


def refused(folder: Path, file: str, key: str | None = None) -> FormatError:
    with pytest.raises(FormatError) as caught:
        qlm.load(folder)
    assert caught.value.file is not None
    assert caught.value.file.endswith(file)
    if key is not None:
        assert caught.value.key == key
    return caught.value


SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("value", [MISSING, -1, 2**40, "32", 32.0, True, None, [32], 10**399])
def test_sizes(folder: Path, key: str, value: Any) -> None:
    change_json(folder / "config.json", key, value)
    refused(folder, "config.json", key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", 5),
        ("hidden_size", 0),
        ("type_vocab_size", 0),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", "1e-12"),
        ("layer_norm_eps", -1.0),
        ("layer_norm_eps", 1e300),
        ("layer_norm_eps", 10**399),
        ("layer_norm_eps", False),
        ("hidden_act", 3),
        ("is_decoder", 1),
        ("architectures", "BertModel"),
        ("architectures", [1]),
        ("model_type", 7),
        ("id2label", []),
        ("id2label", {}),
        ("id2label", {"0": "no", "2": "yes"}),
        ("id2label", {"0": "no", "1": 1}),
        ("qlm", 1),
        ("qlm", {"version": 0}),
    ],
)
def test_config_values(folder: Path, key: str, value: Any) -> None:
    change_json(folder / "config.json", key, value)
    refused(folder, "config.json", key)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("hidden_act", "mish", "mish"),
        ("position_embedding_type", "relative_key", "relative_key"),
        ("is_decoder", True, "is_decoder"),
        ("add_cross_attention", True, "add_cross_attention"),
        ("quantization_config", {"quant_method": "gptq"}, "quantization_config"),
        ("architectures", ["BertForTokenClassification"], "BertForTokenClassification"),
        ("model_type", "roberta", "BertForSequenceClassification"),
        ("qlm", {"version": 2}, "newer"),
    ],
)
def test_what_qlm_does_not_run(folder: Path, key: str, value: Any, word: str) -> None:
    change_json(folder / "config.json", key, value)
    with pytest.raises(UnsupportedError, match=word):
        qlm.load(folder)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "tf_model.h5", None])
def test_other_families_are_named(folder: Path, weights: str | None) -> None:
    """Before anything is said of their weights, which may be in any form."""
    config = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    stored = folder / "model.safetensors"
    stored.unlink() if weights is None else stored.rename(folder / weights)
    with pytest.raises(UnsupportedError, match="T5ForConditionalGeneration"):
        qlm.load(folder)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff{}", b'{"a": 1, "a": 2}', b"[" * 10**6, b"\0" * 100])
def test_config_that_is_no_object(folder: Path, data: bytes) -> None:
    (folder / "config.json").write_bytes(data)
    refused(folder, "config.json")


QUERY = "encoder.layer.0.attention.self.query"


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.pop(name)


def put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.update({name: value})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (drop(f"{QUERY}.weight"), f"{QUERY}.weight"),
        (drop("embeddings.word_embeddings.weight"), "embeddings.word_embeddings.weight"),
        (drop("embeddings.LayerNorm.bias"), "embeddings.LayerNorm.bias"),
        (drop("classifier.weight"), "classifier.weight"),
        (drop("pooler.dense.weight"), "pooler.dense.weight"),
        (put(f"{QUERY}.weight", np.zeros((32, 31), np.float32)), f"{QUERY}.weight"),
        (put(f"{QUERY}.weight", np.zeros((1024,), np.float32)), f"{QUERY}.weight"),
        (put(f"{QUERY}.weight", np.zeros((32, 32), np.int8)), f"{QUERY}.weight"),
        (put(f"{QUERY}.bias", np.zeros(33, np.float32)), f"{QUERY}.bias"),
        (put("classifier.weight", np.zeros((3, 32), np.float32)), "classifier.weight"),
        (put(f"bert.{QUERY}.weight", np.zeros((32, 32), np.float32)), f"bert.{QUERY}.weight"),
        (put("encoder.layer.2.output.dense.weight", np.zeros((32, 64), np.float32)), "num_hidden_layers"),
    ],
)
def test_tensors(folder: Path, change: Callable[[dict[str, Any]], None], key: str) -> None:
    change_tensors(folder, change)
    refused(folder, "config.json" if key == "num_hidden_layers" else "model.safetensors", key)


def test_missing_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        qlm.load(tmp_path / "absent")
    with pytest.raises(NotADirectoryError):
        qlm.load(folder / "config.json")
    with pytest.raises(TypeError, match="path"):
        qlm.load(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NUL"):
        qlm.load("a\0b")
    (folder / "model.safetensors").rename(folder / "model.gguf")
    with pytest.raises(UnsupportedError, match="GGUF"):
        qlm.load(folder)
    with pytest.raises(UnsupportedError, match="GGUF"):
        qlm.load(folder / "model.gguf")
    (folder / "model.gguf").rename(folder / "pytorch_model.bin")
    with pytest.raises(FormatError, match="pickle"):
        qlm.load(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match="safetensors"):
        qlm.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        qlm.load(folder)


# ---- indexes ----------------------------------------------------------------------------------------------------

BAD_NAMES = [
    "", ".", "..", "/etc/passwd", "../model.safetensors", "a/../b.safetensors", "sub/model.safetensors",
    "./model.safetensors", "model.safetensors/", "//host/share", "a\\b.safetensors", "..\\b.safetensors",
    "C:\\model.safetensors", "\\\\host\\b.safetensors", "a\0.safetensors", "model.safetensors\0",
    "http://example.org/model.safetensors", "https://example.org/m.safetensors", "file:///etc/passwd",
    "~/model.safetensors/x", "x" * 300 + ".safetensors", "model.bin", "model.safetensors.index.json", "config.json",
    "absent.safetensors", "model.SAFETENSORS", " ", "-", "*", "model-0000?-of-00002.safetensors",
    "\n.safetensors", "é" * 200 + ".safetensors", "/proc/self/mem", "/dev/zero", "....//model.safetensors",
    "model.safetensors/../../x", "..", "%2e%2e%2fmodel.safetensors", "sub//x.safetensors", "/", "\\", "\0",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_in_an_index(tmp_path: Path, name: str) -> None:
    folder = tiny_bert(tmp_path / "model", shards=2)
    (tmp_path / "model.safetensors").write_bytes(b"outside")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][f"{QUERY}.weight"] = name
    path.write_text(json.dumps(index))
    refused(folder, "index.json")


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        {"weight_map": {}},
        {"weight_map": []},
        {"weight_map": {"a": 1}},
        {"weight_map": {"a": None}},
        {"weight_map": {"not.there": "model-00001-of-00002.safetensors"}},
    ],
)
def test_indexes(tmp_path: Path, index: Any) -> None:
    folder = tiny_bert(tmp_path / "model", shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "index.json")


def test_a_shard_that_is_gone(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "model", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    refused(folder, "index.json", "weight_map")


def test_a_total_size_that_is_wrong_is_no_matter(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "model", shards=2)
    change_json(folder / "model.safetensors.index.json", "metadata", {"total_size": -1})
    qlm.load(folder)


# ---- links ------------------------------------------------------------------------------------------------------


def hub_cache(root: Path, **options: Any) -> Path:
    """A snapshot as the hub's client lays it out: every file is a link into blobs."""
    plain = tiny_bert(root / "plain", **options)
    repository = root / "models--someone--tiny"
    snapshot = repository / "snapshots" / "0123abcd"
    (repository / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(plain.rglob("*"))):
        if file.is_file():
            target = snapshot / file.relative_to(plain)
            target.parent.mkdir(parents=True, exist_ok=True)
            blob = repository / "blobs" / f"{number:064x}"
            shutil.copy(file, blob)
            target.symlink_to(os.path.relpath(blob, target.parent))
    return snapshot


@pytest.mark.parametrize("shards", [1, 2])
def test_a_hub_cache(tmp_path: Path, shards: int) -> None:
    snapshot = hub_cache(tmp_path, shards=shards)
    ids = [[1, 2, 3]]
    expected = qlm.load(tmp_path / "plain").forward(ids).last_hidden_state
    assert qlm.load(snapshot).forward(ids).last_hidden_state.tobytes() == expected.tobytes()
    assert qlm.load(snapshot).tokenizer is not None


def test_links_inside_the_folder(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "model.safetensors").rename(folder / "inner" / "w.safetensors")
    (folder / "model.safetensors").symlink_to("inner/w.safetensors")
    qlm.load(folder)


def test_a_link_to_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    qlm.load(tmp_path / "link")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_links_that_leave(folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert "link" in str(refused(folder, name))


def test_links_that_leave_a_hub_cache(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path)
    other = tmp_path / "models--someone--other" / "blobs"
    other.mkdir(parents=True)
    link = snapshot / "model.safetensors"
    shutil.copy(link.resolve(), other / "x")
    for target in (other / "x", tmp_path / "plain" / "model.safetensors"):
        link.unlink()
        link.symlink_to(target)
        refused(snapshot, "model.safetensors")


def test_a_folder_that_only_looks_like_a_cache(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path)
    renamed = tmp_path / "repository"
    (tmp_path / "models--someone--tiny").rename(renamed)
    refused(renamed / "snapshots" / snapshot.name, "config.json")


def test_special_files(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    refused(folder, "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    refused(folder, "model.safetensors")


def test_a_loop_of_links(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("model.safetensors")
    with pytest.raises((OSError, FormatError)):
        qlm.load(folder)


# ---- packages ---------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "site" / "tiny_model_package"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return root


def test_a_package_is_found_and_not_imported(package: Path) -> None:
    (package / "aaa").mkdir()
    tiny_bert(package / "data" / "model")
    (package / "data" / "model" / "1_Pooling").mkdir()
    (package / "data" / "model" / "1_Pooling" / "config.json").write_text("{}")
    assert qlm.load("pkg:tiny_model_package").family == "bert"
    assert qlm.load("pkg:tiny-model-package").family == "bert"
    assert "tiny_model_package" not in sys.modules


@pytest.mark.parametrize("name", ["tiny_model_package", "no_such_package", "os", "os.path", "", "..", "a/b", "qlm\0"])
def test_packages_without_a_model(package: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        qlm.load(f"pkg:{name}")


def test_a_missing_extra_is_reported_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"qlm\[llm\]"):
        qlm.load("/no/such/folder")
