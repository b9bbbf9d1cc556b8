/* threads.h: sharing work between threads, for drivers; qlm.h has what callers see. */
#ifndef QLM_THREADS_H
#define QLM_THREADS_H

#include <stddef.h>

/* qlm_parallel, but on the calling thread alone where the whole of the work, in units of about a nanosecond, is too
 * small to be worth waking another thread. */
void qlm_parallel_sized(size_t tasks, size_t work, void (*task)(void *context, size_t index, unsigned worker),
                        void *context);

/* Whether qlm_parallel_sized would share that much work now: for who cuts it differently for one thread. */
int qlm_parallel_worth(size_t work);

#endif
