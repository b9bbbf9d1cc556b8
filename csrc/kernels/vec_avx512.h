/* 16 lanes in one AVX-512 register (template.h lists the meanings). */
#ifndef QLM_VEC_AVX512_H
#define QLM_VEC_AVX512_H

#include <immintrin.h>

/* A file that needs more (VNNI) defines a larger target first. */
#ifndef QLM_TARGET
#define QLM_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#endif
#include "template.h"

#define SPAN_AHEAD 0

typedef __m512 v16f;
typedef __m512i v16i;
typedef __mmask16 v16m;

QLM_INLINE v16m v16_m_first(size_t n) { return (v16m)((1u << n) - 1u); }

QLM_INLINE v16m v16_m_and(v16m a, v16m b) { return (v16m)(a & b); }

QLM_INLINE v16m v16_m_or(v16m a, v16m b) { return (v16m)(a | b); }

QLM_INLINE int v16_m_any(v16m a) { return a != 0; }

QLM_INLINE v16f v16_f_set1(float value) { return _mm512_set1_ps(value); }

QLM_INLINE v16i v16_i_set1(int32_t value) { return _mm512_set1_epi32(value); }

QLM_INLINE v16f v16_f_load(const float *p) { return _mm512_loadu_ps(p); }

/* One load a cycle is all there is, and compilers fold a load into each instruction that uses it. */
QLM_INLINE v16f v16_f_load_once(const float *p)
{
    v16f x = _mm512_loadu_ps(p);
    __asm__("" : "+v"(x));
    return x;
}

#define v16_i_keep(v) __asm__("" : "+v"(v))

QLM_INLINE v16f v16_f_load_part(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v16_m_first(n), p); }

QLM_INLINE v16i v16_i_load(const int32_t *p) { return _mm512_loadu_si512(p); }

QLM_INLINE v16i v16_i_load_part(const int32_t *p, size_t n) { return _mm512_maskz_loadu_epi32(v16_m_first(n), p); }

QLM_INLINE void v16_f_store(float *p, v16f a) { _mm512_storeu_ps(p, a); }

QLM_INLINE void v16_f_store_part(float *p, size_t n, v16f a) { _mm512_mask_storeu_ps(p, v16_m_first(n), a); }

QLM_INLINE void v16_i_store(int32_t *p, v16i a) { _mm512_storeu_si512(p, a); }

QLM_INLINE void v16_i_store_part(int32_t *p, size_t n, v16i a) { _mm512_mask_storeu_epi32(p, v16_m_first(n), a); }

QLM_INLINE v16f v16_f_load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

#define QLM_AVX512_LOAD_CODES(name, type, load, masked_load, widen)                                                    \
    QLM_INLINE v16i name(const type *p) { return widen(load); }                                                        \
    QLM_INLINE v16i name##_part(const type *p, size_t n) { return widen(masked_load(v16_m_first(n), p)); }
#define QLM_AVX512_LOAD8 _mm_loadu_si128((const __m128i *)p)
#define QLM_AVX512_LOAD16 _mm256_loadu_si256((const __m256i *)p)

QLM_AVX512_LOAD_CODES(v16_load_s8, int8_t, QLM_AVX512_LOAD8, _mm_maskz_loadu_epi8, _mm512_cvtepi8_epi32)
QLM_AVX512_LOAD_CODES(v16_load_u8, uint8_t, QLM_AVX512_LOAD8, _mm_maskz_loadu_epi8, _mm512_cvtepu8_epi32)
QLM_AVX512_LOAD_CODES(v16_load_s16, int16_t, QLM_AVX512_LOAD16, _mm256_maskz_loadu_epi16, _mm512_cvtepi16_epi32)
QLM_AVX512_LOAD_CODES(v16_load_u16, uint16_t, QLM_AVX512_LOAD16, _mm256_maskz_loadu_epi16, _mm512_cvtepu16_epi32)

QLM_INLINE void v16_store_low8(uint8_t *p, v16i a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }

QLM_INLINE void v16_store_low8_part(uint8_t *p, size_t n, v16i a)
{ _mm_mask_storeu_epi8(p, v16_m_first(n), _mm512_cvtepi32_epi8(a)); }

QLM_INLINE void v16_store_low16(uint16_t *p, v16i a) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(a)); }

QLM_INLINE void v16_store_low16_part(uint16_t *p, size_t n, v16i a)
{ _mm256_mask_storeu_epi16(p, v16_m_first(n), _mm512_cvtepi32_epi16(a)); }

QLM_LOADS_AND_STORES_N

QLM_INLINE v16f v16_f_add(v16f a, v16f b) { return _mm512_add_ps(a, b); }

QLM_INLINE v16f v16_f_sub(v16f a, v16f b) { return _mm512_sub_ps(a, b); }

QLM_INLINE v16f v16_f_mul(v16f a, v16f b) { return _mm512_mul_ps(a, b); }

QLM_INLINE v16f v16_f_div(v16f a, v16f b) { return _mm512_div_ps(a, b); }

QLM_INLINE v16f v16_f_fma(v16f a, v16f b, v16f c) { return _mm512_fmadd_ps(a, b, c); }

