/* 16 lanes in two AVX2 registers, lo and hi (template.h lists the meanings). */
#ifndef QLM_VEC_AVX2_H
#define QLM_VEC_AVX2_H

#include <immintrin.h>

/* A file that needs more (VNNI) defines a larger target first. */
#ifndef QLM_TARGET
#define QLM_TARGET __attribute__((target("avx2,fma,f16c")))
#endif
#include "template.h"

/* Floats that long spans of codes ask ahead for: fewer of these loads fit what a core looks ahead (72 to 74 GB/s out of
 * L2, Zen 4; with AVX-512 nothing is gained). */
#define SPAN_AHEAD 128

typedef struct {
    __m256 lo, hi;
} v16f;
typedef struct {
    __m256i lo, hi;
} v16i;
typedef struct {
    __m256 lo, hi;
} v16m; /* all bits of a lane, or none */

#define QLM_AVX2_BOTH(type, lo_value, hi_value) ((type){(lo_value), (hi_value)})

QLM_INLINE v16i v16_avx2_first(size_t n)
{
    __m256i count = _mm256_set1_epi32((int)n);
    return QLM_AVX2_BOTH(v16i, _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
                         _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)));
}

QLM_INLINE v16m v16_m_first(size_t n)
{
    v16i m = v16_avx2_first(n);
    return QLM_AVX2_BOTH(v16m, _mm256_castsi256_ps(m.lo), _mm256_castsi256_ps(m.hi));
}

QLM_INLINE v16m v16_m_and(v16m a, v16m b)
{ return QLM_AVX2_BOTH(v16m, _mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)); }

QLM_INLINE v16m v16_m_or(v16m a, v16m b)
{ return QLM_AVX2_BOTH(v16m, _mm256_or_ps(a.lo, b.lo), _mm256_or_ps(a.hi, b.hi)); }

QLM_INLINE int v16_m_any(v16m a) { return _mm256_movemask_ps(_mm256_or_ps(a.lo, a.hi)) != 0; }

QLM_INLINE v16f v16_f_set1(float value) { return QLM_AVX2_BOTH(v16f, _mm256_set1_ps(value), _mm256_set1_ps(value)); }

QLM_INLINE v16i v16_i_set1(int32_t value)
{ return QLM_AVX2_BOTH(v16i, _mm256_set1_epi32(value), _mm256_set1_epi32(value)); }

QLM_INLINE v16f v16_f_load(const float *p) { return QLM_AVX2_BOTH(v16f, _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }

/* Two loads a cycle are all there is, and compilers fold a load into each instruction that uses it. */
QLM_INLINE v16f v16_f_load_once(const float *p)
{
    v16f x = v16_f_load(p);
    __asm__("" : "+x"(x.lo), "+x"(x.hi));
    return x;
}

#define v16_i_keep(v) __asm__("" : "+x"((v).lo), "+x"((v).hi))

QLM_INLINE v16f v16_f_load_half(const uint16_t *p)
{
    const __m128i *halves = (const __m128i *)p;
    return QLM_AVX2_BOTH(v16f, _mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1)));
}

/* With n <= 8 the upper mask is empty, and the address of the lower half stands in for one past the array. */
QLM_INLINE v16f v16_f_load_part(const float *p, size_t n)
{
    v16i m = v16_avx2_first(n);
    const float *upper = n > 8 ? p + 8 : p;
    return QLM_AVX2_BOTH(v16f, _mm256_maskload_ps(p, m.lo), _mm256_maskload_ps(upper, m.hi));
}

QLM_INLINE v16i v16_i_load(const int32_t *p)
{ return QLM_AVX2_BOTH(v16i, _mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8))); }

QLM_INLINE v16i v16_i_load_part(const int32_t *p, size_t n)
{
    v16i m = v16_avx2_first(n);
    const int32_t *upper = n > 8 ? p + 8 : p;
    return QLM_AVX2_BOTH(v16i, _mm256_maskload_epi32(p, m.lo), _mm256_maskload_epi32(upper, m.hi));
}

