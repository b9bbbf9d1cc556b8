"""Shapes of the linears of real models, from shapes/*.txt."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MODELS = ("minilm", "bert-base", "gpt2", "smollm2-135m", "llama-7b")  # from small to large


class Shape(NamedTuple):
    """A linear's weight, [n outputs, k inputs]."""

    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.n} x {self.k}"


def shapes_of(model: str) -> list[Shape]:
    """The shapes of one of MODELS; a line of its file is outputs, inputs, and what they are."""
    text = (Path(__file__).parent / "shapes" / f"{model}.txt").read_text(encoding="utf-8")
    rows = [line.split(maxsplit=2) for line in text.splitlines() if line and not line.startswith("#")]
    return [Shape(int(n), int(k)) for n, k, _ in rows]


def shapes(models: tuple[str, ...] = MODELS) -> dict[Shape, list[str]]:
    """Each shape once, with the models that have it."""
    found: dict[Shape, list[str]] = {}
    for model in models:
        for shape in shapes_of(model):
            found.setdefault(shape, []).append(model)
    return found
