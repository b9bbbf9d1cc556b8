/* elementwise.inc.h: ranges, codes from floats and back, and the gradients of that. */

#define INFINITY_BITS 0x7f800000
#define SIGN_BIT 0x80000000u

QLM_INLINE float float_of_bits(int32_t bits)
{
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- ranges --------------------------------------------------------------------------------------------------- */

struct range {
    v16f min, max, taint;
};

QLM_INLINE v16m is_finite(v16f x) { return v16_f_lt(v16_f_abs(x), v16_f_set1(__builtin_inff())); }

QLM_INLINE void range_widen_by_finite(struct range *r, v16f x)
{
    v16m finite = is_finite(x);
    r->min = v16_f_min(v16_f_select(finite, x, r->min), r->min);
    r->max = v16_f_max(v16_f_select(finite, x, r->max), r->max);
    taint_by(&r->taint, x);
}

/* Missing lanes repeat the first. */
QLM_INLINE v16f range_load(const float *x, size_t n)
{
    if (n == 16) return v16_f_load(x);
    return v16_f_select(v16_m_first(n), v16_f_load_part(x, n), v16_f_set1(x[0]));
}

/* Adding +0 makes a zero +0: which of two zeros was seen last must not show. */
QLM_INLINE void range_of_finite(const float *x, size_t n, float *min, float *max)
{
    struct range r = {v16_f_set1(*min), v16_f_set1(*max), v16_f_set1(0.0f)};
    for (size_t i = 0; i < n; i += 16) range_widen_by_finite(&r, range_load(x + i, n - i < 16 ? n - i : 16));
    *min = v16_f_reduce_min(r.min) + 0.0f;
    *max = v16_f_reduce_max(r.max) + 0.0f;
}

/* A float's bits as a signed number: among floats of which one is positive, the greatest number is the greatest float.
 * As an unsigned number: among floats of which one is negative, the greatest number is the least float; and among
 * floats of one sign, the least number is the one nearest to zero, so the other end of the range.  The greatest ones
 * show infinities and NaN as well.  Integer comparisons have more ports than those of floats. */
struct bits_range {
    v16i highest, lowest;
};

QLM_INLINE void bits_widen(struct bits_range *r, v16f x)
{
    r->highest = v16_i_max_s(v16_f_as_i(x), r->highest);
    r->lowest = v16_i_max_u(v16_f_as_i(x), r->lowest);
}

QLM_INLINE struct bits_range bits_of_none(void) { return (struct bits_range){v16_i_set1(INT32_MIN), v16_i_set1(0)}; }

/* Four vectors meet before they meet the range, so that it is no chain of as many steps. */
QLM_INLINE struct bits_range bits_widened(struct bits_range r, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        v16i a = v16_f_as_i(v16_f_load_once(x + i)), b = v16_f_as_i(v16_f_load_once(x + i + 16));
        v16i c = v16_f_as_i(v16_f_load_once(x + i + 32)), d = v16_f_as_i(v16_f_load_once(x + i + 48));
        r.highest = v16_i_max_s(v16_i_max_s(v16_i_max_s(a, b), v16_i_max_s(c, d)), r.highest);
        r.lowest = v16_i_max_u(v16_i_max_u(v16_i_max_u(a, b), v16_i_max_u(c, d)), r.lowest);
        v16_i_keep(r.highest);
        v16_i_keep(r.lowest);
    }
    for (; i < n; i += 16) bits_widen(&r, range_load(x + i, n - i < 16 ? n - i : 16));
    return r;
}

QLM_INLINE struct bits_range bits_range_of(const float *x, size_t n) { return bits_widened(bits_of_none(), x, n); }

QLM_INLINE float nearest_to_zero(const float *x, size_t n)
{
    v16i nearest = v16_i_set1(-1), other = nearest;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        nearest = v16_i_min_u(v16_f_as_i(v16_f_load(x + i)), nearest);
        other = v16_i_min_u(v16_f_as_i(v16_f_load(x + i + 16)), other);
    }
    for (; i < n; i += 16) nearest = v16_i_min_u(v16_f_as_i(range_load(x + i, n - i < 16 ? n - i : 16)), nearest);
    return float_of_bits((int32_t)v16_i_reduce_min_u(v16_i_min_u(nearest, other)));
}