QLM_INLINE void v16_f_store(float *p, v16f a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

QLM_INLINE void v16_f_store_part(float *p, size_t n, v16f a)
{
    v16i m = v16_avx2_first(n);
    _mm256_maskstore_ps(p, m.lo, a.lo);
    _mm256_maskstore_ps(n > 8 ? p + 8 : p, m.hi, a.hi);
}

QLM_INLINE void v16_i_store(int32_t *p, v16i a)
{
    _mm256_storeu_si256((__m256i *)p, a.lo);
    _mm256_storeu_si256((__m256i *)(p + 8), a.hi);
}

QLM_INLINE void v16_i_store_part(int32_t *p, size_t n, v16i a)
{
    v16i m = v16_avx2_first(n);
    _mm256_maskstore_epi32(p, m.lo, a.lo);
    _mm256_maskstore_epi32(n > 8 ? p + 8 : p, m.hi, a.hi);
}

/* Copies n < 64 bytes in at most six moves: one loop would become a call of memcpy. */
QLM_INLINE void v16_avx2_copy(void *to, const void *from, size_t n)
{
    char *t = to;
    const char *f = from;
#define QLM_AVX2_COPY(size)                                                                                            \
    if (n & size) {                                                                                                    \
        __builtin_memcpy(t, f, size);                                                                                  \
        t += size;                                                                                                     \
        f += size;                                                                                                     \
    }
    QLM_AVX2_COPY(32)
    QLM_AVX2_COPY(16)
    QLM_AVX2_COPY(8)
    QLM_AVX2_COPY(4)
    QLM_AVX2_COPY(2)
    QLM_AVX2_COPY(1)
#undef QLM_AVX2_COPY
}

#define QLM_AVX2_LOAD_CODES(name, type, bytes, widen)                                                                  \
    QLM_INLINE v16i name(const type *p)                                                                                \
    {                                                                                                                  \
        const char *q = (const char *)p;                                                                               \
        return QLM_AVX2_BOTH(v16i, widen(q), widen(q + 8 * bytes));                                                    \
    }                                                                                                                  \
    QLM_INLINE v16i name##_part(const type *p, size_t n)                                                               \
    {                                                                                                                  \
        __m256i whole = _mm256_setzero_si256();                                                                        \
        v16_avx2_copy(&whole, p, n * bytes);                                                                           \
        return name((const type *)&whole);                                                                             \
    }
#define QLM_AVX2_LOAD8(p) _mm_loadl_epi64((const __m128i *)(p))
#define QLM_AVX2_LOAD16(p) _mm_loadu_si128((const __m128i *)(p))
#define QLM_AVX2_WIDEN_S8(p) _mm256_cvtepi8_epi32(QLM_AVX2_LOAD8(p))
#define QLM_AVX2_WIDEN_U8(p) _mm256_cvtepu8_epi32(QLM_AVX2_LOAD8(p))
#define QLM_AVX2_WIDEN_S16(p) _mm256_cvtepi16_epi32(QLM_AVX2_LOAD16(p))
#define QLM_AVX2_WIDEN_U16(p) _mm256_cvtepu16_epi32(QLM_AVX2_LOAD16(p))

QLM_AVX2_LOAD_CODES(v16_load_s8, int8_t, 1, QLM_AVX2_WIDEN_S8)
QLM_AVX2_LOAD_CODES(v16_load_u8, uint8_t, 1, QLM_AVX2_WIDEN_U8)
QLM_AVX2_LOAD_CODES(v16_load_s16, int16_t, 2, QLM_AVX2_WIDEN_S16)
QLM_AVX2_LOAD_CODES(v16_load_u16, uint16_t, 2, QLM_AVX2_WIDEN_U16)

/* A shuffle picks the low bytes, so nothing saturates: 4 bytes a half register, then put into order. */
QLM_INLINE __m128i v16_avx2_low8(v16i a)
{
    __m256i pick = _mm256_set1_epi32(0x0c080400);
    __m256i pairs = _mm256_unpacklo_epi32(_mm256_shuffle_epi8(a.lo, pick), _mm256_shuffle_epi8(a.hi, pick));
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

QLM_INLINE __m256i v16_avx2_low16(v16i a)
{
    __m256i pick = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13, 0, 1,
                                    4, 5, 8, 9, 12, 13);
    __m256i pairs = _mm256_unpacklo_epi64(_mm256_shuffle_epi8(a.lo, pick), _mm256_shuffle_epi8(a.hi, pick));
    return _mm256_permute4x64_epi64(pairs, _MM_SHUFFLE(3, 1, 2, 0));
}

QLM_INLINE void v16_store_low8(uint8_t *p, v16i a) { _mm_storeu_si128((__m128i *)p, v16_avx2_low8(a)); }

QLM_INLINE void v16_store_low8_part(uint8_t *p, size_t n, v16i a)
{
    __m128i whole = v16_avx2_low8(a);
    v16_avx2_copy(p, &whole, n);
}

QLM_INLINE void v16_store_low16(uint16_t *p, v16i a) { _mm256_storeu_si256((__m256i *)p, v16_avx2_low16(a)); }

QLM_INLINE void v16_store_low16_part(uint16_t *p, size_t n, v16i a)
{
    __m256i whole = v16_avx2_low16(a);
    v16_avx2_copy(p, &whole, n * 2);
}

QLM_LOADS_AND_STORES_N

#define QLM_AVX2_UNARY(name, lanes, result, op)                                                                        \
    QLM_INLINE result name(lanes a) { return QLM_AVX2_BOTH(result, op(a.lo), op(a.hi)); }
#define QLM_AVX2_BINARY(name, lanes, result, op)                                                                       \
    QLM_INLINE result name(lanes a, lanes b) { return QLM_AVX2_BOTH(result, op(a.lo, b.lo), op(a.hi, b.hi)); }
#define QLM_AVX2_RINT(a) _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define QLM_AVX2_FLOOR(a) _mm256_round_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)
#define QLM_AVX2_LT(a, b) _mm256_cmp_ps(a, b, _CMP_LT_OQ)
#define QLM_AVX2_LE(a, b) _mm256_cmp_ps(a, b, _CMP_LE_OQ)
#define QLM_AVX2_GT(a, b) _mm256_cmp_ps(a, b, _CMP_GT_OQ)
#define QLM_AVX2_GE(a, b) _mm256_cmp_ps(a, b, _CMP_GE_OQ)
#define QLM_AVX2_NOT_LT(a, b) _mm256_cmp_ps(a, b, _CMP_NLT_UQ)
#define QLM_AVX2_NAN(a) _mm256_cmp_ps(a, a, _CMP_UNORD_Q)

QLM_AVX2_BINARY(v16_f_add, v16f, v16f, _mm256_add_ps)
QLM_AVX2_BINARY(v16_f_sub, v16f, v16f, _mm256_sub_ps)
QLM_AVX2_BINARY(v16_f_mul, v16f, v16f, _mm256_mul_ps)
QLM_AVX2_BINARY(v16_f_div, v16f, v16f, _mm256_div_ps)
QLM_AVX2_BINARY(v16_f_min, v16f, v16f, _mm256_min_ps)
QLM_AVX2_BINARY(v16_f_max, v16f, v16f, _mm256_max_ps)
QLM_AVX2_BINARY(v16_f_lt, v16f, v16m, QLM_AVX2_LT)
QLM_AVX2_BINARY(v16_f_le, v16f, v16m, QLM_AVX2_LE)
QLM_AVX2_BINARY(v16_f_gt, v16f, v16m, QLM_AVX2_GT)
QLM_AVX2_BINARY(v16_f_ge, v16f, v16m, QLM_AVX2_GE)
QLM_AVX2_BINARY(v16_f_not_lt, v16f, v16m, QLM_AVX2_NOT_LT)
QLM_AVX2_BINARY(v16_i_add, v16i, v16i, _mm256_add_epi32)
QLM_AVX2_BINARY(v16_i_sub, v16i, v16i, _mm256_sub_epi32)
QLM_AVX2_BINARY(v16_i_mul, v16i, v16i, _mm256_mullo_epi32)
QLM_AVX2_BINARY(v16_i_and, v16i, v16i, _mm256_and_si256)
QLM_AVX2_UNARY(v16_f_sqrt, v16f, v16f, _mm256_sqrt_ps)
QLM_AVX2_UNARY(v16_f_rint, v16f, v16f, QLM_AVX2_RINT)
QLM_AVX2_UNARY(v16_f_floor, v16f, v16f, QLM_AVX2_FLOOR)
QLM_AVX2_UNARY(v16_f_is_nan, v16f, v16m, QLM_AVX2_NAN)
QLM_AVX2_UNARY(v16_f_from_i, v16i, v16f, _mm256_cvtepi32_ps)
QLM_AVX2_UNARY(v16_i_from_f, v16f, v16i, _mm256_cvtps_epi32)
QLM_AVX2_UNARY(v16_f_as_i, v16f, v16i, _mm256_castps_si256)
QLM_AVX2_UNARY(v16_i_as_f, v16i, v16f, _mm256_castsi256_ps)

QLM_INLINE v16f v16_f_fma(v16f a, v16f b, v16f c)
{ return QLM_AVX2_BOTH(v16f, _mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)); }

