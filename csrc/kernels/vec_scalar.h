/* 16 lanes in plain C: the definition of what the vector headers compute (template.h lists the meanings). */
#ifndef QLM_VEC_SCALAR_H
#define QLM_VEC_SCALAR_H

#include <math.h>

#define QLM_TARGET
/* Functions of their own: 16 lanes written out in each place would be half a megabyte. */
#define QLM_INLINE static __attribute__((noinline, unused))
#include "template.h"

#define SPAN_AHEAD 0

typedef struct {
    float lane[16];
} v16f;
typedef struct {
    int32_t lane[16];
} v16i;
typedef struct {
    unsigned char lane[16];
} v16m;

#define QLM_EACH(l) for (int l = 0; l < 16; l++)

QLM_INLINE v16f v16_f_set1(float value)
{
    v16f r;
    QLM_EACH(l) r.lane[l] = value;
    return r;
}

QLM_INLINE v16i v16_i_set1(int32_t value)
{
    v16i r;
    QLM_EACH(l) r.lane[l] = value;
    return r;
}

/* Loads and stores: `name` for 16 elements, `name_part` for fewer. */
#define QLM_SCALAR_LOAD(name, type, lanes)                                                                             \
    QLM_INLINE lanes name(const type *p)                                                                               \
    {                                                                                                                  \
        lanes r;                                                                                                       \
        QLM_EACH(l) r.lane[l] = p[l];                                                                                  \
        return r;                                                                                                      \
    }                                                                                                                  \
    QLM_INLINE lanes name##_part(const type *p, size_t n)                                                              \
    {                                                                                                                  \
        lanes r;                                                                                                       \
        QLM_EACH(l) r.lane[l] = (size_t)l < n ? p[l] : 0;                                                              \
        return r;                                                                                                      \
    }
#define QLM_SCALAR_STORE(name, type, lanes)                                                                            \
    QLM_INLINE void name(type *p, lanes a) { QLM_EACH(l) p[l] = (type)a.lane[l]; }                                     \
    QLM_INLINE void name##_part(type *p, size_t n, lanes a)                                                            \
    {                                                                                                                  \
        for (size_t l = 0; l < n; l++) p[l] = (type)a.lane[l];                                                         \
    }

QLM_SCALAR_LOAD(v16_f_load, float, v16f)
QLM_SCALAR_LOAD(v16_i_load, int32_t, v16i)
QLM_SCALAR_LOAD(v16_load_s8, int8_t, v16i)
QLM_SCALAR_LOAD(v16_load_u8, uint8_t, v16i)
QLM_SCALAR_LOAD(v16_load_s16, int16_t, v16i)
QLM_SCALAR_LOAD(v16_load_u16, uint16_t, v16i)
QLM_SCALAR_STORE(v16_f_store, float, v16f)
QLM_SCALAR_STORE(v16_i_store, int32_t, v16i)
QLM_SCALAR_STORE(v16_store_low8, uint8_t, v16i)
QLM_SCALAR_STORE(v16_store_low16, uint16_t, v16i)
QLM_LOADS_AND_STORES_N
#define v16_f_load_once v16_f_load
#define v16_i_keep(v) ((void)0)

#define QLM_SCALAR_UNARY(name, lanes, result, expression)                                                              \
    QLM_INLINE result name(lanes a)                                                                                    \
    {                                                                                                                  \
        result r;                                                                                                      \
        QLM_EACH(l) r.lane[l] = expression;                                                                            \
        return r;                                                                                                      \
    }
#define QLM_SCALAR_BINARY(name, lanes, result, expression)                                                             \
    QLM_INLINE result name(lanes a, lanes b)                                                                           \
    {                                                                                                                  \
        result r;                                                                                                      \
        QLM_EACH(l) r.lane[l] = expression;                                                                            \
        return r;                                                                                                      \
    }
