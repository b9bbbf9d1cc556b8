"""What qlm means to reach beside a machine's limits and beside other libraries, and what results say of it.

A goal is a share of a limit, or times as fast as the best of others, measured in the same run; it was set on two CPUs
(Zen 5 with AVX512-VNNI, Zen 3 with AVX2 alone), in GB/s or milliseconds in part: those are kept as the shares of that
CPU's own limits, so that another CPU has the same goals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qlm.bench.cases import OWN, Row
from qlm.bench.kernels import SIZES
from qlm.bench.models import SECTION as MODEL
from qlm.bench.results import Result
from qlm.bench.views import duration

Rows = Sequence[Row]
Figures = dict[str, float]  # by what they were measured on
Aims = Mapping[int, Sequence[float]]  # by threads; one for all figures, or one for each

VNNI, AVX2 = "vnni", "avx2"
PARTS = {  # pages of docs/performance/, where a miss is explained
    "linear": {VNNI: "int8-linear", AVX2: "avx2-and-float"},
    "float": {VNNI: "avx2-and-float", AVX2: "avx2-and-float"},
    "groups": {VNNI: "groups", AVX2: "groups"},
    "arrays": {VNNI: "arrays", AVX2: "arrays"},
    "model": {VNNI: "transformer", AVX2: "transformer"},
    "call": {VNNI: "calls", AVX2: "calls"},
}
CODES_IN = ("oneDNN, int8 in",)  # it is given codes: what it does not do is the quantizing
EXACT = ("ggml q8_0",)  # others' int8 sums saturate with AVX2 alone
SMOOTH = "dynamic-int8, smoothquant"  # examples/smooth-int8.toml, in rows of models
PEAKS = ("int8", "int4", "int16", "float32")


@dataclass(frozen=True)
class Goal:
    """figures: what the rows of one number of threads say.  aims: by instruction set and threads."""

    work: str
    measure: str
    part: str
    figures: Callable[[Rows, Result], Figures]
    aims: Mapping[str, Aims]
    show: Callable[[float], str] = field(default=lambda value: f"{100 * value:.0f}")
    unit: str = " %"
    at_most: bool = False

    def meets(self, value: float, aim: float) -> bool:
        """By what a table shows: a figure that reads like its goal meets it."""
        if self.show(value) == self.show(aim):
            return True
        return value < aim if self.at_most else value > aim


def goals_of(isa: str) -> str | None:
    """Which goals an instruction set has."""
    if isa == "avx2":
        return AVX2
    return VNNI if isa.startswith("avx512v") else None


# ---- rows --------------------------------------------------------------------------------------------------------


def own(rows: Iterable[Row], section: str, contender: str = OWN) -> list[Row]:
    return [row for row in rows if row["section"] == section and row["contender"] == contender and row.get("median")]


def place(row: Row) -> str:
    return f"{row['m']} x {row['k']} -> {row['n']}" if "m" in row else row["case"]


def last_cache(found: Result) -> int:
    return max(found["machine"]["caches"].values(), default=1 << 20)


def from_cache(row: Row, found: Result) -> bool:
    """The weight's codes stay in a cache from call to call."""
    return row["n"] * row["k"] <= last_cache(found) // 2


def shares(
    section: str, which: Callable[[Row, Result], bool], share: Callable[[Row], float | None] | str = "share"
) -> Callable[[Rows, Result], Figures]:
    take = share if callable(share) else lambda row: row.get(share)

    def figures(rows: Rows, found: Result) -> Figures:
        chosen = {place(row): take(row) for row in own(rows, section) if which(row, found)}
        return {name: value for name, value in chosen.items() if value}

    return figures


def times_as_fast(
    section: str,
    which: Callable[[Row, Result], bool],
    peers: Callable[[str], bool],
    contender: str = OWN,
) -> Callable[[Rows, Result], Figures]:
    """How many times as fast as the fastest of those peers."""

    def figures(rows: Rows, found: Result) -> Figures:
        best: dict[str, float] = {}
        for row in rows:
            is_peer = not row["contender"].startswith(OWN) and peers(row["contender"])
            if row["section"] == section and is_peer and row.get("median"):
                best[place(row)] = min(row["median"], best.get(place(row), row["median"]))
        chosen = [row for row in own(rows, section, contender) if which(row, found)]
        return {place(row): best[place(row)] / row["median"] for row in chosen if place(row) in best}

    return figures


