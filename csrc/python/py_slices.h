/* py_slices.h: long work in slices, so that Ctrl-C is heard.
 *
 * A driver is run over [0, units) piece by piece, without the GIL while it works.  Between pieces signal handlers run
 * (on the main thread; Python knows which one that is), and a call on another thread ends as soon as it sees that a
 * KeyboardInterrupt was raised since it began.  Work below about 0.02 ms keeps the GIL; work that fits one piece reads
 * no clock.
 */
#ifndef QLM_PY_SLICES_H
#define QLM_PY_SLICES_H

#include "py_args.h"

/* Does units [begin, end); knows nothing of Python: it may run without the GIL.  Anything but QLM_OK ends the work. */
typedef enum qlm_status (*qlm_slice)(void *context, size_t begin, size_t end);

struct qlm_work {
    size_t units;
    size_t step; /* pieces of more than `step` units are multiples of it */
    double cost; /* of a unit, in nanoseconds of the slowest kernels: an upper estimate, it sets the first piece */
};

/* `cost` of work on elements of arrays. */
double qlm_element_cost(void);
/* 0 when the work is done or a slice ended it (*status says which); -1 with an exception: interrupted. */
int qlm_run_slices(const struct qlm_work *work, qlm_slice slice, void *context, enum qlm_status *status);
/* Ends the long calls that run now on other threads, each with a KeyboardInterrupt. */
void qlm_interrupt_calls(void);

#endif
