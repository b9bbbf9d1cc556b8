/* threads.c: a small pool of worker threads.
 *
 * One job at a time: `job_lock` is held while it runs, and a call that finds it held runs its tasks on its own thread.
 * So does a call from within a task.  Each thread takes its own share of the task numbers first, then what is left of
 * the others': in calls that follow one another a thread meets the same rows and weights, which are still in its L2. No
 * result depends on who took which, since tasks write to disjoint places or merge in a way that has no order.
 *
 * The gate is one word: the number of the job, a bit that says it is open, and the number of workers inside.  A worker
 * enters by adding itself while the gate is open; the caller, out of tasks, closes it and waits for those inside.  A
 * worker that wakes too late finds it closed: nobody waits for a thread that the system did not schedule.
 *
 * Forks.  A child has only the thread that forked, so the handler before a fork lets the workers end and keeps
 * `job_lock` until the fork is over; the next call starts workers again, in the parent and in the child alike.
 * (OpenMP's pools do not, and hang in the child.)
 */
#include "threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#endif

#include "common.h"
#include "qlm.h"

/* Sleeping and waking costs some 50 us, so waiting that long for the next job at full speed costs no more. */
#define SPIN_NANOSECONDS 50000
/* Less work than this, in nanoseconds, is not shared.  A worker that spins starts within 0.3 us.  One that sleeps costs
 * the caller a system call (1.7 us measured on Zen 4, virtual) and comes 10 to 50 us later, by when a call of less has
 * nothing left for it: such a call wakes workers only where the one before has just ended, so that they will be awake
 * for those to come. */
#define WORK_FOR_AWAKE 4000
#define WORK_FOR_SLEEPING 40000
/* Where other programs use the cores, a worker that spins does not run either, and a small call has its tasks cut and
 * its rows quantized apart for nobody (384 x 384 by 4 rows: 3.35 us for 2.95).  After so many of them that no worker
 * came to, the next ones are not shared: as many, and twice as many each time that it happens again.  A worker that has
 * to be woken comes within 50 us, which is within the first of these numbers. */
#define UNHELPED_MOST 16
#define ALONE_LEAST 64
#define ALONE_MOST 1024
#define MAX_THREADS 1024

#define GATE_INSIDE 0x7fffffffull
#define GATE_OPEN 0x80000000ull
#define GATE_JOB (~(uint64_t)0 << 32)
#define GATE_ONE_JOB (1ull << 32)

struct job {
    void (*task)(void *context, size_t index, unsigned worker);
    void *context;
    size_t tasks;
};

/* A thread's share of the tasks, on a cache line of its own. */
struct share {
    _Alignas(QLM_CACHE_LINE) atomic_size_t next;
    size_t end;
};

