/* linear.inc.h: linear_8, rows of a linear's outputs: int8 products, corrections, scales and bias without leaving the
 * registers, panel after panel.  The including file (int8.inc.h) has dot_take_steps of gemm.inc.h; its own file defines
 *
 *   DOT_LANES(sums, s)   sixteen s of a row of sums as v16i
 *   DOT_PAIRS(x, y)      optional: x0 y0 + x1 y1 of the int16 halves of each 32-bit lane (vpmaddwd)
 *
 * One call takes many panels, because with one or few rows a panel lasts only some hundred cycles: what precedes and
 * follows the product of one panel then overlaps with the products of its neighbours.
 *
 * The correction by zero points is what a sum starts from: -zx * sums.  With DOT_PAIRS it is one instruction without
 * the two of vpmulld: sums = 128 h + l, 0 <= l < 128, -2^15 <= h < 2^15 (|sums| <= 2^22), and with |zx| <= 255 both
 * -zx and -128 zx fit int16: (-zx) l + (-128 zx) h.
 */
struct linear {
    const int32_t *left; /* what multiplies a column's part of the correction, by row */
    const int32_t *rest, *sums, *zw;
    const float *sw, *sx, *bias, *residual;
    float *out;
    size_t ldr, ldo;
    int far;
    const char *next; /* lines that are left to be asked for */
    size_t lines;
};

#ifdef DOT_PAIRS
QLM_INLINE int32_t linear_left(int32_t zx) { return (int32_t)((uint32_t)-zx * 128 << 16 | ((uint32_t)-zx & 0xffff)); }

QLM_INLINE dot_sum linear_column(dot_sum sums) { return (sums & 127) | (dot_sum)((dot_unsigned)(sums >> 7) << 16); }

QLM_INLINE dot_sum linear_first(int32_t left, dot_sum column) { return DOT_PAIRS(dot_zero() + left, column); }
#else
QLM_INLINE int32_t linear_left(int32_t zx) { return -zx; }

QLM_INLINE dot_sum linear_column(dot_sum sums) { return sums; }

QLM_INLINE dot_sum linear_first(int32_t left, dot_sum column)
{ return (dot_sum)((dot_unsigned)column * (dot_unsigned)(dot_zero() + left)); }
#endif

QLM_INLINE dot_sum linear_load(const int32_t *p)
{
    dot_sum sums;
    __builtin_memcpy(&sums, p, sizeof sums);
    return sums;
}

/* sums - zw * rest, wrapping. */
QLM_INLINE dot_sum linear_minus(dot_sum sums, dot_sum zw, int32_t rest)
{ return (dot_sum)((dot_unsigned)sums - (dot_unsigned)zw * (dot_unsigned)(dot_zero() + rest)); }

struct linear_scale {
    v16f sw, bias;
};

/* Without a bias, -0.0 is added: that changes no value. */
QLM_INLINE struct linear_scale linear_scales(const struct linear *l, size_t j)
{
    v16f none = v16_f_set1(-0.0f);
    return (struct linear_scale){v16_f_load(l->sw + j), l->bias ? v16_f_load(l->bias + j) : none};
}

QLM_INLINE void linear_store(const struct linear *l, struct linear_scale by, v16i sums, const int residual, size_t i,
                             size_t j)
{
    v16f y = v16_f_mul(v16_f_mul(v16_f_from_i(sums), by.sw), v16_f_set1(l->sx[i]));
    y = v16_f_add(y, by.bias);
    if (residual) y = v16_f_add(y, v16_f_load(l->residual + i * l->ldr + j));
    v16_f_store(l->out + i * l->ldo + j, v16_f_canonical(y));
}

