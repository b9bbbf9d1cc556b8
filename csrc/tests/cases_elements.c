/* cases_elements.c: kernels that work element by element: ranges, quantize, dequantize, add, divide, functions. */
#include <math.h>
#include <string.h>

#include "common.h"
#include "test.h"

static float *drawn_floats(struct rng *rng, enum flavour flavour, float step, size_t n)
{
    float *x = operand(n * sizeof *x);
    fill_floats(rng, flavour, step, x, n);
    return x;
}

static float *drawn_scales(struct rng *rng, size_t n)
{
    float *scale = operand(n * sizeof *scale);
    for (size_t i = 0; i < n; i++) scale[i] = rng_scale(rng);
    return scale;
}

/* Of zeros, a range may hold either: qlm_range_finish makes both +0. */
static void record_range(struct record *record, const float *range, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float value = range[i] + 0.0f;
        record_floats(record, &value, 1);
    }
}

static void range_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    float *x = drawn_floats(rng, rng_flavour(rng), 1.0f, n), range[2] = {INFINITY, -INFINITY};
    record_int(record, kernels->range_f32(x, n, &range[0], &range[1]));
    record_range(record, range, 2);
}

static void range_cols_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    float *x = drawn_floats(rng, rng_flavour(rng), 1.0f, n);
    float *min = drawn_floats(rng, PLAIN, 1.0f, n), *max = drawn_floats(rng, PLAIN, 1.0f, n);
    record_int(record, kernels->range_cols_f32(x, n, min, max));
    record_range(record, min, n);
    record_range(record, max, n);
}

/* ---- quantize ------------------------------------------------------------------------------------------------- */

struct bounds {
    float zero, lo, hi;
};

static struct bounds drawn_bounds(struct rng *rng, const struct qlm_type *type)
{
    int32_t lo, hi;
    qlm_code_bounds(type, rng_below(rng, 2) == 0, &lo, &hi);
    return (struct bounds){(float)rng_between(rng, type->min, type->max), (float)lo, (float)hi};
}

static void record_codes(struct record *record, const float *x, const void *codes, size_t size, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (qlm_is_finite(x[i])) record_bytes(record, (const char *)codes + i * size, size);
}

static void quantize(const struct qlm_kernels *kernels, struct rng *rng, struct record *record, int bits)
{
    size_t n = rng_length(rng), size = bits > 8 ? 2 : 1;
    struct bounds b = drawn_bounds(rng, &test_types[bits > 8 ? 4 + rng_below(rng, 2) : rng_below(rng, 4)]);
    float scale = rng_scale(rng), *x = drawn_floats(rng, rng_flavour(rng), scale, n);
    void *codes = operand(n * size);
    record_int(record, bits > 8 ? kernels->quantize_f32_16(x, n, scale, b.zero, b.lo, b.hi, codes)
                                : kernels->quantize_f32_8(x, n, scale, b.zero, b.lo, b.hi, codes));
    record_codes(record, x, codes, size, n);
}

static void quantize_f32_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ quantize(kernels, rng, record, 8); }

static void quantize_f32_16(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ quantize(kernels, rng, record, 16); }

static void quantize_cols(const struct qlm_kernels *kernels, struct rng *rng, struct record *record, int bits)
{
    size_t n = rng_length(rng), size = bits > 8 ? 2 : 1;
    struct bounds b = drawn_bounds(rng, &test_types[bits > 8 ? 4 + rng_below(rng, 2) : rng_below(rng, 4)]);
    float *scale = drawn_scales(rng, n), *zero = operand(n * sizeof *zero);
    for (size_t i = 0; i < n; i++) zero[i] = (float)rng_between(rng, (int64_t)b.lo, (int64_t)b.hi);
    float *x = drawn_floats(rng, rng_flavour(rng), n ? scale[0] : 1.0f, n);
    float *inverse = operand(n * sizeof *inverse), *start = operand(n * sizeof *start);
    void *codes = operand(n * size);
    if (bits <= 8) kernels->column_places_f32(scale, zero, n, b.lo, b.hi, inverse, start);
    if (rng_below(rng, 3) == 0) inverse = start = NULL;
    record_int(record, bits > 8 ? kernels->quantize_cols_f32_16(x, n, scale, zero, b.lo, b.hi, codes)
                                : kernels->quantize_cols_f32_8(x, n, scale, zero, b.lo, b.hi, inverse, start, codes));
    record_codes(record, x, codes, size, n);
}

