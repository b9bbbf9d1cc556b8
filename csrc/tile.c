/* tile.c: one tile of a linear, products and epilogue, while it is hot; tile_grouped.c has those of several groups.
 *
 * Exactness.  The 8-bit kernels add in wrapping 32-bit arithmetic, so a sum is right wherever the corrected result
 * fits int32, however large the raw sum.  |code - zero| <= 255 on both sides gives 255 * 255 * QLM_EXACT_K < 2^31: up
 * to QLM_EXACT_K elements of k the 32-bit path holds for every pair of types, and sums of codes stay within 128 *
 * QLM_EXACT_K = 2^22, as linear_8 asks; past it, sums of QLM_EXACT_K elements (128 * 255 * QLM_EXACT_K < 2^31, raw as
 * well) are added in 64 bits.  16-bit operands always take 64 bits.
 */
#include <string.h>

#include "common.h"
#include "tile.h"

#define STRIP 128    /* columns that wait for their activation: a multiple of every nr */
#define UNPACK_K 128 /* rows of a panel that are dequantized at a time: at most 32 KiB, so they stay in L1 */
/* Rows of float input that take several panels at a time, of floats and of codes, of so many outputs together. */
#define FEW_ROWS_F32 2
#define FEW_ROWS 6
#define FEW_TWICE 8 /* two halves that each dequantize are still faster than a float tile of 6 and one of 2 */
#define FEW_COLUMNS 512
#define FEW_EXPANDED_K 32 /* k of them that 4-bit codes are expanded for: 16 KiB, a multiple of 4 */

const char *qlm_tile_left(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t at)
{ return left->elements + row * left->stride + at * qlm_left_element(weight); }

static const void *panel_4(const struct qlm_packed *weight, size_t panel, size_t at)
{ return (const uint8_t *)weight->panels + (panel * weight->k_padded + at) * (weight->kernels->nr / 2); }

static const int8_t *panel_8(const struct qlm_packed *weight, size_t panel, size_t at)
{ return (const int8_t *)weight->panels + (panel * weight->k_padded + at) * weight->kernels->nr; }

static const int16_t *panel_16(const struct qlm_packed *weight, size_t panel, size_t at)
{ return (const int16_t *)weight->panels + (panel * weight->k_padded + at) * weight->kernels->nr; }

const void *qlm_tile_panel(const struct qlm_packed *weight, size_t panel)
{ return weight->kind == QLM_PACKED_4 ? panel_4(weight, panel, 0) : (const void *)panel_8(weight, panel, 0); }

void qlm_tile_expand(const struct qlm_packed *weight, size_t from, size_t end, int8_t *expanded)
{
    const struct qlm_kernels *kernels = weight->kernels;
    for (size_t panel = from; panel < end; panel++, expanded += weight->k_padded * kernels->nr) {
        const int8_t *zw = kernels->fold_4 && weight->zero8 ? weight->zero8 + qlm_packed_param(weight, panel, 0) : NULL;
        kernels->expand_4(panel_4(weight, panel, 0), weight->k, weight->group, zw, expanded);
    }
}

/* ---- exact sums ----------------------------------------------------------------------------------------------- */

/* Raw sums of `count` elements from padded k `at` on: [m][nr]. */
static void sums_32(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                    size_t at, size_t count, int32_t *acc)
{
    const struct qlm_kernels *kernels = weight->kernels;
    size_t steps = qlm_div_up(count, qlm_packed_step(weight)), nr = kernels->nr;
    const char *a = qlm_tile_left(left, weight, row, at);
    if (weight->kind == QLM_PACKED_4)
        kernels->gemm_4(m, steps, a, left->stride, panel_4(weight, panel, at), 0, acc, nr);
    else
        kernels->gemm_8(m, steps, a, left->stride, panel_8(weight, panel, at), acc, nr);
}

