/* groups.inc.h: codes of groups that lie behind one another, by scales that are given or found.
 *
 * Groups are taken a batch at a time, in two steps: their parameters, a lane each, then their codes.  The parameters of
 * a batch come before the codes of the one before it, so that its loads and divisions, which wait, run beside work that
 * does not; and codes ask for the batch after the next, so that finding ranges reads L1.  Longer rows come one by one,
 * as two of them would not stay in L1.
 */
#include "params.h"

#define SHORT_GROUP 32
#define BATCH_GROUPS 16
#define BATCH_FLOATS 2048
/* Up to this length groups' ranges are found side by side. */
#define TREE_LENGTH 128

enum origin { GIVEN, SYMMETRIC, ASYMMETRIC };

struct groups {
    const float *x;
    size_t count, n;
    enum origin origin;
    float lo, hi, bound, middle; /* bound, middle: of symmetric codes */
    int half;
    const float *scale;
    const int32_t *zero; /* NULL: `middle` */
    float *found_scale;  /* where scale and zero point, when they are found */
    int32_t *found_zero;
    uint8_t *out;
    struct grid_bounds bounds;
};

struct batch {
    float inverse[BATCH_GROUPS], start[BATCH_GROUPS], zero[BATCH_GROUPS];
};

/* ---- parameters ----------------------------------------------------------------------------------------------- */

/* The missing lanes of a batch that is not full repeat the first. */
QLM_INLINE v16i greatest_magnitude_of_each(const float *x, size_t count, size_t n)
{
    if (count == BATCH_GROUPS && n % 32 == 0 && n <= TREE_LENGTH) return v16_i_greatest(x, n, AS_MAGNITUDES);
    int32_t lanes[BATCH_GROUPS] = {0};
    for (size_t l = 0; l < count; l++) lanes[l] = (int32_t)v16_i_reduce_max_u(greatest_magnitudes(x + l * n, n));
    for (size_t l = count; l < BATCH_GROUPS; l++) lanes[l] = lanes[0];
    return v16_i_load(lanes);
}

QLM_INLINE struct bits_range bits_range_of_each(const float *x, size_t count, size_t n)
{
    if (count == BATCH_GROUPS && n % 32 == 0 && n <= TREE_LENGTH)
        return (struct bits_range){v16_i_greatest(x, n, AS_SIGNED), v16_i_greatest(x, n, AS_UNSIGNED)};
    int32_t highest[BATCH_GROUPS] = {0}, lowest[BATCH_GROUPS] = {0};
    for (size_t l = 0; l < count; l++) {
        struct bits_range bits = bits_range_of(x + l * n, n);
        highest[l] = v16_i_reduce_max_s(bits.highest);
        lowest[l] = (int32_t)v16_i_reduce_max_u(bits.lowest);
    }
    for (size_t l = count; l < BATCH_GROUPS; l++) {
        highest[l] = highest[0];
        lowest[l] = lowest[0];
    }
    return (struct bits_range){v16_i_load(highest), v16_i_load(lowest)};
}

/* The ends of float16 are rare: without them a lane is an addition and a mask. */
QLM_INLINE v16f halves_up(v16f scale)
{
    v16m small = v16_f_lt(scale, v16_f_set1(0x1p-14f)), large = v16_f_not_lt(scale, v16_f_set1(65504.0f));
    v16i bits = v16_i_add(v16_f_as_i(scale), v16_i_set1(0x1fff));
    if (!v16_m_any(v16_m_or(small, large))) return v16_i_as_f(v16_i_and(bits, v16_i_set1(~0x1fff)));
    float lanes[BATCH_GROUPS];
    v16_f_store(lanes, scale);
    for (int l = 0; l < BATCH_GROUPS; l++) lanes[l] = qlm_positive_half_up(lanes[l]);
    return v16_f_load(lanes);
}

QLM_OUTLINE void symmetric_scales(const float *amax, double bound, float *scale)
{
    for (int l = 0; l < BATCH_GROUPS; l++) scale[l] = qlm_bounded_scale(qlm_symmetric_scale(amax[l], bound), bound);
}

/* A quotient of float32 values that is rounded to float64 first and then to float32 is the one that is rounded once: it
 * is no nearer than 2^-49 of itself to a midpoint that it does not equal, and float64 rounds by 2^-53.  So float32 does
 * where neither a scale nor its inverse is near an end of the type. */
