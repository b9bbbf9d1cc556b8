/* test_threads.c: the pool: every task once, nested and simultaneous calls, small ones without help, forks, the float
 * mode. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "test.h"
#include "threads.h"

#define TASKS 500

static void count_task(void *context, size_t index, unsigned worker)
{
    (void)worker;
    atomic_fetch_add(&((atomic_int *)context)[index], 1);
}

static void check_counts(atomic_int *counts, size_t tasks, int want, const char *what)
{
    int all = 1;
    for (size_t i = 0; i < TASKS; i++) all &= atomic_load(&counts[i]) == (i < tasks ? want : 0);
    check(all, "%s: each of %zu tasks %d times", what, tasks, want);
}

static void test_each_task_once(void)
{
    static const size_t sizes[] = {0, 1, 2, 3, 7, 100, TASKS};
    for (unsigned threads = 1; threads <= 5; threads++) {
        qlm_set_threads(threads);
        check(qlm_threads() == threads, "set_threads(%u)", threads);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            atomic_int counts[TASKS] = {0};
            for (int round = 0; round < 20; round++) qlm_parallel(sizes[i], count_task, counts);
            check_counts(counts, sizes[i], 20, "parallel");
        }
    }
    qlm_set_threads(0);
    check(qlm_threads() == 1, "at least one thread");
}

static void nested_task(void *context, size_t index, unsigned worker)
{
    (void)worker;
    (void)index;
    qlm_parallel(TASKS, count_task, context);
}

static void test_nested(void)
{
    atomic_int counts[TASKS] = {0};
    qlm_set_threads(4);
    qlm_parallel(10, nested_task, counts);
    check_counts(counts, TASKS, 10, "nested calls");
}

static void *call_often(void *counts)
{
    for (int round = 0; round < 200; round++) qlm_parallel(TASKS, count_task, counts);
    return NULL;
}

/* Calls at the same time, while the number of threads changes. */
static void test_simultaneous(void)
{
    static atomic_int counts[TASKS];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, call_often, counts) != 0) exit(2);
    for (unsigned i = 0; i < 20; i++) qlm_set_threads(1 + i % 4);
    for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    check_counts(counts, TASKS, 800, "simultaneous calls");
}

/* ---- small calls that no worker comes to ------------------------------------------------------------------------ */

/* The linker gives the pool these in place of the system's: with no_workers no thread starts and time stands still, so
 * that every small call follows the one before at once. */
static atomic_int no_workers, frozen;
static struct timespec frozen_at;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{ return no_workers ? EAGAIN : __real_pthread_create(thread, attributes, run, argument); }

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    if (!frozen) return __real_clock_gettime(clock, time);
    *time = frozen_at;
    return 0;
}

#define SMALL_WORK 10000 /* worth sharing with a worker that is awake */

static void small_call(void)
{
    atomic_int counts[TASKS] = {0};
    qlm_parallel_sized(2, SMALL_WORK, count_task, counts);
}

/* The calls until one is worth sharing. */
static int calls_alone(void)
{
    int calls = 0;
    for (; !qlm_parallel_worth(SMALL_WORK) && calls < 2000; calls++) small_call();
    return calls;
}

/* How many calls are not shared after sixteen that were, and that no worker came to. */
static int calls_alone_after_sixteen(void)
{
    for (int i = 0; i < 16; i++) {
        check(qlm_parallel_worth(SMALL_WORK), "small call %d of sixteen without help is shared", i);
        small_call();
    }
    return calls_alone();
}

static void meet_task(void *started, size_t index, unsigned worker)
{
    (void)index;
    (void)worker;
    for (atomic_fetch_add((atomic_int *)started, 1); atomic_load((atomic_int *)started) < 2;) sched_yield();
}

/* Two tasks that wait for each other: a worker has come. */
static void helped_call(void)
{
    atomic_int started = 0;
    no_workers = 0;
    qlm_set_threads(2);
    check(qlm_parallel_worth(SMALL_WORK), "a small call is shared again");
    qlm_parallel_sized(2, SMALL_WORK, meet_task, &started);
    no_workers = 1;
    qlm_set_threads(2);
}

static void test_small_calls_without_help(void)
{
    static const int alone[] = {64, 128, 256, 512, 1024, 1024};
    clock_gettime(CLOCK_MONOTONIC, &frozen_at);
    frozen = 1;
    qlm_set_threads(2);
    small_call();
    calls_alone(); /* what earlier tests have left */
    helped_call();
    for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
        int calls = calls_alone_after_sixteen();
        check(calls == alone[i], "%d small calls alone, not %d", alone[i], calls);
    }
    helped_call();
    check(calls_alone_after_sixteen() == alone[0], "a call that a worker came to ends the waiting");
    check(qlm_parallel_worth(1 << 20), "large calls are shared all the same");
    no_workers = frozen = 0;
    qlm_set_threads(2);
}

/* ---- forks ---------------------------------------------------------------------------------------------------- */

