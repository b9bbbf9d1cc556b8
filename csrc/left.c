/* left.c: rows of activations -> the left operand of the integer kernels.
 *
 * A row is quantized piece by piece: a piece is what shares one scale (the row, or a group of it).  Its codes land in
 * spans, which are the packed weight's: each starts at a multiple of k_step, with zeros between.  Codes are shifted so
 * that they fit the kernels' element type (kernels.h, qlm_left_type); the shift goes into the zero points, so that
 * every correction is made once, in integers.
 */
#include <math.h>
#include <string.h>

#include "common.h"
#include "left_codes.h"
#include "pack.h"

/* ---- layout --------------------------------------------------------------------------------------------------- */

size_t qlm_left_element(const struct qlm_packed *layout)
{ return layout->kind == QLM_PACKED_16 || qlm_left_byte_type(layout) == QLM_LEFT_S16 ? 2 : 1; }

static int input_grouped(const struct qlm_packed *layout, const struct qlm_linear_input *input)
{
    if (input->group && input->group < input->k) return 2;
    return layout->groups > 1 || layout->offset || input->interval || input->offset;
}

static int32_t left_shift(const struct qlm_packed *layout, const struct qlm_linear_input *input)
{
    if (layout->kind == QLM_PACKED_16) return input->type.code == QLM_U16 ? 32768 : 0;
    uint8_t type = qlm_left_byte_type(layout);
    if (type == QLM_LEFT_U8) return qlm_code_signed(input) ? -128 : 0;
    return type == QLM_LEFT_S8 && !qlm_code_signed(input) ? 128 : 0;
}

/* Whether kernels have a zx to subtract: of grouped 1 it is the shift alone, and symmetric codes may leave none. */
static int any_zx(const struct qlm_packed *layout, const struct qlm_linear_input *input)
{
    int32_t shift = left_shift(layout, input);
    int symmetric = input->kind == QLM_INPUT_DYNAMIC && input->symmetric && !input->interval;
    return shift != 0 || !(input_grouped(layout, input) == 1 || (symmetric && qlm_code_signed(input)));
}

int qlm_left_zx_by_row(const struct qlm_packed *layout, const struct qlm_linear_input *input)
{ return input_grouped(layout, input) != 1 && any_zx(layout, input); }

int qlm_left_whole(const struct qlm_left *left, const struct qlm_packed *layout)
{ return !left->grouped && layout->kind == QLM_PACKED_8 && !qlm_packed_wide(layout); }

/* An odd number of cache lines: the rows of a tile are read side by side, and where they lie a multiple of 4 KiB apart
 * they share one set of L1 (12 rows x 4096 -> 11008: 412 GOP/s, with this 454). */
static size_t left_stride(const struct qlm_packed *layout)
{ return qlm_round_up(layout->k_padded * qlm_left_element(layout), QLM_CACHE_LINE) | QLM_CACHE_LINE; }

/* What lies beside a row's elements: zx, rest, rest64, whole, sx, centred and offset of each span, zero. */
#define SPAN_BYTES (6 * sizeof(int32_t) + sizeof(int64_t))
#define LEFT_ARRAYS 9

static size_t row_bytes(const struct qlm_packed *layout)
{ return left_stride(layout) + layout->groups * SPAN_BYTES + sizeof(float); }

/* With one scale a row, kernels read little of what lies beside its elements: whole, where weights have zero points.
 * Counted in full it took as much as the elements do in groups of 32, and blocks had half as many rows. */
size_t qlm_left_read_bytes(const struct qlm_packed *layout, const struct qlm_linear_input *input)
{ return input_grouped(layout, input) == 1 ? left_stride(layout) : row_bytes(layout); }

/* Each array starts on a cache line, and so does what lies behind them (expanded panels).  rows fit a cache or are a
 * few tiles, and k_padded fits memory already, so nothing here can overflow. */
size_t qlm_left_bytes(const struct qlm_packed *layout, size_t rows)
{ return qlm_round_up(rows * row_bytes(layout), QLM_CACHE_LINE) + LEFT_ARRAYS * QLM_CACHE_LINE; }

static void *reserve(char **memory, size_t bytes)
{
    char *start = *memory;
    *memory = start + qlm_round_up(bytes, QLM_CACHE_LINE);
    return start;
}

