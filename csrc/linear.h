/* linear.h: what the parts of `linear` share: pack.c (weights), left.c (activations), tile.c (one tile), linear.c
 * (blocking and threads), products.c (the calls).
 */
#ifndef QLM_LINEAR_H
#define QLM_LINEAR_H

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

/* Elements of k whose sums hold in 32 bits (tile.c has the proof), and whether a span has more, or wider ones. */
#define QLM_EXACT_K 32768
int qlm_packed_wide(const struct qlm_packed *packed);
static inline int qlm_packed_has_zero(const struct qlm_packed *packed) { return packed->zero8 || packed->zero; }
float qlm_packed_scale(const struct qlm_packed *packed, size_t param);
static inline int32_t qlm_packed_zero(const struct qlm_packed *packed, size_t param)
{
    if (packed->zero8) return packed->zero8[param];
    return packed->zero ? packed->zero[param] : 0;
}

/* What is read after the products of a block, to be asked for meanwhile. */
struct qlm_next {
    const char *at;
    size_t left, lines, outputs; /* lines left, lines in all, outputs over which they are spread */
};

/* A block of rows of activations, ready for the integer kernels of one packed layout.  Arrays over spans are
 * [spans][rows].  a' = code - shift is what the kernels see.
 *   grouped = 0   one scale a row, one span, no offset anywhere: the epilogue subtracts zero points in integers
 *   grouped = 1   one scale a row, several spans or an offset: zero points and offsets are applied after the chain
 *   grouped = 2   a scale for each span */
struct qlm_left {
    size_t rows, stride; /* bytes from row to row */
    int grouped;
    int narrow;            /* codes of at most 8 bits, whatever the elements */
    int far;               /* the outputs of the call do not fit L2 (set by linear.c) */
    struct qlm_next *next; /* set by linear.c; NULL: nothing */
    int zx_any;            /* whether any zx may be other than 0 */
    int folded;            /* the weights' zero points are in the expanded panels (set by linear.c) */
    char *elements;        /* [rows][stride] */
    int32_t *zx;           /* what the kernels subtract from a' */
    int32_t *rest;         /* sum over the span of (a' - zx), low 32 bits */
    int64_t *rest64;       /* the same */
    float *whole;          /* the same as a float, exact in the narrow path: |a' - zx| <= 255, 32768 elements */
    float *sx;             /* [rows]; grouped 2: [spans][rows] */
    float *zero;           /* [rows] zero points, grouped 1 without offsets */
    float *offset;         /* [rows], grouped 2: [spans][rows]; NULL: the activations have no offset */
    float *centred;        /* grouped: fl(sum over the span of (code - zero point)), times sx if grouped 2 */
};

/* Bytes of an element of a left operand. */
size_t qlm_left_element(const struct qlm_packed *layout);
/* Bytes of a row of a block, and of a block; its arrays laid into `memory`. */
size_t qlm_left_row_bytes(const struct qlm_packed *layout);
size_t qlm_left_bytes(const struct qlm_packed *layout, size_t rows);
void qlm_left_lay_out(struct qlm_left *left, const struct qlm_packed *layout, const struct qlm_linear_input *input,
                      size_t rows, void *memory);
/* Fills rows [begin, end) of the block, whose row 0 is the input's row `first`, for the layout of `layout` (its spans,
 * its kind).  QLM_NONFINITE: *bad is the flat index. */
enum qlm_status qlm_left_fill(struct qlm_left *left, const struct qlm_packed *layout,
                              const struct qlm_linear_input *input, size_t first, size_t begin, size_t end,
                              size_t *bad);

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
