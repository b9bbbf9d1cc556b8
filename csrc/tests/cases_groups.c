/* cases_groups.c: the kernels of weights in groups and of 4-bit weights.
 *
 * As in cases_int8.c, all tables must record the same numbers: the weights are drawn for COLUMNS outputs and packed
 * for the table, and zx is the shift of its left elements, so that what is left of a sum is that of the codes.
 */
#include <string.h>

#include "common.h"
#include "test.h"

#define COLUMNS 64
#define ROWS_MAX 12
#define DEPTH_MAX 160

/* A form of weights: how codes lie in a panel, and what meets them. */
struct form {
    int bits, expanded;
    size_t step, mr;
    int left;
};

static struct form form_of(const struct qlm_kernels *kernels, int bits, int expanded)
{
    if (bits == 8) return (struct form){8, 0, kernels->k_step, kernels->mr_8, kernels->left_type};
    return (struct form){4, expanded, 4, kernels->mr_4, kernels->left_4};
}

static int32_t shift_of(const struct form *form, const struct qlm_type *type)
{
    if (form->left == QLM_LEFT_U8) return type->min < 0 ? 128 : 0;
    return form->left == QLM_LEFT_S8 && type->min >= 0 ? -128 : 0;
}

static size_t left_size(const struct form *form) { return form->left == QLM_LEFT_S16 ? 2 : 1; }

static void put_left(const struct form *form, void *a, size_t i, int32_t element)
{
    if (form->left == QLM_LEFT_S16)
        ((int16_t *)a)[i] = (int16_t)element;
    else
        ((uint8_t *)a)[i] = (uint8_t)element;
}

static int32_t left_at(const struct form *form, const void *a, size_t i)
{
    if (form->left == QLM_LEFT_S16) return ((const int16_t *)a)[i];
    return form->left == QLM_LEFT_S8 ? ((const int8_t *)a)[i] : ((const uint8_t *)a)[i];
}

/* Where element i of k lies when each group starts on a multiple of the step. */
static size_t padded_at(const struct form *form, size_t group, size_t i)
{ return i / group * qlm_round_up(group, form->step) + i % group; }

static size_t padded_k(const struct form *form, size_t group, size_t k)
{ return qlm_div_up(k, group) * qlm_round_up(group, form->step); }

/* b [k][COLUMNS] -> the panel of outputs j .. j + nr - 1. */
static void *packed(const struct qlm_kernels *kernels, const struct form *form, const int8_t *b, size_t group, size_t k,
                    size_t j)
{
    size_t nr = kernels->nr, all = padded_k(form, group, k), step = form->step, half = 2 * nr;
    int nibbles = form->bits == 4 && !form->expanded;
    uint8_t *panel = operand(nibbles ? all * nr / 2 : all * nr);
    memset(panel, 0, nibbles ? all * nr / 2 : all * nr);
    for (size_t i = 0; i < k; i++)
        for (size_t c = 0; c < nr; c++) {
            size_t at = padded_at(form, group, i), in_step = c * step + at % step;
            uint8_t code = (uint8_t)b[i * COLUMNS + j + c];
            if (nibbles)
                panel[at / 4 * half + in_step % half] |= (uint8_t)((code & 15) << (in_step < half ? 0 : 4));
            else
                panel[at / step * step * nr + in_step] = code;
        }
    return panel;
}

static char *drawn_left(struct rng *rng, const struct form *form, const struct qlm_type *type, size_t m, size_t group,
                        size_t k, size_t *stride)
{
    size_t all = padded_k(form, group, k);
    uint8_t codes[ROWS_MAX * DEPTH_MAX];
    *stride = all * left_size(form);
    char *a = operand(m * *stride);
    memset(a, 0, m * *stride);
    fill_codes(rng, type, codes, m * k);
    for (size_t row = 0; row < m; row++)
        for (size_t i = 0; i < k; i++)
            put_left(form, a + row * *stride, padded_at(form, group, i),
                     code_at(type, codes, row * k + i) + shift_of(form, type));
    return a;
}

/* [groups][nr] of [groups][COLUMNS]. */
static void *columns_of(const void *all, size_t size, size_t groups, size_t nr, size_t j)
{
    char *part = operand(groups * nr * size);
    for (size_t g = 0; g < groups; g++)
        memcpy(part + g * nr * size, (const char *)all + (g * COLUMNS + j) * size, nr * size);
    return part;
}

static float *maybe_floats(struct rng *rng, float step, size_t n)
{
    if (rng_below(rng, 2)) return NULL;
    float *x = operand(n * sizeof *x);
    fill_floats(rng, PLAIN, step, x, n);
    return x;
}

struct tile {
    size_t m, k, group, groups, stride;
    const char *a;
    int half;
    const void *sw;
    const int8_t *zw;
    const float *ow, *sx, *centred, *ox;
    const int32_t *zx;
    const float *rest;
    int own_rest; /* rest is that of a, so that zw may be taken off the codes instead */
};

