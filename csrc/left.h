/* left.h: a block of activations, made ready for the integer kernels. */
#ifndef QLM_LEFT_H
#define QLM_LEFT_H

#include "qlm.h"

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
    int folded;            /* the weights' zero points are taken off their codes (set by linear.c) */
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
/* Bytes of a row of a block that its product reads, and those that a block takes; its arrays laid into `memory`. */
size_t qlm_left_read_bytes(const struct qlm_packed *layout, const struct qlm_linear_input *input);
size_t qlm_left_bytes(const struct qlm_packed *layout, size_t rows);
/* Whether kernels have a zx of each row to subtract. */
int qlm_left_zx_by_row(const struct qlm_packed *layout, const struct qlm_linear_input *input);
/* Whether products, corrections and scales are one call of linear_8, which takes rows_8 rows. */
int qlm_left_whole(const struct qlm_left *left, const struct qlm_packed *layout);
void qlm_left_lay_out(struct qlm_left *left, const struct qlm_packed *layout, const struct qlm_linear_input *input,
                      size_t rows, void *memory);
/* Fills rows [begin, end) of the block, whose row 0 is the input's row `first`, for the layout of `layout` (its spans,
 * its kind).  QLM_NONFINITE: *bad is the flat index. */
enum qlm_status qlm_left_fill(struct qlm_left *left, const struct qlm_packed *layout,
                              const struct qlm_linear_input *input, size_t first, size_t begin, size_t end,
                              size_t *bad);

#endif
