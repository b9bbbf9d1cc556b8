/* 16 lanes in four NEON registers (template.h lists the meanings). */
#ifndef QLM_VEC_NEON_H
#define QLM_VEC_NEON_H

#include <arm_neon.h>

/* A file that needs more (dot products) defines its target first. */
#ifndef QLM_TARGET
#define QLM_TARGET
#endif
#include "template.h"

#define SPAN_AHEAD 0

typedef struct {
    float32x4_t q0, q1, q2, q3;
} v16f;
typedef struct {
    int32x4_t q0, q1, q2, q3;
} v16i;
typedef struct {
    uint32x4_t q0, q1, q2, q3;
} v16m; /* all bits of a lane, or none */

QLM_INLINE v16f v16_f_set1(float value)
{
    float32x4_t q = vdupq_n_f32(value);
    return (v16f){q, q, q, q};
}

QLM_INLINE v16i v16_i_set1(int32_t value)
{
    int32x4_t q = vdupq_n_s32(value);
    return (v16i){q, q, q, q};
}

QLM_INLINE v16m v16_m_first(size_t n)
{
    static const uint32_t order[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint32x4_t count = vdupq_n_u32((uint32_t)n);
    return (v16m){vcltq_u32(vld1q_u32(order), count), vcltq_u32(vld1q_u32(order + 4), count),
                  vcltq_u32(vld1q_u32(order + 8), count), vcltq_u32(vld1q_u32(order + 12), count)};
}

#define v16_f_load_once v16_f_load
#define v16_i_keep(v) ((void)0)

QLM_INLINE v16f v16_f_load(const float *p)
{ return (v16f){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }

QLM_INLINE v16i v16_i_load(const int32_t *p)
{ return (v16i){vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)}; }

QLM_INLINE void v16_f_store(float *p, v16f a)
{
    vst1q_f32(p, a.q0);
    vst1q_f32(p + 4, a.q1);
    vst1q_f32(p + 8, a.q2);
    vst1q_f32(p + 12, a.q3);
}

QLM_INLINE void v16_i_store(int32_t *p, v16i a)
{
    vst1q_s32(p, a.q0);
    vst1q_s32(p + 4, a.q1);
    vst1q_s32(p + 8, a.q2);
    vst1q_s32(p + 12, a.q3);
}

QLM_INLINE v16i v16_neon_widen_s16(int16x8_t low, int16x8_t high)
{
    return (v16i){vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)),
                  vmovl_high_s16(high)};
}

QLM_INLINE v16i v16_neon_widen_u16(uint16x8_t low, uint16x8_t high)
{
    return (v16i){vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_high_u16(low)),
                  vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), vreinterpretq_s32_u32(vmovl_high_u16(high))};
}

QLM_INLINE v16f v16_f_load_half(const uint16_t *p)
{
    float16x8_t low = vreinterpretq_f16_u16(vld1q_u16(p)), high = vreinterpretq_f16_u16(vld1q_u16(p + 8));
    return (v16f){vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low), vcvt_f32_f16(vget_low_f16(high)),
                  vcvt_high_f32_f16(high)};
}

QLM_INLINE v16i v16_load_s8(const int8_t *p)
{
    int8x16_t q = vld1q_s8(p);
    return v16_neon_widen_s16(vmovl_s8(vget_low_s8(q)), vmovl_high_s8(q));
}

QLM_INLINE v16i v16_load_u8(const uint8_t *p)
{
    uint8x16_t q = vld1q_u8(p);
    return v16_neon_widen_u16(vmovl_u8(vget_low_u8(q)), vmovl_high_u8(q));
}

QLM_INLINE v16i v16_load_s16(const int16_t *p) { return v16_neon_widen_s16(vld1q_s16(p), vld1q_s16(p + 8)); }

QLM_INLINE v16i v16_load_u16(const uint16_t *p) { return v16_neon_widen_u16(vld1q_u16(p), vld1q_u16(p + 8)); }

/* vmovn keeps the low half of each element: no saturation. */
QLM_INLINE void v16_neon_low16(uint16x8_t halves[2], v16i a)
{
    halves[0] = vreinterpretq_u16_s16(vcombine_s16(vmovn_s32(a.q0), vmovn_s32(a.q1)));
    halves[1] = vreinterpretq_u16_s16(vcombine_s16(vmovn_s32(a.q2), vmovn_s32(a.q3)));
}

