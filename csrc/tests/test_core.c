/* test_core.c: the C core against itself: every table of kernels that this CPU runs against the scalar one, many
 * threads against one, slices against the whole, memory at the edge of what may be touched; then the pool and the
 * parameters.
 *
 *   test_core [rounds] [seed]      QLM_TEST_EMULATED=1: leave out what qemu-user cannot do
 *
 * Prints `N passed, N failed`.  A failure names the case, the table and the seed that repeats it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "test.h"

static struct {
    const char *what, *isa;
    uint64_t seed;
} running;

void now_running(const char *what, const char *isa, uint64_t seed)
{
    running.what = what;
    running.isa = isa;
    running.seed = seed;
}

static void on_crash(int signal)
{
    char message[200];
    int n = snprintf(message, sizeof message, "signal %d in %s %s seed %llu\n", signal, running.what, running.isa,
                     (unsigned long long)running.seed);
    if (write(STDERR_FILENO, message, (size_t)n) < 0) _exit(3);
    _exit(2);
}

void in_slices(const struct manner *manner, size_t n, void (*call)(void *context, size_t begin, size_t end),
               void *context)
{
    struct rng rng = {n};
    size_t begin = 0;
    while (manner->sliced && begin < n) {
        size_t end = begin + 1 + rng_below(&rng, n);
        if (end > n) end = n;
        call(context, begin, end);
        begin = end;
    }
    if (!manner->sliced) call(context, 0, n);
}

/* ---- kernels -------------------------------------------------------------------------------------------------- */

static struct record run_kernel(const struct kernel_case *c, const struct qlm_kernels *kernels, uint64_t seed,
                                enum side side)
{
    struct record record = {NULL, 0, 0};
    struct rng rng = {seed};
    now_running(c->name, kernels->isa, seed);
    operands_reset(side);
    c->run(kernels, &rng, &record);
    operands_reset(side);
    return record;
}

static void test_kernel_seed(const struct kernel_case *c, uint64_t seed)
{
    struct record want = run_kernel(c, qlm_kernels_at(0), seed, FLUSH_RIGHT);
    for (size_t i = 0; qlm_kernels_at(i); i++) {
        const struct qlm_kernels *kernels = qlm_kernels_at(i);
        if (!qlm_kernels_usable(kernels)) continue;
        for (int side = FLUSH_RIGHT; side <= FLUSH_LEFT; side++) {
            struct record got = run_kernel(c, kernels, seed, (enum side)side);
            check_records(&want, &got, c->name, kernels->isa, seed, side == FLUSH_LEFT ? "flush left" : "flush right");
            record_clear(&got);
        }
    }
    record_clear(&want);
}

static void test_kernels(const struct kernel_case *cases, size_t rounds, uint64_t seed)
{
    for (; cases->name; cases++)
        for (size_t round = 0; round < rounds; round++) test_kernel_seed(cases, seed + round);
}

static int has_case(const char *name)
{
    const struct kernel_case *lists[] = {element_kernel_cases, row_kernel_cases, int8_kernel_cases, group_kernel_cases};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const struct kernel_case *c = lists[i]; c->name; c++)
            if (strcmp(c->name, name) == 0) return 1;
    return 0;
}

#define CHECK_CASE(ret, name, args) check(has_case(#name), "no case for kernel " #name);

static void test_every_kernel_has_a_case(void)
{
    QLM_COMMON_KERNELS(CHECK_CASE)
    QLM_INT16_KERNELS(CHECK_CASE)
    QLM_INT8_KERNELS(CHECK_CASE)
}

/* ---- drivers -------------------------------------------------------------------------------------------------- */

static struct record run_driver(const struct driver_case *c, const struct manner *manner, uint64_t seed)
{
    struct record record = {NULL, 0, 0};
    struct rng rng = {seed};
    now_running(c->name, manner->kernels->isa, seed);
    qlm_kernels_use(manner->kernels);
    if (qlm_threads() != manner->threads) qlm_set_threads(manner->threads);
    c->run(manner, &rng, &record);
    return record;
}

static void test_driver_seed(const struct driver_case *c, uint64_t seed, unsigned threads)
{
    static struct record want;
    for (size_t i = 0; qlm_kernels_at(i); i++) {
        struct manner manner = {qlm_kernels_at(i), threads, 0};
        if (!qlm_kernels_usable(manner.kernels)) continue;
        for (; manner.sliced < 2; manner.sliced++) {
            struct record got = run_driver(c, &manner, seed);
            char how[40];
            snprintf(how, sizeof how, "%u threads%s", threads, manner.sliced ? ", sliced" : "");
            if (i == 0 && !manner.sliced && threads == 1) {
                record_clear(&want);
                want = got;
                continue;
            }
            check_records(&want, &got, c->name, manner.kernels->isa, seed, how);
            record_clear(&got);
        }
    }
    if (threads != 1) record_clear(&want);
}

static void test_drivers(const struct driver_case *cases, size_t rounds, uint64_t seed)
{
    for (; cases->name; cases++)
        for (size_t round = 0; round < rounds; round++) {
            test_driver_seed(cases, seed + round, 1);
            test_driver_seed(cases, seed + round, 3);
        }
    qlm_kernels_use(qlm_kernels_best());
}

/* ---- tables --------------------------------------------------------------------------------------------------- */

static void test_tables(void)
{
    check(strcmp(qlm_kernels_at(0)->isa, "scalar") == 0, "the scalar table comes first");
    check(qlm_kernels_usable(qlm_kernels_best()), "the best table is usable");
    check(!qlm_kernels_named("sse9"), "an unknown table");
    printf("tables:");
    for (size_t i = 0; qlm_kernels_at(i); i++) {
        const struct qlm_kernels *kernels = qlm_kernels_at(i);
        int usable = qlm_kernels_usable(kernels);
        check(qlm_kernels_named(kernels->isa) == (usable ? kernels : NULL), "table %s by name", kernels->isa);
        printf(" %s%s", kernels->isa, usable ? "" : " (not on this CPU)");
    }
    printf("\n");
    fflush(stdout); /* forked children would print it again */
}

int main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 300;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
    signal(SIGILL, on_crash);
    test_tables();
    test_qparams();
    test_threads();
    test_memory();
    test_peaks();
    test_every_kernel_has_a_case();
    test_kernels(element_kernel_cases, rounds, seed);
    test_kernels(row_kernel_cases, rounds, seed);
    test_kernels(int8_kernel_cases, rounds, seed);
    test_kernels(group_kernel_cases, rounds, seed);
    test_drivers(array_cases, rounds / 5 + 1, seed);
    test_drivers(linear_cases, rounds / 2 + 1, seed);
    test_drivers(model_cases, rounds / 5 + 1, seed);
    printf("%zu passed, %zu failed\n", tests_passed, tests_failed);
    return tests_failed != 0;
}
