/* The matrix products and the int8 kernels as plain loops: their definition.  All other versions give the same bits. */
#define QLM_ISA scalar
#include "vec_scalar.h"

#include "groups.h"
#include "half.h"
#include "shapes.h"

#define NR QLM_SCALAR_NR
#define K_STEP QLM_SCALAR_K_STEP

QLM_KERNEL(void, gemm_f32)
(size_t m, size_t k, const float *a, size_t lda, const float *b, float *c, size_t ldc, int accumulate)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < NR; j++) {
            float sum = accumulate ? c[i * ldc + j] : 0.0f;
            for (size_t p = 0; p < k; p++) sum = fmaf(a[i * lda + p], b[p * NR + j], sum);
            c[i * ldc + j] = sum;
        }
}

QLM_KERNEL(void, gemv_f32)
(size_t m, size_t k, size_t panels, const float *a, size_t lda, const float *b, float *c, size_t ldc)
{
    for (size_t p = 0; p < panels; p++) qlm_gemm_f32_scalar(m, k, a, lda, b + p * k * NR, c + p * NR, ldc, 0);
}

QLM_INLINE void product_16(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < NR; j++) {
            int64_t sum = 0;
            for (size_t p = 0; p < 2 * k2; p++) sum += (int64_t)a[i * lda + p] * b[(p / 2 * NR + j) * 2 + p % 2];
            c[i * ldc + j] = sum;
        }
}

QLM_KERNEL(void, gemm_16)
(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc)
{ product_16(m, k2, a, lda, b, c, ldc); }

QLM_KERNEL(void, gemm_16_8)
(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc)
{ product_16(m, k2, a, lda, b, c, ldc); }

/* The code of output j at k = p of an int8 panel. */
static int8_t panel_code(const int8_t *b, size_t p, size_t j) { return b[(p / K_STEP * NR + j) * K_STEP + p % K_STEP]; }

QLM_KERNEL(void, gemm_8)
(size_t m, size_t kg, const void *a, size_t lda, const int8_t *b, int32_t *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        const uint8_t *row = (const uint8_t *)a + i * lda;
        for (size_t j = 0; j < NR; j++) {
            uint32_t sum = 0;
            for (size_t p = 0; p < K_STEP * kg; p++) sum += (uint32_t)(row[p] * panel_code(b, p, j));
            c[i * ldc + j] = (int32_t)sum;
        }
    }
}

QLM_KERNEL(void, linear_8)
(size_t m, size_t n, size_t kg, const void *a, size_t lda, const int8_t *b, const int32_t *zx, const int32_t *rest,
 const int32_t *sums, const int32_t *zw, const float *sw, const float *sx, const float *bias, const float *residual,
 size_t ldr, float *out, size_t ldo, int far, const void *next, size_t lines)
{
    (void)far, (void)next, (void)lines;
    int32_t acc[QLM_SCALAR_MR_8 * NR];
    for (size_t j0 = 0; j0 < n; j0 += NR, b += kg * NR * K_STEP) {
        qlm_gemm_8_scalar(m, kg, a, lda, b, acc, NR);
        for (size_t i = 0; i < m; i++)
            for (size_t j = j0; j < j0 + NR && j < n; j++) {
                uint32_t sum = (uint32_t)acc[i * NR + j - j0] - (uint32_t)zx[i] * (uint32_t)sums[j];
                if (zw) sum -= (uint32_t)zw[j] * (uint32_t)rest[i];
                float y = ((float)(int32_t)sum * sw[j]) * sx[i];
                if (bias) y += bias[j];
                if (residual) y += residual[i * ldr + j];
                out[i * ldo + j] = y == y ? y : __builtin_nanf("");
            }
    }
}

/* The same dequantized. */
static float panel_value(const int8_t *b, size_t p, size_t j, float scale, float zero, float offset)
{
    float product = ((float)panel_code(b, p, j) - zero) * scale;
    return product + offset;
}

