"""What the `qlm` command does: parse, run one subcommand, say what failed."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from .._version import __version__
from . import bench, classify, compare, cpu, embed, inspect, quantize
from .options import UsageError

COMMANDS = (quantize, compare, inspect, embed, classify, bench, cpu)
FAILED = 1


class CommandParser(argparse.ArgumentParser):
    """A subcommand's parser that takes options before, between and after the positional arguments."""

    _is_mixing = False

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        if self._is_mixing:
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qlm",
        description="Quantize, run and judge language models on a CPU.",
        epilog="MODEL is a Hugging Face folder, a folder that qlm saved, or pkg:NAME for an installed Python package "
        "that ships a model. `qlm COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"qlm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=CommandParser)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary, _, details = (module.__doc__ or "").strip().partition("\n")
        command = commands.add_parser(name, help=summary, description=details or summary)
        command.add_argument("--json", action="store_true", help="print JSON instead of text")
        command.add_argument("--debug", action="store_true", help="show the traceback of a failure")
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


def run_command(argv: Sequence[str] | None) -> int:
    """Runs one command and returns its exit status."""
    if sys.stdout is None:  # closed by whoever started us, who wants no output
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    try:
        return run(build_parser().parse_args(argv))
    except SystemExit as leaving:  # argparse: --help, --version and wrong usage
        return leaving.code if isinstance(leaving.code, int) else FAILED


def run(arguments: argparse.Namespace) -> int:
    try:
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        drop_output()  # the reader of our output has left, as `head` does: say nothing
        return FAILED
    except Exception as error:
        drop_output()
        if arguments.debug:
            traceback.print_exc()
        if isinstance(error, UsageError):
            arguments.parser.error(one_line(error))
        print(f"qlm: error: {one_line(error)}", file=sys.stderr)
        return FAILED


def drop_output() -> None:
    """Gives up what stdout cannot take: the interpreter's own flush at exit would fail again, with status 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename or repr('')}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
