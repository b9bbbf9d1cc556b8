/* rows.inc.h: what works on a row of floats: layernorm, softmax and the like.  Sums go by 16 lanes. */

QLM_INLINE v16f add_squares(v16f sum, v16f x) { return v16_f_add(sum, v16_f_mul(x, x)); }

QLM_INLINE v16f row_sum(const float *x, size_t n)
{
    v16f sum = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) sum = v16_f_add(sum, v16_f_load(x + i));
    if (i < n) sum = v16_f_add(sum, v16_f_load_part(x + i, n - i));
    return sum;
}

/* The sum of fl((x - mean)^2). */
QLM_INLINE v16f row_deviation(const float *x, size_t n, v16f mean)
{
    v16f sum = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) sum = add_squares(sum, v16_f_sub(v16_f_load(x + i), mean));
    if (i < n) {
        v16f d = v16_f_sub(v16_f_load_part(x + i, n - i), mean);
        sum = add_squares(sum, v16_f_select(v16_m_first(n - i), d, v16_f_set1(0.0f)));
    }
    return sum;
}

struct layernorm {
    v16f mean, inverse; /* 1 / sqrt(variance + eps) */
    const float *x, *gain, *bias;
};

QLM_INLINE v16f layernorm_step(const struct layernorm *l, size_t i, size_t count)
{
    v16f d = v16_f_sub(v16_f_load_n(l->x + i, count), l->mean);
    v16f scaled = v16_f_mul(v16_f_mul(d, l->inverse), v16_f_load_n(l->gain + i, count));
    return v16_f_canonical(v16_f_add(scaled, v16_f_load_n(l->bias + i, count)));
}

QLM_KERNEL(void, layernorm_f32)
(const float *x, size_t n, const float *gain, const float *bias, float eps, float *out)
{
    struct layernorm l = {.x = x, .gain = gain, .bias = bias};
    l.mean = v16_f_set1(v16_f_reduce_add(row_sum(x, n)) / (float)n);
    float variance = v16_f_reduce_add(row_deviation(x, n, l.mean)) / (float)n;
    l.inverse = v16_f_div(v16_f_set1(1.0f), v16_f_sqrt(v16_f_set1(variance + eps)));
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_f_store(out + i, layernorm_step(&l, i, 16));
    if (i < n) v16_f_store_part(out + i, n - i, layernorm_step(&l, i, n - i));
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
