/* quantize.inc.h: float32 to codes, for the quantize kernels and for the left operand of an int8 product.
 *
 * Division is slow, so quantize_span multiplies by the reciprocal and divides only where that could give another code.
 * In exact arithmetic let v = x / s, L = max(|lo - zero|, |hi - zero|), u = 2^-24.  The product m = fl(x fl(1 / s)) and
 * the quotient d = fl(v) differ from v by at most (2 u + u^2) |v| and u |v| (fl(1 / s) is normal, or reciprocals are
 * not used).  The code is a step function of d, with steps at half-integers t, |t| <= L + 1/2.  If m and d give
 * different codes, such a t lies between them, so |m - t| <= |m - d| <= (3 u + u^2) (1 + 3 u) (L + 1/2) < 4 u (L + 1)
 * =: e, and |m - rint(m)| >= 1/2 - e (the difference is exact).  That is the test; written as "not <", it is true as
 * well where x is NaN or infinite, or where m overflows.  An m that is tiny or underflows is near no half-integer.
 */
struct rounding {
    v16f scale, inverse, zero, lo, hi;
    v16f tie; /* 1/2 - e, or less than 0: always divide */
};

/* Beyond these many codes (16 bits) most vectors would have to divide as well. */
#define QLM_RECIPROCAL_CODES 2048.0f

QLM_INLINE float farthest_code(float zero, float lo, float hi)
{
    float below = zero - lo, above = hi - zero;
    below = below < 0.0f ? -below : below;
    above = above < 0.0f ? -above : above;
    return below > above ? below : above;
}

QLM_INLINE struct rounding rounding_for(float scale, float zero, float lo, float hi)
{
    float inverse = 1.0f / scale, codes = farthest_code(zero, lo, hi);
    int precise = inverse >= 0x1p-126f && inverse <= 0x1.fffffep127f && codes <= QLM_RECIPROCAL_CODES;
    struct rounding r;
    r.scale = v16_f_set1(scale);
    r.inverse = v16_f_set1(inverse);
    r.zero = v16_f_set1(zero);
    r.lo = v16_f_set1(lo);
    r.hi = v16_f_set1(hi);
    r.tie = v16_f_set1(precise ? 0.5f - (codes + 1.0f) * 0x1p-22f : -1.0f);
    return r;
}

QLM_INLINE v16i clamp_codes(v16f rounded, v16f zero, v16f lo, v16f hi)
{ return v16_i_from_f(v16_f_min(v16_f_max(v16_f_add(rounded, zero), lo), hi)); }

/* Makes lanes of *taint NaN where x is not finite. */
QLM_INLINE void taint_by(v16f *taint, v16f x) { *taint = v16_f_add(*taint, v16_f_mul(x, v16_f_set1(0.0f))); }

QLM_INLINE int is_tainted(v16f taint) { return v16_m_any(v16_f_is_nan(taint)); }

QLM_INLINE v16i codes_of(v16f x, const struct rounding *r, v16f *taint)
{
    v16f m = v16_f_mul(x, r->inverse);
    v16f rounded = v16_f_rint(m);
    if (v16_m_any(v16_f_not_lt(v16_f_abs(v16_f_sub(m, rounded)), r->tie))) {
        taint_by(taint, x);
        rounded = v16_f_rint(v16_f_div(x, r->scale));
    }
    return clamp_codes(rounded, r->zero, r->lo, r->hi);
}

/* `bytes` is a constant: 1 or 2, of each code that is stored. */
QLM_INLINE void store_codes(int bytes, void *out, size_t i, size_t count, v16i codes)
{
    if (bytes == 1)
        v16_store_low8_n((uint8_t *)out + i, count, codes);
    else
        v16_store_low16_n((uint16_t *)out + i, count, codes);
}

QLM_INLINE int quantize_span(const float *x, size_t n, float scale, float zero, float lo, float hi, int bytes,
                             void *out)
{
    struct rounding r = rounding_for(scale, zero, lo, hi);
    v16f taint = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) store_codes(bytes, out, i, 16, codes_of(v16_f_load(x + i), &r, &taint));
    if (i < n) store_codes(bytes, out, i, n - i, codes_of(v16_f_load_part(x + i, n - i), &r, &taint));
    return is_tainted(taint);
}

