/* drivers_linear.c: linear with every kind of input and weight, and the exact product of codes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "test.h"

/* ---- weights -------------------------------------------------------------------------------------------------- */

static float *drawn_floats(struct rng *rng, enum flavour flavour, size_t n)
{
    float *x = must_alloc(n * sizeof *x);
    fill_floats(rng, flavour, 0.25f, x, n);
    return x;
}

/* type NULL: float32.  The draws do not depend on the table. */
static int pack_drawn(struct rng *rng, struct qlm_packed *packed, const struct qlm_type *type, size_t n, size_t k,
                      size_t group, int has_offset)
{
    size_t groups = group ? qlm_div_up(k, group) : 1, params = n * groups;
    int per_tensor = !group && rng_below(rng, 4) == 0;
    float *values = drawn_floats(rng, PLAIN, n * k), *offset = drawn_floats(rng, PLAIN, params);
    float *scale = must_alloc(params * sizeof *scale);
    int32_t *zero = must_alloc(params * sizeof *zero);
    int has_zero = !has_offset && rng_below(rng, 2);
    for (size_t i = 0; i < params; i++) scale[i] = rng_scale(rng);
    memset(zero, 0, params * sizeof *zero);
    void *codes = must_alloc(n * k * 2);
    if (type) {
        fill_codes(rng, type, codes, n * k);
        if (has_zero) fill_ints(rng, type->min, type->max, zero, params);
    }
    enum qlm_status status = qlm_pack(packed, type ? codes : (void *)values, type, n, k, group, per_tensor,
                                      type ? scale : NULL, has_zero ? zero : NULL, has_offset ? offset : NULL);
    free(values);
    free(offset);
    free(scale);
    free(zero);
    free(codes);
    return status == QLM_OK;
}

/* ---- linear --------------------------------------------------------------------------------------------------- */

#define OUTPUTS_MAX 3

struct product {
    struct qlm_linear_input input;
    struct qlm_linear_output outputs[OUTPUTS_MAX];
    size_t count, bad;
    enum qlm_status status;
};

static size_t product_panels(const struct product *p)
{
    size_t panels = 0;
    for (size_t i = 0; i < p->count; i++) panels += qlm_packed_panels(p->outputs[i].weight);
    return panels;
}

/* Some rows in one piece or, with the panels from an odd row on, in two. */
static void multiply(void *context, size_t begin, size_t end)
{
    struct product *p = context;
    size_t bad = SIZE_MAX, cut = begin % 2 ? begin % (product_panels(p) + 1) : SIZE_MAX;
    enum qlm_status status = qlm_linear_panels(&p->input, p->outputs, p->count, begin, end, 0, cut, &bad);
    if (cut != SIZE_MAX && status == QLM_OK)
        status = qlm_linear_panels(&p->input, p->outputs, p->count, begin, end, cut, SIZE_MAX, &bad);
    if (status == QLM_OK) return;
    p->status = status;
    if (status == QLM_NONFINITE && bad < p->bad) p->bad = bad;
}

/* A group that divides or is divided by the weight's. */
static size_t drawn_group(struct rng *rng, size_t weight_group)
{
    static const size_t factors[] = {1, 2, 4};
    if (!weight_group) return 1 + rng_below(rng, 70);
    if (rng_below(rng, 2)) return weight_group * factors[rng_below(rng, 3)];
    return weight_group / factors[rng_below(rng, 3)];
}

static void draw_codes_input(struct rng *rng, struct qlm_linear_input *input, int may_offset)
{
    size_t groups = input->group ? qlm_div_up(input->k, input->group) : 1, params = input->m * groups;
    void *codes = must_alloc(input->m * input->k * 2);
    float *scale = must_alloc(params * sizeof *scale);
    int32_t *zero = must_alloc(params * sizeof *zero);
    fill_codes(rng, &input->type, codes, input->m * input->k);
    for (size_t i = 0; i < params; i++) scale[i] = rng_scale(rng);
    fill_ints(rng, input->type.min, input->type.max, zero, params);
    input->per_tensor = !input->group && rng_below(rng, 3) == 0;
    input->codes = codes;
    input->scale = scale;
    input->zero = zero;
    if (may_offset && rng_below(rng, 3) == 0) {
        free(zero);
        input->zero = NULL;
        input->offset = drawn_floats(rng, PLAIN, params);
    }
}

