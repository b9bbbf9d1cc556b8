/* gemm_groups.inc.h: a tile whose sums are scaled group by group (gemm_8_groups and gemm_4_groups of kernels.h), for
 * instruction sets with SIMD.  A group's sums stay in registers until they have been corrected, scaled and added to
 * t, which waits in L1: a group of 32 is eight steps, too few to store its sums and read them again.
 *
 * The including file defines, before it includes this file once for each form of a panel,
 *
 *   GROUPS(name)                 the prefix; GROUPS(run) and GROUPS(ones) as in sums.inc.h; #undef'd here
 *   GROUPS_MR, GROUPS_COLUMNS    rows at a time; registers of dot_sum in a row of the tile
 *   GROUPS_HELD                  1: t stays in registers too (half the rows, no loads and stores); 0: in L1
 *   GROUPS_STEP                  k of a step
 *   GROUPS_LEFT_BYTES            bytes of a row of a in a step
 *   GROUPS_STEP_BYTES            bytes of the panel in a step
 *   GROUPS_SHIFT                 the sums are 2 to this power too large
 *   NR, DOT_LANES(row, 0)        16 outputs of a row of dot_sum as v16i (linear.inc.h)
 *
 * and has GROUPS(tile)(m, g).
 */
#ifndef GROUPS_OF_ROW
#include "unroll.h"

/* What is the same for each form of a panel: gemm_8_groups's parameters. */
struct groups {
    size_t k, group;
    const char *a;
    size_t lda;
    const char *b;
    const void *sw;
    int half;
    const int8_t *zw;
    const float *ow;
    const int32_t *zx, *rest;
    const float *sx, *centred, *ox;
    size_t rows;
    float *t;
};

/* 16 neighbouring outputs of a group: what belongs to the columns. */
struct group_columns {
    v16f sw, ow;
    v16i zw, sums;
};

QLM_INLINE v16f group_scale(const struct groups *g, size_t at)
{ return g->half ? v16_f_load_half((const uint16_t *)g->sw + at) : v16_f_load((const float *)g->sw + at); }

/* An activation's offset meets the sum of the weights: sw fl(sums - count zw). */
QLM_INLINE v16f group_weights(const struct group_columns *c, size_t count)
{
    v16i sum = v16_i_sub(c->sums, v16_i_mul(v16_i_set1((int32_t)count), c->zw));
    return v16_f_mul(c->sw, v16_f_from_i(sum));
}

#define GROUPS_OF_ROW(STATEMENT, i)                                                                                    \
    if (i < m) { STATEMENT; }
#define GROUPS_LANES(i) GROUPS_OF_ROW(acc[i] = DOT_LANES(sums[i] + first, 0), i)
#define GROUPS_SCALE_DOWN(i) GROUPS_OF_ROW(acc[i] = v16_i_sar(acc[i], GROUPS_SHIFT), i)
#define GROUPS_LESS_ZX(i) GROUPS_OF_ROW(acc[i] = v16_i_sub(acc[i], v16_i_mul(c->sums, v16_i_set1(zx[i]))), i)
#define GROUPS_LESS_ZW(i) GROUPS_OF_ROW(acc[i] = v16_i_sub(acc[i], v16_i_mul(c->zw, v16_i_set1(rest[i]))), i)
#define GROUPS_ADD(i) GROUPS_OF_ROW(t[i] = v16_f_fma(v16_f_from_i(acc[i]), c->sw, t[i]), i)
#define GROUPS_ADD_SX(i)                                                                                               \
    GROUPS_OF_ROW(t[i] = v16_f_fma(v16_f_mul(v16_f_from_i(acc[i]), c->sw), v16_f_set1(sx[i]), t[i]), i)
#define GROUPS_ADD_CENTRED(i) GROUPS_OF_ROW(t[i] = v16_f_fma(v16_f_set1(centred[i]), c->ow, t[i]), i)
#define GROUPS_ADD_OFFSET(i) GROUPS_OF_ROW(t[i] = v16_f_fma(v16_f_set1(ox[i]), weights, t[i]), i)
#define GROUPS_T(i) (g->t + (i) * NR + 16 * j)
#define GROUPS_TAKE(i) GROUPS_OF_ROW(t[i] = GROUPS_HELD ? held[i][j] : v16_f_load(GROUPS_T(i)), i)
#define GROUPS_GIVE_HELD(i) GROUPS_OF_ROW(held[i][j] = t[i], i)
#define GROUPS_GIVE(i) GROUPS_OF_ROW(v16_f_store(GROUPS_T(i), t[i]), i)
#define GROUPS_ZERO(i) GROUPS_OF_ROW(held[i][j] = v16_f_set1(0.0f), i)
#define GROUPS_STORE(i) GROUPS_OF_ROW(v16_f_store(GROUPS_T(i), held[i][j]), i)
#define GROUPS_CASE(i)                                                                                                 \
    case i + 1:                                                                                                        \
        GROUPS(tile_rows)(i + 1, g);                                                                                   \
        return;
#endif

