/* left_codes.c: a piece of a row, quantized or taken as codes, as elements of the left operand: bytes, or words of 16
 * bits where the kernels or the codes want them.
 */
#include <string.h>

#include "common.h"
#include "left_codes.h"

static void fill_constant(const struct qlm_filler *f, size_t n, int32_t value, void *to)
{
    if (f->element == 1) {
        memset(to, (uint8_t)value, n);
        return;
    }
    for (size_t i = 0; i < n; i++) ((int16_t *)to)[i] = (int16_t)value;
}

static void shift_words(int16_t *to, size_t n, int32_t shift)
{
    for (size_t i = 0; shift && i < n; i++) to[i] = (int16_t)((int32_t)(uint16_t)to[i] - shift);
}

/* 16-bit left elements from 8-bit codes (of an 8-bit input beside 16-bit weights). */
static void widen_bytes(const uint8_t *codes, size_t n, int is_signed, int16_t *to)
{
    for (size_t i = 0; i < n; i++) to[i] = is_signed ? (int16_t)(int8_t)codes[i] : (int16_t)codes[i];
}

#define CHUNK 512 /* codes on the stack while they are widened */

/* Quantizes n floats of a piece into 16-bit elements, whatever the width of the code. */
static int quantize_words(const struct qlm_filler *f, const struct qlm_piece *piece, const float *x, size_t n,
                          size_t column, int16_t *to)
{
    const struct qlm_kernels *kernels = f->layout->kernels;
    float zero = (float)piece->zero, lo = (float)f->lo, hi = (float)f->hi, zeros[CHUNK];
    int bad = 0;
    if (f->input->interval) {
        struct qlm_layout flat = {1, 1, n, 0};
        uint16_t wide[CHUNK];
        uint8_t constant = (uint8_t)piece->constant;
        for (size_t i = 0; i < n; i += CHUNK) {
            size_t count = qlm_min_size(n - i, CHUNK);
            flat.inner = count;
            bad |= qlm_quantize_interval(x + i, &flat, 0, count, &f->input->type, &piece->min, &piece->scale, &constant,
                                         wide) != SIZE_MAX;
            if (f->input->type.bits > 8)
                memcpy(to + i, wide, count * sizeof *to);
            else
                widen_bytes((const uint8_t *)wide, count, qlm_code_signed(f->input), to + i);
        }
    } else if (f->input->divisor) {
        for (size_t i = 0; i < CHUNK; i++) zeros[i] = zero;
        for (size_t i = 0; i < n; i += CHUNK)
            bad |= kernels->quantize_cols_f32_16(x + i, qlm_min_size(n - i, CHUNK), f->input->divisor + column + i,
                                                 zeros, lo, hi, (uint16_t *)to + i);
    } else {
        bad = kernels->quantize_f32_16(x, n, piece->scale, zero, lo, hi, (uint16_t *)to);
    }
    shift_words(to, n, f->shift);
    return bad;
}

/* Whether elements are bytes where those of 8-bit weights, which the left_* kernels make, are not (AVX2): as elements
 * they are the codes themselves, shifted. */
static int own_bytes(const struct qlm_filler *f)
{ return qlm_left_byte_type(f->layout) != f->layout->kernels->left_type; }

static int quantize_own_bytes(const struct qlm_filler *f, const struct qlm_piece *piece, const float *x, size_t n,
                              size_t column, uint8_t *to)
{
    const struct qlm_kernels *kernels = f->layout->kernels;
    float zero = (float)(piece->zero - f->shift), lo = (float)(f->lo - f->shift), hi = (float)(f->hi - f->shift);
    if (f->input->interval)
        return kernels->interval_f32_8(x, n, piece->min, piece->scale, 1 << f->input->type.bits, f->lo - f->shift, to);
    if (!f->input->divisor) return kernels->quantize_f32_8(x, n, piece->scale, zero, lo, hi, to);
    float zeros[CHUNK];
    int bad = 0;
    for (size_t i = 0; i < CHUNK; i++) zeros[i] = zero;
    for (size_t i = 0; i < n; i += CHUNK)
        bad |= kernels->quantize_cols_f32_8(x + i, qlm_min_size(n - i, CHUNK), f->input->divisor + column + i, zeros,
                                            lo, hi, NULL, NULL, to + i);
    return bad;
}

static int quantize_bytes(const struct qlm_filler *f, const struct qlm_piece *piece, const float *x, size_t n,
                          size_t column, void *to)
{
    const struct qlm_kernels *kernels = f->layout->kernels;
    float zero = (float)(piece->zero - f->shift), lo = (float)(f->lo - f->shift), hi = (float)(f->hi - f->shift);
    if (f->input->interval && piece->constant) {
        fill_constant(f, n, -f->shift, to); /* the code of a constant span is 0 */
        return 0;
    }
    if (own_bytes(f)) return quantize_own_bytes(f, piece, x, n, column, to);
    if (f->input->interval)
        return kernels->left_interval(x, n, piece->min, piece->scale, 1 << f->input->type.bits, f->lo - f->shift, to);
    if (f->input->divisor) return kernels->left_quantize_cols(x, n, f->input->divisor + column, zero, lo, hi, to);
    return kernels->left_quantize(x, n, piece->scale, zero, lo, hi, to);
}

static void shift_bytes(const uint8_t *codes, size_t n, int32_t shift, uint8_t *to)
{
    for (size_t i = 0; i < n; i++) to[i] = (uint8_t)(codes[i] - (uint32_t)shift);
}

static void take_codes(const struct qlm_filler *f, size_t at, size_t n, void *to)
{
    int wide = f->input->type.bits > 8;
    const uint8_t *codes = (const uint8_t *)f->input->codes + at * (wide ? 2 : 1);
    if (f->layout->kind != QLM_PACKED_16 && own_bytes(f)) {
        shift_bytes(codes, n, f->shift, to);
    } else if (f->layout->kind != QLM_PACKED_16) {
        f->layout->kernels->left_widen(codes, n, qlm_code_signed(f->input), to);
    } else if (wide) {
        memcpy(to, codes, 2 * n);
        shift_words(to, n, f->shift);
    } else {
        widen_bytes(codes, n, qlm_code_signed(f->input), to);
    }
}

/* n elements of the piece from `column` on, to padded element `at` of the row. */
static int fill_run(const struct qlm_filler *f, const struct qlm_piece *piece, size_t column, size_t n, size_t at)
{
    void *to = f->left->elements + piece->row * f->left->stride + at * f->element;
    size_t flat = piece->input_row * f->input->k + column;
    if (f->input->kind == QLM_INPUT_CODES) {
        take_codes(f, flat, n, to);
        return 0;
    }
    if (f->layout->kind == QLM_PACKED_16) return quantize_words(f, piece, f->input->x + flat, n, column, to);
    return quantize_bytes(f, piece, f->input->x + flat, n, column, to);
}

/* The piece's codes, cut at the spans' borders; spans without padding between them need no cut. */
int qlm_left_codes(const struct qlm_filler *f, const struct qlm_piece *piece)
{
    const struct qlm_packed *layout = f->layout;
    if (qlm_spans_touch(layout)) return fill_run(f, piece, piece->start, piece->count, piece->start);
    int bad = 0;
    for (size_t g = piece->start / layout->group; g < layout->groups; g++) {
        struct qlm_span span = qlm_packed_span(layout, g);
        size_t from = qlm_max_size(span.start, piece->start);
        size_t to = qlm_min_size(span.start + span.count, piece->start + piece->count);
        if (from >= to) break;
        bad |= fill_run(f, piece, from, to - from, span.padded + (from - span.start));
    }
    return bad;
}
