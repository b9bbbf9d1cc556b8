/* arrays.c: element-wise drivers: ranges, quantize, dequantize.
 *
 * An element's result depends on that element and its parameter alone, and a range does not depend on order, so the
 * work is cut into chunks of elements wherever that suits (layout.c); slices and threads cannot show.
 */
#include "common.h"
#include "cpu.h"
#include "layout.h"
#include "threads.h"

/* ---- ranges --------------------------------------------------------------------------------------------------- */

struct range_job {
    const struct qlm_layout *layout;
    const float *x;
    size_t begin, end;
    float *min, *max;
    size_t *bad;
};

/* Several chunks may hold elements of one parameter: the least and the largest are merged without a lock. */
static void merge_min(float *target, float value)
{
    float seen;
    __atomic_load(target, &seen, __ATOMIC_RELAXED);
    while (value < seen && !__atomic_compare_exchange(target, &seen, &value, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

static void merge_max(float *target, float value)
{
    float seen;
    __atomic_load(target, &seen, __ATOMIC_RELAXED);
    while (value > seen && !__atomic_compare_exchange(target, &seen, &value, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

static void range_run(void *context, struct qlm_run run)
{
    const struct range_job *job = context;
    const float *x = job->x + run.start;
    int bad;
    if (run.each) { /* groups of one element: no other run has these parameters */
        bad = qlm_kernels_in_use->range_cols_f32(x, run.count, job->min + run.param, job->max + run.param);
    } else {
        float min = INFINITY, max = -INFINITY;
        bad = qlm_kernels_in_use->range_f32(x, run.count, &min, &max);
        merge_min(&job->min[run.param], min);
        merge_max(&job->max[run.param], max);
    }
    if (bad) qlm_lower_index(job->bad, qlm_first_nonfinite(job->x, run));
}

/* Columns [column, column + count) of the rows that hold elements [begin, end): ranges on the stack, merged once. */
static void range_columns(const struct range_job *job, size_t begin, size_t end, size_t column, size_t count)
{
    size_t channels = job->layout->channels;
    float min[QLM_EACH_MAX], max[QLM_EACH_MAX];
    for (size_t i = 0; i < count; i++) {
        min[i] = INFINITY;
        max[i] = -INFINITY;
    }
    for (size_t row = begin - begin % channels; row < end; row += channels) {
        size_t from = qlm_max_size(row + column, begin), to = qlm_min_size(row + column + count, end);
        if (from >= to) continue;
        size_t at = from - row - column;
        if (qlm_kernels_in_use->range_cols_f32(job->x + from, to - from, min + at, max + at))
            qlm_lower_index(job->bad, qlm_first_nonfinite(job->x, (struct qlm_run){from, to - from, 0, 0, 1}));
    }
    for (size_t i = 0; i < count; i++) {
        merge_min(&job->min[column + i], min[i]);
        merge_max(&job->max[column + i], max[i]);
    }
}

#define COLUMNS_CHUNK 65536

static void range_rows_task(void *context, size_t index, unsigned worker)
{
    const struct range_job *job = context;
    size_t channels = job->layout->channels;
    size_t begin = job->begin + index * COLUMNS_CHUNK, end = begin + qlm_min_size(COLUMNS_CHUNK, job->end - begin);
    (void)worker;
    for (size_t column = 0; column < channels; column += QLM_EACH_MAX)
        range_columns(job, begin, end, column, qlm_min_size(QLM_EACH_MAX, channels - column));
}

void qlm_range(const float *x, const struct qlm_layout *layout, size_t begin, size_t end, float *min, float *max,
               size_t *bad)
{
    struct range_job job = {layout, x, begin, end, min, max, bad};
    size_t size = end - begin;
    *bad = SIZE_MAX;
    if (qlm_layout_each(layout) && !layout->group)
        qlm_parallel_sized(qlm_div_up(size, COLUMNS_CHUNK), size / 4, range_rows_task, &job);
    else
        qlm_visit_runs(layout, begin, end, range_run, &job);
}

void qlm_range_finish(float *min, float *max, size_t params)
{
    for (size_t i = 0; i < params; i++) {
        int empty = !(min[i] <= max[i]);
        min[i] = empty ? 0.0f : min[i] + 0.0f;
        max[i] = empty ? 0.0f : max[i] + 0.0f;
    }
}

/* What does not fit the last cache beside its codes is better stored past it: a line that is stored whole need not be
 * read first. */
static int streams(size_t elements) { return elements > qlm_cpu_caches().l3 / (sizeof(float) + 1); }

/* ---- quantize ------------------------------------------------------------------------------------------------- */

struct quantize_job {
    const float *x;
    int wide;
    float lo, hi;
    const float *scale;
    const int32_t *zero;
    void *codes;
    size_t bad;
    int stream;
    const float *places; /* of columns whose scales many rows share: inverses, starts and zero points; or NULL */
    size_t columns;
};

static int quantize_shared(const struct quantize_job *job, struct qlm_run run)
{
    const struct qlm_kernels *kernels = qlm_kernels_in_use;
    const float *x = job->x + run.start;
    float scale = job->scale[run.param], zero = qlm_zero_at(job->zero, run.param);
    if (job->wide)
        return kernels->quantize_f32_16(x, run.count, scale, zero, job->lo, job->hi,
                                        (uint16_t *)job->codes + run.start);
    return kernels->quantize_f32_8(x, run.count, scale, zero, job->lo, job->hi, (uint8_t *)job->codes + run.start);
}

static void zeros_of(const int32_t *zero, struct qlm_run run, float *zeros)
{
    for (size_t i = 0; i < run.count; i++) zeros[i] = qlm_zero_at(zero, run.param + i);
}

static int quantize_each(const struct quantize_job *job, struct qlm_run run)
{
    const struct qlm_kernels *kernels = qlm_kernels_in_use;
    const float *x = job->x + run.start, *scale = job->scale + run.param;
    const float *inverse = job->places ? job->places + run.param : NULL;
    const float *start = inverse ? inverse + job->columns : NULL;
    float zeros[QLM_EACH_MAX];
    if (!inverse) zeros_of(job->zero, run, zeros);
    if (job->wide)
        return kernels->quantize_cols_f32_16(x, run.count, scale, zeros, job->lo, job->hi,
                                             (uint16_t *)job->codes + run.start);
    return kernels->quantize_cols_f32_8(x, run.count, scale, inverse ? start + job->columns : zeros, job->lo, job->hi,
                                        inverse, start, (uint8_t *)job->codes + run.start);
}

/* Fewer rows than this would not pay for it. */
#define ROWS_WITH_PLACES 4
/* Of all rows of a chunk: their places take half of L1, where those of 8192 would not fit. */
#define COLUMNS_AT_A_TIME 2048

/* What rows have in common; without memory for it they divide. */
static void share_places(struct quantize_job *job, const struct qlm_layout *layout)
{
    size_t n = layout->channels;
    if (!qlm_layout_each(layout) || layout->group || job->wide || layout->outer < ROWS_WITH_PLACES) return;
    /* From memory, whole rows that divide are faster than parts of rows: 10 GB/s for 8 at 4096 columns (Zen 4). */
    if (n > COLUMNS_AT_A_TIME && job->stream) return;
    float *places = qlm_scratch(qlm_size_mul(n, 3 * sizeof(float)));
    if (!places) return;
    uint64_t mode = qlm_float_mode_enter();
    for (size_t i = 0; i < n; i++) places[2 * n + i] = qlm_zero_at(job->zero, i);
    qlm_kernels_in_use->column_places_f32(job->scale, places + 2 * n, n, job->lo, job->hi, places, places + n);
    qlm_float_mode_leave(mode);
    job->places = places;
    job->columns = n;
}

static int quantize_groups(const struct quantize_job *job, struct qlm_run run)
{
    return qlm_kernels_in_use->quantize_groups_f32_8(job->x + run.start, run.groups, run.count, job->scale + run.param,
                                                     job->zero ? job->zero + run.param : NULL, job->lo, job->hi,
                                                     (uint8_t *)job->codes + run.start, job->stream);
}

static int quantize_wide_groups(const struct quantize_job *job, struct qlm_run run)
{
    int bad = 0;
    for (struct qlm_run one = {run.start, run.count, run.param, 0, 1}; run.groups--; one.param++) {
        bad |= quantize_shared(job, one);
        one.start += one.count;
    }
    return bad;
}

static void quantize_run(void *context, struct qlm_run run)
{
    struct quantize_job *job = context;
    int bad =
        run.each ? quantize_each(job, run) : (job->wide ? quantize_wide_groups(job, run) : quantize_groups(job, run));
    if (bad) qlm_lower_index(&job->bad, qlm_first_nonfinite(job->x, run));
}

struct columns_job {
    struct quantize_job *quantize;
    size_t begin, end;
};

static void quantize_columns_task(void *context, size_t index, unsigned worker)
{
    const struct columns_job *job = context;
    size_t channels = job->quantize->columns, begin = job->begin + index * QLM_CHUNK;
    size_t end = begin + qlm_min_size(QLM_CHUNK, job->end - begin);
    (void)worker;
    for (size_t column = 0; column < channels; column += COLUMNS_AT_A_TIME) {
        size_t last = qlm_min_size(column + COLUMNS_AT_A_TIME, channels);
        for (size_t row = begin - begin % channels; row < end; row += channels) {
            size_t from = qlm_max_size(row + column, begin), to = qlm_min_size(row + last, end);
            if (from < to) quantize_run(job->quantize, (struct qlm_run){from, to - from, from - row, 1, 1});
        }
    }
}

size_t qlm_quantize(const float *x, const struct qlm_layout *layout, size_t begin, size_t end,
                    const struct qlm_type *type, int32_t lo, int32_t hi, const float *scale, const int32_t *zero,
                    void *codes)
{
    struct quantize_job job = {.x = x,
                               .wide = type->bits > 8,
                               .lo = (float)lo,
                               .hi = (float)hi,
                               .scale = scale,
                               .zero = zero,
                               .codes = codes,
                               .bad = SIZE_MAX,
                               .stream = streams(layout->outer * layout->channels * layout->inner)};
    share_places(&job, layout);
    struct columns_job columns = {&job, begin, end};
    if (job.places)
        qlm_parallel_sized(qlm_div_up(end - begin, QLM_CHUNK), (end - begin) / 4, quantize_columns_task, &columns);
    else
        qlm_visit_groups(layout, begin, end, quantize_run, &job);
    return job.bad;
}

/* ---- quantize by the ranges found ------------------------------------------------------------------------------ */

/* Of wide codes, runs are taken some at a time, so that they are read from memory once. */
#define FOUND_FLOATS 4096
#define FOUND_RUNS 128

struct found_job {
    struct quantize_job quantize;
    struct qlm_type type;
    int symmetric, half;
    size_t n, begin, end, batch, batches; /* elements of a run; runs; runs at a time; batches a task takes */
    float *scale;
    int32_t *zero;
};

/* A kernel finds the ranges of many runs and chooses their codes at once. */
static int found_bytes(const struct found_job *job, struct qlm_run run)
{
    const struct qlm_kernels *kernels = qlm_kernels_in_use;
    const struct quantize_job *q = &job->quantize;
    const float *x = q->x + run.start;
    float *scale = job->scale + run.param;
    uint8_t *codes = (uint8_t *)q->codes + run.start;
    if (!job->symmetric)
        return kernels->quantize_asymmetric_f32_8(x, run.groups, run.count, q->lo, q->hi, job->half, scale,
                                                  job->zero + run.param, codes, q->stream);
    float bound = (q->hi - q->lo) / 2, middle = q->hi - bound;
    for (size_t i = 0; job->zero && i < run.groups; i++) job->zero[run.param + i] = (int32_t)middle;
    return kernels->quantize_symmetric_f32_8(x, run.groups, run.count, bound, middle, job->half, scale, codes,
                                             q->stream);
}

static int choose_by_range(const struct found_job *job, struct qlm_run run)
{
    float min[FOUND_RUNS] = {0}, max[FOUND_RUNS] = {0};
    struct qlm_qparams params[FOUND_RUNS];
    int bad = 0;
    for (size_t i = 0; i < run.groups; i++) {
        min[i] = INFINITY;
        max[i] = -INFINITY;
        bad |= qlm_kernels_in_use->range_f32(job->quantize.x + run.start + i * run.count, run.count, min + i, max + i);
    }
    if (bad) return bad;
    qlm_choose_many_qparams(min, max, run.groups, &job->type, job->symmetric, params);
    for (size_t i = 0; i < run.groups; i++) {
        job->scale[run.param + i] = params[i].scale;
        if (job->zero) job->zero[run.param + i] = params[i].zero;
    }
    return 0;
}

static int found_words(const struct found_job *job, struct qlm_run run)
{
    const size_t end = run.param + run.groups;
    int bad = 0;
    while (run.param < end) {
        run.groups = qlm_min_size(job->batch, end - run.param);
        bad |= choose_by_range(job, run) || quantize_wide_groups(&job->quantize, run);
        run.param += run.groups;
        run.start += run.groups * run.count;
    }
    return bad;
}

static void found_task(void *context, size_t index, unsigned worker)
{
    struct found_job *job = context;
    size_t from = job->begin + index * job->batches * job->batch;
    size_t runs = qlm_min_size(job->batches * job->batch, job->end - from);
    struct qlm_run run = {from * job->n, job->n, from, 0, runs};
    (void)worker;
    if (job->quantize.wide ? found_words(job, run) : found_bytes(job, run))
        qlm_lower_index(&job->quantize.bad, qlm_first_nonfinite(job->quantize.x, run));
}

size_t qlm_quantize_found(const float *x, size_t n, size_t runs, size_t begin, size_t end, const struct qlm_type *type,
                          int symmetric, int half, float *scale, int32_t *zero, void *codes)
{
    struct found_job job = {.type = *type, .symmetric = symmetric, .half = half, .n = n, .begin = begin, .end = end};
    int32_t lo, hi;
    qlm_code_bounds(type, symmetric, &lo, &hi);
    job.quantize = (struct quantize_job){.x = x,
                                         .wide = type->bits > 8,
                                         .lo = (float)lo,
                                         .hi = (float)hi,
                                         .scale = scale,
                                         .zero = zero,
                                         .codes = codes,
                                         .bad = SIZE_MAX,
                                         .stream = streams(runs * n)};
    job.scale = scale;
    job.zero = zero;
    job.batch = qlm_min_size(qlm_max_size(FOUND_FLOATS / qlm_max_size(n, 1), 1), (size_t)FOUND_RUNS);
    job.batches = qlm_max_size(qlm_chunk((end - begin) * n) / qlm_max_size(job.batch * n, 1), 1);
    size_t tasks = qlm_div_up(end - begin, job.batch * job.batches);
    qlm_parallel_sized(tasks, (end - begin) * n / 2, found_task, &job);
    return job.quantize.bad;
}

/* ---- dequantize ----------------------------------------------------------------------------------------------- */

struct dequantize_job {
    const void *codes;
    enum qlm_code code;
    const float *scale;
    const int32_t *zero;
    const float *offset;
    float *out;
    int stream;
};

/* A kernel's name and the type that it reads, by code. */
#define EACH_CODE(X) X(QLM_S8, s8, int8_t) X(QLM_U8, u8, uint8_t) X(QLM_S16, s16, int16_t) X(QLM_U16, u16, uint16_t)

void qlm_dequantize_span(const void *codes, enum qlm_code code, size_t start, size_t count, float scale, float zero,
                         float offset, float *out)
{
    const struct qlm_kernels *kernels = qlm_kernels_in_use;
#define SPAN(CODE, suffix, type)                                                                                       \
    case CODE:                                                                                                         \
        kernels->dequantize_##suffix##_f32((const type *)codes + start, count, scale, zero, offset, out);              \
        break;
    switch (code) {
        EACH_CODE(SPAN)
    }
#undef SPAN
}

static void dequantize_each(const struct dequantize_job *job, struct qlm_run run)
{
    const struct qlm_kernels *kernels = qlm_kernels_in_use;
    const float *scale = job->scale + run.param;
    float *out = job->out + run.start, zero[QLM_EACH_MAX], offset[QLM_EACH_MAX];
    zeros_of(job->zero, run, zero);
    for (size_t i = 0; i < run.count; i++) offset[i] = job->offset ? job->offset[run.param + i] : -0.0f;
#define EACH(CODE, suffix, type)                                                                                       \
    case CODE:                                                                                                         \
        kernels->dequantize_cols_##suffix##_f32((const type *)job->codes + run.start, run.count, scale, zero, offset,  \
                                                out);                                                                  \
        break;
    switch (job->code) {
        EACH_CODE(EACH)
    }
#undef EACH
}

static void dequantize_groups(const struct dequantize_job *job, struct qlm_run run)
{
    const struct qlm_kernels *kernels = qlm_kernels_in_use;
    const float *scale = job->scale + run.param, *offset = job->offset ? job->offset + run.param : NULL;
    const int32_t *zero = job->zero ? job->zero + run.param : NULL;
    float *out = job->out + run.start;
#define GROUPS(CODE, suffix, type)                                                                                     \
    case CODE:                                                                                                         \
        kernels->dequantize_groups_##suffix##_f32((const type *)job->codes + run.start, run.groups, run.count, scale,  \
                                                  zero, offset, out, job->stream);                                     \
        break;
    switch (job->code) {
        EACH_CODE(GROUPS)
    }
#undef GROUPS
}

static void dequantize_run(void *context, struct qlm_run run)
{
    if (run.each)
        dequantize_each(context, run);
    else
        dequantize_groups(context, run);
}

void qlm_dequantize(const void *codes, enum qlm_code code, const struct qlm_layout *layout, size_t begin, size_t end,
                    const float *scale, const int32_t *zero, const float *offset, float *out)
{
    struct dequantize_job job = {.codes = codes,
                                 .code = code,
                                 .scale = scale,
                                 .zero = zero,
                                 .offset = offset,
                                 .out = out,
                                 .stream = streams(layout->outer * layout->channels * layout->inner)};
    qlm_visit_groups(layout, begin, end, dequantize_run, &job);
}

/* ---- values that are not finite ------------------------------------------------------------------------------- */

struct replace_job {
    const float *x, *min, *max;
    float *out;
};

static float replaced(float x, float min, float max)
{
    if (qlm_is_finite(x)) return x;
    if (x != x) return 0.0f;
    return x > 0 ? max : min;
}

static void replace_run(void *context, struct qlm_run run)
{
    const struct replace_job *job = context;
    const float *x = job->x + run.start, *min = job->min + run.param, *max = job->max + run.param;
    float *out = job->out + run.start;
    for (size_t i = 0; i < run.count; i++) {
        size_t param = run.each ? i : 0;
        out[i] = replaced(x[i], min[param], max[param]);
    }
}

void qlm_replace_nonfinite(const float *x, const struct qlm_layout *layout, size_t begin, size_t end, const float *min,
                           const float *max, float *out)
{
    struct replace_job job = {x, min, max, out};
    qlm_visit_runs(layout, begin, end, replace_run, &job);
}
