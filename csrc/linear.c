/* linear.c: y = act(x W^T + bias) + residual for any mix of types: blocking and threads; products.c has the calls,
 * left.c and tile.c compute.
 *
 * Rows are quantized once (left.c), then every panel of every output that shares the input runs over them, tile by
 * tile; panels are taken in runs that stay in L2 while all rows pass.  On several threads either the rows are split,
 * and each task quantizes its own and multiplies them by all panels, or, where that would read a large weight too
 * often, the rows are quantized by all threads first and the panels are split.  Neither changes a bit: rows do not see
 * each other, and sums have one order.
 */
#include <stdatomic.h>

#include "common.h"
#include "cpu.h"
#include "job.h"
#include "pack.h"
#include "threads.h"
#include "tile.h"

/* Codes of a block of rows: a quarter of L2, beside half of it for a run of panels.  Of rows whose panels are split: a
 * quarter of L3, since a tile's rows are read once for each run. */
#define BLOCK_SHARE 4
#define RUN_SHARE 2
/* The other way round where every block expands the panels, and a run of this many fits a quarter: AVX2, 512 rows of
 * 3072 -> 768 in groups of 32 74 to 78 % of the limit, 128 of 4096 -> 4096 75 to 78; AVX-512 VNNI, whose panels are
 * twice as wide and leave two of them there, the latter 83 to 75. */
#define EXPANDED_RUN 4
/* Blocks for each thread where rows are split, and runs where panels are, so that one thread that is slowed down does
 * not keep the others waiting. */
#define TASKS_A_THREAD 4
/* A run's work at least, as of qlm_parallel_sized: the first panel of a run waits for L2 or L3, and the one row of 768
 * x 768 took 4.5 us in eight runs on two threads, 4.1 in two. */
#define TASK_LEAST 8000
#define BLOCK_TILES 2 /* that each of several blocks has at least */
/* Rows that a block has at least where rows are split, by what keeps the weight: a tile of r rows takes r * nr
 * multiply-adds for each step of a panel that it reads.  From L2 a tile of 8 rows runs at full speed; L3 and memory are
 * shared by all cores. */
#define ROWS_FROM_L2 8
#define ROWS_FROM_L3 32
#define ROWS_FROM_MEMORY 96
/* Floats that are quantized in about a nanosecond: the unit of qlm_parallel_sized. */
#define FLOATS_A_UNIT 4
/* Rows from which zero points come off nibbles where the kernels do that: two operations for each step of a panel,
 * where off the sums it is two for each row and group. */
#define FOLD_ROWS 4
#define FILL_ROWS 8 /* of a task that quantizes */

static void fail(struct qlm_job *job, enum qlm_status status, size_t bad)
{
    size_t seen = atomic_load(&job->bad);
    while (status == QLM_NONFINITE && bad < seen && !atomic_compare_exchange_weak(&job->bad, &seen, bad)) {}
    int ok = QLM_OK;
    atomic_compare_exchange_strong(&job->status, &ok, (int)status);
}

/* A call of one row takes a microsecond, and a division of 64 bits up to 25 ns of it (Intel before Ice Lake): the ones
 * here are left out where their result is plain. */

/* Where part `index` of `count` even ones begins; that of the next one is its end. */
static size_t part_begin(size_t total, size_t index, size_t count)
{
    if (index == 0) return 0;
    return index == count ? total : total * index / count;
}

static size_t rows_of(const struct qlm_job *job) { return job->end - job->begin; }

static size_t block_begin(const struct qlm_job *job, size_t block)
{ return job->begin + part_begin(rows_of(job), block, job->blocks); }

static size_t block_rows(const struct qlm_job *job, size_t block)
{ return block_begin(job, block + 1) - block_begin(job, block); }

/* ---- one block times a run of panels -------------------------------------------------------------------------- */

static size_t panel_bytes(const struct qlm_packed *weight)
{ return qlm_max_size(weight->k_padded * weight->kernels->nr / 2 * qlm_packed_pair_bytes(weight), 1); }

static size_t rows_a_tile(const struct qlm_packed *weight)
{
    if (weight->kind == QLM_PACKED_4) return weight->kernels->mr_4;
    return weight->kind == QLM_PACKED_16 ? weight->kernels->mr_16 : weight->kernels->mr_8;
}

