/* linear.c: y = act(x W^T + bias) + residual for any mix of types: blocking and threads; left.c and tile.c compute.
 *
 * Rows are taken in blocks.  A block is quantized once (left.c), then every panel of every output that shares the
 * input runs over it, tile by tile, so a panel is read from L1 or L2 while the block lasts.  With enough blocks each
 * is a task of its own, quantizing included; with few rows the caller quantizes them all and the tasks are runs of
 * panels.  Neither changes a bit: rows do not see each other, and sums have one order.
 */
#include <stdatomic.h>

#include "common.h"
#include "linear.h"
#include "threads.h"

/* A block of codes is at most this large, so that it stays in L2 beside a panel. */
#define BLOCK_BYTES (128 * 1024)
#define BLOCK_ROWS 192
/* Panels that every tile of rows of a block runs over before the next panels are read: half of a small L2. */
#define RUN_BYTES (256 * 1024)
/* Multiply-adds that take about as long as the unit of qlm_parallel_sized: a million are shared, fewer are not. */
#define PRODUCTS_A_UNIT 52
/* Blocks for each thread where there are rows enough, none below BLOCK_TILES_LEAST tiles, for which a panel would come
 * from L2 too often.  (With 192 rows a block, 256 rows were one block and a bit: the caller quantized them all alone,
 * and two threads took 0.74 of one's time on MiniLM.) */
#define BLOCKS_A_THREAD 2
#define BLOCK_TILES_LEAST 2
/* Tasks for each thread, so that one that is slowed down does not keep the others waiting. */
#define TASKS_A_THREAD 4

struct job {
    const struct qlm_linear_input *input;
    const struct qlm_linear_output *outputs;
    size_t count;      /* outputs, of one packed layout */
    size_t begin, end; /* rows */
    size_t block_rows, blocks;
    size_t panels, runs;       /* of all outputs together; runs of panels a task takes */
    struct qlm_left *prepared; /* by block, where the caller quantized; NULL: each task does */
    int exact, wide;           /* qlm_matmul_codes */
    void *exact_out;
    _Atomic int status;
    _Atomic size_t bad;
};

static void fail(struct job *job, enum qlm_status status, size_t bad)
{
    size_t seen = atomic_load(&job->bad);
    while (status == QLM_NONFINITE && bad < seen && !atomic_compare_exchange_weak(&job->bad, &seen, bad)) {}
    int ok = QLM_OK;
    atomic_compare_exchange_strong(&job->status, &ok, (int)status);
}

static size_t panels_of(const struct qlm_packed *weight) { return weight->n_padded / weight->kernels->nr; }

static size_t block_rows(const struct job *job, size_t block)
{ return qlm_min_size(job->block_rows, job->end - job->begin - block * job->block_rows); }

/* ---- one block times a run of panels -------------------------------------------------------------------------- */

static size_t rows_a_tile(const struct qlm_packed *weight)
{ return weight->kind == QLM_PACKED_16 ? weight->kernels->mr_16 : weight->kernels->mr_8; }

static void tiles(const struct job *job, const struct qlm_left *left, const struct qlm_linear_output *output,
                  size_t first, size_t row, size_t m, size_t from, size_t end)
{
    const struct qlm_packed *weight = output->weight;
    if (!job->exact) {
        qlm_tile_codes(left, output, weight, first, row, m, from, end);
        return;
    }
    size_t width = job->wide ? sizeof(int64_t) : sizeof(int32_t);
    for (size_t panel = from; panel < end; panel++) {
        size_t at = (first + row) * weight->n + panel * weight->kernels->nr;
        qlm_tile_exact(left, weight, row, m, panel, job->wide, (char *)job->exact_out + at * width, weight->n);
    }
}

/* Panels are taken in runs that stay in L2, and within a run all panels of one tile of rows before the next tile, so
 * that a row of the output is written forwards.  Tiles are of equal height: 13 rows as 12 and 1 would take longer than
 * as 7 and 6, since the time of one row is that of reading the panel. */
