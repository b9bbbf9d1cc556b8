/* tile_grouped.c: one tile of a linear whose sums are scaled group by group (numerics.md, "Groups"). */
#include <string.h>

#include "common.h"
#include "linear.h"
#include "tile.h"

/* t = fma(fl(acc') [* sw], ...) of a span that took 64 bits: rare, so it is plain C. */
static void group_64(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                     size_t g, float *t)
{
    float sums[QLM_TILE];
    size_t nr = weight->kernels->nr;
    const float *sw = weight->scale + g * weight->n_padded + panel * nr;
    qlm_tile_floats_64(left, weight, row, m, panel, g, sums);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < nr; j++) {
            size_t at = i * nr + j;
            if (left->grouped == 2)
                t[at] = qlm_fmaf(sums[at] * sw[j], left->sx[g * left->rows + row + i], t[at]);
            else
                t[at] = qlm_fmaf(sums[at], sw[j], t[at]);
        }
}

/* Activations' float offsets of a group: t = fma(offset, fl(sw * fl(sum of w's codes)), t). */
static void group_offsets(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m,
                          size_t panel, size_t g, float *t)
{
    size_t nr = weight->kernels->nr, params = g * weight->n_padded + panel * nr;
    int64_t count = (int64_t)qlm_packed_span(weight, g).count;
    float column[QLM_MAX_NR];
    for (size_t j = 0; j < nr; j++) {
        int64_t sum = weight->sums64[params + j] - count * (weight->zero ? weight->zero[params + j] : 0);
        column[j] = weight->scale[params + j] * (float)sum;
    }
    weight->kernels->rank1_f32(m, nr, left->offset + g * left->rows + row, column, t, nr);
}

static void tile_span(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                      size_t g, float *t)
{
    const struct qlm_kernels *kernels = weight->kernels;
    struct qlm_span span = qlm_packed_span(weight, g);
    size_t nr = kernels->nr, params = g * weight->n_padded + panel * nr, rows = g * left->rows + row;
    if (qlm_tile_needs_64(weight, span.count)) {
        group_64(left, weight, row, m, panel, g, t);
    } else {
        int32_t acc[QLM_TILE];
        qlm_tile_sums_32(left, weight, row, m, panel, span.padded, span.count, acc);
        kernels->group_s32(m, nr, acc, nr, left->zx + rows, left->rest + rows, weight->sums + params,
                           weight->zero ? weight->zero + params : NULL, weight->scale + params,
                           left->grouped == 2 ? left->sx + rows : NULL, t, nr);
    }
    if (weight->offset) kernels->rank1_f32(m, nr, left->centred + rows, weight->offset + params, t, nr);
    if (left->grouped == 2 && left->offset) group_offsets(left, weight, row, m, panel, g, t);
}

void qlm_tile_grouped(const struct qlm_left *left, const struct qlm_linear_output *output,
                      const struct qlm_packed *weight, size_t row, size_t m, size_t panel, const struct qlm_place *to)
{
    const struct qlm_kernels *kernels = weight->kernels;
    size_t nr = kernels->nr;
    float t[QLM_TILE];
    memset(t, 0, m * nr * sizeof *t);
    for (size_t g = 0; g < weight->groups; g++) tile_span(left, weight, row, m, panel, g, t);
    if (left->grouped == 1)
        kernels->affine_f32(m, nr, left->offset ? NULL : left->zero + row, left->sx + row,
                            left->offset ? left->offset + row : NULL, weight->chain + panel * nr, t, nr);
    qlm_tile_finish(kernels, output->activation, m, t, NULL, NULL, to);
}
