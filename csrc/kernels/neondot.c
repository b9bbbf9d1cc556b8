/* The int8 kernels of NEON with dot product: sdot adds four products s8 x s8 to an int32. */
#if defined(__aarch64__)

#define QLM_ISA neondot
#define QLM_TARGET QLM_TARGET_DOTPROD
#include "target_neon.h"
#include "vec_neon.h"

#include "shapes.h"

#define LEFT QLM_NEONDOT_LEFT
#define K_STEP QLM_NEONDOT_K_STEP
#define NR QLM_NEONDOT_NR
#define MR QLM_NEONDOT_MR_8
#define DOT_COLUMNS 4
#define DOT_KEEP(x)

typedef int32x4_t dot_sum;
typedef int8x16_t dot_left, dot_right;

QLM_INLINE dot_left dot_load_left(const char *a)
{
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

QLM_INLINE dot_left dot_load_whole(const char *a) { return vld1q_s8((const int8_t *)a); }

QLM_INLINE dot_right dot_ones(void) { return vdupq_n_s8(1); }

QLM_INLINE dot_right dot_load_right(const char *b, int column) { return vld1q_s8((const int8_t *)b + 16 * column); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right) { return vdotq_s32(sum, right, left); }

#define DOT_LANES(sums, s) ((v16i){(sums)[4 * (s)], (sums)[4 * (s) + 1], (sums)[4 * (s) + 2], (sums)[4 * (s) + 3]})

#include "int8.inc.h"

#define GROUP_ROWS MR
#define GROUP_HELD 0
#define GROUP_USUAL(m) ((m) == GROUP_ROWS || (m) == 1)
#include "gemm_8_groups.inc.h"

#include "nibbles_neon.h"

#define N4_LEFT LEFT
#define N4_MR MR
#define N4_SHIFT 0
#define N4_FOLD 0

typedef int8x16_t n4_left, n4_right;

QLM_INLINE n4_left n4_load_left(const char *a) { return n4_four(a); }

QLM_INLINE n4_left n4_ones_left(void) { return vdupq_n_s8(1); }

QLM_INLINE dot_sum n4_step(dot_sum sum, n4_left left, n4_right right) { return vdotq_s32(sum, right, left); }

#include "gemm_4_dot.inc.h"

#endif
