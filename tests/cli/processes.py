"""How the tests start the command: a fresh Python process."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


# Variables that change what a command prints, or how it ends.
CHANGING = ("COLUMNS", "FORCE_COLOR", "QLM_ISA", "PYTHONUNBUFFERED")


def environment(**changes):
    """This process's, without what would change the output, and with the package's folder on the path."""
    kept = {name: value for name, value in os.environ.items() if name not in CHANGING}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", **changes}


def command(*words):
    return [sys.executable, "-m", "qlm", *map(str, words)]