QLM_INLINE v16f v16_f_fnma(v16f a, v16f b, v16f c)
{ return QLM_AVX2_BOTH(v16f, _mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)); }

QLM_INLINE v16f v16_f_lookup(const float *table, v16i index)
{
    __m256 eight = _mm256_loadu_ps(table);
    return QLM_AVX2_BOTH(v16f, _mm256_permutevar8x32_ps(eight, index.lo), _mm256_permutevar8x32_ps(eight, index.hi));
}

QLM_INLINE v16f v16_f_select(v16m m, v16f a, v16f b)
{ return QLM_AVX2_BOTH(v16f, _mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)); }

QLM_INLINE v16f v16_f_abs(v16f a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return QLM_AVX2_BOTH(v16f, _mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi));
}

QLM_INLINE v16f v16_f_minus_abs(v16f a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return QLM_AVX2_BOTH(v16f, _mm256_or_ps(sign, a.lo), _mm256_or_ps(sign, a.hi));
}

QLM_INLINE v16f v16_f_copysign(v16f a, v16f b)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    a = v16_f_abs(a);
    return QLM_AVX2_BOTH(v16f, _mm256_or_ps(a.lo, _mm256_and_ps(sign, b.lo)),
                         _mm256_or_ps(a.hi, _mm256_and_ps(sign, b.hi)));
}

