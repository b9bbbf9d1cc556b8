/* gemm_4_dot.inc.h: 4-bit weights where an instruction adds four products of bytes to an int32.  Included after
 * gemm_8_groups.inc.h.  The including file defines
 *
 *   N4_LEFT, N4_MR              of its table (shapes.h)
 *   n4_left, n4_right, n4_load_left(a), n4_ones_left(), n4_step(sum, left, right), for four bytes as in int8.inc.h
 *   n4_load(b, right)           a step of nibbles into n4_right right[DOT_COLUMNS], times 2 to the power N4_SHIFT
 *   n4_exact(b, out)            gemm_4.inc.h
 *   e4_load(b, right)           a step that expand_4 made, only where K_STEP is not 4
 */
#define N4_COLUMNS DOT_COLUMNS

#define SUMS(name) n4_##name
#define SUMS_MR N4_MR
#define SUMS_COLUMNS DOT_COLUMNS
#define SUMS_SPLIT GROUP_ROWS
#define SUMS_LEFT_BYTES 4
#define SUMS_STEP_BYTES (2 * NR)
#include "sums.inc.h"

#define GROUPS(name) n4_##name
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
#define SUMS_MR N4_MR
#define SUMS_COLUMNS DOT_COLUMNS
#define SUMS_SPLIT GROUP_ROWS
#define SUMS_LEFT_BYTES 4
#define SUMS_STEP_BYTES (4 * NR)
#include "sums.inc.h"

#define GROUPS(name) e4_##name
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
