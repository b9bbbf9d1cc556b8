/* tile_parts.h: what the kinds of tiles share: where an output lies, panels, exact sums. */
#ifndef QLM_TILE_PARTS_H
#define QLM_TILE_PARTS_H

#include "common.h"
#include "left.h"
#include "pack.h"

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

/* Of panels [panel, end). */
static inline struct qlm_place qlm_place_of(const struct qlm_linear_output *output, const struct qlm_packed *weight,
                                            size_t row, size_t panel, size_t end)
{
    size_t nr = weight->kernels->nr, column = panel * nr, at = row * weight->n + column;
    struct qlm_place place = {.n = qlm_min_size(weight->n - column, (end - panel) * nr), .ld = weight->n};
    place.bias = output->bias ? output->bias + column : NULL;
    place.residual = output->residual ? output->residual + at : NULL;
    place.out = output->out + at;
    return place;
}

/* Element `at` of padded k of a row of the left operand. */
static inline const char *qlm_tile_left(const struct qlm_left *left, const struct qlm_packed *weight, size_t row,
                                        size_t at)
{ return left->elements + row * left->stride + at * qlm_left_element(weight); }

/* The panel from padded k `at` on. */
static inline const void *qlm_panel_4(const struct qlm_packed *weight, size_t panel, size_t at)
{ return (const uint8_t *)weight->panels + (panel * weight->k_padded + at) * (weight->kernels->nr / 2); }

static inline const int8_t *qlm_panel_8(const struct qlm_packed *weight, size_t panel, size_t at)
{ return (const int8_t *)weight->panels + (panel * weight->k_padded + at) * weight->kernels->nr; }

static inline const int16_t *qlm_panel_16(const struct qlm_packed *weight, size_t panel, size_t at)
{ return (const int16_t *)weight->panels + (panel * weight->k_padded + at) * weight->kernels->nr; }

/* fl(acc') of a span as floats, by the 64-bit path. */
void qlm_tile_floats_64(const struct qlm_left *left, const struct qlm_packed *weight, size_t row, size_t m,
                        size_t panel, size_t g, float *sums);
/* The epilogue of a float tile; sw, sx may be NULL. */
void qlm_tile_finish(const struct qlm_kernels *kernels, int activation, size_t m, const float *acc, const float *sw,
                     const float *sx, const struct qlm_place *to);

#endif