/* As in gemm.inc.h, no index may be a variable. */
#define TILE_MR MR
#define TILE_COLUMNS DOT_COLUMNS
#define LINEAR_EACH_SIXTEEN_16(X, i) X(i, 0)
#define LINEAR_EACH_SIXTEEN_32(X, i) X(i, 0) X(i, 1)
#define LINEAR_EACH_SIXTEEN TILE_PASTE(LINEAR_EACH_SIXTEEN_, NR)
#define LINEAR_WIDTH (sizeof(dot_sum) / sizeof(int32_t))
#define LINEAR_COLUMN(i, column) columns[column] = linear_column(linear_load(l->sums + j + column * LINEAR_WIDTH));
#define LINEAR_FIRST(i, column) sums[i][column] = linear_first(l->left[row + i], columns[column]);
#define LINEAR_FIRST_ROW(i) TILE_EACH_OF_ROW(LINEAR_FIRST, i)
#define LINEAR_ZERO(i, column)                                                                                         \
    sums[i][column] = linear_minus(sums[i][column], linear_load(l->zw + j + column * LINEAR_WIDTH), l->rest[row + i]);
#define LINEAR_ZERO_ROW(i) TILE_EACH_OF_ROW(LINEAR_ZERO, i)
/* Asked for when the panel's product begins, the lines of a large output are there when it ends: otherwise the stores
 * of a tile wait for L3 or memory one after the other. */
#define LINEAR_ASK(i, s) __builtin_prefetch(l->out + (row + i) * l->ldo + j + 16 * s, 1);
#define LINEAR_ASK_ROW(i)                                                                                              \
    if (i < m) { LINEAR_EACH_SIXTEEN(LINEAR_ASK, i) }
#define LINEAR_SCALES(i, s) scales[s] = linear_scales(l, j + 16 * s);
#define LINEAR_STORE(i, s) linear_store(l, scales[s], DOT_LANES(sums[i], s), residual, row + i, j + 16 * s);
#define LINEAR_STORE_ROW(i)                                                                                            \
    if (i < m) { LINEAR_EACH_SIXTEEN(LINEAR_STORE, i) }

QLM_INLINE void linear_finish(const int m, const int residual, const struct linear *l, size_t row, size_t j,
                              dot_sums sums)
{
    struct linear_scale scales[NR / 16];
    LINEAR_EACH_SIXTEEN(LINEAR_SCALES, 0);
    TILE_EACH_ROW(LINEAR_STORE_ROW);
}

/* Outputs of m rows from `row` on, from their sums. */
QLM_INLINE void linear_end(const int m, const struct linear *l, size_t row, size_t j, dot_sums sums)
{
    if (l->zw) { TILE_EACH_ROW(LINEAR_ZERO_ROW) }
    if (l->residual)
        linear_finish(m, 1, l, row, j, sums);
    else
        linear_finish(m, 0, l, row, j, sums);
}

/* What the caller reads next comes from L3 or memory while the products need neither: some lines each LINEAR_PART
 * steps, as many at once would make the loads of the panel wait. */
#define LINEAR_PART 16
#define LINEAR_LINES 8

QLM_INLINE void linear_ask(struct linear *l)
{
    size_t count = l->lines < LINEAR_LINES ? l->lines : LINEAR_LINES;
    l->lines -= count;
    for (; count; count--, l->next += 64) __builtin_prefetch(l->next, 0, 2);
}

QLM_INLINE void linear_products(const int m, size_t kg, const char *a, size_t lda, const char *b, struct linear *l,
                                dot_sums sums)
{
    while (2 * m > MR && l->lines && kg > LINEAR_PART) {
        dot_take_steps(m, LINEAR_PART, a, lda, b, sums);
        kg -= LINEAR_PART;
        a += LINEAR_PART * K_STEP * LEFT_BYTES;
        b += LINEAR_PART * K_STEP * NR;
        if (l->lines) linear_ask(l);
    }
    dot_take_steps(m, kg, a, lda, b, sums);
}

/* m rows of one panel, whose outputs are those from j on. */
QLM_INLINE void linear_rows(const int m, size_t kg, const char *a, size_t lda, const char *b, struct linear *l,
                            size_t j)
{
    dot_sums sums;
    dot_sum columns[DOT_COLUMNS];
    const size_t row = 0;
    TILE_EACH_COLUMN(LINEAR_COLUMN, 0);
    TILE_EACH_ROW(LINEAR_FIRST_ROW);
    if (l->far) { TILE_EACH_ROW(LINEAR_ASK_ROW) }
    linear_products(m, kg, a, lda, b, l, sums);
    linear_end(m, l, row, j, sums);
}

