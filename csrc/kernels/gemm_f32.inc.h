/* gemm_f32.inc.h: the float product over the lanes of a vec_<isa>.h.  Each output is one chain of fused multiply-adds
 * in ascending k, so its sum is never split.  The including file defines GEMM_F32_MR, GEMM_F32_COLUMNS = nr / 16
 * and GEMM_F32_KEEP (gemm.inc.h: TILE_KEEP).
 */
#define TILE(name) f32_##name
#define TILE_C float
#define TILE_MR GEMM_F32_MR
#define TILE_COLUMNS GEMM_F32_COLUMNS
#define TILE_LEFT_BYTES 4
#define TILE_STEP_BYTES (TILE_COLUMNS * sizeof(v16f))
#define TILE_KEEP(x) GEMM_F32_KEEP(x)
#define TILE_SPLIT 0
#define TILE_TWO_ROWS 0

typedef v16f f32_sum, f32_left, f32_right;

QLM_INLINE f32_left f32_load_left(const char *a)
{
    float value;
    __builtin_memcpy(&value, a, sizeof value);
    return v16_f_set1(value);
}

QLM_INLINE f32_right f32_load_right(const char *b, int column) { return v16_f_load((const float *)b + 16 * column); }

QLM_INLINE f32_sum f32_step(f32_sum sum, f32_left left, f32_right right) { return v16_f_fma(left, right, sum); }

QLM_INLINE f32_sum f32_first(const float *c, size_t accumulate)
{ return accumulate ? v16_f_load(c) : v16_f_set1(0.0f); }

QLM_INLINE void f32_store(float *c, f32_sum sum, size_t accumulate)
{
    (void)accumulate;
    v16_f_store(c, sum);
}

#include "gemm.inc.h"

QLM_KERNEL(void, gemm_f32)
(size_t m, size_t k, const float *a, size_t lda, const float *b, float *c, size_t ldc, int accumulate)
{ f32_run(m, k, (const char *)a, lda * sizeof *a, (const char *)b, c, ldc, accumulate != 0); }
