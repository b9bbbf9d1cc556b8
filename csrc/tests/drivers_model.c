/* drivers_model.c: attention, layer norm, embedding rows, pooling, sums and functions. */
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "test.h"

static float *drawn_floats(struct rng *rng, enum flavour flavour, size_t n)
{
    float *x = must_alloc(n * sizeof *x);
    fill_floats(rng, flavour, 0.25f, x, n);
    return x;
}

#define SEQUENCES_MAX 6

/* Sequences of 0 to 70 tokens behind one another. */
static size_t drawn_starts(struct rng *rng, size_t *starts)
{
    size_t sequences = 1 + rng_below(rng, SEQUENCES_MAX);
    starts[0] = 0;
    for (size_t s = 0; s < sequences; s++) starts[s + 1] = starts[s] + rng_below(rng, 71);
    return sequences;
}

struct attention {
    const float *qkv;
    size_t ld, starts[SEQUENCES_MAX + 1], heads, dim;
    float scale, *out;
    int causal;
    enum qlm_status status;
    size_t bad;
};

static void attend(void *context, size_t begin, size_t end)
{
    struct attention *a = context;
    size_t width = a->heads * a->dim;
    enum qlm_status status = qlm_attention(a->qkv, a->qkv + width, a->qkv + 2 * width, a->ld, a->starts, begin, end,
                                           a->heads, a->dim, a->scale, a->causal, a->out);
    if (status != QLM_OK) a->status = status;
}

static void attend_8(void *context, size_t begin, size_t end)
{
    struct attention *a = context;
    size_t width = a->heads * a->dim, bad;
    enum qlm_status status = qlm_attention_8(a->qkv, a->qkv + width, a->qkv + 2 * width, a->ld, a->starts, begin, end,
                                             a->heads, a->dim, a->scale, a->out, &bad);
    if (status != QLM_OK) a->status = status;
    if (status == QLM_NONFINITE && bad < a->bad) a->bad = bad;
}

/* What is left of the output where a value is not finite is unspecified. */
static void attention_8(const struct manner *manner, struct rng *rng, struct record *record)
{
    struct attention a = {
        .heads = 1 + rng_below(rng, 4), .dim = 1 + rng_below(rng, 70), .scale = 0.125f, .bad = SIZE_MAX};
    size_t sequences = drawn_starts(rng, a.starts), tokens = a.starts[sequences], width = a.heads * a.dim;
    a.ld = 3 * width + rng_below(rng, 4);
    float *qkv = drawn_floats(rng, rng_flavour(rng), tokens * a.ld);
    a.qkv = qkv;
    a.out = must_alloc(tokens * width * sizeof *a.out);
    in_slices(manner, sequences, attend_8, &a);
    record_int(record, a.status);
    if (a.status == QLM_OK) record_floats(record, a.out, tokens * width);
    free(qkv);
    free(a.out);
}

static void attention(const struct manner *manner, struct rng *rng, struct record *record)
{
    struct attention a = {.heads = 1 + rng_below(rng, 4),
                          .dim = 1 + rng_below(rng, 70),
                          .causal = rng_below(rng, 3) == 0,
                          .scale = 0.125f};
    size_t sequences = drawn_starts(rng, a.starts), tokens = a.starts[sequences], width = a.heads * a.dim;
    a.ld = 3 * width + rng_below(rng, 4);
    float *qkv = drawn_floats(rng, rng_flavour(rng), tokens * a.ld);
    a.qkv = qkv;
    a.out = must_alloc(tokens * width * sizeof *a.out);
    in_slices(manner, sequences, attend, &a);
    record_int(record, a.status);
    record_floats(record, a.out, tokens * width);
    free(qkv);
    free(a.out);
}

