/* gemm.inc.h: a tile of a matrix product, m rows x nr outputs, for every instruction set with SIMD.
 *
 * The int8, the int16 and the float product all take a step of k in one way: a few bytes of each row of `a` (k_step
 * codes, two int16 or one float) are repeated over a register and meet TILE_COLUMNS registers of the panel.  What the
 * including file says of a product, before it includes this file once for each:
 *
 *   TILE(name)                   the prefix of all names below
 *   TILE_C                       element of c
 *   TILE_MR                      rows at most: 2, 4, 6 or 12
 *   TILE_COLUMNS                 registers of the panel in a step: 1, 2 or 4
 *   TILE_LEFT_BYTES              bytes of a row of `a` in a step
 *   TILE_STEP_BYTES              bytes of the panel in a step: nr times k_step, or times 4
 *   TILE_TWO_ROWS                1: an instruction takes two rows at once, and gemm_pairs.inc.h the steps
 *   TILE_KEEP(x)                 makes the compiler keep a TILE(right) in its register: left alone, gcc 12 reads the
 *                                panel again for each of two or three rows.  May be empty.  Not with one row, whose
 *                                steps are a third fewer micro-operations where they load what they multiply: more of
 *                                the panel is then on its way
 *   TILE_SPLIT                   1: sums may be split, because their order is free (integers)
 *   TILE(sum)                    the sums of TILE_WIDTH outputs of a row.  A vector of their own type: where it differs
 *                                from the one that an intrinsic returns inside, as __m512i does, gcc 12 copies it on
 *                                every step
 *   TILE(left), TILE(right)      four bytes of a, repeated; a register of the panel
 *   TILE(load_left)(a) TILE(load_right)(b, column)
 *   TILE(step)(sum, left, right) the sum with this step's products added
 *   TILE(first)(c, option)       what a sum starts from
 *   TILE(store)(c, sum, option)
 *   TILE(zero)() TILE(add)(x, y) only with TILE_SPLIT
 *
 * It then has TILE(run)(m, steps, a, lda, b, c, ldc, option), a and lda in bytes, and TILE(take_steps)(m, steps, a,
 * lda, b, sums).
 *
 * m is a constant in each case of a switch, and the loops over rows and columns are written out by macros, since
 * compilers keep an array in registers only where no index is a variable when they first look: the sums never leave
 * the registers.  One or a few rows have too few sums to hide the latency of a step; with TILE_SPLIT, neighbouring
 * steps then add to different sums, and a call runs as fast as the panel can be read.
 */
/* How far ahead a panel is asked for, into L1 and into L2: a model's weights come from L3 or memory, and panels lie one
 * behind another.  2 KiB, some 200 cycles at 12 rows, are L3's latency: a sentence of 16 tokens through MiniLM took 15
 * % less time; nearer (1 KiB) and farther (4, 8, 16 KiB) gained less, and a panel that is in L1 anyway loses about 1 %.
 * Memory's latency is a multiple of that, and L1 has no room for it: 12 KiB ahead into L2, 128 x 4096 -> 32000 takes 7
 * % less time, 12 rows of it 15 %; with 8 and 16 KiB as good, with 4 KiB no gain.  A panel that is in L2 loses nothing
 * by it.  With less than TILE_AHEAD_ROWS rows loads come as fast as the cache gives, and the hardware's own prefetch
 * runs ahead better (one row from L3: 75 GB/s with these, 90 without).  A prefetch past the end of memory does nothing.
 */
#define TILE_AHEAD 2048
#define TILE_AHEAD_L2 12288
#define TILE_AHEAD_ROWS 5
#define TILE_WIDTH (sizeof(TILE(sum)) / sizeof(TILE_C))