/* The sums of a's codes, and zero points of 4 bits. */
static void own_rest(struct rng *rng, const struct form *form, struct tile *t, float *rest, int8_t *zw)
{
    memset(rest, 0, t->groups * t->m * sizeof *rest);
    for (size_t row = 0; row < t->m; row++)
        for (size_t i = 0; i < t->k; i++) {
            int32_t element = left_at(form, t->a, row * t->stride / left_size(form) + padded_at(form, t->group, i));
            rest[i / t->group * t->m + row] += (float)(element - t->zx[0]);
        }
    for (size_t i = 0; i < t->groups * COLUMNS; i++) zw[i] = (int8_t)rng_between(rng, -8, 7);
    t->own_rest = 1;
}

static void draw_params(struct rng *rng, const struct form *form, struct tile *t, int32_t shift)
{
    size_t columns = t->groups * COLUMNS, rows = t->groups * t->m;
    float *sw = operand(columns * sizeof *sw), *centred = operand(rows * sizeof *centred);
    uint16_t *halves = operand(columns * sizeof *halves);
    int8_t *zw = operand(columns);
    int32_t *zx = operand(rows * sizeof *zx);
    float *rest = operand(rows * sizeof *rest);
    for (size_t i = 0; i < columns; i++) {
        sw[i] = rng_scale(rng);
        halves[i] = (uint16_t)(rng_next(rng) % 0x7c00);
        zw[i] = (int8_t)rng_between(rng, -128, 127);
    }
    for (size_t i = 0; i < rows; i++) zx[i] = shift;
    for (size_t i = 0; i < rows; i++)
        rest[i] = (float)rng_between(rng, -255 * (int64_t)t->group, 255 * (int64_t)t->group);
    fill_floats(rng, PLAIN, 0.5f, centred, rows);
    t->half = (int)rng_below(rng, 2);
    t->sw = t->half ? (void *)halves : sw;
    t->zw = rng_below(rng, 2) ? zw : NULL;
    t->ow = maybe_floats(rng, 0.5f, columns);
    t->sx = maybe_floats(rng, 0.5f, rows);
    t->ox = maybe_floats(rng, 0.5f, rows);
    t->zx = zx;
    if (rng_below(rng, 2) && form->bits == 4) own_rest(rng, form, t, rest, zw);
    t->rest = rest;
    t->centred = centred;
}

static void run_panel(const struct qlm_kernels *kernels, const struct form *form, const struct tile *t, const int8_t *b,
                      size_t j, float *out)
{
    size_t nr = kernels->nr;
    void *panel = packed(kernels, form, b, t->group, t->k, j);
    void *sw = columns_of(t->sw, t->half ? 2 : 4, t->groups, nr, j);
    int8_t *zw = t->zw ? columns_of(t->zw, 1, t->groups, nr, j) : NULL;
    float *ow = t->ow ? columns_of(t->ow, 4, t->groups, nr, j) : NULL, *y = operand(form->mr * nr * sizeof *y);
    for (size_t row = 0; row < t->m; row += form->mr) {
        size_t m = qlm_min_size(form->mr, t->m - row);
        const char *a = t->a + row * t->stride;
        const float *sx = t->sx ? t->sx + row : NULL, *ox = t->ox ? t->ox + row : NULL;
        const float *rest = t->own_rest && kernels->fold_4 == 2 && !form->expanded ? NULL : t->rest + row;
        if (form->bits == 8)
            kernels->gemm_8_groups(m, t->k, t->group, a, t->stride, panel, sw, t->half, zw, ow, t->zx + row, rest, sx,
                                   t->centred + row, ox, t->m, NULL, NULL, NULL, NULL, NULL, NULL, 0, y, nr, 0);
        else
            kernels->gemm_4_groups(m, t->k, t->group, a, t->stride, panel, form->expanded, sw, t->half, zw, ow,
                                   t->zx + row, rest, sx, t->centred + row, ox, t->m, NULL, NULL, NULL, NULL, NULL,
                                   NULL, 0, y, nr, 0);
        for (size_t i = 0; i < m; i++) memcpy(out + (row + i) * COLUMNS + j, y + i * nr, nr * sizeof *y);
    }
}

static void groups_of(const struct qlm_kernels *kernels, int bits, struct rng *rng, struct record *record)
{
    static const size_t sizes[] = {32, 64, 12, 5};
    const struct qlm_type *type = &test_types[rng_below(rng, 2)];
    struct form form = form_of(kernels, bits, (int)rng_below(rng, 2));
    struct tile t = {.m = 1 + rng_below(rng, ROWS_MAX), .k = 1 + rng_below(rng, DEPTH_MAX)};
    t.group = qlm_min_size(sizes[rng_below(rng, 4)], t.k);
    t.groups = qlm_div_up(t.k, t.group);
    int8_t b[DEPTH_MAX * COLUMNS];
    fill_codes(rng, &test_types[bits == 8 ? 0 : 2], b, t.k * COLUMNS);
    t.a = drawn_left(rng, &form, type, t.m, t.group, t.k, &t.stride);
    draw_params(rng, &form, &t, shift_of(&form, type));
    float out[ROWS_MAX * COLUMNS];
    for (size_t j = 0; j < COLUMNS; j += kernels->nr) run_panel(kernels, &form, &t, b, j, out);
    record_numbers(record, out, t.m * COLUMNS);
}

