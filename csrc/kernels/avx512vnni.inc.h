/* The int8 kernels of AVX-512 VNNI, without and with VBMI: vpdpbusd adds four products u8 x s8 to an int32 without
 * saturating between.  The including file has QLM_ISA and QLM_TARGET.
 */
#include "vec_avx512.h"

#include "shapes.h"

#define LEFT QLM_AVX512VNNI_LEFT
#define K_STEP QLM_AVX512VNNI_K_STEP
#define NR QLM_AVX512VNNI_NR
#define MR QLM_AVX512VNNI_MR_8
#define DOT_COLUMNS 2
#define DOT_KEEP(x) __asm__("" : "+v"(x))

typedef int32_t dot_sum __attribute__((vector_size(64)));
typedef __m512i dot_left, dot_right;

QLM_INLINE dot_left dot_load_left(const char *a)
{
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return _mm512_set1_epi32(four);
}

QLM_INLINE dot_left dot_load_whole(const char *a) { return _mm512_loadu_si512(a); }

QLM_INLINE dot_right dot_ones(void) { return _mm512_set1_epi8(1); }

QLM_INLINE dot_right dot_load_right(const char *b, int column) { return _mm512_loadu_si512(b + 64 * column); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right)
{ return (dot_sum)_mm512_dpbusd_epi32((__m512i)sum, left, right); }

#define DOT_LANES(sums, s) ((v16i)(sums)[s])
#define DOT_PAIRS(x, y) ((dot_sum)_mm512_madd_epi16((__m512i)(x), (__m512i)(y)))

#include "int8.inc.h"

#define GROUP_ROWS 6
#define GROUP_HELD 1
#define GROUP_USUAL(m) 1 /* 1, 5 and 6 */
#include "gemm_8_groups.inc.h"

#include "nibbles_avx512.h"

#define N4_LEFT LEFT
#define N4_MR MR

typedef dot_left n4_left;
typedef dot_right n4_right;

QLM_INLINE n4_left n4_load_left(const char *a) { return dot_load_left(a); }

QLM_INLINE n4_left n4_ones_left(void) { return dot_ones(); }

QLM_INLINE dot_sum n4_step(dot_sum sum, n4_left left, n4_right right) { return dot_step(sum, left, right); }

#ifdef QLM_VBMI
#define N4_SHIFT 0
#define N4_FOLD 1

QLM_INLINE void n4_load(const char *b, n4_right right[2]) { n4_values(b, right); }
#else
/* A nibble in the upper half of a byte is 16 times its value: two instructions for the lower ones, one for the others.
 */
#define N4_SHIFT 4
#define N4_FOLD 0

QLM_INLINE void n4_load(const char *b, n4_right right[2])
{
    __m512i bytes = _mm512_loadu_si512(b), upper = _mm512_set1_epi8((char)0xF0);
    right[0] = _mm512_and_si512(_mm512_slli_epi16(bytes, 4), upper);
    right[1] = _mm512_and_si512(bytes, upper);
}
#endif

#include "gemm_4_dot.inc.h"
