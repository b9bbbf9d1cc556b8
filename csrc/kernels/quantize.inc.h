/* quantize.inc.h: float32 to codes, for the quantize kernels and for the left operand of an int8 product.
 *
 * Division is slow, so a span is multiplied by the reciprocal, and divided only where that could give another code.
 * That gives the place i = rint(fma(x, 2^16 fl(1 / s), c)), c = 2^16 (zero + 1/2) + slack, of x among the codes: its
 * high 16 bits, signed, are the code, to be clamped, its low 16 bits tell how far x is from the next lower step.
 *
 * In exact arithmetic let v = x / s, lo <= zero <= hi, D the farthest of lo and hi from zero, u = 2^-24; places are in
 * units of 2^-16 codes, and slack is left out.  The quotient d = fl(v), which defines the code, is off by at most
 * 2^16 u |v| = |v| / 256; the reciprocal makes x fl(1 / s) off by as much (it is normal, or not used); codes are bytes,
 * so the sum is below 2^24, and fma and rint together are off by at most 3/4.  The code is a step function of d; its
 * steps are at whole multiples of 2^16, where |v| <= D - 1/2.  If i and d are on different sides of a step (or d is on
 * it), i is no farther from the step than from d: less than E = D / 128 + 3/4, so with slack = floor(E) the low 16 bits
 * of i are within 0 .. 2 slack, and that is the test.  Beyond the last step both are clamped, as both are monotone in
 * x.  Where x is NaN or infinite, or the place is no int32, v16_i_fixed makes the low bits zero, so these divide too;
 * and a reciprocal that may not be used is NaN, which divides all.
 *
 * Packing to bytes of the codes' kind clamps to all that such bytes hold, and int8 and uint8 codes mostly span that:
 * what the span leaves out (the -128 of symmetric codes, all past four bits) takes an instruction for each end.
 */
struct codes {
    float scale, zero, lo, hi; /* for dividing */
};

/* Spans that have a loop of their own: all of uint8, all of int8, int8 without the least, and any other. */
enum span_kind { SPAN_UINT8, SPAN_INT8, SPAN_SYMMETRIC, SPAN_OTHER };

/* `call`, a statement that reads KIND, with that a constant. */
#define SPAN_CASE(label, value, call)                                                                                  \
    label:                                                                                                             \
    {                                                                                                                  \
        const enum span_kind KIND = value;                                                                             \
        call;                                                                                                          \
        break;                                                                                                         \
    }
#define FOR_SPAN(kind, call)                                                                                           \
    switch (kind) {                                                                                                    \
        SPAN_CASE(case SPAN_UINT8, SPAN_UINT8, call)                                                                   \
        SPAN_CASE(case SPAN_INT8, SPAN_INT8, call)                                                                     \
        SPAN_CASE(case SPAN_SYMMETRIC, SPAN_SYMMETRIC, call)                                                           \
        SPAN_CASE(default, SPAN_OTHER, call)                                                                           \
    }

/* What spans that share their bounds share, whatever their scales. */
struct grid_bounds {
    float slack;
    v16i border; /* 2 slack + 1 */
    enum span_kind kind;
    int signed_bytes;
    v64b least, most; /* lo, hi */
    v16i least_word, most_word;
    int stream; /* store past the caches */
};

QLM_INLINE enum span_kind span_kind_of(float lo, float hi)
{
    if (lo == 0.0f && hi == 255.0f) return SPAN_UINT8;
    if (hi == 127.0f && (lo == -128.0f || lo == -127.0f)) return lo == -128.0f ? SPAN_INT8 : SPAN_SYMMETRIC;
    return SPAN_OTHER;
}

struct place {
    v16f inverse, start; /* 2^16 fl(1 / s), c */
};

/* farthest: at least D. */
QLM_INLINE struct grid_bounds grid_bounds_of(float lo, float hi, float farthest)
{
    float slack = (float)(int)(farthest * 0x1p-7f + 0.75f);
    return (struct grid_bounds){.slack = slack,
                                .border = v16_i_set1(2 * (int)slack + 1),
                                .kind = span_kind_of(lo, hi),
                                .signed_bytes = lo < 0.0f,
                                .least = v64_b_set1((int)lo),
                                .most = v64_b_set1((int)hi),
                                .least_word = v16_i_set1((int)lo),
                                .most_word = v16_i_set1((int)hi)};
}

QLM_INLINE float farthest_of(float zero, float lo, float hi) { return hi - zero > zero - lo ? hi - zero : zero - lo; }

