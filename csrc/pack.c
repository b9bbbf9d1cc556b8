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

#include "common.h"
#include "linear.h"
#include "qlm.h"

size_t qlm_packed_step(const struct qlm_packed *packed)
{
    if (packed->kind == QLM_PACKED_F32) return 1;
    return packed->kind == QLM_PACKED_8 ? packed->kernels->k_step : 2;
}

static size_t element_size(const struct qlm_packed *packed)
{
    if (packed->kind == QLM_PACKED_F32) return sizeof(float);
    return packed->kind == QLM_PACKED_8 ? sizeof(int8_t) : sizeof(int16_t);
}

struct qlm_span qlm_packed_span(const struct qlm_packed *packed, size_t g)
{
    size_t stride = qlm_round_up(packed->group, qlm_packed_step(packed));
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

/* What is taken off a code so that it fits the signed element of a panel; 4-bit codes fit as they are. */
static int32_t code_shift(const struct qlm_type *type)
{
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

static void lay_out(struct carver *carver, struct qlm_packed *packed, int has_zero, int has_offset)
{
    size_t params = qlm_size_mul(packed->n_padded, packed->groups);
    packed->panels = carve(carver, qlm_size_mul(packed->n_padded, packed->k_padded), element_size(packed));
    if (packed->kind == QLM_PACKED_F32) return;
    packed->scale = carve(carver, params, sizeof(float));
    packed->sums64 = carve(carver, params, sizeof(int64_t));
    packed->sums = carve(carver, params, sizeof(int32_t));
    packed->chain = carve(carver, packed->n_padded, sizeof(float));
    packed->zero = has_zero ? carve(carver, params, sizeof(int32_t)) : NULL;
    packed->offset = has_offset ? carve(carver, params, sizeof(float)) : NULL;
}

static enum qlm_status allocate(struct qlm_packed *packed, int has_zero, int has_offset)
{
    struct carver carver = {NULL, 0};
    lay_out(&carver, packed, has_zero, has_offset);
    packed->nbytes = carver.used;
    packed->block = qlm_aligned_alloc(carver.used); /* grants no SIZE_MAX */
    if (!packed->block) return QLM_NO_MEMORY;
    memset(packed->block, 0, carver.used);
    carver = (struct carver){packed->block, 0};
    lay_out(&carver, packed, has_zero, has_offset);
    return QLM_OK;
}

void qlm_packed_free(struct qlm_packed *packed)
{
    qlm_aligned_free(packed->block);
    packed->block = NULL;
}

/* ---- codes ---------------------------------------------------------------------------------------------------- */

/* Element (j, at) of the panels: at counts padded k. */
static size_t packed_index(const struct qlm_packed *packed, size_t j, size_t at)
{
    size_t step = qlm_packed_step(packed), nr = packed->kernels->nr;
    return (j / nr * packed->k_padded + at / step * step) * nr + j % nr * step + at % step;
}

/* The elements of one output in ascending k, without a division for each. */
struct walker {
    const struct qlm_packed *packed;
    size_t index, phase, step, skip;
};

static struct walker walk_from(const struct qlm_packed *packed, size_t j, size_t at)
{
    size_t step = qlm_packed_step(packed);
    return (struct walker){packed, packed_index(packed, j, at), at % step, step, step * (packed->kernels->nr - 1)};
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

static inline void store_next(struct walker *to, int32_t value)
{
    size_t index = next_index(to);
    if (to->packed->kind == QLM_PACKED_8)
        ((int8_t *)to->packed->panels)[index] = (int8_t)value;
    else
        ((int16_t *)to->packed->panels)[index] = (int16_t)value;
}

static inline int32_t load_next(struct walker *from)
{
    size_t index = next_index(from);
    return from->packed->kind == QLM_PACKED_8 ? ((const int8_t *)from->packed->panels)[index]
                                              : ((const int16_t *)from->packed->panels)[index];
}

static void set_sum(struct qlm_packed *packed, size_t j, size_t g, int64_t sum)
{
    packed->sums64[g * packed->n_padded + j] = sum;
    packed->sums[g * packed->n_padded + j] = (int32_t)(uint32_t)(uint64_t)sum;
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
    set_sum(packed, j, g, sum);
}

static void pack_floats(struct qlm_packed *packed, const float *weight, size_t j)
{
    float *panels = packed->panels;
    struct walker to = walk_from(packed, j, 0);
    for (size_t i = 0; i < packed->k; i++) panels[next_index(&to)] = weight[j * packed->k + i];
}

/* ---- parameters ----------------------------------------------------------------------------------------------- */

static void pack_params(struct qlm_packed *packed, int per_tensor, const float *scale, const int32_t *zero,
                        const float *offset)
{
    for (size_t j = 0; j < packed->n; j++)
        for (size_t g = 0; g < packed->groups; g++) {
            size_t from = per_tensor ? 0 : j * packed->groups + g, to = g * packed->n_padded + j;
            packed->scale[to] = scale[from];
            if (packed->zero) packed->zero[to] = (zero ? zero[from] : 0) - packed->shift;
            if (packed->offset) packed->offset[to] = offset[from];
        }
}

/* C: the chain of fma(scale, sum of (b' - zero'), C) over the groups, in ascending order (numerics.md). */
static void pack_chain(struct qlm_packed *packed)
{
    for (size_t g = 0; g < packed->groups; g++) {
        int64_t count = (int64_t)qlm_packed_span(packed, g).count;
        for (size_t j = 0; j < packed->n; j++) {
            size_t at = g * packed->n_padded + j;
            int64_t sum = packed->sums64[at] - count * (packed->zero ? packed->zero[at] : 0);
            packed->chain[j] = qlm_fmaf(packed->scale[at], (float)sum, packed->chain[j]);
        }
    }
}

static int any_zero_point(const struct qlm_packed *packed, int per_tensor, const int32_t *zero)
{
    size_t params = per_tensor ? 1 : packed->n * packed->groups;
    if (packed->shift) return 1;
    for (size_t i = 0; zero && i < params; i++)
        if (zero[i]) return 1;
    return 0;
}

enum qlm_status qlm_pack_begin(struct qlm_packed *packed, const struct qlm_type *type, size_t n, size_t k, size_t group,
                               int per_tensor, const float *scale, const int32_t *zero, const float *offset)
{
    memset(packed, 0, sizeof *packed);
    packed->kernels = qlm_kernels_in_use;
    packed->kind = !scale ? QLM_PACKED_F32 : type->bits > 8 ? QLM_PACKED_16 : QLM_PACKED_8;
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
    enum qlm_status status = allocate(packed, scale && k && any_zero_point(packed, per_tensor, zero), scale && offset);
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

void qlm_pack_end(struct qlm_packed *packed)
{
    if (packed->kind != QLM_PACKED_F32 && packed->k) pack_chain(packed);
}

enum qlm_status qlm_pack(struct qlm_packed *packed, const void *weight, const struct qlm_type *type, size_t n, size_t k,
                         size_t group, int per_tensor, const float *scale, const int32_t *zero, const float *offset)
{
    enum qlm_status status = qlm_pack_begin(packed, type, n, k, group, per_tensor, scale, zero, offset);
    if (status != QLM_OK) return status;
    qlm_pack_outputs(packed, weight, 0, n);
    qlm_pack_end(packed);
    return QLM_OK;
}

/* ---- the same weight in another layout ------------------------------------------------------------------------ */

static void repack_span(struct qlm_packed *to, const struct qlm_packed *from, size_t j, size_t g)
{
    struct qlm_span span = qlm_packed_span(to, g);
    size_t from_g = from->group ? span.start / from->group : 0;
    struct qlm_span source = qlm_packed_span(from, from_g);
    size_t at = g * to->n_padded + j, from_at = from_g * from->n_padded + j;
    struct walker read = walk_from(from, j, source.padded + (span.start - source.start));
    struct walker written = walk_from(to, j, span.padded);
    int64_t sum = 0;
    for (size_t i = 0; i < span.count; i++) {
        int32_t value = load_next(&read);
        store_next(&written, value);
        sum += value;
    }
    set_sum(to, j, g, sum);
    to->scale[at] = from->scale[from_at];
    if (to->zero) to->zero[at] = from->zero[from_at];
    if (to->offset) to->offset[at] = from->offset[from_at];
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
    enum qlm_status status = allocate(to, from->zero != NULL, from->offset != NULL);
    if (status != QLM_OK) return status;
    memcpy(to->chain, from->chain, to->n_padded * sizeof *to->chain); /* C follows the weight's own groups */
    return QLM_OK;
}

void qlm_repack_outputs(struct qlm_packed *to, const struct qlm_packed *from, size_t begin, size_t end)
{
    for (size_t j = begin; j < end; j++)
        for (size_t g = 0; g < to->groups; g++) repack_span(to, from, j, g);
}
