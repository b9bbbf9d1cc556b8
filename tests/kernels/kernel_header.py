"""The X-macro lists of csrc/kernels/kernels.h, read as data: what each kernel is called and takes."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "csrc" / "kernels"


@dataclass(frozen=True)
class Parameter:
    """One C parameter: `kind` is its type without const and *, such as "float" or "size_t"."""

    name: str
    kind: str
    pointer: bool
    const: bool


@dataclass(frozen=True)
class Signature:
    name: str
    result: str
    parameters: tuple[Parameter, ...]


def _parameter(text: str) -> Parameter:
    match = re.fullmatch(r"(const )?(\w+) (\*?)(\w+)", text.strip())
    assert match, f"cannot read the parameter {text!r}"
    return Parameter(match[4], match[2], bool(match[3]), bool(match[1]))


def _entries(macro: str) -> dict[str, Signature]:
    source = (KERNELS / "kernels.h").read_text().replace("\\\n", " ")
    line = re.search(rf"#define {macro}\(X\)(.*)", source)
    assert line, f"no list {macro}"
    found = re.findall(r"X\((\w+), (\w+), *\(([^()]*)\)\)", line[1])
    return {name: Signature(name, result, tuple(map(_parameter, args.split(",")))) for result, name, args in found}


@cache
def signatures() -> dict[str, Signature]:
    """All kernels in the order of `struct qlm_kernels`."""
    return _entries("QLM_COMMON_KERNELS") | _entries("QLM_INT16_KERNELS") | _entries("QLM_INT8_KERNELS")


@cache
def all_isas() -> tuple[str, ...]:
    """The tables of csrc/dispatch.c, of every architecture."""
    return tuple(re.findall(r'\.isa = "(\w+)"', (ROOT / "csrc" / "dispatch.c").read_text()))


@cache
def int8_kernels() -> frozenset[str]:
    """The kernels whose operands depend on the table's left_type and k_step."""
    return frozenset(_entries("QLM_INT8_KERNELS"))


@dataclass(frozen=True)
class Constants:
    """The layout constants of a table."""

    left_type: int  # 0: U8, 1: S8, 2: S16
    k_step: int
    nr: int
    mr_8: int
    mr_16: int
    mr_f32: int
    rows_8: int
    left_4: int
    mr_4: int
    fold_4: int
