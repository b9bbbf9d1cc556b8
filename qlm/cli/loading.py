"""The model that a command's words ask for: MODEL, --recipe and --calibration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FormatError
from .options import UsageError
from .output import progress
from .texts import read_data

if TYPE_CHECKING:
    from ..models import Model
    from ..recipe import Recipe


def resolve_recipe(word: str, calibration: Path | None) -> Recipe:
    """The recipe that a word names, before any work is done; an unknown one and one that lacks its calibration data
    are wrong usage."""
    from ..recipe import Recipe

    try:
        recipe = Recipe.of(word, "--recipe")
    except FormatError:  # a recipe's file that is not one
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    if recipe.needs_calibration and calibration is None:
        raise UsageError(f"--recipe {word} needs --calibration FILE: texts to find its ranges from")
    return recipe


def load_model(arguments: argparse.Namespace) -> Model:
    """MODEL, quantized by --recipe where one is given."""
    import qlm

    if arguments.recipe is None:
        if arguments.calibration is not None:
            raise UsageError("--calibration is of no use without --recipe")
        return qlm.load(arguments.model)
    recipe = resolve_recipe(arguments.recipe, arguments.calibration)
    if arguments.calibration is None:
        return qlm.load(arguments.model, recipe=recipe)
    return quantized(qlm.load(arguments.model), recipe, arguments.calibration)


def quantized(model: Model, recipe: Recipe, calibration: Path | None) -> Model:
    """The model by the recipe, with progress on a terminal."""
    import qlm

    texts = None if calibration is None else list(read_data(calibration, model.labels).texts)
    if texts is not None and not any(map(str.strip, texts)):
        raise FormatError("no texts: every line is blank", file=calibration)
    with progress("quantizing") as advance:
        return qlm.quantize_model(model, recipe, calibration=texts, progress=advance)
