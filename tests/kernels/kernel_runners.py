"""Three ways to call a kernel by name, with one interface.

    runner.call(isa, kernel, *arguments, guard="right")

The arguments follow the kernel's C parameters: numbers, None, or C-contiguous arrays; those behind a pointer that is
not const are changed in place. Each array lies flush against an inaccessible page on its right ("right") or left.
Returns the kernel's result (int, np.float32 or None).
"""

import ctypes
import fcntl
import mmap
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from kernel_header import ROOT, Constants, Signature, all_isas, signatures

POISON = 0xA5

# What each tier may use and no more: Bochs's CPU models (tests/emulate/README.md) and QEMU's.
NO_MORE_THAN_VBMI2 = "avx512bitalg avx512vpopcnt avx512ifma52 avx512vp2intersect gfni"
NO_VBMI = f"avx512vbmi avx512vbmi2 {NO_MORE_THAN_VBMI2}"
EMULATED_MODELS = {
    "avx2": ("corei7_haswell_4770", ""),
    "avxvnni": ("arrow_lake", ""),
    "avx512": ("corei7_skylake_x", ""),
    "avx512vnni": ("tigerlake", NO_VBMI),
    "avx512vbmi": ("tigerlake", NO_MORE_THAN_VBMI2),
}
QEMU_CPUS = {"neon": "cortex-a72", "neondot": "cortex-a76", "neoni8mm": "max"}


class Runner(Protocol):
    mode: str

    def constants(self, isa: str) -> Constants: ...

    def call(self, isa: str, kernel: str, *arguments: Any, guard: str = "right") -> Any: ...


class KernelFault(Exception):
    """The kernel touched memory outside of its operands, or used an instruction beyond its tier."""


def _checked(signature: Signature, arguments: tuple[Any, ...]) -> list[Any]:
    """Numbers as int or np.float32; arrays behind const pointers as read-only views."""
    assert len(arguments) == len(signature.parameters), signature
    checked: list[Any] = []
    for parameter, value in zip(signature.parameters, arguments, strict=True):
        if parameter.pointer and value is not None:
            assert value.flags.c_contiguous, parameter
            view = value.view()
            view.flags.writeable = not parameter.const
            checked.append(view)
        elif parameter.kind == "float" and not parameter.pointer:
            checked.append(np.float32(value))
        else:
            checked.append(None if value is None else int(value))
    return checked


def _as_int32(bits: int) -> int:
    return (bits & 0xFFFFFFFF) - ((bits & 0x80000000) << 1)


# ---- native --------------------------------------------------------------------------------------------------------


class GuardedSlot:
    """Memory between two inaccessible pages."""

    SIZE = 16 << 20

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self.SIZE + 2 * page)
        whole = np.frombuffer(self._memory, np.uint8)
        self.bytes, self.address = whole[page:-page], whole.ctypes.data + page
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (self.address - page, self.address + self.SIZE):
            if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, array: np.ndarray, guard: str) -> int:
        """Copies the array in, poisons 256 bytes on its other side; its address."""
        size = array.nbytes
        self._start = self.SIZE - size if guard == "right" else 0
        margin = slice(self._start - 256, self._start) if guard == "right" else slice(size, size + 256)
        self._margin = self.bytes[margin]
        self._margin[:] = POISON
        self._array = array
        self.bytes[self._start : self._start + size] = array.reshape(-1).view(np.uint8)
        return self.address + self._start

    def take(self) -> bool:
        """Copies a writable array back; False if a const one changed or the margin did."""
        now = self.bytes[self._start : self._start + self._array.nbytes]
        flat = self._array.reshape(-1).view(np.uint8)
        if self._array.flags.writeable:
            flat[:] = now
        elif not np.array_equal(flat, now):
            return False
        return bool((self._margin == POISON).all())


_C_TYPES = {"float": ctypes.c_float, "int": ctypes.c_int, "int32_t": ctypes.c_int32, "size_t": ctypes.c_size_t}