QLM_INLINE void v16_store_low16(uint16_t *p, v16i a)
{
    uint16x8_t halves[2];
    v16_neon_low16(halves, a);
    vst1q_u16(p, halves[0]);
    vst1q_u16(p + 8, halves[1]);
}

QLM_INLINE void v16_store_low8(uint8_t *p, v16i a)
{
    uint16x8_t halves[2];
    v16_neon_low16(halves, a);
    vst1q_u8(p, vcombine_u8(vmovn_u16(halves[0]), vmovn_u16(halves[1])));
}

/* Partial loads and stores go through a whole vector in memory. */
#define QLM_NEON_LOAD_PART(name, type, lanes)                                                                          \
    QLM_INLINE lanes name##_part(const type *p, size_t n)                                                              \
    {                                                                                                                  \
        type whole[16] = {0};                                                                                          \
        for (size_t i = 0; i < n; i++) whole[i] = p[i];                                                                \
        return name(whole);                                                                                            \
    }
#define QLM_NEON_STORE_PART(name, type, lanes)                                                                         \
    QLM_INLINE void name##_part(type *p, size_t n, lanes a)                                                            \
    {                                                                                                                  \
        type whole[16];                                                                                                \
        name(whole, a);                                                                                                \
        for (size_t i = 0; i < n; i++) p[i] = whole[i];                                                                \
    }

QLM_NEON_LOAD_PART(v16_f_load, float, v16f)
QLM_NEON_LOAD_PART(v16_i_load, int32_t, v16i)
QLM_NEON_LOAD_PART(v16_load_s8, int8_t, v16i)
QLM_NEON_LOAD_PART(v16_load_u8, uint8_t, v16i)
QLM_NEON_LOAD_PART(v16_load_s16, int16_t, v16i)
QLM_NEON_LOAD_PART(v16_load_u16, uint16_t, v16i)
QLM_NEON_STORE_PART(v16_f_store, float, v16f)
QLM_NEON_STORE_PART(v16_i_store, int32_t, v16i)
QLM_NEON_STORE_PART(v16_store_low8, uint8_t, v16i)
QLM_NEON_STORE_PART(v16_store_low16, uint16_t, v16i)
QLM_LOADS_AND_STORES_N

#define QLM_NEON_UNARY(name, lanes, result, op)                                                                        \
    QLM_INLINE result name(lanes a) { return (result){op(a.q0), op(a.q1), op(a.q2), op(a.q3)}; }
#define QLM_NEON_BINARY(name, lanes, result, op)                                                                       \
    QLM_INLINE result name(lanes a, lanes b)                                                                           \
    { return (result){op(a.q0, b.q0), op(a.q1, b.q1), op(a.q2, b.q2), op(a.q3, b.q3)}; }
/* fmin and fmax of the hardware treat NaN and zeros in their own way; these are a < b ? a : b and a > b ? a : b. */
#define QLM_NEON_MIN(a, b) vbslq_f32(vcltq_f32(a, b), a, b)
#define QLM_NEON_MAX(a, b) vbslq_f32(vcgtq_f32(a, b), a, b)
#define QLM_NEON_COPYSIGN(a, b) vbslq_f32(vdupq_n_u32(0x80000000u), b, a)
#define QLM_NEON_MINUS_ABS(a) vnegq_f32(vabsq_f32(a))
#define QLM_NEON_NOT_LT(a, b) vmvnq_u32(vcltq_f32(a, b))
#define QLM_NEON_NAN(a) vmvnq_u32(vceqq_f32(a, a))

