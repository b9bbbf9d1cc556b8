/* attention_8.c: attention whose two products run on codes of 8 bits.
 *
 * A sequence at a time.  First its q, k and v become codes: q and k with a scale for each token (over all heads, as a
 * whole row is fast to quantize), v with one for each feature, since its sums run over the tokens.  k and v are laid
 * out as panels of each head, as pack.c lays out a weight.  Then each head is a task: for a block of queries the scores
 * as floats, logarithms to the base 2 (linear_8), their weights as codes (left_weights), and the weights times v
 * divided by their sum (linear_8 again, straight into the output).
 */
#include <math.h>
#include <stdatomic.h>

#include "common.h"
#include "qlm.h"
#include "threads.h"

#define LOG2_E 0x1.715476p+0f
#define CODE_MAX 127
#define LARGEST_SCALE 0x1.020406p121f /* CODE_MAX of it are just finite */
/* linear_8 takes sums of a panel's codes up to 2^22; longer operands go by floats. */
#define LONGEST 32768
#define MAX_STEP 8 /* of k_step: 2, 4 or 8 */

struct attention_8 {
    const struct qlm_kernels *kernels;
    const float *q, *k, *v;
    size_t ld, tokens, heads, dim, width;
    float scale, *out;
    /* q's codes as left elements [tokens][q_stride], and what scores are multiplied by */
    char *q_codes, *q_bytes; /* bytes: before they are widened, if they are */
    size_t q_stride;
    float *q_scale;
    /* k: panels [heads][keys / nr][k_depth][nr]; scales [keys], and sums of codes [heads][keys]; zeros past `tokens` */
    size_t keys, k_depth;
    int8_t *k_panels;
    float *k_scale;
    int32_t *k_sums;
    /* v: panels [heads][columns / nr][v_depth][nr]; scales and sums of codes by feature */
    size_t columns, v_depth;
    int8_t *v_panels;
    float *v_scale;
    int32_t *v_sums;
    int8_t *k_codes, *v_codes; /* before they are packed: nr rows, and MAX_STEP */
    void *ones;                /* left elements */
    float *range;              /* smallest and largest value by feature, zeros by feature */
    char *block;               /* the caller's: scores [mr][keys], weights [mr][w_stride] */
    size_t block_bytes, w_stride;
    atomic_size_t bad;
    atomic_int no_memory;
};

/* ---- memory --------------------------------------------------------------------------------------------------- */

static void *reserve(char *block, size_t *used, size_t count, size_t size)
{
    size_t start = *used;
    *used = qlm_size_add(start, qlm_size_lines(qlm_size_mul(count, size)));
    return block ? block + start : NULL;
}

static size_t left_size(const struct attention_8 *a) { return a->kernels->left_type == QLM_LEFT_S16 ? 2 : 1; }

/* With block NULL it only counts. */
static size_t lay_out(struct attention_8 *a, char *block)
{
    size_t used = 0, mr = a->kernels->mr_8, panel = qlm_size_mul(a->heads, a->k_depth);
    a->q_bytes = left_size(a) == 1 ? NULL : reserve(block, &used, a->tokens, a->width);
    a->q_codes = reserve(block, &used, qlm_size_add(qlm_size_mul(a->tokens, a->q_stride), 2 * MAX_STEP), 1);
    a->q_scale = reserve(block, &used, a->tokens, sizeof(float));
    a->k_panels = reserve(block, &used, a->keys, panel);
    a->k_scale = reserve(block, &used, a->keys, sizeof(float));
    a->k_sums = reserve(block, &used, a->keys, qlm_size_mul(a->heads, sizeof(int32_t)));
    a->v_panels = reserve(block, &used, qlm_size_mul(a->heads, a->columns), a->v_depth);
    a->v_scale = reserve(block, &used, a->width, sizeof(float));
    a->v_sums = reserve(block, &used, a->width, sizeof(int32_t));
    a->k_codes = reserve(block, &used, a->kernels->nr, a->width);
    a->v_codes = reserve(block, &used, a->width, MAX_STEP);
    a->ones = reserve(block, &used, qlm_max_size(a->k_depth, a->v_depth), left_size(a));
    a->range = reserve(block, &used, a->width, 3 * sizeof(float));
    size_t scores = qlm_size_lines(qlm_size_mul(qlm_size_mul(mr, a->keys), sizeof(float)));
    a->block_bytes = qlm_size_add(scores, qlm_size_mul(mr, a->w_stride));
    a->block = reserve(block, &used, 1, a->block_bytes);
    return used;
}

