/* gemm_groups.inc.h: a tile whose sums are scaled group by group (gemm_8_groups and gemm_4_groups of kernels.h), for
 * instruction sets with SIMD.  A group's sums stay in registers until they have been corrected, scaled and added to t:
 * a group of 32 is eight steps, too few to store its sums and read them again.
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
 *   GROUPS_FOLD                  1: without rest, zero points are taken off the panel, by GROUPS(zero_points)(zw, less)
 *                                and GROUPS(run_less)
 *   GROUPS_USUAL(m)              whether m rows of the usual weights have loops of their own
 *   GROUPS_SHORT                 steps of a group that most of them are for alone, or 0
 *   NR, DOT_LANES(row, 0)        16 outputs of a row of dot_sum as v16i (linear.inc.h)
 *
 * and has GROUPS(tile)(m, g).
 *
 * What is done to a group's sums is a constant, `how`, in full tiles: with every possibility open, compilers move sums
 * and t through memory (AVX2, groups of 32: 65 % of the peak, 85 % so).
 */
#ifndef GROUPS_OF_ROW
#include "groups.h"
#include "unroll.h"

/* Only sw is given; with zw and rest; with ow; whatever there is, looked up for each group; with zw alone; less a
 * number for each column. */
enum { GROUPS_PLAIN = 0, GROUPS_ZW = 1, GROUPS_OW = 2, GROUPS_ANY = 4, GROUPS_FOLDED = 8, GROUPS_LESS = 16 };

/* Elements of a group up to which its sums and all that is subtracted from them are exact as floats: (255 + 255) * 128
 * from codes and zx, 255 * 128 from rest and zw, together 98 304 an element, of 2^24.  Subtracting is then one fused
 * operation on the floats where integers take a multiplication and a subtraction. */
#define GROUPS_FLOAT 128

/* The operands of a tile, told apart by what is done with them; NULL: not given. */
struct group_tile {
    struct qlm_groups g;
    const int32_t *zx, *zx_all;     /* of each row; of all */
    const float *rest, *large_rest; /* subtracted as floats; as integers */
    const int8_t *folded;           /* zw that is taken off the panel */
    const int32_t *less; /* [groups][NR]: zx_all times the sums of the weights, or NULL: made for each part of a tile */
    size_t steps;
};

QLM_INLINE struct group_tile group_tile_of(const struct qlm_groups *g, size_t step)
{
    int exact = g->group <= GROUPS_FLOAT;
    struct group_tile t = {.g = *g, .steps = (g->group + step - 1) / step};
    t.zx = g->sx ? g->zx : NULL;
    t.zx_all = g->sx ? NULL : g->zx;
    t.rest = g->zw && exact ? g->rest : NULL;
    t.large_rest = g->zw && !exact ? g->rest : NULL;
    t.folded = g->rest ? NULL : g->zw;
    if (!g->ow) t.g.centred = NULL;
    return t;
}

QLM_INLINE void group_tile_skip(struct group_tile *t, size_t rows)
{
    t->g.a = (const char *)t->g.a + rows * t->g.lda;
    if (t->zx) t->zx += rows;
    if (t->rest) t->rest += rows;
    if (t->large_rest) t->large_rest += rows;
    if (t->g.sx) t->g.sx += rows;
    if (t->g.centred) t->g.centred += rows;
    if (t->g.ox) t->g.ox += rows;
}

QLM_INLINE v16f group_scale(const struct qlm_groups *g, size_t at)
{ return g->half ? v16_f_load_half((const uint16_t *)g->sw + at) : v16_f_load((const float *)g->sw + at); }

/* Sums of a group's weights less its zero points. */
QLM_INLINE v16i group_centred(const struct qlm_groups *g, size_t n, size_t at, v16i sums)
{
    size_t left = g->k - n * g->group, count = left < g->group ? left : g->group;
    return g->zw ? v16_i_sub(sums, v16_i_mul(v16_i_set1((int32_t)count), v16_load_s8(g->zw + at))) : sums;
}

/* The lines of outputs past the caches are there when they are written (linear.inc.h). */
QLM_INLINE void group_ask(const struct qlm_groups *g, size_t row, size_t rows)
{
    for (size_t i = row; i < row + rows; i++)
        for (size_t j = 0; j < NR; j += 16) __builtin_prefetch(g->out + i * g->ldo + j, 1);
}

