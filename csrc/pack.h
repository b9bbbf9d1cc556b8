/* pack.h: how a packed weight is read: its spans of k and their parameters. */
#ifndef QLM_PACK_H
#define QLM_PACK_H

#include "qlm.h"

/* A run of k between two changes of the weight's parameters; `padded` is where it starts in padded k. */
struct qlm_span {
    size_t start, count, padded;
};

/* Elements of a panel that lie together: spans start on multiples of it. */
size_t qlm_packed_step(const struct qlm_packed *packed);

/* Bytes of two elements of a panel: of 4 bits, one has none of its own. */
size_t qlm_packed_pair_bytes(const struct qlm_packed *packed);
struct qlm_span qlm_packed_span(const struct qlm_packed *packed, size_t g);

/* Where a parameter of output 0 of a panel is, for span g; those of the panel's other outputs follow. */
static inline size_t qlm_packed_param(const struct qlm_packed *packed, size_t panel, size_t g)
{ return (panel * packed->groups + g) * packed->kernels->nr; }

/* Elements of k whose sums hold in 32 bits (tile_parts.c has the proof), and whether a span has more, or wider ones. */
#define QLM_EXACT_K 32768
int qlm_packed_wide(const struct qlm_packed *packed);
static inline int qlm_packed_has_zero(const struct qlm_packed *packed) { return packed->zero8 || packed->zero; }
float qlm_packed_scale(const struct qlm_packed *packed, size_t param);
static inline int32_t qlm_packed_zero(const struct qlm_packed *packed, size_t param)
{
    if (packed->zero8) return packed->zero8[param];
    return packed->zero ? packed->zero[param] : 0;
}

#endif
