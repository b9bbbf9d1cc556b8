"""Values of config.json, checked: a FormatError names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import FormatError, UnsupportedError, shown

MAX_SIZE = 2**31 - 1
FLOAT32_MAX = (2.0 - 2.0**-23) * 2.0**127


def at_least(config: Mapping[str, Any], key: str, least: int, file: str, default: int | None = None) -> int:
    """An integer from `least` to 2**31 - 1."""
    value = _value(config, key, default, file)
    if type(value) is not int or not least <= value <= MAX_SIZE:
        raise FormatError(f"must be an integer from {least} to {MAX_SIZE}, got {shown(value)}", file=file, key=key)
    return value


def number(config: Mapping[str, Any], key: str, file: str, default: float | None = None) -> float:
    """A number > 0 that float32 holds."""
    value = _value(config, key, default, file)
    if type(value) not in (int, float) or not 0 < value <= FLOAT32_MAX:
        raise FormatError(f"must be a number > 0 within float32, got {shown(value)}", file=file, key=key)
    return float(value)


def flag(config: Mapping[str, Any], key: str, default: bool, file: str) -> bool:
    """true or false."""
    value = _value(config, key, default, file)
    if not isinstance(value, bool):
        raise FormatError(f"must be true or false, got {shown(value)}", file=file, key=key)
    return value


def choice(config: Mapping[str, Any], key: str, words: tuple[str, ...], file: str, default: str | None = None) -> str:
    """One of the words.  UnsupportedError: another word."""
    value = _value(config, key, default, file)
    if not isinstance(value, str):
        raise FormatError(f"must be a string, got {shown(value)}", file=file, key=key)
    if value not in words:
        raise UnsupportedError(f"{file}: {key} {shown(value)} is not supported, there are {', '.join(words)}")
    return value


def unsupported_unless(config: Mapping[str, Any], key: str, words: tuple[str, ...], file: str) -> None:
    """UnsupportedError: the key is there, with another value than the words."""
    value = config.get(key)
    if value is not None and value not in words:
        raise UnsupportedError(f"{file}: {key} {shown(value)} is not supported")


def labels(config: Mapping[str, Any], count: int | None, file: str) -> list[str]:
    """The classifier's labels from id2label, else LABEL_0, LABEL_1, ... for num_labels (2 where that is missing).
    count: how many the weights have."""
    names = config.get("id2label")
    if names is None:
        total = at_least(config, "num_labels", 1, file, default=2)
        found = [f"LABEL_{index}" for index in range(total)]
    else:
        found = _id2label(names, file)
    if count is not None and count != len(found):
        raise FormatError(f"{len(found)} labels, the classifier has {count}", file=file, key="id2label")
    return found


def _id2label(names: object, file: str) -> list[str]:
    if not isinstance(names, dict) or not names:
        raise FormatError(f"must be a JSON object that is not empty, got {shown(names)}", file=file, key="id2label")
    keys = [str(index) for index in range(len(names))]
    for key in keys:
        if not isinstance(names.get(key), str):
            reason = f"must map each of 0..{len(names) - 1} to a string, got {shown(names.get(key))} for {key}"
            raise FormatError(reason, file=file, key="id2label")
    return [names[key] for key in keys]


def _value(config: Mapping[str, Any], key: str, default: Any, file: str) -> Any:
    value = config.get(key, default)
    if value is None and key not in config:
        raise FormatError("is missing", file=file, key=key)
    return value