static void panels_of_codes(const struct job *job, const struct qlm_left *left, const struct qlm_linear_output *output,
                            size_t first, size_t from, size_t to)
{
    const struct qlm_packed *weight = output->weight;
    size_t bytes = weight->k_padded * weight->kernels->nr, run = qlm_max_size(RUN_BYTES / qlm_max_size(bytes, 1), 1);
    size_t rows = left->rows, count = qlm_div_up(rows, rows_a_tile(weight));
    for (; from < to; from += run)
        for (size_t i = 0; i < count; i++) {
            size_t row = rows * i / count, end = rows * (i + 1) / count;
            tiles(job, left, output, first, row, end - row, from, qlm_min_size(from + run, to));
        }
}

static void run_panels(const struct job *job, const struct qlm_left *left, size_t block, size_t from, size_t to)
{
    size_t first = job->begin + block * job->block_rows;
    for (size_t i = 0; i < job->count && from < to; i++) {
        const struct qlm_linear_output *output = &job->outputs[i];
        size_t panels = panels_of(output->weight), end = qlm_min_size(panels, to);
        if (left)
            panels_of_codes(job, left, output, first, from, end);
        else
            qlm_tile_floats(job->input, output, first, block_rows(job, block), from, end);
        from = from > panels ? from - panels : 0;
        to = to > panels ? to - panels : 0;
    }
}

/* ---- tasks ---------------------------------------------------------------------------------------------------- */

static int fill_block(struct job *job, struct qlm_left *left, size_t block)
{
    size_t bad = 0;
    enum qlm_status status =
        qlm_left_fill(left, job->outputs[0].weight, job->input, job->begin + block * job->block_rows, &bad);
    if (status != QLM_OK) fail(job, status, bad);
    return status == QLM_OK;
}

/* A whole block: quantize, then all panels. */
static void block_task(void *context, size_t block, unsigned worker)
{
    (void)worker;
    struct job *job = context;
    struct qlm_left left;
    const struct qlm_packed *layout = job->outputs[0].weight;
    size_t rows = block_rows(job, block);
    void *memory = qlm_scratch(qlm_left_bytes(layout, job->input, rows));
    if (!memory) {
        fail(job, QLM_NO_MEMORY, 0);
        return;
    }
    qlm_left_lay_out(&left, layout, job->input, rows, memory);
    if (fill_block(job, &left, block)) run_panels(job, &left, block, 0, job->panels);
}

/* One run of panels of one block whose codes are ready, or whose input is float. */
static void run_task(void *context, size_t index, unsigned worker)
{
    (void)worker;
    struct job *job = context;
    size_t block = index / job->runs, run = index % job->runs;
    size_t from = job->panels * run / job->runs, to = job->panels * (run + 1) / job->runs;
    run_panels(job, job->prepared ? &job->prepared[block] : NULL, block, from, to);
}

static void spread(struct job *job, size_t tasks, void (*task)(void *, size_t, unsigned))
{
    size_t n = 0;
    for (size_t i = 0; i < job->count; i++) n += job->outputs[i].weight->n;
    size_t products = qlm_size_mul(qlm_size_mul(job->end - job->begin, job->input->k), n);
    qlm_parallel_sized(tasks, products / PRODUCTS_A_UNIT, task, job);
}

static size_t wanted_tasks(void) { return qlm_threads() > 1 ? (size_t)qlm_threads() * TASKS_A_THREAD : 1; }

static void choose_runs(struct job *job)
{
    job->runs = qlm_min_size(qlm_div_up(wanted_tasks(), job->blocks), job->panels);
    if (!job->runs) job->runs = 1;
}

/* ---- few rows: the caller quantizes ---------------------------------------------------------------------------- */

#define MAX_PREPARED 16

static void run_prepared(struct job *job)
{
    const struct qlm_packed *layout = job->outputs[0].weight;
    struct qlm_left blocks[MAX_PREPARED];
    size_t bytes = 0, at = 0;
    for (size_t block = 0; block < job->blocks; block++)
        bytes += qlm_left_bytes(layout, job->input, block_rows(job, block));
    char *memory = qlm_scratch(bytes);
    if (!memory) {
        fail(job, QLM_NO_MEMORY, 0);
        return;
    }
    for (size_t block = 0; block < job->blocks; block++) {
        qlm_left_lay_out(&blocks[block], layout, job->input, block_rows(job, block), memory + at);
        at += qlm_left_bytes(layout, job->input, block_rows(job, block));
        if (!fill_block(job, &blocks[block], block)) return;
    }
    job->prepared = blocks;
    choose_runs(job);
    spread(job, job->blocks * job->runs, run_task);
    job->prepared = NULL;
}

