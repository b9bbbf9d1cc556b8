/* peaks_x86.c: the loops for AVX2, AVX-VNNI, AVX-512 and AVX512-VNNI.
 *
 * Loops on registers are assembly: a compiler may keep accumulators in memory.  They have at least ten accumulators,
 * enough to hide each latency; all operands are zeros, since no instruction used here depends on its data.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "cpu.h"
#include "peaks.h"

/* ---- loops on registers ---------------------------------------------------------------------------------------- */

#define R5(X) X(0, 5) X(1, 6) X(2, 7) X(3, 8) X(4, 9)
#define R10(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)
#define R24(X) R10(X) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#define XMM_0_15                                                                                                       \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",         \
        "xmm13", "xmm14", "xmm15"
#define XMM_16_31                                                                                                      \
    "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",        \
        "xmm28", "xmm29", "xmm30", "xmm31"

#define RUN(name) static void name(const void *source, void *target, size_t bytes, size_t rounds)
#define LOOP(name, attributes, clear, body, ...)                                                                       \
    attributes RUN(name)                                                                                               \
    {                                                                                                                  \
        (void)source, (void)target, (void)bytes;                                                                       \
        __asm__ volatile(clear ".p2align 6\n\t1:\n\t" body "dec %0\n\tjnz 1b\n\tvzeroupper"                            \
                         : "+r"(rounds)::__VA_ARGS__, "cc");                                                           \
    }

/* ymm: 0 to 9 accumulate, 10 to 13 are operands, 14 and 15 hold what is between. */
#define CLEAR_Y(i) "vpxor %%ymm" #i ",%%ymm" #i ",%%ymm" #i "\n\t"
#define CLEAR_YS R10(CLEAR_Y) CLEAR_Y(10) CLEAR_Y(11) CLEAR_Y(12) CLEAR_Y(13)
#define ADD_Y(type, i) "vpadd" type " %%ymm14,%%ymm" #i ",%%ymm" #i "\n\t"
#define PAIRS_Y(i) "vpmaddwd %%ymm10,%%ymm11,%%ymm14\n\t" ADD_Y("d", i)
#define SIGN_Y(i)                                                                                                      \
    "vpsignb %%ymm10,%%ymm11,%%ymm14\n\tvpmaddubsw %%ymm14,%%ymm12,%%ymm14\n\tvpmaddwd "                               \
    "%%ymm13,%%ymm14,%%ymm14\n\t" ADD_Y("d", i)
/* Eight products of 4-bit codes by 8-bit ones, two a lane, fit int16: 8 * 2 * 15 * 127 < 2^15. */
#define NIBBLE_Y(i) "vpmaddubsw %%ymm11,%%ymm12,%%ymm14\n\t" ADD_Y("w", i)
#define NIBBLES_Y(i, j)                                                                                                \
    "vpmaddubsw %%ymm11,%%ymm12,%%ymm" #i "\n\t" NIBBLE_Y(i) NIBBLE_Y(i) NIBBLE_Y(i) NIBBLE_Y(i) NIBBLE_Y(i)           \
        NIBBLE_Y(i) NIBBLE_Y(i) "vpmaddwd %%ymm13,%%ymm" #i ",%%ymm14\n\t" ADD_Y("d", j)
#define FMA_Y(i) "vfmadd231ps %%ymm10,%%ymm11,%%ymm" #i "\n\t"
#define DOT_Y(i) "%{vex%} vpdpbusd %%ymm10,%%ymm11,%%ymm" #i "\n\t"
#define DOT16_Y(i) "%{vex%} vpdpwssd %%ymm10,%%ymm11,%%ymm" #i "\n\t"

LOOP(pairs_ymm, , CLEAR_YS, R10(PAIRS_Y), XMM_0_15)
LOOP(sign_ymm, , CLEAR_YS, R10(SIGN_Y), XMM_0_15)
LOOP(nibbles_ymm, , CLEAR_YS, R5(NIBBLES_Y), XMM_0_15)
LOOP(fma_ymm, , CLEAR_YS, R10(FMA_Y), XMM_0_15)
LOOP(dot_ymm, , CLEAR_YS, R10(DOT_Y), XMM_0_15)
LOOP(dot16_ymm, , CLEAR_YS, R10(DOT16_Y), XMM_0_15)

