/* peaks_arm.c: the loops for NEON, its dot product and its matrix product.
 *
 * Loops on registers are assembly: a compiler may keep accumulators in memory.  There are no streaming stores: the
 * ISA's non-temporal pairs are a hint that cores pass over.
 */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "cpu.h"
#include "peaks.h"

/* ---- loops on registers: v0 to v23 accumulate, v24 and v25 are operands, v26 holds what is between ----------------
 */

#define R0_7(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define R8_15(X) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define R24(X) R0_7(X) R8_15(X) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#define CLEAR(i) "movi v" #i ".16b, #0\n\t"
#define CLOBBERS                                                                                                       \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16",       \
        "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "cc"

#define RUN(name) static void name(const void *source, void *target, size_t bytes, size_t rounds)
#define LOOP(name, body)                                                                                               \
    RUN(name)                                                                                                          \
    {                                                                                                                  \
        (void)source, (void)target, (void)bytes;                                                                       \
        __asm__ volatile(".arch armv8.2-a+dotprod+i8mm\n\t" R24(CLEAR) CLEAR(24)                                       \
                             CLEAR(25) ".p2align 6\n\t1:\n\t" body "subs %0, %0, #1\n\tb.ne 1b"                        \
                         : "+r"(rounds)::CLOBBERS);                                                                    \
    }
/* Two products of codes within +-127 and +-128 fit int16: 2 * 127 * 128 < 2^15. */
#define PAIRS(i) "smull v26.8h, v24.8b, v25.8b\n\tsmlal2 v26.8h, v24.16b, v25.16b\n\tsadalp v" #i ".4s, v26.8h\n\t"
#define PAIRS16(i) "smlal v" #i ".4s, v24.4h, v25.4h\n\t"
#define DOT(i) "sdot v" #i ".4s, v24.16b, v25.16b\n\t"
#define MATRIX(i) "smmla v" #i ".4s, v24.16b, v25.16b\n\t"
#define FMA(i) "fmla v" #i ".4s, v24.4s, v25.4s\n\t"

LOOP(pairs, R24(PAIRS))
LOOP(pairs16, R24(PAIRS16))
LOOP(dot, R24(DOT))
LOOP(matrix, R24(MATRIX))
LOOP(fma32, R24(FMA))

/* ---- loops over memory ------------------------------------------------------------------------------------------- */

#define SCALE 12.7f
#define STEP 0.03125f
#define ROW 4096

RUN(read_all)
{
    (void)target;
    for (; rounds; rounds--) {
        uint8x16_t any[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
        const uint8_t *p = source;
        for (size_t i = 0; i < bytes; i += 64)
            for (int j = 0; j < 4; j++) any[j] = vorrq_u8(any[j], vld1q_u8(p + i + 16 * j));
        __asm__ volatile("" ::"w"(any[0]), "w"(any[1]), "w"(any[2]), "w"(any[3]) : "memory");
    }
}

static inline int16x8_t words(const float *x, float scale)
{
    int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), scale));
    int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), scale));
    return vcombine_s16(vqmovn_s32(a), vqmovn_s32(b));
}

static inline void quantize_row(const float *x, int8_t *q, size_t n, float scale)
{
    for (size_t i = 0; i < n; i += 16)
        vst1q_s8(q + i, vcombine_s8(vqmovn_s16(words(x + i, scale)), vqmovn_s16(words(x + i + 8, scale))));
    __asm__ volatile("" ::: "memory");
}

RUN(quantize)
{
    for (; rounds; rounds--) quantize_row(source, target, bytes / 4, SCALE);
}

RUN(dequantize)
{
    const int8_t *q = source;
    float *x = target;
    for (; rounds; rounds--) {
        for (size_t i = 0; i < bytes / 4; i += 8) {
            int16x8_t codes = vmovl_s8(vld1_s8(q + i));
            vst1q_f32(x + i, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes))), STEP));
            vst1q_f32(x + i + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(codes))), STEP));
        }
        __asm__ volatile("" ::: "memory");
    }
}

static inline float largest(const float *x)
{
    float32x4_t max[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    for (int i = 0; i < ROW; i += 16)
        for (int j = 0; j < 4; j++) max[j] = vmaxq_f32(max[j], vabsq_f32(vld1q_f32(x + i + 4 * j)));
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(max[0], max[1]), vmaxq_f32(max[2], max[3])));
}

RUN(rows)
{
    const float *x = source;
    int8_t *q = target;
    for (; rounds; rounds--)
        for (size_t row = 0; row < bytes / 4; row += ROW) {
            float max = largest(x + row);
            quantize_row(x + row, q + row, ROW, max > 0 ? 127 / max : 0);
        }
}

/* ---- lists: a round's operations are two for each multiply-add -----------------------------------------------------
 */

#define MEMORY                                                                                                         \
    {"float32", "fmla", 24 * 4 * 2, fma32}, {"read", "ld1", 0, read_all}, {"quantize", "neon", 0, quantize},           \
        {"dequantize", "neon", 0, dequantize}, {"rows", "neon", 0, rows},                                              \
    { NULL, NULL, 0, NULL }

static const struct qlm_peak neon_peaks[] = {
    {"int8", "smull, smlal2, sadalp", 24 * 16 * 2, pairs}, {"int16", "smlal", 24 * 4 * 2, pairs16}, MEMORY};
static const struct qlm_peak neondot_peaks[] = {
    {"int8", "sdot", 24 * 16 * 2, dot}, {"int16", "smlal", 24 * 4 * 2, pairs16}, MEMORY};
static const struct qlm_peak neoni8mm_peaks[] = {
    {"int8", "smmla", 24 * 32 * 2, matrix}, {"int16", "smlal", 24 * 4 * 2, pairs16}, MEMORY};

const struct qlm_peak_list qlm_peak_lists[] = {
    {QLM_CPU_NEON | QLM_CPU_DOTPROD | QLM_CPU_I8MM, neoni8mm_peaks},
    {QLM_CPU_NEON | QLM_CPU_DOTPROD, neondot_peaks},
    {QLM_CPU_NEON, neon_peaks},
    {0, NULL},
};

#endif
