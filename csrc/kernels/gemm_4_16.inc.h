/* gemm_4_16.inc.h: 4-bit weights where bytes are multiplied and added in pairs, to int16.  A pair is at most 2 * 255
 * * 8 = 4080 in magnitude, so eight of them fit an int16 (32 640) before they are widened to int32: a product costs two
 * instructions and a quarter instead of the three of widening each.  The including file defines
 *
 *   N4_LEFT, N4_MR, N4_COLUMNS, NR, dot_sum, dot_add, dot_load_whole, DOT_LANES (gemm_4.inc.h, int8.inc.h)
 *   pair_sum                    a register of int16, as wide as dot_sum
 *   pair_left, pair_right, pair_load_left(a), pair_ones()
 *   pair_first(left, right)     the products' pairs
 *   pair_add(x, y), pair_widen(x)   neighbouring pairs added to an int32
 *   n4_load(b, right), e4_load(b, right)   a step of nibbles, or of their expansion, into pair_right right[N4_COLUMNS]
 *   n4_exact(b, out)            gemm_4.inc.h
 */
#include "unroll.h"
#include "zeros_4.inc.h"

#define N4_SHIFT 0
#define PAIRS_BLOCK 8

#define PAIRS_OF_ROW(X, i)                                                                                             \
    if (i < m) { QLM_EACH_COLUMN(N4_COLUMNS, X, i) }
#define PAIRS_START(i, column) part[i][column] = pair_first(left, right[column]);
#define PAIRS_START_ROW(i)                                                                                             \
    if (i < m) {                                                                                                       \
        pair_left left = pair_load_left(a + i * lda);                                                                  \
        QLM_EACH_COLUMN(N4_COLUMNS, PAIRS_START, i)                                                                    \
    }
#define PAIRS_STEP(i, column) part[i][column] = pair_add(part[i][column], pair_first(left, right[column]));
#define PAIRS_STEP_ROW(i)                                                                                              \
    if (i < m) {                                                                                                       \
        pair_left left = pair_load_left(a + i * lda);                                                                  \
        QLM_EACH_COLUMN(N4_COLUMNS, PAIRS_STEP, i)                                                                     \
    }
#define PAIRS_SET(i, column) sums[i][column] = pair_widen(part[i][column]);
#define PAIRS_SET_ROW(i) PAIRS_OF_ROW(PAIRS_SET, i)
#define PAIRS_MERGE(i, column) sums[i][column] = dot_add(sums[i][column], pair_widen(part[i][column]));
#define PAIRS_MERGE_ROW(i) PAIRS_OF_ROW(PAIRS_MERGE, i)
#define PAIRS_CLEAR(i, column) sums[i][column] = (dot_sum){0};
#define PAIRS_CLEAR_ROW(i) PAIRS_OF_ROW(PAIRS_CLEAR, i)
#define PAIRS_ONES(i, column) sums[column] = dot_add(sums[column], pair_widen(pair_first(pair_ones(), right[column])));
#define PAIRS_CLEAR_COLUMN(i, column) sums[column] = (dot_sum){0};

#define PAIRS(name) n4_##name
#define PAIRS_BYTES (2 * NR)
#include "sums_16.inc.h"

#define GROUPS(name) n4_##name
#define GROUPS_FOLD 0
#define GROUPS_MR N4_MR
#define GROUPS_HELD 0
#define GROUPS_COLUMNS N4_COLUMNS
#define GROUPS_STEP 4
#define GROUPS_LEFT_BYTES 4
#define GROUPS_STEP_BYTES (2 * NR)
#define GROUPS_SHIFT 0
#define GROUPS_SHORT PAIRS_BLOCK
#define GROUPS_USUAL(m) ((m) == 1)
#include "gemm_groups.inc.h"

#define PAIRS(name) e4_##name
#define PAIRS_BYTES (4 * NR)
#include "sums_16.inc.h"

#define GROUPS(name) e4_##name
#define GROUPS_FOLD 0
#define GROUPS_MR N4_MR
#define GROUPS_HELD 0
#define GROUPS_COLUMNS N4_COLUMNS
#define GROUPS_STEP 4
#define GROUPS_LEFT_BYTES 4
#define GROUPS_STEP_BYTES (4 * NR)
#define GROUPS_SHIFT 0
#define GROUPS_SHORT PAIRS_BLOCK
#define GROUPS_USUAL(m) ((m) >= N4_MR - 1) /* few rows do not expand panels */
#include "gemm_groups.inc.h"

#include "gemm_4.inc.h"
