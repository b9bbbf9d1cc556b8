/* layout.h: walking an array by runs of elements that share a parameter, and sharing the walk between threads. */
#ifndef QLM_LAYOUT_H
#define QLM_LAYOUT_H

#include "qlm.h"

/* Elements start .. start + count - 1.  All use parameter `param`; or, where `each`, element start + i uses
 * param + i: then the run has at most QLM_EACH_MAX elements, so that drivers can convert its parameters on the stack.
 * Runs of `count` elements that lie behind one another, with parameters param, param + 1, ..., may be taken as one
 * (qlm_visit_groups); elsewhere groups is 1. */
struct qlm_run {
    size_t start, count, param;
    int each;
    size_t groups;
};

#define QLM_EACH_MAX 512

/* Elements of a task: small enough to balance, and for its data to stay in L2 between passes. */
#define QLM_CHUNK 32768
/* Elements of a task of work on `size` of them: all on one thread, where each start of a loop is lost. */
size_t qlm_chunk(size_t size);

/* Neighbouring elements have neighbouring parameters: the last axis of several channels, or groups of one element. */
static inline int qlm_layout_each(const struct qlm_layout *layout)
{ return layout->group ? layout->group == 1 : layout->inner == 1 && layout->channels > 1; }

/* The run that starts at element `start`, cut at `end`. */
struct qlm_run qlm_run_at(const struct qlm_layout *layout, size_t start, size_t end);

/* visit(context, run) for the runs of [begin, end), in no order and from several threads. */
void qlm_visit_runs(const struct qlm_layout *layout, size_t begin, size_t end,
                    void (*visit)(void *context, struct qlm_run run), void *context);

/* The same, with as many whole runs at a time as a task takes: short groups would spend more on calls than on work. */
void qlm_visit_groups(const struct qlm_layout *layout, size_t begin, size_t end,
                      void (*visit)(void *context, struct qlm_run run), void *context);

/* *first = min(*first, index), by many threads at once. */
void qlm_lower_index(size_t *first, size_t index);
/* Index of the first element of the run that is not finite; its start where another thread has just changed it. */
size_t qlm_first_nonfinite(const float *x, struct qlm_run run);

/* Codes start .. start + count - 1 of an array of any code type, with one set of parameters, to out[0] on. */
void qlm_dequantize_span(const void *codes, enum qlm_code code, size_t start, size_t count, float scale, float zero,
                         float offset, float *out);

/* A zero point as float32 (exact: at most 17 bits); none is 0. */
static inline float qlm_zero_at(const int32_t *zero, size_t param) { return zero ? (float)zero[param] : 0.0f; }

#endif
