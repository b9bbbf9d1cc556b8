/* tile.h: what the kinds of tiles share: exact sums of a span, and where a tile of an output lies. */
#ifndef QLM_TILE_H
#define QLM_TILE_H

#include "linear.h"

#define QLM_TILE (QLM_MAX_MR * QLM_MAX_NR)

/* Where a tile of an output lies. Passed by address: copied by value right after it is written, it is read back in
 * other pieces than those stored, and that load waits for every store before it (with outputs past L2, half of the
 * time). */
struct qlm_place {
    const float *bias, *residual;
    float *out;
    size_t n, ld;
    int far; /* of qlm_left */
};

/* Element `at` of padded k of a row of the left operand, and a panel of kind 4 or 8. */
const char *qlm_tile_left(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t at);
const void *qlm_tile_panel(const struct qlm_packed *weight, size_t panel);
/* fl(acc') of a span as floats, by the 64-bit path. */
void qlm_tile_floats_64(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m,
                        size_t panel, size_t g, float *sums);
/* The epilogue of a float tile; sw, sx may be NULL. */
void qlm_tile_finish(const struct qlm_kernels *kernels, int activation, size_t m, const float *acc, const float *sw,
                     const float *sx, const struct qlm_place *to);

/* tile_grouped.c: several spans, or scales, or offsets, and 4-bit codes.  expanded: the panel, or NULL. */
void qlm_tile_grouped(const struct qlm_left *left, const struct qlm_linear_output *output,
                      const struct qlm_packed *weight, size_t row, size_t m, size_t panel, const int8_t *expanded,
                      const struct qlm_place *to);

#endif