QLM_INLINE v16f v16_f_fnma(v16f a, v16f b, v16f c) { return _mm512_fnmadd_ps(a, b, c); }

QLM_INLINE v16f v16_f_sqrt(v16f a) { return _mm512_sqrt_ps(a); }

QLM_INLINE v16f v16_f_min(v16f a, v16f b) { return _mm512_min_ps(a, b); }

QLM_INLINE v16f v16_f_max(v16f a, v16f b) { return _mm512_max_ps(a, b); }

QLM_INLINE v16i v16_f_as_i(v16f a) { return _mm512_castps_si512(a); }

QLM_INLINE v16f v16_i_as_f(v16i a) { return _mm512_castsi512_ps(a); }

QLM_INLINE v16f v16_f_abs(v16f a) { return _mm512_and_ps(a, v16_i_as_f(v16_i_set1(0x7fffffff))); }

QLM_INLINE v16f v16_f_minus_abs(v16f a) { return _mm512_or_ps(a, v16_i_as_f(v16_i_set1((int32_t)0x80000000u))); }

/* 0xE4: the bits of the first operand where the third has ones, else those of the second. */
QLM_INLINE v16f v16_f_copysign(v16f a, v16f b)
{
    v16i sign = v16_i_set1((int32_t)0x80000000u);
    return v16_i_as_f(_mm512_ternarylogic_epi32(v16_f_as_i(b), v16_f_as_i(a), sign, 0xE4));
}

QLM_INLINE v16f v16_f_rint(v16f a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

QLM_INLINE v16f v16_f_floor(v16f a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }

QLM_INLINE v16m v16_f_lt(v16f a, v16f b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }

QLM_INLINE v16m v16_f_le(v16f a, v16f b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }

QLM_INLINE v16m v16_f_gt(v16f a, v16f b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }

QLM_INLINE v16m v16_f_ge(v16f a, v16f b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

QLM_INLINE v16m v16_f_not_lt(v16f a, v16f b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }

QLM_INLINE v16m v16_f_is_nan(v16f a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }

QLM_INLINE v16f v16_f_select(v16m m, v16f a, v16f b) { return _mm512_mask_blend_ps(m, b, a); }

/* Four bits of the index count: the eight are there twice. */
QLM_INLINE v16f v16_f_lookup(const float *table, v16i index)
{ return _mm512_permutexvar_ps(index, _mm512_broadcast_f32x8(_mm256_loadu_ps(table))); }

/* One instruction: the table gives what the first operand held where x is a quiet or signalling NaN, else x. */
QLM_INLINE v16f v16_f_canonical(v16f x)
{ return _mm512_fixupimm_ps(v16_i_as_f(v16_i_set1(0x7fc00000)), x, v16_i_set1(0x11111100), 0); }

QLM_INLINE v16f v16_f_from_i(v16i a) { return _mm512_cvtepi32_ps(a); }

QLM_INLINE v16i v16_i_from_f(v16f a) { return _mm512_cvtps_epi32(a); }

QLM_INLINE v16i v16_i_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }

QLM_INLINE v16i v16_i_sub(v16i a, v16i b) { return _mm512_sub_epi32(a, b); }

QLM_INLINE v16i v16_i_mul(v16i a, v16i b) { return _mm512_mullo_epi32(a, b); }

QLM_INLINE v16i v16_i_and(v16i a, v16i b) { return _mm512_and_si512(a, b); }

/* Macros, because the count must be a constant even without optimization. */
#define v16_i_shl(a, count) _mm512_slli_epi32(a, count)
#define v16_i_sar(a, count) _mm512_srai_epi32(a, count)

/* ---- fixed point: 16 bits before the point, 16 after it -------------------------------------------------------- */

typedef __m512i v64b;

QLM_INLINE v16i v16_i_min_u(v16i a, v16i b) { return _mm512_min_epu32(a, b); }

QLM_INLINE v16i v16_i_max_u(v16i a, v16i b) { return _mm512_max_epu32(a, b); }

QLM_INLINE v16i v16_i_max_s(v16i a, v16i b) { return _mm512_max_epi32(a, b); }

/* What does not fit becomes 0x80000000. */
QLM_INLINE v16i v16_i_fixed(v16f a) { return _mm512_cvtps_epi32(a); }

QLM_INLINE int v64_any_low(v16i a, v16i b, v16i c, v16i d, v16i bound)
{
    v16i least = _mm512_min_epu16(_mm512_min_epu16(a, b), _mm512_min_epu16(c, d));
    return _mm512_cmplt_epu16_mask(least, bound) != 0;
}

/* Packing takes eight words of each operand in turn, so the result's eight parts come out of order. */
QLM_INLINE v64b v64_high8(v16i a, v16i b, v16i c, v16i d, int signed_bytes)
{
    v16i high = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21,
                                 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    v16i first = _mm512_permutex2var_epi16(a, high, b), second = _mm512_permutex2var_epi16(c, high, d);
    v64b mixed = signed_bytes ? _mm512_packs_epi16(first, second) : _mm512_packus_epi16(first, second);
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), mixed);
}