static void draw_static_input(struct rng *rng, struct qlm_linear_input *input)
{
    float *scale = must_alloc(sizeof *scale), *divisor = must_alloc(input->k * sizeof *divisor);
    int32_t *zero = must_alloc(sizeof *zero);
    *scale = rng_scale(rng);
    *zero = (int32_t)rng_between(rng, input->type.min, input->type.max);
    for (size_t j = 0; j < input->k; j++) divisor[j] = *scale * (1.0f + (float)(j % 7) / 8);
    input->scale = scale;
    input->zero = zero;
    input->divisor = divisor;
    if (rng_below(rng, 2)) {
        free(divisor);
        input->divisor = NULL;
    }
}

static void draw_input(struct rng *rng, struct qlm_linear_input *input, size_t weight_group, int weight_offset)
{
    size_t types = rng_below(rng, 6) == 0 ? TYPE_COUNT : 2;
    input->kind = (enum qlm_input_kind)rng_below(rng, 4);
    input->type = test_types[rng_below(rng, types)];
    input->x = drawn_floats(rng, rng_below(rng, 6) ? PLAIN : rng_flavour(rng), input->m * input->k);
    input->symmetric = (int)rng_below(rng, 2);
    input->interval = input->kind == QLM_INPUT_DYNAMIC && !weight_offset && rng_below(rng, 3) == 0;
    if (input->kind == QLM_INPUT_DYNAMIC || input->kind == QLM_INPUT_CODES)
        input->group = rng_below(rng, 2) ? drawn_group(rng, weight_group) : 0;
    if (input->kind == QLM_INPUT_CODES) draw_codes_input(rng, input, !weight_offset);
    if (input->kind == QLM_INPUT_STATIC) draw_static_input(rng, input);
}

static void free_product(struct product *p)
{
    free((void *)p->input.x);
    free((void *)p->input.codes);
    free((void *)p->input.scale);
    free((void *)p->input.zero);
    free((void *)p->input.offset);
    free((void *)p->input.divisor);
    for (size_t i = 0; i < p->count; i++) {
        qlm_packed_free((struct qlm_packed *)p->outputs[i].weight);
        free((void *)p->outputs[i].weight);
        free((void *)p->outputs[i].bias);
        free((void *)p->outputs[i].residual);
        free(p->outputs[i].out);
    }
}

static int draw_output(struct rng *rng, struct qlm_linear_output *output, const struct qlm_type *type, size_t m,
                       size_t k, size_t group, int has_offset, int large)
{
    size_t n = large ? 600 + rng_below(rng, 200) : rng_below(rng, 100);
    struct qlm_packed *packed = must_alloc(sizeof *packed);
    int ok = pack_drawn(rng, packed, type, n, k, group, has_offset);
    *output = (struct qlm_linear_output){.weight = packed, .activation = (int)rng_below(rng, QLM_SILU + 1)};
    if (rng_below(rng, 2)) output->bias = drawn_floats(rng, PLAIN, n);
    if (rng_below(rng, 3) == 0) output->residual = drawn_floats(rng, PLAIN, m * n);
    output->out = must_alloc(m * n * sizeof *output->out);
    memset(output->out, 0, m * n * sizeof *output->out);
    return ok;
}

