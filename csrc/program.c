/* program.c: a forward of many sequences, as steps over runs of whole sequences.
 *
 * A run is as many tokens as leave their activations in L2.  Where there are as many runs as threads, each thread takes
 * one and works through the steps on its own (a driver called from a task shares nothing); else the threads share each
 * step of one run.  Rows and sequences do not see each other, so neither shows in a bit.
 *
 * Work is counted in units, so that a caller can stop in the middle of a run to hear a signal: each run remembers the
 * step it has come to, and how many of that step's rows or sequences are done.
 */
#include "common.h"
#include "qlm.h"

/* Floats of activations in a run: 1 MiB.  (One MiniLM of 32 x 128 tokens on a Zen 4 with 1 MiB of L2; see
 * performance.md.) */
#define RUN_FLOATS (256 * 1024)
#define RUN_TOKENS_LEAST 64
/* Tokens below which a thread of its own is not worth it for a run. */
#define SHARE_TOKENS_LEAST 8
/* Rows are done in multiples of this: whole tiles for every kernel, few enough for a signal in between. */
#define ROWS_LEAST 12
#define ROWS_MOST 48
/* Runs of which one is more than this many times as long as another are not worked on side by side. */
#define UNEVEN 2
#define PIECE_UNITS ((size_t)1 << 24)

/* Units of an element, or of a pair of tokens and a feature. */
#define DIVIDE_UNITS 2
#define NORM_UNITS 8
#define ATTENTION_UNITS 4

struct run {
    size_t first;         /* row of x */
    const size_t *starts; /* of its sequences, from 0 */
    size_t sequences;
    size_t units;    /* in all */
    size_t done;     /* units done */
    size_t step, at; /* rows or sequences of this step that are done */
    enum qlm_status status;
    size_t bad; /* QLM_NONFINITE: flat index in the step's operand */
};

struct qlm_forward {
    const struct qlm_program *program;
    float *x;
    size_t threads;
    struct run *runs;
    size_t *starts; /* behind the runs' */
    size_t count;
    size_t next, group;     /* the runs [next, next + group) are worked on now; group 0: to be chosen */
    size_t base, units;     /* units before them, and of them */
    size_t goal;            /* units of them to be done now */
    size_t failed;          /* the run that failed */
    float *workspaces;      /* one for each run of a group */
    size_t space;           /* floats of one */
    size_t sequences, room; /* that runs and starts, and bytes that workspaces, have room for */
};

/* ---- units ---------------------------------------------------------------------------------------------------- */

static size_t row_units(const struct qlm_step *step)
{
    size_t outputs = 0;
    switch (step->kind) {
    case QLM_STEP_LINEAR:
        for (size_t i = 0; i < step->count; i++) outputs += step->outputs[i].weight->n;
        return outputs * step->input.k + 1;
    case QLM_STEP_DIVIDE:
        return DIVIDE_UNITS * step->slots[0].width;
    default:
        return NORM_UNITS * step->slots[0].width;
    }
}

static int by_sequences(const struct qlm_step *step)
{ return step->kind == QLM_STEP_ATTENTION || step->kind == QLM_STEP_ATTENTION_8; }

/* Sequences [begin, end) through one step. */
static size_t step_units(const struct qlm_step *step, const size_t *starts, size_t begin, size_t end)
{
    if (!by_sequences(step)) return qlm_size_mul(row_units(step), starts[end] - starts[begin]);
    size_t pairs = 0;
    for (size_t s = begin; s < end; s++) {
        size_t tokens = starts[s + 1] - starts[s];
        pairs = qlm_size_add(pairs, qlm_size_mul(tokens, tokens));
    }
    return qlm_size_mul(pairs, ATTENTION_UNITS * step->slots[0].width);
}

static size_t run_units(const struct qlm_program *program, const struct run *run)
{
    size_t units = 0;
    for (size_t i = 0; i < program->count; i++)
        units = qlm_size_add(units, step_units(&program->steps[i], run->starts, 0, run->sequences));
    return units;
}

/* ---- one piece of a step -------------------------------------------------------------------------------------- */

/* A run's operands: its rows of x, and its workspace, where each slot holds all rows of the run behind one another. */
struct operands {
    float *rows, *workspace;
    size_t tokens;
    float *ranges; /* of the rows that a layer norm left for this step, or is to leave for the next; or NULL */
};

