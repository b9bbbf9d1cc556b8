"""How token vectors become a sentence's: sentence-transformers' modules.json and what it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import FormatError, UnsupportedError, shown

MODULES, LIMITS = "modules.json", "sentence_bert_config.json"
DEFAULT_FOLDER = "1_Pooling"
# Names of the modes in _core.pool, by the switch in 1_Pooling/config.json.
MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}


class Files(Protocol):
    """What a checkpoint offers here."""

    path: str

    def json(self, name: str) -> object | None:
        """The value of a small JSON file, None where it is absent."""


@dataclass(frozen=True)
class Pooling:
    """mode: "mean", "cls", "max" or "lasttoken".  normalize: vectors of length 1.  max_length: tokens of a text at
    most, None where the folder sets no limit of its own.  lower_case: texts are lower-cased first."""

    mode: str = "mean"
    normalize: bool = False
    max_length: int | None = None
    lower_case: bool = False


def read_pooling(files: Files, hidden: int) -> Pooling:
    """The folder's settings; mean pooling, not normalised, where it has none.

    FormatError: a file that is not what it should be.  UnsupportedError: a module or a mode that qlm does not run.
    """
    folder, normalize = _modules(files)
    max_length, lower_case = _limits(files)
    mode = "mean" if folder is None else _mode(files, folder, hidden)
    return Pooling(mode, normalize, max_length, lower_case)


def _modules(files: Files) -> tuple[str | None, bool]:
    """The pooling's folder, None without modules, and whether vectors are normalised."""
    modules = files.json(MODULES)
    if modules is None:
        return (DEFAULT_FOLDER if files.json(f"{DEFAULT_FOLDER}/config.json") is not None else None), False
    path = f"{files.path}/{MODULES}"
    if not isinstance(modules, list):
        raise FormatError("must be a list of modules", file=path)
    folder, normalize = None, False
    for module in modules:
        kind, where = _module(module, path)
        if kind == "Transformer" and where in ("", "."):
            continue
        if kind == "Pooling" and folder is None:
            folder = where
        elif kind == "Normalize":
            normalize = True
        else:
            raise UnsupportedError(f"{path}: the module {shown(kind)} in {shown(where)} is not supported")
    return folder, normalize


def _module(module: object, path: str) -> tuple[str, str]:
    """The last word of its type, which is compared and never imported, and its folder."""
    if not isinstance(module, dict):
        raise FormatError(f"a module must be an object, got {shown(module)}", file=path)
    kind, where = module.get("type"), module.get("path")
    if not isinstance(kind, str):
        raise FormatError(f"must be a string, got {shown(kind)}", file=path, key="type")
    if not isinstance(where, str):
        raise FormatError(f"must be a string, got {shown(where)}", file=path, key="path")
    return kind.rpartition(".")[2], where


def _limits(files: Files) -> tuple[int | None, bool]:
    settings = _object(files, LIMITS) or {}
    path = f"{files.path}/{LIMITS}"
    limit, lower_case = settings.get("max_seq_length"), settings.get("do_lower_case", False)
    if limit is not None and (type(limit) is not int or limit <= 0):
        raise FormatError(f"must be an integer > 0 or null, got {shown(limit)}", file=path, key="max_seq_length")
    if not isinstance(lower_case, bool):
        raise FormatError(f"must be true or false, got {shown(lower_case)}", file=path, key="do_lower_case")
    return limit, lower_case


def _mode(files: Files, folder: str, hidden: int) -> str:
    name = f"{folder}/config.json"
    path = f"{files.path}/{name}"
    settings = _object(files, name)
    if settings is None:
        raise FormatError(
            f"names {shown(folder)}, which has no config.json", file=f"{files.path}/{MODULES}", key="path"
        )
    if not folder[:1].isdecimal():
        raise UnsupportedError(f"{files.path}/{MODULES}: the folder {shown(folder)} is not named as 1_Pooling is")
    width = settings.get("word_embedding_dimension", hidden)
    if width != hidden or isinstance(width, bool):
        reason = f"{shown(width)}, config.json has a hidden_size of {hidden}"
        raise FormatError(reason, file=path, key="word_embedding_dimension")
    chosen = _chosen(settings, path)
    if not chosen:
        return _named(settings, path)
    if len(chosen) > 1:
        raise UnsupportedError(f"{path}: several pooling modes side by side ({', '.join(chosen)}) are not supported")
    if chosen[0] not in MODES:
        raise UnsupportedError(f"{path}: {chosen[0]} is not supported")
    return MODES[chosen[0]]


def _named(settings: dict[str, Any], path: str) -> str:
    """The mode of a file without switches: a word, or the mean."""
    word = settings.get("pooling_mode", "mean")
    if not isinstance(word, str):
        raise FormatError(f"must be a string, got {shown(word)}", file=path, key="pooling_mode")
    if word not in MODES.values():
        raise UnsupportedError(f"{path}: pooling_mode {shown(word)} is not supported")
    return word


def _chosen(settings: dict[str, Any], path: str) -> list[str]:
    chosen = []
    for key, value in settings.items():
        if key.startswith("pooling_mode_"):
            if not isinstance(value, bool):
                raise FormatError(f"must be true or false, got {shown(value)}", file=path, key=key)
            if value:
                chosen.append(key)
    return chosen


def _object(files: Files, name: str) -> dict[str, Any] | None:
    value = files.json(name)
    if value is not None and not isinstance(value, dict):
        raise FormatError("must be a JSON object", file=f"{files.path}/{name}")
    return value
