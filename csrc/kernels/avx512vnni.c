/* The int8 kernels of AVX-512 VNNI. */
#if defined(__x86_64__)

#define QLM_ISA avx512vnni
#define QLM_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#include "avx512vnni.inc.h"

/* Int16: vpdpwssd adds two products to an int32. */
typedef dot_sum word_sum;
typedef __m512i word_left, word_right;

QLM_INLINE word_left word_load_left(const char *a) { return dot_load_left(a); }

QLM_INLINE word_right word_load_right(const char *b, int column) { return _mm512_loadu_si512(b + 64 * column); }

QLM_INLINE word_sum word_step(word_sum sum, word_left left, word_right right)
{ return (word_sum)_mm512_dpwssd_epi32((__m512i)sum, left, right); }

QLM_INLINE word_right word_high(word_right x) { return _mm512_srai_epi16(x, 8); }

QLM_INLINE word_right word_low(word_right x) { return _mm512_and_si512(x, _mm512_set1_epi16(255)); }

#define WORD_NR QLM_AVX512VNNI_NR
#define WORD_COLUMNS 2
#define WORD_ROWS QLM_AVX512VNNI_MR_16
#define WORD_SPLIT_ROWS 6
#define WORD_KEEP(x) __asm__("" : "+v"(x))
#include "gemm_16.inc.h"

#endif
