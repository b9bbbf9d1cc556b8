/* common.h: small helpers of the C core: checked sizes, aligned memory, exact float operations. */
#ifndef QLM_COMMON_H
#define QLM_COMMON_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#define QLM_CACHE_LINE 64
#define QLM_HUGE_PAGE ((size_t)2 << 20)

static inline size_t qlm_min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t qlm_max_size(size_t a, size_t b) { return a > b ? a : b; }

/* ceil(a / b) and the multiple of b at or above a; a + b must not wrap. */
static inline size_t qlm_div_up(size_t a, size_t b) { return a / b + (a % b != 0); }
static inline size_t qlm_round_up(size_t a, size_t b) { return qlm_div_up(a, b) * b; }

/* *result = a * b or a + b; 1 where that wraps. */
static inline int qlm_mul_wraps(size_t a, size_t b, size_t *result) { return __builtin_mul_overflow(a, b, result); }
static inline int qlm_add_wraps(size_t a, size_t b, size_t *result) { return __builtin_add_overflow(a, b, result); }

/* A size in bytes that is built up by checked steps: once it wraps it stays SIZE_MAX, which no allocation grants. */
static inline size_t qlm_size_add(size_t a, size_t b)
{
    size_t sum;
    return qlm_add_wraps(a, b, &sum) ? SIZE_MAX : sum;
}

static inline size_t qlm_size_mul(size_t a, size_t b)
{
    size_t product;
    return qlm_mul_wraps(a, b, &product) ? SIZE_MAX : product;
}

/* Rounded up to whole cache lines, so that parts of one block each start on one. */
static inline size_t qlm_size_lines(size_t bytes)
{
    size_t padded;
    return qlm_add_wraps(bytes, QLM_CACHE_LINE - 1, &padded) ? SIZE_MAX : padded - padded % QLM_CACHE_LINE;
}

/* 64-byte aligned; NULL: no memory.  Freed by qlm_aligned_free.  Large blocks ask for huge pages: hardware prefetch
 * stops at the end of a page, and a weight of 45 MB is read 1.5 times as fast from those of 2 MB as from those of 4 KiB
 * (one row, Zen 4). */
static inline void *qlm_aligned_alloc(size_t bytes)
{
    size_t padded = qlm_size_lines(bytes ? bytes : 1);
    if (padded == SIZE_MAX) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (padded >= QLM_HUGE_PAGE) {
        void *block; /* aligned_alloc would want whole pages of them */
        if (posix_memalign(&block, QLM_HUGE_PAGE, padded) != 0) return NULL;
        madvise(block, padded, MADV_HUGEPAGE); /* a wish: small pages do as well */
        return block;
    }
#endif
    return aligned_alloc(QLM_CACHE_LINE, padded);
}

static inline void qlm_aligned_free(void *block) { free(block); }

/* fl(a * b + c), rounded once: the standard defines fmaf exactly, so that it is the same on every machine. */
static inline float qlm_fmaf(float a, float b, float c) { return fmaf(a, b, c); }

static inline uint32_t qlm_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float qlm_float_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline int qlm_is_finite(float x) { return (qlm_float_bits(x) & 0x7f800000u) != 0x7f800000u; }

/* Nearest integer, half to even; exact for |x| < 2^51: above 2^52 a float64 holds integers only. */
static inline double qlm_rint(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

/* Compilers may move arithmetic across a change of the float mode, which they do not know about; not across this. */
static inline float qlm_pin(float x)
{
    __asm__ volatile("" : "+m"(x));
    return x;
}

#endif