def beside_plain(section: str, sizes: Sequence[str] = ()) -> Callable[[Rows, Result], Figures]:
    """Of the plain loop that quantizes with ordinary stores; 64 KiB net of a call.  NaN: not to be told."""

    def figures(rows: Rows, found: Result) -> Figures:
        shown: Figures = {}
        for row in sorted(own(rows, section), key=lambda row: row["nbytes"]):
            plain = next((value for name, value in row["loops"].items() if name.startswith("quantize (")), None)
            seconds = row["net"] if row["nbytes"] == SIZES[0] else row["median"]
            if not sizes or row["case"] in sizes:
                shown[row["case"]] = plain / seconds if plain and seconds else math.nan
        return shown

    return figures


def everyone(_name: str) -> bool:
    return True


def takes_floats(name: str) -> bool:
    return name not in CODES_IN


def is_exact(name: str) -> bool:
    return name in EXACT


def saturates(name: str) -> bool:
    return takes_floats(name) and not is_exact(name)


def is_large(row: Row, _found: Result) -> bool:
    return row["m"] >= 128 and min(row["n"], row["k"]) >= 768


def is_middling(row: Row, _found: Result) -> bool:
    return 64 <= row["m"] <= 512 and 384 <= min(row["n"], row["k"]) <= max(row["n"], row["k"]) <= 1536


def one_row_from_cache(row: Row, found: Result) -> bool:
    return row["m"] == 1 and from_cache(row, found)


def sixteen_from_cache(row: Row, found: Result) -> bool:
    return row["m"] == 16 and from_cache(row, found)


def many_rows(row: Row, _found: Result) -> bool:
    return row["m"] >= 64


def every_row(_row: Row, _found: Result) -> bool:
    return True


def of_half_the_peak(row: Row) -> float | None:
    """One row with AVX2: the slower of reading and of half the peak, since widening takes as much as the products."""
    at = {name.partition(" (")[0]: seconds for name, seconds in row["loops"].items()}
    return max(at["read"], 2 * at["int8"]) / row["median"] if "read" in at and "int8" in at else None


def steps(rows: Rows, _found: Result) -> Figures:
    """The rate at m + 1 rows beside that at m, for shapes that were measured with 1 to 32."""
    by_shape: dict[str, dict[int, float]] = {}
    for row in own(rows, "linear int8"):
        by_shape.setdefault(row["case"], {})[row["m"]] = row["gops"]
    return {
        f"{m} to {m + 1} rows of {case}": rates[m + 1] / rates[m]
        for case, rates in by_shape.items()
        if all(m in rates for m in range(1, 33))
        for m in range(1, 32)
    }


def from_memory(section: str) -> Callable[[Rows, Result], Figures]:
    return shares(section, lambda row, _: row["case"] == "4096 x 11008" and row["m"] == 1)


def four_bits_beside_eight(rows: Rows, found: Result) -> Figures:
    eight, four = (
        {place(row): row["median"] for row in own(rows, f"linear {kind}") if row["m"] == 1}
        for kind in ("int8", "int4 g32")
    )
    return {name: eight[name] / four[name] for name in eight.keys() & four.keys() if name.endswith("x 11008 -> 4096")}


def of_model(size: str, key: str = "share", recipe: str = "dynamic-int8") -> Callable[[Rows, Result], Figures]:
    def figures(rows: Rows, _found: Result) -> Figures:
        chosen = own(rows, MODEL, f"{OWN} {recipe}")
        return {row["case"]: row[key] for row in chosen if row["case"] == size and row.get(key)}

    return figures


def smooth_beside_plain(rows: Rows, _found: Result) -> Figures:
    """Times dynamic-int8's time, on many tokens."""
    at = {row["contender"]: row["median"] for row in rows if row["section"] == MODEL and row["case"] == "32 x 128"}
    smooth, plain = at.get(f"{OWN} {SMOOTH}"), at.get(f"{OWN} dynamic-int8")
    return {"32 x 128": smooth / plain} if smooth and plain else {}