/* Rows of outputs that lie a multiple of this apart share the sets of L1, eight lines each: the outputs of a tile of 12
 * rows push each other out, and what lies in those sets of codes and panel.  512 -> 1024, 12 rows: 89 to 91 % of the
 * peak, as two tiles of six 92.  Two tiles read a panel twice, the second time from L2: where it comes from memory
 * first, or from an L3 that is shared by many, that costs more. */
#define OUTPUT_CLASH 4096
#define CLASHING_ROWS 6
#define CLASHING_FROM 8   /* seven rows are as fast as four and three */
#define CLASHING_WEIGHT 4 /* share of L3 */

static int outputs_clash(const struct qlm_job *job, const struct qlm_linear_output *output)
{
    const struct qlm_packed *weight = output->weight;
    int in_rows = weight->kernels->rows_8 == weight->kernels->mr_8 && output->activation == QLM_IDENTITY;
    return in_rows && weight->n * sizeof(float) % OUTPUT_CLASH == 0 &&
           qlm_size_mul(job->panels, panel_bytes(weight)) <= job->caches.l3 / CLASHING_WEIGHT;
}

/* The same of a call: linear_8 may take several tiles. */
static size_t rows_a_call(const struct qlm_job *job, const struct qlm_left *left,
                          const struct qlm_linear_output *output)
{
    const struct qlm_packed *weight = output->weight;
    if (job->exact || !qlm_left_whole(left, weight)) return rows_a_tile(weight);
    size_t most = weight->kernels->rows_8;
    return left->rows >= CLASHING_FROM && outputs_clash(job, output) ? qlm_min_size(most, CLASHING_ROWS) : most;
}

/* Whether the products are those of 4-bit kernels. */
static int by_nibbles(const struct qlm_job *job)
{
    const struct qlm_packed *weight = job->outputs[0].weight;
    return weight->kind == QLM_PACKED_4 && !job->exact && !qlm_packed_wide(weight);
}

/* Whether 4-bit panels are expanded: where enough rows meet them.  Where zero points come off nibbles as they are read,
 * only what reads a panel twice for each part of a tile, for its products and for its sums, gains by it. */
static int expands(const struct qlm_job *job, size_t rows)
{
    const struct qlm_packed *weight = job->outputs[0].weight;
    if (!by_nibbles(job) || rows < weight->kernels->expand_rows) return 0;
    return weight->kernels->fold_4 < 2 || qlm_left_zx_by_row(weight, job->input);
}

static size_t expanded_panel(const struct qlm_packed *weight) { return 2 * panel_bytes(weight); }

/* Whether a block of rows has the larger share of L2. */
static int large_blocks(const struct qlm_job *job)
{
    size_t bytes = qlm_size_mul(EXPANDED_RUN, expanded_panel(job->outputs[0].weight));
    return expands(job, rows_of(job)) && bytes <= job->caches.l2 / BLOCK_SHARE;
}

static size_t block_room(const struct qlm_job *job)
{ return job->caches.l2 / (large_blocks(job) ? RUN_SHARE : BLOCK_SHARE); }

/* Panels that stay in L2 together, at most `most`. */
static size_t panels_a_run(const struct qlm_job *job, const struct qlm_packed *weight, int expanded, size_t most)
{
    size_t bytes = expanded ? expanded_panel(weight) : panel_bytes(weight);
    size_t room = job->caches.l2 / (large_blocks(job) ? BLOCK_SHARE : RUN_SHARE);
    if (qlm_size_mul(most, bytes) <= room) return most;
    return qlm_max_size(room / bytes, 1);
}

/* The bytes of a run of panels that a block expands, for any of the outputs. */
static size_t expanded_bytes(const struct qlm_job *job, size_t rows)
{
    size_t most = 0;
    for (size_t i = 0; i < job->count && expands(job, rows); i++) {
        const struct qlm_packed *weight = job->outputs[i].weight;
        most = qlm_max_size(most, panels_a_run(job, weight, 1, qlm_packed_panels(weight)) * expanded_panel(weight));
    }
    return most;
}

