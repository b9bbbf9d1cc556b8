"""Run a function of a compiled x86-64 shared object on an emulated CPU, whatever the host's CPU is.

    emulator = Emulator("tigerlake")         # or ("tigerlake", exclude="avx512vbmi avx512vbmi2")
    library = emulator.load("kernels.so")    # {function name: address}; static functions too
    emulator.call(library["dot_u8s8"], a, b, out, len(a))

Arguments: int, None (NULL), np.float32, float (double), NumPy array (a pointer: copied in, copied back if writable; a
read-only array is mapped read-only). Each array ends (guard="end", start rounded down to `align`) or starts
(guard="start", page-aligned) at an unmapped page. A fault, an access outside the arrays, an instruction that the model
lacks, a breach of the calling convention and a timeout all raise Fault.
"""

import ctypes
import mmap
import struct
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from emulate import elf
from emulate.bochs import AVX512_MODELS, MODELS, bochs

PAGE, MEMORY = 4096, 64 << 20  # guest: 64 MiB, linear address == physical address
PML4, PDPT, PAGE_DIRECTORY, PAGE_TABLES = 0x1000, 0x2000, 0x3000, 0x4000  # 32 neighbouring page tables: one flat array
HALT, THREAD_LOCAL, STACK, STACK_SIZE, CODE, HEAP = 0x30000, 0x32000, 0x40000, 0x40000, 0x100000, 0x1000000
PRESENT, WRITABLE, NO_EXECUTE, POISON = 1, 2, 1 << 63, 0xA5
PAGE_FAULT = 14
VECTORS = {
    0: "#DE division",
    3: "#BP int3",
    6: "#UD not in this CPU model (or wrong in Bochs 3.0: see bochs_shim.c)",
    13: "#GP (misaligned aligned move?)",
    PAGE_FAULT: "#PF",
    19: "#XM unmasked float exception",
}
RSP, ARGUMENT_REGISTERS, CALLEE_SAVED = 4, (7, 6, 2, 1, 8, 9), (3, 4, 5, 12, 13, 14, 15)
HOOKS, HOOK_HALT, HOOK_EXCEPTION = 26, 2, 10


class Fault(Exception):
    pass


