"""Options that several commands share, and the wrong usage that argparse cannot see."""

from __future__ import annotations

import argparse
from pathlib import Path


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