#define QLM_A a.lane[l]
#define QLM_B b.lane[l]
#define QLM_WRAP(a, op, b) (int32_t)((uint32_t)(a)op(uint32_t)(b))

QLM_SCALAR_BINARY(v16_f_add, v16f, v16f, QLM_A + QLM_B)
QLM_SCALAR_BINARY(v16_f_sub, v16f, v16f, QLM_A - QLM_B)
QLM_SCALAR_BINARY(v16_f_mul, v16f, v16f, QLM_A *QLM_B)
QLM_SCALAR_BINARY(v16_f_div, v16f, v16f, QLM_A / QLM_B)
QLM_SCALAR_BINARY(v16_f_min, v16f, v16f, QLM_A < QLM_B ? QLM_A : QLM_B)
QLM_SCALAR_BINARY(v16_f_max, v16f, v16f, QLM_A > QLM_B ? QLM_A : QLM_B)
QLM_SCALAR_BINARY(v16_f_copysign, v16f, v16f, __builtin_copysignf(QLM_A, QLM_B))
QLM_SCALAR_BINARY(v16_f_lt, v16f, v16m, QLM_A < QLM_B)
QLM_SCALAR_BINARY(v16_f_le, v16f, v16m, QLM_A <= QLM_B)
QLM_SCALAR_BINARY(v16_f_gt, v16f, v16m, QLM_A > QLM_B)
QLM_SCALAR_BINARY(v16_f_not_lt, v16f, v16m, !(QLM_A < QLM_B))
QLM_SCALAR_BINARY(v16_f_ge, v16f, v16m, QLM_A >= QLM_B)
QLM_SCALAR_BINARY(v16_m_and, v16m, v16m, QLM_A &QLM_B)
QLM_SCALAR_BINARY(v16_m_or, v16m, v16m, QLM_A | QLM_B)
QLM_SCALAR_BINARY(v16_i_add, v16i, v16i, QLM_WRAP(QLM_A, +, QLM_B))
QLM_SCALAR_BINARY(v16_i_sub, v16i, v16i, QLM_WRAP(QLM_A, -, QLM_B))
QLM_SCALAR_BINARY(v16_i_mul, v16i, v16i, QLM_WRAP(QLM_A, *, QLM_B))
QLM_SCALAR_BINARY(v16_i_and, v16i, v16i, QLM_A &QLM_B)

QLM_INLINE float v16_rint_lane(float x)
{
    float a = __builtin_fabsf(x);
    return a < 0x1p23f ? __builtin_copysignf((a + 0x1p23f) - 0x1p23f, x) : x;
}

QLM_INLINE float v16_floor_lane(float x)
{
    float r = v16_rint_lane(x);
    return r > x ? r - 1.0f : r;
}

QLM_SCALAR_UNARY(v16_f_abs, v16f, v16f, __builtin_fabsf(QLM_A))
QLM_SCALAR_UNARY(v16_f_minus_abs, v16f, v16f, -__builtin_fabsf(QLM_A))
QLM_SCALAR_UNARY(v16_f_sqrt, v16f, v16f, sqrtf(QLM_A))
QLM_SCALAR_UNARY(v16_f_rint, v16f, v16f, v16_rint_lane(QLM_A))
QLM_SCALAR_UNARY(v16_f_floor, v16f, v16f, v16_floor_lane(QLM_A))
QLM_SCALAR_UNARY(v16_f_is_nan, v16f, v16m, QLM_A != QLM_A)
QLM_SCALAR_UNARY(v16_f_from_i, v16i, v16f, (float)QLM_A)
QLM_SCALAR_UNARY(v16_i_from_f, v16f, v16i, (int32_t)v16_rint_lane(QLM_A))

/* fmaf rounds once by the C standard; every other operation here is exact or correctly rounded as well. */
QLM_INLINE v16f v16_f_fma(v16f a, v16f b, v16f c)
{
    v16f r;
    QLM_EACH(l) r.lane[l] = fmaf(QLM_A, QLM_B, c.lane[l]);
    return r;
}