QLM_NEON_BINARY(v16_m_and, v16m, v16m, vandq_u32)
QLM_NEON_BINARY(v16_m_or, v16m, v16m, vorrq_u32)
QLM_NEON_BINARY(v16_f_add, v16f, v16f, vaddq_f32)
QLM_NEON_BINARY(v16_f_sub, v16f, v16f, vsubq_f32)
QLM_NEON_BINARY(v16_f_mul, v16f, v16f, vmulq_f32)
QLM_NEON_BINARY(v16_f_div, v16f, v16f, vdivq_f32)
QLM_NEON_BINARY(v16_f_min, v16f, v16f, QLM_NEON_MIN)
QLM_NEON_BINARY(v16_f_max, v16f, v16f, QLM_NEON_MAX)
QLM_NEON_BINARY(v16_f_copysign, v16f, v16f, QLM_NEON_COPYSIGN)
QLM_NEON_BINARY(v16_f_lt, v16f, v16m, vcltq_f32)
QLM_NEON_BINARY(v16_f_le, v16f, v16m, vcleq_f32)
QLM_NEON_BINARY(v16_f_gt, v16f, v16m, vcgtq_f32)
QLM_NEON_BINARY(v16_f_ge, v16f, v16m, vcgeq_f32)
QLM_NEON_BINARY(v16_f_not_lt, v16f, v16m, QLM_NEON_NOT_LT)
QLM_NEON_BINARY(v16_i_add, v16i, v16i, vaddq_s32)
QLM_NEON_BINARY(v16_i_sub, v16i, v16i, vsubq_s32)
QLM_NEON_BINARY(v16_i_mul, v16i, v16i, vmulq_s32)
QLM_NEON_BINARY(v16_i_and, v16i, v16i, vandq_s32)
QLM_NEON_UNARY(v16_f_abs, v16f, v16f, vabsq_f32)
QLM_NEON_UNARY(v16_f_minus_abs, v16f, v16f, QLM_NEON_MINUS_ABS)
QLM_NEON_UNARY(v16_f_sqrt, v16f, v16f, vsqrtq_f32)
QLM_NEON_UNARY(v16_f_rint, v16f, v16f, vrndnq_f32)
QLM_NEON_UNARY(v16_f_floor, v16f, v16f, vrndmq_f32)
QLM_NEON_UNARY(v16_f_is_nan, v16f, v16m, QLM_NEON_NAN)
QLM_NEON_UNARY(v16_f_from_i, v16i, v16f, vcvtq_f32_s32)
QLM_NEON_UNARY(v16_i_from_f, v16f, v16i, vcvtnq_s32_f32)
QLM_NEON_UNARY(v16_f_as_i, v16f, v16i, vreinterpretq_s32_f32)
QLM_NEON_UNARY(v16_i_as_f, v16i, v16f, vreinterpretq_f32_s32)

QLM_INLINE v16f v16_f_fma(v16f a, v16f b, v16f c)
{
    return (v16f){vfmaq_f32(c.q0, a.q0, b.q0), vfmaq_f32(c.q1, a.q1, b.q1), vfmaq_f32(c.q2, a.q2, b.q2),
                  vfmaq_f32(c.q3, a.q3, b.q3)};
}

/* Eight floats are two registers of bytes, each index four of them. */
#define QLM_NEON_BYTES_OF(i)                                                                                           \
    vreinterpretq_u8_s32(vmlaq_n_s32(vdupq_n_s32(0x03020100), vandq_s32(i, vdupq_n_s32(7)), 0x04040404))
#define QLM_NEON_LOOKUP(i) vreinterpretq_f32_u8(vqtbl2q_u8(bytes, QLM_NEON_BYTES_OF(i)))

QLM_INLINE v16f v16_f_lookup(const float *table, v16i index)
{
    uint8x16x2_t bytes = {{vreinterpretq_u8_f32(vld1q_f32(table)), vreinterpretq_u8_f32(vld1q_f32(table + 4))}};
    return (v16f){QLM_NEON_LOOKUP(index.q0), QLM_NEON_LOOKUP(index.q1), QLM_NEON_LOOKUP(index.q2),
                  QLM_NEON_LOOKUP(index.q3)};
}

QLM_INLINE v16f v16_f_fnma(v16f a, v16f b, v16f c)
{
    return (v16f){vfmsq_f32(c.q0, a.q0, b.q0), vfmsq_f32(c.q1, a.q1, b.q1), vfmsq_f32(c.q2, a.q2, b.q2),
                  vfmsq_f32(c.q3, a.q3, b.q3)};
}

QLM_INLINE v16f v16_f_select(v16m m, v16f a, v16f b)
{
    return (v16f){vbslq_f32(m.q0, a.q0, b.q0), vbslq_f32(m.q1, a.q1, b.q1), vbslq_f32(m.q2, a.q2, b.q2),
                  vbslq_f32(m.q3, a.q3, b.q3)};
}

QLM_INLINE int v16_m_any(v16m a) { return vmaxvq_u32(vorrq_u32(vorrq_u32(a.q0, a.q1), vorrq_u32(a.q2, a.q3))) != 0; }

QLM_INLINE v16i v16_i_shl(v16i a, int count)
{
    int32x4_t by = vdupq_n_s32(count);
    return (v16i){vshlq_s32(a.q0, by), vshlq_s32(a.q1, by), vshlq_s32(a.q2, by), vshlq_s32(a.q3, by)};
}

QLM_INLINE v16i v16_i_sar(v16i a, int count) { return v16_i_shl(a, -count); }

