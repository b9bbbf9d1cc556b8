/* The matrix products of AVX-512, and the int8 kernels where it has no VNNI. */
#if defined(__x86_64__)

#define QLM_ISA avx512
#include "vec_avx512.h"

#include "shapes.h"

#define GEMM_F32_MR QLM_AVX512_MR_F32
#define GEMM_F32_COLUMNS 2
#define GEMM_F32_KEEP(x) __asm__("" : "+v"(x))
#include "gemm_f32.inc.h"

/* vpmaddwd gives a0 b0 + a1 b1, at most 2^31 (all four -32768), which wraps, and at least -2 * 32768 * 32767.  With
 * S16_BIAS = 2^31 - 1 added it is in 65535 .. 2^32 - 1, an unsigned 32-bit number, so it widens to 64 bits by a mask
 * for the even outputs and by a shift for the odd ones.  The bias of all steps is subtracted at the end. */
#define S16_BIAS 0x7fffffff

typedef struct {
    __m512i even, odd;
} s16_sum;
typedef __m512i s16_left, s16_right;

QLM_INLINE s16_left s16_load_left(const char *a)
{
    int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return _mm512_set1_epi32(pair);
}

QLM_INLINE s16_right s16_load_right(const char *b, int column) { return _mm512_loadu_si512(b + 64 * column); }

QLM_INLINE s16_sum s16_step(s16_sum sum, s16_left left, s16_right right)
{
    __m512i pairs = _mm512_add_epi32(_mm512_madd_epi16(left, right), _mm512_set1_epi32(S16_BIAS));
    return (s16_sum){_mm512_add_epi64(sum.even, _mm512_and_si512(pairs, _mm512_set1_epi64(0xffffffff))),
                     _mm512_add_epi64(sum.odd, _mm512_srli_epi64(pairs, 32))};
}

QLM_INLINE s16_sum s16_first(const int64_t *c, size_t steps)
{
    (void)c, (void)steps;
    return (s16_sum){_mm512_setzero_si512(), _mm512_setzero_si512()};
}

QLM_INLINE void s16_store(int64_t *c, s16_sum sum, size_t steps)
{
    __m512i bias = _mm512_set1_epi64((int64_t)(steps * S16_BIAS));
    __m512i low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_storeu_si512(c, _mm512_sub_epi64(_mm512_permutex2var_epi64(sum.even, low, sum.odd), bias));
    _mm512_storeu_si512(c + 8, _mm512_sub_epi64(_mm512_permutex2var_epi64(sum.even, high, sum.odd), bias));
}

#define GEMM_16_MR QLM_AVX512_MR_16
#define GEMM_16_COLUMNS 2
#include "gemm_16.inc.h"

/* Exact int8: codes and weights as int16, as in gemm_avx2.c. */
#define LEFT QLM_AVX512_LEFT
#define K_STEP QLM_AVX512_K_STEP
#define NR QLM_AVX512_NR
#define MR QLM_AVX512_MR_8
#define DOT_COLUMNS 2
#define DOT_KEEP(x) __asm__("" : "+v"(x))

typedef int32_t dot_sum __attribute__((vector_size(64)));
typedef __m512i dot_left, dot_right;

QLM_INLINE dot_left dot_load_left(const char *a) { return s16_load_left(a); }

QLM_INLINE dot_left dot_load_whole(const char *a) { return _mm512_loadu_si512(a); }

QLM_INLINE dot_right dot_ones(void) { return _mm512_set1_epi16(1); }

QLM_INLINE dot_right dot_load_right(const char *b, int column)
{ return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)b + column)); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right)
{ return (dot_sum)_mm512_add_epi32((__m512i)sum, _mm512_madd_epi16(left, right)); }

#define DOT_LANES(sums, s) ((v16i)(sums)[s])
#define DOT_PAIRS(x, y) ((dot_sum)_mm512_madd_epi16((__m512i)(x), (__m512i)(y)))

#include "int8.inc.h"

#define GROUP_ROWS 6
#define GROUP_HELD 1
#include "gemm_8_groups.inc.h"

/* 4-bit weights: vpmaddubsw, as in gemm_avx2.c. */
#include "nibbles_avx512.h"

#define N4_LEFT QLM_AVX512_LEFT_4
#define N4_MR QLM_AVX512_MR_4
#define N4_COLUMNS 2

typedef int16_t pair_sum __attribute__((vector_size(64)));
typedef __m512i pair_left, pair_right;

QLM_INLINE pair_left pair_load_left(const char *a) { return s16_load_left(a); }

QLM_INLINE pair_left pair_ones(void) { return _mm512_set1_epi8(1); }

QLM_INLINE pair_sum pair_first(pair_left left, pair_right right) { return (pair_sum)_mm512_maddubs_epi16(left, right); }

QLM_INLINE pair_sum pair_add(pair_sum x, pair_sum y)
{
    x += y;
    __asm__("" : "+v"(x));
    return x;
}

QLM_INLINE dot_sum pair_widen(pair_sum x) { return (dot_sum)_mm512_madd_epi16((__m512i)x, _mm512_set1_epi16(1)); }

QLM_INLINE void n4_load(const char *b, pair_right right[2]) { n4_values(b, right); }

QLM_INLINE void e4_load(const char *b, __m512i right[2])
{
    right[0] = _mm512_loadu_si512(b);
    right[1] = _mm512_loadu_si512(b + 64);
}

#include "gemm_4_16.inc.h"

#endif
