/* tile_floats.c: rows of float input times panels of floats, or of codes that are dequantized as they are met. */
#include <string.h>

#include "tile.h"
#include "tile_parts.h"

#define UNPACK_K 128 /* rows of a panel that are dequantized at a time: at most 32 KiB, so they stay in L1 */
/* Rows of float input that take several panels at a time, of floats and of codes, of so many outputs together. */
#define FEW_ROWS_F32 2
#define FEW_ROWS 6
#define FEW_TWICE 8 /* two halves that each dequantize are still faster than a float tile of 6 and one of 2 */
#define FEW_COLUMNS 512
#define FEW_EXPANDED_K 32 /* k of them that 4-bit codes are expanded for: 16 KiB, a multiple of 4 */

/* Rows k0 .. k0 + count of a panel as floats: the values a product sees are the dequantized weights. */
static void unpack_16(const struct qlm_packed *weight, size_t panel, size_t at, size_t count, size_t params, float *out)
{
    size_t nr = weight->kernels->nr;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < nr; j++) {
            size_t index = (at + i) / 2 * 2 * nr + j * 2 + (at + i) % 2;
            int32_t zero = qlm_packed_zero(weight, params + j);
            float value = (float)(qlm_panel_16(weight, panel, 0)[index] - zero) * weight->scale[params + j];
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
        weight->kernels->unpack_4(qlm_panel_4(weight, panel, 0), at, count, scale, zero, offset, out);
    else
        weight->kernels->unpack_8(qlm_panel_8(weight, panel, 0), at, count, scale,
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
    struct qlm_place to = qlm_place_of(output, weight, first, panel, panel + 1);
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
            kernels->expand_4(qlm_panel_4(weight, panel + i, span.padded + done), ks, ks, NULL, expanded + i * stride);
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
            kernels->gemv_8(rows, span.count, count, x + span.start, weight->k, qlm_panel_8(weight, panel, 0),
                            weight->k_padded * nr, span.padded, scale, zeros, offsets, c, FEW_COLUMNS);
    }
}

static void few_of_panels(const struct qlm_linear_input *input, const struct qlm_linear_output *output, size_t first,
                          size_t rows, size_t panel, size_t count)
{
    const struct qlm_packed *weight = output->weight;
    float c[FEW_ROWS * FEW_COLUMNS];
    struct qlm_place to = qlm_place_of(output, weight, first, panel, panel + count);
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
