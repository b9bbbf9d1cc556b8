"""The argument `path` of what reads and writes files."""

from __future__ import annotations

import os

from ..errors import shown


def path_text(path: object) -> str:
    """TypeError, ValueError: no path, or one that no file can have."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a string or a path, got {shown(path)}")
    text = os.fsdecode(os.fspath(path))
    if "\0" in text:
        raise ValueError(f"path must not hold a NUL character, got {shown(text)}")
    return text
