/* epilogue.inc.h: from sums of products to outputs, tile by tile.
 *
 * group_s32, rank1_f32 and affine_f32 hand t to each other and to epilogue_f32, which makes every NaN canonical.
 */
struct sums {
    const int32_t *acc, *sums, *zw; /* zw may be NULL */
    v16i zx, rest;
};

/* fl(acc - zx * sums - zw * rest), wrapping. */
QLM_INLINE v16f corrected_sums(const struct sums *s, size_t j, size_t count)
{
    v16i acc = v16_i_sub(v16_i_load_n(s->acc + j, count), v16_i_mul(s->zx, v16_i_load_n(s->sums + j, count)));
    if (s->zw) acc = v16_i_sub(acc, v16_i_mul(v16_i_load_n(s->zw + j, count), s->rest));
    return v16_f_from_i(acc);
}

/* One row of a tile after its sums: any pointer may be NULL. */
struct finish {
    const float *sw, *sx, *bias, *residual;
    float *out;
    v16f row_scale; /* *sx */
};

QLM_INLINE void finish_step(const struct finish *f, int activation, v16f y, size_t j, size_t count)
{
    if (f->sw) y = v16_f_mul(y, v16_f_load_n(f->sw + j, count));
    if (f->sx) y = v16_f_mul(y, f->row_scale);
    if (f->bias) y = v16_f_add(y, v16_f_load_n(f->bias + j, count));
    y = apply_function(activation, y);
    if (f->residual) y = v16_f_add(y, v16_f_load_n(f->residual + j, count));
    v16_f_store_n(f->out + j, count, canonical(y));
}

QLM_INLINE void finish_row_s32(const struct finish *f, const struct sums *s, int activation, size_t n)
{
    size_t j = 0;
    for (; j + 16 <= n; j += 16) finish_step(f, activation, corrected_sums(s, j, 16), j, 16);
    if (j < n) finish_step(f, activation, corrected_sums(s, j, n - j), j, n - j);
}

QLM_INLINE void finish_row_f32(const struct finish *f, const float *acc, int activation, size_t n)
{
    size_t j = 0;
    for (; j + 16 <= n; j += 16) finish_step(f, activation, v16_f_load(acc + j), j, 16);
    if (j < n) finish_step(f, activation, v16_f_load_part(acc + j, n - j), j, n - j);
}

QLM_INLINE struct finish finish_for(const float *sw, const float *sx, const float *bias, const float *residual,
                                    float *out)
{
    struct finish f = {.sw = sw, .sx = sx, .bias = bias, .residual = residual, .out = out};
    f.row_scale = v16_f_set1(sx ? *sx : 1.0f);
    return f;
}

/* The activations of models have a loop each, so that its constants stay in registers; the others share one. */
#define QLM_EACH_ACTIVATION(activation, run)                                                                           \
    switch (activation) {                                                                                              \
    case QLM_IDENTITY: run(QLM_IDENTITY); break;                                                                       \
    case QLM_RELU: run(QLM_RELU); break;                                                                               \
    case QLM_GELU: run(QLM_GELU); break;                                                                               \
    case QLM_GELU_TANH: run(QLM_GELU_TANH); break;                                                                     \
    case QLM_SILU: run(QLM_SILU); break;                                                                               \
    default: run(activation); break;                                                                                   \
    }

QLM_KERNEL(void, epilogue_s32)
(size_t m, size_t n, const int32_t *acc, size_t ldacc, const int32_t *zx, const int32_t *rest, const int32_t *sums,
 const int32_t *zw, const float *sw, const float *sx, const float *bias, int activation, const float *residual,
 size_t ldr, float *out, size_t ldo)
{
    for (size_t i = 0; i < m; i++) {
        struct sums s = {acc + i * ldacc, sums, zw, v16_i_set1(zx[i]), v16_i_set1(zw ? rest[i] : 0)};
        struct finish f = finish_for(sw, sx + i, bias, residual ? residual + i * ldr : NULL, out + i * ldo);
#define QLM_RUN(function) finish_row_s32(&f, &s, function, n)
        QLM_EACH_ACTIVATION(activation, QLM_RUN)
#undef QLM_RUN
    }
}

QLM_KERNEL(void, epilogue_f32)
(size_t m, size_t n, const float *acc, size_t ldacc, const float *sw, const float *sx, const float *bias,
 int activation, const float *residual, size_t ldr, float *out, size_t ldo)
{
    for (size_t i = 0; i < m; i++) {
        struct finish f =
            finish_for(sw, sx ? sx + i : NULL, bias, residual ? residual + i * ldr : NULL, out + i * ldo);
#define QLM_RUN(function) finish_row_f32(&f, acc + i * ldacc, function, n)
        QLM_EACH_ACTIVATION(activation, QLM_RUN)
#undef QLM_RUN
    }
}

QLM_INLINE void group_step(const struct sums *s, const float *sw, const float *sx, size_t j, size_t count, float *t)
{
    v16f sum = corrected_sums(s, j, count), scale = v16_f_load_n(sw + j, count), before = v16_f_load_n(t + j, count);
    v16f after = sx ? v16_f_fma(v16_f_mul(sum, scale), v16_f_set1(*sx), before) : v16_f_fma(sum, scale, before);
    v16_f_store_n(t + j, count, after);
}

QLM_KERNEL(void, group_s32)
(size_t m, size_t n, const int32_t *acc, size_t ldacc, const int32_t *zx, const int32_t *rest, const int32_t *sums,
 const int32_t *zw, const float *sw, const float *sx, float *t, size_t ldt)
{
    for (size_t i = 0; i < m; i++) {
        struct sums s = {acc + i * ldacc, sums, zw, v16_i_set1(zx[i]), v16_i_set1(zw ? rest[i] : 0)};
        const float *row_scale = sx ? sx + i : NULL;
        size_t j = 0;
        for (; j + 16 <= n; j += 16) group_step(&s, sw, row_scale, j, 16, t + i * ldt);
        if (j < n) group_step(&s, sw, row_scale, j, n - j, t + i * ldt);
    }
}

QLM_INLINE void rank1_step(float row, const float *col, size_t count, float *t)
{ v16_f_store_n(t, count, v16_f_fma(v16_f_set1(row), v16_f_load_n(col, count), v16_f_load_n(t, count))); }

QLM_KERNEL(void, rank1_f32)(size_t m, size_t n, const float *row, const float *col, float *t, size_t ldt)
{
    for (size_t i = 0; i < m; i++, t += ldt) {
        size_t j = 0;
        for (; j + 16 <= n; j += 16) rank1_step(row[i], col + j, 16, t + j);
        if (j < n) rank1_step(row[i], col + j, n - j, t + j);
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
    for (size_t i = 0; i < m; i++, t += ldt) {
        struct affine a = {zx != NULL, v16_f_set1(zx ? zx[i] : offset[i]), v16_f_set1(sx[i])};
        size_t j = 0;
        for (; j + 16 <= n; j += 16) affine_step(&a, c + j, 16, t + j);
        if (j < n) affine_step(&a, c + j, n - j, t + j);
    }
}
