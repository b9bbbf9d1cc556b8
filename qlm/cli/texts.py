"""Texts for a command: from its arguments, a file or standard input, one a line; a file may carry labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from ..errors import FormatError
from .options import UsageError, add_recipe

if TYPE_CHECKING:
    from ..arrays import Array


class Data(NamedTuple):
    """Texts, and the label's index of each where the file is labelled."""

    texts: Iterable[str]
    labels: list[int] | None


def add_model_and_texts(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that runs one model on texts."""
    parser.add_argument("model", metavar="MODEL", help="a model's folder, or pkg:NAME")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text (none: --file, else standard input)")
    parser.add_argument("--file", type=Path, metavar="FILE", help="texts, one a line, or label, tab, text")
    add_recipe(parser)


def source(arguments: argparse.Namespace, labels: Sequence[str]) -> Data:
    """What the arguments ask for; standard input is read as it comes and has no labels."""
    if arguments.texts:
        if arguments.file is not None:
            raise UsageError("give texts or --file, not both")
        return Data(arguments.texts, None)
    if arguments.file is not None:
        return read_data(arguments.file, labels)
    if sys.stdin is None:
        raise UsageError("standard input is closed: give texts or --file")
    return Data(lines(sys.stdin.buffer, "standard input"), None)


def read_data(path: Path, labels: Sequence[str]) -> Data:
    """A file's lines.  It is labelled if every line is label, tab, text, with the label one of the model's names or
    indices; `labels` are the model's names, empty if it has none."""
    with path.open("rb") as stream:
        texts = list(lines(stream, str(path)))
    if not texts:
        raise FormatError("no texts: the file is empty", file=path)
    return split_labels(texts, known_labels(labels))


def split_labels(texts: list[str], known: Mapping[str, int]) -> Data:
    """Blank lines make a file no less labelled, and are left out of one."""
    pairs = [text.partition("\t") for text in texts if text.strip()]
    if not pairs or not all(tab and label in known for label, tab, _ in pairs):
        return Data(texts, None)
    return Data([text for _, _, text in pairs], [known[label] for label, _, _ in pairs])


def known_labels(labels: Sequence[str]) -> dict[str, int]:
    """Name or index, as text -> index; a name that looks like an index keeps its own meaning."""
    return {**{str(index): index for index in range(len(labels))}, **{name: i for i, name in enumerate(labels)}}


def lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """UTF-8 lines without their ends (LF or CR LF) and without a byte order mark."""
    offset = 0
    for line in stream:
        start = 3 if offset == 0 and line.startswith(b"\xef\xbb\xbf") else 0
        bare = line[start:].removesuffix(b"\n").removesuffix(b"\r")
        try:
            yield bare.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError("not UTF-8 text", file=name, offset=offset + start + error.start) from None
        offset += len(line)


def check_answers(rows: Array, first: int) -> None:
    """ValueError: a model's answer, one a row, that is not finite; the first row is that of texts[first]."""
    import numpy as np

    bad = ~np.isfinite(rows).all(axis=-1)
    if bad.any():
        raise ValueError(
            f"the answer to texts[{first + int(np.argmax(bad))}] is not finite: the model holds bad numbers"
        )


def chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