/* ---- fixed point: 16 bits before the point, 16 after it -------------------------------------------------------- */

typedef struct {
    uint8x16_t q[4];
} v64b;

#define QLM_NEON_UNSIGNED(op, a, b) vreinterpretq_s32_u32(op(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)))
#define QLM_NEON_MIN_U(a, b) QLM_NEON_UNSIGNED(vminq_u32, a, b)
#define QLM_NEON_MAX_U(a, b) QLM_NEON_UNSIGNED(vmaxq_u32, a, b)
/* Converting saturates, and what is too large must have low bits of zero; NaN becomes 0. */
#define QLM_NEON_FIXED(a) vcvtnq_s32_f32(vminq_f32(a, vdupq_n_f32(0x7fff0000)))

QLM_NEON_BINARY(v16_i_min_u, v16i, v16i, QLM_NEON_MIN_U)
QLM_NEON_BINARY(v16_i_max_u, v16i, v16i, QLM_NEON_MAX_U)
QLM_NEON_BINARY(v16_i_max_s, v16i, v16i, vmaxq_s32)
QLM_NEON_UNARY(v16_i_fixed, v16f, v16i, QLM_NEON_FIXED)

QLM_INLINE uint16x8_t v16_neon_least_words(v16i a)
{
    return vminq_u16(vminq_u16(vreinterpretq_u16_s32(a.q0), vreinterpretq_u16_s32(a.q1)),
                     vminq_u16(vreinterpretq_u16_s32(a.q2), vreinterpretq_u16_s32(a.q3)));
}

QLM_INLINE int v64_any_low(v16i a, v16i b, v16i c, v16i d, v16i bound)
{
    uint16x8_t least = vminq_u16(vminq_u16(v16_neon_least_words(a), v16_neon_least_words(b)),
                                 vminq_u16(v16_neon_least_words(c), v16_neon_least_words(d)));
    return vmaxvq_u16(vcltq_u16(least, vreinterpretq_u16_s32(bound.q0))) != 0;
}

/* The second word of each pair. */
QLM_INLINE int16x8_t v16_neon_high_words(int32x4_t a, int32x4_t b)
{ return vuzp2q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)); }

