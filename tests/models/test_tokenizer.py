"""Texts to tokens: limits, both kinds of files, and files that are not what they should be."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.checkpoints import sentences, tiny_bert, vocabulary, write_pooling

import qlm
from qlm import FormatError

LONG = "good bad " * 100


def tokens(model: qlm.Model, text: str) -> list[int]:
    assert model.tokenizer is not None
    return model.tokenizer.encode([text])[0].ids


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))


# ---- limits -----------------------------------------------------------------------------------------------------


def test_the_limit_is_the_nearest_to_the_model(tmp_path: Path) -> None:
    """sentence_bert_config.json before tokenizer.json before tokenizer_config.json before the positions."""
    folder = tiny_bert(tmp_path / "m", positions=40)
    assert len(tokens(qlm.load(folder), LONG)) == 40
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 30}')
    assert len(tokens(qlm.load(folder), LONG)) == 30
    rewrite(folder, lambda content: content.update(truncation=truncation(20)))
    assert len(tokens(qlm.load(folder), LONG)) == 20
    write_pooling(folder, max_length=25)
    assert len(tokens(qlm.load(folder), LONG)) == 25
    write_pooling(folder, max_length=1000)
    assert len(tokens(qlm.load(folder), LONG)) == 40


def truncation(limit: Any) -> dict[str, Any]:
    return {"direction": "Right", "max_length": limit, "strategy": "LongestFirst", "stride": 0}


def test_no_limit_in_tokenizer_config(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m", positions=40)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert len(tokens(qlm.load(folder), LONG)) == 40


def test_padding_in_the_file_is_ignored(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    padding = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
    rewrite(folder, lambda content: content.update(padding={**padding, "pad_type_id": 0, "pad_token": "[PAD]"}))
    assert len(tokens(qlm.load(folder), "good")) == 3


def test_a_long_text_has_the_tokens_of_its_beginning(tmp_path: Path) -> None:
    """Which is all that is looked at, so that a text of any length takes the same time."""
    model = qlm.load(tiny_bert(tmp_path / "m"))
    assert model.tokenizer is not None
    whole = model.tokenizer.backend.encode(LONG * 100).ids
    assert tokens(model, LONG * 100) == whole
    assert tokens(model, "x" * 50_000) == model.tokenizer.backend.encode("x" * 50_000).ids
    spaces = " " * 100_000 + "good"
    assert tokens(model, spaces) == model.tokenizer.backend.encode(spaces).ids
    assert len(tokens(model, LONG * 100_000)) == 64


ATOMS = (
    *(
        "good",
        "a",
        "\n",
        "\t",
        " ",
        "\r\n",
        "\u4e2d",
        "\u6587",
        "e\u0301",
        "\u0301",
        ".",
        "[SEP]",
        "##s",
        "\x00",
        "\x1f",
    ),
    *("\u200b", "\u3000", "\u3042", "\U00020000", "\ufb01", "\u0130", "x" * 120),
)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("max_length", [4, 40])
def test_a_beginning_ends_where_a_word_does(tmp_path: Path, seed: int, max_length: int) -> None:
    random = np.random.default_rng(seed)
    model = qlm.load(tiny_bert(tmp_path / "m", max_length=max_length))
    assert model.tokenizer is not None
    atoms = random.choice(ATOMS, random.integers(1, len(ATOMS)), replace=False)
    text = "".join(random.choice(atoms, random.choice([500, 6000])))
    assert tokens(model, text) == model.tokenizer.backend.encode(text).ids


@pytest.mark.parametrize("text", ["good\n", "good\t", "\u4e2d"])
def test_of_a_long_text_without_spaces_a_beginning_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m"))
    assert model.tokenizer is not None
    call, lengths = model.tokenizer._call, []
    monkeypatch.setattr(model.tokenizer, "_call", lambda part: (lengths.append(len(part)), call(part))[1])
    assert len(tokens(model, text * 3_000_000)) == 64
    assert max(lengths) < 10_000


def test_ctrl_c_does_not_wait_for_an_endless_word(tmp_path: Path) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m"))
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        model.embed("x" * 10_000_000)
    assert time.monotonic() - begin < 2  # its encoding takes four seconds


def test_truncation_from_the_left(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    rewrite(folder, lambda content: content.update(truncation={**truncation(5), "direction": "Left"}))
    vocab = vocabulary()
    assert tokens(qlm.load(folder), "a b c d e")[1:-1] == [vocab[letter] for letter in "cde"]


def test_lower_casing_of_sentence_transformers(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    rewrite(folder, lambda content: content["normalizer"].update(lowercase=False))
    assert tokens(qlm.load(folder), "GOOD") != tokens(qlm.load(folder), "good")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": null, "do_lower_case": true}')
    assert tokens(qlm.load(folder), "GOOD") == tokens(qlm.load(folder), "good")


# ---- vocab.txt --------------------------------------------------------------------------------------------------


def only_vocabulary(folder: Path, text: str | None = None) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n" if text is None else text)


def test_vocab_txt_is_the_same_tokenizer(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    texts = [*sentences(20), "GOOD, bad!", "naïve", "中文", ""]
    expected = [tokens(qlm.load(folder), text) for text in texts]
    only_vocabulary(folder)
    assert [tokens(qlm.load(folder), text) for text in texts] == expected


def test_case_by_tokenizer_config(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    only_vocabulary(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "cls_token": {"content": "[SEP]"}}')
    found = tokens(qlm.load(folder), "GOOD")
    vocab = vocabulary()
    assert found == [vocab["[SEP]"], vocab["[UNK]"], vocab["[SEP]"]]


@pytest.mark.parametrize(
    "text",
    ["", "good\n", "[UNK]\n[CLS]\n", "\n".join([*vocabulary(), "good"]), "\n".join(f"t{i}" for i in range(1000))],
)
def test_vocabularies_that_are_none(tmp_path: Path, text: str) -> None:
    folder = tiny_bert(tmp_path / "m")
    only_vocabulary(folder, text)
    with pytest.raises(FormatError, match=r"vocab\.txt"):
        qlm.load(folder)


def test_without_a_tokenizer_only_texts_fail(tmp_path: Path) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m", labels=["no", "yes"], tokenizer=False))
    assert model.tokenizer is None
    assert model.forward([[1, 2]]).logits is not None
    for call in (model.embed, model.classify):
        with pytest.raises(ValueError, match=r"tokenizer\.json"):
            call("good")


# ---- bad files --------------------------------------------------------------------------------------------------


def set_in(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_in("model", value=None),
        set_in("model", value=[]),
        set_in("model", "type", value="Nonsense"),
        set_in("model", "vocab", value=None),
        set_in("model", "vocab", value={}),
        set_in("model", "vocab", value="good"),
        set_in("model", "vocab", "good", value=-1),
        set_in("model", "vocab", "good", value=134),
        set_in("model", "vocab", "good", value=2**32),
        set_in("model", "vocab", "good", value=2**64),
        set_in("model", "vocab", "good", value=10**300),
        set_in("model", "vocab", "good", value="7"),
        set_in("model", "vocab", "good", value=7.0),
        set_in("model", "vocab", "good", value=True),
        set_in("model", "vocab", "good", value=None),
        set_in("model", "vocab", "good", value=1),
        set_in("model", "unk_token", value="[NONE]"),
        set_in("model", "unk_token", value=None),
        set_in("model", "unk_token", value=["[UNK]"]),
        set_in("model", "max_input_chars_per_word", value=-1),
        set_in("added_tokens", value={}),
        set_in("added_tokens", value=["[PAD]"]),
        set_in("added_tokens", value=[{"id": 10**9, "content": "x", "special": True}]),
        set_in("added_tokens", value=[{"id": -1, "content": "x"}]),
        set_in("added_tokens", value=[{"id": 1, "content": 3}]),
        set_in("truncation", value=3),
        set_in("truncation", value=truncation(0)),
        set_in("truncation", value=truncation(-1)),
        set_in("truncation", value=truncation(2**70)),
        set_in("truncation", value=truncation("128")),
        set_in("truncation", value=truncation(2)),
        set_in("padding", value=3),
        set_in("normalizer", value={"type": "Nonsense"}),
        set_in("pre_tokenizer", value=7),
        set_in("post_processor", value={"type": "BertProcessing"}),
        set_in("version", value="9.9"),
    ],
)
def test_values_in_tokenizer_json(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    folder = tiny_bert(tmp_path / "m")
    rewrite(folder, change)
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        qlm.load(folder)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"{}", b"\xff", b"[" * 10**6, b'{"model": {}, "model": {}}'])
def test_tokenizer_json_that_is_none(tmp_path: Path, data: bytes) -> None:
    folder = tiny_bert(tmp_path / "m")
    (folder / "tokenizer.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        qlm.load(folder)


@pytest.mark.parametrize(
    "settings", [[], {"model_max_length": 0}, {"model_max_length": "512"}, {"model_max_length": True}]
)
def test_bad_tokenizer_config(tmp_path: Path, settings: Any) -> None:
    folder = tiny_bert(tmp_path / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(FormatError, match=r"tokenizer_config\.json"):
        qlm.load(folder)


@pytest.mark.parametrize("settings", [{"do_lower_case": 1}, {"unk_token": 3}, {"cls_token": {"text": "[CLS]"}}])
def test_bad_settings_of_a_vocabulary(tmp_path: Path, settings: Any) -> None:
    folder = tiny_bert(tmp_path / "m")
    only_vocabulary(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(FormatError, match=r"tokenizer_config\.json"):
        qlm.load(folder)


# ---- texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (3, TypeError),
        (None, TypeError),
        (b"good", TypeError),
        (["good", 3], TypeError),
        ([b"good"], TypeError),
        (["good", "\ud800"], ValueError),
    ],
)
def test_bad_texts(tmp_path: Path, texts: Any, error: type[Exception]) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m"))
    with pytest.raises(error, match="texts"):
        model.embed(texts)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bad_batch_sizes(tmp_path: Path, size: Any, error: type[Exception]) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m"))
    with pytest.raises(error, match="batch_size"):
        model.embed(["good"], batch_size=size)


def test_iterables_of_texts(tmp_path: Path) -> None:
    model = qlm.load(tiny_bert(tmp_path / "m"))
    texts = sentences(7)
    expected = model.embed(texts).tobytes()
    assert model.embed(iter(texts)).tobytes() == expected
    assert model.embed(np.array(texts)).tobytes() == expected
    assert model.embed(tuple(texts), batch_size=2).tobytes() == expected
    assert model.embed(texts[3]).tobytes() == model.embed(texts)[3].tobytes()