static void sums_64(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                    struct qlm_span span, int64_t *acc)
{
    const struct qlm_kernels *kernels = weight->kernels;
    if (weight->kind == QLM_PACKED_16) {
        /* The types of the codes, not those of the elements: one side may have 8 bits. */
        int narrow = left->narrow || weight->type.bits <= 8;
        (narrow ? kernels->gemm_16_8 : kernels->gemm_16)(
            m, (span.count + 1) / 2, (const int16_t *)qlm_tile_left(left, weight, row, span.padded), left->stride / 2,
            panel_16(weight, panel, span.padded), acc, kernels->nr);
        return;
    }
    int32_t part[QLM_TILE];
    memset(acc, 0, m * kernels->nr * sizeof *acc);
    for (size_t done = 0; done < span.count; done += QLM_EXACT_K) {
        sums_32(left, weight, row, m, panel, span.padded + done, qlm_min_size(span.count - done, QLM_EXACT_K), part);
        for (size_t i = 0; i < m * kernels->nr; i++) acc[i] += part[i];
    }
}

/* What is subtracted from the sums of row i of a tile, in 64 bits: zx * sums + zero' * rest. */
struct correction_64 {
    const int64_t *sums;
    const int32_t *zero; /* NULL: none */
    const int32_t *zx;
    const int64_t *rest;
};

static struct correction_64 correction_of(const struct qlm_left *left, const struct qlm_packed *weight, size_t row,
                                          size_t panel, size_t g)
{
    size_t params = qlm_packed_param(weight, panel, g), at = g * left->rows + row;
    return (struct correction_64){weight->sums64 + params, weight->zero ? weight->zero + params : NULL, left->zx + at,
                                  left->rest64 + at};
}

static inline int64_t corrected_64(const struct correction_64 *by, int64_t sum, size_t i, size_t j)
{
    sum -= by->zx[i] * by->sums[j];
    return by->zero ? sum - by->zero[j] * by->rest[i] : sum;
}

/* fl(acc') of a span as floats, by the 64-bit path. */
void qlm_tile_floats_64(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m,
                        size_t panel, size_t g, float *sums)
{
    int64_t acc[QLM_TILE];
    size_t nr = weight->kernels->nr;
    sums_64(left, weight, row, m, panel, qlm_packed_span(weight, g), acc);
    const struct correction_64 by = correction_of(left, weight, row, panel, g);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < nr; j++) sums[i * nr + j] = (float)corrected_64(&by, acc[i * nr + j], i, j);
}

/* ---- epilogues ------------------------------------------------------------------------------------------------ */

/* Of panels [panel, end). */
static struct qlm_place place_of(const struct qlm_linear_output *output, const struct qlm_packed *weight, size_t row,
                                 size_t panel, size_t end)
{
    size_t nr = weight->kernels->nr, column = panel * nr, at = row * weight->n + column;
    struct qlm_place place = {.n = qlm_min_size(weight->n - column, (end - panel) * nr), .ld = weight->n};
    place.bias = output->bias ? output->bias + column : NULL;
    place.residual = output->residual ? output->residual + at : NULL;
    place.out = output->out + at;
    return place;
}

void qlm_tile_finish(const struct qlm_kernels *kernels, int activation, size_t m, const float *acc, const float *sw,
                     const float *sx, const struct qlm_place *to)
{
    kernels->epilogue_f32(m, to->n, acc, kernels->nr, sw, sx, to->bias, activation, to->residual, to->ld, to->out,
                          to->ld);
}

/* One scale a row, one span, sums past 32 bits. */
static void tile_64(const struct qlm_left *left, const struct qlm_linear_output *output,
                    const struct qlm_packed *weight, size_t row, size_t m, size_t panel, const struct qlm_place *to)
{
    float sums[QLM_TILE];
    qlm_tile_floats_64(left, weight, row, m, panel, 0, sums);
    qlm_tile_finish(weight->kernels, output->activation, m, sums, weight->scale + panel * weight->kernels->nr,
                    left->sx + row, to);
}

/* The share of `outputs` in the lines that are to be asked for. */
static const char *take_lines(struct qlm_next *next, size_t outputs, size_t *lines)
{
    const char *at = next->at;
    *lines = qlm_min_size(outputs * next->lines / next->outputs + 1, next->left);
    next->left -= *lines;
    next->at += *lines * QLM_CACHE_LINE;
    return at;
}

