/* layout.c: runs of elements that share a parameter (qlm.h, "Granularity"). */
#include "layout.h"

#include "common.h"
#include "threads.h"

/* Element-wise kernels do some four elements a nanosecond. */
#define ELEMENTS_PER_UNIT 4

size_t qlm_layout_params(const struct qlm_layout *layout)
{ return layout->channels * (layout->group ? qlm_div_up(layout->inner, layout->group) : 1); }

size_t qlm_chunk(size_t size) { return qlm_threads() > 1 ? QLM_CHUNK : qlm_max_size(size, 1); }

static struct qlm_run run_of_group(const struct qlm_layout *layout, size_t start)
{
    size_t row = start / layout->inner, i = start % layout->inner, g = i / layout->group;
    size_t stop = qlm_min_size(layout->group, layout->inner - g * layout->group) + g * layout->group;
    return (struct qlm_run){start, stop - i, row * qlm_div_up(layout->inner, layout->group) + g, 0, 1};
}

struct qlm_run qlm_run_at(const struct qlm_layout *layout, size_t start, size_t end)
{
    struct qlm_run run;
    if (qlm_layout_each(layout)) {
        size_t param = layout->group ? start : start % layout->channels;
        size_t count = layout->group ? end - start : layout->channels - param;
        run = (struct qlm_run){start, qlm_min_size(count, QLM_EACH_MAX), param, 1, 1};
    } else if (layout->group) {
        run = run_of_group(layout, start);
    } else {
        size_t row = start / layout->inner;
        run = (struct qlm_run){start, layout->inner - start % layout->inner, row % layout->channels, 0, 1};
    }
    run.count = qlm_min_size(run.count, end - start);
    return run;
}

/* How many whole runs like this one follow it, itself included, until `end` or a change in how they lie. */
static size_t whole_runs(const struct qlm_layout *layout, const struct qlm_run *run, size_t end)
{
    size_t n = layout->group ? layout->group : layout->inner, at = run->start % layout->inner;
    if (run->each || run->count != n || at % n) return 1;
    size_t most = layout->group ? (layout->inner - at) / n : layout->channels - run->param;
    if (layout->group && layout->inner % n == 0) most = SIZE_MAX;
    return qlm_min_size(most, (end - run->start) / n);
}

struct walk {
    const struct qlm_layout *layout;
    size_t begin, end, chunk;
    int groups;
    void (*visit)(void *context, struct qlm_run run);
    void *context;
};

static void walk_chunk(void *context, size_t index, unsigned worker)
{
    const struct walk *walk = context;
    size_t at = walk->begin + index * walk->chunk, end = at + qlm_min_size(walk->chunk, walk->end - at);
    (void)worker;
    while (at < end) {
        struct qlm_run run = qlm_run_at(walk->layout, at, end);
        if (walk->groups) run.groups = whole_runs(walk->layout, &run, end);
        walk->visit(walk->context, run);
        at += run.count * run.groups;
    }
}

static void walk(struct walk *walk)
{
    size_t size = walk->end - walk->begin;
    walk->chunk = qlm_chunk(size);
    qlm_parallel_sized(qlm_div_up(size, walk->chunk), size / ELEMENTS_PER_UNIT, walk_chunk, walk);
}

void qlm_visit_runs(const struct qlm_layout *layout, size_t begin, size_t end,
                    void (*visit)(void *context, struct qlm_run run), void *context)
{
    struct walk runs = {layout, begin, end, 0, 0, visit, context};
    walk(&runs);
}

void qlm_visit_groups(const struct qlm_layout *layout, size_t begin, size_t end,
                      void (*visit)(void *context, struct qlm_run run), void *context)
{
    struct walk groups = {layout, begin, end, 0, 1, visit, context};
    walk(&groups);
}

void qlm_lower_index(size_t *first, size_t index)
{
    size_t seen = __atomic_load_n(first, __ATOMIC_RELAXED);
    while (index < seen && !__atomic_compare_exchange_n(first, &seen, index, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

size_t qlm_first_nonfinite(const float *x, struct qlm_run run)
{
    for (size_t i = run.start; i < run.start + run.count * run.groups; i++)
        if (!qlm_is_finite(x[i])) return i;
    return run.start;
}