QLM_KERNEL(int, range_f32)(const float *x, size_t n, float *min, float *max)
{
    if (!n) return 0;
    struct bits_range bits = bits_range_of(x, n);
    int32_t highest = v16_i_reduce_max_s(bits.highest);
    uint32_t lowest = v16_i_reduce_max_u(bits.lowest);
    if (highest >= INFINITY_BITS || lowest >= SIGN_BIT + INFINITY_BITS) { /* rare enough to start again */
        range_of_finite(x, n, min, max);
        return 1;
    }
    int some_positive = highest >= 0, some_negative = lowest >= SIGN_BIT;
    float end = some_positive && some_negative ? 0.0f : nearest_to_zero(x, n);
    float greatest = some_positive ? float_of_bits(highest) : end;
    float least = some_negative ? float_of_bits((int32_t)lowest) : end;
    *min = (least < *min ? least : *min) + 0.0f;
    *max = (greatest > *max ? greatest : *max) + 0.0f;
    return 0;
}

QLM_INLINE void range_column(const float *x, size_t count, float *min, float *max, v16f *taint)
{
    struct range r = {v16_f_load_n(min, count), v16_f_load_n(max, count), *taint};
    range_widen_by_finite(&r, v16_f_load_n(x, count));
    v16_f_store_n(min, count, v16_f_add(r.min, v16_f_set1(0.0f)));
    v16_f_store_n(max, count, v16_f_add(r.max, v16_f_set1(0.0f)));
    *taint = r.taint;
}

QLM_KERNEL(int, range_cols_f32)(const float *x, size_t n, float *min, float *max)
{
    v16f taint = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) range_column(x + i, 16, min + i, max + i, &taint);
    if (i < n) range_column(x + i, n - i, min + i, max + i, &taint);
    return is_tainted(taint);
}

/* The bits of |x|, as an integer: the greatest is that of the greatest |x|, and NaN and infinities are above all. */
QLM_INLINE v16i magnitudes(v16f x) { return v16_i_and(v16_f_as_i(x), v16_i_set1(INT32_MAX)); }

QLM_INLINE v16i greater_magnitudes(v16i greatest, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        v16i a = magnitudes(v16_f_load(x + i)), b = magnitudes(v16_f_load(x + i + 16));
        v16i c = magnitudes(v16_f_load(x + i + 32)), d = magnitudes(v16_f_load(x + i + 48));
        greatest = v16_i_max_u(v16_i_max_u(v16_i_max_u(a, b), v16_i_max_u(c, d)), greatest);
        v16_i_keep(greatest);
    }
    for (; i < n; i += 16) {
        size_t count = n - i < 16 ? n - i : 16;
        greatest = v16_i_max_u(magnitudes(v16_f_load_n(x + i, count)), greatest);
    }
    return greatest;
}

QLM_INLINE v16i greatest_magnitudes(const float *x, size_t n) { return greater_magnitudes(v16_i_set1(0), x, n); }

/* ---- codes ---------------------------------------------------------------------------------------------------- */

QLM_KERNEL(int, quantize_f32_8)
(const float *x, size_t n, float scale, float zero, float lo, float hi, uint8_t *out)
{ return quantize_span(x, n, (struct codes){scale, zero, lo, hi}, 1, out); }

QLM_KERNEL(int, quantize_f32_16)
(const float *x, size_t n, float scale, float zero, float lo, float hi, uint16_t *out)
{ return quantize_span(x, n, (struct codes){scale, zero, lo, hi}, 2, out); }

/* Groups of a multiple of 16 elements keep the alignment of the first. */
QLM_INLINE int can_stream(int stream, const void *out, size_t n)
{ return stream && (uintptr_t)out % 16 == 0 && n % 16 == 0; }

QLM_KERNEL(void, column_places_f32)
(const float *scale, const float *zero, size_t n, float lo, float hi, float *inverse, float *start)
{
    float slack = grid_bounds_of(lo, hi, hi - lo).slack;
    for (size_t i = 0; i < n; i += 16) {
        size_t count = n - i < 16 ? n - i : 16;
        struct place place = places_for(v16_f_load_n(scale + i, count), v16_f_load_n(zero + i, count), lo, hi, slack);
        v16_f_store_n(inverse + i, count, place.inverse);
        v16_f_store_n(start + i, count, place.start);
    }
}

