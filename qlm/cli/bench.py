"""measure this machine: its limits, the kernels, or a model

Without MODEL: the kernels over the shapes of real models, each beside this machine's own limit, measured in the same
interleaved run. With MODEL: its forward at several sizes, as it is and by each recipe.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .loading import quantized, resolve_recipe
from .options import UsageError, add_calibration
from .output import print_json, print_pairs, progress, terminal_width

if TYPE_CHECKING:
    from ..bench.cases import Case, Row
    from ..bench.models import Size
    from ..models import Model

SECONDS, QUICK_SECONDS = 0.3, 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a model's folder, or pkg:NAME; none: the kernels")
    parser.add_argument(
        "--recipe", action="append", default=[], metavar="R", help="with MODEL: this recipe instead of all (repeatable)"
    )
    add_calibration(parser)
    parser.add_argument(
        "--size", action="append", default=[], metavar="BxL", help="with MODEL: B texts of L tokens (repeatable)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use; QLM_NUM_THREADS, else all cores")
    parser.add_argument("--quick", action="store_true", help="a few cases, briefly: is all well?")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"a figure ({SECONDS}; quick {QUICK_SECONDS})")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: CPU time of one thread, amid other load"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the result to FILE, as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the shares into FILE (.png, .svg, .pdf)")


def run(arguments: argparse.Namespace) -> None:
    check(arguments)
    from ..bench import results

    seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
    found = results.result(rows(arguments, seconds), seconds=seconds)
    if arguments.save is not None:
        results.save(arguments.save, found)
    if arguments.plot is not None:
        from ..bench.plot import save_plot

        save_plot(found, arguments.plot)
    if arguments.json:
        print_json(found)
    else:
        show(found)


def check(arguments: argparse.Namespace) -> None:
    """All that can be wrong, before minutes of work."""
    import qlm

    if not arguments.model:
        for word in ("recipe", "size", "calibration"):
            if getattr(arguments, word):
                raise UsageError(f"--{word} is of no use without MODEL")
    if arguments.threads is not None:
        try:
            qlm.set_num_threads(arguments.threads)
        except ValueError as error:
            raise UsageError(f"--threads: {error}") from None
    check_measuring(arguments, qlm.get_num_threads())


def check_measuring(arguments: argparse.Namespace, threads: int) -> None:
    """How long, by which clock and where to, which the programs of benchmarks/ ask for too.

    threads: the most that are measured.  OSError: a file cannot be written there.  UsageError: all else."""
    if arguments.seconds is not None and not 0 < arguments.seconds <= 3600:
        raise UsageError(f"--seconds must be above 0 and at most 3600, got {arguments.seconds}")
    if arguments.clock == "cpu" and threads != 1:
        raise UsageError("--clock cpu needs --threads 1: it adds up the time of all threads")
    for path in filter(None, (arguments.save, arguments.plot)):
        _check_target(path)
    if arguments.plot is not None:
        from ..views import import_pyplot

        endings = import_pyplot().figure().canvas.get_supported_filetypes()
        if arguments.plot.suffix.removeprefix(".").lower() not in endings:
            raise UsageError(f"--plot must end in one of {', '.join(sorted(endings))}, got {arguments.plot}")


def _check_target(path: Path) -> None:
    """OSError: no file can be written there."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder, not a file to write")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: the folder to write it into does not exist")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path}: the folder to write it into is not writable")


def rows(arguments: argparse.Namespace, seconds: float) -> list[Row]:
    """Measures all cases, with progress on a terminal."""
    from ..bench.cases import measure

    found: list[Row] = []
    with progress("measuring") as advance:
        for done, case in enumerate(cases(arguments)):
            if advance is not None:
                advance(done, 0, f"{case.section} {case.name}")
            found += measure(case, seconds=seconds, clock=arguments.clock)
    if arguments.model:
        from ..bench.models import FLOAT, compare_with

        compare_with(found, FLOAT)
    return found


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    if arguments.model:
        return of_model(arguments)
    return of_kernels(arguments.quick)


def of_kernels(quick: bool) -> Iterator[Case]:
    from ..bench import kernels, limits

    yield from limits.limit_cases(quick=quick)
    yield from kernels.quick_cases() if quick else kernels.cases()


# ---- a model -----------------------------------------------------------------------------------------------------


def of_model(arguments: argparse.Namespace) -> Iterator[Case]:
    import qlm

    from ..bench import models

    sizes = [parse_size(word) for word in arguments.size] or (models.QUICK_SIZES if arguments.quick else models.SIZES)
    recipes = {name: resolve_recipe(name, arguments.calibration) for name in recipe_names(arguments)}
    model = qlm.load(arguments.model)
    candidates = {name: quantized(model, recipe, arguments.calibration) for name, recipe in recipes.items()}
    name = Path(arguments.model.removeprefix("pkg:")).name or arguments.model
    return models.model_cases(model, models.own_encoders(model, candidates), fitting(model, sizes, arguments), name)


def recipe_names(arguments: argparse.Namespace) -> list[str]:
    """Those asked for, else every named one that needs no calibration data or gets some."""
    from ..recipe import RECIPES, Recipe

    if arguments.recipe:
        return list(dict.fromkeys(arguments.recipe))
    if arguments.quick:
        return ["dynamic-int8", *(["static-int8"] if arguments.calibration is not None else [])]
    return [
        name for name in RECIPES if arguments.calibration is not None or not Recipe.of(name, "recipe").needs_calibration
    ]


def fitting(model: Model, sizes: Iterable[Size], arguments: argparse.Namespace) -> list[Size]:
    """The default sizes that a model with few positions takes; those of --size must all fit."""
    from ..bench.models import longest

    most = longest(model)
    return [size for size in sizes if arguments.size or size.length <= most]


def parse_size(word: str) -> Size:
    from ..bench.models import Size

    batch, _, length = word.partition("x")
    if not (batch.isascii() and batch.isdigit() and length.isascii() and length.isdigit()):
        raise UsageError(f"--size must be BxL, such as 32x128, got {word}")
    size = Size(int(batch), int(length))
    if not 0 < size.batch * size.length <= 1 << 20:
        raise UsageError(f"--size must have 1 to 2**20 tokens, got {word}")
    return size


# ---- output ------------------------------------------------------------------------------------------------------


def show(found: dict[str, Any]) -> None:
    from ..bench.views import legend, tables
    from ..tables import wrapped

    machine = found["machine"]
    sizes = ", ".join(f"{level} {size >> 10} KiB" for level, size in machine["caches"].items())
    print_pairs([("CPU", machine["cpu"]), ("isa", machine["isa"]), ("caches", sizes or "unknown"), *load(found)])
    shown = tables(found["rows"])
    for table in shown:
        print("\n" + table.to_text(terminal_width()))
    print("\n" + wrapped(legend(shown), terminal_width()))


def load(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What others used of the machine meanwhile, where the system tells."""
    cores = [row["foreign"] for row in found["rows"] if row.get("foreign") is not None]
    if not cores:
        return []
    return [("other load", f"{statistics.median(cores):.2f} of {found['machine']['cores']} cores")]