QLM_INLINE int are_bytes(float lo, float hi) { return lo < 0.0f ? lo >= -128.0f && hi <= 127.0f : hi <= 255.0f; }

/* Of one span: branches that are foreseen take no time, where masks would make the first block wait for them. */
QLM_INLINE float inverse_for(struct codes c)
{
    float inverse = 1.0f / c.scale;
    int normal = inverse >= 0x1p-126f && inverse <= 0x1p111f;
    if (!normal || !(c.zero >= c.lo && c.zero <= c.hi && are_bytes(c.lo, c.hi))) return __builtin_nanf("");
    return inverse * 0x1p16f;
}

QLM_INLINE float start_for(float zero, float slack) { return (zero + 0.5f) * 0x1p16f + slack; }

QLM_INLINE struct place place_for(struct codes c, float slack)
{ return (struct place){v16_f_set1(inverse_for(c)), v16_f_set1(start_for(c.zero, slack))}; }

/* The same of 16 spans, a lane each. */
QLM_INLINE struct place places_for(v16f scale, v16f zero, float lo, float hi, float slack)
{
    v16f inverse = v16_f_div(v16_f_set1(1.0f), scale);
    v16m normal = v16_m_and(v16_f_ge(inverse, v16_f_set1(0x1p-126f)), v16_f_le(inverse, v16_f_set1(0x1p111f)));
    v16m inside = v16_m_and(v16_f_ge(zero, v16_f_set1(lo)), v16_f_le(zero, v16_f_set1(hi)));
    v16f unusable = v16_f_set1(__builtin_nanf("")), unit = v16_f_set1(0x1p16f);
    inverse = v16_f_select(v16_m_and(normal, inside), v16_f_mul(inverse, unit), unusable);
    v16f start = v16_f_add(v16_f_mul(v16_f_add(zero, v16_f_set1(0.5f)), unit), v16_f_set1(slack));
    return (struct place){are_bytes(lo, hi) ? inverse : unusable, start};
}

QLM_INLINE v16i clamp_codes(v16f rounded, v16f zero, v16f lo, v16f hi)
{ return v16_i_from_f(v16_f_min(v16_f_max(v16_f_add(rounded, zero), lo), hi)); }

/* Makes lanes of *taint NaN where x is not finite. */
QLM_INLINE void taint_by(v16f *taint, v16f x) { *taint = v16_f_add(*taint, v16_f_mul(x, v16_f_set1(0.0f))); }

QLM_INLINE int is_tainted(v16f taint) { return v16_m_any(v16_f_is_nan(taint)); }

/* `bytes` is a constant: 1 or 2, of each code that is stored. */
QLM_INLINE void store_codes(int bytes, void *out, size_t i, size_t count, v16i codes)
{
    if (bytes == 1)
        v16_store_low8_n((uint8_t *)out + i, count, codes);
    else
        v16_store_low16_n((uint16_t *)out + i, count, codes);
}

/* The definition: by division. */
QLM_INLINE int divide_span(const float *x, size_t n, struct codes c, int bytes, void *out)
{
    v16f scale = v16_f_set1(c.scale), zero = v16_f_set1(c.zero), lo = v16_f_set1(c.lo), hi = v16_f_set1(c.hi);
    v16f taint = v16_f_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) {
        size_t count = n - i < 16 ? n - i : 16;
        v16f value = v16_f_load_n(x + i, count);
        taint_by(&taint, value);
        store_codes(bytes, out, i, count, clamp_codes(v16_f_rint(v16_f_div(value, scale)), zero, lo, hi));
    }
    return is_tainted(taint);
}

/* Not inlined, so that the loops it is called from keep their registers. */
QLM_OUTLINE int divide_span_to_bytes(const float *x, size_t n, struct codes c, uint8_t *out)
{ return divide_span(x, n, c, 1, out); }

QLM_OUTLINE int divide_span_to_words(const float *x, size_t n, struct codes c, uint16_t *out)
{ return divide_span(x, n, c, 2, out); }

/* The places of 16 elements from x + 16 part on, of n <= 64 in all; missing ones are 0, which is near no step. */
QLM_INLINE size_t part_count(size_t n, size_t part)
{ return n < 16 * part ? 0 : n - 16 * part < 16 ? n - 16 * part : 16; }

QLM_INLINE v16i place_of(const float *x, size_t n, size_t part, const struct place *p)
{
    const float *from = n > 16 * part ? x + 16 * part : x;
    return v16_i_fixed(v16_f_fma(v16_f_load_n(from, part_count(n, part)), p->inverse, p->start));
}