static void products(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                     const struct qlm_place *to)
{
    const struct qlm_kernels *kernels = weight->kernels;
    size_t column = panel * kernels->nr, lines = 0;
    const char *next = NULL;
    if (left->next) next = take_lines(left->next, m * to->n, &lines);
    kernels->linear_8(m, to->n, weight->k_padded / kernels->k_step, qlm_tile_left(left, weight, row, 0), left->stride,
                      panel_8(weight, panel, 0), left->zx + row, left->rest + row, weight->sums + column,
                      weight->zero ? weight->zero + column : NULL, weight->scale + column, left->sx + row, to->bias,
                      to->residual, to->ld, to->out, to->ld, to->far, next, lines);
}

/* With an activation, a few panels at a time: their outputs are still in L1 when it is applied. */
static void products_activated(const struct qlm_left *left, const struct qlm_linear_output *output,
                               const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                               const struct qlm_place *to)
{
    const struct qlm_kernels *kernels = weight->kernels;
    float y[QLM_MAX_ROWS * STRIP];
    for (size_t j = 0; j < to->n; j += STRIP) {
        struct qlm_place strip = {.bias = to->bias ? to->bias + j : NULL, .out = y, .ld = STRIP};
        strip.n = qlm_min_size(to->n - j, STRIP);
        products(left, weight, row, m, panel + j / kernels->nr, &strip);
        kernels->epilogue_f32(m, strip.n, y, STRIP, NULL, NULL, NULL, output->activation,
                              to->residual ? to->residual + j : NULL, to->ld, to->out + j, to->ld);
    }
}

int qlm_tile_whole(const struct qlm_left *left, const struct qlm_packed *weight)
{ return !left->grouped && weight->kind == QLM_PACKED_8 && !qlm_packed_wide(weight); }

void qlm_tile_codes(const struct qlm_left *left, const struct qlm_linear_output *output,
                    const struct qlm_packed *weight, size_t first, size_t row, size_t m, size_t from, size_t end,
                    const int8_t *expanded)
{
    struct qlm_place to;
    if (qlm_tile_whole(left, weight)) {
        to = place_of(output, weight, first + row, from, end);
        to.far = left->far;
        if (output->activation == QLM_IDENTITY)
            products(left, weight, row, m, from, &to);
        else
            products_activated(left, output, weight, row, m, from, &to);
        return;
    }
    for (size_t panel = from; panel < end; panel++) {
        to = place_of(output, weight, first + row, panel, panel + 1);
        to.far = left->far;
        if (!left->grouped && qlm_packed_wide(weight))
            tile_64(left, output, weight, row, m, panel, &to);
        else
            qlm_tile_grouped(left, output, weight, row, m, panel,
                             expanded ? expanded + (panel - from) * weight->k_padded * weight->kernels->nr : NULL, &to);
    }
}

void qlm_tile_exact(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                    int wide, void *c, size_t ldc)
{
    size_t nr = weight->kernels->nr, n = qlm_min_size(weight->n - panel * nr, nr);
    int64_t acc[QLM_TILE];
    sums_64(left, weight, row, m, panel, qlm_packed_span(weight, 0), acc);
    const struct correction_64 by = correction_of(left, weight, row, panel, 0);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            int64_t sum = corrected_64(&by, acc[i * nr + j], i, j);
            if (wide)
                ((int64_t *)c)[i * ldc + j] = sum;
            else
                ((int32_t *)c)[i * ldc + j] = (int32_t)sum;
        }
}

/* ---- float input ---------------------------------------------------------------------------------------------- */

/* Rows k0 .. k0 + count of a panel as floats: the values a product sees are the dequantized weights. */
static void unpack_16(const struct qlm_packed *weight, size_t panel, size_t at, size_t count, size_t params, float *out)
{
    size_t nr = weight->kernels->nr;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < nr; j++) {
            size_t index = (at + i) / 2 * 2 * nr + j * 2 + (at + i) % 2;
            int32_t zero = qlm_packed_zero(weight, params + j);
            float value = (float)(panel_16(weight, panel, 0)[index] - zero) * weight->scale[params + j];
            out[i * nr + j] = weight->offset ? value + weight->offset[params + j] : value;
        }
}

