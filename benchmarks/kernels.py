"""qlm's kernels beside other libraries' and this machine's limits, each case in one interleaved run.

    python benchmarks/kernels.py [--threads 1,2] [--section WORD] [--model minilm] [--shape 4096x11008] [--rows 1,128]
                                 [--peer NAME] [--seconds 0.2] [--minutes 5] [--quick] [--save FILE] [--plot FILE]

Every contender's result is checked against the float product before it is timed. Cases are those of `qlm bench`; a peer
that is not installed is a row that says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from peers import Peer, peers
from report import add_options, finish, numbers, pair, parse, progress_line, within

import qlm
from qlm.bench import kernels, limits
from qlm.bench.cases import Case, Contender, Row, absent, measure
from qlm.bench.shapes import MODELS, Shape, shapes

# Cosine of the result with the float one that a contender must reach to be timed.
LEAST_COSINE = {"int8": 0.995, "int4 g32": 0.98, "int4 g128": 0.97, "float32": 0.999}


def with_peers(case: Case, found: Sequence[Peer]) -> Case:
    """The case with a contender for each peer that has its section."""
    added: list[Contender] = []
    for peer in found:
        label = peer.sections.get(case.section)
        if label is not None:
            added.append(absent(label, peer.missing) if peer.missing else contender(peer, label, case))
    return dataclasses.replace(case, contenders=[*case.contenders, *added])


def contender(peer: Peer, label: str, case: Case) -> Contender:
    x, kind = case.inputs["x"], case.inputs.get("kind")
    try:
        if kind is None:
            work, short = peer.array(case.section, x), peer.array(case.section, x[:1, :64])
            expected, least = x, 0.9
        else:
            work, short = peer.linear(kind.name, case.inputs["weight"], x), None
            expected, least = x @ case.inputs["weight"].T, LEAST_COSINE[kind.name]
        found = work.result()
    except (RuntimeError, NotImplementedError) as error:
        return absent(label, f"does not run: {str(error).splitlines()[0][:40]}")
    if np.size(found) != expected.size:
        return absent(label, f"wrong result: {np.size(found)} values")
    similar = cosine(found, expected)
    if similar < least:
        return absent(label, f"wrong result: cosine {similar:.4f}")
    return Contender(label, work.call, None if short is None else short.call)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (np.asarray(array, np.float32).ravel()[: 1 << 22].astype(np.float64) for array in (a, b))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def chosen(args: argparse.Namespace) -> Iterator[Case]:
    """Cases of the sections asked for."""
    yield from (case for case in limits.limit_cases(quick=args.quick) if wanted(case, args))
    if args.quick:
        every = kernels.quick_cases()
    else:
        kinds = [kind for kind in kernels.KINDS if any(word in f"linear {kind.name}" for word in args.section or [""])]
        arrays = not args.section or any(word in work.section for work in kernels.ARRAY_WORKS for word in args.section)
        every = kernels.cases(of=weights(args), rows=args.rows, kinds=kinds, sizes=kernels.SIZES if arrays else ())
    yield from (case for case in every if wanted(case, args))


def weights(args: argparse.Namespace) -> list[Shape]:
    """Those of --shape and --model; all models' where neither is given."""
    own = list(args.shape or ())
    return own if own and not args.model else [*own, *shapes(tuple(args.model or MODELS))]


def wanted(case: Case, args: argparse.Namespace) -> bool:
    return not args.section or any(word in case.section for word in args.section)


def shape(text: str) -> Shape:
    return Shape(*pair(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", action="append", help="only sections with this word (repeatable)")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this model's shapes (repeatable)")
    parser.add_argument("--shape", action="append", type=shape, help="only weights of OUTPUTSxINPUTS (repeatable)")
    parser.add_argument("--rows", type=numbers, default=kernels.ROWS, help="rows of the linears' inputs")
    add_options(parser, seconds=0.2)
    args = parse(parser)
    if args.quick and (args.model or args.shape or args.rows != kernels.ROWS):
        parser.error("--quick has weights and rows of its own: leave --model, --shape and --rows out")
    rows: list[Row] = []
    versions: dict[str, str] = {}
    for threads in args.threads:
        qlm.set_num_threads(threads)
        found = list(peers(threads, args.peer))
        versions |= {peer.name: peer.version() for peer in found if not peer.missing}
        for case in within(args, chosen(args)):
            progress_line(f"{threads} thread(s): {case.section} {case.name} {case.facts.get('m', '')}")
            rows += measure(with_peers(case, found), seconds=args.seconds, clock=args.clock)
    finish(args, rows, versions)


if __name__ == "__main__":
    sys.exit(main())