/* zmm: 0 to 23 accumulate, 24 to 27 are operands, 28 holds what is between. */
#define ZMM __attribute__((target("avx512f")))
#define CLEAR_Z(i) "vpxord %%zmm" #i ",%%zmm" #i ",%%zmm" #i "\n\t"
#define CLEAR_ZS R24(CLEAR_Z) CLEAR_Z(24) CLEAR_Z(25) CLEAR_Z(26) CLEAR_Z(27)
#define PAIRS_Z(i) "vpmaddwd %%zmm24,%%zmm25,%%zmm28\n\tvpaddd %%zmm28,%%zmm" #i ",%%zmm" #i "\n\t"
#define NIBBLE_Z(i) "vpmaddubsw %%zmm24,%%zmm25,%%zmm28\n\tvpaddw %%zmm28,%%zmm" #i ",%%zmm" #i "\n\t"
#define NIBBLES_Z(i, j)                                                                                                \
    "vpmaddubsw %%zmm24,%%zmm25,%%zmm" #i "\n\t" NIBBLE_Z(i) NIBBLE_Z(i) NIBBLE_Z(i) NIBBLE_Z(i) NIBBLE_Z(i)           \
        NIBBLE_Z(i) NIBBLE_Z(i) "vpmaddwd %%zmm26,%%zmm" #i ",%%zmm28\n\tvpaddd %%zmm28,%%zmm" #j ",%%zmm" #j "\n\t"
#define FMA_Z(i) "vfmadd231ps %%zmm24,%%zmm25,%%zmm" #i "\n\t"
#define DOT_Z(i) "vpdpbusd %%zmm24,%%zmm25,%%zmm" #i "\n\t"
#define DOT16_Z(i) "vpdpwssd %%zmm24,%%zmm25,%%zmm" #i "\n\t"

LOOP(pairs_zmm, ZMM, CLEAR_ZS, R24(PAIRS_Z), XMM_0_15, XMM_16_31)
LOOP(nibbles_zmm, ZMM, CLEAR_ZS, R5(NIBBLES_Z), XMM_0_15, XMM_16_31)
LOOP(fma_zmm, ZMM, CLEAR_ZS, R24(FMA_Z), XMM_0_15, XMM_16_31)
LOOP(dot_zmm, ZMM, CLEAR_ZS, R24(DOT_Z), XMM_0_15, XMM_16_31)
LOOP(dot16_zmm, ZMM, CLEAR_ZS, R24(DOT16_Z), XMM_0_15, XMM_16_31)

/* ---- reading --------------------------------------------------------------------------------------------------- */

#define R8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define READ_LOOP(name, attributes, clear, load, width, ...)                                                           \
    attributes RUN(name)                                                                                               \
    {                                                                                                                  \
        (void)target;                                                                                                  \
        for (; rounds && bytes; rounds--) {                                                                            \
            const char *p = source, *end = p + bytes;                                                                  \
            __asm__ volatile(R8(clear) ".p2align 6\n\t1:\n\t" R8(load) "add $8*" #width ",%0\n\tcmp %1,%0\n\tjb 1b"    \
                             : "+r"(p)                                                                                 \
                             : "r"(end)                                                                                \
                             : __VA_ARGS__, "cc", "memory");                                                           \
        }                                                                                                              \
        __asm__ volatile("vzeroupper" ::: __VA_ARGS__);                                                                \
    }
#define LOAD_Y(i) "vpor 32*" #i "(%0),%%ymm" #i ",%%ymm" #i "\n\t"
#define LOAD_Z(i) "vpord 64*" #i "(%0),%%zmm" #i ",%%zmm" #i "\n\t"

READ_LOOP(read_ymm, , CLEAR_Y, LOAD_Y, 32, XMM_0_15)
READ_LOOP(read_zmm, ZMM, CLEAR_Z, LOAD_Z, 64, XMM_0_15, XMM_16_31)

/* ---- converting: four registers of floats become codes through two saturating packs and one permutation ---------- */

#define SCALE 12.7f
#define STEP 0.03125f
#define ROW 4096
#define INLINE static inline __attribute__((always_inline))
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx2")))

/* The loops of one width: `V`, `codes`, `put`, `floats`, `largest` as below; each with ordinary and streaming stores.
 */