static float *operand(const struct operands *o, const struct qlm_slot *slot)
{ return slot->at == QLM_IN_ROWS ? o->rows : o->workspace + slot->at * o->tokens; }

static enum qlm_status linear_rows(const struct qlm_step *step, const struct operands *o, size_t begin, size_t end,
                                   size_t *bad)
{
    struct qlm_linear_input input = step->input;
    struct qlm_linear_output outputs[QLM_STEP_OUTPUTS];
    input.x = operand(o, &step->slots[0]);
    input.m = o->tokens;
    input.ranges = o->ranges;
    for (size_t i = 0; i < step->count; i++) {
        outputs[i] = step->outputs[i];
        outputs[i].out = operand(o, &step->slots[2 + i]);
        outputs[i].residual = i == 0 && step->slots[1].width ? operand(o, &step->slots[1]) : NULL;
    }
    return qlm_linear(&input, outputs, step->count, begin, end, bad);
}

static void divide_rows(const struct qlm_step *step, const struct operands *o, size_t begin, size_t end)
{
    size_t n = step->slots[0].width;
    const float *x = operand(o, &step->slots[0]), *divisor = step->vectors[0];
    float *out = operand(o, &step->slots[1]);
    for (size_t row = begin; row < end; row++)
        for (size_t i = 0; i < n; i++) out[row * n + i] = x[row * n + i] / divisor[i];
}

static void layernorm_rows(const struct qlm_step *step, const struct operands *o, size_t begin, size_t end)
{
    size_t n = step->slots[0].width;
    qlm_layernorm(operand(o, &step->slots[0]) + begin * n, NULL, end - begin, n, step->vectors[0], step->vectors[1],
                  step->eps, o->ranges ? o->ranges + QLM_RANGE * begin : NULL, operand(o, &step->slots[1]) + begin * n);
}

static enum qlm_status do_rows(const struct qlm_step *step, const struct operands *o, size_t begin, size_t end,
                               size_t *bad)
{
    switch (step->kind) {
    case QLM_STEP_LINEAR:
        return linear_rows(step, o, begin, end, bad);
    case QLM_STEP_DIVIDE:
        divide_rows(step, o, begin, end);
        return QLM_OK;
    default:
        layernorm_rows(step, o, begin, end);
        return QLM_OK;
    }
}

static enum qlm_status attend(const struct qlm_step *step, const struct operands *o, const size_t *starts, size_t begin,
                              size_t end, size_t *bad)
{
    size_t n = step->slots[0].width, dim = n / step->heads;
    const float *q = operand(o, &step->slots[0]), *k = operand(o, &step->slots[1]), *v = operand(o, &step->slots[2]);
    float *out = operand(o, &step->slots[3]);
    if (step->kind == QLM_STEP_ATTENTION_8)
        return qlm_attention_8(q, k, v, n, starts, begin, end, step->heads, dim, step->scale, out, bad);
    return qlm_attention(q, k, v, n, starts, begin, end, step->heads, dim, step->scale, step->causal, out);
}

/* ---- a run ---------------------------------------------------------------------------------------------------- */

/* `wanted` units, rounded up to whole tiles; a rest that would be smaller is taken along. */
static size_t rows_of_piece(size_t units, size_t wanted, size_t left)
{
    size_t least = qlm_min_size(PIECE_UNITS / units / ROWS_LEAST * ROWS_LEAST, ROWS_MOST);
    least = qlm_max_size(least, ROWS_LEAST);
    size_t rows = qlm_round_up(qlm_min_size(qlm_div_up(wanted, units), left), least);
    return left < rows + least ? left : rows;
}

/* `count` of the step's rows or sequences have been done, where there are `all`. */
static void go_on(struct run *run, size_t count, size_t all, size_t units)
{
    if (run->status != QLM_OK) return;
    run->done = qlm_size_add(run->done, units);
    run->at += count;
    if (run->at < all) return;
    run->at = 0;
    run->step++;
}

/* A layer norm finds the ranges of its rows for a linear that quantizes them next. */
static int leaves_ranges(const struct qlm_program *program, size_t i)
{
    if (i + 1 >= program->count) return 0;
    const struct qlm_step *norm = &program->steps[i], *linear = norm + 1;
    return norm->kind == QLM_STEP_LAYERNORM && linear->kind == QLM_STEP_LINEAR &&
           linear->input.kind == QLM_INPUT_DYNAMIC && norm->slots[1].at == linear->slots[0].at &&
           norm->slots[1].width == linear->slots[0].width;
}