QLM_INLINE void find_symmetric(const struct groups *s, size_t at, size_t count, size_t n, struct batch *b)
{
    v16f amax = v16_i_as_f(greatest_magnitude_of_each(s->x + at * n, count, n)), one = v16_f_set1(1.0f);
    v16m some = v16_f_gt(amax, v16_f_set1(0.0f)), large = v16_f_not_lt(amax, v16_f_set1(0x1p100f));
    v16m small = v16_m_and(some, v16_f_lt(amax, v16_f_set1(0x1p-90f)));
    v16f scale = v16_f_select(some, v16_f_div(amax, v16_f_set1(s->bound)), one);
    int rare = v16_m_any(v16_m_or(small, large));
    if (rare) {
        float lanes[BATCH_GROUPS], found[BATCH_GROUPS];
        v16_f_store(lanes, amax);
        symmetric_scales(lanes, s->bound, found);
        scale = v16_f_load(found);
    }
    if (s->half) scale = halves_up(scale);
    v16_f_store_n(s->found_scale + at, count, scale);
    if (rare)
        v16_f_store(b->inverse, places_for(scale, v16_f_set1(s->middle), s->lo, s->hi, s->bounds.slack).inverse);
    else
        v16_f_store(b->inverse, v16_f_div(v16_f_set1(0x1p16f), scale));
}

/* Loops over lanes, of float64: compilers make vectors of them where their number is not known, nor its bound. */
QLM_INLINE void find_asymmetric(const struct groups *s, size_t at, size_t count, size_t n, struct batch *b)
{
    struct bits_range bits = bits_range_of_each(s->x + at * n, count, n);
    v16f none = v16_f_set1(0.0f);
    v16f low = v16_f_min(v16_i_as_f(bits.lowest), none), high = v16_f_max(v16_i_as_f(bits.highest), none);
    __asm__("" : "+r"(count));
    float lo[BATCH_GROUPS], hi[BATCH_GROUPS], scale[BATCH_GROUPS] = {0};
    int32_t zero[BATCH_GROUPS] = {0};
    double first = s->lo, last = s->hi;
    v16_f_store(lo, low);
    v16_f_store(hi, high);
    for (size_t l = 0; l < count; l++) scale[l] = qlm_asymmetric_scale(lo[l], hi[l], last - first);
    if (s->half) v16_f_store(scale, halves_up(v16_f_load(scale)));
    for (size_t l = 0; l < count; l++) zero[l] = (int32_t)qlm_zero_point(lo[l], scale[l], first, last);
    if (v16_m_any(v16_f_not_lt(v16_f_sub(high, low), v16_f_set1(QLM_SAFE_RANGE))) && !s->half)
        for (size_t l = 0; l < count; l++) scale[l] = qlm_bounded_scale(scale[l], qlm_farther(zero[l], first, last));
    v16f scales = v16_f_load(scale), zeros = v16_f_from_i(v16_i_load(zero));
    struct place place = places_for(scales, zeros, s->lo, s->hi, s->bounds.slack);
    v16_f_store_n(s->found_scale + at, count, scales);
    v16_i_store_n(s->found_zero + at, count, v16_i_load(zero));
    v16_f_store(b->inverse, place.inverse);
    v16_f_store(b->start, place.start);
    v16_f_store(b->zero, zeros);
}

/* A row by itself: lanes that are stored one by one and then read as a vector would wait for the stores. */
struct row_bits {
    int32_t highest;
    uint32_t lowest; /* of symmetric codes the greatest magnitude */
};

/* Not inlined, so that these loops keep their accumulators in registers. */
QLM_OUTLINE struct row_bits row_range(const float *x, size_t n)
{
    struct bits_range bits = bits_range_of(x, n);
    return (struct row_bits){v16_i_reduce_max_s(bits.highest), v16_i_reduce_max_u(bits.lowest)};
}

QLM_OUTLINE struct row_bits row_magnitude(const float *x, size_t n)
{ return (struct row_bits){0, v16_i_reduce_max_u(greatest_magnitudes(x, n))}; }

