"""Every allocation of the binding made to fail, one after the other: MemoryError and no other error, and the next call
gives what it gave before.  (The core's own allocations: csrc/tests/test_memory.c.)"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qlm

CHILD = Path(__file__).with_name("memory_worker.py")
NAMES = (
    "linear_direct", "linear", "pack", "another layout", "range", "choose_qparams", "interval_params", "quantize",
    "quantize_interval", "dequantize", "Input", "first_bad", "not finite", "gather", "attention", "layernorm", "pool",
    "fake_quantize_backward", "matmul_codes", "qlm.linear", "qlm.quantize", "qlm.matmul",
)  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python has no _testcapi")
def test_each_allocation_fails() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(qlm.__file__).parents[1])}
    command = [sys.executable, str(CHILD)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    failures = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert tuple(failures) == NAMES
    # What allocates nothing but its result, by NumPy's own means, cannot be made to fail here.
    assert {name for name, count in failures.items() if count == "0"} <= {"first_bad"}
