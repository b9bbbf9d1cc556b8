"""show the instruction sets that the kernels use on this CPU

The instruction set in use, those usable here, the CPU's features and the number of threads.
"""

from __future__ import annotations

import argparse

from .output import print_json, print_pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None beside those of every command."""


def run(arguments: argparse.Namespace) -> None:
    import qlm

    info, threads = qlm.cpu_info(), qlm.get_num_threads()
    if arguments.json:
        print_json({**info, "threads": threads})
        return
    print_pairs(
        [
            ("isa in use", info["isa"]),
            ("usable here", " ".join(info["isas"])),
            ("compiled in", " ".join(info["compiled"])),
            ("CPU features", " ".join(info["features"])),
            ("threads", str(threads)),
        ]
    )
