"""The first moments of the command `qlm`: the package is still being imported, so that none of the command's own code
can say what went wrong."""

from __future__ import annotations

import os
import sys
from itertools import pairwise


def end_command(error: BaseException) -> None:
    """Where this process is the command, ends it as the command ends: in one line, with its exit status."""
    if not is_command():
        return
    if is_interrupt(error):
        raise SystemExit(130) from None
    print(f"qlm: error: {' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(1) from None


def not_built(error: BaseException) -> ImportError | None:
    """What to say where Python found the sources, as it does in their folder, and the C core is not in there."""
    if not isinstance(error, ModuleNotFoundError) or error.name != "qlm._core":
        return None
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return ImportError(
        f"qlm is not built in {folder}: `pip install -e .` there builds it; other folders find an installed one"
    )


def is_command() -> bool:
    """Whether the interpreter was started by the script `qlm` or as `python -m qlm`."""
    script = sys.argv[0] if getattr(sys, "argv", None) else ""
    if script == "-m":  # what stands there while the package of a module is imported
        words = sys.orig_argv
        return "-mqlm" in words or ("-m", "qlm") in pairwise(words)
    return os.path.basename(script) in ("qlm", "qlm.exe")


def is_interrupt(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is behind the error; NumPy's import makes an ImportError of some."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
