"""What each recipe costs in accuracy, beside the float model: the README's accuracy table.

    python benchmarks/accuracy.py MODEL TEXTS CALIBRATION [--lines 200] [--calibration-lines 512] [--recipe R ...]

MODEL is what qlm.load takes. TEXTS and CALIBRATION have one text a line, or label, tab, text: with labels, and a model
that classifies, accuracy, flips and KL divergence are reported too. No timing: see models.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import qlm
from qlm.recipe import RECIPES


def read(path: Path, lines: int | None) -> tuple[list[str], list[str] | None]:
    """Texts, and their labels where every line has one."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line][:lines]
    if all(len(row) == 2 for row in rows):
        return [text for _, text in rows], [label for label, _ in rows]
    return ["\t".join(row) for row in rows], None


def needs_calibration(recipe: str) -> bool:
    return qlm.Recipe.of(recipe, "recipe").needs_calibration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--lines", type=int, help="how many texts; all by default")
    parser.add_argument("--calibration-lines", type=int, default=512)
    parser.add_argument("--recipe", action="append", help="repeatable; all named recipes by default")
    args = parser.parse_args()
    texts, labels = read(args.texts, args.lines)
    calibration, _ = read(args.calibration, args.calibration_lines)
    model = qlm.load(args.model)
    candidates = {
        recipe: qlm.quantize_model(model, recipe, calibration=calibration if needs_calibration(recipe) else None)
        for recipe in args.recipe or RECIPES
    }
    print(qlm.compare(model, candidates, texts, labels=labels if model.labels else None).to_markdown())


if __name__ == "__main__":
    main()
