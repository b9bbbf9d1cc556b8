"""MiniLM, qlm beside its peers: sentences a second and latency, interleaved in one process.

    python benchmarks/minilm.py [--threads 1] [--seconds 20] [--json FILE]

Every contender runs the same token ids without padding. A ratio is the peer's median time over qlm dynamic-int8's.
"share" is the linears' multiply-adds over the time, as a share of this CPU's exact int8 peak, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import peak
from checkpoint import Checkpoint, cpu_name, load
from peers import Contender, contenders

import qlm
from qlm.timing import Timing, interleave

SHAPES = ((32, 128), (1, 16), (1, 128))
BASE = "qlm dynamic-int8"


def random_ids(checkpoint: Checkpoint, batch: int, length: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(1000, checkpoint.config["vocab_size"], (batch, length), dtype=np.int64)


def measure(
    checkpoint: Checkpoint, found: Sequence[Contender], shape: tuple[int, int], seconds: float
) -> dict[str, Timing]:
    ids = random_ids(checkpoint, *shape)
    calls = {c.name: (lambda encode=c.encode: encode(ids)) for c in found if c.encode is not None}
    return interleave(calls, seconds=seconds / len(calls))


def rows(
    checkpoint: Checkpoint, found: Sequence[Contender], shape: tuple[int, int], seconds: float, threads: int
) -> list[dict[str, object]]:
    timings = measure(checkpoint, found, shape, seconds)
    operations = 2 * checkpoint.multiply_adds * shape[0] * shape[1]
    limit = peak.int8_gops(threads)
    table: list[dict[str, object]] = []
    for contender in found:
        timing = timings.get(contender.name)
        row: dict[str, object] = {"shape": f"{shape[0]} x {shape[1]}", "name": contender.name}
        if timing is None:
            row["note"] = "not installed"
        else:
            row |= {
                "ms": 1e3 * timing.median, "ms_low": 1e3 * timing.low, "ms_high": 1e3 * timing.high,
                "rounds": timing.samples, "sentences_per_second": shape[0] / timing.median,
                "ratio": timing.median / timings[BASE].median,
                "share_of_int8_peak": operations / timing.median / 1e9 / limit if limit else None,
            }  # fmt: skip
        table.append(row)
    return table


def show(table: list[dict[str, object]]) -> None:
    print(f"{'batch':>9}  {'contender':<28}{'ms':>9}{'quartiles':>18}{'sent./s':>9}{'ratio':>7}{'share':>7}")
    for row in table:
        if "note" in row:
            print(f"{row['shape']:>9}  {row['name']:<28}{row['note']:>14}")
            continue
        share = row["share_of_int8_peak"]
        spread = f"{row['ms_low']:.2f}-{row['ms_high']:.2f}"
        print(f"{row['shape']:>9}  {row['name']:<28}{row['ms']:>9.2f}{spread:>18}{row['sentences_per_second']:>9.0f}"
              f"{row['ratio']:>7.2f}" + (f"{share:>7.0%}" if share is not None else f"{'-':>7}"))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each shape")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    checkpoint = load()
    found = contenders(checkpoint, args.threads, ["dynamic-int8", "static-int8", "weight-only-int8"])
    print(f"{cpu_name()}, {qlm.cpu_info()['isa']}, {args.threads} thread(s)")
    table = [row for shape in SHAPES for row in rows(checkpoint, found, shape, args.seconds, args.threads)]
    show(table)
    if args.json:
        record = {"cpu": cpu_name(), "isa": qlm.cpu_info()["isa"], "threads": args.threads, "rows": table}
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