void qlm_left_lay_out(struct qlm_left *left, const struct qlm_packed *layout, const struct qlm_linear_input *input,
                      size_t rows, void *memory)
{
    char *rest = memory;
    size_t params = rows * layout->groups;
    left->rows = rows;
    left->next = NULL;
    left->grouped = input_grouped(layout, input);
    left->narrow = input->type.bits <= 8;
    left->zx_any = any_zx(layout, input);
    left->stride = left_stride(layout);
    left->elements = reserve(&rest, rows * left->stride);
    left->zx = reserve(&rest, params * sizeof(int32_t));
    left->rest = reserve(&rest, params * sizeof(int32_t));
    left->rest64 = reserve(&rest, params * sizeof(int64_t));
    left->whole = reserve(&rest, params * sizeof(float));
    left->sx = reserve(&rest, params * sizeof(float));
    left->zero = reserve(&rest, rows * sizeof(float));
    left->centred = reserve(&rest, params * sizeof(float));
    left->offset = input->interval || input->offset ? reserve(&rest, params * sizeof(float)) : NULL;
}

/* ---- scales --------------------------------------------------------------------------------------------------- */

/* Pieces are taken some at a time: first the ranges of all, then their parameters, then the codes.  Between a row's
 * last range and its first code lie some hundred cycles of latency (a reduction and three divisions, each waiting for
 * the one before), a quarter of the time of a row of 384; many rows' overlap.  The floats of a batch stay in L1. */
#define BATCH 16
#define BATCH_FLOATS 4096

struct batch {
    size_t count;
    struct qlm_piece pieces[BATCH];
};

static const float *piece_values(const struct qlm_filler *f, const struct qlm_piece *piece)
{ return f->input->x + piece->input_row * f->input->k + piece->start; }

static enum qlm_status choose_interval(const struct qlm_filler *f, struct batch *batch, const float *min,
                                       const float *max)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct qlm_piece *piece = &batch->pieces[i];
        piece->min = min[i];
        enum qlm_status status =
            qlm_interval_params(min[i], max[i], &f->input->type, &piece->scale, &piece->offset, &piece->constant);
        if (status != QLM_OK) return status;
    }
    return QLM_OK;
}

/* NaN left no trace in ranges that came with the input: quantizing finds it, but not in constant spans of an interval
 * grid, whose codes are not made of values. */
static int piece_range(const struct qlm_filler *f, const struct qlm_piece *piece, float *min, float *max)
{
    const float *known = f->input->ranges;
    if (!known || f->input->interval || piece->count < f->input->k || !piece->count)
        return f->layout->kernels->range_f32(piece_values(f, piece), piece->count, min, max);
    *min = known[QLM_RANGE * piece->input_row];
    *max = known[QLM_RANGE * piece->input_row + 1];
    return !(isfinite(*min) && isfinite(*max));
}

static enum qlm_status choose_dynamic(const struct qlm_filler *f, struct batch *batch, size_t *bad_row)
{
    float min[BATCH], max[BATCH];
    struct qlm_qparams params[BATCH];
    for (size_t i = 0; i < batch->count; i++) {
        const struct qlm_piece *piece = &batch->pieces[i];
        min[i] = INFINITY;
        max[i] = -INFINITY;
        *bad_row = piece->input_row;
        if (piece_range(f, piece, &min[i], &max[i])) return QLM_NONFINITE;
    }
    qlm_range_finish(min, max, batch->count);
    if (f->input->interval) return choose_interval(f, batch, min, max);
    qlm_choose_many_qparams(min, max, batch->count, &f->input->type, f->input->symmetric, params);
    for (size_t i = 0; i < batch->count; i++) {
        batch->pieces[i].scale = params[i].scale;
        batch->pieces[i].zero = params[i].zero;
    }
    return QLM_OK;
}

static void take_given(const struct qlm_filler *f, size_t pieces, struct qlm_piece *piece)
{
    const struct qlm_linear_input *input = f->input;
    int each = input->kind == QLM_INPUT_CODES && !input->per_tensor;
    if (each && !input->k) return; /* rows without elements have no groups, hence no parameters */
    size_t at = each ? piece->input_row * pieces + piece->index : 0;
    piece->scale = input->scale[at];
    piece->zero = input->zero ? input->zero[at] : 0;
    piece->offset = input->offset ? input->offset[at] : 0.0f;
}

/* ---- corrections ---------------------------------------------------------------------------------------------- */

#define SHORT_SPAN 128 /* up to here a kernel's call takes longer than the sum */