static void fill_ones(struct attention_8 *a, size_t count)
{
    if (left_size(a) == 1) memset(a->ones, 1, count);
    for (size_t i = 0; left_size(a) == 2 && i < count; i++) ((int16_t *)a->ones)[i] = 1;
}

static int prepare(struct attention_8 *a)
{
    size_t nr = a->kernels->nr, step = a->kernels->k_step;
    a->keys = qlm_round_up(a->tokens, nr);
    a->columns = qlm_round_up(a->dim, nr);
    a->k_depth = qlm_round_up(a->dim, step);
    a->v_depth = qlm_round_up(a->tokens, step);
    /* A head's last step may reach past the row, and the last row's past them all: what it reads there meets zeros. */
    a->q_stride = a->width * left_size(a);
    a->w_stride = qlm_round_up(a->v_depth * left_size(a), QLM_CACHE_LINE);
    char *block = qlm_scratch(lay_out(a, NULL));
    if (!block) return 0;
    lay_out(a, block);
    fill_ones(a, qlm_max_size(a->k_depth, a->v_depth));
    return 1;
}

/* ---- codes ---------------------------------------------------------------------------------------------------- */

static const float *row_of(const struct attention_8 *a, const float *x, size_t token) { return x + token * a->ld; }

/* The first value of x that is not finite, where `token` is the first row that may have it. */
static void found_bad(struct attention_8 *a, const float *x, size_t token)
{
    size_t i = token * a->width, end = a->tokens * a->width, seen = atomic_load(&a->bad);
    while (i + 1 < end && qlm_is_finite(row_of(a, x, i / a->width)[i % a->width])) i++;
    while (i < seen && !atomic_compare_exchange_weak(&a->bad, &seen, i)) {}
}

/* numerics.md, "Parameters", symmetric: a quotient of float32 rounded once is the same by float32 as by float64.  Of
 * the largest float's, which is rounded up, 127 codes would overflow. */
static float scale_of(float min, float max)
{
    float amax = -min > max ? -min : max, scale = amax / CODE_MAX;
    if (amax == 0) return 1.0f;
    if (scale > LARGEST_SCALE) return LARGEST_SCALE;
    return scale < 0x1p-126f && isinf(1.0f / scale) ? 0x1p-126f : scale;
}

/* What a left element holds beside a signed code, or an unsigned one: kernels.h. */
static int32_t signed_shift(const struct attention_8 *a) { return a->kernels->left_type == QLM_LEFT_U8 ? 128 : 0; }
static int32_t weights_shift(const struct attention_8 *a) { return a->kernels->left_type == QLM_LEFT_S8 ? -128 : 0; }

/* Codes of `count` rows, behind one another, `middle` for 0, and their scales.  0: not finite. */
static int codes_of_rows(struct attention_8 *a, const float *x, size_t token, size_t count, float middle, float *scale,
                         uint8_t *codes)
{
    size_t together = a->ld == a->width ? count : 1;
    for (size_t i = 0; i < count; i += together)
        if (a->kernels->quantize_symmetric_f32_8(row_of(a, x, token + i), together, a->width, CODE_MAX, middle, 0,
                                                 scale + i, codes + i * a->width, 0)) {
            found_bad(a, x, token + i);
            return 0;
        }
    return 1;
}

static void take_queries(struct attention_8 *a)
{
    size_t n = a->tokens * a->width;
    uint8_t *codes = (uint8_t *)(left_size(a) == 1 ? a->q_codes : a->q_bytes);
    if (!codes_of_rows(a, a->q, 0, a->tokens, (float)signed_shift(a), a->q_scale, codes)) return;
    if (left_size(a) != 1) a->kernels->left_widen(codes, n, 1, a->q_codes);
    memset(a->q_codes + n * left_size(a), 0, a->kernels->k_step * left_size(a));
    for (size_t token = 0; token < a->tokens; token++) a->q_scale[token] = (a->q_scale[token] * a->scale) * LOG2_E;
}

