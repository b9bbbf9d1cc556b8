/* gemm_8_groups.inc.h: int8 weights in groups.  Included after int8.inc.h, whose macros and dot_* it uses; its own file
 * defines
 *
 *   GROUP_ROWS, GROUP_HELD, GROUP_USUAL(m)    gemm_groups.inc.h: GROUPS_MR, GROUPS_HELD, GROUPS_USUAL
 *   i8_ones(steps, b, sums)   the sums of the weights, only with DOT_TWO_ROWS
 */
#include "unroll.h"

#if DOT_TWO_ROWS

#define I8_CLEAR(i, column) sums[i][column] = dot_zero();
#define I8_CLEAR_ROW(i)                                                                                                \
    if (i < m) { QLM_EACH_COLUMN(DOT_COLUMNS, I8_CLEAR, i) }

QLM_INLINE void i8_run(const int m, size_t steps, const char *a, size_t lda, const char *b, dot_sums sums)
{
    QLM_EACH_ROW(MR, I8_CLEAR_ROW)
    dot_take_steps(m, steps, a, lda, b, sums);
}

#else

typedef dot_left i8_left;
typedef dot_right i8_right;

QLM_INLINE i8_left i8_load_left(const char *a) { return dot_load_left(a); }

QLM_INLINE i8_left i8_ones_left(void) { return (i8_left)dot_ones(); }

QLM_INLINE dot_sum i8_step(dot_sum sum, i8_left left, i8_right right) { return dot_step(sum, left, right); }

QLM_INLINE void i8_load(const char *b, i8_right right[DOT_COLUMNS])
{
#define I8_LOAD(i, column)                                                                                             \
    right[column] = dot_load_right(b, column);                                                                         \
    DOT_KEEP(right[column]);
    QLM_EACH_COLUMN(DOT_COLUMNS, I8_LOAD, 0)
}

#define SUMS(name) i8_##name
#define SUMS_LESS 0
#define SUMS_MR MR
#define SUMS_COLUMNS DOT_COLUMNS
#define SUMS_SPLIT GROUP_ROWS
#define SUMS_LEFT_BYTES (K_STEP * LEFT_BYTES)
#define SUMS_STEP_BYTES (NR * K_STEP)
#include "sums.inc.h"

#endif

#define GROUPS(name) i8_##name
#define GROUPS_FOLD 0
#define GROUPS_MR GROUP_ROWS
#define GROUPS_HELD GROUP_HELD
#define GROUPS_COLUMNS DOT_COLUMNS
#define GROUPS_STEP K_STEP
#define GROUPS_LEFT_BYTES (K_STEP * LEFT_BYTES)
#define GROUPS_STEP_BYTES (NR * K_STEP)
#define GROUPS_SHIFT 0
#define GROUPS_SHORT 0
#define GROUPS_USUAL(m) GROUP_USUAL(m)
#include "gemm_groups.inc.h"

/* Shared with expanded 4-bit panels. */
QLM_OUTLINE void i8_groups(size_t m, const struct qlm_groups *g) { i8_tile(m, g); }

QLM_KERNEL(void, gemm_8_groups)
(size_t m, size_t k, size_t group, const void *a, size_t lda, const int8_t *b, const void *sw, int half,
 const int8_t *zw, const float *ow, const int32_t *zx, const float *rest, const float *sx, const float *centred,
 const float *ox, size_t rows, const float *scale, const float *zero, const float *shift, const float *chain,
 const float *bias, const float *residual, size_t ldr, float *out, size_t ldo, int far)
{
    struct qlm_groups g = {k,  group, a,     lda,  b,     sw,    half, zw,       ow,  zx,  rest, sx, centred,
                           ox, rows,  scale, zero, shift, chain, bias, residual, ldr, out, ldo,  far};
    i8_groups(m, &g);
}
