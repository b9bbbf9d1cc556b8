"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core
from .._version import __version__

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def machine() -> dict[str, Any]:
    """The CPU's name, the instruction set in use, cores and caches (bytes by level; empty where unknown)."""
    info = _core.cpu_info()
    return {
        "cpu": cpu_name(),
        "isa": info["isa"],
        "features": info["features"],
        "cores": usable_cores(),
        "caches": {f"L{level}": size for level, size in sorted(caches().items())},
        "system": f"{platform.system()} {platform.machine()}",
    }


def software() -> dict[str, str]:
    return {"qlm": __version__, "python": platform.python_version(), "numpy": np.__version__}


def cpu_name() -> str:
    """As the system gives it; with family and model on x86, since hypervisors shorten names."""
    fields: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine() or "unknown CPU"
    if "cpu family" in fields and "model" in fields:
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def caches() -> dict[int, int]:
    """Bytes of the data cache of each level."""
    found: dict[int, int] = {}
    for folder in CACHES.glob("index*"):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                found[int(level)] = _bytes(size)
        except (OSError, ValueError):
            continue
    return found


def _bytes(text: str) -> int:
    """ "32K" or "1M"."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)
