/* The int8 kernels of AVX-VNNI: vpdpbusd on 256 bits, for CPUs without AVX-512. */
#if defined(__x86_64__)

#define QLM_ISA avxvnni
#define QLM_TARGET __attribute__((target("avxvnni,avx2,fma,f16c")))
#include "vec_avx2.h"

#include "shapes.h"

typedef int32_t dot_sum __attribute__((vector_size(32)));
typedef __m256i dot_left, dot_right;

QLM_INLINE dot_left dot_load_left(const char *a)
{
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return _mm256_set1_epi32(four);
}

QLM_INLINE dot_right dot_load_right(const char *b, int column)
{ return _mm256_loadu_si256((const __m256i *)b + column); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right)
{ return (dot_sum)_mm256_dpbusd_avx_epi32((__m256i)sum, left, right); }

QLM_INLINE dot_sum dot_zero(void) { return (dot_sum){0}; }

QLM_INLINE dot_sum dot_first(const int32_t *c, size_t option)
{
    (void)c, (void)option;
    return dot_zero();
}

QLM_INLINE dot_sum dot_add(dot_sum x, dot_sum y) { return (dot_sum)_mm256_add_epi32((__m256i)x, (__m256i)y); }

QLM_INLINE void dot_store(int32_t *c, dot_sum sum, size_t option)
{
    (void)option;
    _mm256_storeu_si256((__m256i *)c, (__m256i)sum);
}

#define TILE(name) dot_##name
#define TILE_C int32_t
#define TILE_MR QLM_AVXVNNI_MR_8
#define TILE_COLUMNS 2
#define TILE_STEP_BYTES (QLM_AVXVNNI_NR * QLM_AVXVNNI_K_STEP)
#define TILE_KEEP(x) __asm__("" : "+x"(x))
#define TILE_SPLIT 1
#include "gemm.inc.h"

QLM_KERNEL(void, gemm_8)
(size_t m, size_t kg, const void *a, size_t lda, const int8_t *b, int32_t *c, size_t ldc)
{ dot_run(m, kg, a, lda, (const char *)b, c, ldc, 0); }

#define LEFT QLM_AVXVNNI_LEFT
#define K_STEP QLM_AVXVNNI_K_STEP
#define NR QLM_AVXVNNI_NR
#include "left.inc.h"
#include "unpack_8.inc.h"

#endif
