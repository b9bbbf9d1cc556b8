/* gemm_pairs.inc.h: the steps of gemm.inc.h where an instruction multiplies two rows by two outputs, so that a register
 * of sums has two outputs of two rows (smmla).  Outside of the steps sums stay in rows, as everything else wants them:
 *
 *   TILE(low)(x, y), TILE(high)(x, y)    the lower halves of x and y, the upper ones: from rows to pairs and back
 *   TILE(load_left)(a, other)            a row's bytes and those `other` bytes further on
 *   TILE(load_right)(b, column)          two outputs: there are twice TILE_COLUMNS
 *
 * The last of an odd number of rows is a pair with itself.  A pair has sums enough to hide the latency of a step.
 */
#define PAIR_EACH TILE_PASTE(TILE_EACH_ROW_, TILE_HALF)
#define PAIR_HAS_TWO(i) (2 * (i) + 1 < m)
#define PAIR_OTHER(i, column) (PAIR_HAS_TWO(i) ? sums[2 * i + 1][column] : sums[2 * i][column])
#define PAIR_JOIN(i, column)                                                                                           \
    pairs[i][2 * column] = TILE(low)(sums[2 * i][column], PAIR_OTHER(i, column));                                      \
    pairs[i][2 * column + 1] = TILE(high)(sums[2 * i][column], PAIR_OTHER(i, column));
#define PAIR_PART(i, column)                                                                                           \
    sums[2 * i][column] = TILE(low)(pairs[i][2 * column], pairs[i][2 * column + 1]);                                   \
    if (PAIR_HAS_TWO(i)) sums[2 * i + 1][column] = TILE(high)(pairs[i][2 * column], pairs[i][2 * column + 1]);
#define PAIR_EACH_SUM(STATEMENT, i)                                                                                    \
    if (2 * i < m) { TILE_EACH_COLUMN(STATEMENT, i) }
#define PAIR_JOIN_ROWS(i) PAIR_EACH_SUM(PAIR_JOIN, i)
#define PAIR_PART_ROWS(i) PAIR_EACH_SUM(PAIR_PART, i)
#define PAIR_LOAD(i)                                                                                                   \
    if (2 * i < m) left[i] = TILE(load_left)(a + 2 * i * lda, PAIR_HAS_TWO(i) * lda);
#define PAIR_STEP(i)                                                                                                   \
    if (2 * i < m) pairs[i][at] = TILE(step)(pairs[i][at], left[i], right);
/* Rows are few and outputs many: those of `a` stay in registers while the panel passes. */
#define PAIR_STEP_AT(column)                                                                                           \
    {                                                                                                                  \
        enum { at = column };                                                                                          \
        TILE(right) right = TILE(load_right)(b, at);                                                                   \
        TILE_KEEP(right);                                                                                              \
        PAIR_EACH(PAIR_STEP)                                                                                           \
    }
#define PAIR_STEP_COLUMN(i, column) PAIR_STEP_AT(2 * column) PAIR_STEP_AT(2 * column + 1)

/* Adds to `sums` what all steps give. */
QLM_INLINE void TILE(take_steps)(const int m, size_t steps, const char *a, size_t lda, const char *b, TILE(sums) sums)
{
    TILE(sum) pairs[TILE_HALF][2 * TILE_COLUMNS];
    PAIR_EACH(PAIR_JOIN_ROWS)
    for (; steps; steps--, a += TILE_LEFT_BYTES, b += TILE_STEP_BYTES) {
        TILE(left) left[TILE_HALF];
        TILE(ask_ahead)(b);
        PAIR_EACH(PAIR_LOAD)
        TILE_EACH_COLUMN(PAIR_STEP_COLUMN, 0)
    }
    PAIR_EACH(PAIR_PART_ROWS)
}