/* Ranges lie behind the run's values. */
static float *ranges_of(const struct qlm_program *program, const struct run *run, float *workspace)
{
    size_t i = run->step;
    if (!leaves_ranges(program, i) && !(i && leaves_ranges(program, i - 1))) return NULL;
    return workspace + program->width * run->starts[run->sequences];
}

static void work_on_rows(const struct qlm_step *step, struct run *run, const struct operands *o, size_t until)
{
    size_t units = row_units(step), rows = rows_of_piece(units, until - run->done, o->tokens - run->at);
    run->status = do_rows(step, o, run->at, run->at + rows, &run->bad);
    go_on(run, rows, o->tokens, rows * units);
}

static void work_on_sequences(const struct qlm_step *step, struct run *run, const struct operands *o, size_t until)
{
    size_t begin = run->at, end = begin, units = 0;
    while (end < run->sequences && units < until - run->done) {
        units = qlm_size_add(units, step_units(step, run->starts, end, end + 1));
        end++;
    }
    run->status = attend(step, o, run->starts, begin, end, &run->bad);
    go_on(run, end - begin, run->sequences, units);
}

static void work_on_run(const struct qlm_forward *forward, struct run *run, float *workspace, size_t until)
{
    const struct qlm_program *program = forward->program;
    struct operands o = {forward->x + run->first * program->hidden, workspace, run->starts[run->sequences], NULL};
    while (run->step < program->count && run->done < until && run->status == QLM_OK) {
        const struct qlm_step *step = &program->steps[run->step];
        o.ranges = ranges_of(program, run, workspace);
        if (by_sequences(step))
            work_on_sequences(step, run, &o, until);
        else
            work_on_rows(step, run, &o, until);
    }
}

/* ---- runs side by side ---------------------------------------------------------------------------------------- */

/* Up to its share of the goal. */
static void run_task(void *context, size_t index, unsigned worker)
{
    struct qlm_forward *forward = context;
    struct run *run = &forward->runs[forward->next + index];
    double share = (double)forward->goal / (double)forward->units;
    size_t until = forward->goal >= forward->units ? SIZE_MAX : (size_t)(share * (double)run->units) + 1;
    (void)worker;
    work_on_run(forward, run, forward->workspaces + index * forward->space, until);
}

/* As many runs as threads, if they take about as long; else one, whose steps the threads share. */
static void choose_group(struct qlm_forward *forward)
{
    size_t threads = forward->threads, least = SIZE_MAX, most = 0;
    forward->group = 1;
    forward->units = forward->runs[forward->next].units;
    if (threads > forward->count - forward->next) return;
    size_t sum = 0;
    for (size_t i = 0; i < threads; i++) {
        size_t units = forward->runs[forward->next + i].units;
        least = qlm_min_size(least, units);
        most = qlm_max_size(most, units);
        sum = qlm_size_add(sum, units);
    }
    if (most / UNEVEN > least) return;
    forward->group = threads;
    forward->units = sum;
}

static enum qlm_status group_status(struct qlm_forward *forward)
{
    for (size_t i = forward->next; i < forward->next + forward->group; i++)
        if (forward->runs[i].status != QLM_OK) {
            forward->failed = i;
            return forward->runs[i].status;
        }
    return QLM_OK;
}

enum qlm_status qlm_forward_work(struct qlm_forward *forward, size_t until)
{
    enum qlm_status status = QLM_OK;
    while (forward->next < forward->count && forward->base < until && status == QLM_OK) {
        if (!forward->group) choose_group(forward);
        forward->goal = until - forward->base;
        if (forward->group > 1)
            qlm_parallel(forward->group, run_task, forward);
        else
            run_task(forward, 0, 0);
        status = group_status(forward);
        if (forward->goal < forward->units) break;
        forward->base += forward->units;
        forward->next += forward->group;
        forward->group = 0;
    }
    return status;
}

void qlm_forward_fault(const struct qlm_forward *forward, size_t *step, size_t *row, size_t *column)
{
    const struct run *run = &forward->runs[forward->failed];
    size_t width = qlm_max_size(forward->program->steps[run->step].slots[0].width, 1);
    *step = run->step;
    *row = run->first + run->bad / width;
    *column = run->bad % width;
}

/* ---- cutting -------------------------------------------------------------------------------------------------- */