/* Macros, because the count must be a constant even without optimization. */
#define v16_i_shl(a, count) QLM_AVX2_BOTH(v16i, _mm256_slli_epi32((a).lo, count), _mm256_slli_epi32((a).hi, count))
#define v16_i_sar(a, count) QLM_AVX2_BOTH(v16i, _mm256_srai_epi32((a).lo, count), _mm256_srai_epi32((a).hi, count))

/* ---- fixed point: 16 bits before the point, 16 after it -------------------------------------------------------- */

typedef struct {
    __m256i lo, hi;
} v64b;

QLM_AVX2_BINARY(v16_i_min_u, v16i, v16i, _mm256_min_epu32)
QLM_AVX2_BINARY(v16_i_max_u, v16i, v16i, _mm256_max_epu32)
QLM_AVX2_BINARY(v16_i_max_s, v16i, v16i, _mm256_max_epi32)

/* What does not fit becomes 0x80000000. */
QLM_INLINE v16i v16_i_fixed(v16f a) { return v16_i_from_f(a); }

QLM_INLINE __m256i v16_avx2_least_words(v16i a, v16i b)
{ return _mm256_min_epu16(_mm256_min_epu16(a.lo, a.hi), _mm256_min_epu16(b.lo, b.hi)); }

QLM_INLINE int v64_any_low(v16i a, v16i b, v16i c, v16i d, v16i bound)
{
    __m256i least = _mm256_min_epu16(v16_avx2_least_words(a, b), v16_avx2_least_words(c, d));
    __m256i below = _mm256_subs_epu16(bound.lo, least);
    return !_mm256_testz_si256(below, below);
}

/* Blending the high words of two registers leaves them interleaved, which costs a byte shuffle later: in all one
 * instruction less than shifting both and packing, and fewer on the ports that shift and shuffle. */
