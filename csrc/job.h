/* job.h: one call of linear, or of an exact product of codes: products.c makes it, linear.c runs it. */
#ifndef QLM_JOB_H
#define QLM_JOB_H

#include <stdatomic.h>

#include "cpu.h"
#include "left.h"

struct qlm_job {
    const struct qlm_linear_input *input;
    const struct qlm_linear_output *outputs;
    size_t count;              /* outputs, of one packed layout */
    size_t begin, end;         /* rows */
    size_t from, to;           /* panels, those of all outputs behind one another */
    size_t blocks;             /* that the rows are cut into evenly */
    size_t panels, width;      /* panels and columns of all outputs together */
    size_t runs;               /* of panels; a task takes one */
    int8_t *expanded;          /* the caller's own room for 4-bit panels, beside prepared rows */
    struct qlm_left *prepared; /* rows that are quantized; NULL: each task does its own */
    int far;                   /* of qlm_left */
    size_t work;               /* of qlm_parallel_sized */
    struct qlm_caches caches;
    int exact, wide; /* qlm_matmul_codes */
    void *exact_out;
    _Atomic int status;
    _Atomic size_t bad;
};

/* A place among the panels of all outputs, as one among those behind the first `panels` of them. */
static inline size_t qlm_panels_past(size_t at, size_t panels) { return at > panels ? at - panels : 0; }

/* All rows of the job.  Outputs of one job have one packed layout, that of the input (qlm_linear_fit). */
enum qlm_status qlm_run_codes(struct qlm_job *job);
enum qlm_status qlm_run_floats(struct qlm_job *job);

#endif
