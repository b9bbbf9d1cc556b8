"""MiniLM, qlm beside other libraries: milliseconds, and how close each stays to the float model.

    python benchmarks/models.py [--threads 1,2] [--size 32x128] [--recipe R] [--peer NAME] [--seconds 2]
                                [--minutes 5] [--quick] [--save FILE] [--plot FILE]

Every contender runs the same token ids without padding, interleaved. cosine: of the mean of its hidden states with that
of qlm's float model, over 100 real sentences. share: the linears' operations against this CPU's int8 limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import goals
import numpy as np
from peers import Peer, peers
from peers.base import Encode
from peers.checkpoint import EXAMPLES, Checkpoint, calibration_texts, load, sentence_ids
from report import add_options, finish, pair, parse, progress_line, within

import qlm
from qlm.bench import models
from qlm.bench.cases import Contender, Row, absent, measure
from qlm.bench.models import FLOAT, Size
from qlm.models import Model

# By the words that stand in the rows.
RECIPES = {
    "dynamic-int8": "dynamic-int8",
    goals.SMOOTH: str(EXAMPLES / "smooth-int8.toml"),
    "static-int8": "static-int8",
    "weight-only-int8": "weight-only-int8",
}


def own(checkpoint: Checkpoint, recipes: Sequence[str]) -> tuple[Model, dict[str, Encode]]:
    """recipes: of RECIPES, or what qlm.quantize_model takes."""
    model = qlm.load(checkpoint.folder)
    candidates = {name: quantized(model, RECIPES.get(name, name)) for name in recipes}
    return model, models.own_encoders(model, candidates)


def quantized(model: Model, recipe: str) -> Model:
    calibrated = qlm.Recipe.of(recipe, "recipe").needs_calibration
    return qlm.quantize_model(model, recipe, calibration=calibration_texts() if calibrated else None)


def others(checkpoint: Checkpoint, found: Sequence[Peer]) -> tuple[dict[str, Encode], list[Contender]]:
    """(those that run, those that are absent or do not)."""
    encoders: dict[str, Encode] = {}
    missing: list[Contender] = []
    for peer in found:
        if peer.missing:
            missing += [absent(name, peer.missing) for name in peer.model_rows]
            continue
        try:
            progress_line(f"preparing {peer.name}")
            ready = peer.encoders(checkpoint) if peer.model_rows else {}
        except (ImportError, RuntimeError) as error:
            missing += [absent(name, f"does not run: {error}"[:60]) for name in peer.model_rows]
            continue
        encoders |= {name: encode for name, encode in ready.items() if callable(encode)}
        missing += [absent(name, encode) for name, encode in ready.items() if isinstance(encode, str)]
        missing += [absent(name) for name in peer.model_rows if name not in ready]
    return encoders, missing


def cosines(encoders: Mapping[str, Encode], sentences: Sequence[np.ndarray]) -> dict[str, tuple[float, float]]:
    """(mean, least) over the sentences, each against the float model."""
    vectors = {name: [mean_vector(encode(ids)) for ids in sentences] for name, encode in encoders.items()}
    found = {}
    for name, rows in vectors.items():
        values = [float(a @ b) for a, b in zip(vectors[FLOAT], rows, strict=True)]
        found[name] = (sum(values) / len(values), min(values))
    return found


def mean_vector(hidden: np.ndarray) -> np.ndarray:
    """Of length 1."""
    vector = np.asarray(hidden, np.float64)[0].mean(axis=0)
    return vector / np.sqrt(vector @ vector)


def sized(word: str) -> Size:
    return Size(*pair(word))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=sized, action="append", help="texts x tokens (repeatable)")
    parser.add_argument("--recipe", action="append", help=f"(repeatable) {', '.join(RECIPES)}")
    add_options(parser, seconds=2.0)
    args = parse(parser)
    checkpoint, sentences = load(), sentence_ids(load())
    rows: list[Row] = []
    versions: dict[str, str] = {}
    for threads in args.threads:
        qlm.set_num_threads(threads)
        found = [peer for peer in peers(threads, args.peer) if peer.model_rows]
        versions |= {peer.name: peer.version() for peer in found if not peer.missing}
        model, encoders = own(checkpoint, args.recipe or list(RECIPES))
        ready, missing = others(checkpoint, found)
        encoders |= ready
        similar = cosines(encoders, sentences)
        sizes = args.size or (models.QUICK_SIZES if args.quick else models.SIZES)
        for case in within(args, models.model_cases(model, encoders, sizes, "MiniLM", missing)):
            progress_line(f"{threads} thread(s): {case.name}")
            for row in measure(case, seconds=args.seconds, clock=args.clock):
                if row["contender"] in similar:
                    row["cosine"], row["least_cosine"] = similar[row["contender"]]
                rows.append(row)
    models.compare_with(rows, FLOAT)
    finish(args, rows, versions)


if __name__ == "__main__":
    sys.exit(main())
