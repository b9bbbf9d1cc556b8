/* The int8 kernels of NEON with int8 matrix products: smmla multiplies two rows by two outputs, eight k of each, and
 * adds the four sums to a register of int32.  A panel with k_step 8 has the codes of two outputs in 16 neighbouring
 * bytes; the rows stay apart in memory, and two loads of eight bytes make a pair.
 */
#if defined(__aarch64__)

#define QLM_ISA neoni8mm
#define QLM_TARGET QLM_TARGET_I8MM
#include "target_neon.h"
#include "vec_neon.h"

#include "shapes.h"

#define LEFT QLM_NEONI8MM_LEFT
#define K_STEP QLM_NEONI8MM_K_STEP
#define NR QLM_NEONI8MM_NR
#define MR QLM_NEONI8MM_MR_8
#define DOT_COLUMNS 4
/* Volatile, so that gcc 12 does not load eight of these ahead and spill. */
#define DOT_KEEP(x) __asm__ volatile("" : "+w"(x))
#define DOT_TWO_ROWS 1
#define TILE_HALF 3
_Static_assert(2 * TILE_HALF == MR, "pairs of rows");

typedef int32x4_t dot_sum;
typedef int8x16_t dot_left, dot_right;

QLM_INLINE dot_sum dot_low(dot_sum x, dot_sum y) { return vcombine_s32(vget_low_s32(x), vget_low_s32(y)); }

QLM_INLINE dot_sum dot_high(dot_sum x, dot_sum y) { return vcombine_s32(vget_high_s32(x), vget_high_s32(y)); }

QLM_INLINE dot_left dot_load_left(const char *a, size_t other)
{
    int64x2_t first = vreinterpretq_s64_s8(vcombine_s8(vld1_s8((const int8_t *)a), vdup_n_s8(0)));
    return vreinterpretq_s8_s64(vld1q_lane_s64((const int64_t *)(a + other), first, 1));
}

QLM_INLINE dot_left dot_load_whole(const char *a) { return vld1q_s8((const int8_t *)a); }

/* As the codes of two outputs, the second of them none: the sum of each row once. */
QLM_INLINE dot_right dot_ones(void) { return vcombine_s8(vdup_n_s8(1), vdup_n_s8(0)); }

QLM_INLINE dot_right dot_load_right(const char *b, int column) { return vld1q_s8((const int8_t *)b + 16 * column); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right) { return vmmlaq_s32(sum, left, right); }

#define DOT_LANES(sums, s) ((v16i){(sums)[4 * (s)], (sums)[4 * (s) + 1], (sums)[4 * (s) + 2], (sums)[4 * (s) + 3]})

#include "int8.inc.h"

/* Sums of the weights: eight k of two outputs are four sums of four. */
QLM_INLINE void i8_ones(size_t steps, const char *b, dot_sum sums[DOT_COLUMNS])
{
    dot_sum fours[2 * DOT_COLUMNS] = {{0}};
    for (; steps; steps--, b += NR * K_STEP)
        for (int at = 0; at < 2 * DOT_COLUMNS; at++)
            fours[at] = vdotq_s32(fours[at], dot_load_right(b, at), vdupq_n_s8(1));
    for (int column = 0; column < DOT_COLUMNS; column++)
        sums[column] = vpaddq_s32(fours[2 * column], fours[2 * column + 1]);
}

#define GROUP_ROWS MR
#define GROUP_HELD 0
#define GROUP_USUAL(m) ((m) == GROUP_ROWS || (m) == 1)
#include "gemm_8_groups.inc.h"

/* 4-bit weights by sdot: smmla would want another order of their codes than every other table. */
#include "nibbles_neon.h"

#define N4_LEFT LEFT
#define N4_MR MR
#define N4_SHIFT 0
#define N4_FOLD 0

QLM_INLINE void e4_load(const char *b, int8x16_t right[4])
{
    for (int column = 0; column < 4; column++) right[column] = vld1q_s8((const int8_t *)b + 16 * column);
}

typedef int8x16_t n4_left, n4_right;

QLM_INLINE n4_left n4_load_left(const char *a) { return n4_four(a); }

QLM_INLINE n4_left n4_ones_left(void) { return vdupq_n_s8(1); }

QLM_INLINE dot_sum n4_step(dot_sum sum, n4_left left, n4_right right) { return vdotq_s32(sum, right, left); }

#include "gemm_4_dot.inc.h"

#endif
