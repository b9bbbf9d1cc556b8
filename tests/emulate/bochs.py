"""The emulated CPU: Bochs 3.0 out of the PyPI wheel bochscpu-python==0.4.0, by ctypes on its shared object alone.

The offsets used here and in bochs_shim.c fit this very wheel (sha256
08297de4c657fcda712c66745388cf81cd056e01083473c44868b96f6ea020ad, cp311, Linux x86-64): keep the pin.
"""

import ctypes
import functools
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# In the order of Bochs's cpudb.h: the model is set by index (the wheel's own names for them are off).
_MODEL_WORDS = (
    "i386 i486dx4 pentium pentium_mmx amd_k6_2_chomper athlon_xp p2_klamath p3_katmai p4_willamette "
    "core_duo_t2400_yonah atom_n270 p4_prescott_celeron_336 athlon64_clawhammer athlon64_venice "
    "turion64_tyler phenom_8650_toliman core2_penryn_t9600 corei5_lynnfield_750 corei5_arrandale_m520 "
    "corei7_sandy_bridge_2600k zambezi trinity_apu ryzen corei7_ivy_bridge_3770k corei7_haswell_4770 "
    "broadwell_ult corei7_skylake_x corei3_cnl corei7_icelake_u tigerlake sapphire_rapids arrow_lake"
)
MODELS = tuple(_MODEL_WORDS.split())
AVX512_MODELS = MODELS[26:31]

# Handlers of Bochs in the order of bochs_shim.c's enum.
FIXED = (
    "LOAD_MASK_VectorB",
    "LOAD_MASK_VectorW",
    "VPEXPANDB_MASK_VdqWdqR",
    "VPEXPANDW_MASK_VdqWdqR",
    "VPCOMPRESSB_MASK_WdqVdq",
    "VPCOMPRESSW_MASK_WdqVdq",
    "VMOVAPS_VpsWpsR",
    "VMOVUPS_WpsVpsM",
    "BxError",
    "VGF2P8AFFINEQB_VdqHdqWdqIbR",
    "VGF2P8AFFINEINVQB_VdqHdqWdqIbR",
    "VPSHUFBITQMB_MASK_KGqHdqWdqR",
    "VPCONFLICTD_MASK_VdqWdqR",
    "VPCONFLICTQ_MASK_VdqWdqR",
    "VPBROADCASTMB2Q_VdqKEbR",
    "VPBROADCASTMW2D_VdqKEwR",
    "VPMULTISHIFTQB_MASK_VdqHdqWdqR",
)
MENDED = 14
OPCODE_TABLE_BYTES = 0x15150
ICOUNT_OFFSET, OPMASK_OFFSET, STRING_PARAMETER_OFFSET = 0x128, 0xC08, 0x70

_U32, _U64, _U16, _POINTER = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint16, ctypes.c_void_p
SET_RANGE, SET_ENUM = "_ZN14bx_param_num_c9set_rangeEmm", "_ZN15bx_param_enum_c3setEl"
MATCH_FEATURE, FLUSH_CACHES = "_Z17match_cpu_featurePKc", "_Z12flushICachesv"
PROTOTYPES: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("sim_get_param_enum", _POINTER, (ctypes.c_char_p,)),
    ("sim_get_param_string", _POINTER, (ctypes.c_char_p,)),
    (SET_RANGE, None, (_POINTER, _U64, _U64)),
    (SET_ENUM, None, (_POINTER, ctypes.c_long)),
    (MATCH_FEATURE, ctypes.c_int, (ctypes.c_char_p,)),
    (FLUSH_CACHES, None, ()),
    ("bochscpu_cpu_new", _POINTER, (_U32,)),
    ("bochscpu_cpu_stop", None, (_POINTER,)),
    ("bochscpu_cpu_run", None, (_POINTER, _POINTER)),
    ("bochscpu_mem_page_insert", None, (_U64, _POINTER)),
    ("cpu_set_reg64", None, (_U32, _U32, _U64)),
    ("cpu_get_reg64", _U64, (_U32, _U32)),
    ("cpu_set_zmm", None, (_U32, _U32, _POINTER)),
    ("cpu_get_zmm", None, (_U32, _U32, _POINTER)),
    ("cpu_get_pc", _U64, (_U32,)),
    ("cpu_set_pc", None, (_U32, _U64)),
    ("cpu_set_sp", None, (_U32, _U64)),
    ("cpu_set_cr3", None, (_U32, _U64)),
    ("cpu_get_cr2", _U64, (_U32,)),
    ("cpu_set_seg", None, (_U32, _U32, _U32, _U16, _U64, _U32, _U16)),
)