QLM_INLINE v16f v16_f_lookup(const float *table, v16i index)
{
    v16f r;
    QLM_EACH(l) r.lane[l] = table[index.lane[l] & 7];
    return r;
}

QLM_INLINE v16f v16_f_fnma(v16f a, v16f b, v16f c)
{
    v16f r;
    QLM_EACH(l) r.lane[l] = fmaf(-QLM_A, QLM_B, c.lane[l]);
    return r;
}

QLM_INLINE v16f v16_f_select(v16m m, v16f a, v16f b)
{
    v16f r;
    QLM_EACH(l) r.lane[l] = m.lane[l] ? QLM_A : QLM_B;
    return r;
}

QLM_INLINE v16i v16_f_as_i(v16f a)
{
    union {
        float f;
        int32_t i;
    } word;
    v16i r;
    QLM_EACH(l)
    {
        word.f = QLM_A;
        r.lane[l] = word.i;
    }
    return r;
}

QLM_INLINE v16f v16_i_as_f(v16i a)
{
    union {
        float f;
        int32_t i;
    } word;
    v16f r;
    QLM_EACH(l)
    {
        word.i = QLM_A;
        r.lane[l] = word.f;
    }
    return r;
}

QLM_INLINE v16i v16_i_shl(v16i a, int count)
{
    v16i r;
    QLM_EACH(l) r.lane[l] = (int32_t)((uint32_t)QLM_A << count);
    return r;
}

QLM_INLINE v16i v16_i_sar(v16i a, int count)
{
    v16i r;
    QLM_EACH(l) r.lane[l] = QLM_A >> count;
    return r;
}

QLM_INLINE v16m v16_m_first(size_t n)
{
    v16m r;
    QLM_EACH(l) r.lane[l] = (size_t)l < n;
    return r;
}

QLM_INLINE int v16_m_any(v16m a)
{
    unsigned char any = 0;
    QLM_EACH(l) any |= QLM_A;
    return any;
}

/* ---- fixed point: 16 bits before the point, 16 after it -------------------------------------------------------- */

typedef struct {
    uint8_t lane[64];
} v64b;

QLM_SCALAR_BINARY(v16_i_min_u, v16i, v16i, (uint32_t)QLM_A < (uint32_t)QLM_B ? QLM_A : QLM_B)
QLM_SCALAR_BINARY(v16_i_max_u, v16i, v16i, (uint32_t)QLM_A > (uint32_t)QLM_B ? QLM_A : QLM_B)
QLM_SCALAR_BINARY(v16_i_max_s, v16i, v16i, QLM_A > QLM_B ? QLM_A : QLM_B)
QLM_SCALAR_UNARY(v16_i_fixed, v16f, v16i, QLM_A >= -0x1p31f && QLM_A < 0x1p31f ? (int32_t)v16_rint_lane(QLM_A) : 0)

static inline int32_t v16_clamp_lane(int32_t x, int32_t least, int32_t most)
{ return x < least ? least : x < most ? x : most; }

static int v16_any_low(v16i a, v16i bound)
{
    int any = 0;
    QLM_EACH(l) any |= (QLM_A & 0xffff) < bound.lane[l];
    return any;
}

static inline int v64_any_low(v16i a, v16i b, v16i c, v16i d, v16i bound)
{ return v16_any_low(a, bound) | v16_any_low(b, bound) | v16_any_low(c, bound) | v16_any_low(d, bound); }

QLM_INLINE v64b v64_high8(v16i a, v16i b, v16i c, v16i d, int signed_bytes)
{
    const v16i four[4] = {a, b, c, d};
    const int32_t least = signed_bytes ? INT8_MIN : 0;
    v64b r;
    for (int i = 0; i < 64; i++)
        r.lane[i] = (uint8_t)v16_clamp_lane(four[i / 16].lane[i % 16] >> 16, least, least + 255);
    return r;
}

