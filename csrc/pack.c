/* pack.c: a weight [n][k] -> panels of nr outputs, in the layout that one table of kernels reads.
 *
 * Panel p holds outputs p * nr .. p * nr + nr - 1 for every k, so that a kernel reads it front to back, whatever the
 * number of rows it multiplies: one layout serves M = 1 and M = 4096.  Inside a panel `step` neighbouring k of an
 * output lie together (int8: k_step, int16: 2, float: 1).  Outputs past n are zero codes with scale 0, so what they
 * produce is finite and is never stored.
 *
 * Spans.  The k axis is cut where the weight's parameters change, and each span starts on a multiple of `step`: the
 * padding codes are zero, so an exact sum over a padded span is the sum over the span.  Everything that a product
 * needs besides the codes is computed here once: sums of the codes, and the chain C of numerics.md ("Groups").
 */
#include <string.h>

#include "blocks.h"
#include "common.h"
#include "kernels/half.h"
#include "pack.h"

size_t qlm_packed_step(const struct qlm_packed *packed)
{
    static const uint8_t steps[] = {[QLM_PACKED_F32] = 1, [QLM_PACKED_4] = 4, [QLM_PACKED_16] = 2};
    return packed->kind == QLM_PACKED_8 ? packed->kernels->k_step : steps[packed->kind];
}

int qlm_packed_wide(const struct qlm_packed *packed)
{ return packed->kind == QLM_PACKED_16 || packed->group > QLM_EXACT_K; }

float qlm_packed_scale(const struct qlm_packed *packed, size_t param)
{ return packed->half ? qlm_half_value(packed->half[param]) : packed->scale[param]; }

size_t qlm_packed_pair_bytes(const struct qlm_packed *packed)
{
    static const uint8_t sizes[] = {[QLM_PACKED_F32] = 8, [QLM_PACKED_4] = 1, [QLM_PACKED_8] = 2, [QLM_PACKED_16] = 4};
    return sizes[packed->kind];
}

struct qlm_span qlm_packed_span(const struct qlm_packed *packed, size_t g)
{
    /* A step is a power of two, and this is asked for each group of each row: no division. */
    size_t step = qlm_packed_step(packed), stride = (packed->group + step - 1) & ~(step - 1);
    struct qlm_span span = {g * packed->group, packed->group, g * stride};
    if (span.start + span.count > packed->k) span.count = packed->k - span.start;
    return span;
}

static int32_t code_at(const void *codes, enum qlm_code code, size_t i)
{
    switch (code) {
    case QLM_S8:
        return ((const int8_t *)codes)[i];
    case QLM_U8:
        return ((const uint8_t *)codes)[i];
    case QLM_S16:
        return ((const int16_t *)codes)[i];
    default:
        return ((const uint16_t *)codes)[i];
    }
}

