/* tile_grouped.c: one tile of a linear whose sums are scaled group by group (numerics.md, "Groups").
 *
 * 4-bit weights without groups go the same way, as one group of k with a scale of 1, which leaves fl(acc'); the
 * epilogue has their scale, since fma(fl(acc'), sw, +0) is not fl(acc') * sw where that is -0.
 */
#include "tile_grouped.h"

#include <string.h>

/* t = fma(fl(acc') [* sw], ...) of a span that took 64 bits: rare, so it is plain C. */
static void group_64(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                     size_t g, float *t)
{
    float sums[QLM_TILE];
    size_t nr = weight->kernels->nr;
    size_t params = qlm_packed_param(weight, panel, g);
    qlm_tile_floats_64(left, weight, row, m, panel, g, sums);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < nr; j++) {
            size_t at = i * nr + j;
            float sw = qlm_packed_scale(weight, params + j);
            if (left->grouped == 2)
                t[at] = qlm_fmaf(sums[at] * sw, left->sx[g * left->rows + row + i], t[at]);
            else
                t[at] = qlm_fmaf(sums[at], sw, t[at]);
        }
}

/* Activations' float offsets of a group: t = fma(offset, fl(sw * fl(sum of w's codes)), t). */
static void group_offsets(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m,
                          size_t panel, size_t g, float *t)
{
    size_t nr = weight->kernels->nr, params = qlm_packed_param(weight, panel, g);
    int64_t count = (int64_t)qlm_packed_span(weight, g).count;
    float column[QLM_MAX_NR];
    for (size_t j = 0; j < nr; j++) {
        int64_t sum = weight->sums64[params + j] - count * qlm_packed_zero(weight, params + j);
        column[j] = qlm_packed_scale(weight, params + j) * (float)sum;
    }
    weight->kernels->rank1_f32(m, nr, left->offset + g * left->rows + row, column, t, nr);
}

/* A span whose sums may leave int32. */
static void wide_span(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                      size_t g, float *t)
{
    size_t nr = weight->kernels->nr, params = qlm_packed_param(weight, panel, g), rows = g * left->rows + row;
    group_64(left, weight, row, m, panel, g, t);
    if (weight->offset) weight->kernels->rank1_f32(m, nr, left->centred + rows, weight->offset + params, t, nr);
    if (left->grouped == 2 && left->offset) group_offsets(left, weight, row, m, panel, g, t);
}

static const float *of_row(const float *array, size_t row) { return array ? array + row : NULL; }

/* In place of the scales of a weight without groups, which are never kept as float16 (pack.c), and of its rows'. */
static const float ones[QLM_MAX_NR] = {[0 ... QLM_MAX_NR - 1] = 1.0f};

/* All spans by one kernel; with `finish` it makes outputs of the sums, which takes a whole panel of them. */
static void groups(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                   const int8_t *expanded, int finish, const struct qlm_place *to)
{
    const struct qlm_kernels *kernels = weight->kernels;
    size_t params = qlm_packed_param(weight, panel, 0), rows = left->rows, ld = to->ld;
    const char *a = qlm_tile_left(left, weight, row, 0);
    const void *sw = !left->grouped ? ones
                     : weight->half ? (const void *)(weight->half + params)
                                    : (const void *)(weight->scale + params);
    const int8_t *zw = weight->zero8 && !(left->folded && expanded) ? weight->zero8 + params : NULL;
    const float *ow = of_row(weight->offset, params), *centred = of_row(left->centred, row);
    const float *rest = left->folded ? NULL : left->whole + row;
    const float *sx = left->grouped == 2 ? left->sx + row : left->grouped ? NULL : ones;
    const int32_t *zx = left->zx_any ? left->zx + row : NULL;
    const float *ox = left->grouped == 2 ? of_row(left->offset, row) : NULL;
    const float *scale = finish ? left->sx + row : NULL, *zero = left->offset ? NULL : left->zero + row;
    const float *shift = of_row(left->offset, row), *chain = weight->chain + panel * kernels->nr;
    int half = weight->half != NULL;
    if (weight->kind == QLM_PACKED_4)
        kernels->gemm_4_groups(m, weight->k, weight->group, a, left->stride,
                               expanded ? (const void *)expanded : qlm_panel_4(weight, panel, 0), expanded != NULL, sw,
                               half, zw, ow, zx, rest, sx, centred, ox, rows, scale, zero, shift, chain, to->bias,
                               to->residual, ld, to->out, ld, to->far);
    else
        kernels->gemm_8_groups(m, weight->k, weight->group, a, left->stride, qlm_panel_8(weight, panel, 0), sw, half,
                               zw, ow, zx, rest, sx, centred, ox, rows, scale, zero, shift, chain, to->bias,
                               to->residual, ld, to->out, ld, to->far);
}

/* Where the kernel does not finish: sums, zero points or offsets, and the epilogue one after the other. */
static void in_steps(const struct qlm_left *left, const struct qlm_linear_output *output,
                     const struct qlm_packed *weight, size_t row, size_t m, size_t panel, const int8_t *expanded,
                     const struct qlm_place *to)
{
    const struct qlm_kernels *kernels = weight->kernels;
    size_t nr = kernels->nr;
    float t[QLM_TILE];
    struct qlm_place sums = {.out = t, .ld = nr};
    if (qlm_packed_wide(weight)) {
        memset(t, 0, m * nr * sizeof *t);
        for (size_t g = 0; g < weight->groups; g++) wide_span(left, weight, row, m, panel, g, t);
    } else {
        groups(left, weight, row, m, panel, expanded, 0, &sums);
    }
    if (left->grouped == 1)
        kernels->affine_f32(m, nr, left->offset ? NULL : left->zero + row, left->sx + row,
                            left->offset ? left->offset + row : NULL, weight->chain + panel * nr, t, nr);
    if (left->grouped)
        qlm_tile_finish(kernels, output->activation, m, t, NULL, NULL, to);
    else
        qlm_tile_finish(kernels, output->activation, m, t, weight->scale + panel * nr, left->sx + row, to);
}

void qlm_tile_grouped(const struct qlm_left *left, const struct qlm_linear_output *output,
                      const struct qlm_packed *weight, size_t row, size_t m, size_t panel, const int8_t *expanded,
                      const struct qlm_place *to)
{
    const struct qlm_kernels *kernels = weight->kernels;
    float y[QLM_TILE];
    if (left->grouped != 1 || qlm_packed_wide(weight) || to->n < kernels->nr) {
        in_steps(left, output, weight, row, m, panel, expanded, to);
    } else if (output->activation == QLM_IDENTITY) {
        groups(left, weight, row, m, panel, expanded, 1, to);
    } else {
        struct qlm_place linear = {.bias = to->bias, .out = y, .ld = kernels->nr};
        struct qlm_place activated = {.residual = to->residual, .out = to->out, .n = to->n, .ld = to->ld};
        groups(left, weight, row, m, panel, expanded, 1, &linear);
        qlm_tile_finish(kernels, output->activation, m, y, NULL, NULL, &activated);
    }
}