class NativeRunner:
    """Kernels of the tiers that this CPU has, through their addresses."""

    mode = "native"

    def __init__(self) -> None:
        from qlm import _core

        self._core: Any = _core
        self._slots: list[GuardedSlot] = []
        self._functions: dict[tuple[str, str], Any] = {}

    @cache  # noqa: B019 (one runner a session)
    def constants(self, isa: str) -> Constants:
        return Constants(**self._core.kernel_constants(isa))

    def address(self, isa: str, kernel: str) -> int:
        return int(self._core.kernel_address(isa, kernel))

    def _function(self, isa: str, kernel: str) -> Any:
        if (isa, kernel) not in self._functions:
            signature = signatures()[kernel]
            types = [ctypes.c_void_p if p.pointer else _C_TYPES[p.kind] for p in signature.parameters]
            prototype = ctypes.CFUNCTYPE(_C_TYPES.get(signature.result), *types)
            self._functions[isa, kernel] = prototype(self.address(isa, kernel))
        return self._functions[isa, kernel]

    def call(self, isa: str, kernel: str, *arguments: Any, guard: str = "right") -> Any:
        raw, used = [], []
        for value in _checked(signatures()[kernel], arguments):
            if isinstance(value, np.ndarray):
                if len(used) == len(self._slots):
                    self._slots.append(GuardedSlot())
                slot = self._slots[len(used)]
                raw.append(slot.place(value, guard))
                used.append(slot)
            else:
                raw.append(value)
        result = self._function(isa, kernel)(*raw)
        for slot in used:
            if not slot.take():
                raise KernelFault(f"{kernel}_{isa} wrote outside of its outputs")
        return np.float32(result) if signatures()[kernel].result == "float" else result


# ---- emulated ------------------------------------------------------------------------------------------------------


