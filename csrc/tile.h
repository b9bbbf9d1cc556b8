/* tile.h: one tile of a linear (tile.c, tile_floats.c, tile_parts.c). */
#ifndef QLM_TILE_H
#define QLM_TILE_H

#include "left.h"
#include "pack.h"

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

#endif
