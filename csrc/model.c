/* model.c: the parts of a transformer that are not linears: layer norm, embedding rows, sums, pooling.
 *
 * Each row's result depends on that row alone and is computed by one task, so threads and slices cannot show.
 */
#include "common.h"
#include "layout.h"
#include "threads.h"

#define TASK_ELEMENTS 16384

/* Rows of n elements that make a task of about TASK_ELEMENTS. */
static size_t rows_per_task(size_t n) { return qlm_max_size(1, TASK_ELEMENTS / qlm_max_size(1, n)); }

/* task(context, index, worker) for each block of rows_per_task(n) rows; `cost`: units of work for 16 elements. */
static void share_rows(size_t rows, size_t n, size_t cost, void (*task)(void *, size_t, unsigned), void *context)
{ qlm_parallel_sized(qlm_div_up(rows, rows_per_task(n)), rows * n / 16 * cost, task, context); }

/* ---- layer norm ----------------------------------------------------------------------------------------------- */

struct layernorm_job {
    const float *x, *y;
    size_t rows, n;
    const float *gain, *bias;
    float eps, *ranges, *out;
};

static void layernorm_task(void *context, size_t index, unsigned worker)
{
    const struct layernorm_job *job = context;
    size_t block = rows_per_task(job->n), end = qlm_min_size((index + 1) * block, job->rows);
    (void)worker;
    size_t at = index * block * job->n, rows = end - index * block;
    const float *x = job->x + at;
    if (job->y) {
        qlm_kernels_in_use->add_f32(x, job->y + at, rows * job->n, job->out + at);
        x = job->out + at;
    }
    float *ranges = job->ranges ? job->ranges + QLM_RANGE * index * block : NULL;
    qlm_kernels_in_use->layernorm_f32(x, rows, job->n, job->gain, job->bias, job->eps, ranges, job->out + at);
}

void qlm_layernorm(const float *x, const float *y, size_t rows, size_t n, const float *gain, const float *bias,
                   float eps, float *ranges, float *out)
{
    struct layernorm_job job = {x, y, rows, n, gain, bias, eps, ranges, out};
    if (n) share_rows(rows, n, 8, layernorm_task, &job);
}

/* ---- embedding rows ------------------------------------------------------------------------------------------- */

struct gather_job {
    const struct qlm_table *table;
    const int64_t *ids;
    size_t count;
    float *out;
};

static void gather_codes(const struct qlm_table *table, size_t row, float *out)
{
    size_t group = table->group ? table->group : table->n, groups = qlm_div_up(table->n, group);
    for (size_t g = 0; g < groups; g++) {
        size_t param = row * groups + g, at = g * group;
        float offset = table->offset ? table->offset[param] : -0.0f;
        qlm_dequantize_span(table->codes, table->code, row * table->n + at, qlm_min_size(group, table->n - at),
                            table->scale[param], qlm_zero_at(table->zero, param), offset, out + at);
    }
}

static void gather_task(void *context, size_t index, unsigned worker)
{
    const struct gather_job *job = context;
    size_t n = job->table->n, block = rows_per_task(n), end = qlm_min_size((index + 1) * block, job->count);
    (void)worker;
    for (size_t i = index * block; i < end; i++) {
        size_t row = (size_t)job->ids[i];
        if (job->table->values)
            memcpy(job->out + i * n, job->table->values + row * n, n * sizeof(float));
        else
            gather_codes(job->table, row, job->out + i * n);
    }
}

void qlm_gather(const struct qlm_table *table, const int64_t *ids, size_t count, float *out)
{
    struct gather_job job = {table, ids, count, out};
    if (table->n) share_rows(count, table->n, 4, gather_task, &job);
}

/* ---- sums and functions --------------------------------------------------------------------------------------- */

struct element_job {
    int function;
    const float *a, *b;
    size_t n;
    float *out;
};

static void add_task(void *context, size_t index, unsigned worker)
{
    const struct element_job *job = context;
    size_t at = index * TASK_ELEMENTS, count = qlm_min_size(TASK_ELEMENTS, job->n - at);
    (void)worker;
    qlm_kernels_in_use->add_f32(job->a + at, job->b + at, count, job->out + at);
}

void qlm_add(const float *a, const float *b, size_t n, float *out)
{
    struct element_job job = {0, a, b, n, out};
    share_rows(n, 1, 3, add_task, &job);
}

static void map_task(void *context, size_t index, unsigned worker)
{
    const struct element_job *job = context;
    size_t at = index * TASK_ELEMENTS, count = qlm_min_size(TASK_ELEMENTS, job->n - at);
    (void)worker;
    qlm_kernels_in_use->map_f32(job->function, job->a + at, count, job->out + at);
}

void qlm_map(int function, const float *x, size_t n, float *out)
{
    struct element_job job = {function, x, NULL, n, out};
    share_rows(n, 1, 16, map_task, &job);
}

/* ---- pooling -------------------------------------------------------------------------------------------------- */

struct pool_job {
    const float *x;
    const size_t *starts;
    size_t n;
    enum qlm_pooling how;
    int normalize;
    float *out;
};

static void pool_mean(const float *x, size_t rows, size_t n, float *out)
{
    memset(out, 0, n * sizeof(float));
    for (size_t row = 0; row < rows; row++) qlm_kernels_in_use->add_f32(out, x + row * n, n, out);
    qlm_kernels_in_use->divide_f32(out, n, (float)rows, out);
}

/* NaN wins, and is stored as numerics.md has it; of zeros the first. */
static void pool_max(const float *x, size_t rows, size_t n, float *out)
{
    memcpy(out, x, n * sizeof(float));
    for (size_t row = 1; row < rows; row++)
        for (size_t i = 0; i < n; i++) {
            float value = x[row * n + i];
            if (value > out[i] || value != value) out[i] = value;
        }
    for (size_t i = 0; i < n; i++)
        if (out[i] != out[i]) out[i] = qlm_float_from_bits(0x7fc00000u);
}

#define SMALLEST_NORM 1e-12f

static void normalize(float *x, size_t n)
{
    float norm = __builtin_sqrtf(qlm_kernels_in_use->squares_f32(x, n));
    qlm_kernels_in_use->divide_f32(x, n, norm < SMALLEST_NORM ? SMALLEST_NORM : norm, x);
}

static void pool_task(void *context, size_t index, unsigned worker)
{
    const struct pool_job *job = context;
    size_t n = job->n, rows = job->starts[index + 1] - job->starts[index];
    const float *x = job->x + job->starts[index] * n;
    float *out = job->out + index * n;
    (void)worker;
    if (!rows) {
        memset(out, 0, n * sizeof(float));
        return;
    }
    switch (job->how) {
    case QLM_POOL_MEAN:
        pool_mean(x, rows, n, out);
        break;
    case QLM_POOL_CLS:
        memcpy(out, x, n * sizeof(float));
        break;
    case QLM_POOL_MAX:
        pool_max(x, rows, n, out);
        break;
    case QLM_POOL_LAST:
        memcpy(out, x + (rows - 1) * n, n * sizeof(float));
        break;
    }
    if (job->normalize) normalize(out, n);
}

void qlm_pool(const float *x, const size_t *starts, size_t sequences, size_t n, enum qlm_pooling how, int normalize,
              float *out)
{
    struct pool_job job = {x, starts, n, how, normalize, out};
    if (!n || !sequences) return;
    size_t rows = starts[sequences] - starts[0];
    qlm_parallel_sized(sequences, rows * n / 8, pool_task, &job);
}