QLM_INLINE __m256i v16_avx2_high_words(v16i a) { return _mm256_blend_epi16(_mm256_srli_epi32(a.lo, 16), a.hi, 0xAA); }

QLM_INLINE __m256i v16_avx2_high8(v16i a, v16i b, int signed_bytes)
{
    __m256i first = v16_avx2_high_words(a), second = v16_avx2_high_words(b);
    __m256i mixed = signed_bytes ? _mm256_packs_epi16(first, second) : _mm256_packus_epi16(first, second);
    __m256i apart = _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15, 0, 2, 4, 6, 1, 3, 5, 7, 8,
                                     10, 12, 14, 9, 11, 13, 15);
    return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(mixed, apart), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

QLM_INLINE v64b v64_high8(v16i a, v16i b, v16i c, v16i d, int signed_bytes)
{ return QLM_AVX2_BOTH(v64b, v16_avx2_high8(a, b, signed_bytes), v16_avx2_high8(c, d, signed_bytes)); }

QLM_INLINE __m256i v16_avx2_low_bytes(v16i a, v16i b)
{
    __m256i low = _mm256_set1_epi32(0xffff);
    __m256i first = _mm256_packus_epi32(_mm256_and_si256(a.lo, low), _mm256_and_si256(a.hi, low));
    __m256i second = _mm256_packus_epi32(_mm256_and_si256(b.lo, low), _mm256_and_si256(b.hi, low));
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

QLM_INLINE v64b v64_low8(v16i a, v16i b, v16i c, v16i d)
{ return QLM_AVX2_BOTH(v64b, v16_avx2_low_bytes(a, b), v16_avx2_low_bytes(c, d)); }

QLM_INLINE v64b v64_b_set1(int value)
{ return QLM_AVX2_BOTH(v64b, _mm256_set1_epi8((char)value), _mm256_set1_epi8((char)value)); }

QLM_AVX2_BINARY(v64_avx2_min_s, v64b, v64b, _mm256_min_epi8)
QLM_AVX2_BINARY(v64_avx2_min_u, v64b, v64b, _mm256_min_epu8)
QLM_AVX2_BINARY(v64_avx2_max_s, v64b, v64b, _mm256_max_epi8)
QLM_AVX2_BINARY(v64_avx2_max_u, v64b, v64b, _mm256_max_epu8)
QLM_AVX2_BINARY(v64_b_add, v64b, v64b, _mm256_add_epi8)

QLM_INLINE v64b v64_b_min(v64b a, v64b b, int signed_bytes)
{ return signed_bytes ? v64_avx2_min_s(a, b) : v64_avx2_min_u(a, b); }

QLM_INLINE v64b v64_b_max(v64b a, v64b b, int signed_bytes)
{ return signed_bytes ? v64_avx2_max_s(a, b) : v64_avx2_max_u(a, b); }

QLM_INLINE void v64_b_store(uint8_t *p, v64b a)
{
    _mm256_storeu_si256((__m256i *)p, a.lo);
    _mm256_storeu_si256((__m256i *)p + 1, a.hi);
}

QLM_INLINE void v64_b_store_part(uint8_t *p, size_t n, v64b a) { v16_avx2_copy(p, &a, n); }

/* Past the caches, 16 bytes at a time, which is how NumPy aligns its arrays; memory is slower than four stores. */
QLM_INLINE void v64_b_stream(uint8_t *p, v64b a)
{
    __m128i *to = (__m128i *)p;
    _mm_stream_si128(to, _mm256_castsi256_si128(a.lo));
    _mm_stream_si128(to + 1, _mm256_extracti128_si256(a.lo, 1));
    _mm_stream_si128(to + 2, _mm256_castsi256_si128(a.hi));
    _mm_stream_si128(to + 3, _mm256_extracti128_si256(a.hi, 1));
}

QLM_INLINE void v16_f_stream(float *p, v16f a)
{
    _mm_stream_ps(p, _mm256_castps256_ps128(a.lo));
    _mm_stream_ps(p + 4, _mm256_extractf128_ps(a.lo, 1));
    _mm_stream_ps(p + 8, _mm256_castps256_ps128(a.hi));
    _mm_stream_ps(p + 12, _mm256_extractf128_ps(a.hi, 1));
}

QLM_INLINE void streams_end(void) { _mm_sfence(); }

QLM_INLINE __m256i v16_avx2_high16(v16i a, v16i least, v16i most)
{
    __m256i words = _mm256_packs_epi32(_mm256_srai_epi32(a.lo, 16), _mm256_srai_epi32(a.hi, 16));
    /* The bounds are the same in each lane, of 16 bits, so packing them keeps them. */
    words = _mm256_max_epi16(words, _mm256_packs_epi32(least.lo, least.lo));
    words = _mm256_min_epi16(words, _mm256_packs_epi32(most.lo, most.lo));
    return _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
}

QLM_INLINE void v16_store_high16(uint16_t *p, v16i a, v16i least, v16i most)
{ _mm256_storeu_si256((__m256i *)p, v16_avx2_high16(a, least, most)); }

QLM_INLINE void v16_store_high16_part(uint16_t *p, size_t n, v16i a, v16i least, v16i most)
{
    __m256i whole = v16_avx2_high16(a, least, most);
    v16_avx2_copy(p, &whole, n * 2);
}

#define QLM_AVX2_REDUCE(name, op256, op128, op32)                                                                      \
    QLM_INLINE float name(v16f a)                                                                                      \
    {                                                                                                                  \
        __m256 by8 = op256(a.lo, a.hi);                                                                                \
        __m128 by4 = op128(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));                                \
        __m128 by2 = op128(by4, _mm_movehl_ps(by4, by4));                                                              \
        return _mm_cvtss_f32(op32(by2, _mm_shuffle_ps(by2, by2, 1)));                                                  \
    }

