/* sums_16.inc.h: exact sums by pairs of products in int16, as sums.inc.h has them by fours in int32; for one form of a
 * panel: PAIRS(name), PAIRS(load), PAIRS_BYTES in a step (gemm_4_16.inc.h has the rest). */
QLM_INLINE void PAIRS(start)(const int m, const char *a, size_t lda, const char *b, pair_sum part[][N4_COLUMNS])
{
    pair_right right[N4_COLUMNS];
    PAIRS(load)(b, right);
    QLM_EACH_ROW(N4_MR, PAIRS_START_ROW)
}

QLM_INLINE void PAIRS(take)(const int m, const char *a, size_t lda, const char *b, pair_sum part[][N4_COLUMNS])
{
    pair_right right[N4_COLUMNS];
    __builtin_prefetch(b + 8192); /* sums.inc.h */
    PAIRS(load)(b, right);
    QLM_EACH_ROW(N4_MR, PAIRS_STEP_ROW)
}

QLM_INLINE void PAIRS(block)(const int m, const char *a, size_t lda, const char *b, pair_sum part[][N4_COLUMNS])
{
    PAIRS(start)(m, a, lda, b, part);
    PAIRS(take)(m, a + 4, lda, b + PAIRS_BYTES, part);
    PAIRS(take)(m, a + 8, lda, b + 2 * PAIRS_BYTES, part);
    PAIRS(take)(m, a + 12, lda, b + 3 * PAIRS_BYTES, part);
    PAIRS(take)(m, a + 16, lda, b + 4 * PAIRS_BYTES, part);
    PAIRS(take)(m, a + 20, lda, b + 5 * PAIRS_BYTES, part);
    PAIRS(take)(m, a + 24, lda, b + 6 * PAIRS_BYTES, part);
    PAIRS(take)(m, a + 28, lda, b + 7 * PAIRS_BYTES, part);
}

/* The first block sets the sums and the others add to them: a group of 32 is one block. */
QLM_INLINE void PAIRS(run)(const int m, size_t steps, const char *a, size_t lda, const char *b,
                           dot_sum sums[][N4_COLUMNS])
{
    pair_sum part[N4_MR][N4_COLUMNS];
    if (steps >= PAIRS_BLOCK) {
        PAIRS(block)(m, a, lda, b, part);
        QLM_EACH_ROW(N4_MR, PAIRS_SET_ROW)
        steps -= PAIRS_BLOCK, a += 4 * PAIRS_BLOCK, b += PAIRS_BYTES * PAIRS_BLOCK;
    } else {
        QLM_EACH_ROW(N4_MR, PAIRS_CLEAR_ROW)
    }
    for (; steps >= PAIRS_BLOCK; steps -= PAIRS_BLOCK, a += 4 * PAIRS_BLOCK, b += PAIRS_BYTES * PAIRS_BLOCK) {
        PAIRS(block)(m, a, lda, b, part);
        QLM_EACH_ROW(N4_MR, PAIRS_MERGE_ROW)
    }
    if (steps) {
        PAIRS(start)(m, a, lda, b, part);
        while (--steps) PAIRS(take)(m, a += 4, lda, b += PAIRS_BYTES, part);
        QLM_EACH_ROW(N4_MR, PAIRS_MERGE_ROW)
    }
}

QLM_INLINE void PAIRS(ones)(size_t steps, const char *b, dot_sum sums[N4_COLUMNS])
{
    QLM_EACH_COLUMN(N4_COLUMNS, PAIRS_CLEAR_COLUMN, 0)
    for (; steps; steps--, b += PAIRS_BYTES) {
        pair_right right[N4_COLUMNS];
        PAIRS(load)(b, right);
        QLM_EACH_COLUMN(N4_COLUMNS, PAIRS_ONES, 0)
    }
}

#undef PAIRS
#undef PAIRS_BYTES
