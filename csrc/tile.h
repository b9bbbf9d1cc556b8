/* tile.h: one tile of a linear, and what the kinds of tiles share. */
#ifndef QLM_TILE_H
#define QLM_TILE_H

#include "left.h"
#include "pack.h"

/* Whether products, corrections and scales are one call of linear_8, which takes rows_8 rows. */
int qlm_tile_whole(const struct qlm_left *left, const struct qlm_packed *weight);
/* Rows [row, row + m) of the block times panels [from, end), epilogue included.  `first` is the input row of the
 * block's row 0.  expanded: of 4-bit weights these panels as qlm_tile_expand makes them, or NULL. */
void qlm_tile_codes(const struct qlm_left *left, const struct qlm_linear_output *output,
                    const struct qlm_packed *weight, size_t first, size_t row, size_t m, size_t from, size_t end,
                    const int8_t *expanded);
/* Panels [from, end) of 4-bit codes as int8, k_padded * nr bytes each, less their zero points where the table has
 * fold_4: worth it where many rows meet them. */
void qlm_tile_expand(const struct qlm_packed *weight, size_t from, size_t end, int8_t *expanded);
/* All rows of a block [first, first + rows) of float input times panels [from, end). */
void qlm_tile_floats(const struct qlm_linear_input *input, const struct qlm_linear_output *output, size_t first,
                     size_t rows, size_t from, size_t end);
/* Exact sums of one tile of codes, corrected: int32 or int64 to c. */
void qlm_tile_exact(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m, size_t panel,
                    int wide, void *c, size_t ldc);

/* Rows of float input that qlm_tile_floats takes at most. */
#define QLM_FLOAT_ROWS 96

/* ---- what the kinds of tiles share ------------------------------------------------------------------------------ */

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