static void tiles(const struct qlm_job *job, const struct qlm_left *left, const struct qlm_linear_output *output,
                  size_t first, size_t row, size_t m, size_t from, size_t end, const int8_t *expanded)
{
    const struct qlm_packed *weight = output->weight;
    if (!job->exact) {
        qlm_tile_codes(left, output, weight, first, row, m, from, end, expanded);
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
static void panels_of_codes(const struct qlm_job *job, const struct qlm_left *left,
                            const struct qlm_linear_output *output, size_t first, size_t from, size_t to,
                            int8_t *expanded)
{
    const struct qlm_packed *weight = output->weight;
    size_t rows = left->rows, height = rows_a_call(job, left, output);
    size_t count = rows <= height ? 1 : qlm_div_up(rows, height);
    size_t run = from < to ? panels_a_run(job, weight, expanded != NULL, to - from) : 1;
    for (; from < to; from += run) {
        size_t last = qlm_min_size(from + run, to);
        if (expanded) qlm_tile_expand(weight, from, last, expanded);
        for (size_t i = 0; i < count; i++) {
            size_t row = part_begin(rows, i, count), end = part_begin(rows, i + 1, count);
            tiles(job, left, output, first, row, end - row, from, last, expanded);
        }
    }
}

static void run_panels(const struct qlm_job *job, const struct qlm_left *left, size_t block, size_t from, size_t to,
                       int8_t *expanded)
{
    size_t first = job->prepared ? job->begin : block_begin(job, block);
    for (size_t i = 0; i < job->count && from < to; i++) {
        const struct qlm_linear_output *output = &job->outputs[i];
        size_t panels = qlm_packed_panels(output->weight), end = qlm_min_size(panels, to);
        if (left)
            panels_of_codes(job, left, output, first, from, end, expanded);
        else
            qlm_tile_floats(job->input, output, first, block_rows(job, block), from, end);
        from = qlm_panels_past(from, panels);
        to = qlm_panels_past(to, panels);
    }
}

/* ---- tasks ---------------------------------------------------------------------------------------------------- */

/* Rows [begin, end) of a block that starts with the input's row `first`. */
static int fill_rows(struct qlm_job *job, struct qlm_left *left, size_t first, size_t begin, size_t end)
{
    size_t bad = 0;
    enum qlm_status status = qlm_left_fill(left, job->outputs[0].weight, job->input, first, begin, end, &bad);
    if (status != QLM_OK) fail(job, status, bad);
    return status == QLM_OK;
}

/* Whether zero points of 4-bit weights are taken off their codes, for a block of `rows`. */
static int folds(const struct qlm_job *job, size_t rows, int expanded)
{
    uint8_t fold = job->outputs[0].weight->kernels->fold_4;
    return by_nibbles(job) && (expanded ? fold != 0 : fold == 2 && rows >= FOLD_ROWS);
}

/* The block of a thread's own scratch, and room for 4-bit panels behind it (NULL: they stay as they are).  NULL: no
 * memory. */
static struct qlm_left *lay_out(struct qlm_job *job, size_t rows, struct qlm_left *left, int8_t **expanded)
{
    const struct qlm_packed *layout = job->outputs[0].weight;
    size_t bytes = qlm_left_bytes(layout, rows), more = expanded_bytes(job, rows);
    char *memory = qlm_scratch(qlm_size_add(bytes, more));
    if (!memory) {
        fail(job, QLM_NO_MEMORY, 0);
        return NULL;
    }
    qlm_left_lay_out(left, layout, job->input, rows, memory);
    left->far = job->far;
    left->folded = folds(job, rows, more != 0);
    *expanded = more ? (int8_t *)memory + bytes : NULL;
    return left;
}

/* Whether the floats of the next block are asked for meanwhile: linear_8 does that. */
static int asks_ahead(const struct qlm_job *job)
{
    const struct qlm_packed *weight = job->outputs[0].weight;
    return weight->kind == QLM_PACKED_8 && weight->groups == 1 && job->input->kind != QLM_INPUT_CODES;
}

static size_t float_row_bytes(const struct qlm_job *job) { return job->input->k * sizeof(float); }

/* The floats of the block after this one, as many as stay in L2 meanwhile. */
static struct qlm_next next_block(const struct qlm_job *job, size_t block)
{
    struct qlm_next next = {NULL, 0, 0, 0};
    if (block + 1 >= job->blocks || !asks_ahead(job)) return next;
    size_t bytes = qlm_min_size(block_rows(job, block + 1) * float_row_bytes(job), job->caches.l2 / BLOCK_SHARE);
    next.at = (const char *)job->input->x + block_begin(job, block + 1) * float_row_bytes(job);
    next.left = next.lines = bytes / QLM_CACHE_LINE;
    next.outputs = block_rows(job, block) * job->width;
    return next;
}

/* A whole block: quantize, then all panels. */
static void block_task(void *context, size_t block, unsigned worker)
{
    (void)worker;
    struct qlm_job *job = context;
    struct qlm_left left;
    int8_t *expanded;
    size_t rows = block_rows(job, block);
    if (!lay_out(job, rows, &left, &expanded)) return;
    struct qlm_next next = next_block(job, block);
    if (next.lines) left.next = &next;
    if (fill_rows(job, &left, block_begin(job, block), 0, rows))
        run_panels(job, &left, block, job->from, job->to, expanded);
}

/* Some rows of those that all panels will share. */
static void fill_task(void *context, size_t index, unsigned worker)
{
    (void)worker;
    struct qlm_job *job = context;
    size_t begin = index * FILL_ROWS;
    fill_rows(job, job->prepared, job->begin, begin, qlm_min_size(begin + FILL_ROWS, rows_of(job)));
}

/* One run of panels over rows whose codes are ready, or whose input is float. */
static void run_task(void *context, size_t index, unsigned worker)
{
    struct qlm_job *job = context;
    size_t block = index / job->runs, run = index % job->runs;
    size_t panels = job->to - job->from, from = job->from + part_begin(panels, run, job->runs);
    size_t to = job->from + part_begin(panels, run + 1, job->runs);
    int8_t *expanded = job->expanded;
    if (worker && expanded && !(expanded = qlm_scratch(expanded_bytes(job, rows_of(job))))) {
        fail(job, QLM_NO_MEMORY, 0);
        return;
    }
    run_panels(job, job->prepared, block, from, to, expanded);
}

static size_t wanted_tasks(const struct qlm_job *job)
{
    size_t threads = qlm_threads(), most = job->work / TASK_LEAST;
    return threads > 1 ? qlm_max_size(qlm_min_size(threads * TASKS_A_THREAD, most), threads) : 1;
}

static void choose_runs(struct qlm_job *job)
{
    job->runs = qlm_min_size(qlm_div_up(wanted_tasks(job), job->blocks), job->to - job->from);
    if (!job->runs) job->runs = 1;
}

/* ---- split by panels: all threads quantize, then all multiply --------------------------------------------------- */

static void run_prepared(struct qlm_job *job)
{
    struct qlm_left left;
    size_t rows = rows_of(job), work = job->work;
    if (!(job->prepared = lay_out(job, rows, &left, &job->expanded))) return;
    qlm_parallel_sized(qlm_div_up(rows, FILL_ROWS), rows * job->input->k / FLOATS_A_UNIT, fill_task, job);
    if (atomic_load(&job->status) == QLM_OK) {
        job->blocks = 1;
        choose_runs(job);
        qlm_parallel_sized(job->runs, work, run_task, job);
    }
    job->prepared = NULL;
    job->expanded = NULL;
}

/* As many rows at a time as may wait for a run of panels. */
static void run_by_panels(struct qlm_job *job, size_t row_bytes)
{
    size_t begin = job->begin, end = job->end;
    size_t most = qlm_max_size(job->caches.l3 / BLOCK_SHARE / row_bytes, ROWS_FROM_MEMORY);
    for (size_t at = begin; at < end && atomic_load(&job->status) == QLM_OK; at = job->end) {
        job->begin = at;
        job->end = qlm_min_size(end, at + most);
        run_prepared(job);
    }
    job->begin = begin;
    job->end = end;
}

/* ---- blocking -------------------------------------------------------------------------------------------------- */

/* A power of two, as is its logarithm's base. */
size_t qlm_linear_rate(const struct qlm_kernels *kernels, enum qlm_packed_kind kind)
{
    if (!kernels->features) return 1; /* plain C */
    return (size_t)kernels->nr * (kind == QLM_PACKED_8 ? kernels->k_step : kind == QLM_PACKED_4 ? 4 : 1);
}

/* What the outputs make together. */
static void measure(struct qlm_job *job)
{
    size_t outputs = 0;
    const struct qlm_packed *first = job->outputs[0].weight;
    job->caches = qlm_cpu_caches();
    job->panels = 0;
    for (size_t i = 0; i < job->count; i++) {
        job->panels += qlm_packed_panels(job->outputs[i].weight);
        outputs += job->outputs[i].weight->n;
    }
    job->to = qlm_min_size(job->to, job->panels);
    job->from = qlm_min_size(job->from, job->to);
    job->width = qlm_min_size(outputs, (job->to - job->from) * job->outputs[0].weight->kernels->nr);
    size_t elements = qlm_size_mul(job->width, rows_of(job));
    job->far = qlm_size_mul(elements, sizeof(float)) > job->caches.l2;
    job->work = qlm_size_mul(elements, job->input->k) >> __builtin_ctzll(qlm_linear_rate(first->kernels, first->kind));
}

/* Rows that a task must have so that the weight is not read too often; SIZE_MAX: any number. */
static size_t least_rows(const struct qlm_job *job)
{
    size_t bytes = qlm_size_mul(job->panels, panel_bytes(job->outputs[0].weight));
    if (bytes <= job->caches.l2) return ROWS_FROM_L2;
    return bytes <= job->caches.l3 / 2 ? ROWS_FROM_L3 : ROWS_FROM_MEMORY;
}

/* Blocks of equal size that fit L2, where the next block's floats may have to fit beside it. */
static size_t fitting_blocks(const struct qlm_job *job, size_t row_bytes)
{
    size_t rows = rows_of(job), least = BLOCK_TILES * rows_a_tile(job->outputs[0].weight);
    if (rows <= least) return 1;
    size_t room = block_room(job), most = room / row_bytes;
    if (asks_ahead(job))
        most = qlm_min_size(most, qlm_max_size(room / qlm_max_size(float_row_bytes(job), 1), least_rows(job)));
    return qlm_div_up(rows, qlm_max_size(most, least));
}

/* On several threads as many for each, and several only where they are of some whole tiles: low tiles have more beside
 * their products. */
static size_t shared_blocks(const struct qlm_job *job, size_t row_bytes, size_t threads)
{
    size_t height = qlm_max_size(least_rows(job), BLOCK_TILES * rows_a_tile(job->outputs[0].weight));
    size_t wanted = qlm_min_size(rows_of(job) / height, threads * TASKS_A_THREAD);
    size_t blocks = qlm_max_size(fitting_blocks(job, row_bytes), wanted);
    return qlm_max_size(blocks / threads, 1) * threads;
}

enum qlm_status qlm_run_codes(struct qlm_job *job)
{
    measure(job);
    size_t threads = qlm_parallel_worth(job->work) ? qlm_threads() : 1;
    size_t row_bytes = qlm_left_read_bytes(job->outputs[0].weight, job->input);
    if (threads > 1 && rows_of(job) / least_rows(job) < threads) {
        run_by_panels(job, row_bytes);
    } else {
        job->blocks = threads > 1 ? shared_blocks(job, row_bytes, threads) : fitting_blocks(job, row_bytes);
        qlm_parallel_sized(job->blocks, job->work, block_task, job);
    }
    return (enum qlm_status)atomic_load(&job->status);
}

enum qlm_status qlm_run_floats(struct qlm_job *job)
{
    size_t mr = job->outputs[0].weight->kernels->mr_f32, most = qlm_max_size((size_t)QLM_FLOAT_ROWS / mr, 1) * mr;
    measure(job);
    job->blocks = qlm_div_up(rows_of(job), most);
    choose_runs(job);
    qlm_parallel_sized(job->blocks * job->runs, job->work, run_task, job);
    return QLM_OK;
}
