/* epilogue.inc.h: from sums of products to outputs, tile by tile.
 *
 * Tiles are narrow, so loops go down 16 columns at a time: what belongs to a column, and the constants of an
 * activation, are loaded once for all rows.  rank1_f32 and affine_f32 hand t to each other and to epilogue_f32, which
 * makes every NaN canonical.
 */

/* The corrections of integer sums: of a whole tile, and what of them belongs to 16 columns. */
struct corrections {
    const int32_t *zx, *rest, *sums, *zw; /* zw may be NULL, rest is used with it */
};

struct column_corrections {
    v16i sums, zw;
};

QLM_INLINE struct column_corrections load_corrections(const struct corrections *c, size_t j, size_t count)
{
    v16i zw = c->zw ? v16_i_load_n(c->zw + j, count) : v16_i_set1(0);
    return (struct column_corrections){v16_i_load_n(c->sums + j, count), zw};
}

/* fl(acc - zx * sums - zw * rest), wrapping. */
QLM_INLINE v16f corrected(v16i acc, const struct corrections *c, const struct column_corrections *columns, size_t i)
{
    acc = v16_i_sub(acc, v16_i_mul(v16_i_set1(c->zx[i]), columns->sums));
    if (c->zw) acc = v16_i_sub(acc, v16_i_mul(columns->zw, v16_i_set1(c->rest[i])));
    return v16_f_from_i(acc);
}

/* A tile after its sums; any pointer but out may be NULL. */
struct finish {
    size_t m, n;
    const float *sw, *sx, *bias, *residual;
    size_t ldr, ldo;
    float *out;
};

struct finish_columns {
    v16f sw, bias;
};

QLM_INLINE struct finish_columns load_finish(const struct finish *f, size_t j, size_t count)
{
    v16f none = v16_f_set1(0.0f);
    return (struct finish_columns){f->sw ? v16_f_load_n(f->sw + j, count) : none,
                                   f->bias ? v16_f_load_n(f->bias + j, count) : none};
}

QLM_INLINE void finish_step(const struct finish *f, const struct finish_columns *columns, int activation, v16f y,
                            size_t i, size_t j, size_t count)
{
    if (f->sw) y = v16_f_mul(y, columns->sw);
    if (f->sx) y = v16_f_mul(y, v16_f_set1(f->sx[i]));
    if (f->bias) y = v16_f_add(y, columns->bias);
    y = apply_function(activation, y);
    if (f->residual) y = v16_f_add(y, v16_f_load_n(f->residual + i * f->ldr + j, count));
    v16_f_store_n(f->out + i * f->ldo + j, count, v16_f_canonical(y));
}

/* The activations of models have loops of their own, so that constants stay in registers; the others share one. */
#define QLM_EACH_ACTIVATION(activation, run, ...)                                                                      \
    switch (activation) {                                                                                              \
    case QLM_IDENTITY:                                                                                                 \
        run(QLM_IDENTITY, __VA_ARGS__);                                                                                \
        break;                                                                                                         \
    case QLM_RELU:                                                                                                     \
        run(QLM_RELU, __VA_ARGS__);                                                                                    \
        break;                                                                                                         \
    case QLM_GELU:                                                                                                     \
        run(QLM_GELU, __VA_ARGS__);                                                                                    \
        break;                                                                                                         \
    case QLM_GELU_TANH:                                                                                                \
        run(QLM_GELU_TANH, __VA_ARGS__);                                                                               \
        break;                                                                                                         \
    case QLM_SILU:                                                                                                     \
        run(QLM_SILU, __VA_ARGS__);                                                                                    \
        break;                                                                                                         \
    default:                                                                                                           \
        run(activation, __VA_ARGS__);                                                                                  \
        break;                                                                                                         \
    }

QLM_INLINE void finish_columns_f32(int activation, const struct finish *f, const float *acc, size_t ldacc, size_t j,
                                   size_t count)
{
    struct finish_columns columns = load_finish(f, j, count);
    for (size_t i = 0; i < f->m; i++)
        finish_step(f, &columns, activation, v16_f_load_n(acc + i * ldacc + j, count), i, j, count);
}

QLM_INLINE void finish_f32(int activation, const struct finish *f, const float *acc, size_t ldacc)
{
    size_t j = 0;
    for (; j + 16 <= f->n; j += 16) finish_columns_f32(activation, f, acc, ldacc, j, 16);
    if (j < f->n) finish_columns_f32(activation, f, acc, ldacc, j, f->n - j);
}

QLM_KERNEL(void, epilogue_f32)
(size_t m, size_t n, const float *acc, size_t ldacc, const float *sw, const float *sx, const float *bias,
 int activation, const float *residual, size_t ldr, float *out, size_t ldo)
{
    struct finish f = {m, n, sw, sx, bias, residual, ldr, ldo, out};
    QLM_EACH_ACTIVATION(activation, finish_f32, &f, acc, ldacc)
}

QLM_INLINE void rank1_step(float row, const float *col, size_t count, float *t)
{ v16_f_store_n(t, count, v16_f_fma(v16_f_set1(row), v16_f_load_n(col, count), v16_f_load_n(t, count))); }

QLM_KERNEL(void, rank1_f32)(size_t m, size_t n, const float *row, const float *col, float *t, size_t ldt)
{
    for (size_t i = 0; i < m; i++) {
        size_t j = 0;
        for (; j + 16 <= n; j += 16) rank1_step(row[i], col + j, 16, t + i * ldt + j);
        if (j < n) rank1_step(row[i], col + j, n - j, t + i * ldt + j);
    }
}

struct affine {
    int centred; /* subtract, then scale; else scale, then add */
    v16f constant, scale;
};

QLM_INLINE void affine_step(const struct affine *a, const float *c, size_t count, float *t)
{
    v16f value = v16_f_load_n(t, count), shift = v16_f_mul(a->constant, v16_f_load_n(c, count));
    value = a->centred ? v16_f_mul(v16_f_sub(value, shift), a->scale) : v16_f_add(v16_f_mul(value, a->scale), shift);
    v16_f_store_n(t, count, value);
}

QLM_KERNEL(void, affine_f32)
(size_t m, size_t n, const float *zx, const float *sx, const float *offset, const float *c, float *t, size_t ldt)
{
    for (size_t i = 0; i < m; i++) {
        struct affine a = {zx != NULL, v16_f_set1(zx ? zx[i] : offset[i]), v16_f_set1(sx[i])};
        size_t j = 0;
        for (; j + 16 <= n; j += 16) affine_step(&a, c + j, 16, t + i * ldt + j);
        if (j < n) affine_step(&a, c + j, n - j, t + i * ldt + j);
    }
}