static struct pool {
    pthread_mutex_t job_lock; /* held by the call whose job runs, by a change of the pool, over a fork */
    atomic_uint waiting;      /* threads that wait for job_lock: calls make way for them */
    atomic_uint threads;      /* as set; 0: not yet */
    /* The rest is changed under job_lock only, but for the atomic words. */
    pthread_t *workers;
    unsigned started; /* workers that run */
    atomic_int spin;  /* more than one CPU, and no more threads than CPUs */
    struct job job;
    struct share *shares; /* of the caller and of each worker */
    _Atomic uint64_t gate;
    atomic_int stop;
    pthread_mutex_t sleep_lock;
    pthread_cond_t wake, done;
    atomic_uint sleepers;
    atomic_uint spinning;      /* workers that would start at once */
    atomic_uint unhelped;      /* small calls in a row that no worker came to */
    atomic_uint alone;         /* small calls that are not to be shared, */
    atomic_uint patience;      /* and how many there were the last time */
    _Atomic int64_t last_call; /* when the last call that might have been shared ended */
    atomic_int caller_sleeps;
} pool = {.job_lock = PTHREAD_MUTEX_INITIALIZER,
          .sleep_lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Thread_local int in_task;

/* ---- scratch -------------------------------------------------------------------------------------------------- */

static _Thread_local struct {
    void *block;
    size_t size;
} scratch;
static pthread_key_t scratch_key;
static int scratch_key_made;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void make_scratch_key(void) { scratch_key_made = pthread_key_create(&scratch_key, qlm_aligned_free) == 0; }

void *qlm_scratch(size_t bytes)
{
    if (scratch.block && bytes <= scratch.size) return scratch.block;
    pthread_once(&scratch_once, make_scratch_key);
    if (!scratch_key_made) return NULL;
    void *block = qlm_aligned_alloc(bytes);
    if (!block) return NULL;
    if (pthread_setspecific(scratch_key, block) != 0) {
        qlm_aligned_free(block);
        return NULL;
    }
    qlm_aligned_free(scratch.block);
    scratch.block = block;
    scratch.size = bytes;
    return block;
}

/* ---- number of threads ---------------------------------------------------------------------------------------- */

static unsigned count_cpus(void)
{
#if defined(__linux__)
    /* Larger masks until the kernel's fits: it refuses one that is too small. */
    for (size_t cpus = 1024; cpus <= (size_t)1 << 20; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE(cpus);
        int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0) return (unsigned)count;
    }
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

static unsigned clamp_threads(unsigned n)
{
    if (n < 1) return 1;
    return n > MAX_THREADS ? MAX_THREADS : n;
}

static unsigned threads_set(void)
{
    unsigned n = atomic_load(&pool.threads), unset = 0;
    if (n) return n;
    n = clamp_threads(count_cpus());
    return atomic_compare_exchange_strong(&pool.threads, &unset, n) ? n : unset;
}

unsigned qlm_threads(void) { return in_task ? 1 : threads_set(); }

/* ---- workers -------------------------------------------------------------------------------------------------- */

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Spins until ready(argument), at most SPIN_NANOSECONDS; what ready said last. */
static int spin_until(int (*ready)(uint64_t), uint64_t argument)
{
    if (ready(argument)) return 1;
    if (!atomic_load(&pool.spin)) return 0;
    int64_t end = now() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 32; i++) {
            if (ready(argument)) return 1;
            pause_cpu();
        }
    } while (now() < end);
    return 0;
}

static int job_or_stop(uint64_t seen)
{
    uint64_t gate = atomic_load(&pool.gate);
    return ((gate & GATE_OPEN) && (gate & GATE_JOB) != seen) || atomic_load(&pool.stop);
}

static int nobody_inside(uint64_t unused)
{
    (void)unused;
    return (atomic_load(&pool.gate) & GATE_INSIDE) == 0;
}

static void wait_for_job(uint64_t seen)
{
    atomic_fetch_add(&pool.spinning, 1);
    int ready = spin_until(job_or_stop, seen);
    atomic_fetch_sub(&pool.spinning, 1);
    if (ready) return;
    pthread_mutex_lock(&pool.sleep_lock);
    /* In this order: a caller opens the gate, then looks for sleepers. */
    atomic_fetch_add(&pool.sleepers, 1);
    while (!job_or_stop(seen)) pthread_cond_wait(&pool.wake, &pool.sleep_lock);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.sleep_lock);
}

static void wait_for_workers(void)
{
    if (spin_until(nobody_inside, 0)) return;
    pthread_mutex_lock(&pool.sleep_lock);
    /* By an exchange, which no later load overtakes: qemu (7.2) lets one overtake an ARM store-release, and the last
     * worker, who had seen nobody asleep, then woke nobody. */
    atomic_exchange(&pool.caller_sleeps, 1);
    while (!nobody_inside(0)) pthread_cond_wait(&pool.done, &pool.sleep_lock);
    atomic_store(&pool.caller_sleeps, 0);
    pthread_mutex_unlock(&pool.sleep_lock);
}

/* The job's number if the gate is open for another job than `seen` and this worker is now inside, else `seen`. */
static uint64_t enter_gate(uint64_t seen)
{
    uint64_t gate = atomic_load(&pool.gate);
    while ((gate & GATE_OPEN) && (gate & GATE_JOB) != seen)
        if (atomic_compare_exchange_weak(&pool.gate, &gate, gate + 1)) return gate & GATE_JOB;
    return seen;
}