#ifndef TILE_PASTE
#define TILE_PASTE_(name, count) name##count
#define TILE_PASTE(name, count) TILE_PASTE_(name, count)
#define TILE_EACH_ROW_2(X) X(0) X(1)
#define TILE_EACH_ROW_3(X) TILE_EACH_ROW_2(X) X(2)
#define TILE_EACH_ROW_4(X) TILE_EACH_ROW_3(X) X(3)
#define TILE_EACH_ROW_6(X) TILE_EACH_ROW_4(X) X(4) X(5)
#define TILE_EACH_ROW_12(X) TILE_EACH_ROW_6(X) X(6) X(7) X(8) X(9) X(10) X(11)
#define TILE_EACH_COLUMN_1(X, i) X(i, 0)
#define TILE_EACH_COLUMN_2(X, i) X(i, 0) X(i, 1)
#define TILE_EACH_COLUMN_4(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3)
#define TILE_EACH_ROW TILE_PASTE(TILE_EACH_ROW_, TILE_MR)
#define TILE_EACH_COLUMN TILE_PASTE(TILE_EACH_COLUMN_, TILE_COLUMNS)
/* STATEMENT(i, column) for each sum of m rows. */
#define TILE_EACH_OF_ROW(STATEMENT, i)                                                                                 \
    if (i < m) { TILE_EACH_COLUMN(STATEMENT, i) }

#define TILE_FIRST(i, column) sums[i][column] = TILE(first)(c + i * ldc + column * TILE_WIDTH, option);
#define TILE_FIRST_ROW(i) TILE_EACH_OF_ROW(TILE_FIRST, i)
#define TILE_STORE(i, column) TILE(store)(c + i * ldc + column * TILE_WIDTH, sums[i][column], option);
#define TILE_STORE_ROW(i) TILE_EACH_OF_ROW(TILE_STORE, i)
#define TILE_ZERO(i, column) sums[i][column] = TILE(zero)();
#define TILE_ZERO_ROW(i) TILE_EACH_OF_ROW(TILE_ZERO, i)
#define TILE_ADD(i, column) sums[i][column] = TILE(add)(sums[i][column], other[i][column]);
#define TILE_ADD_ROW(i) TILE_EACH_OF_ROW(TILE_ADD, i)
#define TILE_LOAD(i, column)                                                                                           \
    right[column] = TILE(load_right)(b, column);                                                                       \
    if (m > 1) { TILE_KEEP(right[column]); }
#define TILE_STEP(i, column) sums[i][column] = TILE(step)(sums[i][column], left, right[column]);
#define TILE_STEP_ROW(i)                                                                                               \
    if (i < m) {                                                                                                       \
        TILE(left) left = TILE(load_left)(a + i * lda);                                                                \
        TILE_EACH_COLUMN(TILE_STEP, i)                                                                                 \
    }
#define TILE_CASE(i)                                                                                                   \
    case i + 1:                                                                                                        \
        TILE(rows)(i + 1, steps, a, lda, b, c, ldc, option);                                                           \
        return;
#endif

typedef TILE(sum) TILE(sums)[TILE_MR][TILE_COLUMNS];

QLM_INLINE void TILE(ask_ahead)(const char *b)
{
    for (size_t at = 0; at < TILE_STEP_BYTES; at += 64) {
        __builtin_prefetch(b + TILE_AHEAD + at);
        __builtin_prefetch(b + TILE_AHEAD_L2 + at, 0, 2);
    }
}

#if TILE_TWO_ROWS
#include "gemm_pairs.inc.h"
#else

QLM_INLINE void TILE(take_step)(const int m, const char *a, size_t lda, const char *b, TILE(sums) sums)
{
    TILE(right) right[TILE_COLUMNS];
    if (m >= TILE_AHEAD_ROWS) TILE(ask_ahead)(b);
    TILE_EACH_COLUMN(TILE_LOAD, 0);
    TILE_EACH_ROW(TILE_STEP_ROW);
}

#if TILE_SPLIT
QLM_INLINE void TILE(clear)(const int m, TILE(sums) sums) { TILE_EACH_ROW(TILE_ZERO_ROW); }

