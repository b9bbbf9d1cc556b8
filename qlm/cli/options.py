"""Options that several commands share, and the wrong usage that argparse cannot see."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models import Model
    from ..recipe import Recipe


class UsageError(Exception):
    """The command line asks for something that cannot be: exit status 2."""


def add_recipe(parser: argparse.ArgumentParser, *, required: bool = False, repeatable: bool = False) -> None:
    text = "a name such as dynamic-int8, or a TOML or JSON file"
    if repeatable:
        text = f"judge REF quantized by this recipe, {text} (repeatable)"
        parser.add_argument("--recipe", action="append", default=[], metavar="R", help=text)
    else:
        text = f"{'recipe' if required else 'quantize MODEL while loading by this recipe'}: {text}"
        parser.add_argument("--recipe", required=required, metavar="R", help=text)
    add_calibration(parser)


def add_calibration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="texts to calibrate on, one a line, which static recipes need"
    )


def resolve_recipe(word: str, calibration: Path | None) -> Recipe:
    """The recipe that a word names, before any work is done; an unknown one and one that lacks its calibration data
    are wrong usage."""
    from ..errors import FormatError
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

    from .output import progress
    from .texts import read_data

    texts = None if calibration is None else list(read_data(calibration, model.labels).texts)
    with progress("quantizing") as advance:
        return qlm.quantize_model(model, recipe, calibration=texts, progress=advance)