/* Of a scale that may not be used, the inverse is a NaN of any bits. */
static void column_places_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    struct bounds b = drawn_bounds(rng, &test_types[rng_below(rng, 4)]);
    float *scale = drawn_scales(rng, n), *zero = operand(n * sizeof *zero);
    for (size_t i = 0; i < n; i++) zero[i] = (float)rng_between(rng, (int64_t)b.lo - 3, (int64_t)b.hi + 3);
    float *inverse = operand(n * sizeof *inverse), *start = operand(n * sizeof *start);
    kernels->column_places_f32(scale, zero, n, b.lo, b.hi, inverse, start);
    record_numbers(record, inverse, n);
    record_floats(record, start, n);
}

static void quantize_cols_f32_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ quantize_cols(kernels, rng, record, 8); }

static void quantize_cols_f32_16(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ quantize_cols(kernels, rng, record, 16); }

/* 32 has a loop of its own, and 16 groups are taken at a time. */
struct groups {
    size_t count, n;
};

static struct groups drawn_groups(struct rng *rng)
{
    size_t n = rng_below(rng, 2) ? 32 : 1 + rng_below(rng, 140);
    return (struct groups){rng_below(rng, 2) ? rng_below(rng, 5) : rng_below(rng, 140), n};
}

static int32_t *maybe_zeros(struct rng *rng, const struct qlm_type *type, size_t n)
{
    if (!rng_below(rng, 2)) return NULL;
    int32_t *zero = operand(n * sizeof *zero);
    fill_ints(rng, type->min, type->max, zero, n);
    return zero;
}

static void quantize_groups_f32_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    struct groups groups = drawn_groups(rng);
    const struct qlm_type *type = &test_types[rng_below(rng, 4)];
    int32_t *zero = maybe_zeros(rng, type, groups.count), lo, hi;
    qlm_code_bounds(type, rng_below(rng, 2) == 0, &lo, &hi);
    size_t size = groups.count * groups.n;
    float *scale = drawn_scales(rng, groups.count), *x = operand(size * sizeof *x);
    enum flavour flavour = rng_flavour(rng);
    for (size_t g = 0; g < groups.count; g++) fill_floats(rng, flavour, scale[g], x + g * groups.n, groups.n);
    uint8_t *codes = operand(size);
    record_int(record, kernels->quantize_groups_f32_8(x, groups.count, groups.n, scale, zero, (float)lo, (float)hi,
                                                      codes, (int)rng_below(rng, 2)));
    record_codes(record, x, codes, 1, size);
}

/* Rows too, of which a batch is one; finite values of any size. */
static void quantize_found(const struct qlm_kernels *kernels, struct rng *rng, struct record *record, int symmetric)
{
    struct groups groups = drawn_groups(rng);
    if (!rng_below(rng, 4)) groups = (struct groups){rng_below(rng, 5), 1 + rng_below(rng, 5000)};
    const struct qlm_type *type = &test_types[rng_below(rng, 4)];
    size_t size = groups.count * groups.n;
    float *x = operand(size * sizeof *x), *scale = operand(groups.count * sizeof *scale);
    int32_t *zero = operand(groups.count * sizeof *zero), bound = (1 << (type->bits - 1)) - 1;
    for (size_t g = 0; g < groups.count; g++)
        fill_floats(rng, rng_flavour(rng), rng_scale(rng), x + g * groups.n, groups.n);
    uint8_t *codes = operand(size);
    int half = (int)rng_below(rng, 2), stream = (int)rng_below(rng, 2);
    int bad = symmetric ? kernels->quantize_symmetric_f32_8(x, groups.count, groups.n, (float)bound,
                                                            (float)(type->max - bound), half, scale, codes, stream)
                        : kernels->quantize_asymmetric_f32_8(x, groups.count, groups.n, (float)type->min,
                                                             (float)type->max, half, scale, zero, codes, stream);
    record_int(record, bad);
    for (size_t g = 0; g < groups.count; g++) {
        size_t finite = 0;
        while (finite < groups.n && qlm_is_finite(x[g * groups.n + finite])) finite++;
        if (finite < groups.n) continue;
        record_floats(record, scale + g, 1);
        if (!qlm_is_finite(scale[g])) continue;
        if (!symmetric) record_int(record, zero[g]);
        record_codes(record, x + g * groups.n, codes + g * groups.n, 1, groups.n);
    }
}

