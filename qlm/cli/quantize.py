"""quantize a model and save it

Loads MODEL, quantizes it by a recipe and saves it as the folder OUT, which `qlm.load` and every command takes. OUT
appears whole or not at all.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .loading import quantized, resolve_recipe
from .options import add_recipe
from .output import print_json

if TYPE_CHECKING:
    from ..models import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's folder, or pkg:NAME")
    parser.add_argument("output", metavar="OUT", type=Path, help="the folder to write")
    add_recipe(parser, required=True)
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(arguments: argparse.Namespace) -> None:
    import qlm

    recipe = resolve_recipe(arguments.recipe, arguments.calibration)
    check_output(arguments.output, arguments.force)
    reference = qlm.load(arguments.model)
    model = quantized(reference, recipe, arguments.calibration)
    model.save(arguments.output, overwrite=arguments.force)
    report(reference, model, arguments)


def check_output(output: Path, force: bool) -> None:
    """Before any work: OUT is replaced only where the user says so, and is a model's folder; its parent is there."""
    from ..models.store import check_target

    if not force and os.path.lexists(output):
        raise FileExistsError(f"{output} exists: --force replaces it")
    check_target(output, overwrite=force)
    if not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"{output}: the folder to write it into does not exist")


def report(reference: Model, model: Model, arguments: argparse.Namespace) -> None:
    from ..views import size

    ratio = reference.nbytes / model.nbytes
    if arguments.json:
        print_json(
            {
                "output": str(arguments.output),
                "recipe": arguments.recipe,
                "family": model.family,
                "num_parameters": model.num_parameters,
                "reference_nbytes": reference.nbytes,
                "nbytes": model.nbytes,
                "size_ratio": ratio,
            }
        )
        return
    before = f"{arguments.model} ({size(reference.nbytes)})"
    print(f"{arguments.output}: {size(model.nbytes)}, {ratio:.2f}x smaller than {before}")