def build(target: str, **settings: str) -> Path:
    """What csrc/build.mk makes, on all cores; its own tests share the objects.  One process at a time: pytest's may
    want the same."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "-s", f"-j{os.cpu_count()}", "-f", "csrc/build.mk", target]
    command += [f"{name}={value}" for name, value in settings.items()]
    (ROOT / "build").mkdir(exist_ok=True)
    with open(ROOT / "build" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return ROOT / target


class EmulatedRunner:
    """x86 tiers on an emulated CPU that has their instructions and no others."""

    mode = "emulated"

    def __init__(self) -> None:
        self.library = build("build/core/kernels.so", CC="gcc")
        self._emulators: dict[str, Any] = {}
        self._tables: dict[str, dict[str, int]] = {}
        self._constants: dict[str, Constants] = {}

    def _emulator(self, isa: str) -> Any:
        if isa not in self._emulators:
            from emulate.emulator import Emulator

            model, exclude = EMULATED_MODELS[isa]
            emulator = Emulator(model, exclude=exclude)
            functions = emulator.load(self.library)
            self._read_tables(emulator, functions["qlm_kernels_at"])
            self._emulators[isa] = emulator
        return self._emulators[isa]

    def _read_tables(self, emulator: Any, kernels_at: int) -> None:
        """struct qlm_kernels: a name, features, eleven bytes of constants (the tenth no layout), then addresses."""
        index = 0
        while table := emulator.call(kernels_at, index):
            raw = emulator.memory[table : table + 24 + 8 * len(signatures())].tobytes()
            name = int.from_bytes(raw[:8], "little")
            isa = emulator.memory[name : name + 32].tobytes().split(b"\0")[0].decode()
            addresses = np.frombuffer(raw[24:], np.uint64)
            self._constants[isa] = Constants(*raw[12:21], raw[22])
            self._tables[isa] = {k: int(a) for k, a in zip(signatures(), addresses, strict=True)}
            index += 1

    def constants(self, isa: str) -> Constants:
        self._emulator(isa)
        return self._constants[isa]

    def call(self, isa: str, kernel: str, *arguments: Any, guard: str = "right") -> Any:
        from emulate.emulator import Fault

        emulator, signature = self._emulator(isa), signatures()[kernel]
        checked = _checked(signature, arguments)
        result_kind = "f" if signature.result == "float" else None
        try:
            address, side = self._tables[isa][kernel], "end" if guard == "right" else "start"
            result = emulator.call(address, *checked, guard=side, ret=result_kind)
        except Fault as fault:
            raise KernelFault(f"{kernel}_{isa}: {fault}") from fault
        if signature.result == "float":
            return result
        return None if signature.result == "void" else _as_int32(int(result))


# ---- NEON under qemu-user ------------------------------------------------------------------------------------------


def qemu_missing() -> str:
    """Why NEON tiers cannot be run here, or ""."""
    tools = ("aarch64-linux-gnu-gcc", "qemu-aarch64")
    return ", ".join(f"no {tool}" for tool in tools if not shutil.which(tool))


class QemuRunner:
    """NEON tiers: a static program (csrc/tests/kernel_server.c) under qemu-aarch64, one process a tier.

    as_shipped: compiled as users have it, by which C's own tests have most of it already; else in little more than half
    the time."""

    mode = "qemu"

    def __init__(self, as_shipped: bool = True) -> None:
        folder, flags = ("build/aarch64", "-O3") if as_shipped else ("build/aarch64-quick", "-O1")
        self.program = build(
            f"{folder}/kernel_server", CC="aarch64-linux-gnu-gcc", CFLAGS=flags, LDFLAGS="-static", BUILD=folder
        )
        self._servers: dict[str, subprocess.Popen[bytes]] = {}

    def _pipes(self, isa: str) -> tuple[IO[bytes], IO[bytes]]:
        server = self._servers.get(isa)
        if server is None or server.poll() is not None:
            command = ["qemu-aarch64", "-cpu", QEMU_CPUS[isa], str(self.program)]
            server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._servers[isa] = server
        assert server.stdin is not None
        assert server.stdout is not None
        return server.stdin, server.stdout

    @cache  # noqa: B019 (one runner a session)
    def constants(self, isa: str) -> Constants:
        to_server, from_server = self._pipes(isa)
        to_server.write(b"tables\n")
        to_server.flush()
        tables = {}
        while words := from_server.readline().split():
            tables[words[0].decode()] = Constants(*map(int, words[1:]))
        return tables[isa]

    def call(self, isa: str, kernel: str, *arguments: Any, guard: str = "right") -> Any:
        signature, (to_server, from_server) = signatures()[kernel], self._pipes(isa)
        checked = _checked(signature, arguments)
        kind = "f" if signature.result == "float" else "i"
        request = [f"call {isa} {kernel} {kind} {guard} {len(checked)}\n".encode(), *map(_encoded, checked)]
        to_server.write(b"".join(request))
        to_server.flush()
        words = from_server.readline().decode().split()
        if words[:1] != ["ok"]:
            self._servers.pop(isa).communicate()  # it has ended; closes the pipes
            raise KernelFault(f"{kernel}_{isa}: {' '.join(words)} (signal, argument, offset)")
        for array in checked:
            if isinstance(array, np.ndarray) and array.flags.writeable:
                flat = array.reshape(-1).view(np.uint8)
                flat[:] = np.frombuffer(from_server.read(array.nbytes), np.uint8)
        if kind == "f":
            return np.uint32(int(words[2], 16)).view(np.float32)
        return None if signature.result == "void" else _as_int32(int(words[1], 16))

    def close(self) -> None:
        for server in self._servers.values():
            server.communicate()


def _encoded(value: Any) -> bytes:
    if value is None:
        return b"n\n"
    if isinstance(value, np.ndarray):
        return f"a {value.nbytes} {'w' if value.flags.writeable else 'r'}\n".encode() + value.tobytes()
    if isinstance(value, np.float32):
        return f"f {int(value.view(np.uint32)):x}\n".encode()
    return f"i {value}\n".encode()


# ---- which tier by which runner ------------------------------------------------------------------------------------


def native_isas() -> tuple[str, ...]:
    """What this CPU can run."""
    from qlm import _core

    return tuple(_core.cpu_info()["isas"])


def planned_runs(tiers: str, native_isas: tuple[str, ...]) -> list[tuple[str, str]]:
    """(mode, isa) pairs for --tiers. "auto": natively what this CPU has, else emulated or under qemu."""
    known = {"native": [("native", isa) for isa in native_isas]}
    known["emulated"] = [("emulated", isa) for isa in all_isas() if isa in EMULATED_MODELS]
    known["qemu"] = [("qemu", isa) for isa in all_isas() if isa in QEMU_CPUS and isa not in native_isas]
    known["all"] = known["native"] + known["emulated"] + known["qemu"]
    lacking = [run for run in known["emulated"] if run[1] not in native_isas]
    known["auto"] = known["native"] + lacking + known["qemu"]
    return known[tiers]
