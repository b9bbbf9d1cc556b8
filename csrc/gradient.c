/* gradient.c: the straight-through gradient of fake quantization.
 *
 * The gradient of a scale is a sum over all its elements: float32 by lanes in batches of 4096 elements of a run, the
 * batches' sums in float64 in ascending order.  So one thread adds all batches of a parameter; where there is one
 * parameter alone, threads share the batches and their sums are added afterwards.
 */
#include "common.h"
#include "layout.h"
#include "threads.h"

#define BATCH 4096
#define WINDOW 1024 /* batches whose sums are kept at a time, on the stack */
#define TASK_ELEMENTS 32768

struct gradient_job {
    const float *grad, *x;
    const struct qlm_layout *layout;
    const struct qlm_type *type;
    const float *scale;
    const int32_t *zero;
    float *grad_x;
    double *grad_scale;
    size_t params, params_per_task; /* several parameters */
    size_t first, end;              /* one parameter: the window's first element, the end of all */
    float *sums;
};

static float batch_sum(const struct gradient_job *job, size_t start, size_t count, size_t param)
{
    return qlm_kernels_in_use->lsq_f32(job->grad + start, job->x + start, count, job->scale[param],
                                       qlm_zero_at(job->zero, param), (float)job->type->min, (float)job->type->max,
                                       job->grad_x + start);
}

static double add_run(const struct gradient_job *job, size_t start, size_t count, size_t param, double sum)
{
    for (size_t at = 0; at < count; at += BATCH)
        sum += batch_sum(job, start + at, qlm_min_size(BATCH, count - at), param);
    return sum;
}

static void gradient_of_param(const struct gradient_job *job, size_t param)
{
    const struct qlm_layout *layout = job->layout;
    double sum = job->grad_scale[param];
    if (layout->group) {
        size_t groups = qlm_div_up(layout->inner, layout->group), at = param % groups * layout->group;
        size_t start = param / groups * layout->inner + at;
        sum = add_run(job, start, qlm_min_size(layout->group, layout->inner - at), param, sum);
    } else {
        for (size_t o = 0; o < layout->outer; o++)
            sum = add_run(job, (o * layout->channels + param) * layout->inner, layout->inner, param, sum);
    }
    job->grad_scale[param] = sum;
}

static void params_task(void *context, size_t index, unsigned worker)
{
    const struct gradient_job *job = context;
    size_t first = index * job->params_per_task, end = qlm_min_size(first + job->params_per_task, job->params);
    (void)worker;
    for (size_t param = first; param < end; param++) gradient_of_param(job, param);
}

static void batch_task(void *context, size_t index, unsigned worker)
{
    const struct gradient_job *job = context;
    size_t start = job->first + index * BATCH;
    (void)worker;
    job->sums[index] = batch_sum(job, start, qlm_min_size(BATCH, job->end - start), 0);
}

static void gradient_of_one(struct gradient_job *job, size_t size)
{
    float sums[WINDOW];
    job->sums = sums;
    job->end = size;
    for (job->first = 0; job->first < size; job->first += (size_t)WINDOW * BATCH) {
        size_t batches = qlm_min_size(WINDOW, qlm_div_up(size - job->first, BATCH));
        qlm_parallel_sized(batches, batches * (BATCH / 2), batch_task, job);
        for (size_t i = 0; i < batches; i++) job->grad_scale[0] += sums[i];
    }
}

void qlm_fake_quantize_backward(const float *grad, const float *x, const struct qlm_layout *layout,
                                const struct qlm_type *type, const float *scale, const int32_t *zero, float *grad_x,
                                double *grad_scale)
{
    struct gradient_job job = {.grad = grad,
                               .x = x,
                               .layout = layout,
                               .type = type,
                               .scale = scale,
                               .zero = zero,
                               .grad_x = grad_x,
                               .grad_scale = grad_scale,
                               .params = qlm_layout_params(layout)};
    size_t size = layout->outer * layout->channels * layout->inner;
    if (!size) return;
    if (job.params == 1 && layout->outer == 1) {
        gradient_of_one(&job, size);
        return;
    }
    job.params_per_task = qlm_max_size(1, TASK_ELEMENTS / qlm_max_size(1, size / job.params));
    qlm_parallel_sized(qlm_div_up(job.params, job.params_per_task), size / 2, params_task, &job);
}
