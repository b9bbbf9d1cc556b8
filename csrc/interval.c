/* interval.c: quantizing to the interval grid: code = lowest + clamp(floor((x - min) / scale), 0, levels - 1), all in
 * float64.
 *
 * Runs of 8-bit codes go through the kernel, which redoes only what lies near a border.  16-bit codes, and runs where
 * each element has its own parameters, are rare and take the formula as it stands.
 */
#include "common.h"
#include "layout.h"

struct interval_job {
    const float *x;
    const struct qlm_type *type;
    const float *min, *scale;
    const uint8_t *constant;
    void *codes;
    size_t bad;
};

static void store_code(const struct interval_job *job, size_t at, int32_t code)
{
    if (job->type->bits > 8)
        ((uint16_t *)job->codes)[at] = (uint16_t)code;
    else
        ((uint8_t *)job->codes)[at] = (uint8_t)code;
}

static int32_t interval_code(const struct interval_job *job, float x, size_t param)
{
    int32_t last = job->type->max - job->type->min;
    if (job->constant[param]) return 0;
    double level = ((double)x - (double)job->min[param]) / (double)job->scale[param];
    if (level < 0) return job->type->min;
    return level >= last ? job->type->max : job->type->min + (int32_t)level;
}

static int interval_elements(const struct interval_job *job, struct qlm_run run)
{
    int bad = 0;
    for (size_t i = 0; i < run.count; i++) {
        float x = job->x[run.start + i];
        int finite = qlm_is_finite(x);
        store_code(job, run.start + i, finite ? interval_code(job, x, run.param + (run.each ? i : 0)) : 0);
        bad |= !finite;
    }
    return bad;
}

static void interval_run(void *context, struct qlm_run run)
{
    struct interval_job *job = context;
    const struct qlm_type *type = job->type;
    int bad;
    if (run.each || type->bits > 8 || job->constant[run.param])
        bad = interval_elements(job, run);
    else
        bad = qlm_kernels_in_use->interval_f32_8(job->x + run.start, run.count, job->min[run.param],
                                                 job->scale[run.param], type->max - type->min + 1, type->min,
                                                 (uint8_t *)job->codes + run.start);
    if (bad) qlm_lower_index(&job->bad, qlm_first_nonfinite(job->x, run));
}

size_t qlm_quantize_interval(const float *x, const struct qlm_layout *layout, size_t begin, size_t end,
                             const struct qlm_type *type, const float *min, const float *scale, const uint8_t *constant,
                             void *codes)
{
    struct interval_job job = {x, type, min, scale, constant, codes, SIZE_MAX};
    qlm_visit_runs(layout, begin, end, interval_run, &job);
    return job.bad;
}