/* The parameters of span g of `count` panels as floats: what stands for none changes no value. */
static void copy_params(const struct qlm_packed *weight, size_t panel, size_t count, size_t g, float *scale,
                        float *zero, float *offset)
{
    size_t nr = weight->kernels->nr;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < nr; j++, scale++, zero++, offset++) {
            size_t param = qlm_packed_param(weight, panel + i, g) + j;
            *scale = qlm_packed_scale(weight, param);
            *zero = (float)qlm_packed_zero(weight, param);
            *offset = weight->offset ? weight->offset[param] : -0.0f;
        }
}

static void unpack(const struct qlm_packed *weight, size_t panel, size_t g, size_t at, size_t count, float *out)
{
    size_t params = qlm_packed_param(weight, panel, g);
    if (weight->kind == QLM_PACKED_16) {
        unpack_16(weight, panel, at, count, params, out);
        return;
    }

    float scale[QLM_MAX_NR], zero[QLM_MAX_NR], offset[QLM_MAX_NR];
    copy_params(weight, panel, 1, g, scale, zero, offset);
    if (weight->kind == QLM_PACKED_4)
        weight->kernels->unpack_4(panel_4(weight, panel, 0), at, count, scale, zero, offset, out);
    else
        weight->kernels->unpack_8(panel_8(weight, panel, 0), at, count, scale,
                                  qlm_packed_has_zero(weight) ? zero : NULL, weight->offset ? offset : NULL, out);
}

/* c [rows][nr] (+)= x[:, k0 : k0 + count] b, tile by tile. */
static void rows_times(const struct qlm_kernels *kernels, const float *x, size_t ldx, size_t rows, size_t count,
                       const float *b, float *c, int accumulate)
{
    for (size_t row = 0; row < rows; row += kernels->mr_f32)
        kernels->gemm_f32(qlm_min_size(rows - row, (size_t)kernels->mr_f32), count, x + row * ldx, ldx, b,
                          c + row * kernels->nr, kernels->nr, accumulate);
}

static void products_of_codes(const struct qlm_linear_input *input, const struct qlm_packed *weight, size_t first,
                              size_t rows, size_t panel, float *c)
{
    float unpacked[UNPACK_K * QLM_MAX_NR];
    memset(c, 0, rows * weight->kernels->nr * sizeof *c);
    for (size_t g = 0; g < weight->groups; g++) {
        struct qlm_span span = qlm_packed_span(weight, g);
        for (size_t done = 0; done < span.count; done += UNPACK_K) {
            size_t count = qlm_min_size(span.count - done, UNPACK_K);
            unpack(weight, panel, g, span.padded + done, count, unpacked);
            rows_times(weight->kernels, input->x + first * input->k + span.start + done, input->k, rows, count,
                       unpacked, c, 1);
        }
    }
}

static void floats_of_panel(const struct qlm_linear_input *input, const struct qlm_linear_output *output, size_t first,
                            size_t rows, size_t panel)
{
    const struct qlm_packed *weight = output->weight;
    float c[QLM_FLOAT_ROWS * QLM_MAX_NR];
    if (weight->kind == QLM_PACKED_F32)
        rows_times(weight->kernels, input->x + first * input->k, input->k, rows, weight->k,
                   (const float *)weight->panels + panel * weight->k_padded * weight->kernels->nr, c, 0);
    else
        products_of_codes(input, weight, first, rows, panel, c);
    struct qlm_place to = place_of(output, weight, first, panel, panel + 1);
    qlm_tile_finish(weight->kernels, output->activation, rows, c, NULL, NULL, &to);
}

