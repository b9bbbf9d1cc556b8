"""Strict JSON for files that strangers wrote.

The standard library's parser, with what it forgives refused: duplicate keys, NaN and infinities (spelled out or by an
overflowing exponent), lone surrogates, text that is not UTF-8, a byte order mark, integers of absurd length.  The
parser recurses, so nesting is bounded before it runs, by a scan that does not recurse.
"""

from __future__ import annotations

import json
import math
import os
import re
from typing import NoReturn

from ..errors import FormatError, shown

MAX_DEPTH = 16
_MAX_DIGITS = 400
_CHUNK = 1 << 16

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (_MAX_DIGITS + 1))
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class _Refused(ValueError):
    """A grammatical document that breaks one of the rules above."""


def parse(data: bytes, *, file: str | os.PathLike[str], offset: int = 0, max_depth: int = MAX_DEPTH) -> object:
    """The value that the bytes `data` of `file` spell; `offset` is where they stand in it, for messages.

    FormatError: not JSON, or one of the forms this module refuses.
    """
    _check_outline(data, file, offset, max_depth)
    text = _decode(data, file, offset)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        at = offset + len(text[: error.pos].encode())
        raise FormatError(f"not valid JSON: {error.msg}", file=file, offset=at) from None
    except ValueError as error:
        raise FormatError(f"not valid JSON: {error}", file=file, offset=offset) from None
    if _SURROGATE_ESCAPE.search(text):
        _check_surrogates(value, file, offset)
    return value


def _check_outline(data: bytes, file: str | os.PathLike[str], offset: int, max_depth: int) -> None:
    """Bounds the nesting and the length of numbers, on the text with its strings taken out."""
    bare = _without_strings(data)
    if _LONG_NUMBER.search(bare):
        raise FormatError(f"not valid JSON: a number of more than {_MAX_DIGITS} digits", file=file, offset=offset)
    brackets = bare.translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(max_depth):  # each pass takes the innermost level away
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        reason = f"not valid JSON: brackets that do not match, or are nested more than {max_depth} deep"
        raise FormatError(reason, file=file, offset=offset)


def _without_strings(data: bytes) -> bytes:
    """The text between strings, chunk by chunk: the pieces of a split take fifty times the memory of short ones."""
    data = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of escapes hides no quote
    pieces, inside = [], False
    for begin in range(0, len(data), _CHUNK):
        parts = data[begin : begin + _CHUNK].split(b'"')
        pieces.append(b"".join(parts[1::2] if inside else parts[0::2]))
        inside ^= len(parts) % 2 == 0
    return b"".join(pieces)


def _decode(data: bytes, file: str | os.PathLike[str], offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"not valid UTF-8: {error.reason}", file=file, offset=offset + error.start) from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"duplicate key {shown(key)}")
            seen.add(key)
    return value


def _constant(word: str) -> NoReturn:
    raise _Refused(f"{word} is not a JSON value")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Refused(f"{shown(text)} overflows")
    return value


def _check_surrogates(value: object, file: str | os.PathLike[str], offset: int) -> None:
    """Escapes may spell half a surrogate pair, which no UTF-8 text can hold.  Walks with a stack of its own."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.keys()
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, str) and not _encodable(item):
            raise FormatError(f"not valid JSON: half a surrogate pair in {shown(item)}", file=file, offset=offset)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
