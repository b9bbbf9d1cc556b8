/* cpu.c: feature detection.
 *
 * x86: a CPUID bit says that the CPU knows an instruction; XCR0 says that the operating system saves the registers it
 * uses at a task switch.  Both are needed: virtual machines and kernels booted with `noxsave` show CPUID bits whose
 * instructions fault.  Arm: the kernel tells both in the auxiliary vector.
 */
#include "cpu.h"

#include <pthread.h>
#include <stddef.h>

static const char *const feature_names[] = {"avx2",        "fma",      "f16c",     "avxvnni",    "avx512f",
                                            "avx512bw",    "avx512vl", "avx512dq", "avx512vnni", "avx512vbmi",
                                            "avx512vbmi2", "neon",     "dotprod",  "i8mm"};

const char *qlm_cpu_feature_name(unsigned bit)
{ return bit < sizeof feature_names / sizeof feature_names[0] ? feature_names[bit] : NULL; }

#if defined(__x86_64__)

#include <cpuid.h>

struct cpuid_registers {
    unsigned a, b, c, d;
};

static struct cpuid_registers cpuid(unsigned leaf, unsigned subleaf)
{
    struct cpuid_registers r = {0, 0, 0, 0};
    if (leaf <= (unsigned)__get_cpuid_max(0, NULL)) __cpuid_count(leaf, subleaf, r.a, r.b, r.c, r.d);
    return r;
}

/* Which register files the operating system saves (XGETBV, by opcode: the mnemonic needs a target flag). */
static unsigned saved_registers(void)
{
    unsigned low, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

#define XCR0_YMM 0x06u /* SSE and AVX halves */
#define XCR0_ZMM 0xe6u /* and the masks, the upper halves, registers 16 to 31 */

struct cpuid_bit {
    unsigned bit;
    uint32_t feature;
};

static uint32_t features_of(unsigned reg, const struct cpuid_bit *bits, size_t count)
{
    uint32_t features = 0;
    for (size_t i = 0; i < count; i++)
        if (reg >> bits[i].bit & 1) features |= bits[i].feature;
    return features;
}

#define FEATURES_OF(reg, bits) features_of(reg, bits, sizeof(bits) / sizeof(bits)[0])

static uint32_t ymm_features(struct cpuid_registers leaf1, struct cpuid_registers leaf7, struct cpuid_registers leaf7_1)
{
    static const struct cpuid_bit in_1c[] = {{12, QLM_CPU_FMA}, {29, QLM_CPU_F16C}};
    static const struct cpuid_bit in_7b[] = {{5, QLM_CPU_AVX2}};
    static const struct cpuid_bit in_7_1a[] = {{4, QLM_CPU_AVXVNNI}};
    return FEATURES_OF(leaf1.c, in_1c) | FEATURES_OF(leaf7.b, in_7b) | FEATURES_OF(leaf7_1.a, in_7_1a);
}

static uint32_t zmm_features(struct cpuid_registers leaf7)
{
    static const struct cpuid_bit in_7b[] = {
        {16, QLM_CPU_AVX512F}, {17, QLM_CPU_AVX512DQ}, {30, QLM_CPU_AVX512BW}, {31, QLM_CPU_AVX512VL}};
    static const struct cpuid_bit in_7c[] = {
        {1, QLM_CPU_AVX512VBMI}, {6, QLM_CPU_AVX512VBMI2}, {11, QLM_CPU_AVX512VNNI}};
    return FEATURES_OF(leaf7.b, in_7b) | FEATURES_OF(leaf7.c, in_7c);
}

static uint32_t detect(void)
{
    struct cpuid_registers leaf1 = cpuid(1, 0), leaf7 = cpuid(7, 0), leaf7_1 = {0, 0, 0, 0};
    int has_xgetbv = leaf1.c >> 27 & 1, has_avx = leaf1.c >> 28 & 1;
    if (!has_xgetbv || !has_avx) return 0;
    unsigned saved = saved_registers();
    if ((saved & XCR0_YMM) != XCR0_YMM) return 0;
    if (leaf7.a >= 1) leaf7_1 = cpuid(7, 1);
    uint32_t features = ymm_features(leaf1, leaf7, leaf7_1);
    if ((saved & XCR0_ZMM) == XCR0_ZMM) features |= zmm_features(leaf7);
    return features;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

/* Values of the kernel's ABI (asm/hwcap.h), named here because old headers lack the later ones. */
#define CAP_ASIMD (1ul << 1)
#define CAP_ASIMDDP (1ul << 20)
#define CAP2_I8MM (1ul << 13)

static uint32_t detect(void)
{
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    if (!(cap & CAP_ASIMD)) return 0;
    return QLM_CPU_NEON | (cap & CAP_ASIMDDP ? QLM_CPU_DOTPROD : 0u) | (cap2 & CAP2_I8MM ? QLM_CPU_I8MM : 0u);
}

#elif defined(__aarch64__) && defined(__APPLE__)

#include <sys/sysctl.h>

static int has(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value;
}

static uint32_t detect(void)
{
    return QLM_CPU_NEON | (has("hw.optional.arm.FEAT_DotProd") ? QLM_CPU_DOTPROD : 0u) |
           (has("hw.optional.arm.FEAT_I8MM") ? QLM_CPU_I8MM : 0u);
}

#else

static uint32_t detect(void) { return 0; }

#endif

static uint32_t detected;

static void detect_once(void) { detected = detect(); }

uint32_t qlm_cpu_features(void)
{
    /* CPUID traps in virtual machines and costs tens of microseconds there: ask once. */
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, detect_once);
    return detected;
}