def wheel_folder() -> Path | None:
    """Where the wheel is installed; it is found, not imported."""
    spec = importlib.util.find_spec("bochscpu")
    return Path(spec.origin).parent if spec and spec.origin else None


def emulator_missing() -> str:
    """Why there is no emulated CPU here, or ""."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return "the emulator runs on x86-64 Linux"
    if sys.version_info[:2] != (3, 11):
        return "the emulator's wheel is for Python 3.11"
    if wheel_folder() is None:
        return "no bochscpu-python: pip install --no-deps --require-hashes -r tests/emulate/requirements.txt"
    return "" if shutil.which("gcc") else "no gcc"


def _load_shim() -> ctypes.CDLL:
    source = Path(__file__).with_name("bochs_shim.c")
    with tempfile.TemporaryDirectory() as folder:
        target = f"{folder}/bochs_shim.so"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", str(source), "-o", target], check=True)
        return ctypes.CDLL(target, mode=ctypes.RTLD_GLOBAL)


class Bochs:
    """The one CPU that the library has in this process."""

    def __init__(self) -> None:
        shim = _load_shim()  # before the library, which takes two symbols from it
        folder = wheel_folder()
        if folder is None:
            raise RuntimeError("the wheel bochscpu-python==0.4.0 is not installed")
        self.library: Any = ctypes.CDLL(str(next(folder.glob("_bochscpu.*.so"))))
        for name, result, arguments in PROTOTYPES:
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        cpu = ctypes.addressof(ctypes.c_char.in_dll(self.library, "bx_cpu"))
        symbols = [f"_ZN8BX_CPU_C{len(name)}{name}EP15bxInstruction_c" for name in FIXED]
        handlers = (_POINTER * len(symbols))(*[ctypes.cast(getattr(self.library, s), _POINTER) for s in symbols])
        self.table = (ctypes.c_char * OPCODE_TABLE_BYTES).in_dll(self.library, "BxOpcodesTable")
        mended = shim.mend_bochs(_POINTER(cpu + OPMASK_OFFSET), self.table, ctypes.c_size_t(len(self.table)), handlers)
        if mended != MENDED:
            raise RuntimeError("not the bochscpu-python 0.4.0 that this was written for")
        self.opcodes = self.table.raw  # of all instruction sets
        self.icount = _U64.from_address(cpu + ICOUNT_OFFSET)
        self._texts: list[Any] = []

    def knows_feature(self, feature: str) -> bool:
        return self.library._Z17match_cpu_featurePKc(feature.encode()) >= 0

    def become(self, model: str, add: str, exclude: str) -> int:
        """A new CPU of this model; returns its handle."""
        lib = self.library
        self.table.raw = self.opcodes  # a new CPU drops the opcodes that its model lacks
        enum = lib.sim_get_param_enum(b"cpu.model")
        getattr(lib, SET_RANGE)(enum, 0, len(MODELS) - 1)
        getattr(lib, SET_ENUM)(enum, MODELS.index(model))
        self._texts = [ctypes.create_string_buffer(text.encode()) for text in (exclude, add)]
        for key, text in zip((b"cpu.exclude_features", b"cpu.add_features"), self._texts, strict=True):
            slot = lib.sim_get_param_string(key) + STRING_PARAMETER_OFFSET
            _POINTER.from_address(slot).value = ctypes.addressof(text)
        return lib.bochscpu_cpu_new(0)


@functools.cache
def bochs() -> Bochs:
    return Bochs()