QLM_INLINE v64b v64_low8(v16i a, v16i b, v16i c, v16i d)
{
    const v16i four[4] = {a, b, c, d};
    v64b r;
    for (int i = 0; i < 64; i++) r.lane[i] = (uint8_t)four[i / 16].lane[i % 16];
    return r;
}

QLM_INLINE v64b v64_b_set1(int value)
{
    v64b r;
    for (int i = 0; i < 64; i++) r.lane[i] = (uint8_t)value;
    return r;
}

QLM_INLINE int v64_is_less(uint8_t a, uint8_t b, int signed_bytes)
{ return signed_bytes ? (int8_t)a < (int8_t)b : a < b; }

QLM_INLINE v64b v64_b_min(v64b a, v64b b, int signed_bytes)
{
    for (int i = 0; i < 64; i++) a.lane[i] = v64_is_less(a.lane[i], b.lane[i], signed_bytes) ? a.lane[i] : b.lane[i];
    return a;
}

QLM_INLINE v64b v64_b_max(v64b a, v64b b, int signed_bytes)
{
    for (int i = 0; i < 64; i++) a.lane[i] = v64_is_less(a.lane[i], b.lane[i], signed_bytes) ? b.lane[i] : a.lane[i];
    return a;
}

QLM_INLINE v64b v64_b_add(v64b a, v64b b)
{
    for (int i = 0; i < 64; i++) a.lane[i] = (uint8_t)(a.lane[i] + b.lane[i]);
    return a;
}

QLM_INLINE void v64_b_store_part(uint8_t *p, size_t n, v64b a)
{
    for (size_t i = 0; i < n; i++) p[i] = a.lane[i];
}

QLM_INLINE void v64_b_store(uint8_t *p, v64b a) { v64_b_store_part(p, 64, a); }

/* No store of these goes past the caches. */
#define v64_b_stream v64_b_store
#define v16_f_stream v16_f_store
#define streams_end() ((void)0)

QLM_INLINE void v16_store_high16_part(uint16_t *p, size_t n, v16i a, v16i least, v16i most)
{
    for (size_t l = 0; l < n; l++) p[l] = (uint16_t)v16_clamp_lane(QLM_A >> 16, least.lane[l], most.lane[l]);
}

QLM_INLINE void v16_store_high16(uint16_t *p, v16i a, v16i least, v16i most)
{ v16_store_high16_part(p, 16, a, least, most); }

#define QLM_SCALAR_REDUCE(name, type, lanes, combine)                                                                  \
    QLM_INLINE type name(lanes a)                                                                                      \
    {                                                                                                                  \
        for (int half = 8; half; half /= 2)                                                                            \
            for (int l = 0; l < half; l++) {                                                                           \
                type x = a.lane[l], y = a.lane[l + half];                                                              \
                a.lane[l] = combine;                                                                                   \
            }                                                                                                          \
        return a.lane[0];                                                                                              \
    }

QLM_SCALAR_REDUCE(v16_f_reduce_add, float, v16f, x + y)
QLM_SCALAR_REDUCE(v16_f_reduce_min, float, v16f, x < y ? x : y)
QLM_SCALAR_REDUCE(v16_f_reduce_max, float, v16f, x > y ? x : y)
QLM_SCALAR_REDUCE(v16_i_reduce_add, int32_t, v16i, QLM_WRAP(x, +, y))
QLM_SCALAR_REDUCE(v16_i_reduce_max_s, int32_t, v16i, x > y ? x : y)
QLM_SCALAR_REDUCE(v16_i_reduce_max_u, int32_t, v16i, (uint32_t)x > (uint32_t)y ? x : y)
QLM_SCALAR_REDUCE(v16_i_reduce_min_u, int32_t, v16i, (uint32_t)x < (uint32_t)y ? x : y)

QLM_GREATEST_BY_REDUCE

QLM_CANONICAL_BY_SELECT

#endif
