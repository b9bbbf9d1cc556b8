/* rows.inc.h: what works on a row of floats: layernorm, softmax and the like.  Sums go by 16 lanes. */

QLM_INLINE v16f add_squares(v16f sum, v16f x) { return v16_f_add(sum, v16_f_mul(x, x)); }

/* Sums of a row are one chain of additions, and three quotients wait for one another: rows are taken some at a time, so
 * that these overlap. */
#define NORM_ROWS 4

struct layernorm {
    const float *x, *gain, *bias;
    size_t n;
    float eps, *out;
    float *ranges; /* of each row its least and its greatest output, or NULL */
};

QLM_INLINE v16f row_mean(v16f sums, size_t n) { return v16_f_set1(v16_f_reduce_add(sums) / (float)n); }

/* 1 / sqrt(variance + eps) */
QLM_INLINE v16f row_inverse(v16f squares, const struct layernorm *l)
{
    float variance = v16_f_reduce_add(squares) / (float)l->n;
    return v16_f_div(v16_f_set1(1.0f), v16_f_sqrt(v16_f_set1(variance + l->eps)));
}

/* Adds fl((x - mean)^2) of `count` elements. */
QLM_INLINE v16f add_deviations(v16f sum, const float *x, size_t count, v16f mean)
{
    v16f d = v16_f_sub(v16_f_load_n(x, count), mean);
    return add_squares(sum, count < 16 ? v16_f_select(v16_m_first(count), d, v16_f_set1(0.0f)) : d);
}

struct norm_row {
    v16f mean, inverse, least, greatest;
};

/* NaN counts for nothing: the second operand is the one that is kept. */
QLM_INLINE void widen(struct norm_row *row, v16f y, size_t count)
{
    v16m inside = v16_m_first(count);
    row->least = v16_f_min(count < 16 ? v16_f_select(inside, y, row->least) : y, row->least);
    row->greatest = v16_f_max(count < 16 ? v16_f_select(inside, y, row->greatest) : y, row->greatest);
}

QLM_INLINE void layernorm_step(const struct layernorm *l, size_t rows, struct norm_row *row, size_t i, size_t count,
                               const int ranges)
{
    v16f gain = v16_f_load_n(l->gain + i, count), bias = v16_f_load_n(l->bias + i, count);
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++) {
        v16f d = v16_f_sub(v16_f_load_n(l->x + r * l->n + i, count), row[r].mean);
        v16f y = v16_f_add(v16_f_mul(v16_f_mul(d, row[r].inverse), gain), bias);
        v16_f_store_n(l->out + r * l->n + i, count, v16_f_canonical(y));
        if (ranges) widen(&row[r], y, count);
    }
}

QLM_INLINE void layernorm_outputs(const struct layernorm *l, size_t rows, struct norm_row *row, const int ranges)
{
    size_t whole = l->n / 16 * 16;
    for (size_t i = 0; i < whole; i += 16) layernorm_step(l, rows, row, i, 16, ranges);
    if (whole < l->n) layernorm_step(l, rows, row, whole, l->n - whole, ranges);
}

#define NORM_EACH_ROW _Pragma("GCC unroll 4") for (size_t r = 0; r < rows; r++)

QLM_INLINE void layernorm_rows(const struct layernorm *l, const size_t rows)
{
    v16f sum[NORM_ROWS];
    struct norm_row row[NORM_ROWS];
    size_t n = l->n, whole = n / 16 * 16;
    NORM_EACH_ROW sum[r] = v16_f_set1(0.0f);
    for (size_t i = 0; i < whole; i += 16) NORM_EACH_ROW sum[r] = v16_f_add(sum[r], v16_f_load(l->x + r * n + i));
    if (whole < n) NORM_EACH_ROW sum[r] = v16_f_add(sum[r], v16_f_load_part(l->x + r * n + whole, n - whole));
    NORM_EACH_ROW row[r].mean = row_mean(sum[r], n);
    NORM_EACH_ROW sum[r] = v16_f_set1(0.0f);
    for (size_t i = 0; i < whole; i += 16)
        NORM_EACH_ROW sum[r] = add_deviations(sum[r], l->x + r * n + i, 16, row[r].mean);
    if (whole < n) NORM_EACH_ROW sum[r] = add_deviations(sum[r], l->x + r * n + whole, n - whole, row[r].mean);
    NORM_EACH_ROW row[r].inverse = row_inverse(sum[r], l);
    if (!l->ranges) {
        layernorm_outputs(l, rows, row, 0);
        return;
    }
    NORM_EACH_ROW row[r].least = v16_f_set1(__builtin_inff());
    NORM_EACH_ROW row[r].greatest = v16_f_set1(-__builtin_inff());
    layernorm_outputs(l, rows, row, 1);
    NORM_EACH_ROW l->ranges[QLM_RANGE * r] = v16_f_reduce_min(row[r].least) + 0.0f; /* -0 becomes 0 */
    NORM_EACH_ROW l->ranges[QLM_RANGE * r + 1] = v16_f_reduce_max(row[r].greatest) + 0.0f;
}

