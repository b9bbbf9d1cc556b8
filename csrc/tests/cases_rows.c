/* cases_rows.c: kernels over rows and tiles: float and 16-bit products, epilogues, layer norm, softmax.
 *
 * Tables differ in the width of a panel and in the rows that a product takes.  A case draws a logical product, lays it
 * out for the table and records the logical result.
 */
#include <string.h>

#include "common.h"
#include "test.h"

#define COLUMNS 64 /* a multiple of every table's panel width */
#define ROWS_MAX 20
#define DEPTH_MAX 80

/* A row-major matrix that ends with its last row's last element. */
struct matrix {
    size_t rows, columns, stride;
};

static struct matrix drawn_matrix(struct rng *rng, size_t rows, size_t columns)
{ return (struct matrix){rows, columns, columns + rng_below(rng, 5)}; }

static size_t elements(struct matrix m) { return m.rows ? (m.rows - 1) * m.stride + m.columns : 0; }

static float *drawn_floats(struct rng *rng, enum flavour flavour, size_t n)
{
    float *x = operand(n * sizeof *x);
    fill_floats(rng, flavour, 0.5f, x, n);
    return x;
}

/* Or NULL. */
static float *maybe_floats(struct rng *rng, enum flavour flavour, size_t n)
{ return rng_below(rng, 3) ? drawn_floats(rng, flavour, n) : NULL; }

static void record_matrix(struct record *record, const float *x, struct matrix m)
{
    for (size_t i = 0; i < m.rows; i++) record_floats(record, x + i * m.stride, m.columns);
}

static void record_partial(struct record *record, const float *x, struct matrix m)
{
    for (size_t i = 0; i < m.rows; i++) record_numbers(record, x + i * m.stride, m.columns);
}

/* ---- products ------------------------------------------------------------------------------------------------- */

static void gemm_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t k = rng_below(rng, DEPTH_MAX), nr = kernels->nr;
    struct matrix a_shape = drawn_matrix(rng, 1 + rng_below(rng, ROWS_MAX), k);
    struct matrix c_shape = drawn_matrix(rng, a_shape.rows, COLUMNS);
    enum flavour flavour = rng_flavour(rng);
    int accumulate = rng_below(rng, 2) == 0;
    float *a = drawn_floats(rng, flavour, elements(a_shape)), *c = drawn_floats(rng, flavour, elements(c_shape));
    float b[DEPTH_MAX * COLUMNS], *panels = operand(k * COLUMNS * sizeof *panels);
    fill_floats(rng, flavour, 0.5f, b, k * COLUMNS);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < COLUMNS; j++) panels[j / nr * nr * k + i * nr + j % nr] = b[i * COLUMNS + j];
    for (size_t row = 0; row < a_shape.rows; row += kernels->mr_f32)
        for (size_t j = 0; j < COLUMNS; j += nr)
            kernels->gemm_f32(qlm_min_size(kernels->mr_f32, a_shape.rows - row), k, a + row * a_shape.stride,
                              a_shape.stride, panels + j * k, c + row * c_shape.stride + j, c_shape.stride, accumulate);
    record_partial(record, c, c_shape);
}

static void gemv_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t k = rng_below(rng, DEPTH_MAX), nr = kernels->nr;
    enum flavour flavour = rng_flavour(rng);
    size_t m = 1 + rng_below(rng, 2);
    float *a = drawn_floats(rng, flavour, m * k), *b = drawn_floats(rng, flavour, k * COLUMNS);
    float *panels = operand(k * COLUMNS * sizeof *panels), *c = operand(m * COLUMNS * sizeof *c);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < COLUMNS; j++) panels[j / nr * nr * k + i * nr + j % nr] = b[i * COLUMNS + j];
    kernels->gemv_f32(m, k, COLUMNS / nr, a, k, panels, c, COLUMNS);
    record_numbers(record, c, m * COLUMNS);
}

typedef void words_kernel(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc);

/* Sums of 2^31 and more: only 64 bits hold them.  `type` is that of b. */
static void words(const struct qlm_kernels *kernels, words_kernel *kernel, const struct qlm_type *type, struct rng *rng,
                  struct record *record)
{
    size_t k2 = rng_below(rng, DEPTH_MAX / 2), k = 2 * k2, nr = kernels->nr;
    struct matrix a_shape = drawn_matrix(rng, 1 + rng_below(rng, ROWS_MAX), k);
    struct matrix c_shape = drawn_matrix(rng, a_shape.rows, COLUMNS);
    int16_t *a = operand(elements(a_shape) * sizeof *a), b[DEPTH_MAX * COLUMNS];
    int16_t *panels = operand(k * COLUMNS * sizeof *panels);
    int64_t *c = operand(elements(c_shape) * sizeof *c);
    fill_codes(rng, &test_types[4], a, elements(a_shape));
    int16_t codes[DEPTH_MAX * COLUMNS];
    fill_codes(rng, type, codes, k * COLUMNS);
    for (size_t i = 0; i < k * COLUMNS; i++) b[i] = (int16_t)code_at(type, codes, i);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < COLUMNS; j++)
            panels[j / nr * nr * k + i / 2 * 2 * nr + j % nr * 2 + i % 2] = b[i * COLUMNS + j];
    for (size_t row = 0; row < a_shape.rows; row += kernels->mr_16)
        for (size_t j = 0; j < COLUMNS; j += nr)
            kernel(qlm_min_size(kernels->mr_16, a_shape.rows - row), k2, a + row * a_shape.stride, a_shape.stride,
                   panels + j * k, c + row * c_shape.stride + j, c_shape.stride);
    for (size_t i = 0; i < c_shape.rows; i++) record_bytes(record, c + i * c_shape.stride, COLUMNS * sizeof *c);
}

