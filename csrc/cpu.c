/* cpu.c: detection of features and of caches.
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

/* Intel's leaf 4 and AMD's 0x8000001D (with TOPOEXT, bit 22) have one form: a cache each subleaf, until type 0. */
static unsigned cache_leaf(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0, extended = (unsigned)__get_cpuid_max(0x80000000u, NULL);
    if (cpuid(4, 0).a & 0x1f) return 4;
    if (extended < 0x8000001du) return 0;
    __cpuid(0x80000001u, a, b, c, d);
    return c >> 22 & 1 ? 0x8000001du : 0;
}

static void detect_caches(struct qlm_caches *caches)
{
    unsigned leaf = cache_leaf();
    for (unsigned i = 0; leaf && i < 16; i++) {
        unsigned a, b, c, d;
        __cpuid_count(leaf, i, a, b, c, d);
        unsigned type = a & 0x1f, level = a >> 5 & 7;
        size_t ways = (b >> 22 & 0x3ff) + 1, parts = (b >> 12 & 0x3ff) + 1, line = (b & 0xfff) + 1;
        size_t bytes = ways * parts * line * ((size_t)c + 1);
        if (type == 0) return;
        if (type == 2) continue; /* instructions */
        if (level == 1) caches->l1 = bytes;
        if (level == 2) caches->l2 = bytes;
        if (level == 3) caches->l3 = bytes;
    }
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

#if !defined(__x86_64__)
/* Arm's registers are not open to programs. */
static void detect_caches(struct qlm_caches *caches) { (void)caches; }
#endif

static uint32_t detected;
static struct qlm_caches detected_caches;

static int plausible(size_t bytes, size_t least, size_t most) { return bytes >= least && bytes <= most; }

static void detect_once(void)
{
    struct qlm_caches caches = {0, 0, 0};
    detected = detect();
    detect_caches(&caches);
    int known = caches.l2 != 0;
    if (!plausible(caches.l1, 8 << 10, 512 << 10)) caches.l1 = 32 << 10;
    if (!plausible(caches.l2, caches.l1, 64 << 20)) caches.l2 = 512 << 10;
    if (!plausible(caches.l3, caches.l2, (size_t)4 << 30)) caches.l3 = known ? caches.l2 : caches.l2 * 8;
    detected_caches = caches;
}

/* CPUID traps in virtual machines and costs tens of microseconds there: ask once. */
static void detect_all(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, detect_once);
}

uint32_t qlm_cpu_features(void)
{
    detect_all();
    return detected;
}

struct qlm_caches qlm_cpu_caches(void)
{
    detect_all();
    return detected_caches;
}

void qlm_cpu_pretend_caches(struct qlm_caches caches)
{
    detect_all();
    detected_caches = caches;
}
