/* int8.inc.h: the int8 kernels of an instruction set with SIMD, over one step of its product.  The including file
 * defines
 *
 *   LEFT, K_STEP, NR, MR         of its table (shapes.h)
 *   dot_sum                      a register of sums, a vector of int32_t
 *   dot_left, dot_right, dot_load_left(a), dot_load_right(b, column), dot_step(sum, left, right)
 *   DOT_COLUMNS, DOT_KEEP(x)     as TILE_* in gemm.inc.h
 *   DOT_LANES, DOT_PAIRS         as in linear.inc.h
 *   DOT_TWO_ROWS                 1: as TILE_TWO_ROWS in gemm.inc.h, with dot_low and dot_high; else undefined
 *   dot_load_whole(a)            a register of neighbouring left elements, with dot_ones() as its dot_right
 */
#include "left.inc.h"

#ifndef DOT_TWO_ROWS
#define DOT_TWO_ROWS 0
#endif

typedef uint32_t dot_unsigned __attribute__((vector_size(sizeof(dot_sum))));

QLM_INLINE dot_sum dot_zero(void) { return (dot_sum){0}; }

/* Unsigned, because sums wrap. */
QLM_INLINE dot_sum dot_add(dot_sum x, dot_sum y) { return (dot_sum)((dot_unsigned)x + (dot_unsigned)y); }

QLM_INLINE dot_sum dot_first(const int32_t *c, size_t option)
{
    (void)c, (void)option;
    return dot_zero();
}

QLM_INLINE void dot_store(int32_t *c, dot_sum sum, size_t option)
{
    (void)option;
    __builtin_memcpy(c, &sum, sizeof sum);
}

#define TILE(name) dot_##name
#define TILE_C int32_t
#define TILE_MR MR
#define TILE_COLUMNS DOT_COLUMNS
#define TILE_LEFT_BYTES (K_STEP * LEFT_BYTES)
#define TILE_STEP_BYTES (NR * K_STEP)
#define TILE_KEEP DOT_KEEP
#define TILE_SPLIT 1
#define TILE_TWO_ROWS DOT_TWO_ROWS
#include "gemm.inc.h"

QLM_KERNEL(void, gemm_8)
(size_t m, size_t kg, const void *a, size_t lda, const int8_t *b, int32_t *c, size_t ldc)
{ dot_run(m, kg, a, lda, (const char *)b, c, ldc, 0); }

#include "linear.inc.h"

QLM_INLINE uint32_t left_element(const void *a, size_t i)
{
    if (LEFT == QLM_LEFT_U8) return ((const uint8_t *)a)[i];
    if (LEFT == QLM_LEFT_S8) return (uint32_t)((const int8_t *)a)[i];
    return (uint32_t)((const int16_t *)a)[i];
}

/* The product of whole registers with ones, then element by element; unsigned, because sums wrap. */
QLM_KERNEL(int32_t, left_sum)
(const void *a, size_t n)
{
    const size_t lanes = sizeof(dot_left) / LEFT_BYTES;
    const char *at = a;
    dot_sum even = dot_zero(), odd = dot_zero();
    size_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes, at += 2 * sizeof(dot_left)) {
        even = dot_step(even, dot_load_whole(at), dot_ones());
        odd = dot_step(odd, dot_load_whole(at + sizeof(dot_left)), dot_ones());
    }
    uint32_t parts[sizeof(dot_sum) / 4], sum = 0;
    dot_store((int32_t *)parts, dot_add(even, odd), 0);
    for (size_t l = 0; l < sizeof parts / sizeof *parts; l++) sum += parts[l];
    for (; i < n; i++) sum += left_element(a, i);
    return (int32_t)sum;
}

#include "unpack.inc.h"