QLM_KERNEL(int, quantize_cols_f32_8)
(const float *x, size_t n, const float *scale, const float *zero, float lo, float hi, const float *inverse,
 const float *start, uint8_t *out)
{
    struct column_codes columns = {.x = x, .scale = scale, .zero = zero, .lo = lo, .hi = hi};
    if (!inverse) return quantize_columns(columns, n, 1, out);
    struct grid_bounds bounds = grid_bounds_of(lo, hi, hi - lo);
    size_t whole = n / 64 * 64;
    int bad;
    FOR_SPAN(bounds.kind, bad = multiply_columns(&columns, n, inverse, start, &bounds, KIND, out))
    return whole < n ? bad | divide_columns(&columns, whole, n - whole, out + whole) : bad;
}

QLM_KERNEL(int, quantize_cols_f32_16)
(const float *x, size_t n, const float *scale, const float *zero, float lo, float hi, uint16_t *out)
{
    struct column_codes columns = {.x = x, .scale = scale, .zero = zero, .lo = lo, .hi = hi};
    return quantize_columns(columns, n, 2, out);
}

QLM_KERNEL(int, interval_f32_8)
(const float *x, size_t n, float min, float scale, int levels, int lo, uint8_t *out)
{ return interval_span(x, n, min, scale, levels, lo, 1, out); }

struct values {
    v16f scale, zero, offset;
    int stream; /* store past the caches */
};

QLM_INLINE void store_values(float *out, v16f values, const struct values *p)
{
    if (p->stream)
        v16_f_stream(out, values);
    else
        v16_f_store(out, values);
}

/* What a row's parameters leave out: subtracting a zero point of 0 and adding an offset of -0.0 change no bit.  Each
 * form is a loop of its own, for an instruction in four. */
enum form { FORM_SCALE, FORM_ZERO, FORM_OFFSET };

QLM_INLINE enum form form_of(float zero, float offset)
{
    if (offset != 0.0f || !__builtin_signbit(offset)) return FORM_OFFSET;
    return zero != 0.0f ? FORM_ZERO : FORM_SCALE;
}

QLM_INLINE v16f value_of(v16i code, const struct values *p, enum form form)
{
    v16f q = v16_f_from_i(code);
    if (form != FORM_SCALE) q = v16_f_sub(q, p->zero);
    q = v16_f_mul(q, p->scale);
    return form == FORM_OFFSET ? v16_f_add(q, p->offset) : q;
}

/* A group of 32 is one step of a loop, which takes 58 or 77 GB/s (AVX2) by where it lies in its lines. */
#define LOOP_ALIGNED __attribute__((aligned(64)))

