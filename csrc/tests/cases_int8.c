/* cases_int8.c: the kernels of the int8 product, whose form differs between tables (kernels.h).
 *
 * A left element is a code plus the table's shift; cases take the shift off again, so that all tables must record the
 * same numbers.
 */
#include <string.h>

#include "common.h"
#include "test.h"

#define COLUMNS 64
#define ROWS_MAX 36
#define DEPTH_MAX 96

/* What a left element holds beside the code. */
static int32_t left_shift(const struct qlm_kernels *kernels, const struct qlm_type *type)
{
    if (kernels->left_type == QLM_LEFT_U8) return type->min < 0 ? 128 : 0;
    return kernels->left_type == QLM_LEFT_S8 && type->min >= 0 ? -128 : 0;
}

static size_t left_size(const struct qlm_kernels *kernels) { return kernels->left_type == QLM_LEFT_S16 ? 2 : 1; }

static int32_t left_at(const struct qlm_kernels *kernels, const void *left, size_t i)
{
    switch (kernels->left_type) {
    case QLM_LEFT_U8:
        return ((const uint8_t *)left)[i];
    case QLM_LEFT_S8:
        return ((const int8_t *)left)[i];
    default:
        return ((const int16_t *)left)[i];
    }
}

static void record_left(const struct qlm_kernels *kernels, struct record *record, const void *left, size_t n,
                        int32_t shift)
{
    for (size_t i = 0; i < n; i++) record_int(record, left_at(kernels, left, i) - shift);
}

static const struct qlm_type *drawn_type(struct rng *rng) { return &test_types[rng_below(rng, 4)]; }

static float *drawn_floats(struct rng *rng, enum flavour flavour, float step, size_t n)
{
    float *x = operand(n * sizeof *x);
    fill_floats(rng, flavour, step, x, n);
    return x;
}

/* Codes of values that are not finite are unspecified. */
static enum flavour finite_flavour(struct rng *rng)
{
    enum flavour flavour = rng_flavour(rng);
    return flavour == NONFINITE ? PLAIN : flavour;
}

static void left_quantize(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = drawn_type(rng);
    size_t n = rng_length(rng);
    float scale = rng_scale(rng), shift = (float)left_shift(kernels, type);
    float zero = (float)rng_between(rng, type->min, type->max), *x = drawn_floats(rng, finite_flavour(rng), scale, n);
    void *left = operand(n * left_size(kernels));
    record_int(record, kernels->left_quantize(x, n, scale, zero + shift, (float)type->min + shift,
                                              (float)type->max + shift, left));
    record_left(kernels, record, left, n, (int32_t)shift);
}

static void left_quantize_cols(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = drawn_type(rng);
    size_t n = rng_length(rng);
    float shift = (float)left_shift(kernels, type), zero = (float)rng_between(rng, type->min, type->max);
    float *scale = operand(n * sizeof *scale);
    for (size_t i = 0; i < n; i++) scale[i] = rng_scale(rng);
    float *x = drawn_floats(rng, finite_flavour(rng), n ? scale[0] : 1.0f, n);
    void *left = operand(n * left_size(kernels));
    record_int(record, kernels->left_quantize_cols(x, n, scale, zero + shift, (float)type->min + shift,
                                                   (float)type->max + shift, left));
    record_left(kernels, record, left, n, (int32_t)shift);
}

static void left_interval(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = drawn_type(rng);
    size_t n = rng_length(rng);
    int32_t shift = left_shift(kernels, type);
    float scale = rng_scale(rng), min = ((float)rng_between(rng, -200, 0) + 0.5f) * scale;
    float *x = drawn_floats(rng, finite_flavour(rng), scale, n);
    void *left = operand(n * left_size(kernels));
    record_int(record, kernels->left_interval(x, n, min, scale, type->max - type->min + 1, type->min + shift, left));
    record_left(kernels, record, left, n, shift);
}

/* The quantizing kernels must tell where a value is not finite. */
static void left_finite(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    float *x = drawn_floats(rng, NONFINITE, 1.0f, n), *scale = operand(n * sizeof *scale);
    for (size_t i = 0; i < n; i++) scale[i] = 1.0f;
    void *left = operand(n * left_size(kernels));
    record_int(record, kernels->left_quantize(x, n, 1.0f, 0.0f, 0.0f, 127.0f, left));
    record_int(record, kernels->left_quantize_cols(x, n, scale, 0.0f, 0.0f, 127.0f, left));
    record_int(record, kernels->left_interval(x, n, -1.0f, 0.5f, 16, 0, left));
}

static void *drawn_left(const struct qlm_kernels *kernels, struct rng *rng, const struct qlm_type *type, size_t n)
{
    uint8_t *codes = operand(n);
    void *left = operand(n * left_size(kernels));
    fill_codes(rng, type, codes, n);
    kernels->left_widen(codes, n, type->min < 0, left);
    return left;
}

