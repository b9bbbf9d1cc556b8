/* sums.inc.h: the exact sums of a run of k, of m rows by nr outputs, left in registers for what follows (gemm_groups.
 * inc.h).  The including file defines, before it includes this file once for each form of a panel,
 *
 *   SUMS(name)                   the prefix of the names below; #undef'd here, as the other macros are
 *   SUMS_MR, SUMS_COLUMNS        rows at most; registers of dot_sum in a row of the tile
 *   SUMS_SPLIT                   rows below which, twice over, steps are split
 *   SUMS_LEFT_BYTES              bytes of a row of a in a step
 *   SUMS_STEP_BYTES              bytes of the panel in a step
 *   SUMS(left), SUMS(right)      their registers
 *   SUMS(load_left)(a), SUMS(ones_left)()
 *   SUMS(load)(b, right)         a step of the panel into SUMS(right) right[SUMS_COLUMNS]
 *   SUMS_LESS                    1: panels may be taken less something, by SUMS(less)(right, something)
 *   SUMS(step)(sum, left, right) as dot_step of int8.inc.h, which has dot_sum and dot_add
 *
 * and has SUMS(run)(m, steps, a, lda, b, sums), for ones instead of a SUMS(ones)(steps, b, sums), and with SUMS_LESS
 * SUMS(run_less)(m, steps, a, lda, b, less, sums): each step less SUMS(right) less[SUMS_COLUMNS].
 *
 * With few rows, neighbouring steps add to sums of their own, as in gemm.inc.h: one chain would wait for each step.
 */
#ifndef SUMS_CLEAR
#include "unroll.h"

/* How far ahead a panel is asked for.  Farther than in gemm.inc.h: what follows each group holds loads up.  At one row
 * on a Zen 4, 4096 x 4096 int8 in groups of 32 from L3: 25 GB/s with 2 KiB, 43 with 6, 59 with 8, 58 with 16; 4 bits
 * from memory 22, 32, 33 and 27. */
#define SUMS_AHEAD 8192
#define SUMS_OF_ROW(X, i)                                                                                              \
    if (i < m) { QLM_EACH_COLUMN(SUMS_COLUMNS, X, i) }
#define SUMS_CLEAR(i, column) sums[i][column] = (dot_sum){0};
#define SUMS_CLEAR_ROW(i) SUMS_OF_ROW(SUMS_CLEAR, i)
#define SUMS_MERGE(i, column) sums[i][column] = dot_add(sums[i][column], other[i][column]);
#define SUMS_MERGE_ROW(i) SUMS_OF_ROW(SUMS_MERGE, i)
#define SUMS_STEP(i, column) sums[i][column] = SUMS(step)(sums[i][column], left, right[column]);
#define SUMS_STEP_ROW(i)                                                                                               \
    if (i < m) {                                                                                                       \
        SUMS(left) left = SUMS(load_left)(a + i * lda);                                                                \
        QLM_EACH_COLUMN(SUMS_COLUMNS, SUMS_STEP, i)                                                                    \
    }
#define SUMS_TAKE_OFF(i, column) right[column] = SUMS(less)(right[column], less[column]);
#define SUMS_ONES(i, column) sums[column] = SUMS(step)(sums[column], SUMS(ones_left)(), right[column]);
#define SUMS_CLEAR_COLUMN(i, column) sums[column] = (dot_sum){0};
#endif

QLM_INLINE void SUMS(clear)(const int m, dot_sum sums[][SUMS_COLUMNS]){QLM_EACH_ROW(SUMS_MR, SUMS_CLEAR_ROW)}

QLM_INLINE void SUMS(merge)(const int m, dot_sum sums[][SUMS_COLUMNS],
                            dot_sum other[][SUMS_COLUMNS]){QLM_EACH_ROW(SUMS_MR, SUMS_MERGE_ROW)}

/* less: NULL, or what is taken off each step. */
QLM_INLINE void SUMS(take)(const int m, const char *a, size_t lda, const char *b, const SUMS(right) * less,
                           dot_sum sums[][SUMS_COLUMNS])
{
    SUMS(right) right[SUMS_COLUMNS];
    for (size_t at = 0; at < SUMS_STEP_BYTES; at += 64) __builtin_prefetch(b + SUMS_AHEAD + at);
    SUMS(load)(b, right);
#if SUMS_LESS
    if (less) { QLM_EACH_COLUMN(SUMS_COLUMNS, SUMS_TAKE_OFF, 0) }
#else
    (void)less;
#endif
    QLM_EACH_ROW(SUMS_MR, SUMS_STEP_ROW)
}

QLM_INLINE void SUMS(run_less)(const int m, size_t steps, const char *a, size_t lda, const char *b,
                               const SUMS(right) * less, dot_sum sums[][SUMS_COLUMNS])
{
    SUMS(clear)(m, sums);
    if (2 * m <= SUMS_SPLIT) {
        dot_sum second[SUMS_MR][SUMS_COLUMNS];
        SUMS(clear)(m, second);
        for (; steps >= 2; steps -= 2, a += 2 * SUMS_LEFT_BYTES, b += 2 * SUMS_STEP_BYTES) {
            SUMS(take)(m, a, lda, b, less, sums);
            SUMS(take)(m, a + SUMS_LEFT_BYTES, lda, b + SUMS_STEP_BYTES, less, second);
        }
        SUMS(merge)(m, sums, second);
    }
    for (; steps; steps--, a += SUMS_LEFT_BYTES, b += SUMS_STEP_BYTES) SUMS(take)(m, a, lda, b, less, sums);
}

QLM_INLINE void SUMS(run)(const int m, size_t steps, const char *a, size_t lda, const char *b,
                          dot_sum sums[][SUMS_COLUMNS])
{ SUMS(run_less)(m, steps, a, lda, b, NULL, sums); }

QLM_INLINE void SUMS(ones)(size_t steps, const char *b, dot_sum sums[SUMS_COLUMNS])
{
    QLM_EACH_COLUMN(SUMS_COLUMNS, SUMS_CLEAR_COLUMN, 0)
    for (; steps; steps--, b += SUMS_STEP_BYTES) {
        SUMS(right) right[SUMS_COLUMNS];
        SUMS(load)(b, right);
        QLM_EACH_COLUMN(SUMS_COLUMNS, SUMS_ONES, 0)
    }
}

#undef SUMS
#undef SUMS_MR
#undef SUMS_LESS
#undef SUMS_SPLIT
#undef SUMS_COLUMNS
#undef SUMS_LEFT_BYTES
#undef SUMS_STEP_BYTES
