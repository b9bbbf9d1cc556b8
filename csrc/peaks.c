/* peaks.c: a tier's loops, and running one on the threads that kernels run on. */
#include "peaks.h"

#include <string.h>

#include "cpu.h"
#include "qlm.h"

const struct qlm_peak *qlm_peak_at(size_t index)
{
    const struct qlm_peak_list *list = qlm_peak_lists;
    while (list->peaks && (qlm_kernels_in_use->features & list->features) != list->features) list++;
    for (const struct qlm_peak *peak = list->peaks; peak && peak->what; peak++)
        if (index-- == 0) return peak;
    return NULL;
}

struct run {
    const struct qlm_peak *peak;
    const char *source;
    char *target;
    size_t bytes, rounds, tasks;
};

/* How far apart the parts of two threads are: in the target, codes take a quarter of the floats' bytes, and the other
 * way round when codes are read. */
static void run_part(void *context, size_t index, unsigned worker)
{
    const struct run *run = context;
    (void)worker;
    size_t steps = run->bytes / QLM_PEAK_STEP, first = steps * index / run->tasks * QLM_PEAK_STEP;
    size_t end = steps * (index + 1) / run->tasks * QLM_PEAK_STEP;
    int reads_codes = strncmp(run->peak->what, "dequantize", 10) == 0;
    const char *source = run->source + (reads_codes ? first / 4 : first);
    char *target = run->target ? run->target + (reads_codes ? first : first / 4) : NULL;
    run->peak->run(source, target, end - first, run->rounds);
}

void qlm_peak_run(const struct qlm_peak *peak, const void *source, void *target, size_t bytes, size_t rounds)
{
    struct run run = {peak, source, target, bytes, rounds, qlm_threads()};
    qlm_parallel(run.tasks, run_part, &run);
}

#if !defined(__x86_64__) && !defined(__aarch64__)
const struct qlm_peak_list qlm_peak_lists[] = {{0, NULL}};
#endif