static void gemm_8_groups(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ groups_of(kernels, 8, rng, record); }

static void gemm_4_groups(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{ groups_of(kernels, 4, rng, record); }

static void gemm_4(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = &test_types[rng_below(rng, 2)];
    struct form form = form_of(kernels, 4, (int)rng_below(rng, 2));
    size_t m = 1 + rng_below(rng, ROWS_MAX), k = 1 + rng_below(rng, DEPTH_MAX), stride, nr = kernels->nr;
    int8_t b[DEPTH_MAX * COLUMNS];
    fill_codes(rng, &test_types[2], b, k * COLUMNS);
    char *a = drawn_left(rng, &form, type, m, k, k, &stride);
    int32_t *c = operand(m * COLUMNS * sizeof *c), shift = shift_of(&form, type);
    for (size_t j = 0; j < COLUMNS; j += nr) {
        void *panel = packed(kernels, &form, b, k, k, j);
        for (size_t row = 0; row < m; row += form.mr)
            kernels->gemm_4(qlm_min_size(form.mr, m - row), qlm_div_up(k, 4), a + row * stride, stride, panel,
                            form.expanded, c + row * COLUMNS + j, COLUMNS);
    }
    for (size_t i = 0; i < m * COLUMNS; i++) {
        int32_t sum = 0;
        for (size_t l = 0; l < k; l++) sum += b[l * COLUMNS + i % COLUMNS];
        record_int(record, c[i] - shift * sum);
    }
}

static void expand_4(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    struct form nibbles = form_of(kernels, 4, 0), bytes = form_of(kernels, 4, 1);
    size_t k = 1 + rng_below(rng, DEPTH_MAX), nr = kernels->nr, steps = qlm_div_up(k, 4);
    int8_t b[DEPTH_MAX * COLUMNS];
    int same = 1;
    fill_codes(rng, &test_types[2], b, k * COLUMNS);
    for (size_t j = 0; j < COLUMNS; j += nr) {
        int8_t *out = operand(steps * 4 * nr);
        kernels->expand_4(packed(kernels, &nibbles, b, k, k, j), k, k, NULL, out);
        same &= memcmp(out, packed(kernels, &bytes, b, k, k, j), steps * 4 * nr) == 0;
    }
    record_int(record, same);
    check(same, "expand_4 differs from the codes");
}

static void left_sum_4(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    const struct qlm_type *type = &test_types[rng_below(rng, 2)];
    struct form form = form_of(kernels, 4, 0);
    size_t n = 1 + rng_below(rng, DEPTH_MAX), stride;
    char *a = drawn_left(rng, &form, type, 1, n, n, &stride);
    record_int(record, kernels->left_sum_4(a, n) - (int32_t)n * shift_of(&form, type));
}

static void unpack_4(const struct qlm_kernels *kernels, struct rng *rng, struct record *record)
{
    struct form form = form_of(kernels, 4, 0);
    size_t k = 1 + rng_below(rng, DEPTH_MAX - 1), nr = kernels->nr, k0 = rng_below(rng, k);
    size_t count = rng_below(rng, k - k0 + 1);
    int8_t b[DEPTH_MAX * COLUMNS];
    float params[3][COLUMNS], all[DEPTH_MAX * COLUMNS];
    fill_codes(rng, &test_types[2], b, k * COLUMNS);
    for (int i = 0; i < 3; i++) fill_floats(rng, PLAIN, 1.0f, params[i], COLUMNS);
    for (size_t j = 0; j < COLUMNS; j += nr) {
        const float *scale = columns_of(params[0], 4, 1, nr, j), *zero = columns_of(params[1], 4, 1, nr, j);
        float *out = operand(count * nr * sizeof *out);
        kernels->unpack_4(packed(kernels, &form, b, k, k, j), k0, count, scale, zero,
                          columns_of(params[2], 4, 1, nr, j), out);
        for (size_t i = 0; i < count; i++) memcpy(all + i * COLUMNS + j, out + i * nr, nr * sizeof *out);
    }
    record_floats(record, all, count * COLUMNS);
}

const struct kernel_case group_kernel_cases[] = {
    {"gemm_8_groups", gemm_8_groups}, {"gemm_4_groups", gemm_4_groups}, {"gemm_4", gemm_4}, {"expand_4", expand_4},
    {"left_sum_4", left_sum_4},       {"unpack_4", unpack_4},           {NULL, NULL},
};
