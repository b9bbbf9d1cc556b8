/* The matrix products of NEON, and the int8 kernels where it has no dot product. */
#if defined(__aarch64__)

#define QLM_ISA neon
#include "vec_neon.h"

#include "shapes.h"

#define GEMM_F32_MR QLM_NEON_MR_F32
#define GEMM_F32_COLUMNS 1
#define GEMM_F32_KEEP(x)
#include "gemm_f32.inc.h"

/* Exact int16: products in 32 bits, neighbours in k added into 64. */
typedef struct {
    int64x2_t low, high;
} s16_sum;
typedef int16x8_t s16_left, s16_right;

QLM_INLINE s16_left s16_load_left(const char *a)
{
    int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return vreinterpretq_s16_s32(vdupq_n_s32(pair));
}

QLM_INLINE s16_right s16_load_right(const char *b, int column) { return vld1q_s16((const int16_t *)b + 8 * column); }

QLM_INLINE s16_sum s16_step(s16_sum sum, s16_left left, s16_right right)
{
    return (s16_sum){vpadalq_s32(sum.low, vmull_s16(vget_low_s16(left), vget_low_s16(right))),
                     vpadalq_s32(sum.high, vmull_high_s16(left, right))};
}

QLM_INLINE s16_sum s16_first(const int64_t *c, size_t option)
{
    (void)c, (void)option;
    return (s16_sum){vdupq_n_s64(0), vdupq_n_s64(0)};
}

QLM_INLINE void s16_store(int64_t *c, s16_sum sum, size_t option)
{
    (void)option;
    vst1q_s64(c, sum.low);
    vst1q_s64(c + 2, sum.high);
}

#define TILE(name) s16_##name
#define TILE_C int64_t
#define TILE_MR 2
#define TILE_COLUMNS 4
#define TILE_LEFT_BYTES 4
#define TILE_STEP_BYTES (QLM_NEON_NR * 4)
#define TILE_KEEP(x)
#define TILE_SPLIT 0
#define TILE_TWO_ROWS 0
#include "gemm.inc.h"

/* With 8 bits on one side 256 products, at most 2^15 * 255 each, fit the 32 bits of a lane: one instruction for four,
 * not two, before the lanes are added into 64. */
#define WORD_BLOCK 256

typedef struct {
    int32x4_t low, high;
} narrow_sum;
typedef int16x8_t narrow_left, narrow_right;

QLM_INLINE narrow_left narrow_load_left(const char *a) { return s16_load_left(a); }

QLM_INLINE narrow_right narrow_load_right(const char *b, int column) { return s16_load_right(b, column); }

QLM_INLINE narrow_sum narrow_step(narrow_sum sum, narrow_left left, narrow_right right)
{
    return (narrow_sum){vmlal_s16(sum.low, vget_low_s16(left), vget_low_s16(right)),
                        vmlal_high_s16(sum.high, left, right)};
}

QLM_INLINE narrow_sum narrow_first(const int64_t *c, size_t add)
{
    (void)c, (void)add;
    return (narrow_sum){vdupq_n_s32(0), vdupq_n_s32(0)};
}

QLM_INLINE void narrow_store(int64_t *c, narrow_sum sum, size_t add)
{
    int64x2_t none = vdupq_n_s64(0);
    vst1q_s64(c, vpadalq_s32(add ? vld1q_s64(c) : none, sum.low));
    vst1q_s64(c + 2, vpadalq_s32(add ? vld1q_s64(c + 2) : none, sum.high));
}

#define TILE(name) narrow_##name
#define TILE_C int64_t
#define TILE_MR 3
#define TILE_COLUMNS 4
#define TILE_LEFT_BYTES 4
#define TILE_STEP_BYTES (QLM_NEON_NR * 4)
#define TILE_KEEP(x)
#define TILE_SPLIT 0
#define TILE_TWO_ROWS 0
#include "gemm.inc.h"

