/* tile_parts.c: exact sums of a tile, and its epilogue.
 *
 * Exactness.  The 8-bit kernels add in wrapping 32-bit arithmetic, so a sum is right wherever the corrected result
 * fits int32, however large the raw sum.  |code - zero| <= 255 on both sides gives 255 * 255 * QLM_EXACT_K < 2^31: up
 * to QLM_EXACT_K elements of k the 32-bit path holds for every pair of types, and sums of codes stay within 128 *
 * QLM_EXACT_K = 2^22, as linear_8 asks; past it, sums of QLM_EXACT_K elements (128 * 255 * QLM_EXACT_K < 2^31, raw as
 * well) are added in 64 bits.  16-bit operands always take 64 bits.
 */
#include <string.h>

#include "tile.h"
#include "tile_parts.h"

/* Raw sums of `count` elements from padded k `at` on: [m][nr]. */
static void sums_32(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                    size_t at, size_t count, int32_t *acc)
{
    const struct qlm_kernels *kernels = weight->kernels;
    size_t steps = qlm_div_up(count, qlm_packed_step(weight)), nr = kernels->nr;
    const char *a = qlm_tile_left(left, weight, row, at);
    if (weight->kind == QLM_PACKED_4)
        kernels->gemm_4(m, steps, a, left->stride, qlm_panel_4(weight, panel, at), 0, acc, nr);
    else
        kernels->gemm_8(m, steps, a, left->stride, qlm_panel_8(weight, panel, at), acc, nr);
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
            qlm_panel_16(weight, panel, span.padded), acc, kernels->nr);
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

void qlm_tile_finish(const struct qlm_kernels *kernels, int activation, size_t m, const float *acc, const float *sw,
                     const float *sx, const struct qlm_place *to)
{
    kernels->epilogue_f32(m, to->n, acc, kernels->nr, sw, sx, to->bias, activation, to->residual, to->ld, to->out,
                          to->ld);
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
