/* drivers_arrays.c: ranges, quantize, dequantize and gradients over whole arrays. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "cpu.h"
#include "test.h"

struct array {
    struct qlm_layout layout;
    size_t size, params;
    struct qlm_type type;
    float *x, *scale;
    int32_t *zero;
    void *codes;
    /* results */
    float *min, *max, *out;
    size_t bad;
    int32_t lo, hi;
};

static struct qlm_layout drawn_layout(struct rng *rng)
{
    size_t large = rng_below(rng, 8) ? 1 : 40; /* some are shared between threads */
    switch (rng_below(rng, 6)) {
    case 0:
        return (struct qlm_layout){1, 1, rng_length(rng) * 10 * large, 0};
    case 1:
        return (struct qlm_layout){rng_below(rng, 5), rng_below(rng, 7), rng_length(rng) * large, 0};
    case 2:
        return (struct qlm_layout){1 + rng_below(rng, 40 * large), 1 + rng_below(rng, 700), 1, 0};
    case 3:
        return (struct qlm_layout){1, 1 + rng_below(rng, 9), 1 + rng_length(rng) * large, 1 + rng_below(rng, 70)};
    case 4:
        return (struct qlm_layout){1, rng_below(rng, 9), rng_length(rng), 1};
    default:
        return (struct qlm_layout){1, rng_length(rng), 1 + rng_length(rng), 0};
    }
}

static struct array drawn_array(struct rng *rng, enum flavour flavour)
{
    struct array a = {.layout = drawn_layout(rng), .type = test_types[rng_below(rng, TYPE_COUNT)]};
    a.size = a.layout.outer * a.layout.channels * a.layout.inner;
    a.params = qlm_layout_params(&a.layout);
    a.x = must_alloc(a.size * sizeof(float));
    a.scale = must_alloc(a.params * sizeof(float));
    a.zero = rng_below(rng, 3) ? must_alloc(a.params * sizeof(int32_t)) : NULL;
    a.codes = must_alloc(a.size * 2);
    a.min = must_alloc(a.params * sizeof(float));
    a.max = must_alloc(a.params * sizeof(float));
    a.out = must_alloc(a.size * sizeof(float));
    for (size_t i = 0; i < a.params; i++) a.scale[i] = rng_scale(rng);
    if (a.zero) fill_ints(rng, a.type.min, a.type.max, a.zero, a.params);
    fill_floats(rng, flavour, a.params ? a.scale[0] : 1.0f, a.x, a.size);
    qlm_code_bounds(&a.type, (int)rng_below(rng, 2), &a.lo, &a.hi);
    memset(a.codes, 0, a.size * 2);
    a.bad = SIZE_MAX;
    return a;
}

static void free_array(struct array *a)
{
    void *blocks[] = {a->x, a->scale, a->zero, a->codes, a->min, a->max, a->out};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) free(blocks[i]);
}

static void keep_first(struct array *a, size_t bad)
{
    if (bad < a->bad) a->bad = bad;
}

/* The index of the first bad value means all before it are good; a sliced call finds the same one. */
static void record_bad(struct record *record, const struct array *a) { record_bytes(record, &a->bad, sizeof a->bad); }

static void find_ranges(void *context, size_t begin, size_t end)
{
    struct array *a = context;
    size_t bad;
    qlm_range(a->x, &a->layout, begin, end, a->min, a->max, &bad);
    keep_first(a, bad);
}

static void draw_ranges(const struct manner *manner, struct array *a)
{
    for (size_t i = 0; i < a->params; i++) {
        a->min[i] = INFINITY;
        a->max[i] = -INFINITY;
    }
    in_slices(manner, a->size, find_ranges, a);
    qlm_range_finish(a->min, a->max, a->params);
}

static void range(const struct manner *manner, struct rng *rng, struct record *record)
{
    struct array a = drawn_array(rng, rng_flavour(rng));
    draw_ranges(manner, &a);
    record_bad(record, &a);
    record_floats(record, a.min, a.params);
    record_floats(record, a.max, a.params);
    free_array(&a);
}

static void quantize_slice(void *context, size_t begin, size_t end)
{
    struct array *a = context;
    keep_first(a, qlm_quantize(a->x, &a->layout, begin, end, &a->type, a->lo, a->hi, a->scale, a->zero, a->codes));
}

static void dequantize_slice(void *context, size_t begin, size_t end)
{
    struct array *a = context;
    qlm_dequantize(a->codes, a->type.code, &a->layout, begin, end, a->scale, a->zero, NULL, a->out);
}

static void record_codes(struct record *record, const struct array *a)
{
    for (size_t i = 0; i < a->size; i++)
        if (qlm_is_finite(a->x[i])) record_int(record, code_at(&a->type, a->codes, i));
}

/* With a last cache of nothing, results are stored past it.  Returns the sizes to be put back. */
static struct qlm_caches maybe_no_cache(struct rng *rng)
{
    struct qlm_caches real = qlm_cpu_caches(), none = {real.l1, real.l2, 0};
    if (rng_below(rng, 2)) qlm_cpu_pretend_caches(none);
    return real;
}

static void quantize(const struct manner *manner, struct rng *rng, struct record *record)
{
    struct array a = drawn_array(rng, rng_flavour(rng));
    struct qlm_caches caches = maybe_no_cache(rng);
    in_slices(manner, a.size, quantize_slice, &a);
    record_bad(record, &a);
    record_codes(record, &a);
    if (a.bad == SIZE_MAX) {
        in_slices(manner, a.size, dequantize_slice, &a);
        record_floats(record, a.out, a.size);
    }
    qlm_cpu_pretend_caches(caches);
    free_array(&a);
}

