"""Which kernel is run on which tier by which runner, and the record of it: build/tiers.json."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import cases_groups
import cases_matrix
import cases_rows
import numpy as np
import pytest
from emulate.bochs import emulator_missing
from kernel_case import Case, Setting, make_cases, rng_for
from kernel_header import ROOT, Constants, all_isas, int8_kernels, signatures
from kernel_runners import (
    EmulatedRunner,
    NativeRunner,
    QemuRunner,
    Runner,
    native_isas,
    planned_runs,
    qemu_missing,
)

CASE_MODULES = (cases_rows, cases_matrix, cases_groups)  # importing them fills the table of cases
PANEL_KERNELS = {"gemm_f32", "gemv_f32", "gemm_16", "gemm_16_8"}
RECORD = ROOT / "build" / "tiers.json"


class Bench:
    """The runners of a session, its cases, and what was run."""

    def __init__(self, seed: int, tiers: str) -> None:
        self.seed, self.tiers = seed, tiers
        self.cases_run: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        self.tested_at: dict[tuple[int, Constants], str] = {}  # native functions by address, and for which tier
        self.skipped: dict[str, str] = {}

    @cache  # noqa: B019 (one a session)
    def runner(self, mode: str) -> Any:
        missing = {"emulated": emulator_missing, "qemu": qemu_missing}.get(mode, lambda: "")()
        if missing:
            pytest.skip(missing)
        if mode == "qemu":
            return QemuRunner(as_shipped=self.tiers in ("all", "qemu"))
        return {"native": NativeRunner, "emulated": EmulatedRunner}[mode]()

    def evaluate(self, function: int, x: np.ndarray) -> np.ndarray:
        """The scalar tier's functions: what those of all tiers equal."""
        out = np.empty(x.shape, np.float32)
        flat = np.ascontiguousarray(x, np.float32).reshape(-1)
        for begin in range(0, flat.size, 1 << 20):
            given = flat[begin : begin + (1 << 20)]
            result = out.reshape(-1)[begin : begin + (1 << 20)]
            self.runner("native").call("scalar", "map_f32", function, given, given.size, result)
        return out

    def cases(self, kernel: str, constants: Constants, level: str) -> list[Case]:
        """Made once for all tiers whose operands look alike."""
        alike = constants
        if kernel in PANEL_KERNELS:
            alike = replace(constants, left_type=0, k_step=0, mr_8=0, rows_8=0, left_4=0, mr_4=0, fold_4=0)
        elif kernel not in int8_kernels():
            alike = Constants(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return self._made(kernel, alike, level)

    @lru_cache(maxsize=8)  # noqa: B019 (one a session; the cases of all kernels together are large)
    def _made(self, kernel: str, constants: Constants, level: str) -> list[Case]:
        return list(make_cases(kernel, Setting(constants, level, self.evaluate, rng_for(kernel, self.seed))))


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.config.option.seed, request.config.option.tiers)
    yield bench
    if bench.cases_run or bench.skipped:
        write_record(bench)
    if any(mode == "qemu" for mode, _ in bench.cases_run):
        bench.runner("qemu").close()


def write_record(bench: Bench) -> None:
    """By tier: how it was run and on how many cases; `untested`: the tiers that ran in no way."""
    tiers: dict[str, dict[str, int]] = {isa: {} for isa in all_isas()}
    for (mode, isa), counts in bench.cases_run.items():
        if counts:
            tiers[isa][mode] = sum(counts.values())
    untested = [isa for isa, modes in tiers.items() if not modes]
    RECORD.parent.mkdir(exist_ok=True)
    record = {"seed": bench.seed, "tiers": tiers, "untested": untested, "skipped": bench.skipped}
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "run" not in metafunc.fixturenames:
        return
    runs = planned_runs(metafunc.config.option.tiers, native_isas())
    # natively kernel by kernel (tiers share cases), else tier by tier (a change of the emulated CPU takes time)
    pairs = [(run, kernel) for kernel in signatures() for run in runs if run[0] == "native"]
    pairs += [(run, kernel) for run in runs if run[0] != "native" for kernel in signatures()]
    metafunc.parametrize(("run", "kernel"), pairs, ids=[f"{mode}-{isa}-{kernel}" for (mode, isa), kernel in pairs])


@pytest.fixture
def tier(run: tuple[str, str], bench: Bench) -> tuple[Runner, str, Constants]:
    mode, isa = run
    try:
        runner = bench.runner(mode)
    except pytest.skip.Exception as skipped:
        bench.skipped[isa] = str(skipped)
        raise
    return runner, isa, runner.constants(isa)