struct column_codes {
    const float *x, *scale;
    const float *zero; /* NULL: first_zero for all */
    float first_zero, lo, hi;
};

QLM_INLINE v16i column_codes(const struct column_codes *c, size_t i, size_t count, v16f *taint)
{
    v16f x = v16_f_load_n(c->x + i, count);
    v16f zero = c->zero ? v16_f_load_n(c->zero + i, count) : v16_f_set1(c->first_zero);
    /* A missing lane is 0 / 0: NaN, and stored nowhere. */
    v16f rounded = v16_f_rint(v16_f_div(x, v16_f_load_n(c->scale + i, count)));
    taint_by(taint, x);
    return clamp_codes(rounded, zero, v16_f_set1(c->lo), v16_f_set1(c->hi));
}

/* Each element has its own scale: their reciprocals would be divisions too. */
QLM_INLINE int quantize_columns(struct column_codes c, size_t n, int bytes, void *out)
{
    v16f taint = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) store_codes(bytes, out, i, 16, column_codes(&c, i, 16, &taint));
    if (i < n) store_codes(bytes, out, i, n - i, column_codes(&c, i, n - i, &taint));
    return is_tainted(taint);
}

/* The interval grid: clamp(floor((x - min) / scale), 0, levels - 1) in float64.  The same in float32 by the reciprocal,
 * t = fl(fl(x - min) fl(1 / scale)), is off by at most (3 u + 4 u^2) t.  The steps of the result lie at 1, 2, ...,
 * levels - 1, so t is first clamped to [1/2, levels - 1/2], which moves it over no step; then it may be on the wrong
 * side of a step only if it is within 4 u levels of an integer.  x - min may overflow where (levels + 1) scale is
 * finite: then both forms are above all steps.  Elsewhere, and where fl(1 / scale) is not normal, all goes by float64.
 */
struct grid {
    float first, width;
    int levels, lo;
    v16f min, inverse, least, most, border;
};

QLM_INLINE struct grid grid_for(float min, float scale, int levels, int lo)
{
    float inverse = 1.0f / scale, end = (float)(levels + 1) * scale;
    int precise = inverse >= 0x1p-126f && inverse <= 0x1.fffffep127f && end <= 0x1.fffffep127f;
    struct grid g = {.first = min, .width = scale, .levels = levels, .lo = lo};
    g.min = v16_f_set1(min);
    g.inverse = v16_f_set1(inverse);
    g.least = v16_f_set1(0.5f);
    g.most = v16_f_set1((float)levels - 0.5f);
    g.border = v16_f_set1(precise ? (float)levels * 0x1p-22f : 1.0f);
    return g;
}

QLM_INLINE v16i exact_levels(v16f x, const struct grid *g)
{
    float value[16];
    int32_t level[16];
    v16_f_store(value, x);
    for (int l = 0; l < 16; l++) {
        double t = ((double)value[l] - (double)g->first) / (double)g->width, top = g->levels - 1;
        t = t > 0.0 ? t : 0.0; /* NaN too */
        level[l] = (int32_t)(t < top ? t : top);
    }
    return v16_i_load(level);
}

QLM_INLINE v16i interval_codes(v16f x, const struct grid *g, v16f *taint)
{
    v16f t = v16_f_mul(v16_f_sub(x, g->min), g->inverse);
    t = v16_f_min(v16_f_max(t, g->least), g->most);
    v16f distance = v16_f_abs(v16_f_sub(t, v16_f_rint(t)));
    taint_by(taint, x);
    v16i level = v16_m_any(v16_f_le(distance, g->border)) ? exact_levels(x, g) : v16_i_from_f(v16_f_floor(t));
    return v16_i_add(level, v16_i_set1(g->lo));
}

QLM_INLINE int interval_span(const float *x, size_t n, float min, float scale, int levels, int lo, int bytes, void *out)
{
    struct grid g = grid_for(min, scale, levels, lo);
    v16f taint = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) store_codes(bytes, out, i, 16, interval_codes(v16_f_load(x + i), &g, &taint));
    if (i < n) store_codes(bytes, out, i, n - i, interval_codes(v16_f_load_part(x + i, n - i), &g, &taint));
    return is_tainted(taint);
}