static void linear(const struct manner *manner, struct rng *rng, struct record *record)
{
    static const size_t groups[] = {0, 0, 32, 8, 64, 12};
    struct product p = {.count = 1 + rng_below(rng, OUTPUTS_MAX), .bad = SIZE_MAX};
    size_t k = p.input.k = rng_below(rng, 4) ? rng_below(rng, 200) : rng_length(rng);
    size_t m = p.input.m = rng_below(rng, 4) ? rng_below(rng, 40) : rng_below(rng, 150), type = rng_below(rng, 9);
    size_t group = type < TYPE_COUNT ? groups[rng_below(rng, 6)] : 0;
    /* Enough for the quickest kernels to share with sleeping workers, by rows or, with few, by panels. */
    int large = rng_below(rng, 40) == 0;
    if (large) {
        k = p.input.k = 400 + rng_below(rng, 200);
        m = p.input.m = 18 + rng_below(rng, 40);
        p.count = 1;
    }
    int has_offset = type < TYPE_COUNT && rng_below(rng, 4) == 0;
    draw_input(rng, &p.input, group, has_offset);
    if (type >= TYPE_COUNT) p.input.kind = QLM_INPUT_FLOAT;
    for (size_t i = 0; i < p.count; i++)
        check(draw_output(rng, &p.outputs[i], type < TYPE_COUNT ? &test_types[type] : NULL, m, k, group, has_offset,
                          large),
              "qlm_pack");
    in_slices(manner, m, multiply, &p);
    record_int(record, p.status);
    record_bytes(record, &p.bad, sizeof p.bad);
    for (size_t i = 0; i < p.count && p.status == QLM_OK; i++)
        record_floats(record, p.outputs[i].out, m * p.outputs[i].weight->n);
    free_product(&p);
}

/* ---- exact products ------------------------------------------------------------------------------------------- */

struct exact {
    struct qlm_packed b;
    const void *a;
    struct qlm_type type;
    size_t m;
    int wide;
    void *c;
    enum qlm_status status;
};

static void multiply_codes(void *context, size_t begin, size_t end)
{
    struct exact *e = context;
    enum qlm_status status = qlm_matmul_codes(e->a, &e->type, e->m, &e->b, e->wide, begin, end, e->c);
    if (status != QLM_OK) e->status = status;
}

static int64_t plain_sum(const struct exact *e, const void *b, const struct qlm_type *type, size_t i, size_t j)
{
    int64_t sum = 0;
    for (size_t l = 0; l < e->b.k; l++)
        sum += (int64_t)code_at(&e->type, e->a, i * e->b.k + l) * code_at(type, b, j * e->b.k + l);
    return sum;
}

static void check_exact(const struct exact *e, const void *b, const struct qlm_type *type, struct record *record)
{
    size_t n = e->b.n;
    for (size_t i = 0; i < e->m * n; i++) {
        int64_t want = plain_sum(e, b, type, i / n, i % n);
        int64_t got = e->wide ? ((const int64_t *)e->c)[i] : ((const int32_t *)e->c)[i];
        record_int(record, got);
        if (want != got) check(0, "matmul_codes: element %zu is %lld, not %lld", i, (long long)got, (long long)want);
    }
}

/* 64-bit sums for 16-bit codes, and where K is past the bound of 32 bits (docs/numerics.md). */
static void matmul_codes(const struct manner *manner, struct rng *rng, struct record *record)
{
    int long_sum = rng_below(rng, 12) == 0;
    size_t k = long_sum ? 33000 + rng_below(rng, 200000) : rng_length(rng), n = rng_below(rng, long_sum ? 4 : 50);
    struct exact e = {.type = test_types[rng_below(rng, TYPE_COUNT)], .m = rng_below(rng, long_sum ? 4 : 30)};
    const struct qlm_type *type = &test_types[rng_below(rng, TYPE_COUNT)];
    void *a = must_alloc(e.m * k * 2), *b = must_alloc(n * k * 2);
    float *scale = drawn_floats(rng, CONSTANT, n);
    fill_codes(rng, &e.type, a, e.m * k);
    fill_codes(rng, type, b, n * k);
    e.a = a;
    e.wide = long_sum || e.type.bits > 8 || type->bits > 8 || rng_below(rng, 4) == 0;
    e.c = must_alloc(e.m * n * 8);
    e.status = qlm_pack(&e.b, b, type, n, k, 0, 0, scale, NULL, NULL);
    if (e.status == QLM_OK) in_slices(manner, e.m, multiply_codes, &e);
    record_int(record, e.status);
    if (e.status == QLM_OK) check_exact(&e, b, type, record);
    qlm_packed_free(&e.b);
    free(a);
    free(b);
    free(scale);
    free(e.c);
}

const struct driver_case linear_cases[] = {{"linear", linear}, {"matmul_codes", matmul_codes}, {NULL, NULL}};
