"""print the label of each text

One line a text: label, tab, probability, tab, text. With --json an object with the model's labels, one list of logits
and one predicted label a text, and the accuracy if the file is labelled.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from .loading import load_model
from .output import print_json
from .texts import add_model_and_texts, check_answers, chunks, source

CHUNK = 256  # texts classified between two prints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_and_texts(parser)


def run(arguments: argparse.Namespace) -> None:
    model = load_model(arguments)
    names = list(model.labels)
    data = source(arguments, names)
    logits: list[list[float]] = []
    for number, texts in enumerate(chunks(data.texts, CHUNK)):
        answers = model.classify(texts)
        check_answers(answers, number * CHUNK)
        rows = answers.tolist()
        if arguments.json:
            logits += rows
        else:
            print_rows(names, texts, rows)
    if arguments.json:
        print_json(summary(names, logits, data.labels), indent=None)


def print_rows(names: Sequence[str], texts: Sequence[str], logits: Sequence[Sequence[float]]) -> None:

    from ..metrics import log_softmax

    for text, row in zip(texts, logits, strict=True):
        answer = best(row)
        print(f"{names[answer]}\t{math.exp(log_softmax(row)[answer]):.4f}\t{text}")


def summary(names: Sequence[str], logits: Sequence[Sequence[float]], truth: Sequence[int] | None) -> dict[str, Any]:
    answers = [best(row) for row in logits]
    found = {"labels": list(names), "predictions": [names[answer] for answer in answers], "logits": logits}
    if truth is None:
        return found
    from ..estimate import proportion

    hits = sum(answer == label for answer, label in zip(answers, truth, strict=True))
    return {**found, "accuracy": proportion(hits, len(answers)).to_dict()}


def best(logits: Sequence[float]) -> int:
    """The index of the greatest logit, the first of equals."""
    return max(range(len(logits)), key=logits.__getitem__)
