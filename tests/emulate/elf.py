"""The parts of an ELF64 shared object that an emulator needs: segments, symbols, relocations."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PT_LOAD, SHT_SYMTAB, SHT_RELA, SHT_DYNSYM, SHF_ALLOC = 1, 2, 4, 11, 2
STT_OBJECT, STT_FUNC = 1, 2
R_64, R_GLOB_DAT, R_JUMP_SLOT, R_RELATIVE = 1, 6, 7, 8


@dataclass(frozen=True)
class Segment:
    address: int
    data: bytes
    memory_size: int
    writable: bool
    executable: bool


@dataclass(frozen=True)
class Symbol:
    name: str
    kind: int
    defined: bool
    value: int
    size: int


@dataclass(frozen=True)
class Relocation:
    address: int
    kind: int
    symbol: Symbol | None
    addend: int


class SharedObject:
    """One file with section headers."""

    def __init__(self, path: str | Path) -> None:
        self.data = Path(path).read_bytes()
        self._phoff, self._shoff = struct.unpack_from("<QQ", self.data, 32)
        self._phnum, _, self._shnum = struct.unpack_from("<HHH", self.data, 56)
        headers = self.data[self._shoff : self._shoff + 64 * self._shnum]
        self._sections = list(struct.iter_unpack("<IIQQQQIIQQ", headers))
        self.tables = {
            index: self._symbols(section)
            for index, section in enumerate(self._sections)
            if section[1] in (SHT_SYMTAB, SHT_DYNSYM)
        }

    def segments(self) -> Iterator[Segment]:
        headers = self.data[self._phoff : self._phoff + 56 * self._phnum]
        for kind, flags, offset, address, _, size, memory, _ in struct.iter_unpack("<IIQQQQQQ", headers):
            if kind == PT_LOAD:
                yield Segment(address, self.data[offset : offset + size], memory, bool(flags & 2), bool(flags & 1))

    def _symbols(self, section: tuple[int, ...]) -> list[Symbol]:
        _, _, _, _, offset, size, link, *_ = section
        strings = self.data[self._sections[link][4] :]
        found = []
        for name, info, _, index, value, length in struct.iter_unpack("<IBBHQQ", self.data[offset : offset + size]):
            text = strings[name : strings.index(b"\0", name)].decode()
            found.append(Symbol(text, info & 15, index != 0, value, length))
        return found

    def relocations(self) -> Iterator[Relocation]:
        for _, kind, flags, _, offset, size, link, *_ in self._sections:
            if kind != SHT_RELA or not flags & SHF_ALLOC:
                continue
            for address, info, addend in struct.iter_unpack("<QQq", self.data[offset : offset + size]):
                table = self.tables.get(link)
                yield Relocation(address, info & 0xFFFFFFFF, table[info >> 32] if table else None, addend)
