/* py_slices.c: how long a slice is, and what happens between two. */
#include "py_slices.h"

#include <stdatomic.h>
#include <time.h>

/* Costs in nanoseconds of the slowest kernels.  Work below HELD_COST is not worth releasing the GIL.  The
 * first slice is short enough for the slowest tier and long enough, about 0.2 ms, for the fastest one. */
#define HELD_COST 0x1p14
#define FIRST_COST 0x1p24
/* What slices should take, and how fast they may grow.  A slice takes longer than the one it was measured by when other
 * calls come to use the pool and the cores, hence far less than the 50 ms that it may last. */
#define TARGET_NS 10000000.0
#define MAX_GROWTH 16.0
#define LAST_SHARE 4

/* How many times calls were told to stop: a call that sees it change since its start ends.  Signals belong to the
 * process, so this is not state of the module. */
static _Atomic unsigned interruptions;

void qlm_interrupt_calls(void) { atomic_fetch_add(&interruptions, 1); }

/* Vectors take up to 0.4 ns for what divides or comes from memory, the scalar kernels 8: counted as those, an array of
 * 64 KiB, which takes a microsecond, would release the GIL for a tenth of that. */
double qlm_element_cost(void) { return qlm_kernels_in_use->features ? 0.5 : 8.0; }

static double now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static enum qlm_status run_slice(qlm_slice slice, void *context, size_t begin, size_t end)
{
    uint64_t mode = qlm_float_mode_enter();
    enum qlm_status status = slice(context, begin, end);
    qlm_float_mode_leave(mode);
    return status;
}

static enum qlm_status run_unlocked(qlm_slice slice, void *context, size_t begin, size_t end)
{
    PyThreadState *thread = PyEval_SaveThread();
    enum qlm_status status = run_slice(slice, context, begin, end);
    PyEval_RestoreThread(thread);
    return status;
}

/* The time is that of the work: waiting for the GIL says nothing about the next slice. */
static enum qlm_status run_timed(qlm_slice slice, void *context, size_t begin, size_t end, double *elapsed)
{
    PyThreadState *thread = PyEval_SaveThread();
    double start = now_ns();
    enum qlm_status status = run_slice(slice, context, begin, end);
    *elapsed = now_ns() - start;
    PyEval_RestoreThread(thread);
    return status;
}

static size_t to_units(double units, const struct qlm_work *work)
{
    if (units >= (double)work->units) return work->units;
    size_t length = units < 1 ? 1 : (size_t)units;
    return length > work->step ? length - length % work->step : length;
}

/* Of `left` units: a last piece that is far smaller than the one before it would gain nothing from its size, and one
 * that little would be left for takes that along, since a piece has work beside its units. */
static size_t piece_of(size_t left, size_t length, const struct qlm_work *work)
{
    if (left <= length + length / LAST_SHARE) return left;
    return left / 2 < length ? to_units((double)(left - left / 2), work) : length;
}

static size_t next_length(size_t length, double elapsed, const struct qlm_work *work)
{
    double growth = elapsed * MAX_GROWTH > TARGET_NS ? TARGET_NS / elapsed : MAX_GROWTH;
    return to_units((double)length * growth, work);
}

/* Runs signal handlers where this is the main thread; -1 where this call has to end. */
static int check_interrupt(unsigned seen)
{
    if (PyErr_CheckSignals()) {
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) qlm_interrupt_calls();
        return -1;
    }
    if (atomic_load(&interruptions) == seen) return 0;
    PyErr_SetNone(PyExc_KeyboardInterrupt);
    return -1;
}

static int run_many(const struct qlm_work *work, qlm_slice slice, void *context, enum qlm_status *status)
{
    unsigned seen = atomic_load(&interruptions);
    size_t begin = 0, length = to_units(FIRST_COST / work->cost, work);
    for (;;) {
        size_t count = piece_of(work->units - begin, length, work);
        double elapsed;
        *status = run_timed(slice, context, begin, begin + count, &elapsed);
        begin += count;
        if (*status != QLM_OK || begin == work->units) return 0;
        length = next_length(count, elapsed, work);
        if (check_interrupt(seen)) return -1;
    }
}

int qlm_run_slices(const struct qlm_work *work, qlm_slice slice, void *context, enum qlm_status *status)
{
    double cost = (double)work->units * work->cost;
    *status = QLM_OK;
    if (work->units == 0) return 0;
    if (cost > FIRST_COST) return run_many(work, slice, context, status);
    *status =
        cost <= HELD_COST ? run_slice(slice, context, 0, work->units) : run_unlocked(slice, context, 0, work->units);
    return 0;
}
