"""This CPU's exact int8 peak, measured by peak.c, which is built on the spot."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import qlm


@functools.cache
def int8_gops(threads: int = 1, seconds: float = 0.5) -> float | None:
    """GOP/s of `threads` threads together at the tier in use; None without a compiler or a loop for the tier."""
    isa, compiler = qlm.cpu_info()["isa"], shutil.which("cc") or shutil.which("gcc")
    scheme = {"avx512vbmi": "avx512vnni"}.get(isa, isa)
    if compiler is None or scheme not in ("avx2", "avxvnni", "avx512", "avx512vnni"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "peak")
        source = Path(__file__).with_name("peak.c")
        subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
        runs = [
            subprocess.Popen([program, scheme, str(seconds)], stdout=subprocess.PIPE, text=True) for _ in range(threads)
        ]
        return sum(float(run.communicate()[0]) for run in runs)
