"""Sentence embeddings by the folder's own settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.checkpoints import sentences, tiny_bert, write_pooling

import qlm
from qlm import FormatError, UnsupportedError


def expected(model: qlm.Model, text: str, mode: str) -> np.ndarray:
    assert model.tokenizer is not None
    hidden = model.forward([model.tokenizer.encode([text])[0].ids]).last_hidden_state[0].astype(np.float64)
    pooled = {"mean": hidden.mean(0), "max": hidden.max(0), "cls": hidden[0], "lasttoken": hidden[-1]}
    return pooled[mode]


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "lasttoken"])
@pytest.mark.parametrize("normalize", [False, True])
def test_modes(tmp_path: Path, mode: str, normalize: bool) -> None:
    folder = tiny_bert(tmp_path / "m")
    write_pooling(folder, mode=mode, normalize=normalize)
    model = qlm.load(folder)
    for text, vector in zip(sentences(5), model.embed(sentences(5)), strict=True):
        wanted = expected(model, text, mode)
        unit = wanted / np.linalg.norm(wanted)
        np.testing.assert_allclose(vector, unit if normalize else wanted, atol=1e-5)
        np.testing.assert_allclose(model.embed(text, normalize=True), unit, atol=1e-5)
        np.testing.assert_allclose(model.embed(text, normalize=False), wanted, atol=1e-5)


def test_without_settings_the_mean(tmp_path: Path) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m"))
    np.testing.assert_allclose(model.embed("good film"), expected(model, "good film", "mean"), atol=1e-5)


def test_a_pooling_folder_without_modules(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    write_pooling(folder, mode="cls")
    (folder / "modules.json").unlink()
    model = qlm.load(folder)
    np.testing.assert_allclose(model.embed("good film"), expected(model, "good film", "cls"), atol=1e-5)


def test_a_mode_by_its_word(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    write_pooling(folder, mode="cls")
    switches = qlm.load(folder).embed("good film")
    put(folder, "1_Pooling/config.json", {"pooling_mode": "cls"})
    assert qlm.load(folder).embed("good film").tobytes() == switches.tobytes()


def test_settings_survive_a_save(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    write_pooling(folder, mode="cls", max_length=9)
    model = qlm.load(folder)
    model.save(tmp_path / "saved")
    loaded = qlm.load(tmp_path / "saved")
    assert loaded.folder.pooling == model.folder.pooling
    assert loaded.embed(sentences(3)).tobytes() == model.embed(sentences(3)).tobytes()


def put(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def module(kind: Any, path: Any) -> dict[str, Any]:
    return {"idx": 0, "name": "0", "path": path, "type": kind}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modules.json", {}),
        ("modules.json", [3]),
        ("modules.json", [module(3, "")]),
        ("modules.json", [module("sentence_transformers.models.Pooling", None)]),
        ("modules.json", [module("sentence_transformers.models.Pooling", "../outside")]),
        ("modules.json", [module("sentence_transformers.models.Pooling", "/etc")]),
        ("modules.json", [module("sentence_transformers.models.Pooling", "..")]),
        ("modules.json", [module("sentence_transformers.models.Pooling", "absent")]),
        ("1_Pooling/config.json", []),
        ("1_Pooling/config.json", {"word_embedding_dimension": 33}),
        ("1_Pooling/config.json", {"word_embedding_dimension": "32"}),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": 1}),
        ("1_Pooling/config.json", {"pooling_mode": ["cls"]}),
        ("sentence_bert_config.json", []),
        ("sentence_bert_config.json", {"max_seq_length": 0}),
        ("sentence_bert_config.json", {"max_seq_length": "9"}),
        ("sentence_bert_config.json", {"max_seq_length": 2}),
        ("sentence_bert_config.json", {"do_lower_case": "no"}),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: Any) -> None:
    folder = tiny_bert(tmp_path / "m")
    write_pooling(folder)
    put(folder, name, content)
    with pytest.raises(FormatError):
        qlm.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("modules.json", [module("sentence_transformers.models.Dense", "2_Dense")], "Dense"),
        ("modules.json", [module("os.system", "")], "system"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "several"),
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "weightedmean"),
    ],
)
def test_what_qlm_does_not_run(tmp_path: Path, name: str, content: Any, word: str) -> None:
    folder = tiny_bert(tmp_path / "m")
    write_pooling(folder)
    put(folder, name, content)
    with pytest.raises(UnsupportedError, match=word):
        qlm.load(folder)
