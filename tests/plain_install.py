"""Run by CI in an environment where qlm was installed without extras: arrays work, models name the extra."""

import importlib.metadata
import subprocess
import sys
import time

import numpy as np

import qlm

installed = {d.metadata["Name"].lower().replace("-", "_") for d in importlib.metadata.distributions()}
assert installed <= {"qlm", "numpy", "ml_dtypes", "pip", "setuptools", "wheel"}, installed

x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 16)
assert np.abs(qlm.quantize(x, axis=0).dequantize() - x).max() <= 1 / 254 + 1e-6


def refusal() -> str:
    """What loading a model says without the extra."""
    try:
        qlm.load("/nowhere")
    except ImportError as error:
        return str(error)
    return "nothing"


assert "qlm[llm]" in refusal(), refusal()


def import_seconds(code: str) -> float:
    """The least of ten fresh interpreters: what the import itself takes, without the machine's noise."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return min(times)


extra = import_seconds("import numpy, qlm") - import_seconds("import numpy")
print(f"plain install: arrays work; import qlm takes {1e3 * extra:.1f} ms more than numpy")