/* Of whole words, as the span and its padding of zeros; flip: 0, or the sign of each byte. */
static int64_t sum_words(const uint8_t *bytes, size_t words, uint32_t flip)
{
    uint32_t sum = 0, byte = 0x00ff00ffu;
    for (size_t i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, bytes + 4 * i, sizeof word);
        uint32_t pairs = ((word ^ flip) & byte) + (((word ^ flip) >> 8) & byte);
        sum += (pairs & 0xffff) + (pairs >> 16);
    }
    return (int64_t)sum - (flip ? 512 * (int64_t)words : 0);
}

static int64_t sum_elements(const struct qlm_filler *f, const char *row, struct qlm_span span)
{
    const struct qlm_kernels *kernels = f->layout->kernels;
    const void *from = row + span.padded * f->element;
    if (f->element == 1 && span.count <= SHORT_SPAN)
        return sum_words(from, qlm_div_up(span.count, 4),
                         qlm_left_byte_type(f->layout) == QLM_LEFT_S8 ? 0x80808080u : 0);
    if (f->layout->kind != QLM_PACKED_16)
        return (f->layout->kind == QLM_PACKED_4 ? kernels->left_sum_4 : kernels->left_sum)(from, span.count);
    const int16_t *elements = from;
    int64_t sum = 0;
    for (size_t i = 0; i < span.count; i++) sum += elements[i];
    return sum;
}

static int rest_is_read(const struct qlm_filler *f)
{ return (qlm_packed_has_zero(f->layout) && !f->left->folded) || f->layout->offset; }

/* numerics.md, "Groups": with one scale a row the chain runs over raw codes and the zero point comes after it;
 * otherwise it is subtracted in integers. */
static void correct_span(const struct qlm_filler *f, const struct qlm_piece *piece, size_t g)
{
    struct qlm_left *left = f->left;
    struct qlm_span span = qlm_packed_span(f->layout, g);
    size_t at = g * left->rows + piece->row;
    int64_t zero = (int64_t)piece->zero - f->shift, zx = left->grouped == 1 ? -f->shift : zero, sum = 0;
    if (rest_is_read(f)) sum = sum_elements(f, left->elements + piece->row * left->stride, span);
    int64_t rest = sum - (int64_t)span.count * zx;
    float centred = (float)(sum - (int64_t)span.count * zero);
    left->zx[at] = (int32_t)zx;
    left->rest[at] = (int32_t)(uint32_t)(uint64_t)rest;
    left->rest64[at] = rest;
    left->whole[at] = (float)rest;
    left->sx[at] = piece->scale;
    left->centred[at] = left->grouped == 2 ? centred * piece->scale : centred;
    if (left->offset) left->offset[at] = piece->offset;
}

/* One scale a row, in 32 bits: no more than a group's sums are corrected by is there. */
static void correct_row(const struct qlm_filler *f, const struct qlm_piece *piece)
{
    struct qlm_left *left = f->left;
    left->sx[piece->row] = piece->scale;
    left->zx[piece->row] = -f->shift;
    if (left->offset) left->offset[piece->row] = piece->offset;
    for (size_t g = 0, at = piece->row; rest_is_read(f) && g < f->layout->groups; g++, at += left->rows) {
        struct qlm_span span = qlm_packed_span(f->layout, g);
        int64_t sum = sum_elements(f, left->elements + piece->row * left->stride, span), count = (int64_t)span.count;
        left->whole[at] = (float)(sum + count * f->shift);
        if (f->layout->offset) left->centred[at] = (float)(sum - count * (piece->zero - f->shift));
    }
}

/* What is read of a row whose outputs linear_8 makes, or an exact product: 16 rows of 384 take a microsecond. */
static void correct_whole(const struct qlm_filler *f, const struct qlm_piece *piece)
{
    struct qlm_left *left = f->left;
    int32_t zx = piece->zero - f->shift;
    left->zx[piece->row] = zx;
    left->sx[piece->row] = piece->scale;
    if (!qlm_packed_has_zero(f->layout)) return;
    int64_t rest = sum_elements(f, left->elements + piece->row * left->stride, qlm_packed_span(f->layout, 0));
    rest -= (int64_t)f->layout->k * zx;
    left->rest[piece->row] = (int32_t)(uint32_t)(uint64_t)rest;
    left->rest64[piece->row] = rest;
}

