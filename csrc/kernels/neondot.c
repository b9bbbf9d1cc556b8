/* The int8 kernels of NEON with dot product: sdot adds four products s8 x s8 to an int32. */
#if defined(__aarch64__)

#define QLM_ISA neondot
#define QLM_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#include "vec_neon.h"

#include "shapes.h"

typedef int32x4_t dot_sum;
typedef int8x16_t dot_left, dot_right;

QLM_INLINE dot_left dot_load_left(const char *a)
{
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

QLM_INLINE dot_right dot_load_right(const char *b, int column) { return vld1q_s8((const int8_t *)b + 16 * column); }

QLM_INLINE dot_sum dot_step(dot_sum sum, dot_left left, dot_right right) { return vdotq_s32(sum, right, left); }

QLM_INLINE dot_sum dot_zero(void) { return vdupq_n_s32(0); }

QLM_INLINE dot_sum dot_first(const int32_t *c, size_t option)
{
    (void)c, (void)option;
    return dot_zero();
}

QLM_INLINE dot_sum dot_add(dot_sum x, dot_sum y) { return vaddq_s32(x, y); }

QLM_INLINE void dot_store(int32_t *c, dot_sum sum, size_t option)
{
    (void)option;
    vst1q_s32(c, sum);
}

#define TILE(name) dot_##name
#define TILE_C int32_t
#define TILE_MR QLM_NEONDOT_MR_8
#define TILE_COLUMNS 4
#define TILE_STEP_BYTES (QLM_NEONDOT_NR * QLM_NEONDOT_K_STEP)
#define TILE_KEEP(x)
#define TILE_SPLIT 1
#include "gemm.inc.h"

QLM_KERNEL(void, gemm_8)
(size_t m, size_t kg, const void *a, size_t lda, const int8_t *b, int32_t *c, size_t ldc)
{ dot_run(m, kg, a, lda, (const char *)b, c, ldc, 0); }

#define LEFT QLM_NEONDOT_LEFT
#define K_STEP QLM_NEONDOT_K_STEP
#define NR QLM_NEONDOT_NR
#include "left.inc.h"
#include "unpack_8.inc.h"

#endif
