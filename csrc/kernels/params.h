/* params.h: scales and zero points as numerics.md ("Parameters") defines them, for qparams.c and for the kernels that
 * find ranges themselves.  Without branches, so that compilers make vectors of a loop over many. */
#ifndef QLM_PARAMS_H
#define QLM_PARAMS_H

#include <stdint.h>
#include <string.h>

#define QLM_PARAMS_INLINE static inline __attribute__((always_inline, unused))

#define QLM_LARGEST_FLOAT 0x1.fffffep127
/* From here on a float64 rounds to infinity: half a unit past the largest float32, a tie that goes to even. */
#define QLM_FLOAT_OVERFLOW 0x1.ffffffp127
/* fl(1 / scale) is infinite at and below 2^-128: the next float32 up has 1 / scale = 2^128 (1 - 2^-21 + ...), which is
 * under QLM_FLOAT_OVERFLOW. */
#define QLM_SCALE_WITHOUT_INVERSE 0x1p-128f
#define QLM_SMALLEST_SCALE 0x1p-126f
/* Of a range below this no code's value overflows: a scale is at most a seventh of it, and codes reach 15 steps. */
#define QLM_SAFE_RANGE 0x1p126f

QLM_PARAMS_INLINE float qlm_usable_scale(float scale, int all_zero)
{
    scale = scale <= QLM_SCALE_WITHOUT_INVERSE ? QLM_SMALLEST_SCALE : scale;
    return all_zero ? 1.0f : scale;
}

/* Of [lo, hi], lo <= 0 <= hi, before bounding. */
QLM_PARAMS_INLINE float qlm_asymmetric_scale(double lo, double hi, double steps)
{ return qlm_usable_scale((float)((hi - lo) / steps), hi - lo == 0); }

QLM_PARAMS_INLINE float qlm_symmetric_scale(double amax, double bound)
{ return qlm_usable_scale((float)(amax / bound), amax == 0); }

/* clamp(rint(min - lo / scale), min, max), min where that is NaN: adding 1.5 * 2^52 leaves no bits below 1. */
QLM_PARAMS_INLINE double qlm_zero_point(double lo, float scale, double min, double max)
{
    double zero = (min - lo / scale + 0x1.8p52) - 0x1.8p52;
    zero = zero > min ? zero : min;
    return zero < max ? zero : max;
}

/* The scale, or less where the value of a code `steps` from the zero point would overflow: FLT_MAX / steps, rounded
 * towards zero. */
QLM_PARAMS_INLINE float qlm_bounded_scale(float scale, double steps)
{
    if (!(scale * steps >= QLM_FLOAT_OVERFLOW)) return scale;
    float most = (float)(QLM_LARGEST_FLOAT / steps);
    if (most * steps <= QLM_LARGEST_FLOAT) return most;
    uint32_t bits;
    memcpy(&bits, &most, sizeof bits);
    bits--;
    memcpy(&most, &bits, sizeof most);
    return most;
}

QLM_PARAMS_INLINE double qlm_farther(double zero, double lo, double hi)
{ return zero - lo > hi - zero ? zero - lo : hi - zero; }

/* A positive scale as the next float16 up, infinite past 65504.  A float16 has 10 bits of fraction, so the low 13 of a
 * float32 go; below 2^-14 the step is 2^-24 throughout. */
QLM_PARAMS_INLINE float qlm_positive_half_up(float scale)
{
    if (!(scale <= 65504.0f)) return __builtin_inff();
    if (scale < 0x1p-14f) {
        float steps = scale * 0x1p24f;
        int32_t whole = (int32_t)steps;
        return (float)(whole + ((float)whole < steps)) * 0x1p-24f;
    }
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    bits = (bits + 0x1fff) & ~0x1fffu;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

#endif
