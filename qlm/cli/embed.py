"""print the embedding of each text

One line a text, its numbers separated by spaces; with --json an object with one list of numbers a text.
"""

from __future__ import annotations

import argparse

from .loading import load_model
from .output import print_json
from .texts import add_model_and_texts, check_answers, chunks, source

CHUNK = 256  # texts embedded between two prints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_and_texts(parser)


def run(arguments: argparse.Namespace) -> None:
    model = load_model(arguments)
    embeddings: list[list[float]] = []
    for number, texts in enumerate(chunks(source(arguments, model.labels).texts, CHUNK)):
        rows = model.embed(texts)
        check_answers(rows, number * CHUNK)
        if arguments.json:
            embeddings += rows.tolist()
        else:
            for row in rows:
                print(" ".join(map(str, row)))
    if arguments.json:
        print_json({"embeddings": embeddings}, indent=None)
