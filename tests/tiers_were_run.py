"""After the tests: every instruction set was run, natively, emulated or under qemu, and some emulated one was.

Reads build/tiers.json, which tests/kernels writes. Exit status 1 where a tier was left out.
"""

import json
import sys
from pathlib import Path

RECORD = Path(__file__).resolve().parents[1] / "build" / "tiers.json"


def main() -> int:
    record = json.loads(RECORD.read_text())
    for isa, modes in record["tiers"].items():
        runs = ", ".join(f"{count} cases {mode}" for mode, count in modes.items())
        print(f"{isa:12} {runs or 'NOT RUN: ' + record['skipped'].get(isa, 'not asked for')}")
    emulated = any("emulated" in modes for modes in record["tiers"].values())
    if not emulated:
        print("no tier was emulated")
    return int(bool(record["untested"]) or not emulated)


if __name__ == "__main__":
    sys.exit(main())
