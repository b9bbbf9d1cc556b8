/* qparams.c: scales, zero points and offsets, as numerics.md ("Parameters") defines them.
 *
 * Everything is computed in float64 and rounded to float32 once.  A difference or a quotient of float32 values in
 * float64 cannot overflow, and a product of a code (up to 17 bits) and a float32 (24 bits) is exact in float64's 53
 * bits, so the comparisons below are exact.
 */
#include "common.h"
#include "kernels/params.h"
#include "qlm.h"

static double magnitude(double x) { return x < 0 ? -x : x; }

/* An empty range, as of a group without a finite value, counts as [0, 0]; adding +0 makes -0 into +0. */
static void read_range(float min, float max, double *lo, double *hi)
{
    int empty = !(min <= max);
    *lo = empty ? 0.0 : (double)min + 0.0;
    *hi = empty ? 0.0 : (double)max + 0.0;
}

void qlm_code_bounds(const struct qlm_type *type, int symmetric, int32_t *lo, int32_t *hi)
{
    *lo = symmetric ? type->min + 1 : type->min;
    *hi = type->max;
}

static struct qlm_qparams symmetric_params(double lo, double hi, const struct qlm_type *type)
{
    double amax = magnitude(lo) > magnitude(hi) ? magnitude(lo) : magnitude(hi);
    int32_t bound = (1 << (type->bits - 1)) - 1;
    return (struct qlm_qparams){qlm_bounded_scale(qlm_symmetric_scale(amax, bound), bound), type->max - bound};
}

static struct qlm_qparams asymmetric_params(double lo, double hi, const struct qlm_type *type)
{
    if (lo > 0) lo = 0;
    if (hi < 0) hi = 0;
    float scale = qlm_asymmetric_scale(lo, hi, type->max - type->min);
    double zero = qlm_zero_point(lo, scale, type->min, type->max);
    return (struct qlm_qparams){qlm_bounded_scale(scale, qlm_farther(zero, type->min, type->max)), (int32_t)zero};
}

void qlm_choose_many_qparams(const float *min, const float *max, size_t count, const struct qlm_type *type,
                             int symmetric, struct qlm_qparams *params)
{
    uint64_t mode = qlm_float_mode_enter();
    for (size_t i = 0; i < count; i++) {
        double lo, hi;
        read_range(qlm_pin(min[i]), qlm_pin(max[i]), &lo, &hi);
        params[i] = symmetric ? symmetric_params(lo, hi, type) : asymmetric_params(lo, hi, type);
        params[i].scale = qlm_pin(params[i].scale);
    }
    qlm_float_mode_leave(mode);
}

struct qlm_qparams qlm_choose_qparams(float min, float max, const struct qlm_type *type, int symmetric)
{
    struct qlm_qparams params;
    qlm_choose_many_qparams(&min, &max, 1, type, symmetric, &params);
    return params;
}

/* Both ends' midpoints, in the float32 operations of dequantizing; those between lie between them. */
static int midpoints_overflow(const struct qlm_type *type, float scale, float offset)
{
    float first = (float)type->min * scale, last = (float)type->max * scale;
    return !qlm_is_finite(first) || !qlm_is_finite(last) || !qlm_is_finite(first + offset) ||
           !qlm_is_finite(last + offset);
}

static enum qlm_status interval_params(double lo, double hi, const struct qlm_type *type, float *scale, float *offset,
                                       int *constant)
{
    *scale = (float)((hi - lo) / (type->max - type->min + 1));
    *constant = *scale <= QLM_SCALE_WITHOUT_INVERSE;
    if (*constant) {
        *scale = 1.0f;
        *offset = (float)((lo + hi) / 2);
        return QLM_OK;
    }
    *offset = (float)(lo + (0.5 - type->min) * *scale);
    return midpoints_overflow(type, *scale, *offset) ? QLM_UNSUPPORTED : QLM_OK;
}

enum qlm_status qlm_interval_params(float min, float max, const struct qlm_type *type, float *scale, float *offset,
                                    int *constant)
{
    uint64_t mode = qlm_float_mode_enter();
    double lo, hi;
    read_range(qlm_pin(min), qlm_pin(max), &lo, &hi);
    enum qlm_status status = interval_params(lo, hi, type, scale, offset, constant);
    qlm_float_mode_leave(mode);
    return status;
}

static float half_down(float magnitude)
{
    if (magnitude < 0x1p-14f) return (float)(int32_t)(magnitude * 0x1p24f) * 0x1p-24f;
    return qlm_float_from_bits(qlm_float_bits(magnitude) & ~0x1fffu);
}

/* Up means nearer to zero for negative values. */
float qlm_round_up_half(float scale)
{
    if (scale != scale || scale == 0) return scale;
    if (scale < -65504.0f) return qlm_is_finite(scale) ? -65504.0f : scale;
    uint64_t mode = qlm_float_mode_enter();
    scale = qlm_pin(scale);
    float rounded = scale > 0 ? qlm_positive_half_up(scale) : -half_down(-scale);
    rounded = qlm_pin(rounded);
    qlm_float_mode_leave(mode);
    return rounded;
}

/* ---- powers --------------------------------------------------------------------------------------------------- */

/* ln x for a positive normal x: x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s), s = (m - 1) / (m + 1).
 * |s| < 0.1716, so the first term left out of the series, 2 s^25 / 25, is under 2^-64 of the first. */
static double natural_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    memcpy(&x, &bits, sizeof x);
    if (x >= 0x1.6a09e667f3bcdp0) {
        x *= 0.5;
        exponent++;
    }
    double s = (x - 1) / (x + 1), square = s * s, series = 0;
    for (int n = 23; n >= 3; n -= 2) series = (series + 1.0 / n) * square;
    return exponent * 0x1.62e42fefa39efp-1 + 2 * (s + s * series);
}

/* e^y for |y| < 700: y = k ln 2 + r with |r| <= ln(2) / 2 and ln 2 in two parts, so that k times the first is exact;
 * the Taylor series to r^13 leaves 2^-57. */
static double exponential(double y)
{
    double k = qlm_rint(y * 0x1.71547652b82fep0);
    double r = (y - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33, series = 1;
    for (int n = 13; n >= 1; n--) series = 1 + series * r / n;
    uint64_t bits = (uint64_t)(1023 + (int64_t)k) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return series * power;
}

#define SMOOTHQUANT_FLOOR 1e-5

static double floored(float x) { return x > SMOOTHQUANT_FLOOR ? (double)x : SMOOTHQUANT_FLOOR; }

void qlm_smoothquant_scales(const float *act, const float *w, size_t n, double alpha, float *s)
{
    uint64_t mode = qlm_float_mode_enter();
    for (size_t j = 0; j < n; j++)
        s[j] = (float)exponential(alpha * natural_log(floored(act[j])) - (1 - alpha) * natural_log(floored(w[j])));
    qlm_float_mode_leave(mode);
}