#define CONVERSIONS(width, attributes)                                                                                 \
    attributes INLINE void quantize_row_##width(const float *x, int8_t *q, size_t n, float scale, int stream)          \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i += 64) codes_##width(x + i, q + i, scale, stream);                                 \
    }                                                                                                                  \
    attributes INLINE void quantize_all_##width(const void *x, void *q, size_t n, size_t rounds, int stream)           \
    {                                                                                                                  \
        for (; rounds; rounds--) {                                                                                     \
            quantize_row_##width(x, q, n, SCALE, stream);                                                              \
            if (stream) _mm_sfence();                                                                                  \
            __asm__ volatile("" ::: "memory");                                                                         \
        }                                                                                                              \
    }                                                                                                                  \
    attributes INLINE void dequantize_all_##width(const int8_t *q, float *x, size_t n, size_t rounds, int stream)      \
    {                                                                                                                  \
        for (; rounds; rounds--) {                                                                                     \
            for (size_t i = 0; i < n; i += 64) floats_##width(q + i, x + i, stream);                                   \
            if (stream) _mm_sfence();                                                                                  \
            __asm__ volatile("" ::: "memory");                                                                         \
        }                                                                                                              \
    }                                                                                                                  \
    attributes INLINE void rows_all_##width(const float *x, int8_t *q, size_t n, size_t rounds, int stream)            \
    {                                                                                                                  \
        for (; rounds; rounds--) {                                                                                     \
            for (size_t row = 0; row < n; row += ROW) {                                                                \
                float max = largest_##width(x + row);                                                                  \
                quantize_row_##width(x + row, q + row, ROW, max > 0 ? 127 / max : 0, stream);                          \
            }                                                                                                          \
            if (stream) _mm_sfence();                                                                                  \
            __asm__ volatile("" ::: "memory");                                                                         \
        }                                                                                                              \
    }                                                                                                                  \
    attributes RUN(quantize_##width) { quantize_all_##width(source, target, bytes / 4, rounds, 0); }                   \
    attributes RUN(quantize_stream_##width) { quantize_all_##width(source, target, bytes / 4, rounds, 1); }            \
    attributes RUN(dequantize_##width) { dequantize_all_##width(source, target, bytes / 4, rounds, 0); }               \
    attributes RUN(dequantize_stream_##width) { dequantize_all_##width(source, target, bytes / 4, rounds, 1); }        \
    attributes RUN(rows_##width) { rows_all_##width(source, target, bytes / 4, rounds, 0); }                           \
    attributes RUN(rows_stream_##width) { rows_all_##width(source, target, bytes / 4, rounds, 1); }

/* -- AVX2 -- */

AVX2 INLINE __m256i words_ymm(const float *x, __m256 scale)
{
    __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), scale));
    __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), scale));
    return _mm256_packs_epi32(a, b);
}

AVX2 INLINE void codes_ymm(const float *x, int8_t *q, float scale, int stream)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256 factor = _mm256_set1_ps(scale);
    for (int i = 0; i < 64; i += 32) {
        __m256i bytes = _mm256_packs_epi16(words_ymm(x + i, factor), words_ymm(x + i + 16, factor));
        bytes = _mm256_permutevar8x32_epi32(bytes, order);
        if (stream)
            _mm256_stream_si256((__m256i *)(q + i), bytes);
        else
            _mm256_storeu_si256((__m256i *)(q + i), bytes);
    }
}

AVX2 INLINE void floats_ymm(const int8_t *q, float *x, int stream)
{
    for (int i = 0; i < 64; i += 8) {
        __m256i codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(q + i)));
        __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(codes), _mm256_set1_ps(STEP));
        if (stream)
            _mm256_stream_ps(x + i, value);
        else
            _mm256_storeu_ps(x + i, value);
    }
}

AVX2 INLINE float largest_ymm(const float *x)
{
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 max[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < ROW; i += 32)
        for (int j = 0; j < 4; j++)
            max[j] = _mm256_max_ps(max[j], _mm256_and_ps(magnitude, _mm256_loadu_ps(x + i + 8 * j)));
    float lanes[8], result = 0;
    _mm256_storeu_ps(lanes, _mm256_max_ps(_mm256_max_ps(max[0], max[1]), _mm256_max_ps(max[2], max[3])));
    for (int i = 0; i < 8; i++) result = lanes[i] > result ? lanes[i] : result;
    return result;
}

CONVERSIONS(ymm, AVX2)

/* -- AVX-512 -- */

AVX512 INLINE __m512i words_zmm(const float *x, __m512 scale)
{
    __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), scale));
    __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), scale));
    return _mm512_packs_epi32(a, b);
}