QLM_INLINE uint8x16_t v16_neon_high8(v16i a, int signed_bytes)
{
    int16x8_t low = v16_neon_high_words(a.q0, a.q1), high = v16_neon_high_words(a.q2, a.q3);
    if (signed_bytes) return vreinterpretq_u8_s8(vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
    return vcombine_u8(vqmovun_s16(low), vqmovun_s16(high));
}

QLM_INLINE v64b v64_high8(v16i a, v16i b, v16i c, v16i d, int signed_bytes)
{
    return (v64b){{v16_neon_high8(a, signed_bytes), v16_neon_high8(b, signed_bytes), v16_neon_high8(c, signed_bytes),
                   v16_neon_high8(d, signed_bytes)}};
}

/* The first byte of each lane: the first word of each pair, then the first byte of each. */
QLM_INLINE uint8x16_t v16_neon_low8(v16i a)
{
    int16x8_t first = vuzp1q_s16(vreinterpretq_s16_s32(a.q0), vreinterpretq_s16_s32(a.q1));
    int16x8_t second = vuzp1q_s16(vreinterpretq_s16_s32(a.q2), vreinterpretq_s16_s32(a.q3));
    return vuzp1q_u8(vreinterpretq_u8_s16(first), vreinterpretq_u8_s16(second));
}

QLM_INLINE v64b v64_low8(v16i a, v16i b, v16i c, v16i d)
{ return (v64b){{v16_neon_low8(a), v16_neon_low8(b), v16_neon_low8(c), v16_neon_low8(d)}}; }

QLM_INLINE v64b v64_b_set1(int value)
{
    uint8x16_t q = vdupq_n_u8((uint8_t)value);
    return (v64b){{q, q, q, q}};
}

#define QLM_NEON_SIGNED(op, a, b) vreinterpretq_u8_s8(op(vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b)))

QLM_INLINE v64b v64_b_min(v64b a, v64b b, int signed_bytes)
{
    for (int i = 0; i < 4; i++)
        a.q[i] = signed_bytes ? QLM_NEON_SIGNED(vminq_s8, a.q[i], b.q[i]) : vminq_u8(a.q[i], b.q[i]);
    return a;
}

QLM_INLINE v64b v64_b_max(v64b a, v64b b, int signed_bytes)
{
    for (int i = 0; i < 4; i++)
        a.q[i] = signed_bytes ? QLM_NEON_SIGNED(vmaxq_s8, a.q[i], b.q[i]) : vmaxq_u8(a.q[i], b.q[i]);
    return a;
}

QLM_INLINE v64b v64_b_add(v64b a, v64b b)
{
    return (v64b){
        {vaddq_u8(a.q[0], b.q[0]), vaddq_u8(a.q[1], b.q[1]), vaddq_u8(a.q[2], b.q[2]), vaddq_u8(a.q[3], b.q[3])}};
}

QLM_INLINE void v64_b_store(uint8_t *p, v64b a)
{
    for (int i = 0; i < 4; i++) vst1q_u8(p + 16 * i, a.q[i]);
}

/* No store of these goes past the caches. */
#define v64_b_stream v64_b_store
#define v16_f_stream v16_f_store
#define streams_end() ((void)0)

QLM_INLINE void v64_b_store_part(uint8_t *p, size_t n, v64b a)
{
    uint8_t whole[64];
    v64_b_store(whole, a);
    for (size_t i = 0; i < n; i++) p[i] = whole[i];
}

QLM_INLINE void v16_store_high16(uint16_t *p, v16i a, v16i least, v16i most)
{
    int16x8_t first = vcombine_s16(vmovn_s32(least.q0), vmovn_s32(least.q0));
    int16x8_t last = vcombine_s16(vmovn_s32(most.q0), vmovn_s32(most.q0));
    int16x8_t low = vminq_s16(vmaxq_s16(v16_neon_high_words(a.q0, a.q1), first), last);
    int16x8_t high = vminq_s16(vmaxq_s16(v16_neon_high_words(a.q2, a.q3), first), last);
    vst1q_u16(p, vreinterpretq_u16_s16(low));
    vst1q_u16(p + 8, vreinterpretq_u16_s16(high));
}

QLM_INLINE void v16_store_high16_part(uint16_t *p, size_t n, v16i a, v16i least, v16i most)
{
    uint16_t whole[16];
    v16_store_high16(whole, a, least, most);
    for (size_t i = 0; i < n; i++) p[i] = whole[i];
}

QLM_INLINE float v16_f_reduce_add(v16f a)
{
    float32x4_t by4 = vaddq_f32(vaddq_f32(a.q0, a.q2), vaddq_f32(a.q1, a.q3));
    float32x2_t by2 = vadd_f32(vget_low_f32(by4), vget_high_f32(by4));
    return vget_lane_f32(by2, 0) + vget_lane_f32(by2, 1);
}

#define QLM_NEON_REDUCE(name, op, compare)                                                                             \
    QLM_INLINE float name(v16f a)                                                                                      \
    {                                                                                                                  \
        float32x4_t by8 = op(a.q0, a.q2), other = op(a.q1, a.q3), by4 = op(by8, other);                                \
        float32x4_t by2 = op(by4, vextq_f32(by4, by4, 2));                                                             \
        float x = vgetq_lane_f32(by2, 0), y = vgetq_lane_f32(by2, 1);                                                  \
        return x compare y ? x : y;                                                                                    \
    }

QLM_NEON_REDUCE(v16_f_reduce_min, QLM_NEON_MIN, <)
QLM_NEON_REDUCE(v16_f_reduce_max, QLM_NEON_MAX, >)

QLM_INLINE int32_t v16_i_reduce_max_s(v16i a)
{ return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.q0, a.q1), vmaxq_s32(a.q2, a.q3))); }

QLM_INLINE uint32_t v16_i_reduce_max_u(v16i a)
{ return vmaxvq_u32(vreinterpretq_u32_s32(QLM_NEON_MAX_U(QLM_NEON_MAX_U(a.q0, a.q1), QLM_NEON_MAX_U(a.q2, a.q3)))); }

QLM_INLINE uint32_t v16_i_reduce_min_u(v16i a)
{ return vminvq_u32(vreinterpretq_u32_s32(QLM_NEON_MIN_U(QLM_NEON_MIN_U(a.q0, a.q1), QLM_NEON_MIN_U(a.q2, a.q3)))); }

QLM_INLINE int32_t v16_i_reduce_add(v16i a)
{ return vaddvq_s32(vaddq_s32(vaddq_s32(a.q0, a.q1), vaddq_s32(a.q2, a.q3))); }

QLM_GREATEST_BY_REDUCE

QLM_CANONICAL_BY_SELECT

#endif
