/* cpu.h: what this CPU and its operating system offer to kernels. */
#ifndef QLM_CPU_H
#define QLM_CPU_H

#include <stddef.h>
#include <stdint.h>

/* Bits of qlm_kernels.features; qlm_cpu_feature_name gives bit i its name. */
enum qlm_cpu_feature {
    QLM_CPU_AVX2 = 1 << 0,
    QLM_CPU_FMA = 1 << 1,
    QLM_CPU_F16C = 1 << 2,
    QLM_CPU_AVXVNNI = 1 << 3,
    QLM_CPU_AVX512F = 1 << 4,
    QLM_CPU_AVX512BW = 1 << 5,
    QLM_CPU_AVX512VL = 1 << 6,
    QLM_CPU_AVX512DQ = 1 << 7,
    QLM_CPU_AVX512VNNI = 1 << 8,
    QLM_CPU_AVX512VBMI = 1 << 9,
    QLM_CPU_AVX512VBMI2 = 1 << 10,
    QLM_CPU_NEON = 1 << 11,
    QLM_CPU_DOTPROD = 1 << 12,
    QLM_CPU_I8MM = 1 << 13
};

/* Features that the CPU has and whose registers the operating system saves.  Detected once. */
uint32_t qlm_cpu_features(void);

/* Bytes of the data caches that one core sees, l1 <= l2 <= l3 (l3 = l2 where there is no third).  Detected once; where
 * the CPU does not tell, or tells nonsense, 32 KiB, 512 KiB and 4 MiB. */
struct qlm_caches {
    size_t l1, l2, l3;
};
struct qlm_caches qlm_cpu_caches(void);
/* Other sizes than those detected, for tests of what depends on them. */
void qlm_cpu_pretend_caches(struct qlm_caches caches);

/* "avx2" for bit 0 and so on; NULL past the last. */
const char *qlm_cpu_feature_name(unsigned bit);

#endif
