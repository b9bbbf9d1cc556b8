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

/* Exact int16: gemm_avx512.c explains the bias. */
#define S16_BIAS 0x7fffffff

typedef struct {
    __m256i even, odd;
} s16_sum;
typedef __m256i s16_left, s16_right;

QLM_INLINE s16_left s16_load_left(const char *a) { return repeat_four(a); }

QLM_INLINE s16_right s16_load_right(const char *b, int column)
{ return _mm256_loadu_si256((const __m256i *)b + column); }

QLM_INLINE s16_sum s16_step(s16_sum sum, s16_left left, s16_right right)
{
    __m256i pairs = _mm256_add_epi32(_mm256_madd_epi16(left, right), _mm256_set1_epi32(S16_BIAS));
    return (s16_sum){_mm256_add_epi64(sum.even, _mm256_blend_epi32(pairs, _mm256_setzero_si256(), 0xAA)),
                     _mm256_add_epi64(sum.odd, _mm256_srli_epi64(pairs, 32))};
}

QLM_INLINE s16_sum s16_first(const int64_t *c, size_t steps)
{
    (void)c, (void)steps;
    return (s16_sum){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

QLM_INLINE void s16_store(int64_t *c, s16_sum sum, size_t steps)
{
    __m256i bias = _mm256_set1_epi64x((int64_t)(steps * S16_BIAS));
    __m256i low = _mm256_sub_epi64(_mm256_unpacklo_epi64(sum.even, sum.odd), bias);
    __m256i high = _mm256_sub_epi64(_mm256_unpackhi_epi64(sum.even, sum.odd), bias);
    _mm256_storeu_si256((__m256i *)c, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256((__m256i *)c + 1, _mm256_permute2x128_si256(low, high, 0x31));
}

#define GEMM_16_MR QLM_AVX2_MR_16
#define GEMM_16_COLUMNS 2
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

#define DOT_LANES(sums, s) ((v16i){(__m256i)(sums)[2 * (s)], (__m256i)(sums)[2 * (s) + 1]})
#define DOT_PAIRS(x, y) ((dot_sum)_mm256_madd_epi16((__m256i)(x), (__m256i)(y)))

#include "int8.inc.h"

#define GROUP_ROWS MR
#define GROUP_HELD 0
#include "gemm_8_groups.inc.h"

/* 4-bit weights: vpmaddubsw. */
#include "nibbles_avx2.h"

#define N4_LEFT QLM_AVX2_LEFT_4
#define N4_MR QLM_AVX2_MR_4
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