QLM_INLINE void narrow_product(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c,
                               size_t ldc)
{
    size_t done = 0;
    do {
        size_t steps = k2 - done < WORD_BLOCK ? k2 - done : WORD_BLOCK;
        narrow_run(m, steps, (const char *)(a + 2 * done), 2 * lda, (const char *)(b + 2 * done * QLM_NEON_NR), c, ldc,
                   done != 0);
        done += steps;
    } while (done < k2);
}

/* As many rows as leave registers for the operands. */
QLM_KERNEL(void, gemm_16)
(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc)
{
    for (size_t row = 0; row < m; row += 2)
        s16_run(m - row < 2 ? 1 : 2, k2, (const char *)(a + row * lda), 2 * lda, (const char *)b, c + row * ldc, ldc,
                0);
}

QLM_KERNEL(void, gemm_16_8)
(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc)
{
    for (size_t row = 0; row < m; row += 3)
        narrow_product(m - row < 3 ? m - row : 3, k2, a + row * lda, lda, b, c + row * ldc, ldc);
}

/* Exact int8: one product s8 x s8 fits int16 (16384 at most), two (-128)^2 do not, so each is added into 32 bits at
 * once: smull, then sadalp, which adds the two neighbours in k.  (smlal on codes widened to int16 takes as many
 * instructions, all of them multiplications: half the rate of CPUs with one multiplier and one more pipe to add.) */
#define LEFT QLM_NEON_LEFT
#define K_STEP QLM_NEON_K_STEP
#define NR QLM_NEON_NR
#define MR QLM_NEON_MR_8
#define DOT_COLUMNS 4
#define DOT_KEEP(x)

typedef int32x4_t dot_sum;
typedef int8x8_t dot_left, dot_right;

QLM_INLINE dot_left dot_load_left(const char *a)
{
    int16_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return vreinterpret_s8_s16(vdup_n_s16(pair));
}

QLM_INLINE dot_left dot_load_whole(const char *a) { return vld1_s8((const int8_t *)a); }

QLM_INLINE dot_right dot_ones(void) { return vdup_n_s8(1); }

QLM_INLINE dot_right dot_load_right(const char *b, int column) { return vld1_s8((const int8_t *)b + 8 * column); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right)
{ return vpadalq_s16(sum, vmull_s8(right, left)); }

#define DOT_LANES(sums, s) ((v16i){(sums)[4 * (s)], (sums)[4 * (s) + 1], (sums)[4 * (s) + 2], (sums)[4 * (s) + 3]})

#include "int8.inc.h"

#define GROUP_ROWS MR
#define GROUP_HELD 0
#define GROUP_USUAL(m) 0
#include "gemm_8_groups.inc.h"

/* 4-bit weights: of products of at most 1024, four by four of k, eight steps fit an int16. */
#include "nibbles_neon.h"

#define N4_LEFT QLM_NEON_LEFT_4
#define N4_MR QLM_NEON_MR_4
#define N4_COLUMNS 4

QLM_INLINE void e4_load(const char *b, int8x16_t right[4])
{
    for (int column = 0; column < 4; column++) right[column] = vld1q_s8((const int8_t *)b + 16 * column);
}

typedef int16x8_t pair_sum;
typedef int8x16_t pair_left, pair_right;

QLM_INLINE pair_left pair_load_left(const char *a) { return n4_four(a); }

QLM_INLINE pair_left pair_ones(void) { return vdupq_n_s8(1); }

QLM_INLINE pair_sum pair_first(pair_left left, pair_right right)
{ return vpaddq_s16(vmull_s8(vget_low_s8(left), vget_low_s8(right)), vmull_high_s8(left, right)); }

QLM_INLINE pair_sum pair_add(pair_sum x, pair_sum y) { return vaddq_s16(x, y); }

QLM_INLINE dot_sum pair_widen(pair_sum x) { return vpaddlq_s16(x); }

#include "gemm_4_16.inc.h"

#endif