/* A span of 4-bit codes by way of int8: some k of the panels are expanded into L1 and read at once. */
static void few_times_4(const struct qlm_packed *weight, size_t rows, const float *x, struct qlm_span span,
                        size_t panel, size_t count, const float *scale, const float *zero, const float *offset,
                        float *c)
{
    const struct qlm_kernels *kernels = weight->kernels;
    size_t stride = FEW_EXPANDED_K * kernels->nr;
    int8_t expanded[FEW_EXPANDED_K * FEW_COLUMNS];
    for (size_t done = 0; done < span.count; done += FEW_EXPANDED_K) {
        size_t ks = qlm_min_size(span.count - done, FEW_EXPANDED_K);
        for (size_t i = 0; i < count; i++)
            kernels->expand_4(panel_4(weight, panel + i, span.padded + done), ks, ks, NULL, expanded + i * stride);
        kernels->gemv_8(rows, ks, count, x + span.start + done, weight->k, expanded, stride, 0, scale, zero, offset, c,
                        FEW_COLUMNS);
    }
}

/* Rows of float input that take several panels at once: expanded 4-bit codes are int8 panels where k_step is 4. */
static size_t few_rows(const struct qlm_packed *weight)
{
    if (weight->kind == QLM_PACKED_F32) return FEW_ROWS_F32;
    if (weight->kind == QLM_PACKED_16 || (weight->kind == QLM_PACKED_4 && weight->kernels->k_step != 4)) return 0;
    return qlm_max_size(FEW_TWICE, weight->kernels->mr_f32);
}

/* Few rows times panels [panel, panel + count): c has row stride FEW_COLUMNS. */
static void few_times(const struct qlm_packed *weight, size_t rows, const float *x, size_t panel, size_t count,
                      float *c)
{
    const struct qlm_kernels *kernels = weight->kernels;
    size_t nr = kernels->nr;
    if (weight->kind == QLM_PACKED_F32) {
        const float *panels = (const float *)weight->panels + panel * weight->k * nr;
        kernels->gemv_f32(rows, weight->k, count, x, weight->k, panels, c, FEW_COLUMNS);
        return;
    }
    float scale[FEW_COLUMNS], zero[FEW_COLUMNS], offset[FEW_COLUMNS];
    memset(c, 0, rows * FEW_COLUMNS * sizeof *c);
    for (size_t g = 0; g < weight->groups; g++) {
        struct qlm_span span = qlm_packed_span(weight, g);
        copy_params(weight, panel, count, g, scale, zero, offset);
        const float *zeros = qlm_packed_has_zero(weight) ? zero : NULL, *offsets = weight->offset ? offset : NULL;
        if (weight->kind == QLM_PACKED_4)
            few_times_4(weight, rows, x, span, panel, count, scale, zeros, offsets, c);
        else
            kernels->gemv_8(rows, span.count, count, x + span.start, weight->k, panel_8(weight, panel, 0),
                            weight->k_padded * nr, span.padded, scale, zeros, offsets, c, FEW_COLUMNS);
    }
}

static void few_of_panels(const struct qlm_linear_input *input, const struct qlm_linear_output *output, size_t first,
                          size_t rows, size_t panel, size_t count)
{
    const struct qlm_packed *weight = output->weight;
    float c[FEW_ROWS * FEW_COLUMNS];
    struct qlm_place to = place_of(output, weight, first, panel, panel + count);
    few_times(weight, rows, input->x + first * input->k, panel, count, c);
    weight->kernels->epilogue_f32(rows, to.n, c, FEW_COLUMNS, NULL, NULL, to.bias, output->activation, to.residual,
                                  to.ld, to.out, to.ld);
}

void qlm_tile_floats(const struct qlm_linear_input *input, const struct qlm_linear_output *output, size_t first,
                     size_t rows, size_t from, size_t end)
{
    const struct qlm_packed *weight = output->weight;
    if (rows > few_rows(weight)) {
        for (size_t panel = from; panel < end; panel++) floats_of_panel(input, output, first, rows, panel);
        return;
    }
    size_t most = FEW_COLUMNS / weight->kernels->nr, parts = qlm_div_up(rows, FEW_ROWS);
    for (size_t panel = from; panel < end; panel += most)
        for (size_t i = 0; i < parts; i++) {
            size_t row = rows * i / parts;
            few_of_panels(input, output, first + row, rows * (i + 1) / parts - row, panel,
                          qlm_min_size(end - panel, most));
        }
}