/* Sums of the codes of nr outputs: the product of a panel with ones. */
static void sum_panel(const struct attention_8 *a, const int8_t *panel, size_t depth, int32_t *sums)
{ a->kernels->gemm_8(1, depth / a->kernels->k_step, a->ones, 0, panel, sums, a->kernels->nr); }

/* Steps of `dim` codes of a key, neighbours in its column of a panel. */
static void pack_key(const int8_t *codes, size_t dim, size_t step, size_t nr, int8_t *column)
{
    for (size_t i = 0; i < dim; i++) column[i / step * step * nr + i % step] = codes[i];
    for (size_t i = dim; i % step; i++) column[i / step * step * nr + i % step] = 0;
}

#define KEYS_AT_ONCE 4

/* Whole steps of four keys, whose columns are neighbours: with one key at a time, each step would be a store to a line
 * of its own. */
#define PACK_FOUR_KEYS(type)                                                                                           \
    static size_t pack_four_##type(const int8_t *codes, size_t ld, size_t dim, size_t nr, int8_t *columns)             \
    {                                                                                                                  \
        size_t steps = dim / sizeof(type);                                                                             \
        for (size_t s = 0; s < steps; s++, codes += sizeof(type), columns += nr * sizeof(type)) {                      \
            type a, b, c, d;                                                                                           \
            memcpy(&a, codes, sizeof a);                                                                               \
            memcpy(&b, codes + ld, sizeof b);                                                                          \
            memcpy(&c, codes + 2 * ld, sizeof c);                                                                      \
            memcpy(&d, codes + 3 * ld, sizeof d);                                                                      \
            type four[KEYS_AT_ONCE] = {a, b, c, d};                                                                    \
            memcpy(columns, four, sizeof four);                                                                        \
        }                                                                                                              \
        return steps * sizeof(type);                                                                                   \
    }

PACK_FOUR_KEYS(uint16_t)
PACK_FOUR_KEYS(uint32_t)
PACK_FOUR_KEYS(uint64_t)

/* `count` keys of one panel, of one head. */
static void pack_keys(const int8_t *codes, size_t ld, size_t count, size_t dim, size_t step, size_t nr, int8_t *panel)
{
    size_t key = 0;
    for (; key + KEYS_AT_ONCE <= count; key += KEYS_AT_ONCE) {
        const int8_t *from = codes + key * ld;
        int8_t *columns = panel + key * step;
        size_t done = (step == 2   ? pack_four_uint16_t
                       : step == 4 ? pack_four_uint32_t
                                   : pack_four_uint64_t)(from, ld, dim, nr, columns);
        for (size_t i = 0; i < KEYS_AT_ONCE && done < dim; i++)
            pack_key(from + i * ld + done, dim - done, step, nr, columns + i * step + done * nr);
    }
    for (; key < count; key++) pack_key(codes + key * ld, dim, step, nr, panel + key * step);
}

/* Keys past the last are zeros: their scores are computed and never read. */
static void pad_keys(struct attention_8 *a)
{
    size_t nr = a->kernels->nr;
    memset(a->k_scale + a->tokens, 0, (a->keys - a->tokens) * sizeof(float));
    if (a->keys == a->tokens) return;
    for (size_t head = 0; head < a->heads; head++)
        memset(a->k_panels + ((head + 1) * a->keys - nr) * a->k_depth, 0, nr * a->k_depth);
}