/* Rows [row, row + rows) of the output from their t, [rows][NR]. */
QLM_OUTLINE void group_finish(const struct qlm_groups *g, size_t row, size_t rows, const float *t)
{
    v16f none = v16_f_set1(-0.0f); /* adding it changes no value */
    for (size_t j = 0; j < NR; j += 16) {
        v16f chain = g->scale ? v16_f_load(g->chain + j) : none, bias = g->bias ? v16_f_load(g->bias + j) : none;
        for (size_t i = row; i < row + rows; i++) {
            v16f y = v16_f_load(t + (i - row) * NR + j);
            if (g->scale) {
                v16f scale = v16_f_set1(g->scale[i]), shift = v16_f_set1((g->zero ? g->zero : g->shift)[i]);
                shift = v16_f_mul(shift, chain);
                y = g->zero ? v16_f_mul(v16_f_sub(y, shift), scale) : v16_f_add(v16_f_mul(y, scale), shift);
                y = v16_f_add(y, bias);
                if (g->residual) y = v16_f_add(y, v16_f_load(g->residual + i * g->ldr + j));
                y = v16_f_canonical(y);
            }
            v16_f_store(g->out + i * g->ldo + j, y);
        }
    }
}

/* Whether what `how` names is there, or may be and is. */
#define GROUPS_HAS(what, given) ((how & (what)) || ((how & GROUPS_ANY) && (given)))
#define GROUPS_OF_ROW(STATEMENT, i)                                                                                    \
    if (i < m) { STATEMENT; }
#define GROUPS_LANES(i) GROUPS_OF_ROW(acc[i] = DOT_LANES(sums[i] + first, 0), i)
#define GROUPS_SCALE_DOWN(i) GROUPS_OF_ROW(acc[i] = v16_i_sar(acc[i], GROUPS_SHIFT), i)
#define GROUPS_LESS_GIVEN(i) GROUPS_OF_ROW(acc[i] = v16_i_sub(acc[i], less), i)
#define GROUPS_LESS_ALL(i) GROUPS_OF_ROW(acc[i] = v16_i_sub(acc[i], all), i)
#define GROUPS_LESS_ZX(i) GROUPS_OF_ROW(acc[i] = v16_i_sub(acc[i], v16_i_mul(weights, v16_i_set1(zx[i]))), i)
#define GROUPS_LESS_LARGE(i)                                                                                           \
    GROUPS_OF_ROW(acc[i] = v16_i_sub(acc[i], v16_i_mul(zw, v16_i_from_f(v16_f_set1(rest[i])))), i)
#define GROUPS_VALUE(i) GROUPS_OF_ROW(value[i] = v16_f_from_i(acc[i]), i)
#define GROUPS_LESS_ZW(i) GROUPS_OF_ROW(value[i] = v16_f_fnma(zw, v16_f_set1(rest[i]), value[i]), i)
#define GROUPS_ADD(i) GROUPS_OF_ROW(t[i] = v16_f_fma(value[i], sw, t[i]), i)
#define GROUPS_ADD_SX(i) GROUPS_OF_ROW(t[i] = v16_f_fma(v16_f_mul(value[i], sw), v16_f_set1(sx[i]), t[i]), i)
#define GROUPS_ADD_CENTRED(i) GROUPS_OF_ROW(t[i] = v16_f_fma(v16_f_set1(centred[i]), ow, t[i]), i)
#define GROUPS_ADD_OFFSET(i) GROUPS_OF_ROW(t[i] = v16_f_fma(v16_f_set1(ox[i]), column, t[i]), i)
#define GROUPS_T(i) (to + (i) * NR + 16 * j)
#define GROUPS_TAKE(i) GROUPS_OF_ROW(t[i] = GROUPS_HELD ? held[i][j] : v16_f_load(GROUPS_T(i)), i)
#define GROUPS_GIVE_HELD(i) GROUPS_OF_ROW(held[i][j] = t[i], i)
#define GROUPS_GIVE(i) GROUPS_OF_ROW(v16_f_store(GROUPS_T(i), t[i]), i)
#define GROUPS_ZERO(i) GROUPS_OF_ROW(held[i][j] = v16_f_set1(0.0f), i)
#define GROUPS_STORE(i) GROUPS_OF_ROW(v16_f_store(GROUPS_T(i), held[i][j]), i)
#define GROUPS_CASE(i)                                                                                                 \
    case i + 1:                                                                                                        \
        if (i + 1 != 5) GROUPS(tile_rows)(i + 1, GROUPS_ANY, 0, r, to);                                                \
        break;
#endif

