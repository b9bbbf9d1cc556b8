"""The emulated CPU gives what a CPU gives, and finds what a kernel must not do."""

import subprocess

import numpy as np
import pytest
from emulate.bochs import emulator_missing

pytestmark = pytest.mark.skipif(bool(emulator_missing()), reason=emulator_missing() or "can run")

SOURCE = r"""
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

__attribute__((target("avx512vnni,avx512f"))) void dot_u8s8(const uint8_t *a, const int8_t *b, int32_t *out)
{
    __m512i product = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(a), _mm512_loadu_si512(b));
    _mm512_storeu_si512(out, product);
}

__attribute__((target("avx2,fma"))) float last_fma(const float *a, float b, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) sum = _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a[i]), _mm_set_ss(b), _mm_set_ss(sum)));
    return sum;
}

int over_read(const uint8_t *a, size_t n) { return ((const volatile uint8_t *)a)[n]; }
int under_read(const uint8_t *a) { return ((const volatile uint8_t *)a)[-1]; }
void write(uint8_t *a, ptrdiff_t at) { ((volatile uint8_t *)a)[at] = 1; }
void outside(void);
void call_outside(void) { outside(); }
long seven(long a, long b, long c, long d, long e, long f, long g) { return a + b + c + d + e + f + 1000 * g; }
void spin(void) { for (;;) __asm__ volatile(""); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulated")
    (folder / "probe.c").write_text(SOURCE)
    flags = ["-O2", "-shared", "-fPIC", "-nostdlib", "-fno-stack-protector", "-ffp-contract=off"]
    subprocess.run(["gcc", *flags, str(folder / "probe.c"), "-o", str(folder / "probe.so")], check=True)
    return folder / "probe.so"


@pytest.fixture
def tigerlake(library):
    from emulate.emulator import Emulator

    emulator = Emulator("tigerlake")
    functions = emulator.load(library)
    return lambda name, *args, **options: emulator.call(functions[name], *args, **options)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def test_vnni_product(tigerlake, rng):
    a, b = rng.integers(0, 256, 64).astype(np.uint8), rng.integers(-128, 128, 64).astype(np.int8)
    out = np.zeros(16, np.int32)
    tigerlake("dot_u8s8", read_only(a), read_only(b), out)
    assert out.tolist() == (a.astype(np.int32) * b).reshape(16, 4).sum(axis=1).tolist()


def test_float_arguments_and_result(tigerlake):
    a = np.array([1, 2, 3], np.float32)
    assert tigerlake("last_fma", a, np.float32(0.5), 3, ret="f") == np.float32(3)


def test_arguments_on_the_stack(tigerlake):
    assert tigerlake("seven", 1, 2, 3, 4, 5, 6, -7) == (21 - 7000) % 2**64


def test_faults_are_named(tigerlake):
    from emulate.emulator import Fault

    a = np.zeros(5, np.uint8)
    with pytest.raises(Fault, match=r"read .*argument 0 \(5 bytes\)\+0x5.*over_read"):
        tigerlake("over_read", a, 5)
    with pytest.raises(Fault, match=r"read .*argument 0 \(5 bytes\)-0x1.*under_read"):
        tigerlake("under_read", a, guard="start")
    with pytest.raises(Fault, match="write"):
        tigerlake("write", read_only(np.zeros(5, np.uint8)), 0)
    with pytest.raises(Fault, match="outside the array of 5 bytes"):
        tigerlake("write", a, -3)
    with pytest.raises(Fault, match="undefined symbol outside"):
        tigerlake("call_outside")
    with pytest.raises(Fault, match="no return"):
        tigerlake("spin", timeout=0.2)


def test_an_instruction_beyond_the_model_is_a_fault(library):
    from emulate.emulator import Emulator, Fault

    haswell = Emulator("corei7_haswell_4770")
    functions = haswell.load(library)
    assert haswell.call(functions["last_fma"], np.ones(2, np.float32), np.float32(2), 2, ret="f") == 4
    with pytest.raises(Fault, match="#UD"):
        haswell.call(functions["dot_u8s8"], np.zeros(64, np.uint8), np.zeros(64, np.int8), np.zeros(16, np.int32))


def test_unknown_models_and_features_are_refused():
    from emulate.emulator import Emulator

    with pytest.raises(ValueError, match="unknown model"):
        Emulator("z80")
    with pytest.raises(ValueError, match="unknown feature"):
        Emulator("tigerlake", exclude="nonsense")