struct places {
    v16i part[4];
};

QLM_INLINE struct places places_of(const float *x, size_t n, const struct place *p)
{ return (struct places){{place_of(x, n, 0, p), place_of(x, n, 1, p), place_of(x, n, 2, p), place_of(x, n, 3, p)}}; }

/* Whether some of them must divide. */
QLM_INLINE int near_step(const struct places *p, const struct grid_bounds *b)
{ return __builtin_expect(v64_any_low(p->part[0], p->part[1], p->part[2], p->part[3], b->border), 0); }

/* Clamped even by a range that was just found in x: another thread may have changed x since. */
QLM_INLINE v64b bytes_at(const struct places *p, const struct grid_bounds *b, enum span_kind kind)
{
    int signed_bytes = kind == SPAN_OTHER ? b->signed_bytes : kind != SPAN_UINT8;
    v64b bytes = v64_high8(p->part[0], p->part[1], p->part[2], p->part[3], signed_bytes);
    if (kind == SPAN_SYMMETRIC || kind == SPAN_OTHER) bytes = v64_b_max(bytes, b->least, signed_bytes);
    return kind == SPAN_OTHER ? v64_b_min(bytes, b->most, signed_bytes) : bytes;
}

/* A branch that is always the same one costs less than two loops of each kind. */
QLM_INLINE void store_bytes(uint8_t *out, const struct places *p, const struct grid_bounds *b, enum span_kind kind)
{
    if (b->stream)
        v64_b_stream(out, bytes_at(p, b, kind));
    else
        v64_b_store(out, bytes_at(p, b, kind));
}

QLM_INLINE int block_to_bytes(const float *x, const struct place *p, const struct grid_bounds *b, struct codes c,
                              enum span_kind kind, uint8_t *out)
{
    struct places places = places_of(x, 64, p);
    if (near_step(&places, b)) return divide_span_to_bytes(x, 64, c, out);
    store_bytes(out, &places, b, kind);
    return 0;
}

/* n < 64.  One loop needs no kind: this is not worth a copy for each. */
QLM_INLINE int part_to_bytes(const float *x, size_t n, const struct place *p, const struct grid_bounds *b,
                             struct codes c, uint8_t *out)
{
    struct places places = places_of(x, n, p);
    if (near_step(&places, b)) return divide_span_to_bytes(x, n, c, out);
    v64_b_store_part(out, n, bytes_at(&places, b, SPAN_OTHER));
    return 0;
}

QLM_INLINE void store_words(uint16_t *out, size_t n, size_t part, v16i place, const struct grid_bounds *b)
{
    size_t count = part_count(n, part);
    if (count < 16)
        v16_store_high16_part(count ? out + 16 * part : out, count, place, b->least_word, b->most_word);
    else
        v16_store_high16(out + 16 * part, place, b->least_word, b->most_word);
}

QLM_INLINE int block_to_words(const float *x, size_t n, const struct place *p, const struct grid_bounds *b,
                              struct codes c, uint16_t *out)
{
    struct places places = places_of(x, n, p);
    if (near_step(&places, b)) return divide_span_to_words(x, n, c, out);
    store_words(out, n, 0, places.part[0], b);
    store_words(out, n, 1, places.part[1], b);
    store_words(out, n, 2, places.part[2], b);
    store_words(out, n, 3, places.part[3], b);
    return 0;
}

/* Asks for the block that lies so many floats ahead; 0: for none.  `far`: from memory, to L2 alone, since what waits
 * for memory on its way to L1 leaves no room there for what the codes load (rows with AVX2 20.6 for 25.5 GB/s, Zen 4).
 */
QLM_INLINE void ask_for(const float *x, size_t ahead, int far)
{
    for (size_t i = 0; ahead && i < 64; i += 16) {
        if (far)
            __builtin_prefetch(x + ahead + i, 0, 2);
        else
            __builtin_prefetch(x + ahead + i);
    }
}

QLM_INLINE int blocks_to_bytes(const float *x, size_t n, const struct place *p, const struct grid_bounds *b,
                               struct codes c, enum span_kind kind, size_t ahead, int far, uint8_t *out)
{
    int bad = 0;
    for (size_t i = 0; i + 64 <= n; i += 64) {
        ask_for(x + i, ahead, far);
        bad |= block_to_bytes(x + i, p, b, c, kind, out + i);
    }
    return bad;
}