class _Operand:
    """Where an array argument lies in guest memory: [page, end) are its pages, `start` its first byte."""

    def __init__(self, array: np.ndarray, page: int, guard: str, align: int) -> None:
        self.array, self.page, self.bytes = array, page, array.nbytes
        room = max(1, -(-self.bytes // PAGE)) * PAGE
        self.start = page + ((room - self.bytes) // align * align if guard == "end" else 0)
        self.end = page + room


def _bits_of_float(value: float | np.float32) -> int:
    packed = struct.pack("<f4x" if isinstance(value, np.float32) else "<d", value)
    return struct.unpack("<Q", packed)[0]


class Emulator:
    active: ClassVar["Emulator | None"] = None  # several may live in a process; a switch costs some 40 ms

    def __init__(self, model: str = "sapphire_rapids", add: str = "", exclude: str = "") -> None:
        self.bochs = bochs()
        self.cpu_lib: Any = self.bochs.library
        if model not in MODELS:
            raise ValueError(f"unknown model {model}")
        for feature in f"{exclude} {add}".split():
            if not self.bochs.knows_feature(feature):
                raise ValueError(f"unknown feature {feature}")
        self.model, self.add, self.exclude = model, add, exclude
        self.xcr0 = 0xE7 if model in AVX512_MODELS or "avx512" in add.split() else 7
        self.end, self.exports, self.instructions = CODE, dict[str, int](), 0
        self.names: list[tuple[int, int, str]] = []  # address, size, name of what lies in memory
        self._fault: tuple[int, int, int, int] | None = None
        self._make_memory()
        self._make_hooks()
        self._activate()

    def _make_memory(self) -> None:
        self.memory = np.frombuffer(mmap.mmap(-1, MEMORY), np.uint8)
        words = self.memory.view(np.uint64)
        words[PML4 // 8], words[PDPT // 8] = PDPT | PRESENT | WRITABLE, PAGE_DIRECTORY | PRESENT | WRITABLE
        tables = PAGE_TABLES + PAGE * np.arange(32, dtype=np.uint64)
        words[PAGE_DIRECTORY // 8 : PAGE_DIRECTORY // 8 + 32] = tables | np.uint64(PRESENT | WRITABLE)
        self.page_entries = words[PAGE_TABLES // 8 : PAGE_TABLES // 8 + MEMORY // PAGE]
        self.memory[HALT] = 0xF4  # hlt, at the return address
        self._map(HALT, PAGE, 0)
        self._map(THREAD_LOCAL, PAGE, WRITABLE | NO_EXECUTE)  # fs:0x28, for a stack protector
        self._map(STACK, STACK_SIZE, WRITABLE | NO_EXECUTE)

    def _make_hooks(self) -> None:
        """bochscpu_hooks_t is 26 pointers, the first a context; NULL is no hook."""
        lib = self.cpu_lib
        halt_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32)
        exception_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32)
        self._on_halt = halt_type(lambda context, cpu: lib.bochscpu_cpu_stop(self.cpu))
        self._on_exception = exception_type(self._exception)
        self._hooks = (ctypes.c_void_p * HOOKS)()
        self._hooks[HOOK_HALT] = ctypes.cast(self._on_halt, ctypes.c_void_p)
        self._hooks[HOOK_EXCEPTION] = ctypes.cast(self._on_exception, ctypes.c_void_p)
        self._chain = (ctypes.c_void_p * 2)(ctypes.addressof(self._hooks), None)

    def _activate(self) -> None:
        """Make the process's one CPU this model with this memory."""
        self.cpu = self.bochs.become(self.model, self.add, self.exclude)
        for page in range(0, MEMORY, PAGE):
            self.cpu_lib.bochscpu_mem_page_insert(page, self.memory.ctypes.data + page)
        self.cpu_lib._Z12flushICachesv()
        Emulator.active = self

    def _exception(self, context: Any, cpu: int, vector: int, error: int) -> None:
        self._fault = (vector, error, self.cpu_lib.cpu_get_pc(0), self.cpu_lib.cpu_get_cr2(0))
        self.cpu_lib.bochscpu_cpu_stop(self.cpu)

    def _map(self, address: int, size: int, flags: int) -> None:
        for page in range(address // PAGE, -(-(address + size) // PAGE)):
            self.page_entries[page] = page * PAGE | PRESENT | flags

    # ---- loading -----------------------------------------------------------------------------------------------

    def load(self, path: str | Path) -> dict[str, int]:
        """Map a shared object. A symbol that it does not define is looked up in those loaded before, else gets an
        unmapped address: a call to it is a Fault that names it."""
        library, base = elf.SharedObject(path), self.end
        for segment in library.segments():
            begin = base + segment.address
            self.memory[begin : begin + len(segment.data)] = np.frombuffer(segment.data, np.uint8)
            flags = (WRITABLE if segment.writable else 0) | (0 if segment.executable else NO_EXECUTE)
            self._map(begin, segment.memory_size, flags)
            self.end = max(self.end, -(-(begin + segment.memory_size) // PAGE) * PAGE + PAGE)
        functions = self._name_symbols(library, base)
        self._relocate(library, base)
        self.exports.update(functions)
        return functions

    def _name_symbols(self, library: elf.SharedObject, base: int) -> dict[str, int]:
        functions = {}
        for symbol in (symbol for table in library.tables.values() for symbol in table):
            if symbol.defined and symbol.kind in (elf.STT_OBJECT, elf.STT_FUNC):
                self.names.append((base + symbol.value, symbol.size, symbol.name))
                if symbol.kind == elf.STT_FUNC:
                    functions[symbol.name] = base + symbol.value
        return functions

    def _relocate(self, library: elf.SharedObject, base: int) -> None:
        for relocation in library.relocations():
            symbol, kind = relocation.symbol, relocation.kind
            if kind == elf.R_RELATIVE:
                value = base + relocation.addend
            elif kind in (elf.R_64, elf.R_GLOB_DAT, elf.R_JUMP_SLOT) and symbol is not None:
                value = base + symbol.value if symbol.defined else self._address_elsewhere(symbol.name)
                value += relocation.addend if kind == elf.R_64 else 0
            else:
                value = self._unmapped(f"relocation of type {kind}, not supported")
            at = base + relocation.address
            self.memory[at : at + 8] = np.frombuffer(struct.pack("<Q", value), np.uint8)
        self.end = -(-self.end // PAGE) * PAGE + PAGE

    def _address_elsewhere(self, name: str) -> int:
        return self.exports[name] if name in self.exports else self._unmapped(f"undefined symbol {name}")

    def _unmapped(self, name: str) -> int:
        self.names.append((self.end, 16, name))
        self.end += 16
        return self.end - 16

    def _where(self, address: int) -> str:
        """The name of what lies at an address, or close to it."""
        near = []
        for begin, size, name in reversed(self.names):
            if begin <= address < begin + size:
                return f"{name}{address - begin:+#x}"
            if begin - PAGE < address < begin + size + PAGE:
                near.append((abs(address - begin), f"{name}{address - begin:+#x}"))
        return min(near)[1] if near else "?"

    # ---- calling -----------------------------------------------------------------------------------------------

    def call(self, function, *args, guard="end", align=1, ret=None, timeout=60.0) -> Any:
        """Call it; returns rax, or xmm0 as np.float32 (ret="f") or np.float64 (ret="d")."""
        if Emulator.active is not self:
            self._activate()
        names, self.names = self.names, self.names[:]
        try:
            integers, floats, operands = self._place(args, guard, align)
            registers = self._set_state(function, integers, floats)
            self._run(timeout)
            problem = self._problem(registers, timeout) or self._copy_back(operands)
            if problem:
                place = self._fault[2] if self._fault else self.cpu_lib.cpu_get_pc(0)
                raise Fault(f"{problem}; rip {place:#x} ({self._where(place)})")
        finally:
            self.names = names
        if not ret:
            return self.cpu_lib.cpu_get_reg64(0, 0)
        vector = (ctypes.c_uint64 * 8)()
        self.cpu_lib.cpu_get_zmm(0, 0, vector)
        return np.frombuffer(vector, np.float32 if ret == "f" else np.float64)[0]

    def _place(self, args, guard: str, align: int) -> tuple[list[int], list[int], list[_Operand]]:
        """Copy the arrays in; what goes to integer and to vector registers."""
        self.page_entries[HEAP // PAGE :] = 0
        integers, floats, operands, heap = [], [], [], HEAP
        for index, value in enumerate(args):
            if isinstance(value, np.ndarray):
                operand = self._place_array(value, heap + PAGE, guard, align)
                self.names.append((operand.start, operand.bytes, f"argument {index} ({operand.bytes} bytes)"))
                integers.append(operand.start)
                operands.append(operand)
                heap = operand.end
            elif isinstance(value, float | np.float32):
                floats.append(_bits_of_float(value))
            else:
                integers.append(int(value or 0) & (1 << 64) - 1)
        return integers, floats, operands

    def _place_array(self, array: np.ndarray, page: int, guard: str, align: int) -> _Operand:
        if not array.flags.c_contiguous:
            raise ValueError("array not contiguous")
        operand = _Operand(array, page, guard, align)
        if operand.end + PAGE > MEMORY:
            raise MemoryError("guest memory")
        self.memory[page : operand.end] = POISON
        self.memory[operand.start : operand.start + operand.bytes] = array.reshape(-1).view(np.uint8)
        self._map(page, operand.end - page, (WRITABLE if array.flags.writeable else 0) | NO_EXECUTE)
        return operand

    def _set_state(self, function: int, integers: list[int], floats: list[int]) -> list[int]:
        """Registers at entry, garbage in every one that carries no argument; returns the general ones."""
        lib = self.cpu_lib
        # PG WP NE MP PE; OSXSAVE OSXMMEXCPT OSFXSR PAE; NXE LMA LME
        control = {"cr0": 0x80010033, "cr4": 0x40620, "efer": 0xD00, "xcr0": self.xcr0, "mxcsr": 0x1F80, "eflags": 2}
        for register, value in control.items():
            getattr(lib, f"cpu_set_{register}")(0, value)
        lib.cpu_set_cr3(0, PML4)
        for segment in range(6):  # es cs ss ds fs gs: flat, ring 0 (where hlt is allowed)
            code, base = segment == 1, THREAD_LOCAL if segment == 4 else 0
            lib.cpu_set_seg(0, segment, 1, 8 if code else 16, base, 0xFFFFFFFF, 0xA09B if code else 0xC093)
        for index in range(32):
            first = [floats[index]] if index < len(floats) else []
            lib.cpu_set_zmm(0, index, (ctypes.c_uint64 * 8)(*first, *[0x7FF4DEADBEEF0000 + index] * 7))
        registers = [0xDEAD0000BEEF0000 + index for index in range(16)]
        for register, value in zip(ARGUMENT_REGISTERS, integers, strict=False):
            registers[register] = value
        on_stack = [HALT, *integers[len(ARGUMENT_REGISTERS) :]]
        top = (STACK + STACK_SIZE - 64 - 8 * (len(on_stack) - 1)) // 16 * 16 - 8  # rsp % 16 == 8 at entry
        registers[RSP] = top
        self.memory[top : top + 8 * len(on_stack)] = np.array(on_stack, np.uint64).view(np.uint8)
        for index, value in enumerate(registers):
            lib.cpu_set_reg64(0, index, value)
        lib.cpu_set_sp(0, top)
        lib.cpu_set_pc(0, function)
        lib.cpu_set_mode(0)  # after all that: flushes the TLB, takes over the CPU mode
        return registers

    def _run(self, timeout: float) -> None:
        self._fault, before = None, self.bochs.icount.value
        watchdog = threading.Timer(timeout, lambda: self.cpu_lib.cpu_set_killbit(0))
        watchdog.start()
        self.cpu_lib.bochscpu_cpu_run(self.cpu, self._chain)
        watchdog.cancel()
        self.instructions = self.bochs.icount.value - before

    def _problem(self, registers: list[int], timeout: float) -> str:
        if self._fault:
            vector, error, _, address = self._fault
            text = VECTORS.get(vector, f"exception {vector}")
            if vector != PAGE_FAULT:
                return text
            access = "write" if error & 2 else "fetch" if error & 16 else "read"
            return f"{text} {access} at {address:#x} ({self._where(address)})"
        if self.cpu_lib.cpu_get_pc(0) - HALT not in (0, 1):
            return f"no return in {timeout} s"
        for register in CALLEE_SAVED:
            popped = 8 if register == RSP else 0
            if self.cpu_lib.cpu_get_reg64(0, register) != registers[register] + popped:
                return "a callee-saved register was changed"
        return ""

    def _copy_back(self, operands: list[_Operand]) -> str:
        for operand in operands:
            if not operand.array.flags.writeable:
                continue
            place = slice(operand.start, operand.start + operand.bytes)
            operand.array.reshape(-1).view(np.uint8)[:] = self.memory[place]
            self.memory[place] = POISON
            if (self.memory[operand.page : operand.end] != POISON).any():
                return f"a write outside the array of {operand.bytes} bytes, in its pages"
        return ""