static void take_keys(struct attention_8 *a)
{
    size_t nr = a->kernels->nr;
    pad_keys(a);
    for (size_t key = 0; key < a->tokens; key += nr) {
        size_t count = qlm_min_size(a->tokens - key, nr);
        if (!codes_of_rows(a, a->k, key, count, 0.0f, a->k_scale + key, (uint8_t *)a->k_codes)) return;
        for (size_t head = 0; head < a->heads; head++)
            pack_keys(a->k_codes + head * a->dim, a->width, count, a->dim, a->kernels->k_step, nr,
                      a->k_panels + (head * a->keys + key) * a->k_depth);
    }
    for (size_t key = 0; key < a->heads * a->keys; key += nr)
        if (signed_shift(a))
            sum_panel(a, a->k_panels + key * a->k_depth, a->k_depth, a->k_sums + key);
        else
            memset(a->k_sums + key, 0, nr * sizeof(int32_t));
}

static int value_scales(struct attention_8 *a, float *min, float *max)
{
    memset(a->range, 0, 3 * a->width * sizeof(float));
    for (size_t token = 0; token < a->tokens; token++)
        if (a->kernels->range_cols_f32(row_of(a, a->v, token), a->width, min, max)) {
            found_bad(a, a->v, token);
            return 0;
        }
    for (size_t i = 0; i < a->width; i++) a->v_scale[i] = scale_of(min[i], max[i]);
    return 1;
}

/* Codes at the same place of `step` rows become neighbours. */
static inline void interleave(const int8_t *rows, size_t ld, size_t count, const size_t step, int8_t *to)
{
    for (size_t j = 0; j < count; j++)
#pragma GCC unroll 8
        for (size_t s = 0; s < step; s++) to[step * j + s] = rows[s * ld + j];
}

/* `step` rows of codes, of all heads. */
static void pack_values(const struct attention_8 *a, const int8_t *codes, size_t token)
{
    size_t nr = a->kernels->nr, step = a->kernels->k_step;
    for (size_t head = 0; head < a->heads; head++)
        for (size_t d = 0; d < a->columns; d += nr) {
            int8_t *to = a->v_panels + (head * a->columns + d) * a->v_depth + token * nr;
            size_t count = qlm_min_size(nr, a->dim - d);
            if (step == 4)
                interleave(codes + head * a->dim + d, a->width, count, 4, to);
            else if (step == 2)
                interleave(codes + head * a->dim + d, a->width, count, 2, to);
            else
                interleave(codes + head * a->dim + d, a->width, count, MAX_STEP, to);
            memset(to + count * step, 0, (nr - count) * step);
        }
}

static void sum_values(struct attention_8 *a)
{
    size_t nr = a->kernels->nr;
    int32_t sums[QLM_MAX_NR];
    for (size_t head = 0; head < a->heads; head++)
        for (size_t d = 0; d < a->dim; d += nr) {
            sum_panel(a, a->v_panels + (head * a->columns + d) * a->v_depth, a->v_depth, sums);
            memcpy(a->v_sums + head * a->dim + d, sums, qlm_min_size(nr, a->dim - d) * sizeof *sums);
        }
}

static void take_values(struct attention_8 *a)
{
    float *min = a->range, *max = min + a->width, *zeros = max + a->width;
    size_t step = a->kernels->k_step;
    int8_t *codes = a->v_codes;
    if (!value_scales(a, min, max)) return;
    float *inverse = min, *start = max; /* the ranges have served */
    a->kernels->column_places_f32(a->v_scale, zeros, a->width, -CODE_MAX, CODE_MAX, inverse, start);
    for (size_t token = 0; token < a->tokens; token += step) {
        for (size_t s = 0; s < step; s++) {
            int8_t *row = codes + s * a->width;
            if (token + s < a->tokens)
                a->kernels->quantize_cols_f32_8(row_of(a, a->v, token + s), a->width, a->v_scale, zeros, -CODE_MAX,
                                                CODE_MAX, inverse, start, (uint8_t *)row);
            else
                memset(row, 0, a->width);
        }
        pack_values(a, codes, token);
    }
    if (weights_shift(a))
        sum_values(a);
    else
        memset(a->v_sums, 0, a->width * sizeof(int32_t));
}

static void take_task(void *context, size_t index, unsigned worker)
{
    (void)worker;
    if (index == 0) take_queries(context);
    if (index == 1) take_keys(context);
    if (index == 2) take_values(context);
}

/* ---- heads ---------------------------------------------------------------------------------------------------- */