/* gcc's thread sanitizer does not support threads in the child of a process that has several: it dies, or, told not to,
 * now and then hangs in itself.  The builds without it fork: 6800 times on a busy pool without a child that hung. */
#if defined(__SANITIZE_THREAD__)
#define FORKS_MAY_THREAD 0
#else
#define FORKS_MAY_THREAD 1
#endif

#define ROWS 64
#define WIDTH 512

/* Work that the pool shares; the sum of its results. */
static float shared_work(void)
{
    float *x = must_alloc(ROWS * WIDTH * sizeof *x), *one = must_alloc(WIDTH * sizeof *one), sum = 0;
    struct rng rng = {5};
    fill_floats(&rng, PLAIN, 1.0f, x, ROWS * WIDTH);
    for (size_t i = 0; i < WIDTH; i++) one[i] = 1;
    for (int round = 0; round < 4; round++) qlm_layernorm(x, x, ROWS, WIDTH, one, one, 1e-5f, NULL, x);
    for (size_t i = 0; i < ROWS * WIDTH; i++) sum += x[i];
    free(x);
    free(one);
    return sum;
}

/* 1 where the child ended well.  It takes milliseconds; a sanitizer on a busy machine has taken more than a second, and
 * what hangs never ends. */
static int child_ends(pid_t child)
{
    int status;
    for (int tries = 0; tries < 10000; tries++) {
        if (waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return 0;
}

static int child_works(float want)
{
    atomic_int counts[TASKS] = {0};
    qlm_parallel(TASKS, count_task, counts);
    for (size_t i = 0; i < TASKS; i++)
        if (atomic_load(&counts[i]) != 1) return 0;
    return shared_work() == want;
}

static void test_fork(void)
{
    qlm_set_threads(4);
    float want = shared_work();
    for (int round = 0; round < 5; round++) {
        pid_t child = fork();
        if (child == 0) _exit(child_works(want) ? 0 : 1);
        check(child > 0 && child_ends(child), "a forked child works");
        check(shared_work() == want, "the parent works after a fork");
    }
}

static atomic_int stop_working;

static void *work_until_told(void *unused)
{
    while (!atomic_load(&stop_working)) shared_work();
    return unused;
}

/* Another thread keeps the pool busy: the fork waits for its turn and the child's pool is free.  Not under qemu-user
 * (7.2), which itself fails an assertion where the child of a process with several threads starts one. */
static void test_fork_while_busy(void)
{
    pthread_t thread;
    float want = shared_work();
    atomic_store(&stop_working, 0);
    if (pthread_create(&thread, NULL, work_until_told, NULL) != 0) exit(2);
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        if (child == 0) _exit(child_works(want) ? 0 : 1);
        check(child > 0 && child_ends(child), "a child forked while the pool was busy works");
    }
    atomic_store(&stop_working, 1);
    pthread_join(thread, NULL);
}

/* ---- float mode ----------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define ODD_MODE 0xdfc0u /* flush to zero, denormals are zero, round up */
static void set_mode(unsigned mode) { __builtin_ia32_ldmxcsr(mode); }
static unsigned get_mode(void) { return __builtin_ia32_stmxcsr() & ~0x3fu; }
#elif defined(__aarch64__)
#define ODD_MODE ((1u << 24) | (1u << 22)) /* flush to zero, round up */
static void set_mode(unsigned mode) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)mode)); }
static unsigned get_mode(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return (unsigned)mode;
}
#else
#define ODD_MODE 0
static void set_mode(unsigned mode) { (void)mode; }
static unsigned get_mode(void) { return 0; }
#endif

static void test_float_mode(void)
{
    struct qlm_layout layout = {1, 1, 1, 0};
    float x = 0x1p-140f, out[2][3], min[2] = {INFINITY, INFINITY}, max[2] = {-INFINITY, -INFINITY};
    size_t bad;
    unsigned before = get_mode(), after = 0;
    for (int odd = 0; odd < 2; odd++) {
        if (odd) set_mode(ODD_MODE);
        qlm_range(&x, &layout, 0, 1, &min[odd], &max[odd], &bad);
        qlm_add(&x, &x, 1, &out[odd][0]);
        out[odd][1] = qlm_choose_qparams(-1.1f, 0.3f, &test_types[1], 0).scale;
        qlm_smoothquant_scales(&out[odd][1], &x, 1, 0.3, &out[odd][2]);
        after = get_mode();
        set_mode(before);
    }
    check(after == (ODD_MODE & ~0x3fu), "the caller's float mode is restored: %x", after);
    check(memcmp(out[0], out[1], sizeof out[0]) == 0 && max[0] == max[1] && max[0] > 0,
          "the caller's float mode changes no result");
}

void test_threads(void)
{
    test_each_task_once();
    test_nested();
    test_simultaneous();
    test_small_calls_without_help();
    if (FORKS_MAY_THREAD) test_fork();
    if (FORKS_MAY_THREAD && !getenv("QLM_TEST_EMULATED")) test_fork_while_busy();
    test_float_mode();
}