static void left_widen(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = drawn_type(rng);
    size_t n = rng_length(rng);
    record_left(kernels, record, drawn_left(kernels, rng, type, n), n, left_shift(kernels, type));
}

static void left_weights(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng), m = rng_below(rng, 4);
    float *x = drawn_floats(rng, rng_flavour(rng), 0.5f, m * n);
    void *left = operand(m * n * left_size(kernels));
    int32_t sums[4];
    kernels->left_weights(m, n, x, n, left, n * left_size(kernels), sums);
    for (size_t i = 0; i < m; i++) record_int(record, sums[i]);
    record_left(kernels, record, left, m * n, kernels->left_type == QLM_LEFT_S8 ? -128 : 0);
}

static void left_sum(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = drawn_type(rng);
    size_t n = rng_length(rng);
    void *left = drawn_left(kernels, rng, type, n);
    record_int(record, kernels->left_sum(left, n) - (int32_t)n * left_shift(kernels, type));
}

/* ---- the product ---------------------------------------------------------------------------------------------- */

/* b[k][COLUMNS] -> panels for the table, k padded with zeros to kg groups of k_step. */
static int8_t *packed(const struct qlm_kernels *kernels, const int8_t *b, size_t k, size_t kg)
{
    size_t ks = kernels->k_step, nr = kernels->nr, padded = kg * ks;
    int8_t *panels = operand(padded * COLUMNS);
    for (size_t i = 0; i < padded; i++)
        for (size_t j = 0; j < COLUMNS; j++)
            panels[j / nr * nr * padded + i / ks * ks * nr + j % nr * ks + i % ks] = i < k ? b[i * COLUMNS + j] : 0;
    return panels;
}

/* Rows of codes as left elements; what pads them is arbitrary, since it meets zeros. */
static char *drawn_rows(const struct qlm_kernels *kernels, struct rng *rng, const struct qlm_type *type, size_t m,
                        size_t k, size_t stride, uint8_t *codes)
{
    char *a = operand(m * stride);
    fill_codes(rng, type, codes, m * k);
    for (size_t row = 0; row < m; row++) kernels->left_widen(codes + row * k, k, type->min < 0, a + row * stride);
    return a;
}

static void gemm_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = drawn_type(rng);
    size_t k = rng_below(rng, DEPTH_MAX), m = 1 + rng_below(rng, ROWS_MAX), nr = kernels->nr, mr = kernels->mr_8;
    size_t kg = qlm_div_up(k, kernels->k_step),
           stride = (kg * kernels->k_step) * left_size(kernels) + rng_below(rng, 3) * 4;
    uint8_t codes[ROWS_MAX * DEPTH_MAX];
    int8_t b[DEPTH_MAX * COLUMNS];
    fill_codes(rng, &test_types[0], b, k * COLUMNS);
    char *a = drawn_rows(kernels, rng, type, m, k, stride, codes);
    int8_t *panels = packed(kernels, b, k, kg);
    int32_t *c = operand(m * COLUMNS * sizeof *c), shift = left_shift(kernels, type);
    for (size_t row = 0; row < m; row += mr)
        for (size_t j = 0; j < COLUMNS; j += nr)
            kernels->gemm_8(qlm_min_size(mr, m - row), kg, a + row * stride, stride, panels + j * kg * kernels->k_step,
                            c + row * COLUMNS + j, COLUMNS);
    for (size_t i = 0; i < m * COLUMNS; i++) {
        int32_t sum = 0, want = 0;
        for (size_t l = 0; l < k; l++) {
            sum += b[l * COLUMNS + i % COLUMNS];
            want += code_at(type, codes, i / COLUMNS * k + l) * b[l * COLUMNS + i % COLUMNS];
        }
        record_int(record, c[i] - shift * sum);
        record_int(record, c[i] - shift * sum == want);
    }
}