/* fl(acc') of 16 outputs from `at` on, whose sums start in register `first`: integers. */
QLM_INLINE void GROUPS(correct)(const int m, const int how, const struct group_tile *r, size_t n, size_t at,
                                v16i weights, v16i *acc)
{
    size_t rows = n * r->g.rows;
    if (GROUPS_SHIFT) { QLM_EACH_ROW(GROUPS_MR, GROUPS_SCALE_DOWN) }
    if (GROUPS_HAS(GROUPS_LESS, r->less)) {
        v16i less = v16_i_load(r->less + at);
        QLM_EACH_ROW(GROUPS_MR, GROUPS_LESS_GIVEN)
    } else if (GROUPS_HAS(0, r->zx_all)) {
        v16i all = v16_i_mul(weights, v16_i_set1(*r->zx_all));
        QLM_EACH_ROW(GROUPS_MR, GROUPS_LESS_ALL)
    }
    if (GROUPS_HAS(0, r->zx)) {
        const int32_t *zx = r->zx + rows;
        QLM_EACH_ROW(GROUPS_MR, GROUPS_LESS_ZX)
    }
    if (GROUPS_HAS(0, r->large_rest)) {
        const float *rest = r->large_rest + rows;
        v16i zw = v16_load_s8(r->g.zw + at);
        QLM_EACH_ROW(GROUPS_MR, GROUPS_LESS_LARGE)
    }
}

/* The values of a group added to t. */
QLM_INLINE void GROUPS(add_values)(const int m, const int how, const struct group_tile *r, size_t n, size_t at,
                                   v16i weights, v16f *value, v16f *t)
{
    size_t rows = n * r->g.rows;
    v16f sw = group_scale(&r->g, at);
    if (GROUPS_HAS(GROUPS_ZW, r->rest)) {
        const float *rest = r->rest + rows;
        v16f zw = v16_f_from_i(v16_load_s8(r->g.zw + at));
        QLM_EACH_ROW(GROUPS_MR, GROUPS_LESS_ZW)
    }
    if (GROUPS_HAS(0, r->g.sx)) {
        const float *sx = r->g.sx + rows;
        QLM_EACH_ROW(GROUPS_MR, GROUPS_ADD_SX)
    } else {
        QLM_EACH_ROW(GROUPS_MR, GROUPS_ADD)
    }
    if (GROUPS_HAS(GROUPS_OW, r->g.centred)) {
        const float *centred = r->g.centred + rows;
        v16f ow = v16_f_load(r->g.ow + at);
        QLM_EACH_ROW(GROUPS_MR, GROUPS_ADD_CENTRED)
    }
    if (GROUPS_HAS(0, r->g.ox)) {
        const float *ox = r->g.ox + rows;
        v16i sums = r->folded ? weights : group_centred(&r->g, n, at, weights);
        v16f column = v16_f_mul(sw, v16_f_from_i(sums)); /* an activation's offset meets the sum of the weights */
        QLM_EACH_ROW(GROUPS_MR, GROUPS_ADD_OFFSET)
    }
}

typedef v16f GROUPS(held)[GROUPS_MR][NR / 16];

/* Outputs 16 j .. 16 j + 15 of group n; j is a constant. */
QLM_INLINE void GROUPS(add_part)(const int m, const int how, const struct group_tile *r, size_t n, float *to,
                                 dot_sum sums[][GROUPS_COLUMNS], const dot_sum *ones, const int j, GROUPS(held) held)
{
    const int first = j * (GROUPS_COLUMNS / (NR / 16));
    size_t at = n * NR + 16 * (size_t)j;
    v16i acc[GROUPS_MR], weights = DOT_LANES(ones + first, 0);
    v16f value[GROUPS_MR], t[GROUPS_MR];
    if (GROUPS_SHIFT) weights = v16_i_sar(weights, GROUPS_SHIFT);
    if (GROUPS_FOLD && GROUPS_HAS(0, r->folded)) weights = group_centred(&r->g, n, at, weights);
    QLM_EACH_ROW(GROUPS_MR, GROUPS_LANES)
    GROUPS(correct)(m, how, r, n, at, weights, acc);
    QLM_EACH_ROW(GROUPS_MR, GROUPS_VALUE)
    QLM_EACH_ROW(GROUPS_MR, GROUPS_TAKE)
    GROUPS(add_values)(m, how, r, n, at, weights, value, t);
    if (GROUPS_HELD) {
        QLM_EACH_ROW(GROUPS_MR, GROUPS_GIVE_HELD)
    } else {
        QLM_EACH_ROW(GROUPS_MR, GROUPS_GIVE)
    }
}

QLM_INLINE void GROUPS(zero_part)(const int m, const int j, GROUPS(held) held){QLM_EACH_ROW(GROUPS_MR, GROUPS_ZERO)}

