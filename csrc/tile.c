/* tile.c: one tile of codes times panels, products and epilogue, while it is hot; tile_grouped.c has those of several
 * groups, tile_floats.c those of float input.
 */
#include "tile.h"

#include "tile_grouped.h"

#define STRIP 128 /* columns that wait for their activation: a multiple of every nr */

void qlm_tile_expand(const struct qlm_packed *weight, size_t from, size_t end, int8_t *expanded)
{
    const struct qlm_kernels *kernels = weight->kernels;
    for (size_t panel = from; panel < end; panel++, expanded += weight->k_padded * kernels->nr) {
        const int8_t *zw = kernels->fold_4 && weight->zero8 ? weight->zero8 + qlm_packed_param(weight, panel, 0) : NULL;
        kernels->expand_4(qlm_panel_4(weight, panel, 0), weight->k, weight->group, zw, expanded);
    }
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
                      qlm_panel_8(weight, panel, 0), left->zx + row, left->rest + row, weight->sums + column,
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

void qlm_tile_codes(const struct qlm_left *left, const struct qlm_linear_output *output,
                    const struct qlm_packed *weight, size_t first, size_t row, size_t m, size_t from, size_t end,
                    const int8_t *expanded)
{
    struct qlm_place to;
    if (qlm_left_whole(left, weight)) {
        to = qlm_place_of(output, weight, first + row, from, end);
        to.far = left->far;
        if (output->activation == QLM_IDENTITY)
            products(left, weight, row, m, from, &to);
        else
            products_activated(left, output, weight, row, m, from, &to);
        return;
    }
    for (size_t panel = from; panel < end; panel++) {
        to = qlm_place_of(output, weight, first + row, panel, panel + 1);
        to.far = left->far;
        if (!left->grouped && qlm_packed_wide(weight))
            tile_64(left, output, weight, row, m, panel, &to);
        else
            qlm_tile_grouped(left, output, weight, row, m, panel,
                             expanded ? expanded + (panel - from) * weight->k_padded * weight->kernels->nr : NULL, &to);
    }
}