QLM_KERNEL(void, unpack_8)
(const int8_t *b, size_t k0, size_t count, const float *scale, const float *zero, const float *offset, float *out)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < NR; j++)
            out[i * NR + j] = panel_value(b, k0 + i, j, scale[j], zero ? zero[j] : 0.0f, offset ? offset[j] : -0.0f);
}

QLM_KERNEL(void, gemv_8)
(size_t m, size_t count, size_t panels, const float *a, size_t lda, const int8_t *b, size_t stride, size_t k0,
 const float *scale, const float *zero, const float *offset, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < panels * NR; j++) {
            float *sum = c + i * ldc + j, zw = zero ? zero[j] : 0.0f, shift = offset ? offset[j] : -0.0f;
            for (size_t l = 0; l < count; l++)
                *sum =
                    fmaf(a[i * lda + l], panel_value(b + j / NR * stride, k0 + l, j % NR, scale[j], zw, shift), *sum);
        }
}

/* How the codes of a panel are read. */
typedef int8_t panel_reader(const int8_t *b, size_t p, size_t j);

struct group_sums {
    uint32_t product, weights;
};

/* Of output j of row i over group n; both wrap. */
static struct group_sums sum_group(const struct qlm_groups *g, panel_reader *code_at, size_t n, size_t i, size_t j)
{
    struct group_sums sums = {0, 0};
    size_t padded = (g->group + K_STEP - 1) / K_STEP * K_STEP;
    for (size_t p = n * padded; p < (n + 1) * padded; p++) {
        int8_t code = code_at(g->b, p, j);
        sums.product += (uint32_t)(((const uint8_t *)g->a)[i * g->lda + p] * code);
        sums.weights += (uint32_t)code;
    }
    return sums;
}

static float group_scale(const struct qlm_groups *g, size_t at)
{ return g->half ? qlm_half_value(((const uint16_t *)g->sw)[at]) : ((const float *)g->sw)[at]; }

static float add_group(const struct qlm_groups *g, panel_reader *code_at, size_t n, size_t i, size_t j, float t)
{
    struct group_sums sums = sum_group(g, code_at, n, i, j);
    size_t row = n * g->rows + i, column = n * NR + j, left = g->k - n * g->group;
    uint32_t count = (uint32_t)(left < g->group ? left : g->group), zw = g->zw ? (uint32_t)g->zw[column] : 0;
    float sw = group_scale(g, column);
    uint32_t acc = sums.product;
    if (g->zx) acc -= (uint32_t)g->zx[g->sx ? row : 0] * sums.weights;
    if (g->zw) acc -= zw * (uint32_t)(int32_t)g->rest[row];
    float value = (float)(int32_t)acc;
    t = g->sx ? fmaf(value * sw, g->sx[row], t) : fmaf(value, sw, t);
    if (g->ow) t = fmaf(g->centred[row], g->ow[column], t);
    if (g->ox) t = fmaf(g->ox[row], sw * (float)(int32_t)(sums.weights - count * zw), t);
    return t;
}

/* The linear's output: zero point or offset of the row, bias, residual. */
static float finish_groups(const struct qlm_groups *g, size_t i, size_t j, float t)
{
    float shift = (g->zero ? g->zero : g->shift)[i] * g->chain[j];
    if (g->zero) {
        t = (t - shift) * g->scale[i];
    } else {
        t = t * g->scale[i];
        t = t + shift;
    }
    if (g->bias) t = t + g->bias[j];
    if (g->residual) t = t + g->residual[i * g->ldr + j];
    return t == t ? t : __builtin_nanf("");
}

static void run_groups(const struct qlm_groups *g, panel_reader *code_at, size_t m)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < NR; j++) {
            float t = 0.0f;
            for (size_t n = 0; n * g->group < g->k; n++) t = add_group(g, code_at, n, i, j, t);
            g->out[i * g->ldo + j] = g->scale ? finish_groups(g, i, j, t) : t;
        }
}

