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

/* One row by four panels at once, or two by two: the chains of one panel are too few to hide the latency of a step, and
 * it would be read at 16 bytes a cycle (AVX2).  No index may be a variable, as in gemm.inc.h.  Sum s is that of 16
 * outputs of a row. */
#define GEMV_TILES 4
#define GEMV_EACH_1(X) X(0) X(1) X(2) X(3)
#define GEMV_EACH_2(X) GEMV_EACH_1(X) X(4) X(5) X(6) X(7)
#define GEMV_EACH TILE_PASTE(GEMV_EACH_, GEMM_F32_COLUMNS)
#define GEMV_NR (16 * GEMM_F32_COLUMNS)
#define GEMV_ROW(s) ((s) / GEMM_F32_COLUMNS % m)
#define GEMV_PANEL(s) ((s) / GEMM_F32_COLUMNS / m)
#define GEMV_COLUMN(s) ((s) % GEMM_F32_COLUMNS * 16)
#define GEMV_RIGHT(s) v16_f_load(b + GEMV_PANEL(s) * k * GEMV_NR + GEMV_COLUMN(s))
#define GEMV_ZERO(s) v16f sum##s = v16_f_set1(0.0f);
#define GEMV_STEP(s) sum##s = v16_f_fma(GEMV_ROW(s) ? second : first, GEMV_RIGHT(s), sum##s);
#define GEMV_STORE(s) v16_f_store(c + GEMV_ROW(s) * ldc + GEMV_PANEL(s) * GEMV_NR + GEMV_COLUMN(s), sum##s);

QLM_INLINE void gemv_some(const size_t m, size_t k, const float *a, size_t lda, const float *b, float *c, size_t ldc)
{
    GEMV_EACH(GEMV_ZERO)
    for (size_t p = 0; p < k; p++, b += GEMV_NR) {
        v16f first = v16_f_set1(a[p]), second = m > 1 ? v16_f_set1(a[lda + p]) : first;
        GEMV_EACH(GEMV_STEP)
    }
    GEMV_EACH(GEMV_STORE)
}

/* Where fewer panels are left than are taken at once, some are done again. */
QLM_INLINE void gemv_rows(const size_t m, size_t k, size_t panels, const float *a, size_t lda, const float *b, float *c,
                          size_t ldc)
{
    const size_t some = GEMV_TILES / m;
    for (size_t p = 0; p < panels; p += some) {
        if (panels >= some && p > panels - some) p = panels - some;
        if (panels >= some)
            gemv_some(m, k, a, lda, b + p * k * GEMV_NR, c + p * GEMV_NR, ldc);
        else
            for (size_t q = p; q < panels; q++)
                f32_run(m, k, (const char *)a, lda * sizeof *a, (const char *)(b + q * k * GEMV_NR), c + q * GEMV_NR,
                        ldc, 0);
    }
}

QLM_KERNEL(void, gemv_f32)
(size_t m, size_t k, size_t panels, const float *a, size_t lda, const float *b, float *c, size_t ldc)
{
    if (m == 1)
        gemv_rows(1, k, panels, a, lda, b, c, ldc);
    else
        gemv_rows(2, k, panels, a, lda, b, c, ldc);
}