/* The sums of group number n, of 16 outputs from register `first` on, to t. */
QLM_INLINE void GROUPS(add_columns)(const int m, const struct groups *g, size_t n, dot_sum sums[][GROUPS_COLUMNS],
                                    const int first, const struct group_columns *c, v16f *t)
{
    v16i acc[GROUPS_MR];
    QLM_EACH_ROW(GROUPS_MR, GROUPS_LANES)
    if (GROUPS_SHIFT) { QLM_EACH_ROW(GROUPS_MR, GROUPS_SCALE_DOWN) }
    if (g->zx) {
        const int32_t *zx = g->zx + n * g->rows;
        QLM_EACH_ROW(GROUPS_MR, GROUPS_LESS_ZX)
    }
    if (g->zw) {
        const int32_t *rest = g->rest + n * g->rows;
        QLM_EACH_ROW(GROUPS_MR, GROUPS_LESS_ZW)
    }
    if (g->sx) {
        const float *sx = g->sx + n * g->rows;
        QLM_EACH_ROW(GROUPS_MR, GROUPS_ADD_SX)
    } else {
        QLM_EACH_ROW(GROUPS_MR, GROUPS_ADD)
    }
    if (g->ow) {
        const float *centred = g->centred + n * g->rows;
        QLM_EACH_ROW(GROUPS_MR, GROUPS_ADD_CENTRED)
    }
    if (g->ox) {
        const float *ox = g->ox + n * g->rows;
        size_t left = g->k - n * g->group;
        v16f weights = group_weights(c, left < g->group ? left : g->group);
        QLM_EACH_ROW(GROUPS_MR, GROUPS_ADD_OFFSET)
    }
}

typedef v16f GROUPS(held)[GROUPS_MR][NR / 16];

/* Outputs 16 j .. 16 j + 15; j is a constant. */
QLM_INLINE void GROUPS(add_part)(const int m, const struct groups *g, size_t n, dot_sum sums[][GROUPS_COLUMNS],
                                 const dot_sum *ones, const int j, GROUPS(held) held)
{
    const int first = j * (GROUPS_COLUMNS / (NR / 16));
    size_t at = n * NR + 16 * (size_t)j;
    struct group_columns c = {.sw = group_scale(g, at)};
    v16f t[GROUPS_MR];
    c.zw = g->zw ? v16_load_s8(g->zw + at) : v16_i_set1(0);
    c.ow = g->ow ? v16_f_load(g->ow + at) : v16_f_set1(0.0f);
    c.sums = DOT_LANES(ones + first, 0);
    if (GROUPS_SHIFT) c.sums = v16_i_sar(c.sums, GROUPS_SHIFT);
    QLM_EACH_ROW(GROUPS_MR, GROUPS_TAKE)
    GROUPS(add_columns)(m, g, n, sums, first, &c, t);
    if (GROUPS_HELD) {
        QLM_EACH_ROW(GROUPS_MR, GROUPS_GIVE_HELD)
    } else {
        QLM_EACH_ROW(GROUPS_MR, GROUPS_GIVE)
    }
}

QLM_INLINE void GROUPS(zero_part)(const int m, const int j, GROUPS(held) held){QLM_EACH_ROW(GROUPS_MR, GROUPS_ZERO)}

QLM_INLINE void GROUPS(store_part)(const int m, const struct groups *g, const int j,
                                   GROUPS(held) held){QLM_EACH_ROW(GROUPS_MR, GROUPS_STORE)}

#define GROUPS_PARTS_LAST (NR / 16 - 1)
_Static_assert(NR == 16 || NR == 32, "one part of 16 outputs, or two");

QLM_INLINE void GROUPS(tile_rows)(const int m, const struct groups *g)
{
    const size_t steps = (g->group + GROUPS_STEP - 1) / GROUPS_STEP;
    const char *a = g->a, *b = g->b;
    GROUPS(held) held;
    GROUPS(zero_part)(m, 0, held);
    if (GROUPS_PARTS_LAST) GROUPS(zero_part)(m, GROUPS_PARTS_LAST, held);
    if (!GROUPS_HELD) GROUPS(store_part)(m, g, 0, held);
    if (!GROUPS_HELD && GROUPS_PARTS_LAST) GROUPS(store_part)(m, g, GROUPS_PARTS_LAST, held);
    for (size_t n = 0; n * g->group < g->k; n++, a += GROUPS_LEFT_BYTES * steps, b += GROUPS_STEP_BYTES * steps) {
        dot_sum sums[GROUPS_MR][GROUPS_COLUMNS], ones[GROUPS_COLUMNS] = {{0}};
        if (g->zx || g->ox) GROUPS(ones)(steps, b, ones);
        GROUPS(run)(m, steps, a, g->lda, b, sums);
        GROUPS(add_part)(m, g, n, sums, ones, 0, held);
        if (GROUPS_PARTS_LAST) GROUPS(add_part)(m, g, n, sums, ones, GROUPS_PARTS_LAST, held);
    }
    if (GROUPS_HELD) GROUPS(store_part)(m, g, 0, held);
    if (GROUPS_HELD && GROUPS_PARTS_LAST) GROUPS(store_part)(m, g, GROUPS_PARTS_LAST, held);
}

QLM_INLINE void GROUPS(tile_part)(size_t m, const struct groups *g)
{
    switch (m) {
        QLM_EACH_ROW(GROUPS_MR, GROUPS_CASE)
    }
}

/* m may exceed what the registers take at a time. */
QLM_INLINE void GROUPS(tile)(size_t m, const struct groups *all)
{
    struct groups g = *all;
    while (m) {
        size_t rows = m < GROUPS_MR ? m : GROUPS_MR;
        GROUPS(tile_part)(rows, &g);
        m -= rows;
        g.a += rows * g.lda;
        g.t += rows * NR;
        if (g.zx) g.zx += rows;
        if (g.rest) g.rest += rows;
        if (g.sx) g.sx += rows;
        if (g.centred) g.centred += rows;
        if (g.ox) g.ox += rows;
    }
}

#undef GROUPS_PARTS_LAST
#undef GROUPS
#undef GROUPS_MR
#undef GROUPS_COLUMNS
#undef GROUPS_STEP
#undef GROUPS_LEFT_BYTES
#undef GROUPS_STEP_BYTES
#undef GROUPS_SHIFT
#undef GROUPS_HELD