static void quantize_symmetric_f32_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ quantize_found(kernels, rng, record, 1); }

static void quantize_asymmetric_f32_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ quantize_found(kernels, rng, record, 0); }

static void interval_f32_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    const struct qlm_type *type = &test_types[rng_below(rng, 4)];
    /* Half multiples of half a step lie on borders. */
    float scale = rng_scale(rng), min = ((float)rng_between(rng, -200, 0) + 0.5f) * scale;
    float *x = drawn_floats(rng, rng_flavour(rng), scale, n);
    uint8_t *codes = operand(n);
    record_int(record, kernels->interval_f32_8(x, n, min, scale, type->max - type->min + 1, type->min, codes));
    record_codes(record, x, codes, 1, n);
}

/* ---- dequantize ----------------------------------------------------------------------------------------------- */

#define DEQUANTIZE_CASES(NAME, CODE, TYPE)                                                                             \
    static void dequantize_##NAME##_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)     \
    {                                                                                                                  \
        size_t n = rng_length(rng);                                                                                    \
        CODE *codes = operand(n * sizeof *codes);                                                                      \
        fill_codes(rng, &test_types[TYPE], codes, n);                                                                  \
        float scale = rng_scale(rng), zero = (float)rng_between(rng, test_types[TYPE].min, test_types[TYPE].max);      \
        float offset = rng_below(rng, 2) ? -0.0f : rng_scale(rng), *out = operand(n * sizeof *out);                    \
        kernels->dequantize_##NAME##_f32(codes, n, scale, zero, offset, out);                                          \
        record_floats(record, out, n);                                                                                 \
    }                                                                                                                  \
    static void dequantize_groups_##NAME##_f32(const struct qlm_kernels *kernels, struct rng *rng,                     \
                                               struct record *record)                                                  \
    {                                                                                                                  \
        struct groups groups = drawn_groups(rng);                                                                      \
        size_t size = groups.count * groups.n;                                                                         \
        CODE *codes = operand(size * sizeof *codes);                                                                   \
        fill_codes(rng, &test_types[TYPE], codes, size);                                                               \
        float *scale = drawn_scales(rng, groups.count), *out = operand(size * sizeof *out);                            \
        float *offset = rng_below(rng, 2) ? drawn_floats(rng, EXTREME, 1.0f, groups.count) : NULL;                     \
        int32_t *zero = maybe_zeros(rng, &test_types[TYPE], groups.count);                                             \
        kernels->dequantize_groups_##NAME##_f32(codes, groups.count, groups.n, scale, zero, offset, out,               \
                                                (int)rng_below(rng, 2));                                               \
        record_floats(record, out, size);                                                                              \
    }                                                                                                                  \
    static void dequantize_cols_##NAME##_f32(const struct qlm_kernels *kernels, struct rng *rng,                       \
                                             struct record *record)                                                    \
    {                                                                                                                  \
        size_t n = rng_length(rng);                                                                                    \
        CODE *codes = operand(n * sizeof *codes);                                                                      \
        fill_codes(rng, &test_types[TYPE], codes, n);                                                                  \
        float *scale = drawn_scales(rng, n), *zero = operand(n * sizeof *zero);                                        \
        for (size_t i = 0; i < n; i++) zero[i] = (float)rng_between(rng, test_types[TYPE].min, test_types[TYPE].max);  \
        float *offset = drawn_floats(rng, EXTREME, 1.0f, n), *out = operand(n * sizeof *out);                          \
        kernels->dequantize_cols_##NAME##_f32(codes, n, scale, zero, offset, out);                                     \
        record_floats(record, out, n);                                                                                 \
    }