QLM_INLINE void GROUPS(store_part)(const int m, float *to, const int j,
                                   GROUPS(held) held){QLM_EACH_ROW(GROUPS_MR, GROUPS_STORE)}

#define GROUPS_PARTS_LAST (NR / 16 - 1)
_Static_assert(NR == 16 || NR == 32, "one part of 16 outputs, or two");

/* The sums of group n. */
QLM_INLINE void GROUPS(sums)(const int m, const int how, const struct group_tile *r, size_t n, size_t steps,
                             const char *a, const char *b, dot_sum sums[][GROUPS_COLUMNS])
{
#if GROUPS_FOLD
    if (GROUPS_HAS(GROUPS_FOLDED, r->folded)) {
        GROUPS(right) zeros[GROUPS_COLUMNS];
        GROUPS(zero_points)(r->folded + n * NR, zeros);
        GROUPS(run_less)(m, steps, a, r->g.lda, b, zeros, sums);
        return;
    }
#else
    (void)how, (void)n;
#endif
    GROUPS(run)(m, steps, a, r->g.lda, b, sums);
}

/* all_steps: of a group, where they are known; else 0. */
QLM_INLINE void GROUPS(tile_rows)(const int m, const int how, const size_t all_steps, const struct group_tile *r,
                                  float *to)
{
    const size_t steps = all_steps ? all_steps : r->steps;
    const char *a = r->g.a, *b = r->g.b;
    GROUPS(held) held;
    GROUPS(zero_part)(m, 0, held);
    if (GROUPS_PARTS_LAST) GROUPS(zero_part)(m, GROUPS_PARTS_LAST, held);
    if (!GROUPS_HELD) GROUPS(store_part)(m, to, 0, held);
    if (!GROUPS_HELD && GROUPS_PARTS_LAST) GROUPS(store_part)(m, to, GROUPS_PARTS_LAST, held);
    for (size_t n = 0; n * r->g.group < r->g.k; n++, a += GROUPS_LEFT_BYTES * steps, b += GROUPS_STEP_BYTES * steps) {
        dot_sum sums[GROUPS_MR][GROUPS_COLUMNS], ones[GROUPS_COLUMNS] = {{0}};
        if (GROUPS_HAS(0, (r->g.zx && !r->less) || r->g.ox)) GROUPS(ones)(steps, b, ones);
        GROUPS(sums)(m, how, r, n, steps, a, b, sums);
        GROUPS(add_part)(m, how, r, n, to, sums, ones, 0, held);
        if (GROUPS_PARTS_LAST) GROUPS(add_part)(m, how, r, n, to, sums, ones, GROUPS_PARTS_LAST, held);
    }
    if (GROUPS_HELD) GROUPS(store_part)(m, to, 0, held);
    if (GROUPS_HELD && GROUPS_PARTS_LAST) GROUPS(store_part)(m, to, GROUPS_PARTS_LAST, held);
}

/* The usual weights in loops of their own: returns whether they were such. */
QLM_INLINE int GROUPS(tile_usual)(const int m, const struct group_tile *r, float *to)
{
    const struct qlm_groups *g = &r->g;
    if (r->less && m > 1 && !g->zw && !g->ow && !GROUPS_SHORT) {
        GROUPS(tile_rows)(m, GROUPS_LESS, GROUPS_SHORT, r, to);
        return 1;
    }
    if (g->zx || g->sx || g->ox) return 0;
    if (!g->zw && !g->ow)
        GROUPS(tile_rows)(m, GROUPS_PLAIN, GROUPS_SHORT, r, to);
    else if (GROUPS_FOLD && m > 1 && r->folded && !g->ow)
        GROUPS(tile_rows)(m, GROUPS_FOLDED, GROUPS_SHORT, r, to);
    else if (GROUPS_FOLD && m > 1 && r->folded)
        GROUPS(tile_rows)(m, GROUPS_FOLDED | GROUPS_OW, GROUPS_SHORT, r, to);
    else if ((!GROUPS_FOLD || m == 1) && r->rest && !g->ow)
        GROUPS(tile_rows)(m, GROUPS_ZW, GROUPS_SHORT, r, to);
    else if ((!GROUPS_FOLD || m == 1) && r->rest)
        GROUPS(tile_rows)(m, GROUPS_ZW | GROUPS_OW, GROUPS_SHORT, r, to);
    else if (!GROUPS_SHORT && !g->zw) /* only folded zero points leave an offset alone */
        GROUPS(tile_rows)(m, GROUPS_OW, GROUPS_SHORT, r, to);
    else
        return 0;
    return 1;
}