QLM_INLINE struct codes find_row(const struct groups *s, enum origin origin, const float *x, size_t at)
{
    struct row_bits bits = origin == SYMMETRIC ? row_magnitude(x, s->n) : row_range(x, s->n);
    struct codes c = {.zero = s->middle, .lo = s->lo, .hi = s->hi};
    double first = s->lo, last = s->hi;
    if (origin == SYMMETRIC) {
        c.scale = qlm_symmetric_scale(float_of_bits((int32_t)bits.lowest), s->bound);
        c.scale = s->half ? qlm_positive_half_up(c.scale) : qlm_bounded_scale(c.scale, s->bound);
    } else {
        float hi = bits.highest > 0 ? float_of_bits(bits.highest) : 0.0f;
        float lo = bits.lowest > SIGN_BIT ? float_of_bits((int32_t)bits.lowest) : 0.0f;
        c.scale = qlm_asymmetric_scale(lo, hi, last - first);
        if (s->half) c.scale = qlm_positive_half_up(c.scale);
        double zero = qlm_zero_point(lo, c.scale, first, last);
        if (!s->half) c.scale = qlm_bounded_scale(c.scale, qlm_farther(zero, first, last));
        c.zero = (float)zero;
        s->found_zero[at] = (int32_t)zero;
    }
    s->found_scale[at] = c.scale;
    return c;
}

QLM_INLINE void find_one(const struct groups *s, size_t at, size_t n, struct batch *b)
{
    struct codes c = find_row(s, s->origin, s->x + at * n, at);
    b->inverse[0] = inverse_for(c);
    b->start[0] = start_for(c.zero, s->bounds.slack);
    b->zero[0] = c.zero;
}

QLM_INLINE void take_given(const struct groups *s, size_t at, size_t count, struct batch *b)
{
    v16f zeros = s->zero ? v16_f_from_i(v16_i_load_n(s->zero + at, count)) : v16_f_set1(0.0f);
    struct place place = places_for(v16_f_load_n(s->scale + at, count), zeros, s->lo, s->hi, s->bounds.slack);
    v16_f_store(b->inverse, place.inverse);
    v16_f_store(b->start, place.start);
    v16_f_store(b->zero, zeros);
}

QLM_INLINE void take_parameters(const struct groups *s, size_t at, size_t count, size_t n, struct batch *b)
{
    if (s->origin != GIVEN && count == 1 && n != SHORT_GROUP)
        find_one(s, at, n, b);
    else if (s->origin == SYMMETRIC)
        find_symmetric(s, at, count, n, b);
    else if (s->origin == ASYMMETRIC)
        find_asymmetric(s, at, count, n, b);
    else
        take_given(s, at, count, b);
}

/* ---- codes ---------------------------------------------------------------------------------------------------- */

/* What all codes of a batch share, in variables that no store of a code can change, so that loops keep them in
 * registers: read from *s for each block they took load ports, which are what is short.  `zeros`, a constant: whether
 * the groups have zero points of their own; without, all start at one place. */
struct shared {
    struct grid_bounds bounds;
    v16f start;
    int zeros;
};

QLM_INLINE struct place group_place(const struct batch *b, size_t g, const struct shared *all)
{ return (struct place){v16_f_set1(b->inverse[g]), all->zeros ? v16_f_set1(b->start[g]) : all->start}; }

QLM_OUTLINE int divide_group(const struct groups *s, size_t g, float zero, size_t from, size_t count)
{
    struct codes codes = {s->scale[g], zero, s->lo, s->hi};
    size_t at = g * s->n + from;
    return divide_span_to_bytes(s->x + at, count, codes, s->out + at);
}

/* Two groups of 32 in one block: a block of a single one would leave half of it empty. */
QLM_INLINE int pair_to_bytes(const struct groups *s, size_t at, const struct batch *b, size_t g,
                             const struct shared *all, enum span_kind kind)
{
    const float *x = s->x + (at + g) * SHORT_GROUP;
    struct place first = group_place(b, g, all), second = group_place(b, g + 1, all);
    struct places places = {{place_of(x, 64, 0, &first), place_of(x, 64, 1, &first), place_of(x, 64, 2, &second),
                             place_of(x, 64, 3, &second)}};
    if (near_step(&places, &all->bounds))
        return divide_group(s, at + g, b->zero[g], 0, SHORT_GROUP) |
               divide_group(s, at + g + 1, b->zero[g + 1], 0, SHORT_GROUP);
    store_bytes(s->out + (at + g) * SHORT_GROUP, &places, &all->bounds, kind);
    return 0;
}