/* What differs between tables is undone before the epilogue: the shift of the left elements moves into zx. */
static void linear_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = drawn_type(rng);
    size_t k = rng_below(rng, DEPTH_MAX), m = 1 + rng_below(rng, ROWS_MAX), n = rng_below(rng, COLUMNS + 1);
    size_t kg = qlm_div_up(k, kernels->k_step), stride = kg * kernels->k_step * left_size(kernels);
    uint8_t codes[ROWS_MAX * DEPTH_MAX];
    int8_t b[DEPTH_MAX * COLUMNS];
    fill_codes(rng, &test_types[0], b, k * COLUMNS);
    char *a = drawn_rows(kernels, rng, type, m, k, stride, codes);
    int8_t *panels = packed(kernels, b, k, kg);
    enum flavour flavour = rng_flavour(rng);
    int32_t *zx = operand(m * sizeof *zx), *rest = operand(m * sizeof *rest), *sums = operand(n * sizeof *sums);
    int32_t *zw = rng_below(rng, 2) ? operand(n * sizeof *zw) : NULL;
    fill_ints(rng, type->min, type->max, zx, m);
    fill_ints(rng, INT32_MIN, INT32_MAX, rest, m);
    if (zw) fill_ints(rng, -256, 256, zw, n);
    memset(sums, 0, n * sizeof *sums);
    for (size_t i = 0; i < k * COLUMNS; i++)
        if (i % COLUMNS < n) sums[i % COLUMNS] += b[i];
    for (size_t i = 0; i < m; i++) zx[i] += left_shift(kernels, type);
    float *sw = drawn_floats(rng, PLAIN, 1.0f, n), *sx = drawn_floats(rng, PLAIN, 1.0f, m);
    float *bias = rng_below(rng, 2) ? drawn_floats(rng, flavour, 1.0f, n) : NULL;
    float *residual = rng_below(rng, 2) ? drawn_floats(rng, flavour, 1.0f, m * n) : NULL;
    float *out = operand(m * n * sizeof *out);
    for (size_t row = 0; row < m; row += kernels->rows_8)
        kernels->linear_8(qlm_min_size(kernels->rows_8, m - row), n, kg, a + row * stride, stride, panels, zx + row,
                          rest + row, sums, zw, sw, sx + row, bias, residual ? residual + row * n : NULL, n,
                          out + row * n, n, m & 1, out, m & 2 ? 0 : 5);
    record_floats(record, out, m * n);
}

static void unpack_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t k = 1 + rng_below(rng, DEPTH_MAX - 1), nr = kernels->nr, kg = qlm_div_up(k, kernels->k_step);
    size_t k0 = rng_below(rng, k), count = rng_below(rng, k - k0 + 1);
    int8_t b[DEPTH_MAX * COLUMNS], *panels;
    fill_codes(rng, &test_types[0], b, k * COLUMNS);
    panels = packed(kernels, b, k, kg);
    float *scale = drawn_floats(rng, PLAIN, 1.0f, COLUMNS), *zero = operand(COLUMNS * sizeof *zero);
    float *offset = drawn_floats(rng, EXTREME, 1.0f, COLUMNS), *out = operand(count * nr * sizeof *out);
    float all[DEPTH_MAX * COLUMNS];
    for (size_t j = 0; j < COLUMNS; j++) zero[j] = (float)rng_between(rng, -256, 256);
    for (size_t j = 0; j < COLUMNS; j += nr) {
        kernels->unpack_8(panels + j * kg * kernels->k_step, k0, count, scale + j, zero + j, offset + j, out);
        for (size_t i = 0; i < count; i++) memcpy(all + i * COLUMNS + j, out + i * nr, nr * sizeof *out);
    }
    record_floats(record, all, count * COLUMNS);
}

static void gemv_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t k = 1 + rng_below(rng, DEPTH_MAX - 1), nr = kernels->nr, kg = qlm_div_up(k, kernels->k_step);
    size_t k0 = rng_below(rng, k), count = rng_below(rng, k - k0 + 1), m = 1 + rng_below(rng, 6);
    int8_t b[DEPTH_MAX * COLUMNS];
    fill_codes(rng, &test_types[0], b, k * COLUMNS);
    int8_t *panels = packed(kernels, b, k, kg);
    float *scale = drawn_floats(rng, PLAIN, 1.0f, COLUMNS), *a = drawn_floats(rng, PLAIN, 1.0f, m * count);
    float *zero = rng_below(rng, 2) ? operand(COLUMNS * sizeof *zero) : NULL;
    float *offset = rng_below(rng, 2) ? drawn_floats(rng, PLAIN, 1.0f, COLUMNS) : NULL;
    float *c = drawn_floats(rng, PLAIN, 1.0f, m * COLUMNS);
    for (size_t j = 0; zero && j < COLUMNS; j++) zero[j] = (float)rng_between(rng, -256, 256);
    kernels->gemv_8(m, count, COLUMNS / nr, a, count, panels, kg * kernels->k_step * nr, k0, scale, zero, offset, c,
                    COLUMNS);
    record_floats(record, c, m * COLUMNS);
}

const struct kernel_case int8_kernel_cases[] = {
    {"left_quantize", left_quantize},
    {"left_quantize_cols", left_quantize_cols},
    {"left_interval", left_interval},
    {"left_finite", left_finite},
    {"left_widen", left_widen},
    {"left_weights", left_weights},
    {"left_sum", left_sum},
    {"gemm_8", gemm_8},
    {"linear_8", linear_8},
    {"unpack_8", unpack_8},
    {"gemv_8", gemv_8},
    {NULL, NULL},
};