QLM_KERNEL(void, gemm_8_groups)
(size_t m, size_t k, size_t group, const void *a, size_t lda, const int8_t *b, const void *sw, int half,
 const int8_t *zw, const float *ow, const int32_t *zx, const float *rest, const float *sx, const float *centred,
 const float *ox, size_t rows, const float *scale, const float *zero, const float *shift, const float *chain,
 const float *bias, const float *residual, size_t ldr, float *out, size_t ldo, int far)
{
    struct qlm_groups g = {k,  group, a,     lda,  b,     sw,    half, zw,       ow,  zx,  rest, sx, centred,
                           ox, rows,  scale, zero, shift, chain, bias, residual, ldr, out, ldo,  far};
    run_groups(&g, panel_code, m);
}

/* The same of a panel of nibbles. */
static int8_t nibble_code(const int8_t *b, size_t p, size_t j)
{
    size_t at = j * 4 + p % 4, half = 2 * NR;
    uint8_t byte = (uint8_t)b[p / 4 * half + at % half];
    return (int8_t)(((at < half ? byte : byte >> 4) & 15) ^ 8) - 8;
}

QLM_KERNEL(void, gemm_4_groups)
(size_t m, size_t k, size_t group, const void *a, size_t lda, const void *b, int expanded, const void *sw, int half,
 const int8_t *zw, const float *ow, const int32_t *zx, const float *rest, const float *sx, const float *centred,
 const float *ox, size_t rows, const float *scale, const float *zero, const float *shift, const float *chain,
 const float *bias, const float *residual, size_t ldr, float *out, size_t ldo, int far)
{
    struct qlm_groups g = {k,  group, a,     lda,  b,     sw,    half, zw,       ow,  zx,  rest, sx, centred,
                           ox, rows,  scale, zero, shift, chain, bias, residual, ldr, out, ldo,  far};
    run_groups(&g, expanded ? panel_code : nibble_code, m);
}

QLM_KERNEL(void, gemm_4)
(size_t m, size_t steps, const void *a, size_t lda, const void *b, int expanded, int32_t *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < NR; j++) {
            const uint8_t *row = (const uint8_t *)a + i * lda;
            uint32_t sum = 0;
            for (size_t p = 0; p < 4 * steps; p++)
                sum += (uint32_t)(row[p] * (expanded ? panel_code(b, p, j) : nibble_code(b, p, j)));
            c[i * ldc + j] = (int32_t)sum;
        }
}

QLM_KERNEL(void, expand_4)
(const void *b, size_t k, size_t group, const int8_t *zw, int8_t *out)
{
    size_t padded = (group + 3) / 4 * 4;
    for (size_t n = 0; n * group < k; n++)
        for (size_t i = 0; i < padded; i++)
            for (size_t j = 0; j < NR; j++) {
                size_t p = n * padded + i;
                int8_t zero = zw && i < group && n * group + i < k ? zw[n * NR + j] : 0;
                out[(p / 4 * NR + j) * 4 + p % 4] = (int8_t)(nibble_code(b, p, j) - zero);
            }
}

QLM_KERNEL(void, unpack_4)
(const void *b, size_t k0, size_t count, const float *scale, const float *zero, const float *offset, float *out)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < NR; j++) {
            float product = ((float)nibble_code(b, k0 + i, j) - zero[j]) * scale[j];
            out[i * NR + j] = product + offset[j];
        }
}

QLM_KERNEL(int32_t, left_sum_4)(const void *a, size_t n) { return QLM_NAME(left_sum)(a, n); }

QLM_KERNEL(int32_t, left_sum)
(const void *a, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((const uint8_t *)a)[i];
    return (int32_t)sum;
}

#define LEFT QLM_SCALAR_LEFT
#include "left.inc.h"