QLM_INLINE void TILE(merge)(const int m, TILE(sums) sums, TILE(sums) other) { TILE_EACH_ROW(TILE_ADD_ROW); }

/* Adds to `sums` what fours of steps give; returns the number of steps. */
QLM_INLINE size_t TILE(fours)(const int m, size_t steps, const char *a, size_t lda, const char *b, TILE(sums) sums)
{
    TILE(sums) second, third, fourth;
    TILE(clear)(m, second);
    TILE(clear)(m, third);
    TILE(clear)(m, fourth);
    for (size_t left = steps / 4; left; left--, a += 4 * TILE_LEFT_BYTES, b += 4 * TILE_STEP_BYTES) {
        TILE(take_step)(m, a, lda, b, sums);
        TILE(take_step)(m, a + TILE_LEFT_BYTES, lda, b + TILE_STEP_BYTES, second);
        TILE(take_step)(m, a + 2 * TILE_LEFT_BYTES, lda, b + 2 * TILE_STEP_BYTES, third);
        TILE(take_step)(m, a + 3 * TILE_LEFT_BYTES, lda, b + 3 * TILE_STEP_BYTES, fourth);
    }
    TILE(merge)(m, sums, second);
    TILE(merge)(m, third, fourth);
    TILE(merge)(m, sums, third);
    return steps / 4 * 4;
}

/* The same with pairs of steps. */
QLM_INLINE size_t TILE(pairs)(const int m, size_t steps, const char *a, size_t lda, const char *b, TILE(sums) sums)
{
    TILE(sums) second;
    TILE(clear)(m, second);
    for (size_t left = steps / 2; left; left--, a += 2 * TILE_LEFT_BYTES, b += 2 * TILE_STEP_BYTES) {
        TILE(take_step)(m, a, lda, b, sums);
        TILE(take_step)(m, a + TILE_LEFT_BYTES, lda, b + TILE_STEP_BYTES, second);
    }
    TILE(merge)(m, sums, second);
    return steps / 2 * 2;
}
#endif

/* Adds to `sums` what all steps give. */
QLM_INLINE void TILE(take_steps)(const int m, size_t steps, const char *a, size_t lda, const char *b, TILE(sums) sums)
{
    size_t done = 0;
#if TILE_SPLIT
    if (4 * m <= TILE_MR)
        done = TILE(fours)(m, steps, a, lda, b, sums);
    else if (2 * m <= TILE_MR)
        done = TILE(pairs)(m, steps, a, lda, b, sums);
#endif
    a += TILE_LEFT_BYTES * done;
    b += TILE_STEP_BYTES * done;
    for (steps -= done; steps; steps--, a += TILE_LEFT_BYTES, b += TILE_STEP_BYTES) TILE(take_step)(m, a, lda, b, sums);
}

#endif

QLM_INLINE void TILE(rows)(const int m, size_t steps, const char *a, size_t lda, const char *b, TILE_C *c, size_t ldc,
                           size_t option)
{
    TILE(sums) sums;
    TILE_EACH_ROW(TILE_FIRST_ROW);
    TILE(take_steps)(m, steps, a, lda, b, sums);
    TILE_EACH_ROW(TILE_STORE_ROW);
}

QLM_INLINE void TILE(run)(size_t m, size_t steps, const char *a, size_t lda, const char *b, TILE_C *c, size_t ldc,
                          size_t option)
{
    switch (m) {
        TILE_EACH_ROW(TILE_CASE);
    }
}

#undef TILE
#undef TILE_C
#undef TILE_MR
#undef TILE_COLUMNS
#undef TILE_SPLIT
#undef TILE_KEEP
#undef TILE_WIDTH
#undef TILE_AHEAD
#undef TILE_AHEAD_L2
#undef TILE_LEFT_BYTES
#undef TILE_AHEAD_ROWS
#undef TILE_STEP_BYTES
#undef TILE_TWO_ROWS