/* ---- quantize by the ranges found ------------------------------------------------------------------------------ */

struct found_array {
    struct array array;
    size_t n;
    int symmetric, half;
};

static void found_slice(void *context, size_t begin, size_t end)
{
    struct found_array *f = context;
    struct array *a = &f->array;
    keep_first(a, qlm_quantize_found(a->x, f->n, a->params, begin, end, &a->type, f->symmetric, f->half, a->scale,
                                     a->zero, a->codes));
}

static void quantize_found(const struct manner *manner, struct rng *rng, struct record *record)
{
    struct found_array f = {.array = drawn_array(rng, rng_flavour(rng)), .symmetric = (int)rng_below(rng, 2)};
    struct array *a = &f.array;
    struct qlm_caches caches = maybe_no_cache(rng);
    /* As many runs of one length as the array has room for. */
    f.n = rng_below(rng, 2) ? 32 : 1 + rng_below(rng, 400);
    f.half = a->type.bits <= 8 && rng_below(rng, 2);
    a->params = qlm_min_size(a->params, a->size / f.n);
    a->size = a->params * f.n;
    if (!(f.symmetric && a->type.min < 0) && !a->zero) a->zero = must_alloc((a->params + 1) * sizeof *a->zero);
    in_slices(manner, a->params, found_slice, &f);
    record_bad(record, a);
    for (size_t i = 0; a->bad == SIZE_MAX && i < a->params; i++) {
        record_floats(record, a->scale + i, 1);
        if (!qlm_is_finite(a->scale[i])) continue;
        if (a->zero) record_int(record, a->zero[i]);
        for (size_t k = i * f.n; k < (i + 1) * f.n; k++) record_int(record, code_at(&a->type, a->codes, k));
    }
    qlm_cpu_pretend_caches(caches);
    free_array(a);
}

/* ---- the interval grid ---------------------------------------------------------------------------------------- */

struct interval_array {
    struct array array;
    float *offset;
    uint8_t *constant;
};

static void interval_slice(void *context, size_t begin, size_t end)
{
    struct interval_array *i = context;
    struct array *a = &i->array;
    keep_first(a,
               qlm_quantize_interval(a->x, &a->layout, begin, end, &a->type, a->min, a->scale, i->constant, a->codes));
}

static void dequantize_interval_slice(void *context, size_t begin, size_t end)
{
    struct interval_array *i = context;
    struct array *a = &i->array;
    qlm_dequantize(a->codes, a->type.code, &a->layout, begin, end, a->scale, NULL, i->offset, a->out);
}

static void interval(const struct manner *manner, struct rng *rng, struct record *record)
{
    struct interval_array i = {.array = drawn_array(rng, rng_flavour(rng))};
    struct array *a = &i.array;
    i.offset = must_alloc(a->params * sizeof(float));
    i.constant = must_alloc(a->params);
    draw_ranges(manner, a);
    for (size_t p = 0; p < a->params; p++) {
        int constant;
        record_int(record, qlm_interval_params(a->min[p], a->max[p], &a->type, &a->scale[p], &i.offset[p], &constant));
        i.constant[p] = (uint8_t)constant;
    }
    in_slices(manner, a->size, interval_slice, &i);
    record_bad(record, a);
    record_codes(record, a);
    if (a->bad == SIZE_MAX) {
        in_slices(manner, a->size, dequantize_interval_slice, &i);
        record_numbers(record, a->out, a->size);
    }
    free(i.offset);
    free(i.constant);
    free_array(a);
}

/* ---- the rest ------------------------------------------------------------------------------------------------- */

static void replace_slice(void *context, size_t begin, size_t end)
{
    struct array *a = context;
    qlm_replace_nonfinite(a->x, &a->layout, begin, end, a->min, a->max, a->x);
}

static void replace_nonfinite(const struct manner *manner, struct rng *rng, struct record *record)
{
    struct array a = drawn_array(rng, NONFINITE);
    int finite = 1;
    draw_ranges(manner, &a);
    in_slices(manner, a.size, replace_slice, &a);
    for (size_t i = 0; i < a.size; i++) finite &= qlm_is_finite(a.x[i]);
    record_int(record, finite);
    record_floats(record, a.x, a.size);
    free_array(&a);
}

static void fake_quantize_backward(const struct manner *manner, struct rng *rng, struct record *record)
{
    struct array a = drawn_array(rng, rng_below(rng, 2) ? PLAIN : TIES);
    float *grad = must_alloc(a.size * sizeof *grad);
    double *grad_scale = must_alloc(a.params * sizeof *grad_scale);
    (void)manner;
    fill_floats(rng, PLAIN, 1.0f, grad, a.size);
    for (size_t i = 0; i < a.params; i++) grad_scale[i] = 0;
    qlm_fake_quantize_backward(grad, a.x, &a.layout, &a.type, a.scale, a.zero, a.out, grad_scale);
    record_floats(record, a.out, a.size);
    record_bytes(record, grad_scale, a.params * sizeof *grad_scale);
    free(grad);
    free(grad_scale);
    free_array(&a);
}

const struct driver_case array_cases[] = {
    {"range", range},
    {"quantize", quantize},
    {"quantize_found", quantize_found},
    {"interval", interval},
    {"replace_nonfinite", replace_nonfinite},
    {"fake_quantize_backward", fake_quantize_backward},
    {NULL, NULL},
};
