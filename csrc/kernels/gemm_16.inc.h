/* gemm_16.inc.h: the exact int16 products over an instruction that adds pairs of int16 products to an int32 lane
 * (vpdpwssd; vpmaddwd and vpaddd).  The including file defines
 *
 *   word_sum                     a register of sums, a vector of int32_t
 *   word_left, word_right, word_load_left(a), word_load_right(b, column), word_step(sum, left, right)
 *   word_high(x), word_low(x)    of each int16 x: x >> 8, and its low byte, 0 to 255
 *   WORD_KEEP(x)                 as TILE_KEEP in gemm.inc.h
 *   WORD_NR, WORD_COLUMNS, WORD_ROWS, WORD_SPLIT_ROWS     the tiles of gemm_16_8 and gemm_16
 *
 * A product by a code of 8 bits is at most 2^15 * 255 in magnitude, so 128 pairs add up to at most 2 * 128 * 2^15 * 255
 * < 2^31: a register takes WORD_BLOCK steps before its lanes are added to 64 bits, and what leaves the registers is a
 * few percent of the work.
 *
 * Two factors of 16 bits leave no such room: two products of -32768 alone make 2^31.  So b = 256 high + low, each
 * factor of 8 bits: two instructions a step, twice the accumulators, and half of gemm_16_8's rate.  (Before that a step
 * was vpmaddwd, a bias that makes the pair unsigned, and two additions to 64-bit lanes: six instructions.)
 */
#define WORD_BLOCK 128

typedef uint32_t word_unsigned __attribute__((vector_size(sizeof(word_sum))));

/* ---- one factor of 8 bits --------------------------------------------------------------------------------------- */

typedef word_sum narrow_sum;
typedef word_left narrow_left;
typedef word_right narrow_right;

QLM_INLINE narrow_left narrow_load_left(const char *a) { return word_load_left(a); }

QLM_INLINE narrow_right narrow_load_right(const char *b, int column) { return word_load_right(b, column); }

QLM_INLINE narrow_sum narrow_step(narrow_sum sum, narrow_left left, narrow_right right)
{ return word_step(sum, left, right); }

QLM_INLINE narrow_sum narrow_zero(void) { return (narrow_sum){0}; }

QLM_INLINE narrow_sum narrow_add(narrow_sum x, narrow_sum y)
{ return (narrow_sum)((word_unsigned)x + (word_unsigned)y); }

QLM_INLINE narrow_sum narrow_first(const int32_t *c, size_t option)
{
    (void)c, (void)option;
    return narrow_zero();
}

QLM_INLINE void narrow_store(int32_t *c, narrow_sum sum, size_t option)
{
    (void)option;
    __builtin_memcpy(c, &sum, sizeof sum);
}

#define TILE(name) narrow_##name
#define TILE_C int32_t
#define TILE_MR WORD_ROWS
#define TILE_COLUMNS WORD_COLUMNS
#define TILE_LEFT_BYTES 4
#define TILE_STEP_BYTES (WORD_NR * 4)
#define TILE_KEEP(x) WORD_KEEP(x)
#define TILE_SPLIT 1
#define TILE_TWO_ROWS 0
#include "gemm.inc.h"

/* c = part, or c += part. */
QLM_INLINE void narrow_widen(size_t m, const int32_t *part, int64_t *c, size_t ldc, int first)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < WORD_NR; j++) c[i * ldc + j] = (first ? 0 : c[i * ldc + j]) + part[i * WORD_NR + j];
}

QLM_KERNEL(void, gemm_16_8)
(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc)
{
    int32_t part[WORD_ROWS * WORD_NR];
    size_t done = 0;
    do {
        size_t steps = k2 - done < WORD_BLOCK ? k2 - done : WORD_BLOCK;
        narrow_run(m, steps, (const char *)(a + 2 * done), 2 * lda, (const char *)(b + 2 * done * WORD_NR), part,
                   WORD_NR, 0);
        if (done)
            narrow_widen(m, part, c, ldc, 0);
        else
            narrow_widen(m, part, c, ldc, 1);
        done += steps;
    } while (done < k2);
}

/* ---- both of 16 bits -------------------------------------------------------------------------------------------- */

typedef struct {
    word_sum high, low;
} split_sum;
typedef word_left split_left;
typedef struct {
    word_right high, low;
} split_right;

QLM_INLINE split_left split_load_left(const char *a) { return word_load_left(a); }

QLM_INLINE split_right split_load_right(const char *b, int column)
{
    word_right both = word_load_right(b, column), high = word_high(both), low = word_low(both);
    WORD_KEEP(high);
    WORD_KEEP(low);
    return (split_right){high, low};
}

QLM_INLINE split_sum split_step(split_sum sum, split_left left, split_right right)
{ return (split_sum){word_step(sum.high, left, right.high), word_step(sum.low, left, right.low)}; }

QLM_INLINE split_sum split_zero(void) { return (split_sum){narrow_zero(), narrow_zero()}; }

QLM_INLINE split_sum split_add(split_sum x, split_sum y)
{ return (split_sum){narrow_add(x.high, y.high), narrow_add(x.low, y.low)}; }

QLM_INLINE split_sum split_first(const int32_t *c, size_t option)
{
    (void)c, (void)option;
    return split_zero();
}

QLM_INLINE void split_store(int32_t *c, split_sum sum, size_t option)
{
    narrow_store(c, sum.high, option);
    narrow_store(c + sizeof sum.high / sizeof *c, sum.low, option);
}

#define TILE(name) split_##name
#define TILE_C int32_t
#define TILE_MR WORD_SPLIT_ROWS
#define TILE_COLUMNS WORD_COLUMNS
#define TILE_LEFT_BYTES 4
#define TILE_STEP_BYTES (WORD_NR * 4)
#define TILE_KEEP(x)
#define TILE_SPLIT 1
#define TILE_TWO_ROWS 0
#include "gemm.inc.h"

/* A register's worth of high sums is followed by the low ones. */
QLM_INLINE void split_widen(size_t m, const int32_t *part, int64_t *c, size_t ldc, int first)
{
    const size_t width = sizeof(word_sum) / sizeof(int32_t);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < WORD_NR; j += width, part += 2 * width)
            for (size_t l = 0; l < width; l++)
                c[i * ldc + j + l] = (first ? 0 : c[i * ldc + j + l]) + (int64_t)part[l] * 256 + part[width + l];
}

QLM_INLINE void split_product(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c,
                              size_t ldc)
{
    int32_t part[WORD_SPLIT_ROWS * 2 * WORD_NR];
    size_t done = 0;
    do {
        size_t steps = k2 - done < WORD_BLOCK ? k2 - done : WORD_BLOCK;
        split_run(m, steps, (const char *)(a + 2 * done), 2 * lda, (const char *)(b + 2 * done * WORD_NR), part,
                  2 * WORD_NR, 0);
        if (done)
            split_widen(m, part, c, ldc, 0);
        else
            split_widen(m, part, c, ldc, 1);
        done += steps;
    } while (done < k2);
}

QLM_KERNEL(void, gemm_16)
(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc)
{
    size_t runs = (m + WORD_SPLIT_ROWS - 1) / WORD_SPLIT_ROWS;
    for (; runs; runs--) {
        size_t rows = (m + runs - 1) / runs;
        split_product(rows, k2, a, lda, b, c, ldc);
        a += rows * lda, c += rows * ldc, m -= rows;
    }
}
