"""measure what candidates cost and lose against a reference model

Runs REF and each candidate over the same texts and prints size, speed-up, cosine and, for classifiers, agreement,
accuracy and KL divergence, with 95 % intervals. Candidates are CAND, and REF quantized by each --recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .loading import quantized, resolve_recipe
from .options import UsageError, add_recipe
from .output import Advance, print_json, print_report, progress
from .texts import read_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="the float model: a folder, or pkg:NAME")
    parser.add_argument("candidates", metavar="CAND", nargs="*", help="a model to judge")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="texts, one a line, or label, tab, text"
    )
    add_recipe(parser, repeatable=True)
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of text")


def run(arguments: argparse.Namespace) -> None:
    if not arguments.candidates and not arguments.recipe:
        raise UsageError("nothing to compare: name a candidate or a --recipe")
    if arguments.json and arguments.markdown:
        raise UsageError("--json and --markdown exclude each other")
    import qlm

    from ..comparison import measure

    recipes = {name: resolve_recipe(name, arguments.calibration) for name in arguments.recipe}
    names = candidate_names([*arguments.candidates, *recipes])
    reference = qlm.load(arguments.reference)
    data = read_data(arguments.data, reference.labels)
    models = [qlm.load(path) for path in arguments.candidates]
    models += [quantized(reference, recipe, arguments.calibration) for recipe in recipes.values()]
    title = short_name(arguments.reference)
    with progress("comparing") as advance:
        texts = counted(list(data.texts), advance)
        reports = measure(reference, dict(zip(names, models, strict=True)), texts, data.labels, title)
    show(reports, arguments)


def show(reports: dict[str, Any], arguments: argparse.Namespace) -> None:
    """One candidate: its report; several: the comparison."""
    from ..report import Comparison

    shown = next(iter(reports.values())) if len(reports) == 1 else Comparison(reports)
    if arguments.json:
        print_json(shown.to_dict())
    elif arguments.markdown:
        print(shown.to_markdown(), end="")
    else:
        print_report(shown)


def candidate_names(words: Sequence[str]) -> list[str]:
    """The last part of each path where that tells them apart, else the words as given."""
    short = [short_name(word) for word in words]
    names = [word if short.count(name) > 1 else name for word, name in zip(words, short, strict=True)]
    if len(set(names)) < len(names):
        raise UsageError("a candidate is named twice")
    return names


def short_name(word: str) -> str:
    return Path(word.removeprefix("pkg:")).name or word


def counted(texts: Sequence[str], advance: Advance | None) -> Iterator[str] | Iterable[str]:
    """The texts, telling `advance` as they are taken."""
    if advance is None:
        return texts
    return count(texts, advance)


def count(texts: Sequence[str], advance: Advance) -> Iterator[str]:
    for done, text in enumerate(texts):
        advance(done, len(texts), "")
        yield text
