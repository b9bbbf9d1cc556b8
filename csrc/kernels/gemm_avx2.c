/* The matrix products of AVX2. */
#if defined(__x86_64__)

#define QLM_ISA avx2
#include "vec_avx2.h"

#include "shapes.h"

#define GEMM_F32_MR QLM_AVX2_MR_F32
#define GEMM_F32_COLUMNS 1
#define GEMM_F32_KEEP(x)
#include "gemm_f32.inc.h"

QLM_INLINE __m256i repeat_four(const char *a)
{
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return _mm256_set1_epi32(four);
}

typedef int32_t word_sum __attribute__((vector_size(32)));
typedef __m256i word_left, word_right;

QLM_INLINE word_left word_load_left(const char *a) { return repeat_four(a); }

QLM_INLINE word_right word_load_right(const char *b, int column)
{ return _mm256_loadu_si256((const __m256i *)b + column); }

QLM_INLINE word_sum word_step(word_sum sum, word_left left, word_right right)
{ return (word_sum)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16(left, right)); }

QLM_INLINE word_right word_high(word_right x) { return _mm256_srai_epi16(x, 8); }

QLM_INLINE word_right word_low(word_right x) { return _mm256_and_si256(x, _mm256_set1_epi16(255)); }

#define WORD_NR QLM_AVX2_NR
#define WORD_COLUMNS 2
#define WORD_ROWS QLM_AVX2_MR_16
#define WORD_SPLIT_ROWS 2 /* with 3 gcc spills, and 82 GOP/s become 60 */
#define WORD_KEEP(x)
#include "gemm_16.inc.h"

/* Exact int8: codes and weights as int16, so that vpmaddwd cannot overflow (2 * 255 * 128 < 2^31); vpmaddubsw on bytes
 * would saturate. */
#define LEFT QLM_AVX2_LEFT
#define K_STEP QLM_AVX2_K_STEP
#define NR QLM_AVX2_NR
#define MR QLM_AVX2_MR_8
#define DOT_COLUMNS 2
#define DOT_KEEP(x)

typedef int32_t dot_sum __attribute__((vector_size(32)));
typedef __m256i dot_left, dot_right;

QLM_INLINE dot_left dot_load_left(const char *a) { return repeat_four(a); }

QLM_INLINE dot_left dot_load_whole(const char *a) { return _mm256_loadu_si256((const __m256i *)a); }

QLM_INLINE dot_right dot_ones(void) { return _mm256_set1_epi16(1); }

QLM_INLINE dot_right dot_load_right(const char *b, int column)
{ return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)b + column)); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right)
{ return (dot_sum)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16(left, right)); }

#define DOT_ROWS QLM_AVX2_ROWS_8
#define DOT_WIDE_STEPS 192 /* 12 KiB of codes; 64 to 384 steps are as fast */

/* The empty asm keeps it: gcc 12 would load it again for each of two rows. */
QLM_INLINE dot_right dot_load_wide(const char *p)
{
    dot_right right = _mm256_load_si256((const __m256i *)p);
    __asm__("" : "+x"(right));
    return right;
}

QLM_INLINE void dot_store_wide(char *p, dot_right right) { _mm256_store_si256((__m256i *)p, right); }

#define DOT_LANES(sums, s) ((v16i){(__m256i)(sums)[2 * (s)], (__m256i)(sums)[2 * (s) + 1]})
#define DOT_PAIRS(x, y) ((dot_sum)_mm256_madd_epi16((__m256i)(x), (__m256i)(y)))

#include "int8.inc.h"

#define GROUP_ROWS MR
#define GROUP_HELD 0
#define GROUP_USUAL(m) ((m) == GROUP_ROWS)
#include "gemm_8_groups.inc.h"

/* 4-bit weights: vpmaddubsw. */
#include "nibbles_avx2.h"

#define N4_LEFT QLM_AVX2_LEFT_4
#define N4_MR 4 /* at a time; eight sums and their products */
#define N4_COLUMNS 2

typedef int16_t pair_sum __attribute__((vector_size(32)));
typedef __m256i pair_left, pair_right;

QLM_INLINE pair_left pair_load_left(const char *a) { return repeat_four(a); }

QLM_INLINE pair_left pair_ones(void) { return _mm256_set1_epi8(1); }

QLM_INLINE pair_sum pair_first(pair_left left, pair_right right) { return (pair_sum)_mm256_maddubs_epi16(left, right); }

/* The empty asm keeps the order: gcc 12 multiplies all first and adds then, 64 products through memory. */
QLM_INLINE pair_sum pair_add(pair_sum x, pair_sum y)
{
    x += y;
    __asm__("" : "+x"(x));
    return x;
}

QLM_INLINE dot_sum pair_widen(pair_sum x) { return (dot_sum)_mm256_madd_epi16((__m256i)x, _mm256_set1_epi16(1)); }

QLM_INLINE void n4_load(const char *b, pair_right right[2]) { n4_values(b, right); }

QLM_INLINE void e4_load(const char *b, __m256i right[2])
{
    right[0] = _mm256_loadu_si256((const __m256i *)b);
    right[1] = _mm256_loadu_si256((const __m256i *)b + 1);
}

#include "gemm_4_16.inc.h"

#endif