static void leave_gate(void)
{
    uint64_t before = atomic_fetch_sub(&pool.gate, 1);
    if ((before & GATE_INSIDE) != 1 || !atomic_load(&pool.caller_sleeps)) return;
    pthread_mutex_lock(&pool.sleep_lock);
    pthread_cond_signal(&pool.done);
    pthread_mutex_unlock(&pool.sleep_lock);
}

/* How many this thread took. */
static size_t run_tasks(const struct job *job, unsigned worker)
{
    size_t index, shares = pool.started + 1, taken = 0;
    for (size_t i = 0; i < shares; i++) {
        struct share *share = &pool.shares[(worker + i) % shares];
        while ((index = atomic_fetch_add(&share->next, 1)) < share->end) {
            job->task(job->context, index, worker);
            taken++;
        }
    }
    return taken;
}

/* `argument` is the worker's number, from 1; 0 is the caller's. */
static void *work(void *argument)
{
    unsigned worker = (unsigned)(uintptr_t)argument;
    uint64_t seen = 0;
    in_task = 1;
    qlm_float_mode_enter();
    while (!atomic_load(&pool.stop)) {
        wait_for_job(seen);
        uint64_t job = enter_gate(seen);
        if (job == seen) continue;
        seen = job;
        run_tasks(&pool.job, worker);
        leave_gate();
    }
    return NULL;
}

/* ---- the pool; job_lock is held ------------------------------------------------------------------------------- */

static void lock_pool(void)
{
    atomic_fetch_add(&pool.waiting, 1);
    pthread_mutex_lock(&pool.job_lock);
    atomic_fetch_sub(&pool.waiting, 1);
}

static void stop_workers(void)
{
    pthread_mutex_lock(&pool.sleep_lock);
    atomic_store(&pool.stop, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.sleep_lock);
    for (unsigned i = 0; i < pool.started; i++) pthread_join(pool.workers[i], NULL);
    free(pool.workers);
    qlm_aligned_free(pool.shares);
    pool.workers = NULL;
    pool.shares = NULL;
    pool.started = 0;
    atomic_store(&pool.stop, 0);
}

static void before_fork(void)
{
    lock_pool();
    stop_workers();
}

static void after_fork_in_parent(void) { pthread_mutex_unlock(&pool.job_lock); }

/* The threads that waited for the pool are not in the child. */
static void after_fork_in_child(void)
{
    atomic_store(&pool.waiting, 0);
    pthread_mutex_unlock(&pool.job_lock);
}

static int forks_handled;

static void handle_forks(void)
{ forks_handled = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0; }

/* Workers block all signals: those are for the threads of the program.  Where the system has no thread left, the pool
 * makes do with those it got. */
static void start_workers(unsigned count)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, handle_forks);
    if (!forks_handled) return;
    pool.workers = malloc(count * sizeof *pool.workers);
    pool.shares = qlm_aligned_alloc((count + 1) * sizeof *pool.shares);
    if (!pool.workers || !pool.shares) {
        free(pool.workers);
        qlm_aligned_free(pool.shares);
        pool.workers = NULL;
        pool.shares = NULL;
        return;
    }
    unsigned cpus = count_cpus();
    atomic_store(&pool.spin, cpus > count);
    sigset_t all, saved;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    while (pool.started < count &&
           pthread_create(&pool.workers[pool.started], NULL, work, (void *)(uintptr_t)(pool.started + 1)) == 0)
        pool.started++;
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

void qlm_set_threads(unsigned n)
{
    lock_pool();
    stop_workers();
    atomic_store(&pool.threads, clamp_threads(n));
    pthread_mutex_unlock(&pool.job_lock);
}

