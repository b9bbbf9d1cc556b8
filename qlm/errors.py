"""The two exceptions of qlm's own; everything else is a built-in one."""

from __future__ import annotations

import os
from typing import Any


class FormatError(ValueError):
    """A file that is not what it should be.

    The message names the file and, where they are known, the byte offset and the key; all four are attributes.
    """

    def __init__(
        self,
        reason: str,
        *,
        file: str | os.PathLike[str] | None = None,
        offset: int | None = None,
        key: str | None = None,
    ) -> None:
        self.reason = reason
        self.file = None if file is None else os.fspath(file)
        self.offset = offset
        self.key = key
        super().__init__(self._message())

    def _message(self) -> str:
        text = self.reason if self.file is None else f"{self.file}: {self.reason}"
        if self.key is not None:
            text += f" (key {shown(self.key)})"
        if self.offset is not None:
            text += f" (byte {self.offset})"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.reason, self.file, self.offset, self.key)


class UnsupportedError(NotImplementedError):
    """A correct model, file or tensor type that this version of qlm does not handle; the message names it."""


def _rebuild(reason: str, file: str | None, offset: int | None, key: str | None) -> FormatError:
    return FormatError(reason, file=file, offset=offset, key=key)


def shown(value: object, limit: int = 80) -> str:
    """repr(value), cut in the middle: a message must stay short whatever a file or a caller puts into it."""
    if isinstance(value, (str, bytes)) and len(value) > limit:
        value = value[:limit]  # before repr, which would copy megabytes
        return repr(value) + "..."
    text = repr(value)
    return text if len(text) <= limit else text[: limit // 2] + "..." + text[-limit // 4 :]