QLM_INLINE int group_to_bytes(const struct groups *s, size_t g, size_t n, const struct place *p, float zero,
                              const struct shared *all, enum span_kind kind, size_t ahead)
{
    struct codes codes = {s->scale[g], zero, s->lo, s->hi};
    const float *x = s->x + g * n;
    uint8_t *out = s->out + g * n;
    return blocks_to_bytes(x, n, p, &all->bounds, codes, kind, ahead, all->bounds.stream, out) |
           rest_to_bytes(x, n, p, &all->bounds, codes, out);
}

QLM_INLINE int batch_to_bytes(const struct groups *s, size_t at, size_t count, size_t n, const struct batch *b,
                              int zeros, enum span_kind kind, size_t ahead)
{
    struct shared all = {s->bounds, v16_f_set1(b->start[0]), zeros};
    size_t g = 0;
    int bad = 0;
    for (; n == SHORT_GROUP && g + 2 <= count; g += 2) {
        ask_for(s->x + (at + g) * n, ahead, all.bounds.stream);
        bad |= pair_to_bytes(s, at, b, g, &all, kind);
    }
    for (; g < count; g++) {
        struct place place = group_place(b, g, &all);
        bad |= group_to_bytes(s, at + g, n, &place, b->zero[g], &all, kind, ahead);
    }
    return bad;
}

/* ---- all of it ------------------------------------------------------------------------------------------------- */

QLM_INLINE size_t least_of(size_t a, size_t b) { return a < b ? a : b; }

/* `n` is s->n, or the constant 32. */
QLM_INLINE int groups_to_bytes(const struct groups *s, size_t n, int zeros, enum span_kind kind)
{
    struct batch batches[2];
    size_t fitting = n <= BATCH_FLOATS / BATCH_GROUPS ? BATCH_GROUPS : BATCH_FLOATS / n;
    size_t batch = s->origin == GIVEN ? BATCH_GROUPS : fitting, ahead = s->origin == GIVEN ? 0 : 2 * batch * n;
    v16f zero = v16_f_set1(s->middle), start = v16_f_set1(start_for(s->middle, s->bounds.slack));
    int bad = 0, odd = 0;
    for (int i = 0; i < 2; i++) {
        v16_f_store(batches[i].zero, zero);
        v16_f_store(batches[i].start, start);
    }
    for (size_t at = 0; at < s->count + batch; at += batch, odd = !odd) {
        if (at < s->count) take_parameters(s, at, least_of(batch, s->count - at), n, &batches[odd]);
        if (at < batch) continue;
        size_t count = least_of(batch, s->count + batch - at);
        bad |= batch_to_bytes(s, at - batch, count, n, &batches[!odd], zeros, kind, ahead);
    }
    return bad;
}

/* Each is a function, so that its loops have all registers, and works on a copy of the struct: codes are bytes, which
 * might lie in the caller's. */
#define GROUPS_LOOP(name, from, zeros, kind)                                                                           \
    QLM_OUTLINE int name(const struct groups *given)                                                                   \
    {                                                                                                                  \
        struct groups s = *given;                                                                                      \
        s.origin = from;                                                                                               \
        return groups_to_bytes(&s, s.n, zeros, kind);                                                                  \
    }                                                                                                                  \
    QLM_OUTLINE int name##_short(const struct groups *given)                                                           \
    {                                                                                                                  \
        struct groups s = *given;                                                                                      \
        s.origin = from;                                                                                               \
        s.n = SHORT_GROUP;                                                                                             \
        return groups_to_bytes(&s, SHORT_GROUP, zeros, kind);                                                          \
    }

GROUPS_LOOP(given_to_int8, GIVEN, 0, SPAN_INT8)
GROUPS_LOOP(given_without_zeros, GIVEN, 0, SPAN_OTHER)
GROUPS_LOOP(given_with_zeros, GIVEN, 1, SPAN_OTHER)
GROUPS_LOOP(symmetric_to_int8, SYMMETRIC, 0, SPAN_SYMMETRIC)
GROUPS_LOOP(symmetric_to_other, SYMMETRIC, 0, SPAN_OTHER)
GROUPS_LOOP(asymmetric_to_uint8, ASYMMETRIC, 1, SPAN_UINT8)
GROUPS_LOOP(asymmetric_to_int8, ASYMMETRIC, 1, SPAN_INT8)
GROUPS_LOOP(asymmetric_to_other, ASYMMETRIC, 1, SPAN_OTHER)