/* m queries from `row` on. */
static void attend(const struct attention_8 *a, size_t head, size_t row, size_t m, float *scores, char *weights)
{
    const struct qlm_kernels *kernels = a->kernels;
    int32_t q_zero[QLM_MAX_MR], w_zero[QLM_MAX_MR], sums[QLM_MAX_MR];
    float inverse[QLM_MAX_MR];
    for (size_t i = 0; i < m; i++) {
        q_zero[i] = signed_shift(a);
        w_zero[i] = weights_shift(a);
    }
    kernels->linear_8(m, a->keys, a->k_depth / kernels->k_step,
                      a->q_codes + row * a->q_stride + head * a->dim * left_size(a), a->q_stride,
                      a->k_panels + head * a->keys * a->k_depth, q_zero, NULL, a->k_sums + head * a->keys, NULL,
                      a->k_scale, a->q_scale + row, NULL, NULL, 0, scores, a->keys, 0, NULL, 0);
    kernels->left_weights(m, a->tokens, scores, a->keys, weights, a->w_stride, sums);
    for (size_t i = 0; i < m; i++) inverse[i] = 1.0f / (float)sums[i];
    kernels->linear_8(m, a->dim, a->v_depth / kernels->k_step, weights, a->w_stride,
                      a->v_panels + head * a->columns * a->v_depth, w_zero, NULL, a->v_sums + head * a->dim, NULL,
                      a->v_scale + head * a->dim, inverse, NULL, NULL, 0, a->out + row * a->width + head * a->dim,
                      a->width, 0, NULL, 0);
}

static void head_task(void *context, size_t head, unsigned worker)
{
    struct attention_8 *a = context;
    size_t mr = a->kernels->mr_8;
    /* The caller is worker 0; its scratch holds the codes. */
    char *block = worker ? qlm_scratch(a->block_bytes) : a->block;
    if (!block) {
        atomic_store(&a->no_memory, 1);
        return;
    }
    float *scores = (float *)block;
    char *weights = block + a->block_bytes - mr * a->w_stride;
    memset(weights, 0, mr * a->w_stride); /* what pads a row is read, and meets zeros */
    for (size_t row = 0; row < a->tokens; row += mr)
        attend(a, head, row, qlm_min_size(mr, a->tokens - row), scores, weights);
}

static enum qlm_status one_sequence(struct attention_8 *a)
{
    size_t elements = qlm_size_mul(a->tokens, a->width);
    if (!a->tokens) return QLM_OK;
    if (!prepare(a)) return QLM_NO_MEMORY;
    qlm_parallel_sized(3, elements / 8, take_task, a);
    if (atomic_load(&a->bad) != SIZE_MAX) return QLM_NONFINITE;
    qlm_parallel_sized(a->heads, qlm_size_mul(elements, a->tokens) / 32, head_task, a);
    return atomic_load(&a->no_memory) ? QLM_NO_MEMORY : QLM_OK;
}

enum qlm_status qlm_attention_8(const float *q, const float *k, const float *v, size_t ld, const size_t *starts,
                                size_t begin, size_t end, size_t heads, size_t dim, float scale, float *out,
                                size_t *bad)
{
    size_t width = heads * dim;
    if (!width) return QLM_OK;
    for (size_t s = begin; s < end; s++) {
        size_t start = starts[s], at = start * ld;
        struct attention_8 a = {.kernels = qlm_kernels_in_use,
                                .q = q + at,
                                .k = k + at,
                                .v = v + at,
                                .ld = ld,
                                .tokens = starts[s + 1] - start,
                                .heads = heads,
                                .dim = dim,
                                .width = width,
                                .scale = scale,
                                .out = out + start * width};
        atomic_init(&a.bad, SIZE_MAX);
        enum qlm_status status = a.tokens <= LONGEST && dim <= LONGEST
                                     ? one_sequence(&a)
                                     : qlm_attention(q, k, v, ld, starts, s, s + 1, heads, dim, scale, 0, out);
        if (status == QLM_NONFINITE) *bad = start * width + atomic_load(&a.bad);
        if (status != QLM_OK) return status;
    }
    return QLM_OK;
}