QLM_INLINE int rest_to_bytes(const float *x, size_t n, const struct place *p, const struct grid_bounds *b,
                             struct codes c, uint8_t *out)
{
    size_t whole = n / 64 * 64;
    return whole < n ? part_to_bytes(x + whole, n - whole, p, b, c, out + whole) : 0;
}

QLM_INLINE int blocks_to_words(const float *x, size_t n, const struct place *p, const struct grid_bounds *b,
                               struct codes c, uint16_t *out)
{
    size_t i = 0;
    int bad = 0;
    for (; i + 64 <= n; i += 64) bad |= block_to_words(x + i, 64, p, b, c, out + i);
    if (i < n) bad |= block_to_words(x + i, n - i, p, b, c, out + i);
    return bad;
}

QLM_INLINE int span_to_words(const float *x, size_t n, struct codes c, uint16_t *out)
{
    struct grid_bounds bounds = grid_bounds_of(c.lo, c.hi, farthest_of(c.zero, c.lo, c.hi));
    struct place place = place_for(c, bounds.slack);
    return blocks_to_words(x, n, &place, &bounds, c, out);
}

/* By bounds that were made with a D at least the codes'. */
QLM_INLINE int span_within(const float *x, size_t n, struct codes c, const struct grid_bounds *b, size_t ahead,
                           uint8_t *out)
{
    struct place place = place_for(c, b->slack);
    int bad;
    FOR_SPAN(b->kind, bad = blocks_to_bytes(x, n, &place, b, c, KIND, ahead, 0, out))
    return bad | rest_to_bytes(x, n, &place, b, c, out);
}

/* Of codes stored past the caches, with the next such span asked for: one loop for all kinds, as memory is slower. */
QLM_OUTLINE int span_past_caches(const float *x, size_t n, struct codes c, const struct grid_bounds *b, uint8_t *out)
{
    struct place place = place_for(c, b->slack);
    return blocks_to_bytes(x, n, &place, b, c, SPAN_OTHER, n, 1, out) | rest_to_bytes(x, n, &place, b, c, out);
}

QLM_INLINE int span_to_bytes(const float *x, size_t n, struct codes c, int stream, uint8_t *out)
{
    struct grid_bounds bounds = grid_bounds_of(c.lo, c.hi, farthest_of(c.zero, c.lo, c.hi));
    bounds.stream = stream;
    return span_within(x, n, c, &bounds, 0, out);
}

QLM_INLINE int quantize_span(const float *x, size_t n, struct codes c, int bytes, void *out)
{ return bytes == 1 ? span_to_bytes(x, n, c, 0, out) : span_to_words(x, n, c, out); }

/* ---- columns -------------------------------------------------------------------------------------------------- */

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

/* Of a single row: reciprocals of its scales would be as many divisions. */
QLM_INLINE int quantize_columns(struct column_codes c, size_t n, int bytes, void *out)
{
    v16f taint = v16_f_set1(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) store_codes(bytes, out, i, 16, column_codes(&c, i, 16, &taint));
    if (i < n) store_codes(bytes, out, i, n - i, column_codes(&c, i, n - i, &taint));
    return is_tainted(taint);
}

QLM_OUTLINE int divide_columns(const struct column_codes *c, size_t i, size_t n, uint8_t *out)
{
    struct column_codes part = *c;
    part.x += i;
    part.scale += i;
    part.zero += i;
    return quantize_columns(part, n, 1, out);
}

QLM_INLINE v16i column_place(const float *x, const float *inverse, const float *start)
{ return v16_i_fixed(v16_f_fma(v16_f_load(x), v16_f_load(inverse), v16_f_load(start))); }

/* The reciprocals of several rows' scales are made once (column_places_f32). */
QLM_INLINE int multiply_columns(const struct column_codes *c, size_t n, const float *inverse, const float *start,
                                const struct grid_bounds *b, enum span_kind kind, uint8_t *out)
{
    int bad = 0;
    for (size_t i = 0; i + 64 <= n; i += 64) {
        const float *x = c->x + i, *in = inverse + i, *from = start + i;
        struct places places = {{column_place(x, in, from), column_place(x + 16, in + 16, from + 16),
                                 column_place(x + 32, in + 32, from + 32), column_place(x + 48, in + 48, from + 48)}};
        if (near_step(&places, b))
            bad |= divide_columns(c, i, 64, out + i);
        else
            v64_b_store(out + i, bytes_at(&places, b, kind));
    }
    return bad;
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