DEQUANTIZE_CASES(s8, int8_t, 0)
DEQUANTIZE_CASES(u8, uint8_t, 1)
DEQUANTIZE_CASES(s16, int16_t, 4)
DEQUANTIZE_CASES(u16, uint16_t, 5)

/* ---- add, divide, functions ----------------------------------------------------------------------------------- */

static void add_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    float *a = drawn_floats(rng, rng_flavour(rng), 1.0f, n), *b = drawn_floats(rng, rng_flavour(rng), 1.0f, n);
    float *out = rng_below(rng, 2) ? a : operand(n * sizeof *out);
    kernels->add_f32(a, b, n, out);
    record_floats(record, out, n);
}

static void divide_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    static const float divisors[] = {0.0f, 1.0f, 3.0f, 1e-12f, INFINITY, NAN, 0x1p-140f};
    size_t n = rng_length(rng);
    float *x = drawn_floats(rng, rng_flavour(rng), 1.0f, n), divisor = divisors[rng_below(rng, 7)];
    float *out = rng_below(rng, 2) ? x : operand(n * sizeof *out);
    kernels->divide_f32(x, n, divisor, out);
    record_floats(record, out, n);
}

static void map_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    int function = (int)rng_below(rng, QLM_FUNCTION_COUNT);
    float *x = drawn_floats(rng, rng_flavour(rng), 0.25f, n), *out = operand(n * sizeof *out);
    kernels->map_f32(function, x, n, out);
    record_int(record, function);
    record_floats(record, out, n);
}

static void lsq_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    struct bounds b = drawn_bounds(rng, &test_types[rng_below(rng, TYPE_COUNT)]);
    float scale = rng_scale(rng), *x = drawn_floats(rng, rng_flavour(rng), scale, n);
    float *grad = drawn_floats(rng, rng_flavour(rng), 1.0f, n), *grad_x = operand(n * sizeof *grad_x);
    float sum = kernels->lsq_f32(grad, x, n, scale, b.zero, b.lo, b.hi, grad_x);
    record_numbers(record, &sum, 1);
    record_numbers(record, grad_x, n);
}

const struct kernel_case element_kernel_cases[] = {
    {"range_f32", range_f32},
    {"range_cols_f32", range_cols_f32},
    {"quantize_f32_8", quantize_f32_8},
    {"quantize_f32_16", quantize_f32_16},
    {"quantize_groups_f32_8", quantize_groups_f32_8},
    {"quantize_symmetric_f32_8", quantize_symmetric_f32_8},
    {"quantize_asymmetric_f32_8", quantize_asymmetric_f32_8},
    {"column_places_f32", column_places_f32},
    {"quantize_cols_f32_8", quantize_cols_f32_8},
    {"quantize_cols_f32_16", quantize_cols_f32_16},
    {"interval_f32_8", interval_f32_8},
    {"dequantize_s8_f32", dequantize_s8_f32},
    {"dequantize_u8_f32", dequantize_u8_f32},
    {"dequantize_s16_f32", dequantize_s16_f32},
    {"dequantize_u16_f32", dequantize_u16_f32},
    {"dequantize_groups_s8_f32", dequantize_groups_s8_f32},
    {"dequantize_groups_u8_f32", dequantize_groups_u8_f32},
    {"dequantize_groups_s16_f32", dequantize_groups_s16_f32},
    {"dequantize_groups_u16_f32", dequantize_groups_u16_f32},
    {"dequantize_cols_s8_f32", dequantize_cols_s8_f32},
    {"dequantize_cols_u8_f32", dequantize_cols_u8_f32},
    {"dequantize_cols_s16_f32", dequantize_cols_s16_f32},
    {"dequantize_cols_u16_f32", dequantize_cols_u16_f32},
    {"add_f32", add_f32},
    {"divide_f32", divide_f32},
    {"map_f32", map_f32},
    {"lsq_f32", lsq_f32},
    {NULL, NULL},
};