static void correct_piece(const struct qlm_filler *f, const struct qlm_piece *piece)
{
    if (f->whole) {
        correct_whole(f, piece);
        return;
    }
    f->left->zero[piece->row] = (float)piece->zero;
    if (f->left->grouped == 1 && !qlm_packed_wide(f->layout)) {
        correct_row(f, piece);
        return;
    }
    size_t g = f->layout->group ? piece->start / f->layout->group : 0, end = piece->start + piece->count;
    for (; g < f->layout->groups && !(g && qlm_packed_span(f->layout, g).start >= end); g++) correct_span(f, piece, g);
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

static size_t first_nonfinite(const struct qlm_linear_input *input, size_t input_row)
{
    const float *x = input->x + input_row * input->k;
    for (size_t i = 0; i < input->k; i++)
        if (!isfinite(x[i])) return input_row * input->k + i;
    return input_row * input->k; /* the values changed meanwhile */
}

/* How rows are cut into pieces. */
struct cut {
    size_t group, pieces, batch; /* elements of a piece, pieces of a row, pieces that are taken at a time */
};

/* Without a division where a row is one piece of a length that models have: a call of one row takes a microsecond. */
static struct cut cut_of(const struct qlm_filler *f)
{
    size_t k = f->input->k;
    struct cut cut = {qlm_max_size(k, 1), 1, BATCH};
    if (f->left->grouped == 2) {
        cut.group = f->input->group;
        cut.pieces = qlm_max_size(qlm_div_up(k, cut.group), 1);
    }
    if (cut.group > BATCH_FLOATS / BATCH) cut.batch = qlm_max_size(BATCH_FLOATS / cut.group, 1);
    return cut;
}

/* Pieces [from, end), counted over all rows, or as many of them as a batch takes. */
static void take_batch(const struct qlm_filler *f, const struct cut *cut, size_t first, size_t from, size_t end,
                       struct batch *batch)
{
    batch->count = qlm_min_size(end - from, cut->batch);
    for (size_t i = 0; i < batch->count; i++) {
        struct qlm_piece *piece = &batch->pieces[i];
        piece->row = cut->pieces == 1 ? from + i : (from + i) / cut->pieces;
        piece->input_row = first + piece->row;
        piece->index = from + i - piece->row * cut->pieces;
        piece->start = piece->index * cut->group;
        piece->count = qlm_min_size(cut->group, f->input->k - piece->start);
        piece->scale = 1.0f;
        piece->offset = piece->min = 0.0f;
        piece->zero = piece->constant = 0;
        if (f->input->kind != QLM_INPUT_DYNAMIC) take_given(f, cut->pieces, piece);
    }
}

/* Zeros between the spans and after the last: a row's before its first piece. */
static void clear_padding(const struct qlm_filler *f, size_t row)
{
    const struct qlm_packed *layout = f->layout;
    char *elements = f->left->elements + row * f->left->stride;
    size_t from = qlm_spans_touch(layout) ? layout->k : 0;
    if (from < layout->k_padded) memset(elements + from * f->element, 0, (layout->k_padded - from) * f->element);
}

static enum qlm_status fill_batch(const struct qlm_filler *f, struct batch *batch, size_t *bad_row)
{
    if (f->input->kind == QLM_INPUT_DYNAMIC) {
        enum qlm_status status = choose_dynamic(f, batch, bad_row);
        if (status != QLM_OK) return status;
    }
    for (size_t i = 0; i < batch->count; i++) {
        const struct qlm_piece *piece = &batch->pieces[i];
        if (piece->index == 0) clear_padding(f, piece->row);
        *bad_row = piece->input_row;
        if (qlm_left_codes(f, piece)) return QLM_NONFINITE;
        correct_piece(f, piece);
    }
    return QLM_OK;
}

enum qlm_status qlm_left_fill(struct qlm_left *left, const struct qlm_packed *layout,
                              const struct qlm_linear_input *input, size_t first, size_t begin, size_t end, size_t *bad)
{
    struct qlm_filler filler = {.left = left, .layout = layout, .input = input, .element = qlm_left_element(layout)};
    struct batch batch;
    size_t bad_row = first + begin;
    filler.whole = qlm_left_whole(left, layout);
    filler.shift = left_shift(layout, input);
    /* An interval grid has no symmetric form: it uses every code. */
    qlm_code_bounds(&input->type, input->symmetric && !input->interval, &filler.lo, &filler.hi);
    struct cut cut = cut_of(&filler);
    for (size_t from = begin * cut.pieces; from < end * cut.pieces; from += batch.count) {
        take_batch(&filler, &cut, first, from, end * cut.pieces, &batch);
        enum qlm_status status = fill_batch(&filler, &batch, &bad_row);
        if (status == QLM_NONFINITE) *bad = first_nonfinite(input, bad_row);
        if (status != QLM_OK) return status;
    }
    return QLM_OK;
}
