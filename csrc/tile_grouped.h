/* tile_grouped.h: a tile of several spans, or scales, or offsets, and of 4-bit codes. */
#ifndef QLM_TILE_GROUPED_H
#define QLM_TILE_GROUPED_H

#include "tile_parts.h"

/* expanded: the panel as qlm_tile_expand makes it, or NULL. */
void qlm_tile_grouped(const struct qlm_left *left, const struct qlm_linear_output *output,
                      const struct qlm_packed *weight, size_t row, size_t m, size_t panel, const int8_t *expanded,
                      const struct qlm_place *to);

#endif
