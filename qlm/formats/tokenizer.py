"""Texts to token ids, by the `tokenizers` library, from tokenizer.json or BERT's vocab.txt.

What the file says about padding is ignored: sequences are never padded here.  Files are checked before the library
sees them, as it takes ids that no table holds, and fails late on what is missing.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from ..errors import FormatError, shown
from . import strictjson

FILE, VOCABULARY, SETTINGS = "tokenizer.json", "vocab.txt", "tokenizer_config.json"
MAX_ADDED = 1_000_000
# Characters of a long text that are looked at first, for each token that is wanted.
CHARACTERS_A_TOKEN = 32
# How far before that a word's end is looked for, and what ends one in every normalizer.
LOOK_BACK, SPACES = 1000, " \t\n\r"
# Characters whose encoding takes a tenth of a second or so.
LONG_TEXT = 200_000


class Tokens(NamedTuple):
    """A text as the model reads it: ids and, beside each, the number of its segment."""

    ids: list[int]
    type_ids: list[int]


def require_library() -> None:
    """ImportError, naming the extra, where the `tokenizers` library is missing; imports nothing."""
    if importlib.util.find_spec("tokenizers") is None:
        raise ImportError("models need the tokenizers library: pip install 'qlm[llm]'")


def library() -> ModuleType:
    """The `tokenizers` library."""
    require_library()
    return importlib.import_module("tokenizers")


class Tokenizer:
    """A checkpoint's tokenizer.  `max_length`: tokens of a text at most, special ones included; longer texts are cut.
    `backend`: the library's object."""

    def __init__(self, backend: Any, max_length: int, *, file: str, lower_case: bool = False) -> None:
        special = backend.num_special_tokens_to_add(False)
        if max_length <= special:
            reason = f"a limit of {max_length} tokens leaves no room beside {special} special ones"
            raise FormatError(reason, file=file)
        direction = (backend.truncation or {}).get("direction", "right")
        backend.no_padding()
        backend.enable_truncation(max_length, direction=direction)
        self.backend = backend
        self.max_length = max_length
        self._lower_case = lower_case
        self._file = file
        self._cuts_early = direction == "right" and _splits_at_spaces(backend)
        self._splits_chinese = self._cuts_early and bool(backend.normalizer.handle_chinese_chars)

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text's tokens.  TypeError: not a string.  ValueError: half a surrogate pair."""
        return [self._encode(text, index) for index, text in enumerate(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        text: str = self.backend.decode(list(ids))
        return text

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, added ones included."""
        size: int = self.backend.get_vocab_size()
        return size

    def _encode(self, text: str, index: int) -> Tokens:
        if not isinstance(text, str):
            raise TypeError(f"texts must be strings, got {shown(text)} at index {index}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"texts must be valid Unicode, got {shown(text)} at index {index}") from None
        if self._lower_case:
            text = text.lower()
        encoding = self._encode_start(text)
        return Tokens(encoding.ids, encoding.type_ids)

    def _encode_start(self, text: str) -> Any:
        """The encoding of a text, of which only a beginning is read where that holds enough tokens.  Words do not see
        each other, so that a beginning that ends with a word has the tokens that the whole begins with."""
        size = self.max_length * CHARACTERS_A_TOKEN
        while self._cuts_early and size < len(text):
            end = self._end_of_word(text, size)
            if end > 0:
                encoding = self._call(text[:end])
                if encoding.overflowing:
                    return encoding
            size *= 4
        return self._call(text)

    def _end_of_word(self, text: str, size: int) -> int:
        """The last place before `size` where a word ends for sure: at a space, or before a Chinese character where the
        normalizer sets spaces around those.  0 or less: there is none."""
        if self._splits_chinese:
            for end in range(size, max(size - LOOK_BACK, 0), -1):
                if text[end] in SPACES or "\u4e00" <= text[end] <= "\u9fff":
                    return end
        return max(text.rfind(space, 0, size) for space in SPACES)

    def _call(self, text: str) -> Any:
        try:
            return self.backend.encode(text) if len(text) < LONG_TEXT else _encode_aside(self.backend, text)
        except Exception as error:
            raise FormatError(f"the tokenizer cannot encode {shown(text)}: {error}", file=self._file) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vocab_size} tokens, max_length={self.max_length})"


def _encode_aside(backend: Any, text: str) -> Any:
    """backend.encode(text) in a thread of its own, without Python's lock, so that Ctrl-C need not wait for it."""
    found: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.extend(backend.encode_batch([text]))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


def _splits_at_spaces(backend: Any) -> bool:
    kinds = type(backend.normalizer).__name__, type(backend.pre_tokenizer).__name__
    return kinds == ("BertNormalizer", "BertPreTokenizer")


# ---- reading -----------------------------------------------------------------------------------------------------


def read_tokenizer(
    files: Mapping[str, bytes],
    folder: str,
    *,
    vocab_size: int,
    positions: int,
    max_length: int | None = None,
    lower_case: bool = False,
) -> Tokenizer | None:
    """The tokenizer among a checkpoint's files; None where it has none.

    vocab_size, positions: the model's; no id may reach the former, no text is longer than the latter.  max_length: a
    limit that goes before the tokenizer's own.  FormatError: a file that is not what it should be.
    """
    settings = _settings(files, folder)
    if FILE in files:
        path = os.path.join(folder, FILE)
        backend, own_limit = _from_json(files[FILE], path, vocab_size)
    elif VOCABULARY in files:
        path = os.path.join(folder, VOCABULARY)
        backend, own_limit = _from_vocabulary(files[VOCABULARY], path, vocab_size, settings, folder), None
    else:
        return None
    limits = [limit for limit in (max_length, own_limit, _model_max_length(settings, folder)) if limit is not None]
    return Tokenizer(backend, min(limits[0] if limits else positions, positions), file=path, lower_case=lower_case)


def _settings(files: Mapping[str, bytes], folder: str) -> dict[str, Any]:
    if SETTINGS not in files:
        return {}
    path = os.path.join(folder, SETTINGS)
    settings = strictjson.parse(files[SETTINGS], file=path)
    if not isinstance(settings, dict):
        raise FormatError("not a JSON object", file=path)
    return settings


def _model_max_length(settings: Mapping[str, Any], folder: str) -> int | None:
    """tokenizer_config.json's limit; files without one say 1e30."""
    value = settings.get("model_max_length")
    if value is None or (isinstance(value, (int, float)) and value >= 1e9):
        return None
    if type(value) is not int or value <= 0:
        path = os.path.join(folder, SETTINGS)
        raise FormatError(f"must be an integer > 0, got {shown(value)}", file=path, key="model_max_length")
    return value


def _from_json(data: bytes, path: str, vocab_size: int) -> tuple[Any, int | None]:
    root = strictjson.parse(data, file=path)
    if not isinstance(root, dict) or not isinstance(root.get("model"), dict):
        raise FormatError("not a tokenizer: an object with a model is needed", file=path, key="model")
    _check_model(root["model"], path, vocab_size)
    _check_added(root.get("added_tokens"), path, vocab_size)
    limit = _truncation(root.get("truncation"), path)
    return _build(lambda: library().Tokenizer.from_str(data.decode()), path), limit


def _build(make: Any, path: str) -> Any:
    try:
        return make()
    except (ImportError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic in the library is no Exception
        if type(error).__name__ == "PanicException" or isinstance(error, Exception):
            _refuse(f"not a tokenizer that the library takes: {error}", path, None, error)
        raise


def _check_model(model: dict[str, Any], path: str, vocab_size: int) -> None:
    vocab = model.get("vocab")
    if isinstance(vocab, list):  # Unigram: the index is the id
        if len(vocab) > vocab_size:
            raise FormatError(f"{len(vocab)} tokens, config.json has {vocab_size}", file=path, key="vocab")
        return
    if not isinstance(vocab, dict):
        raise FormatError("must be a JSON object", file=path, key="vocab")
    _check_ids(list(vocab.items()), path, vocab_size)
    unknown = model.get("unk_token")
    if model.get("type") == "WordPiece" and not (isinstance(unknown, str) and unknown in vocab):
        raise FormatError(f"the vocabulary lacks {shown(unknown)}", file=path, key="unk_token")


def _check_ids(items: list[tuple[str, Any]], path: str, vocab_size: int) -> None:
    owners: dict[int, str] = {}
    for token, number in items:
        _check_id(number, path, token, vocab_size)
        if owners.setdefault(number, token) != token:
            raise FormatError(f"the id {number} is that of {shown(owners[number])} too", file=path, key=token)


def _check_id(number: Any, path: str, token: str, vocab_size: int) -> None:
    if type(number) is not int:
        raise FormatError(f"an id must be an integer, got {shown(number)}", file=path, key=token)
    if not 0 <= number < vocab_size:
        reason = f"the id {shown(number)} is outside config.json's vocab_size {vocab_size}"
        raise FormatError(reason, file=path, key=token)


def _check_added(added: Any, path: str, vocab_size: int) -> None:
    if added is None:
        return
    if not isinstance(added, list) or len(added) > MAX_ADDED:
        raise FormatError("must be a list", file=path, key="added_tokens")
    for token in added:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise FormatError(
                f"a token must be an object with a content, got {shown(token)}", file=path, key="added_tokens"
            )
        _check_id(token.get("id"), path, token["content"], vocab_size)


def _truncation(value: Any, path: str) -> int | None:
    if value is None:
        return None
    limit = value.get("max_length") if isinstance(value, dict) else None
    if type(limit) is not int or limit <= 0:
        raise FormatError(f"max_length must be an integer > 0, got {shown(limit)}", file=path, key="truncation")
    return limit


def _from_vocabulary(data: bytes, path: str, vocab_size: int, settings: Mapping[str, Any], folder: str) -> Any:
    """BERT's WordPiece tokenizer, with what tokenizer_config.json says about case and special tokens."""
    tokens = _lines(data, path)
    vocab = {token: index for index, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        twice = next(token for index, token in enumerate(tokens) if vocab[token] != index)
        raise FormatError(f"{shown(twice)} stands there twice", file=path)
    if len(tokens) > vocab_size:
        raise FormatError(f"{len(tokens)} tokens, config.json has a vocab_size of {vocab_size}", file=path)
    special = {
        key: _special(settings, key, default, vocab, path, folder)
        for key, default in (("unk_token", "[UNK]"), ("cls_token", "[CLS]"), ("sep_token", "[SEP]"))
    }
    flags = {
        key: _flag(settings, key, default, folder)
        for key, default in (("do_lower_case", True), ("tokenize_chinese_chars", True), ("strip_accents", None))
    }
    return _build(lambda: _word_piece(vocab, special, flags), path)


def _word_piece(vocab: dict[str, int], special: Mapping[str, str], flags: Mapping[str, bool | None]) -> Any:
    tokenizers = library()
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocab, unk_token=special["unk_token"], max_input_chars_per_word=100)
    )
    backend.add_special_tokens([token for token in ("[PAD]", *special.values(), "[MASK]") if token in vocab])
    backend.normalizer = tokenizers.normalizers.BertNormalizer(
        lowercase=flags["do_lower_case"],
        handle_chinese_chars=flags["tokenize_chinese_chars"],
        strip_accents=flags["strip_accents"],
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    sep, cls = special["sep_token"], special["cls_token"]
    backend.post_processor = tokenizers.processors.BertProcessing((sep, vocab[sep]), (cls, vocab[cls]))
    backend.decoder = tokenizers.decoders.WordPiece()
    return backend


def _lines(data: bytes, path: str) -> list[str]:
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError("not valid UTF-8", file=path, offset=error.start) from None
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _special(
    settings: Mapping[str, Any], key: str, default: str, vocab: Mapping[str, int], path: str, folder: str
) -> str:
    value = settings.get(key, default)
    content = value.get("content") if isinstance(value, dict) else value
    if not isinstance(content, str):
        raise FormatError(f"must be a token, got {shown(value)}", file=os.path.join(folder, SETTINGS), key=key)
    if content not in vocab:
        raise FormatError(f"the vocabulary lacks {shown(content)}", file=path, key=key)
    return content


def _flag(settings: Mapping[str, Any], key: str, default: bool | None, folder: str) -> bool | None:
    value = settings.get(key, default)
    if value is not None and not isinstance(value, bool):
        raise FormatError(f"must be true or false, got {shown(value)}", file=os.path.join(folder, SETTINGS), key=key)
    return default if value is None else value


def _refuse(reason: str, path: str, key: str | None, cause: BaseException) -> NoReturn:
    raise FormatError(reason, file=path, key=key) from cause