/* What is taken off a code so that it fits the signed element of a panel. */
static int32_t code_shift(const struct qlm_type *type)
{
    if (type->bits <= 4) return type->code == QLM_U8 ? 8 : 0;
    if (type->code == QLM_U8 && type->max > 127) return 128;
    if (type->code == QLM_U16 && type->max > 32767) return 32768;
    return 0;
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

/* Hands out aligned parts of one block; with a NULL base it only counts: SIZE_MAX once a size wraps. */
struct carver {
    char *base;
    size_t used;
};

static void *carve(struct carver *carver, size_t count, size_t size)
{
    size_t start = carver->used;
    carver->used = qlm_size_add(start, qlm_size_lines(qlm_size_mul(count, size)));
    return carver->base ? carver->base + start : NULL;
}

/* The arrays that a kind needs are those that the kernels of its tiles read (qlm.h). */
static void lay_out(struct carver *carver, struct qlm_packed *packed, int has_half, int has_zero, int has_offset)
{
    size_t params = qlm_size_mul(packed->n_padded, packed->groups);
    int words = packed->kind == QLM_PACKED_16, plain = packed->groups == 1 || qlm_packed_wide(packed);
    packed->panels = carve(carver, qlm_size_mul(packed->n_padded / 2, packed->k_padded), qlm_packed_pair_bytes(packed));
    if (packed->kind == QLM_PACKED_F32) return;
    packed->scale = has_half ? NULL : carve(carver, params, sizeof(float));
    packed->half = has_half ? carve(carver, params, sizeof(uint16_t)) : NULL;
    packed->zero8 = has_zero && !words ? carve(carver, params, sizeof(int8_t)) : NULL;
    packed->zero = has_zero && plain ? carve(carver, params, sizeof(int32_t)) : NULL;
    packed->offset = has_offset ? carve(carver, params, sizeof(float)) : NULL;
    packed->sums64 = plain ? carve(carver, params, sizeof(int64_t)) : NULL;
    packed->sums = packed->groups == 1 && packed->kind == QLM_PACKED_8 ? carve(carver, params, sizeof(int32_t)) : NULL;
    packed->chain = carve(carver, packed->n_padded, sizeof(float));
}

static enum qlm_status allocate(struct qlm_packed *packed, int has_half, int has_zero, int has_offset)
{
    struct carver carver = {NULL, 0};
    lay_out(&carver, packed, has_half, has_zero, has_offset);
    packed->nbytes = carver.used;
    packed->block = qlm_block_alloc(carver.used); /* grants no SIZE_MAX */
    if (!packed->block) return QLM_NO_MEMORY;
    memset(packed->block, 0, carver.used);
    carver = (struct carver){packed->block, 0};
    lay_out(&carver, packed, has_half, has_zero, has_offset);
    return QLM_OK;
}

void qlm_packed_free(struct qlm_packed *packed)
{
    qlm_block_free(packed->block, packed->nbytes);
    packed->block = NULL;
}

/* ---- codes ---------------------------------------------------------------------------------------------------- */

/* The elements of one output in ascending k, without a division for each.  Of 4-bit codes, outputs j and j + nr / 2 of
 * a panel share bytes, the first in their lower halves (kernels.h). */
struct walker {
    const struct qlm_packed *packed;
    size_t index, phase, step, skip;
    int upper;
};

/* From element `at` of padded k on. */
static struct walker walk_from(const struct qlm_packed *packed, size_t j, size_t at)
{
    size_t step = qlm_packed_step(packed), nr = packed->kernels->nr, panel = j / nr, column = j % nr;
    struct walker walker = {.packed = packed, .phase = at % step, .step = step};
    if (packed->kind == QLM_PACKED_4) {
        nr /= 2;
        walker.upper = column >= nr;
        column %= nr;
    }
    walker.index = (panel * packed->k_padded + at / step * step) * nr + column * step + at % step;
    walker.skip = step * (nr - 1);
    return walker;
}

static inline size_t next_index(struct walker *walker)
{
    size_t index = walker->index++;
    if (++walker->phase == walker->step) {
        walker->phase = 0;
        walker->index += walker->skip;
    }
    return index;
}

/* To a panel that holds zeros. */
static inline void store_next(struct walker *to, int32_t value)
{
    size_t index = next_index(to);
    if (to->packed->kind == QLM_PACKED_4)
        ((uint8_t *)to->packed->panels)[index] |= (uint8_t)((value & 15) << (to->upper ? 4 : 0));
    else if (to->packed->kind == QLM_PACKED_8)
        ((int8_t *)to->packed->panels)[index] = (int8_t)value;
    else
        ((int16_t *)to->packed->panels)[index] = (int16_t)value;
}

static inline int32_t load_next(struct walker *from)
{
    size_t index = next_index(from);
    if (from->packed->kind == QLM_PACKED_4) {
        uint8_t byte = ((const uint8_t *)from->packed->panels)[index];
        return (((from->upper ? byte >> 4 : byte) & 15) ^ 8) - 8;
    }
    return from->packed->kind == QLM_PACKED_8 ? ((const int8_t *)from->packed->panels)[index]
                                              : ((const int16_t *)from->packed->panels)[index];
}

static size_t param_of(const struct qlm_packed *packed, size_t j, size_t g)
{
    size_t nr = packed->kernels->nr;
    return qlm_packed_param(packed, j / nr, g) + j % nr;
}

static void set_sum(struct qlm_packed *packed, size_t param, int64_t sum)
{
    if (packed->sums64) packed->sums64[param] = sum;
    if (packed->sums) packed->sums[param] = (int32_t)(uint32_t)(uint64_t)sum;
}

/* One step of C, the chain of fma(scale, sum of (b' - zero'), C) over the groups, in ascending order (numerics.md). */
static void add_to_chain(struct qlm_packed *packed, size_t j, size_t param, size_t count, int64_t sum)
{
    int64_t centred = sum - (int64_t)count * qlm_packed_zero(packed, param);
    packed->chain[j] = qlm_fmaf(qlm_packed_scale(packed, param), (float)centred, packed->chain[j]);
}

static void pack_span(struct qlm_packed *packed, const void *codes, size_t j, size_t g)
{
    struct qlm_span span = qlm_packed_span(packed, g);
    struct walker to = walk_from(packed, j, span.padded);
    int64_t sum = 0;
    for (size_t i = 0; i < span.count; i++) {
        int32_t value = code_at(codes, packed->type.code, j * packed->k + span.start + i) - packed->shift;
        store_next(&to, value);
        sum += value;
    }
    set_sum(packed, param_of(packed, j, g), sum);
    add_to_chain(packed, j, param_of(packed, j, g), span.count, sum);
}

static void pack_floats(struct qlm_packed *packed, const float *weight, size_t j)
{
    float *panels = packed->panels;
    struct walker to = walk_from(packed, j, 0);
    for (size_t i = 0; i < packed->k; i++) panels[next_index(&to)] = weight[j * packed->k + i];
}

/* ---- parameters ----------------------------------------------------------------------------------------------- */

static void set_scale(struct qlm_packed *packed, size_t param, float scale)
{
    if (packed->half)
        qlm_half_exact(scale, &packed->half[param]);
    else
        packed->scale[param] = scale;
}

static void set_zero(struct qlm_packed *packed, size_t param, int32_t zero)
{
    if (packed->zero8) packed->zero8[param] = (int8_t)zero;
    if (packed->zero) packed->zero[param] = zero;
}

static void pack_params(struct qlm_packed *packed, int per_tensor, const float *scale, const int32_t *zero,
                        const float *offset)
{
    for (size_t j = 0; j < packed->n; j++)
        for (size_t g = 0; g < packed->groups; g++) {
            size_t from = per_tensor ? 0 : j * packed->groups + g, to = param_of(packed, j, g);
            set_scale(packed, to, scale[from]);
            set_zero(packed, to, (zero ? zero[from] : 0) - packed->shift);
            if (packed->offset) packed->offset[to] = offset[from];
        }
}

/* Scales of groups that a float16 holds as they are; without groups there are too few to matter. */
static int all_half(const struct qlm_packed *packed, int per_tensor, const float *scale)
{
    size_t params = per_tensor ? 1 : packed->n * packed->groups;
    uint16_t half;
    if (packed->kind == QLM_PACKED_16 || packed->groups == 1) return 0;
    for (size_t i = 0; i < params; i++)
        if (!qlm_half_exact(scale[i], &half)) return 0;
    return 1;
}

static int any_zero_point(const struct qlm_packed *packed, int per_tensor, const int32_t *zero)
{
    size_t params = per_tensor ? 1 : packed->n * packed->groups;
    if (packed->shift) return 1;
    for (size_t i = 0; zero && i < params; i++)
        if (zero[i]) return 1;
    return 0;
}

static enum qlm_packed_kind kind_of(const struct qlm_type *type)
{
    if (type->bits > 8) return QLM_PACKED_16;
    return type->bits > 4 ? QLM_PACKED_8 : QLM_PACKED_4;
}

enum qlm_status qlm_pack_begin(struct qlm_packed *packed, const struct qlm_type *type, size_t n, size_t k, size_t group,
                               int per_tensor, const float *scale, const int32_t *zero, const float *offset)
{
    memset(packed, 0, sizeof *packed);
    packed->kernels = qlm_kernels_in_use;
    packed->kind = !scale ? QLM_PACKED_F32 : kind_of(type);
    if (scale) {
        packed->type = *type;
        /* A float offset stands for any zero point: codes count from 0, and a shift would need one. */
        packed->shift = code_shift(type);
    }
    packed->n = n;
    packed->k = k;
    packed->group = group && group < k ? group : k;
    packed->groups = packed->group ? qlm_div_up(k, packed->group) : 1;
    if (__builtin_add_overflow(n, (size_t)packed->kernels->nr - 1, &packed->n_padded)) return QLM_NO_MEMORY;
    packed->n_padded -= packed->n_padded % packed->kernels->nr;
    size_t stride = qlm_round_up(packed->group, qlm_packed_step(packed));
    if (__builtin_mul_overflow(stride, packed->groups, &packed->k_padded)) return QLM_NO_MEMORY;
    enum qlm_status status = allocate(packed, scale && k && all_half(packed, per_tensor, scale),
                                      scale && k && any_zero_point(packed, per_tensor, zero), scale && offset);
    /* Without k there are no products: the parameters (of groups, there may be none) meet sums of nothing. */
    if (status == QLM_OK && scale && k) pack_params(packed, per_tensor, scale, zero, offset);
    return status;
}

void qlm_pack_outputs(struct qlm_packed *packed, const void *weight, size_t begin, size_t end)
{
    if (!packed->k) return;
    for (size_t j = begin; j < end; j++) {
        if (packed->kind == QLM_PACKED_F32) pack_floats(packed, weight, j);
        for (size_t g = 0; packed->kind != QLM_PACKED_F32 && g < packed->groups; g++) pack_span(packed, weight, j, g);
    }
}

enum qlm_status qlm_pack(struct qlm_packed *packed, const void *weight, const struct qlm_type *type, size_t n, size_t k,
                         size_t group, int per_tensor, const float *scale, const int32_t *zero, const float *offset)
{
    enum qlm_status status = qlm_pack_begin(packed, type, n, k, group, per_tensor, scale, zero, offset);
    if (status != QLM_OK) return status;
    qlm_pack_outputs(packed, weight, 0, n);
    return QLM_OK;
}

/* ---- the same weight in another layout ------------------------------------------------------------------------ */

static void repack_span(struct qlm_packed *to, const struct qlm_packed *from, size_t j, size_t g)
{
    struct qlm_span span = qlm_packed_span(to, g);
    size_t from_g = from->group ? span.start / from->group : 0;
    struct qlm_span source = qlm_packed_span(from, from_g);
    size_t param = param_of(to, j, g), from_param = param_of(from, j, from_g);
    struct walker read = walk_from(from, j, source.padded + (span.start - source.start));
    struct walker written = walk_from(to, j, span.padded);
    int64_t sum = 0;
    for (size_t i = 0; i < span.count; i++) {
        int32_t value = load_next(&read);
        store_next(&written, value);
        sum += value;
    }
    set_sum(to, param, sum);
    set_scale(to, param, qlm_packed_scale(from, from_param));
    set_zero(to, param, qlm_packed_zero(from, from_param));
    if (to->offset) to->offset[param] = from->offset[from_param];
}

enum qlm_status qlm_repack_begin(struct qlm_packed *to, const struct qlm_packed *from, struct qlm_fit fit)
{
    *to = *from;
    to->kind = fit.kind;
    to->block = NULL;
    to->group = fit.group;
    to->groups = fit.group ? (from->k + fit.group - 1) / fit.group : 1;
    if (__builtin_mul_overflow(qlm_round_up(fit.group, qlm_packed_step(to)), to->groups, &to->k_padded))
        return QLM_NO_MEMORY;
    enum qlm_status status =
        allocate(to, from->half && to->kind != QLM_PACKED_16, qlm_packed_has_zero(from), from->offset != NULL);
    if (status != QLM_OK) return status;
    memcpy(to->chain, from->chain, to->n_padded * sizeof *to->chain); /* C follows the weight's own groups */
    return QLM_OK;
}

void qlm_repack_outputs(struct qlm_packed *to, const struct qlm_packed *from, size_t begin, size_t end)
{
    for (size_t j = begin; j < end; j++)
        for (size_t g = 0; g < to->groups; g++) repack_span(to, from, j, g);
}