/* Tokens of a run: what fits RUN_FLOATS, in as many runs as the threads can take side by side. */
static size_t tokens_a_run(const struct qlm_forward *forward, size_t tokens)
{
    const struct qlm_program *program = forward->program;
    size_t most = RUN_FLOATS / qlm_max_size(program->hidden + program->width, 1), threads = forward->threads;
    most = qlm_max_size(most, RUN_TOKENS_LEAST);
    size_t runs = qlm_max_size(qlm_round_up(qlm_div_up(tokens, most), threads), 1);
    return qlm_max_size(qlm_div_up(tokens, runs), SHARE_TOKENS_LEAST);
}

/* Sequences from `begin` on that make a run of at most `most` tokens, at least one. */
static size_t end_of_run(const size_t *starts, size_t sequences, size_t begin, size_t most)
{
    size_t end = begin + 1;
    while (end < sequences && starts[end + 1] - starts[begin] <= most) end++;
    return end;
}

static void add_run(struct qlm_forward *forward, const size_t *starts, size_t begin, size_t end, size_t **free_starts)
{
    struct run *run = &forward->runs[forward->count];
    *run = (struct run){.first = starts[begin], .starts = *free_starts, .sequences = end - begin};
    for (size_t s = begin; s <= end; s++) *(*free_starts)++ = starts[s] - starts[begin];
    run->units = run_units(forward->program, run);
    if (starts[end] > starts[begin]) forward->count++; /* a run of no token is taken back */
}

static void cut(struct qlm_forward *forward, const size_t *starts, size_t sequences)
{
    size_t most = tokens_a_run(forward, starts[sequences]), *free_starts = forward->starts;
    for (size_t begin = 0, end; begin < sequences; begin = end) {
        end = end_of_run(starts, sequences, begin, most);
        add_run(forward, starts, begin, end, &free_starts);
    }
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

struct qlm_forward *qlm_forward_new(void) { return calloc(1, sizeof(struct qlm_forward)); }

static void free_blocks(struct qlm_forward *forward)
{
    free(forward->runs);
    free(forward->starts);
    qlm_aligned_free(forward->workspaces);
    *forward = (struct qlm_forward){.program = NULL};
}

void qlm_forward_free(struct qlm_forward *forward)
{
    if (!forward) return;
    free_blocks(forward);
    free(forward);
}

/* A sequence may be a run; the starts of runs overlap by one. */
static int make_room_for_runs(struct qlm_forward *forward, size_t sequences)
{
    if (sequences <= forward->sequences) return 1;
    free_blocks(forward);
    forward->runs = malloc(qlm_size_mul(sequences, sizeof *forward->runs));
    forward->starts = malloc(qlm_size_mul(qlm_size_mul(sequences, 2), sizeof *forward->starts));
    if (!forward->runs || !forward->starts) return 0;
    forward->sequences = sequences;
    return 1;
}

static int make_room_for_workspaces(struct qlm_forward *forward, size_t longest)
{
    size_t bytes =
        qlm_size_lines(qlm_size_mul(qlm_size_mul(longest, forward->program->width + QLM_RANGE), sizeof(float)));
    forward->space = bytes / sizeof(float);
    bytes = qlm_size_mul(bytes, forward->threads);
    if (bytes <= forward->room) return 1;
    qlm_aligned_free(forward->workspaces);
    forward->room = 0;
    forward->workspaces = qlm_aligned_alloc(bytes);
    if (forward->workspaces) forward->room = bytes;
    return forward->workspaces != NULL;
}

enum qlm_status qlm_forward_begin(struct qlm_forward *forward, const struct qlm_program *program, float *x,
                                  const size_t *starts, size_t sequences, size_t *units)
{
    size_t longest = 0;
    *units = 0;
    if (!make_room_for_runs(forward, sequences)) return QLM_NO_MEMORY;
    forward->program = program;
    forward->x = x;
    forward->threads = qlm_threads();
    forward->count = forward->next = forward->group = forward->base = 0;
    cut(forward, starts, sequences);
    for (size_t i = 0; i < forward->count; i++) {
        const struct run *run = &forward->runs[i];
        *units = qlm_size_add(*units, run->units);
        longest = qlm_max_size(longest, run->starts[run->sequences]);
    }
    return make_room_for_workspaces(forward, longest) ? QLM_OK : QLM_NO_MEMORY;
}
