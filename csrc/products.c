/* products.c: qlm_linear and qlm_matmul_codes: which weights meet an input together, and in which layout. */
#include <stdatomic.h>

#include "common.h"
#include "job.h"
#include "pack.h"

/* ---- layouts that the input needs ------------------------------------------------------------------------------ */

/* 16-bit codes where either side has them, and groups no coarser than the activations'. */
struct qlm_fit qlm_linear_fit(const struct qlm_packed *weight, const struct qlm_linear_input *input)
{
    struct qlm_fit fit = {weight->kind, weight->group};
    if (input->kind == QLM_INPUT_FLOAT) return fit;
    if (input->type.bits > 8) fit.kind = QLM_PACKED_16;
    if (input->group && input->group < weight->group) fit.group = input->group;
    return fit;
}

static enum qlm_status fitted(const struct qlm_packed *weight, const struct qlm_linear_input *input,
                              struct qlm_packed *repacked, const struct qlm_packed **fitting)
{
    struct qlm_fit fit = qlm_linear_fit(weight, input);
    *fitting = weight;
    if (qlm_fits(weight, fit)) return QLM_OK;
    *fitting = repacked;
    enum qlm_status status = qlm_repack_begin(repacked, weight, fit);
    if (status == QLM_OK) qlm_repack_outputs(repacked, weight, 0, weight->n);
    return status;
}

static enum qlm_status run_output(struct qlm_job *job, const struct qlm_linear_output *output)
{
    struct qlm_packed repacked = {.block = NULL};
    struct qlm_linear_output fitting = *output;
    enum qlm_status status = fitted(output->weight, job->input, &repacked, &fitting.weight);
    job->outputs = &fitting;
    job->count = 1;
    if (status == QLM_OK) status = qlm_run_codes(job);
    qlm_packed_free(&repacked);
    return status;
}

static int same_layout(const struct qlm_packed *a, const struct qlm_packed *b)
{
    return a->kind == b->kind && a->group == b->group && qlm_packed_has_zero(a) == qlm_packed_has_zero(b) &&
           !a->offset == !b->offset;
}

/* Outputs whose weights share a layout share the quantized rows. */
static int shareable(const struct qlm_job *job)
{
    for (size_t i = 0; i < job->count; i++)
        if (!qlm_fits(job->outputs[i].weight, qlm_linear_fit(job->outputs[i].weight, job->input)) ||
            !same_layout(job->outputs[0].weight, job->outputs[i].weight))
            return 0;
    return 1;
}

static enum qlm_status run_all_codes(struct qlm_job *job)
{
    const struct qlm_linear_output *outputs = job->outputs;
    size_t count = job->count, from = job->from, to = job->to;
    if (shareable(job)) return qlm_run_codes(job);
    for (size_t i = 0; i < count; i++) {
        size_t panels = qlm_packed_panels(outputs[i].weight);
        job->from = from;
        job->to = to;
        enum qlm_status status = from < to ? run_output(job, &outputs[i]) : QLM_OK;
        if (status != QLM_OK) return status;
        from = qlm_panels_past(from, panels);
        to = qlm_panels_past(to, panels);
    }
    return QLM_OK;
}

static int offsets_on_both_sides(const struct qlm_linear_input *input, const struct qlm_linear_output *outputs,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (outputs[i].weight->offset && (input->interval || input->offset)) return 1;
    return 0;
}

enum qlm_status qlm_linear(const struct qlm_linear_input *input, const struct qlm_linear_output *outputs, size_t count,
                           size_t begin, size_t end, size_t *bad)
{ return qlm_linear_panels(input, outputs, count, begin, end, 0, SIZE_MAX, bad); }

enum qlm_status qlm_linear_panels(const struct qlm_linear_input *input, const struct qlm_linear_output *outputs,
                                  size_t count, size_t begin, size_t end, size_t from, size_t to, size_t *bad)
{
    struct qlm_job job = {.input = input, .outputs = outputs, .count = count, .begin = begin, .end = end};
    job.from = from;
    job.to = to;
    atomic_init(&job.status, QLM_OK);
    atomic_init(&job.bad, SIZE_MAX);
    if (begin >= end || !count) return QLM_OK;
    enum qlm_status status;
    if (input->kind == QLM_INPUT_FLOAT)
        status = qlm_run_floats(&job);
    else if (offsets_on_both_sides(input, outputs, count))
        status = QLM_UNSUPPORTED;
    else
        status = run_all_codes(&job);
    *bad = atomic_load(&job.bad);
    return status;
}

enum qlm_status qlm_matmul_codes(const void *a, const struct qlm_type *type, size_t m, const struct qlm_packed *b,
                                 int wide, size_t begin, size_t end, void *c)
{
    static const float one = 1.0f;
    struct qlm_linear_input input = {
        .kind = QLM_INPUT_CODES, .m = m, .k = b->k, .type = *type, .codes = a, .scale = &one, .per_tensor = 1};
    struct qlm_linear_output output = {.weight = b};
    struct qlm_job job = {.input = &input,
                          .outputs = &output,
                          .count = 1,
                          .begin = begin,
                          .end = end,
                          .to = SIZE_MAX,
                          .exact = 1,
                          .wide = wide,
                          .exact_out = c};
    atomic_init(&job.status, QLM_OK);
    atomic_init(&job.bad, SIZE_MAX);
    return begin < end ? run_all_codes(&job) : QLM_OK;
}