#define LINEAR_CASE(i)                                                                                                 \
    case i + 1:                                                                                                        \
        linear_rows(i + 1, kg, a, lda, b, l, j);                                                                       \
        return;

QLM_INLINE void linear_panel(size_t m, size_t kg, const char *a, size_t lda, const char *b, struct linear *l, size_t j)
{
    switch (m) {
        TILE_EACH_ROW(LINEAR_CASE);
    }
}

#ifdef DOT_ROWS
#include "linear_wide.inc.h"
#else
#define DOT_ROWS MR
#endif

#undef TILE_MR
#undef TILE_COLUMNS

/* The last panel where it is wider than the outputs that are left: it works on copies. */
struct linear_tail {
    struct linear l;
    int32_t sums[NR], zw[NR];
    float sw[NR], bias[NR], residual[DOT_ROWS * NR], out[DOT_ROWS * NR];
};

/* The outputs of a sixteen at s among the last `count`. */
QLM_INLINE size_t linear_part(size_t count, size_t s) { return count <= s ? 0 : count - s < 16 ? count - s : 16; }

QLM_INLINE void linear_copy(const float *from, size_t count, float *to)
{
    for (size_t s = 0; s < NR; s += 16) v16_f_store(to + s, v16_f_load_n(from + s, linear_part(count, s)));
}

QLM_INLINE void linear_copy_ints(const int32_t *from, size_t count, int32_t *to)
{
    for (size_t s = 0; s < NR; s += 16) v16_i_store(to + s, v16_i_load_n(from + s, linear_part(count, s)));
}

QLM_INLINE void linear_begin_tail(struct linear_tail *t, size_t m, const struct linear *l, size_t j, size_t count)
{
    linear_copy_ints(l->sums + j, count, t->sums);
    linear_copy(l->sw + j, count, t->sw);
    if (l->zw) linear_copy_ints(l->zw + j, count, t->zw);
    if (l->bias) linear_copy(l->bias + j, count, t->bias);
    for (size_t i = 0; l->residual && i < m; i++)
        linear_copy(l->residual + i * l->ldr + j, count, t->residual + i * NR);
    t->l = (struct linear){l->left,
                           l->rest,
                           t->sums,
                           l->zw ? t->zw : NULL,
                           t->sw,
                           l->sx,
                           l->bias ? t->bias : NULL,
                           l->residual ? t->residual : NULL,
                           t->out,
                           NR,
                           NR,
                           0,
                           NULL,
                           0};
}

QLM_INLINE void linear_end_tail(const struct linear_tail *t, size_t m, const struct linear *l, size_t j, size_t count)
{
    for (size_t i = 0; i < m; i++)
        for (size_t s = 0; s < NR; s += 16)
            v16_f_store_n(l->out + i * l->ldo + j + s, linear_part(count, s), v16_f_load(t->out + i * NR + s));
}

QLM_KERNEL(void, linear_8)
(size_t m, size_t n, size_t kg, const void *a, size_t lda, const int8_t *b, const int32_t *zx, const int32_t *rest,
 const int32_t *sums, const int32_t *zw, const float *sw, const float *sx, const float *bias, const float *residual,
 size_t ldr, float *out, size_t ldo, int far, const void *next, size_t lines)
{
    int32_t left[DOT_ROWS];
    for (size_t i = 0; i < m; i++) left[i] = linear_left(zx[i]);
    struct linear l = {left, rest, sums, zw, sw, sx, bias, residual, out, ldr, ldo, far, next, lines};
    struct linear_tail tail;
#ifdef DOT_WIDE_STEPS
    const struct wide_cut cut = wide_cut_of(m, kg);
#endif
    const char *panel = (const char *)b;
    for (size_t j = 0; j < n; j += NR, panel += kg * NR * K_STEP) {
        int whole = n - j >= NR;
        if (!whole) linear_begin_tail(&tail, m, &l, j, n - j);
#ifdef DOT_WIDE_STEPS
        if (m > MR)
            wide_panel(&cut, kg, a, lda, panel, whole ? &l : &tail.l, whole ? j : 0);
        else
#endif
            linear_panel(m, kg, a, lda, panel, whole ? &l : &tail.l, whole ? j : 0);
        if (!whole) linear_end_tail(&tail, m, &l, j, n - j);
    }
}