static void layernorm(const struct manner *manner, struct rng *rng, struct record *record)
{
    size_t rows = rng_length(rng), n = 1 + rng_length(rng);
    float *x = drawn_floats(rng, rng_flavour(rng), rows * n);
    float *y = rng_below(rng, 2) ? drawn_floats(rng, rng_flavour(rng), rows * n) : NULL;
    float *gain = drawn_floats(rng, PLAIN, n), *bias = drawn_floats(rng, PLAIN, n);
    float *out = must_alloc(rows * n * sizeof *out), *ranges = must_alloc(QLM_RANGE * rows * sizeof *ranges);
    (void)manner;
    qlm_layernorm(x, y, rows, n, gain, bias, 1e-12f, ranges, out);
    record_floats(record, out, rows * n);
    record_floats(record, ranges, QLM_RANGE * rows);
    free(ranges);
    qlm_layernorm(x, y, rows, n, gain, bias, 1e-12f, NULL, x); /* in place */
    record_floats(record, x, rows * n);
    free(x);
    free(y);
    free(gain);
    free(bias);
    free(out);
}

static void gather(const struct manner *manner, struct rng *rng, struct record *record)
{
    size_t rows = 1 + rng_below(rng, 50), n = rng_length(rng), count = rng_length(rng);
    const struct qlm_type *type = &test_types[rng_below(rng, TYPE_COUNT)];
    size_t group = rng_below(rng, 2) ? 1 + rng_below(rng, 40) : 0, groups = group ? qlm_div_up(n, group) : 1;
    void *codes = must_alloc(rows * n * 2);
    float *values = drawn_floats(rng, rng_flavour(rng), rows * n), *scale = drawn_floats(rng, PLAIN, rows * groups);
    float *offset = drawn_floats(rng, PLAIN, rows * groups), *out = must_alloc(count * n * sizeof *out);
    int32_t *zero = must_alloc(rows * groups * sizeof *zero);
    int64_t *ids = must_alloc(count * sizeof *ids);
    int is_float = rng_below(rng, 3) == 0, has_offset = rng_below(rng, 2) == 0;
    (void)manner;
    fill_codes(rng, type, codes, rows * n);
    fill_ints(rng, type->min, type->max, zero, rows * groups);
    for (size_t i = 0; i < count; i++) ids[i] = rng_between(rng, 0, (int64_t)rows - 1);
    struct qlm_table table = {.values = is_float ? values : NULL,
                              .codes = codes,
                              .code = type->code,
                              .n = n,
                              .group = group,
                              .scale = scale,
                              .zero = has_offset ? NULL : zero,
                              .offset = has_offset ? offset : NULL};
    qlm_gather(&table, ids, count, out);
    record_floats(record, out, count * n);
    free(codes);
    free(values);
    free(scale);
    free(offset);
    free(zero);
    free(ids);
    free(out);
}

static void pool(const struct manner *manner, struct rng *rng, struct record *record)
{
    size_t starts[SEQUENCES_MAX + 1], sequences = drawn_starts(rng, starts), n = rng_length(rng);
    float *x = drawn_floats(rng, rng_flavour(rng), starts[sequences] * n),
          *out = must_alloc(sequences * n * sizeof *out);
    (void)manner;
    for (int how = QLM_POOL_MEAN; how <= QLM_POOL_LAST; how++)
        for (int normalize = 0; normalize < 2; normalize++) {
            qlm_pool(x, starts, sequences, n, (enum qlm_pooling)how, normalize, out);
            record_floats(record, out, sequences * n);
        }
    free(x);
    free(out);
}

static void elements(const struct manner *manner, struct rng *rng, struct record *record)
{
    size_t n = rng_length(rng) * 200;
    float *a = drawn_floats(rng, rng_flavour(rng), n), *b = drawn_floats(rng, rng_flavour(rng), n);
    (void)manner;
    qlm_map((int)rng_below(rng, QLM_FUNCTION_COUNT), b, n, b);
    record_floats(record, b, n);
    qlm_add(a, b, n, a);
    record_floats(record, a, n);
    free(a);
    free(b);
}

/* ---- a whole forward ------------------------------------------------------------------------------------------ */