static void open_gate(size_t tasks)
{
    uint64_t job = (atomic_load(&pool.gate) & GATE_JOB) + GATE_ONE_JOB;
    if (job == 0) job = GATE_ONE_JOB;             /* 0 is what a new worker has seen */
    atomic_exchange(&pool.gate, job | GATE_OPEN); /* for the same reason as in wait_for_workers */
    if (!atomic_load(&pool.sleepers)) return;
    pthread_mutex_lock(&pool.sleep_lock);
    for (size_t i = qlm_min_size(tasks - 1, atomic_load(&pool.sleepers)); i > 0; i--) pthread_cond_signal(&pool.wake);
    pthread_mutex_unlock(&pool.sleep_lock);
}

static void run_alone(const struct job *job)
{
    for (size_t index = 0; index < job->tasks; index++) job->task(job->context, index, 0);
}

/* Whether a worker took a task. */
static int run_on_pool(const struct job *job)
{
    if (!pool.workers) start_workers(threads_set() - 1);
    if (!pool.started) {
        run_alone(job);
        return 0;
    }
    pool.job = *job;
    size_t shares = pool.started + 1, end = 0;
    for (size_t i = 0; i < shares; i++) {
        atomic_init(&pool.shares[i].next, end);
        end += job->tasks / shares + (i < job->tasks % shares);
        pool.shares[i].end = end;
    }
    open_gate(job->tasks);
    size_t taken = run_tasks(job, 0);
    atomic_fetch_and(&pool.gate, ~GATE_OPEN);
    wait_for_workers();
    return taken < job->tasks;
}

static void note_help(int helped)
{
    if (helped) {
        atomic_store(&pool.unhelped, 0);
        atomic_store(&pool.patience, 0);
    } else if (atomic_fetch_add(&pool.unhelped, 1) + 1 >= UNHELPED_MOST) {
        unsigned calls = 2 * atomic_load(&pool.patience);
        calls = calls < ALONE_LEAST ? ALONE_LEAST : calls > ALONE_MOST ? ALONE_MOST : calls;
        atomic_store(&pool.patience, calls);
        atomic_store(&pool.alone, calls);
        atomic_store(&pool.unhelped, 0);
    }
}

static int is_small(size_t work) { return work < WORK_FOR_SLEEPING; }

/* ---- calls ---------------------------------------------------------------------------------------------------- */

static int take_pool(void)
{
    if (in_task || qlm_threads() == 1 || atomic_load(&pool.waiting)) return 0;
    return pthread_mutex_trylock(&pool.job_lock) == 0;
}

/* Whether it was shared; *helped: and a worker took a task. */
static int run(const struct job *job, int worth_sharing, int *helped)
{
    uint64_t mode = qlm_float_mode_enter();
    int nested = in_task, shared = worth_sharing && job->tasks > 1 && take_pool();
    in_task = 1;
    *helped = 0;
    if (shared)
        *helped = run_on_pool(job);
    else
        run_alone(job);
    in_task = nested;
    if (shared) pthread_mutex_unlock(&pool.job_lock);
    qlm_float_mode_leave(mode);
    return shared;
}

int qlm_parallel_worth(size_t work)
{
    if (work < WORK_FOR_AWAKE || in_task || qlm_threads() == 1) return 0;
    if (is_small(work) && atomic_load(&pool.alone)) return 0;
    if (!is_small(work) || atomic_load(&pool.spinning)) return 1;
    return now() - atomic_load(&pool.last_call) < SPIN_NANOSECONDS;
}

void qlm_parallel(size_t tasks, void (*task)(void *context, size_t index, unsigned worker), void *context)
{
    struct job job = {task, context, tasks};
    int helped;
    run(&job, 1, &helped);
}

void qlm_parallel_sized(size_t tasks, size_t work, void (*task)(void *context, size_t index, unsigned worker),
                        void *context)
{
    struct job job = {task, context, tasks};
    int helped, shared = run(&job, qlm_parallel_worth(work), &helped);
    if (work < WORK_FOR_AWAKE || in_task || qlm_threads() == 1) return;
    atomic_store(&pool.last_call, now());
    if (!is_small(work)) return;
    unsigned left = atomic_load(&pool.alone);
    if (shared)
        note_help(helped);
    else if (left)
        atomic_compare_exchange_strong(&pool.alone, &left, left - 1);
}
