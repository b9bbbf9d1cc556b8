"""`linear` on MiniLM's shapes: float32 in and out, int8 between; GOP/s and the share of this CPU's exact int8 peak.

    python benchmarks/linear.py [--threads 1]

A row is warm and alone on the machine as far as that can be had: the median of half a second of calls.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import peak
from checkpoint import cpu_name

import qlm
from qlm.timing import interleave

SHAPES = ((1152, 384), (384, 384), (1536, 384), (384, 1536))
ROWS = (1, 16, 128, 512)


def calls(n: int, k: int, m: int) -> dict[str, Callable[[], object]]:
    """An int8 linear, the same with GELU, the same weight-only, and a float one."""
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((n, k), np.float32), rng.standard_normal((m, k), np.float32)
    out = np.empty((m, n), np.float32)
    packed, plain = qlm.pack(qlm.quantize(weight, axis=0)), qlm.pack(weight)
    return {
        "int8": lambda: qlm.linear(x, packed, out=out),
        "int8 + gelu": lambda: qlm.linear(x, packed, activation="gelu", out=out),
        "weight-only": lambda: qlm.linear(x, packed, input="float32", out=out),
        "float32": lambda: qlm.linear(x, plain, input="float32", out=out),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    qlm.set_num_threads(args.threads)
    limit = peak.int8_gops(args.threads)
    print(
        f"{cpu_name()}, {qlm.cpu_info()['isa']}, {args.threads} thread(s), int8 peak {limit or float('nan'):.0f} GOP/s"
    )
    print(f"{'out x in':>12}{'rows':>6}{'int8':>8}{'share':>7}{'+ gelu':>8}{'weight-only':>13}{'float32':>9}   GOP/s")
    for n, k in SHAPES:
        for m in ROWS:
            timings = interleave(calls(n, k, m), seconds=0.5)
            rate = {name: 2e-9 * m * n * k / timing.median for name, timing in timings.items()}
            share = f"{rate['int8'] / limit:>7.0%}" if limit else f"{'-':>7}"
            print(
                f"{n:>6} x {k:<4}{m:>5}{rate['int8']:>8.0f}{share}{rate['int8 + gelu']:>8.0f}"
                f"{rate['weight-only']:>13.0f}{rate['float32']:>9.0f}"
            )


if __name__ == "__main__":
    main()