#define HIDDEN_MAX 48

static void pack_square(struct rng *rng, struct qlm_packed *packed, size_t n)
{
    static const struct qlm_type none;
    float *values = drawn_floats(rng, PLAIN, n * n);
    if (qlm_pack(packed, values, &none, n, n, 0, 1, NULL, NULL, NULL) != QLM_OK) abort();
    free(values);
}

struct forward {
    struct qlm_forward *forward;
    enum qlm_status status;
};

static void go_forward(void *context, size_t begin, size_t end)
{
    struct forward *f = context;
    (void)begin;
    if (f->status == QLM_OK) f->status = qlm_forward_work(f->forward, end);
}

/* Twice with one forward: the second uses its memory again, for other sequences. */
static void forward(const struct manner *manner, struct rng *rng, struct record *record)
{
    size_t heads = 1 + rng_below(rng, 3), n = heads * (1 + rng_below(rng, HIDDEN_MAX / 3));
    struct qlm_packed weights[4];
    for (size_t i = 0; i < 4; i++) pack_square(rng, &weights[i], n);
    struct qlm_linear_output qkv[3] = {{.weight = &weights[0]}, {.weight = &weights[1]}, {.weight = &weights[2]}};
    struct qlm_linear_output last = {.weight = &weights[3], .activation = QLM_GELU};
    struct qlm_slot rows = {QLM_IN_ROWS, n}, q = {0, n}, k = {n, n}, v = {2 * n, n}, none = {0, 0};
    struct qlm_slot linear_slots[] = {rows, none, q, k, v}, attention_slots[] = {q, k, v, q}, divide_slots[] = {q, k},
                    last_slots[] = {k, rows, rows}, norm_slots[] = {rows, rows};
    float *gain = drawn_floats(rng, PLAIN, n), *bias = drawn_floats(rng, PLAIN, n), divisor[HIDDEN_MAX];
    for (size_t i = 0; i < n; i++) divisor[i] = 0.5f + (float)(i % 5);
    struct qlm_linear_input input = {.kind = QLM_INPUT_FLOAT, .k = n};
    struct qlm_step steps[] = {
        {.kind = QLM_STEP_LINEAR, .slots = linear_slots, .input = input, .outputs = qkv, .count = 3},
        {.kind = rng_below(rng, 2) ? QLM_STEP_ATTENTION : QLM_STEP_ATTENTION_8,
         .slots = attention_slots,
         .scale = 0.125f,
         .heads = heads},
        {.kind = QLM_STEP_DIVIDE, .slots = divide_slots, .vectors = {divisor}},
        {.kind = QLM_STEP_LINEAR, .slots = last_slots, .input = input, .outputs = &last, .count = 1},
        {.kind = QLM_STEP_LAYERNORM, .slots = norm_slots, .vectors = {gain, bias}, .eps = 1e-6f}};
    struct qlm_program program = {steps, 5, n, 3 * n};
    struct forward f = {qlm_forward_new(), QLM_OK};
    for (int turn = 0; f.forward && turn < 2; turn++) {
        size_t starts[SEQUENCES_MAX + 1], sequences = drawn_starts(rng, starts), units;
        float *x = drawn_floats(rng, PLAIN, starts[sequences] * n);
        f.status = qlm_forward_begin(f.forward, &program, x, starts, sequences, &units);
        if (f.status == QLM_OK) in_slices(manner, units, go_forward, &f);
        record_int(record, f.status);
        record_floats(record, x, starts[sequences] * n);
        free(x);
    }
    qlm_forward_free(f.forward);
    for (size_t i = 0; i < 4; i++) qlm_packed_free(&weights[i]);
    free(gain);
    free(bias);
}

const struct driver_case model_cases[] = {
    {"attention", attention}, {"attention_8", attention_8}, {"layernorm", layernorm}, {"gather", gather},
    {"pool", pool},           {"add, map", elements},       {"forward", forward},     {NULL, NULL},
};