AVX512 INLINE void codes_zmm(const float *x, int8_t *q, float scale, int stream)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512 factor = _mm512_set1_ps(scale);
    __m512i bytes = _mm512_packs_epi16(words_zmm(x, factor), words_zmm(x + 32, factor));
    bytes = _mm512_permutexvar_epi32(order, bytes);
    if (stream)
        _mm512_stream_si512((__m512i *)q, bytes);
    else
        _mm512_storeu_si512(q, bytes);
}

AVX512 INLINE void floats_zmm(const int8_t *q, float *x, int stream)
{
    for (int i = 0; i < 64; i += 16) {
        __m512i codes = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(q + i)));
        __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(codes), _mm512_set1_ps(STEP));
        if (stream)
            _mm512_stream_ps(x + i, value);
        else
            _mm512_storeu_ps(x + i, value);
    }
}

AVX512 INLINE float largest_zmm(const float *x)
{
    __m512 max[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int i = 0; i < ROW; i += 64)
        for (int j = 0; j < 4; j++) max[j] = _mm512_max_ps(max[j], _mm512_abs_ps(_mm512_loadu_ps(x + i + 16 * j)));
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3])));
}

CONVERSIONS(zmm, AVX512)

/* ---- lists: a round's operations are two for each multiply-add ------------------------------------------------------
 */

#define MEMORY(width)                                                                                                  \
    {"read", #width, 0, read_##width}, {"quantize", #width, 0, quantize_##width},                                      \
        {"quantize stream", #width, 0, quantize_stream_##width}, {"dequantize", #width, 0, dequantize_##width},        \
        {"dequantize stream", #width, 0, dequantize_stream_##width}, {"rows", #width, 0, rows_##width},                \
        {"rows stream", #width, 0, rows_stream_##width},                                                               \
    { NULL, NULL, 0, NULL }

static const struct qlm_peak avx2_peaks[] = {{"int8", "vpmaddwd ymm", 10 * 16 * 2, pairs_ymm},
                                             {"int8", "vpsignb, vpmaddubsw ymm", 10 * 32 * 2, sign_ymm},
                                             {"int4", "8 vpmaddubsw ymm", 5 * 8 * 32 * 2, nibbles_ymm},
                                             {"int16", "vpmaddwd ymm", 10 * 16 * 2, pairs_ymm},
                                             {"float32", "vfmadd231ps ymm", 10 * 8 * 2, fma_ymm},
                                             MEMORY(ymm)};

static const struct qlm_peak avxvnni_peaks[] = {{"int8", "vpdpbusd ymm", 10 * 32 * 2, dot_ymm},
                                                {"int16", "vpdpwssd ymm", 10 * 16 * 2, dot16_ymm},
                                                {"float32", "vfmadd231ps ymm", 10 * 8 * 2, fma_ymm},
                                                MEMORY(ymm)};

static const struct qlm_peak avx512_peaks[] = {{"int8", "vpmaddwd zmm", 24 * 32 * 2, pairs_zmm},
                                               {"int4", "8 vpmaddubsw zmm", 5 * 8 * 64 * 2, nibbles_zmm},
                                               {"int16", "vpmaddwd zmm", 24 * 32 * 2, pairs_zmm},
                                               {"float32", "vfmadd231ps zmm", 24 * 16 * 2, fma_zmm},
                                               MEMORY(zmm)};

static const struct qlm_peak avx512vnni_peaks[] = {{"int8", "vpdpbusd zmm", 24 * 64 * 2, dot_zmm},
                                                   {"int16", "vpdpwssd zmm", 24 * 32 * 2, dot16_zmm},
                                                   {"float32", "vfmadd231ps zmm", 24 * 16 * 2, fma_zmm},
                                                   MEMORY(zmm)};

const struct qlm_peak_list qlm_peak_lists[] = {
    {QLM_CPU_AVX512F | QLM_CPU_AVX512BW | QLM_CPU_AVX512VNNI, avx512vnni_peaks},
    {QLM_CPU_AVX512F | QLM_CPU_AVX512BW | QLM_CPU_AVX512DQ, avx512_peaks},
    {QLM_CPU_AVX2 | QLM_CPU_AVXVNNI, avxvnni_peaks},
    {QLM_CPU_AVX2 | QLM_CPU_FMA, avx2_peaks},
    {0, NULL},
};

#endif
