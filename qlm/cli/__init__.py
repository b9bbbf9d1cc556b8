"""The `qlm` command: one file of this package per subcommand, imported with nothing heavy, so that a start is quick.

Exit status: 0 done; 1 the work failed (one line on stderr; --debug: the traceback); 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    try:
        from .program import run_command  # here, as Ctrl-C may come while it is imported

        return run_command(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if argv is None:
            # This process is the command, and its work is over: another Ctrl-C while the interpreter shuts down would
            # replace the status by death through the signal.
            with suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)
