/* The int8 kernels of AVX-VNNI: vpdpbusd on 256 bits, for CPUs without AVX-512. */
#if defined(__x86_64__)

#define QLM_ISA avxvnni
#define QLM_TARGET __attribute__((target("avxvnni,avx2,fma,f16c")))
#include "vec_avx2.h"

#include "shapes.h"

#define LEFT QLM_AVXVNNI_LEFT
#define K_STEP QLM_AVXVNNI_K_STEP
#define NR QLM_AVXVNNI_NR
#define MR QLM_AVXVNNI_MR_8
#define DOT_COLUMNS 2
#define DOT_KEEP(x) __asm__("" : "+x"(x))

typedef int32_t dot_sum __attribute__((vector_size(32)));
typedef __m256i dot_left, dot_right;

QLM_INLINE dot_left dot_load_left(const char *a)
{
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return _mm256_set1_epi32(four);
}

QLM_INLINE dot_left dot_load_whole(const char *a) { return _mm256_loadu_si256((const __m256i *)a); }

QLM_INLINE dot_right dot_ones(void) { return _mm256_set1_epi8(1); }

QLM_INLINE dot_right dot_load_right(const char *b, int column)
{ return _mm256_loadu_si256((const __m256i *)b + column); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right)
{ return (dot_sum)_mm256_dpbusd_avx_epi32((__m256i)sum, left, right); }

#define DOT_LANES(sums, s) ((v16i){(__m256i)(sums)[2 * (s)], (__m256i)(sums)[2 * (s) + 1]})
#define DOT_PAIRS(x, y) ((dot_sum)_mm256_madd_epi16((__m256i)(x), (__m256i)(y)))

#include "int8.inc.h"

#define GROUP_ROWS MR
#define GROUP_HELD 0
#define GROUP_USUAL(m) ((m) == GROUP_ROWS || (m) == 1)
#include "gemm_8_groups.inc.h"

#include "nibbles_avx2.h"

#define N4_LEFT LEFT
#define N4_MR MR

typedef dot_left n4_left;
typedef dot_right n4_right;

QLM_INLINE n4_left n4_load_left(const char *a) { return dot_load_left(a); }

QLM_INLINE n4_left n4_ones_left(void) { return dot_ones(); }

QLM_INLINE dot_sum n4_step(dot_sum sum, n4_left left, n4_right right) { return dot_step(sum, left, right); }

/* As in avx512vnni.inc.h. */
#define N4_SHIFT 4
#define N4_FOLD 0

QLM_INLINE void n4_load(const char *b, n4_right right[2])
{
    __m256i bytes = _mm256_loadu_si256((const __m256i *)b), upper = _mm256_set1_epi8((char)0xF0);
    right[0] = _mm256_and_si256(_mm256_slli_epi16(bytes, 4), upper);
    right[1] = _mm256_and_si256(bytes, upper);
}

#include "gemm_4_dot.inc.h"

/* Int16: vpdpwssd adds two products to an int32. */
typedef dot_sum word_sum;
typedef __m256i word_left, word_right;

QLM_INLINE word_left word_load_left(const char *a) { return dot_load_left(a); }

QLM_INLINE word_right word_load_right(const char *b, int column) { return dot_load_right(b, column); }

QLM_INLINE word_sum word_step(word_sum sum, word_left left, word_right right)
{ return (word_sum)_mm256_dpwssd_avx_epi32((__m256i)sum, left, right); }

QLM_INLINE word_right word_high(word_right x) { return _mm256_srai_epi16(x, 8); }

QLM_INLINE word_right word_low(word_right x) { return _mm256_and_si256(x, _mm256_set1_epi16(255)); }

#define WORD_NR QLM_AVXVNNI_NR
#define WORD_COLUMNS 2
#define WORD_ROWS QLM_AVXVNNI_MR_16
#define WORD_SPLIT_ROWS 2
#define WORD_KEEP(x) __asm__("" : "+x"(x))
#include "gemm_16.inc.h"

#endif