static void gemm_16(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ words(kernels, kernels->gemm_16, &test_types[4], rng, record); }

static void gemm_16_8(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ words(kernels, kernels->gemm_16_8, &test_types[rng_below(rng, 2)], rng, record); }

/* ---- epilogues ------------------------------------------------------------------------------------------------ */

#define TILE_COLUMNS_MAX 64

static struct matrix drawn_tile(struct rng *rng)
{ return drawn_matrix(rng, 1 + rng_below(rng, QLM_MAX_MR), rng_below(rng, TILE_COLUMNS_MAX + 1)); }

/* The same tile under another stride. */
static struct matrix restride(struct rng *rng, struct matrix m) { return drawn_matrix(rng, m.rows, m.columns); }

static void epilogue_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    struct matrix acc_shape = drawn_tile(rng), out_shape = restride(rng, acc_shape),
                  res_shape = restride(rng, acc_shape);
    size_t m = acc_shape.rows, n = acc_shape.columns;
    enum flavour flavour = rng_flavour(rng);
    float *acc = drawn_floats(rng, flavour, elements(acc_shape)), *sw = maybe_floats(rng, flavour, n);
    float *sx = maybe_floats(rng, flavour, m), *bias = maybe_floats(rng, flavour, n);
    float *residual = maybe_floats(rng, flavour, elements(res_shape)),
          *out = operand(elements(out_shape) * sizeof *out);
    kernels->epilogue_f32(m, n, acc, acc_shape.stride, sw, sx, bias, (int)rng_below(rng, QLM_FUNCTION_COUNT), residual,
                          res_shape.stride, out, out_shape.stride);
    record_matrix(record, out, out_shape);
}

static void rank1_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    struct matrix shape = drawn_tile(rng);
    float *row = drawn_floats(rng, rng_flavour(rng), shape.rows),
          *col = drawn_floats(rng, rng_flavour(rng), shape.columns);
    float *t = drawn_floats(rng, rng_flavour(rng), elements(shape));
    kernels->rank1_f32(shape.rows, shape.columns, row, col, t, shape.stride);
    record_partial(record, t, shape);
}

static void affine_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    struct matrix shape = drawn_tile(rng);
    enum flavour flavour = rng_flavour(rng);
    int by_zero = rng_below(rng, 2) == 0;
    float *zx = by_zero ? drawn_floats(rng, flavour, shape.rows) : NULL;
    float *offset = by_zero ? NULL : drawn_floats(rng, flavour, shape.rows);
    float *sx = drawn_floats(rng, flavour, shape.rows), *c = drawn_floats(rng, flavour, shape.columns);
    float *t = drawn_floats(rng, flavour, elements(shape));
    kernels->affine_f32(shape.rows, shape.columns, zx, sx, offset, c, t, shape.stride);
    record_partial(record, t, shape);
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

static void layernorm_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = 1 + rng_length(rng), rows = rng_below(rng, 8), all = rows * n;
    float *x = drawn_floats(rng, rng_flavour(rng), all), *gain = drawn_floats(rng, PLAIN, n);
    float *bias = drawn_floats(rng, PLAIN, n), *out = rng_below(rng, 2) ? x : operand(all * sizeof *out);
    float *ranges = rng_below(rng, 2) ? operand(QLM_RANGE * rows * sizeof *ranges) : NULL;
    kernels->layernorm_f32(x, rows, n, gain, bias, rng_below(rng, 2) ? 1e-12f : 1e-5f, ranges, out);
    record_floats(record, out, all);
    if (ranges) record_floats(record, ranges, QLM_RANGE * rows);
}

static void softmax_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = 1 + rng_length(rng);
    float *x = drawn_floats(rng, rng_flavour(rng), n), sum = kernels->softmax_f32(x, n, rng_scale(rng));
    record_numbers(record, &sum, 1);
    record_numbers(record, x, n);
}

static void squares_f32(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng);
    float sum = kernels->squares_f32(drawn_floats(rng, rng_flavour(rng), n), n);
    record_numbers(record, &sum, 1);
}

const struct kernel_case row_kernel_cases[] = {
    {"gemm_f32", gemm_f32},
    {"gemv_f32", gemv_f32},
    {"gemm_16", gemm_16},
    {"gemm_16_8", gemm_16_8},
    {"epilogue_f32", epilogue_f32},
    {"rank1_f32", rank1_f32},
    {"affine_f32", affine_f32},
    {"layernorm_f32", layernorm_f32},
    {"softmax_f32", softmax_f32},
    {"squares_f32", squares_f32},
    {NULL, NULL},
};
