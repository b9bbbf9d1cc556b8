/* left_codes.h: the values of what shares one scale -> elements of the left operand (left.c, left_codes.c). */
#ifndef QLM_LEFT_CODES_H
#define QLM_LEFT_CODES_H

#include "left.h"
#include "pack.h"

/* What a block's rows are filled from and into. */
struct qlm_filler {
    struct qlm_left *left;
    const struct qlm_packed *layout;
    const struct qlm_linear_input *input;
    size_t element;
    int whole;      /* qlm_left_whole */
    int32_t shift;  /* a' = code - shift */
    int32_t lo, hi; /* bounds of codes */
};

/* The quantization of one piece; `index` counts those of a row. */
struct qlm_piece {
    size_t row, input_row, index, start, count;
    float scale, offset, min;
    int32_t zero;
    int constant;
};

/* The type of elements of an 8-bit left operand. */
static inline uint8_t qlm_left_byte_type(const struct qlm_packed *layout)
{ return layout->kind == QLM_PACKED_4 ? layout->kernels->left_4 : layout->kernels->left_type; }

static inline int qlm_code_signed(const struct qlm_linear_input *input)
{ return input->type.code == QLM_S8 || input->type.code == QLM_S16; }

/* Whether no padding lies between spans. */
static inline int qlm_spans_touch(const struct qlm_packed *layout)
{ return layout->groups == 1 || layout->group % qlm_packed_step(layout) == 0; }

/* The piece's elements, in the spans of its row.  Not 0: a value is not finite. */
int qlm_left_codes(const struct qlm_filler *f, const struct qlm_piece *piece);

#endif
