"""Prints checksums of what a model gives, for tests that compare fresh processes: python bits.py MODEL [TEXTS]

A line for the float model and for each recipe, of the first TEXTS texts (all by default).
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np

import qlm
from qlm.recipe import RECIPES

TEXTS = ["a good film", "it is not a bad story, never boring", "", "the actor was dull and slow " * 9, "fun !"]


def checksum(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def answers(model: qlm.Model, texts: list[str]) -> str:
    """The same whatever the batch: the texts in another order, in other batches, and padded."""
    embedded = model.embed(texts, batch_size=2)
    order = np.random.default_rng(1).permutation(len(texts))
    shuffled = model.embed([texts[i] for i in order], batch_size=4)
    assert shuffled.tobytes() == embedded[order].tobytes()
    assert model.tokenizer is not None
    rows = [row.ids for row in model.tokenizer.encode(texts)]
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
    texts = TEXTS[: int(sys.argv[2])] if len(sys.argv) > 2 else TEXTS
    model = qlm.load(sys.argv[1])
    print("float", answers(model, texts))
    for recipe in RECIPES:
        print(recipe, answers(qlm.quantize_model(model, recipe, calibration=texts), texts))


if __name__ == "__main__":
    main()