/* The same; where those are for one length alone, without zero points and offsets also groups of four times that: of
 * 128 with AVX2, 75 % of the limit for 72 (64 x 384 -> 384).  Of any length it would be 73, all of the loops for 128
 * too 70. */
QLM_INLINE int GROUPS(tile_of_length)(const int m, const struct group_tile *r, float *to)
{
    const struct qlm_groups *g = &r->g;
    if (!GROUPS_SHORT || g->group == GROUPS_SHORT * GROUPS_STEP) return GROUPS(tile_usual)(m, r, to);
    if (g->group != 4 * GROUPS_SHORT * GROUPS_STEP || g->zx || g->sx || g->ox || g->zw || g->ow) return 0;
    GROUPS(tile_rows)(m, GROUPS_PLAIN, 0, r, to);
    return 1;
}

/* Returns how many of `rows` rows were made.  Five of them are three and two: one instance less to compile. */
QLM_INLINE size_t GROUPS(tile_part)(size_t rows, const struct group_tile *r, float *to)
{
    if (GROUPS_USUAL(GROUPS_MR) && rows == GROUPS_MR && GROUPS(tile_of_length)(GROUPS_MR, r, to)) return rows;
    if (GROUPS_USUAL(GROUPS_MR - 1) && rows == GROUPS_MR - 1 && GROUPS(tile_of_length)(GROUPS_MR - 1, r, to))
        return rows;
    if (GROUPS_USUAL(1) && rows == 1 && GROUPS(tile_of_length)(1, r, to)) return rows;
    if (rows == 5) rows = 3;
    switch (rows) {
        QLM_EACH_ROW(GROUPS_MR, GROUPS_CASE)
    }
    return rows;
}

/* Of `left` rows, those to be taken together: the last ones are cut evenly, so that no part is low. */
QLM_INLINE size_t GROUPS(height)(size_t left)
{
    if (left <= GROUPS_MR) return left;
    return left < 2 * GROUPS_MR ? (left + 1) / 2 : GROUPS_MR;
}

/* The shift of signed activations meets the same sums of the weights in each part of a tile: made once, where there are
 * several parts and no more groups than this, 16 KiB of L1. */
#define GROUPS_LESS_MOST (4096 / NR)

QLM_INLINE void GROUPS(find_less)(const struct group_tile *r, int32_t *less)
{
    const char *b = r->g.b;
    for (size_t n = 0; n * r->g.group < r->g.k; n++, b += GROUPS_STEP_BYTES * r->steps) {
        dot_sum ones[GROUPS_COLUMNS];
        GROUPS(ones)(r->steps, b, ones);
        for (int j = 0; j < NR / 16; j++) {
            size_t at = n * NR + 16 * (size_t)j;
            v16i weights = DOT_LANES(ones + j * (GROUPS_COLUMNS / (NR / 16)), 0);
            if (GROUPS_SHIFT) weights = v16_i_sar(weights, GROUPS_SHIFT);
            if (r->folded) weights = group_centred(&r->g, n, at, weights);
            v16_i_store(less + at, v16_i_mul(weights, v16_i_set1(*r->zx_all)));
        }
    }
}

/* m may exceed what the registers take at a time. */
QLM_INLINE void GROUPS(tile)(size_t m, const struct qlm_groups *g)
{
    struct group_tile r = group_tile_of(g, GROUPS_STEP);
    float t[GROUPS_MR * NR];
    int32_t less[GROUPS_LESS_MOST * NR];
    if (m > GROUPS_MR && r.zx_all && !g->ox && g->k <= GROUPS_LESS_MOST * g->group) {
        GROUPS(find_less)(&r, less);
        r.less = less;
    }
    for (size_t row = 0, rows; row < m; row += rows) {
        rows = GROUPS(height)(m - row);
        if (g->far) group_ask(g, row, rows);
        rows = GROUPS(tile_part)(rows, &r, t);
        group_finish(g, row, rows, t);
        group_tile_skip(&r, rows);
    }
}

#undef GROUPS_PARTS_LAST
#undef GROUPS_LESS_MOST
#undef GROUPS
#undef GROUPS_MR
#undef GROUPS_COLUMNS
#undef GROUPS_STEP
#undef GROUPS_LEFT_BYTES
#undef GROUPS_STEP_BYTES
#undef GROUPS_SHIFT
#undef GROUPS_SHORT
#undef GROUPS_FOLD
#undef GROUPS_USUAL
#undef GROUPS_HELD
