/* test.h: what the C tests share.
 *
 * A case is a function that draws its shape and its operands from a generator, calls what it tests and writes all that
 * came out into a record.  The same seed run with another table of kernels, number of threads, cutting into slices or
 * placement in memory must give the same record, byte for byte.
 */
#ifndef QLM_TEST_H
#define QLM_TEST_H

#include <stddef.h>
#include <stdint.h>

#include "qlm.h"

/* ---- results -------------------------------------------------------------------------------------------------- */
extern size_t tests_passed, tests_failed;
/* Counts one check; prints the message where it failed. */
void check(int passed, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What runs now, for the message of a crash. */
void now_running(const char *what, const char *isa, uint64_t seed);

/* ---- numbers -------------------------------------------------------------------------------------------------- */
struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *rng);
size_t rng_below(struct rng *rng, size_t n);                  /* 0 .. n - 1 */
int64_t rng_between(struct rng *rng, int64_t lo, int64_t hi); /* lo .. hi */
/* Mostly 0..70, where all tails of vectors are; now and then some hundreds. */
size_t rng_length(struct rng *rng);
float rng_scale(struct rng *rng); /* > 0, of any sensible size */

enum flavour { PLAIN, EXTREME, NONFINITE, TIES, CONSTANT, FLAVOURS };
enum flavour rng_flavour(struct rng *rng);
/* TIES: near half multiples of `step`. */
void fill_floats(struct rng *rng, enum flavour flavour, float step, float *x, size_t n);
void fill_ints(struct rng *rng, int64_t lo, int64_t hi, int32_t *x, size_t n);
/* Codes of a type, its ends often. */
void fill_codes(struct rng *rng, const struct qlm_type *type, void *codes, size_t n);
int32_t code_at(const struct qlm_type *type, const void *codes, size_t i);
size_t code_size(const struct qlm_type *type);

#define TYPE_COUNT 6
extern const struct qlm_type test_types[TYPE_COUNT]; /* int8, uint8, int4, uint4, int16, uint16 */

/* ---- memory --------------------------------------------------------------------------------------------------- */
enum side { FLUSH_RIGHT, FLUSH_LEFT };
/* An operand of a kernel: its end (or its start) lies at a page that cannot be touched, the bytes at its other side are
 * watched.  All are taken back by operands_reset, which checks those bytes. */
void operands_reset(enum side side);
void *operand(size_t bytes);
/* Ordinary memory that ends the test where there is none. */
void *must_alloc(size_t bytes);
/* Counts allocations from now on and lets number `fail_at` fail, or that and all that follow; SIZE_MAX: none. */
void memory_watch(size_t fail_at, int for_ever);
size_t memory_unwatch(void); /* how many there were, those that failed included */
size_t memory_held(void);    /* blocks that were allocated while watched and are not freed */

/* ---- records -------------------------------------------------------------------------------------------------- */
struct record {
    unsigned char *bytes;
    size_t size, capacity;
};
void record_bytes(struct record *record, const void *bytes, size_t n);
void record_int(struct record *record, int64_t value);
void record_ints(struct record *record, const int32_t *x, size_t n);
/* Bit for bit. */
void record_floats(struct record *record, const float *x, size_t n);
/* All NaN alike: what one kernel hands to the next is not yet stored as numerics.md has it. */
void record_numbers(struct record *record, const float *x, size_t n);
void record_clear(struct record *record);
/* One check: that both are the same. */
void check_records(const struct record *want, const struct record *got, const char *what, const char *isa,
                   uint64_t seed, const char *how);

/* ---- the tests ------------------------------------------------------------------------------------------------ */
struct kernel_case {
    const char *name;
    void (*run)(const struct qlm_kernels *kernels, struct rng *rng, struct record *record);
};
/* Named like the kernels; each ends with a NULL name. */
extern const struct kernel_case element_kernel_cases[], row_kernel_cases[], int8_kernel_cases[], group_kernel_cases[];

/* How a driver is called: results must not depend on it. */
struct manner {
    const struct qlm_kernels *kernels;
    unsigned threads;
    int sliced;
};
/* call(context, begin, end) for the whole of 0..n, or for slices drawn from a generator of their own. */
void in_slices(const struct manner *manner, size_t n, void (*call)(void *context, size_t begin, size_t end),
               void *context);
struct driver_case {
    const char *name;
    void (*run)(const struct manner *manner, struct rng *rng, struct record *record);
};
extern const struct driver_case array_cases[], linear_cases[], model_cases[];

void test_qparams(void);
void test_threads(void);
void test_memory(void);
void test_peaks(void);

#endif