#define GROUPS_RUN(name, s) ((s)->n == SHORT_GROUP ? name##_short(s) : name(s))

QLM_INLINE void begin_groups(struct groups *s, float farthest, int stream)
{
    s->bounds = grid_bounds_of(s->lo, s->hi, farthest);
    s->bounds.stream = can_stream(stream, s->out, s->n);
}

QLM_INLINE int end_groups(const struct groups *s, int bad)
{
    if (s->bounds.stream) streams_end();
    return bad;
}

/* Groups so long that they come one by one: two of them would not stay in L1. */
QLM_INLINE int given_to_bytes(const struct groups *s)
{
    int bad = 0;
    for (size_t g = 0; g < s->count; g++) {
        struct codes codes = {s->scale[g], s->zero ? (float)s->zero[g] : 0.0f, s->lo, s->hi};
        bad |= span_within(s->x + g * s->n, s->n, codes, &s->bounds, SPAN_AHEAD, s->out + g * s->n);
    }
    return bad;
}

QLM_INLINE int found_to_bytes(const struct groups *s, enum origin origin)
{
    int bad = 0;
    for (size_t g = 0; g < s->count; g++) {
        const float *x = s->x + g * s->n;
        struct codes codes = find_row(s, origin, x, g);
        uint8_t *out = s->out + g * s->n;
        bad |= s->bounds.stream ? span_past_caches(x, s->n, codes, &s->bounds, out)
                                : span_within(x, s->n, codes, &s->bounds, s->n, out);
    }
    return bad;
}

QLM_KERNEL(int, quantize_groups_f32_8)
(const float *x, size_t groups, size_t n, const float *scale, const int32_t *zero, float lo, float hi, uint8_t *out,
 int stream)
{
    struct groups s = {.x = x, .count = groups, .n = n, .lo = lo, .hi = hi, .scale = scale, .zero = zero, .out = out};
    begin_groups(&s, zero ? hi - lo : farthest_of(0.0f, lo, hi), stream);
    if (n > BATCH_FLOATS) return end_groups(&s, given_to_bytes(&s));
    if (zero) return end_groups(&s, GROUPS_RUN(given_with_zeros, &s));
    return end_groups(&s,
                      s.bounds.kind == SPAN_INT8 ? GROUPS_RUN(given_to_int8, &s) : GROUPS_RUN(given_without_zeros, &s));
}

QLM_KERNEL(int, quantize_symmetric_f32_8)
(const float *x, size_t groups, size_t n, float bound, float middle, int half, float *scale, uint8_t *out, int stream)
{
    struct groups s = {.x = x,
                       .count = groups,
                       .n = n,
                       .lo = middle - bound,
                       .hi = middle + bound,
                       .bound = bound,
                       .middle = middle,
                       .half = half,
                       .scale = scale,
                       .found_scale = scale,
                       .out = out};
    begin_groups(&s, bound, stream);
    if (n > BATCH_FLOATS) return end_groups(&s, found_to_bytes(&s, SYMMETRIC));
    int to_int8 = s.bounds.kind == SPAN_SYMMETRIC;
    return end_groups(&s, to_int8 ? GROUPS_RUN(symmetric_to_int8, &s) : GROUPS_RUN(symmetric_to_other, &s));
}

QLM_KERNEL(int, quantize_asymmetric_f32_8)
(const float *x, size_t groups, size_t n, float lo, float hi, int half, float *scale, int32_t *zero, uint8_t *out,
 int stream)
{
    struct groups s = {.x = x,
                       .count = groups,
                       .n = n,
                       .lo = lo,
                       .hi = hi,
                       .half = half,
                       .scale = scale,
                       .found_scale = scale,
                       .found_zero = zero,
                       .out = out};
    begin_groups(&s, hi - lo, stream);
    if (n > BATCH_FLOATS) return end_groups(&s, found_to_bytes(&s, ASYMMETRIC));
    if (s.bounds.kind == SPAN_UINT8) return end_groups(&s, GROUPS_RUN(asymmetric_to_uint8, &s));
    if (s.bounds.kind == SPAN_INT8) return end_groups(&s, GROUPS_RUN(asymmetric_to_int8, &s));
    return end_groups(&s, GROUPS_RUN(asymmetric_to_other, &s));
}