/* ---- blocking -------------------------------------------------------------------------------------------------- */

static void cut(struct job *job, size_t rows, size_t mr)
{
    size_t total = job->end - job->begin;
    rows = qlm_max_size(rows / mr, 1) * mr;
    job->block_rows = rows;
    job->blocks = qlm_div_up(total, rows);
    job->panels = 0;
    for (size_t i = 0; i < job->count; i++) job->panels += panels_of(job->outputs[i].weight);
}

/* As many rows as L2 takes; on several threads fewer, so that each has BLOCKS_A_THREAD to quantize and multiply. */
static size_t rows_a_block(const struct job *job, const struct qlm_packed *layout)
{
    size_t bytes = qlm_max_size(qlm_left_bytes(layout, job->input, 1), 1), mr = rows_a_tile(layout);
    size_t most = qlm_min_size((size_t)BLOCK_BYTES / bytes, (size_t)BLOCK_ROWS);
    if (qlm_threads() == 1) return most;
    size_t share = qlm_div_up(job->end - job->begin, (size_t)qlm_threads() * BLOCKS_A_THREAD);
    return qlm_min_size(most, qlm_max_size(qlm_round_up(share, mr), BLOCK_TILES_LEAST * mr));
}

static enum qlm_status run_codes(struct job *job)
{
    const struct qlm_packed *layout = job->outputs[0].weight;
    cut(job, rows_a_block(job, layout), rows_a_tile(layout));
    if (qlm_threads() > 1 && job->blocks < (size_t)qlm_threads() * BLOCKS_A_THREAD && job->blocks <= MAX_PREPARED)
        run_prepared(job);
    else
        spread(job, job->blocks, block_task);
    return (enum qlm_status)atomic_load(&job->status);
}

static enum qlm_status run_floats(struct job *job)
{
    size_t mr = job->outputs[0].weight->kernels->mr_f32;
    cut(job, qlm_max_size((size_t)QLM_FLOAT_ROWS / mr, 1) * mr, mr);
    choose_runs(job);
    spread(job, job->blocks * job->runs, run_task);
    return QLM_OK;
}

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

static enum qlm_status run_output(struct job *job, const struct qlm_linear_output *output)
{
    struct qlm_packed repacked = {.block = NULL};
    struct qlm_linear_output fitting = *output;
    enum qlm_status status = fitted(output->weight, job->input, &repacked, &fitting.weight);
    job->outputs = &fitting;
    job->count = 1;
    if (status == QLM_OK) status = run_codes(job);
    qlm_packed_free(&repacked);
    return status;
}

static int same_layout(const struct qlm_packed *a, const struct qlm_packed *b)
{ return a->kind == b->kind && a->group == b->group && !a->zero == !b->zero && !a->offset == !b->offset; }

/* Outputs whose weights share a layout share the quantized rows. */
static int shareable(const struct job *job)
{
    for (size_t i = 0; i < job->count; i++)
        if (!qlm_fits(job->outputs[i].weight, qlm_linear_fit(job->outputs[i].weight, job->input)) ||
            !same_layout(job->outputs[0].weight, job->outputs[i].weight))
            return 0;
    return 1;
}

static enum qlm_status run_all_codes(struct job *job)
{
    const struct qlm_linear_output *outputs = job->outputs;
    size_t count = job->count;
    if (shareable(job)) return run_codes(job);
    for (size_t i = 0; i < count; i++) {
        enum qlm_status status = run_output(job, &outputs[i]);
        if (status != QLM_OK) return status;
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
{
    struct job job = {.input = input, .outputs = outputs, .count = count, .begin = begin, .end = end};
    atomic_init(&job.status, QLM_OK);
    atomic_init(&job.bad, SIZE_MAX);
    if (begin >= end || !count) return QLM_OK;
    enum qlm_status status;
    if (input->kind == QLM_INPUT_FLOAT)
        status = run_floats(&job);
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
    struct job job = {.input = &input,
                      .outputs = &output,
                      .count = 1,
                      .begin = begin,
                      .end = end,
                      .exact = 1,
                      .wide = wide,
                      .exact_out = c};
    atomic_init(&job.status, QLM_OK);
    atomic_init(&job.bad, SIZE_MAX);
    return begin < end ? run_all_codes(&job) : QLM_OK;
}