QLM_AVX2_REDUCE(v16_f_reduce_add, _mm256_add_ps, _mm_add_ps, _mm_add_ss)
QLM_AVX2_REDUCE(v16_f_reduce_min, _mm256_min_ps, _mm_min_ps, _mm_min_ss)
QLM_AVX2_REDUCE(v16_f_reduce_max, _mm256_max_ps, _mm_max_ps, _mm_max_ss)

QLM_INLINE __m256i ymm_greater_magnitude(__m256 a, __m256 b)
{
    __m256 bits = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MAX));
    return _mm256_max_epu32(_mm256_castps_si256(_mm256_and_ps(a, bits)), _mm256_castps_si256(_mm256_and_ps(b, bits)));
}

#include "vec_ymm.h"

QLM_INLINE v16i v16_i_greatest(const float *x, size_t n, enum order order)
{ return QLM_AVX2_BOTH(v16i, ymm_greatest_of_eight(x, n, order), ymm_greatest_of_eight(x + 8 * n, n, order)); }

#define QLM_AVX2_REDUCE_INTS(type, name, op256, op128)                                                                 \
    QLM_INLINE type name(v16i a)                                                                                       \
    {                                                                                                                  \
        __m256i by8 = op256(a.lo, a.hi);                                                                               \
        __m128i by4 = op128(_mm256_castsi256_si128(by8), _mm256_extracti128_si256(by8, 1));                            \
        __m128i by2 = op128(by4, _mm_shuffle_epi32(by4, _MM_SHUFFLE(1, 0, 3, 2)));                                     \
        return (type)_mm_cvtsi128_si32(op128(by2, _mm_shuffle_epi32(by2, 1)));                                         \
    }

QLM_AVX2_REDUCE_INTS(int32_t, v16_i_reduce_add, _mm256_add_epi32, _mm_add_epi32)
QLM_AVX2_REDUCE_INTS(int32_t, v16_i_reduce_max_s, _mm256_max_epi32, _mm_max_epi32)
QLM_AVX2_REDUCE_INTS(uint32_t, v16_i_reduce_max_u, _mm256_max_epu32, _mm_max_epu32)
QLM_AVX2_REDUCE_INTS(uint32_t, v16_i_reduce_min_u, _mm256_min_epu32, _mm_min_epu32)

QLM_CANONICAL_BY_SELECT

#endif