QLM_INLINE void norm_next(struct layernorm *l, size_t rows)
{
    layernorm_rows(l, rows);
    l->x += rows * l->n;
    l->out += rows * l->n;
    if (l->ranges) l->ranges += QLM_RANGE * rows;
}

QLM_KERNEL(void, layernorm_f32)
(const float *x, size_t rows, size_t n, const float *gain, const float *bias, float eps, float *ranges, float *out)
{
    struct layernorm l = {x, gain, bias, n, eps, out, ranges};
    for (; rows >= NORM_ROWS; rows -= NORM_ROWS) norm_next(&l, NORM_ROWS);
    for (; rows; rows--) norm_next(&l, 1);
}

/* The largest fl(x * scale); NaN counts for nothing, as the second operand of v16_f_max is the one that is kept. */
QLM_INLINE float row_max(const float *x, size_t n, v16f scale)
{
    v16f lowest = v16_f_set1(-__builtin_inff()), max = lowest;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) max = v16_f_max(v16_f_mul(v16_f_load(x + i), scale), max);
    if (i < n) {
        v16f last = v16_f_mul(v16_f_load_part(x + i, n - i), scale);
        max = v16_f_max(v16_f_select(v16_m_first(n - i), last, lowest), max);
    }
    return v16_f_reduce_max(max);
}

QLM_KERNEL(float, softmax_f32)(float *x, size_t n, float scale)
{
    v16f factor = v16_f_set1(scale), sum = v16_f_set1(0.0f);
    v16f max = v16_f_set1(row_max(x, n, factor));
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v16f e = exp_of_nonpositive(v16_f_sub(v16_f_mul(v16_f_load(x + i), factor), max));
        v16_f_store(x + i, v16_f_canonical(e));
        sum = v16_f_add(sum, e);
    }
    if (i < n) {
        v16f e = exp_of_nonpositive(v16_f_sub(v16_f_mul(v16_f_load_part(x + i, n - i), factor), max));
        v16_f_store_part(x + i, n - i, v16_f_canonical(e));
        sum = v16_f_add(sum, v16_f_select(v16_m_first(n - i), e, v16_f_set1(0.0f)));
    }
    return reduced_sum(sum);
}

QLM_KERNEL(void, divide_f32)(const float *x, size_t n, float divisor, float *out)
{
    v16f d = v16_f_set1(divisor);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_f_store(out + i, v16_f_canonical(v16_f_div(v16_f_load(x + i), d)));
    if (i < n) v16_f_store_part(out + i, n - i, v16_f_canonical(v16_f_div(v16_f_load_part(x + i, n - i), d)));
}

QLM_INLINE void add_step(const float *a, const float *b, size_t count, float *out)
{ v16_f_store_n(out, count, v16_f_canonical(v16_f_add(v16_f_load_n(a, count), v16_f_load_n(b, count)))); }

QLM_KERNEL(void, add_f32)(const float *a, const float *b, size_t n, float *out)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) add_step(a + i, b + i, 16, out + i);
    if (i < n) add_step(a + i, b + i, n - i, out + i);
}

QLM_KERNEL(float, squares_f32)(const float *x, size_t n)
{
    v16f sum = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) sum = add_squares(sum, v16_f_load(x + i));
    if (i < n) sum = add_squares(sum, v16_f_load_part(x + i, n - i));
    return reduced_sum(sum);
}