QLM_INLINE v64b v64_low8(v16i a, v16i b, v16i c, v16i d)
{
    v16i low = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20,
                                18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    v64b mixed = _mm512_packus_epi16(_mm512_permutex2var_epi16(a, low, b), _mm512_permutex2var_epi16(c, low, d));
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), mixed);
}

QLM_INLINE v64b v64_b_set1(int value) { return _mm512_set1_epi8((char)value); }

QLM_INLINE v64b v64_b_min(v64b a, v64b b, int signed_bytes)
{ return signed_bytes ? _mm512_min_epi8(a, b) : _mm512_min_epu8(a, b); }

QLM_INLINE v64b v64_b_max(v64b a, v64b b, int signed_bytes)
{ return signed_bytes ? _mm512_max_epi8(a, b) : _mm512_max_epu8(a, b); }

QLM_INLINE v64b v64_b_add(v64b a, v64b b) { return _mm512_add_epi8(a, b); }

QLM_INLINE void v64_b_store(uint8_t *p, v64b a) { _mm512_storeu_si512(p, a); }

QLM_INLINE void v64_b_store_part(uint8_t *p, size_t n, v64b a)
{ _mm512_mask_storeu_epi8(p, ((__mmask64)1 << n) - 1, a); }

/* Past the caches, 16 bytes at a time, which is how NumPy aligns its arrays; memory is slower than four stores. */
QLM_INLINE void v64_b_stream(uint8_t *p, v64b a)
{
    __m128i *to = (__m128i *)p;
    _mm_stream_si128(to, _mm512_castsi512_si128(a));
    _mm_stream_si128(to + 1, _mm512_extracti32x4_epi32(a, 1));
    _mm_stream_si128(to + 2, _mm512_extracti32x4_epi32(a, 2));
    _mm_stream_si128(to + 3, _mm512_extracti32x4_epi32(a, 3));
}

QLM_INLINE void v16_f_stream(float *p, v16f a)
{
    _mm_stream_ps(p, _mm512_castps512_ps128(a));
    _mm_stream_ps(p + 4, _mm512_extractf32x4_ps(a, 1));
    _mm_stream_ps(p + 8, _mm512_extractf32x4_ps(a, 2));
    _mm_stream_ps(p + 12, _mm512_extractf32x4_ps(a, 3));
}

QLM_INLINE void streams_end(void) { _mm_sfence(); }

QLM_INLINE __m256i v16_avx512_high16(v16i a, v16i least, v16i most)
{ return _mm512_cvtepi32_epi16(_mm512_min_epi32(_mm512_max_epi32(_mm512_srai_epi32(a, 16), least), most)); }

QLM_INLINE void v16_store_high16(uint16_t *p, v16i a, v16i least, v16i most)
{ _mm256_storeu_si256((__m256i *)p, v16_avx512_high16(a, least, most)); }

QLM_INLINE void v16_store_high16_part(uint16_t *p, size_t n, v16i a, v16i least, v16i most)
{ _mm256_mask_storeu_epi16(p, v16_m_first(n), v16_avx512_high16(a, least, most)); }

#define QLM_AVX512_REDUCE(name, op256, op128, op32)                                                                    \
    QLM_INLINE float name(v16f a)                                                                                      \
    {                                                                                                                  \
        __m256 by8 = op256(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));                                   \
        __m128 by4 = op128(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));                                \
        __m128 by2 = op128(by4, _mm_movehl_ps(by4, by4));                                                              \
        return _mm_cvtss_f32(op32(by2, _mm_shuffle_ps(by2, by2, 1)));                                                  \
    }

QLM_AVX512_REDUCE(v16_f_reduce_add, _mm256_add_ps, _mm_add_ps, _mm_add_ss)
QLM_AVX512_REDUCE(v16_f_reduce_min, _mm256_min_ps, _mm_min_ps, _mm_min_ss)
QLM_AVX512_REDUCE(v16_f_reduce_max, _mm256_max_ps, _mm_max_ps, _mm_max_ss)

/* vrangeps takes the operand of the greater magnitude and drops its sign. */
QLM_INLINE __m256i ymm_greater_magnitude(__m256 a, __m256 b)
{ return _mm256_castps_si256(_mm256_range_ps(a, b, 0x0B)); }

#include "vec_ymm.h"

QLM_INLINE v16i v16_i_greatest(const float *x, size_t n, enum order order)
{
    __m256i first = ymm_greatest_of_eight(x, n, order), second = ymm_greatest_of_eight(x + 8 * n, n, order);
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

QLM_INLINE uint32_t v16_i_reduce_min_u(v16i a) { return _mm512_reduce_min_epu32(a); }

QLM_INLINE uint32_t v16_i_reduce_max_u(v16i a) { return _mm512_reduce_max_epu32(a); }

QLM_INLINE int32_t v16_i_reduce_max_s(v16i a) { return _mm512_reduce_max_epi32(a); }

QLM_INLINE int32_t v16_i_reduce_add(v16i a) { return _mm512_reduce_add_epi32(a); }

#endif
