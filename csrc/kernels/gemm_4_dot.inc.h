/* gemm_4_dot.inc.h: 4-bit weights where an instruction adds four products of bytes to an int32.  Included after
 * gemm_8_groups.inc.h.  The including file defines
 *
 *   N4_LEFT, N4_MR              of its table (shapes.h)
 *   n4_left, n4_right, n4_load_left(a), n4_ones_left(), n4_step(sum, left, right), for four bytes as in int8.inc.h
 *   n4_load(b, right)           a step of nibbles into n4_right right[DOT_COLUMNS], times 2 to the power N4_SHIFT
 *   N4_FOLD                     1: zero points are taken off the registers of n4_load, which are exact (N4_SHIFT 0)
 *   n4_exact(b, out)            gemm_4.inc.h
 *   e4_load(b, right)           a step that expand_4 made, only where K_STEP is not 4
 */
#include "zeros_4.inc.h"

#define N4_COLUMNS DOT_COLUMNS

#if N4_FOLD
QLM_INLINE void n4_zero_points(const int8_t *zw, n4_right less[DOT_COLUMNS])
{
    n4_bytes zeros[N4_REGISTERS];
    n4_zeros(zw, zeros);
    for (size_t i = 0; i < N4_REGISTERS; i++) less[i] = (n4_right)zeros[i];
}

QLM_INLINE n4_right n4_less(n4_right codes, n4_right zeros) { return (n4_right)((n4_bytes)codes - (n4_bytes)zeros); }
#endif

#define SUMS(name) n4_##name
#define SUMS_LESS N4_FOLD
#define SUMS_MR N4_MR
#define SUMS_COLUMNS DOT_COLUMNS
#define SUMS_SPLIT GROUP_ROWS
#define SUMS_LEFT_BYTES 4
#define SUMS_STEP_BYTES (2 * NR)
#include "sums.inc.h"

#define GROUPS(name) n4_##name
#define GROUPS_FOLD N4_FOLD
#define GROUPS_MR GROUP_ROWS
#define GROUPS_HELD GROUP_HELD
#define GROUPS_COLUMNS DOT_COLUMNS
#define GROUPS_STEP 4
#define GROUPS_LEFT_BYTES 4
#define GROUPS_STEP_BYTES (2 * NR)
#define GROUPS_SHIFT N4_SHIFT
#define GROUPS_SHORT 0
#define GROUPS_USUAL(m) GROUP_USUAL(m)
#include "gemm_groups.inc.h"

#if K_STEP == 4
/* Expanded panels are int8 panels. */
#define e4_run i8_run

QLM_INLINE void e4_tile(size_t m, const struct qlm_groups *g) { i8_groups(m, g); }
#else
typedef n4_left e4_left;
typedef n4_right e4_right;

QLM_INLINE e4_left e4_load_left(const char *a) { return n4_load_left(a); }

QLM_INLINE e4_left e4_ones_left(void) { return n4_ones_left(); }

QLM_INLINE dot_sum e4_step(dot_sum sum, e4_left left, e4_right right) { return n4_step(sum, left, right); }

#define SUMS(name) e4_##name
#define SUMS_LESS 0
#define SUMS_MR N4_MR
#define SUMS_COLUMNS DOT_COLUMNS
#define SUMS_SPLIT GROUP_ROWS
#define SUMS_LEFT_BYTES 4
#define SUMS_STEP_BYTES (4 * NR)
#include "sums.inc.h"

#define GROUPS(name) e4_##name
#define GROUPS_FOLD 0
#define GROUPS_MR GROUP_ROWS
#define GROUPS_HELD GROUP_HELD
#define GROUPS_COLUMNS DOT_COLUMNS
#define GROUPS_STEP 4
#define GROUPS_LEFT_BYTES 4
#define GROUPS_STEP_BYTES (4 * NR)
#define GROUPS_SHIFT 0
#define GROUPS_SHORT 0
#define GROUPS_USUAL(m) GROUP_USUAL(m)
#include "gemm_groups.inc.h"
#endif

#include "gemm_4.inc.h"