#define QLM_DEQUANTIZE(suffix, type)                                                                                   \
    QLM_INLINE void dequantize_form_##suffix(const type *q, size_t n, const struct values *p, enum form form,          \
                                             float *out)                                                               \
    {                                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + 32 <= n; i += 32) {                                                                                 \
            store_values(out + i, value_of(v16_load_##suffix(q + i), p, form), p);                                     \
            store_values(out + i + 16, value_of(v16_load_##suffix(q + i + 16), p, form), p);                           \
        }                                                                                                              \
        for (; i < n; i += 16) {                                                                                       \
            size_t count = n - i < 16 ? n - i : 16;                                                                    \
            v16_f_store_n(out + i, count, value_of(v16_load_##suffix##_n(q + i, count), p, form));                     \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    QLM_INLINE void dequantize_span_##suffix(const type *q, size_t n, float scale, float zero, float offset,           \
                                             int stream, float *out)                                                   \
    {                                                                                                                  \
        struct values p = {v16_f_set1(scale), v16_f_set1(zero), v16_f_set1(offset), stream};                           \
        enum form form = form_of(zero, offset);                                                                        \
        if (form == FORM_SCALE)                                                                                        \
            dequantize_form_##suffix(q, n, &p, FORM_SCALE, out);                                                       \
        else if (form == FORM_ZERO)                                                                                    \
            dequantize_form_##suffix(q, n, &p, FORM_ZERO, out);                                                        \
        else                                                                                                           \
            dequantize_form_##suffix(q, n, &p, FORM_OFFSET, out);                                                      \
    }                                                                                                                  \
                                                                                                                       \
    QLM_KERNEL(void, dequantize_##suffix##_f32)                                                                        \
    (const type *q, size_t n, float scale, float zero, float offset, float *out)                                       \
    { dequantize_span_##suffix(q, n, scale, zero, offset, 0, out); }                                                   \
                                                                                                                       \
    LOOP_ALIGNED QLM_KERNEL(void, dequantize_groups_##suffix##_f32)(const type *q, size_t groups, size_t n,            \
                                                                    const float *scale, const int32_t *zero,           \
                                                                    const float *offset, float *out, int stream)       \
    {                                                                                                                  \
        int past = can_stream(stream, out, n);                                                                         \
        for (size_t g = 0; g < groups; g++)                                                                            \
            dequantize_span_##suffix(q + g * n, n, scale[g], zero ? (float)zero[g] : 0.0f, offset ? offset[g] : -0.0f, \
                                     past, out + g * n);                                                               \
        if (past) streams_end();                                                                                       \
    }                                                                                                                  \
                                                                                                                       \
    QLM_INLINE void dequantize_column_##suffix(const type *q, size_t count, const float *scale, const float *zero,     \
                                               const float *offset, float *out)                                        \
    {                                                                                                                  \
        struct values p = {v16_f_load_n(scale, count), v16_f_load_n(zero, count), v16_f_load_n(offset, count), 0};     \
        v16_f_store_n(out, count, value_of(v16_load_##suffix##_n(q, count), &p, FORM_OFFSET));                         \
    }                                                                                                                  \
                                                                                                                       \
    QLM_KERNEL(void, dequantize_cols_##suffix##_f32)                                                                   \
    (const type *q, size_t n, const float *scale, const float *zero, const float *offset, float *out)                  \
    {                                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + 16 <= n; i += 16) dequantize_column_##suffix(q + i, 16, scale + i, zero + i, offset + i, out + i);  \
        if (i < n) dequantize_column_##suffix(q + i, n - i, scale + i, zero + i, offset + i, out + i);                 \
    }

QLM_DEQUANTIZE(s8, int8_t)
QLM_DEQUANTIZE(u8, uint8_t)
QLM_DEQUANTIZE(s16, int16_t)
QLM_DEQUANTIZE(u16, uint16_t)

/* ---- gradients ------------------------------------------------------------------------------------------------ */

struct lsq {
    v16f scale, zero, lo, hi, below, above;
};

/* Stores the gradient of x, and returns what the elements add to the gradient of the scale. */
QLM_INLINE v16f lsq_step(const struct lsq *l, const float *grad, const float *x, size_t count, float *grad_x)
{
    v16f g = v16_f_load_n(grad, count);
    v16f v = v16_f_div(v16_f_load_n(x, count), l->scale);
    v16f rounded = v16_f_rint(v);
    v16f q = v16_f_add(rounded, l->zero);
    v16m inside = v16_m_and(v16_f_le(l->lo, q), v16_f_le(q, l->hi));
    v16f outside = v16_f_select(v16_f_lt(q, l->lo), l->below, l->above);
    v16_f_store_n(grad_x, count, v16_f_select(inside, g, v16_f_set1(0.0f)));
    return v16_f_mul(g, v16_f_select(inside, v16_f_sub(rounded, v), outside));
}

/* Missing lanes have gradient 0 and so add a zero, which changes no sum that began with +0. */
QLM_KERNEL(float, lsq_f32)
(const float *grad, const float *x, size_t n, float scale, float zero, float lo, float hi, float *grad_x)
{
    struct lsq l = {v16_f_set1(scale), v16_f_set1(zero),      v16_f_set1(lo),
                    v16_f_set1(hi),    v16_f_set1(lo - zero), v16_f_set1(hi - zero)};
    v16f sum = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) sum = v16_f_add(sum, lsq_step(&l, grad + i, x + i, 16, grad_x + i));
    if (i < n) sum = v16_f_add(sum, lsq_step(&l, grad + i, x + i, n - i, grad_x + i));
    return reduced_sum(sum);
}