def model_beside_peers(size: str) -> Callable[[Rows, Result], Figures]:
    return times_as_fast(MODEL, lambda row, _: row["case"] == size, everyone, f"{OWN} dynamic-int8")


def overhead(rows: Rows, _found: Result) -> Figures:
    return {row["case"]: row["median"] for row in own(rows, "call overhead")}


# ---- the goals ---------------------------------------------------------------------------------------------------


def both(one: float, two: float) -> Aims:
    return {1: (one,), 2: (two,)}


def alone(*aims: float) -> Aims:
    """Measured on one thread."""
    return {1: aims}


TIMES = {"show": lambda value: f"{value:.2f}", "unit": "x"}
COSINE = {"show": lambda value: f"{value:.4f}", "unit": ""}
PLAIN = "plain quantize loop, 64 KiB net / 1 / 64 / 256 MiB"
GOALS = (
    Goal(
        "int8, 128 rows and more, outputs and inputs >= 768", "peak", "linear", shares("linear int8", is_large),
        {VNNI: both(0.90, 0.87), AVX2: both(0.88, 0.85)},
    ),
    Goal(
        "the same beside peers that take floats", "best peer", "linear",
        times_as_fast("linear int8", is_large, takes_floats), {VNNI: both(1, 1)}, **TIMES,
    ),
    Goal(
        "the same beside exact peers", "best peer", "linear",
        times_as_fast("linear int8", is_large, is_exact), {AVX2: both(1.1, 1.1)}, **TIMES,
    ),
    Goal(
        "the same beside saturating peers, whose sums are wrong", "best peer", "linear",
        times_as_fast("linear int8", is_large, saturates), {AVX2: both(0.8, 0.8)}, **TIMES,
    ),
    Goal(
        "int8, 64 to 512 rows, outputs and inputs 384 to 1536", "peak, net of a call", "linear",
        shares("linear int8", is_middling, "net_share"), {VNNI: both(0.85, 0.80), AVX2: both(0.83, 0.78)},
    ),
    Goal(
        "int8, one row, weight in a cache", "limit: reading", "linear",
        shares("linear int8", one_row_from_cache), {VNNI: alone(0.75)},
    ),
    Goal(
        "int8, one row, weight in a cache", "lesser of reading and half the peak", "linear",
        shares("linear int8", one_row_from_cache, of_half_the_peak), {AVX2: alone(0.70)},
    ),
    Goal(
        "that row beside peers that take floats", "best peer", "linear",
        times_as_fast("linear int8", one_row_from_cache, takes_floats), {VNNI: alone(2), AVX2: alone(1.5)}, **TIMES,
    ),
    Goal(
        "that row beside oneDNN, which is given int8 codes", "oneDNN", "linear",
        times_as_fast("linear int8", one_row_from_cache, lambda name: name in CODES_IN), {VNNI: alone(1)}, **TIMES,
    ),
    Goal(
        "int8, 16 rows, weight in a cache", "peak", "linear",
        shares("linear int8", sixteen_from_cache), {VNNI: alone(0.84), AVX2: alone(0.80)},
    ),
    Goal(
        "int8, 1 to 32 rows: the rate never falls", "rate at a row more", "linear",
        steps, {VNNI: alone(1), AVX2: alone(1)}, **TIMES,
    ),
    Goal(
        "int8, one row of 11008 -> 4096 from memory", "plain read", "linear",
        from_memory("linear int8"), {VNNI: {2: (0.92,)}, AVX2: {2: (0.92,)}},
    ),
    Goal(
        "4 bits in groups of 32 beside that", "int8", "groups",
        four_bits_beside_eight, {VNNI: {2: (1.6,)}, AVX2: {2: (1.6,)}}, **TIMES,
    ),
    *(
        Goal(
            f"int4 in groups of {size}, 64 rows and more", "peak", "groups",
            shares(f"linear int4 g{size}", many_rows), {VNNI: both(0.72, 0.70), AVX2: both(0.75, 0.72)},
        )
        for size in (32, 128)
    ),
    *(
        Goal(
            f"int4 in groups of {size} beside peers", "best peer", "groups",
            times_as_fast(f"linear int4 g{size}", many_rows, everyone), {AVX2: both(2, 2)}, **TIMES,
        )
        for size in (32, 128)
    ),
    Goal(
        "float32, every shape, one row included", "best peer", "float",
        times_as_fast("linear float32", every_row, everyone), {VNNI: both(0.9, 0.9), AVX2: both(0.9, 0.9)}, **TIMES,
    ),
    *(
        Goal(
            work, PLAIN, "arrays", beside_plain(work), {VNNI: alone(*vnni), AVX2: alone(*avx2)},
        )
        for work, vnni, avx2 in (
            ("quantize", (0.76, 0.88, 0.88, 0.90), (0.76, 0.85, 0.88, 0.88)),
            ("quantize channels", (0.76, 0.88, 0.88, 0.90), (0.76, 0.85, 0.88, 0.88)),
            ("dequantize", (0.76, 0.75, 0.86, 0.79), (0.80, 0.78, 1.25, 1.25)),
            ("quantize rows", (0.59, 0.60, 0.67, 0.67), (0.55, 0.57, 0.78, 0.78)),
        )
    ),
    *(
        Goal(
            f"{work}, 1 MiB", "plain quantize loop", "arrays", beside_plain(work, ("1 MiB",)),
            {VNNI: alone(vnni), AVX2: alone(avx2)},
        )
        for work, vnni, avx2 in (
            ("quantize int8 g32", 0.58, 0.56),
            ("quantize int4 g32", 0.29, 0.28),
            ("dequantize int8 g32", 0.67, 0.66),
            ("dequantize int4 g32", 0.58, 0.56),
        )
    ),
    Goal(
        "MiniLM `dynamic-int8`, 32 x 128 tokens", "products alone at the peak", "model",
        of_model("32 x 128"), {VNNI: both(0.66, 0.64)},
    ),
    Goal(
        "those tokens beside peers", "best peer", "model",
        model_beside_peers("32 x 128"), {VNNI: both(1.34, 1.31), AVX2: both(1.3, 1.3)}, **TIMES,
    ),
    Goal(
        "its cosine with the float model, mean", "", "model",
        of_model("32 x 128", "cosine"), {VNNI: both(0.998, 0.998), AVX2: both(0.998, 0.998)}, **COSINE,
    ),
    Goal(
        "its cosine with the float model, least", "", "model",
        of_model("32 x 128", "least_cosine"), {VNNI: both(0.996, 0.996)}, **COSINE,
    ),
    Goal(
        "the same with SmoothQuant: its time", "`dynamic-int8`", "model",
        smooth_beside_plain, {VNNI: both(1.12, 1.12)}, **TIMES, at_most=True,
    ),
    Goal(
        "its cosine with the float model, mean", "", "model",
        of_model("32 x 128", "cosine", SMOOTH), {VNNI: both(0.999, 0.999)}, **COSINE,
    ),
    Goal(
        "its cosine with the float model, least", "", "model",
        of_model("32 x 128", "least_cosine", SMOOTH), {VNNI: both(0.996, 0.996)}, **COSINE,
    ),
    *(
        Goal(
            f"one sentence of {tokens} tokens", "products alone at the peak", "model",
            of_model(f"1 x {tokens}"), {VNNI: alone(share)},
        )
        for tokens, share in ((16, 0.65), (128, 0.72))
    ),
    *(
        Goal(
            f"one sentence of {tokens} tokens beside peers", "best peer", "model",
            model_beside_peers(f"1 x {tokens}"), {VNNI: alone(vnni), AVX2: alone(avx2)}, **TIMES,
        )
        for tokens, vnni, avx2 in ((16, 1.94, 1.35), (128, 1.61, 1.15))
    ),
    Goal(
        "a call's own time, `linear` on 1 x 64 x 64", "", "call", overhead,
        {VNNI: alone(1.5e-6), AVX2: alone(1.5e-6)}, duration, "", at_most=True,
    ),
)  # fmt: skip
