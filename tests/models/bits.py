"""Prints checksums of what models give, for tests that compare fresh processes: python bits.py FOLDER ..."""

from __future__ import annotations

import hashlib
import sys

import numpy as np

import qlm

TEXTS = ["a good film", "it is not a bad story, never boring", "", "the actor was dull and slow " * 9, "fun !"]
RECIPES = (
    "dynamic-int8",
    "static-int8",
    "dynamic-interval-int8",
    "weight-only-int8",
    "weight-only-int4",
    "static-int16",
)


def checksum(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def answers(model: qlm.Model) -> str:
    """The same whatever the batch: the texts in another order, in other batches, and padded."""
    embedded = model.embed(TEXTS, batch_size=2)
    order = np.random.default_rng(1).permutation(len(TEXTS))
    shuffled = model.embed([TEXTS[i] for i in order], batch_size=4)
    assert shuffled.tobytes() == embedded[order].tobytes()
    assert model.tokenizer is not None
    rows = [row.ids for row in model.tokenizer.encode(TEXTS)]
    width = max(map(len, rows)) + 3
    ids, mask = np.full((len(rows), width), 5), np.zeros((len(rows), width), int)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    padded = model.forward(ids, mask)
    for index, row in enumerate(rows):
        alone = model.forward([row])
        assert padded.last_hidden_state[index, : len(row)].tobytes() == alone.last_hidden_state[0].tobytes()
    parts = [embedded, padded.last_hidden_state]
    return checksum(*parts, *([] if padded.logits is None else [padded.logits]))


def main() -> None:
    for folder in sys.argv[1:]:
        model = qlm.load(folder)
        print(folder, "float", answers(model))
        for recipe in RECIPES:
            print(folder, recipe, answers(qlm.quantize_model(model, recipe, calibration=TEXTS)))


if __name__ == "__main__":
    main()
