/* The matrix products of AVX-512, and the int8 kernels where it has no VNNI. */
#if defined(__x86_64__)

#define QLM_ISA avx512
#include "vec_avx512.h"

#include "shapes.h"

#define GEMM_F32_MR QLM_AVX512_MR_F32
#define GEMM_F32_COLUMNS 2
#define GEMM_F32_KEEP(x) __asm__("" : "+v"(x))
#include "gemm_f32.inc.h"

typedef int32_t word_sum __attribute__((vector_size(64)));
typedef __m512i word_left, word_right;

QLM_INLINE word_left word_load_left(const char *a)
{
    int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return _mm512_set1_epi32(pair);
}

QLM_INLINE word_right word_load_right(const char *b, int column) { return _mm512_loadu_si512(b + 64 * column); }

QLM_INLINE word_sum word_step(word_sum sum, word_left left, word_right right)
{ return (word_sum)_mm512_add_epi32((__m512i)sum, _mm512_madd_epi16(left, right)); }

QLM_INLINE word_right word_high(word_right x) { return _mm512_srai_epi16(x, 8); }

QLM_INLINE word_right word_low(word_right x) { return _mm512_and_si512(x, _mm512_set1_epi16(255)); }

#define WORD_NR QLM_AVX512_NR
#define WORD_COLUMNS 2
#define WORD_ROWS QLM_AVX512_MR_16
#define WORD_SPLIT_ROWS 6
#define WORD_KEEP(x) __asm__("" : "+v"(x))
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

QLM_INLINE dot_left dot_load_left(const char *a) { return word_load_left(a); }

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
#define GROUP_USUAL(m) 0
#include "gemm_8_groups.inc.h"

/* 4-bit weights: vpmaddubsw, as in gemm_avx2.c. */
#include "nibbles_avx512.h"

#define N4_LEFT QLM_AVX512_LEFT_4
#define N4_MR QLM_AVX512_MR_4
#define N4_COLUMNS 2

typedef int16_t pair_sum __attribute__((vector_size(64)));
typedef __m512i pair_left, pair_right;

QLM_INLINE pair_left pair_load_left(const char *a) { return word_load_left(a); }

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
