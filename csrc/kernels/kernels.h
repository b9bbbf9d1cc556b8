/* The kernels: what each computes, listed once.
 *
 * A kernel takes flat pointers, sizes and parameters; it allocates nothing, starts no thread, calls nothing outside
 * its file and cannot fail.  It reads and writes inside its operands only, never a byte beyond.  Every instruction
 * set gives the same bits: the operations on each element, and the order of every float sum, are those stated here
 * and in tests/reference.py.  No result depends on alignment.
 *
 * Names: qlm_<kernel>_<isa>.  The two lists below make the prototypes, the tables (dispatch.c) and the tests, so a
 * kernel that is not listed is neither reachable nor compiled.
 *
 * "Lanes": a sum over a row puts element i into virtual lane i mod 16 (each lane starts at +0 and adds in ascending
 * order), then folds l with l + 8, l + 4, l + 2, l + 1.
 * "Chain": acc = fma(a[k], b[k], acc) in ascending k; no other float operation is fused.
 */
#ifndef QLM_KERNELS_H
#define QLM_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Functions by number, for `map_f32` and the epilogues' `activation`.  Each is within 2 units in the last place of
 * the float64 value (exp, tanh, erf); gelu(x) = x Phi(x), Phi the normal distribution, within 2 such units for x > 0
 * and 1.2e-7 below; gelu_tanh(x) = (0.5 x)(1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), silu(x) = x / (1 + exp(-x)); relu
 * keeps NaN. */
enum qlm_function {
    QLM_IDENTITY,
    QLM_RELU,
    QLM_GELU,
    QLM_GELU_TANH,
    QLM_SILU,
    QLM_TANH,
    QLM_EXP,
    QLM_ERF,
    QLM_FUNCTION_COUNT
};

/* How an int8 kernel wants its left operand ("A"): one element a code; `k_step` neighbouring codes of a row meet the
 * panel together.  U8 holds code + 128 of signed codes, S8 holds code - 128 of unsigned
 * ones, S16 holds either as it is. */
enum qlm_left_type { QLM_LEFT_U8, QLM_LEFT_S8, QLM_LEFT_S16 };

/* Kernels that do not depend on the form of the int8 product.
 *
 * Layouts of the right operand ("B"), made by pack.c; nr = table->nr, outputs past the last are zero:
 *   float panel   b[k][nr] float32
 *
 * range_f32        widen [*min, *max] by the finite values of x; returns 1 if any value was not finite
 * range_cols_f32   the same element by element: min[i], max[i] widened by x[i]
 * quantize_f32_8   out[i] = low byte of clamp(rint(x / scale) + zero, lo, hi), |lo|, |hi|, |zero| <= 512, integers;
 *                  returns 1 if any x was not finite (its code is then unspecified)
 * quantize_f32_16  the same into two bytes; lo, hi, zero within +-65535
 * quantize_groups_f32_8  quantize_f32_8 of each group with scale[g] and zero[g] (NULL: 0)
 *                  stream: store past the caches where alignment allows
 * quantize_symmetric_f32_8  the same with the scale of each group's range (numerics.md, "Parameters"), which is stored,
 *                  and the zero point middle; lo, hi = middle -+ bound.  half: the scale is rounded up to float16,
 *                  infinite past 65504.  Where an x is not finite its group's scale and codes are unspecified, and the
 *                  codes where a scale is infinite
 * quantize_asymmetric_f32_8  the same with each group's own zero point, which is stored too
 * column_places_f32  what of quantize_cols_f32_8 depends on a column alone, for rows that follow
 * quantize_cols_*  the same as quantize_f32_* with scale[i] and zero[i]; inverse, start: as column_places_f32 made them
 *                  of the same scale, zero, lo and hi, NULL: not there; they change no code
 * interval_f32_8   out[i] = low byte of lo + clamp(floor((x - min) / scale), 0, levels - 1), all in float64;
 *                  levels <= 256; returns 1 if any x was not finite
 * dequantize_T_f32 out[i] = (q - zero) * scale + offset, three rounded operations; offset -0.0 adds nothing
 * dequantize_groups_T_f32  the same of each group with scale[g], zero[g], offset[g] (NULL: 0, -0.0)
 * dequantize_cols_T_f32  the same with scale[i], zero[i], offset[i]
 * gemm_f32         c[i][j] = chain over k of a[i][k] b[k][j] for i < m <= mr_f32, j < nr; starts from c if
 *                  `accumulate`, else from +0; a has row stride lda (elements), c has row stride ldc
 * gemv_f32         c[i][p nr + j] = chain over k of a[i][k] b[p][k][j] from +0, for `panels` panels p one behind
 *                  another, i < m, m 1 or 2
 * epilogue_f32     y = act((acc * sw[j]) * sx[i] + bias[j]) + residual[i][j]; sw, sx, bias, residual may be NULL
 * rank1_f32        t[i][j] = fma(row[i], col[j], t[i][j])
 * affine_f32       t[i][j] = (t - zx[i] * c[j]) * sx[i], or t * sx[i] + offset[i] * c[j] where zx is NULL
 * layernorm_f32    per row of n, one behind another: mean = fl(S / n), d = x - mean, var = fl(Q / n),
 *                  r = 1 / sqrt(var + eps), S and Q (of d * d) by lanes; out = ((d * r) * gain) + bias; ranges (or
 *                  NULL): of each row the least and the greatest output, NaN left out, -0 as 0
 * softmax_f32      x[i] = exp(x[i] * scale - max), max over x * scale; returns the sum of x by lanes
 * divide_f32       out[i] = x[i] / divisor
 * add_f32          out[i] = a[i] + b[i]
 * squares_f32      returns the sum of fl(x * x) by lanes
 * map_f32          out[i] = function(x[i])
 * lsq_f32          straight-through gradients: v = x / scale, q = rint(v) + zero; grad_x = grad where lo <= q <= hi
 *                  else +0; returns the sum by lanes of grad * (rint(v) - v | lo - zero | hi - zero)
 */
#define QLM_COMMON_KERNELS(X)                                                                                          \
    X(int, range_f32, (const float *x, size_t n, float *min, float *max))                                              \
    X(int, range_cols_f32, (const float *x, size_t n, float *min, float *max))                                         \
    X(int, quantize_f32_8, (const float *x, size_t n, float scale, float zero, float lo, float hi, uint8_t *out))      \
    X(int, quantize_f32_16, (const float *x, size_t n, float scale, float zero, float lo, float hi, uint16_t *out))    \
    X(int, quantize_groups_f32_8,                                                                                      \
      (const float *x, size_t groups, size_t n, const float *scale, const int32_t *zero, float lo, float hi,           \
       uint8_t *out, int stream))                                                                                      \
    X(int, quantize_symmetric_f32_8,                                                                                   \
      (const float *x, size_t groups, size_t n, float bound, float middle, int half, float *scale, uint8_t *out,       \
       int stream))                                                                                                    \
    X(int, quantize_asymmetric_f32_8,                                                                                  \
      (const float *x, size_t groups, size_t n, float lo, float hi, int half, float *scale, int32_t *zero,             \
       uint8_t *out, int stream))                                                                                      \
    X(void, column_places_f32,                                                                                         \
      (const float *scale, const float *zero, size_t n, float lo, float hi, float *inverse, float *start))             \
    X(int, quantize_cols_f32_8,                                                                                        \
      (const float *x, size_t n, const float *scale, const float *zero, float lo, float hi, const float *inverse,      \
       const float *start, uint8_t *out))                                                                              \
    X(int, quantize_cols_f32_16,                                                                                       \
      (const float *x, size_t n, const float *scale, const float *zero, float lo, float hi, uint16_t *out))            \
    X(int, interval_f32_8, (const float *x, size_t n, float min, float scale, int levels, int lo, uint8_t *out))       \
    X(void, dequantize_s8_f32, (const int8_t *q, size_t n, float scale, float zero, float offset, float *out))         \
    X(void, dequantize_u8_f32, (const uint8_t *q, size_t n, float scale, float zero, float offset, float *out))        \
    X(void, dequantize_s16_f32, (const int16_t *q, size_t n, float scale, float zero, float offset, float *out))       \
    X(void, dequantize_u16_f32, (const uint16_t *q, size_t n, float scale, float zero, float offset, float *out))      \
    X(void, dequantize_groups_s8_f32,                                                                                  \
      (const int8_t *q, size_t groups, size_t n, const float *scale, const int32_t *zero, const float *offset,         \
       float *out, int stream))                                                                                        \
    X(void, dequantize_cols_s8_f32,                                                                                    \
      (const int8_t *q, size_t n, const float *scale, const float *zero, const float *offset, float *out))             \
    X(void, dequantize_groups_u8_f32,                                                                                  \
      (const uint8_t *q, size_t groups, size_t n, const float *scale, const int32_t *zero, const float *offset,        \
       float *out, int stream))                                                                                        \
    X(void, dequantize_cols_u8_f32,                                                                                    \
      (const uint8_t *q, size_t n, const float *scale, const float *zero, const float *offset, float *out))            \
    X(void, dequantize_groups_s16_f32,                                                                                 \
      (const int16_t *q, size_t groups, size_t n, const float *scale, const int32_t *zero, const float *offset,        \
       float *out, int stream))                                                                                        \
    X(void, dequantize_cols_s16_f32,                                                                                   \
      (const int16_t *q, size_t n, const float *scale, const float *zero, const float *offset, float *out))            \
    X(void, dequantize_groups_u16_f32,                                                                                 \
      (const uint16_t *q, size_t groups, size_t n, const float *scale, const int32_t *zero, const float *offset,       \
       float *out, int stream))                                                                                        \
    X(void, dequantize_cols_u16_f32,                                                                                   \
      (const uint16_t *q, size_t n, const float *scale, const float *zero, const float *offset, float *out))           \
    X(void, gemm_f32,                                                                                                  \
      (size_t m, size_t k, const float *a, size_t lda, const float *b, float *c, size_t ldc, int accumulate))          \
    X(void, gemv_f32,                                                                                                  \
      (size_t m, size_t k, size_t panels, const float *a, size_t lda, const float *b, float *c, size_t ldc))           \
    X(void, epilogue_f32,                                                                                              \
      (size_t m, size_t n, const float *acc, size_t ldacc, const float *sw, const float *sx, const float *bias,        \
       int activation, const float *residual, size_t ldr, float *out, size_t ldo))                                     \
    X(void, rank1_f32, (size_t m, size_t n, const float *row, const float *col, float *t, size_t ldt))                 \
    X(void, affine_f32,                                                                                                \
      (size_t m, size_t n, const float *zx, const float *sx, const float *offset, const float *c, float *t,            \
       size_t ldt))                                                                                                    \
    X(void, layernorm_f32,                                                                                             \
      (const float *x, size_t rows, size_t n, const float *gain, const float *bias, float eps, float *ranges,          \
       float *out))                                                                                                    \
    X(float, softmax_f32, (float *x, size_t n, float scale))                                                           \
    X(void, divide_f32, (const float *x, size_t n, float divisor, float *out))                                         \
    X(void, add_f32, (const float *a, const float *b, size_t n, float *out))                                           \
    X(float, squares_f32, (const float *x, size_t n))                                                                  \
    X(void, map_f32, (int function, const float *x, size_t n, float *out))                                             \
    X(float, lsq_f32,                                                                                                  \
      (const float *grad, const float *x, size_t n, float scale, float zero, float lo, float hi, float *grad_x))

/* Kernels of the int16 product.  Int16 panel: b[k / 2][nr][2] int16, an odd k padded with zero.
 *
 * gemm_16    c[i][j] = exact 64-bit sum over 2 k2 elements for i < m <= mr_16, j < nr; a is int16 [m][2 k2], row stride
 *            lda
 * gemm_16_8  the same where |a[i][p] b[p][j]| <= 2^15 * 255 always: codes of 8 bits on one side
 */
#define QLM_INT16_KERNELS(X)                                                                                           \
    X(void, gemm_16, (size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc))    \
    X(void, gemm_16_8, (size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc))

/* Kernels of the int8 product, whose form differs between instruction sets.  Int8 panel: b[k / ks][nr][ks] int8,
 * ks = table->k_step, k padded with zeros to a multiple of ks.
 *
 * left_quantize       the codes of quantize_f32_8 (zero, lo, hi already shifted to the left type) as left elements
 * left_quantize_cols  the same with scale[i], one zero point
 * left_interval       the codes of interval_f32_8 (lo already shifted) as left elements
 * left_widen          codes as they are in memory -> left elements
 * left_sum            sum of n left elements
 * left_weights        code = rint(255 * 2^(x[i] - max)) as left elements of unsigned codes, max the largest x; NaN and
 *                     differences below -30 give 0; sums: of the codes; m rows of n <= 2^22, stride lda in bytes
 * gemm_8              c[i][j] = sum over ks * kg elements, wrapping 32-bit, for i < m <= mr_8, j < nr; a has row
 *                     stride lda in bytes
 * linear_8            y[i][j] = ((fl(acc') * sw[j]) * sx[i] + bias[j]) + residual[i][j], acc' = acc - zx[i] * sums[j]
 *                     - zw[j] * rest[i] in wrapping 32-bit arithmetic, acc as of gemm_8, for i < m <= rows_8, j < n; b
 *                     is ceil(n / nr) panels one behind another; |zx[i]| <= 255, |sums[j]| <= 2^22; zw, bias, residual
 *                     may be NULL (no operation); far: out is unlikely to be in L2; next: memory that the caller reads
 *                     soon, `lines` of 64 bytes, to be asked for meanwhile
 * gemm_8_groups       t[i][j] = the chain over the groups n = 0, 1, ... of k (`group` elements each, the last may be
 *                     short, each from a multiple of ks in a and b on) of t = fma(fl(acc'), sw, t) from t = +0, or of
 *                     t = fma(fl(acc') * sw, sx, t) where sx is given; acc' = acc - zx * (sum of b) - zw * rest in
 *                     wrapping 32-bit arithmetic.  After each group, where ow is given: t = fma(centred, ow, t);
 *                     where ox is given: t = fma(ox, sw * fl(sum of b - count * zw), t).  sw (float16
 *                     where `half`), zw, ow are [groups][nr], the others [groups][rows], m <= rows, but zx without
 *                     sx is one number; all but sw may be NULL, zw only with rest (but fold_4), ow only with
 *                     centred; |zx| <= 255, rest is whole, |rest| <= 255 * group; m <= mr_8, 1 <= group <= 33025
 *                     elements.  out is t, or, where scale is given, (t - zero[i] * chain[j]) * scale[i] or, without
 *                     zero, t * scale[i] + shift[i] * chain[j]; + bias[j] + residual[i][j], which may be NULL; far as
 *                     in linear_8
 * unpack_8            out[i][j] = (b'[k0 + i][j] - zero[j]) * scale[j] + offset[j], i < count, j < nr, as
 *                     dequantize_cols; b points at the panel's start.  zero, offset may be NULL (no operation)
 * gemv_8              c[i][p nr + j] = chain over l of a[i][l] (out[l][j] of unpack_8 for panel p), l < count, from
 *                     what c holds, for `panels` panels, i < m, m 1 to 6; stride is from panel to panel, scale[],
 *                     zero[], offset[] run over all their outputs
 *
 * 4-bit weights.  A step is four k of nr outputs; its codes, laid as in an int8 panel with ks = 4, are c[0 .. 4 nr):
 * byte p of the 2 nr bytes of a step holds c[p] below and c[p + 2 nr] above, each -8 .. 7.  The left operand is one
 * byte a code (left_4: U8 or S8).  Where `expanded`, b is instead the int8 panel that expand_4 made.
 *
 * gemm_4              c[i][j] = sum over 4 * steps <= 65536 elements, m <= mr_4
 * gemm_4_groups       as gemm_8_groups, m <= mr_4
 * expand_4            the steps of the groups of k -> [steps][nr][4] int8, less zw [groups][nr] where it is given
 *                     (modulo 256), padding 0
 * left_sum_4          sum of n left elements of the type left_4
 * unpack_4            as unpack_8
 */
#define QLM_INT8_KERNELS(X)                                                                                            \
    X(int, left_quantize, (const float *x, size_t n, float scale, float zero, float lo, float hi, void *a))            \
    X(int, left_quantize_cols,                                                                                         \
      (const float *x, size_t n, const float *scale, float zero, float lo, float hi, void *a))                         \
    X(int, left_interval, (const float *x, size_t n, float min, float scale, int levels, int lo, void *a))             \
    X(void, left_widen, (const uint8_t *codes, size_t n, int codes_signed, void *a))                                   \
    X(void, left_weights, (size_t m, size_t n, const float *x, size_t ldx, void *a, size_t lda, int32_t *sums))        \
    X(int32_t, left_sum, (const void *a, size_t n))                                                                    \
    X(void, gemm_8, (size_t m, size_t kg, const void *a, size_t lda, const int8_t *b, int32_t *c, size_t ldc))         \
    X(void, linear_8,                                                                                                  \
      (size_t m, size_t n, size_t kg, const void *a, size_t lda, const int8_t *b, const int32_t *zx,                   \
       const int32_t *rest, const int32_t *sums, const int32_t *zw, const float *sw, const float *sx,                  \
       const float *bias, const float *residual, size_t ldr, float *out, size_t ldo, int far, const void *next,        \
       size_t lines))                                                                                                  \
    X(void, gemm_8_groups,                                                                                             \
      (size_t m, size_t k, size_t group, const void *a, size_t lda, const int8_t *b, const void *sw, int half,         \
       const int8_t *zw, const float *ow, const int32_t *zx, const float *rest, const float *sx, const float *centred, \
       const float *ox, size_t rows, const float *scale, const float *zero, const float *shift, const float *chain,    \
       const float *bias, const float *residual, size_t ldr, float *out, size_t ldo, int far))                         \
    X(void, gemm_4,                                                                                                    \
      (size_t m, size_t steps, const void *a, size_t lda, const void *b, int expanded, int32_t *c, size_t ldc))        \
    X(void, gemm_4_groups,                                                                                             \
      (size_t m, size_t k, size_t group, const void *a, size_t lda, const void *b, int expanded, const void *sw,       \
       int half, const int8_t *zw, const float *ow, const int32_t *zx, const float *rest, const float *sx,             \
       const float *centred, const float *ox, size_t rows, const float *scale, const float *zero, const float *shift,  \
       const float *chain, const float *bias, const float *residual, size_t ldr, float *out, size_t ldo, int far))     \
    X(void, expand_4, (const void *b, size_t k, size_t group, const int8_t *zw, int8_t *out))                          \
    X(int32_t, left_sum_4, (const void *a, size_t n))                                                                  \
    X(void, unpack_4,                                                                                                  \
      (const void *b, size_t k0, size_t count, const float *scale, const float *zero, const float *offset,             \
       float *out))                                                                                                    \
    X(void, unpack_8,                                                                                                  \
      (const int8_t *b, size_t k0, size_t count, const float *scale, const float *zero, const float *offset,           \
       float *out))                                                                                                    \
    X(void, gemv_8,                                                                                                    \
      (size_t m, size_t count, size_t panels, const float *a, size_t lda, const int8_t *b, size_t stride, size_t k0,   \
       const float *scale, const float *zero, const float *offset, float *c, size_t ldc))

struct qlm_kernels {
    const char *isa;             /* the word of QLM_ISA */
    uint32_t features;           /* what the CPU must have: bits of cpu.h */
    uint8_t left_type;           /* enum qlm_left_type */
    uint8_t k_step;              /* codes of a row that meet the panel together: 2, 4 or 8 */
    uint8_t nr;                  /* outputs in a panel: a multiple of 16, at most QLM_MAX_NR */
    uint8_t mr_8, mr_16, mr_f32; /* rows that gemm_8, gemm_16*, gemm_f32 take at most: at most QLM_MAX_MR */
    uint8_t rows_8;              /* of linear_8, which takes several tiles: at most QLM_MAX_ROWS */
    uint8_t left_4, mr_4;        /* of 4-bit weights: QLM_LEFT_U8 or QLM_LEFT_S8 */
    uint8_t expand_rows;         /* from so many rows on, 4-bit panels are expanded first */
    uint8_t fold_4;              /* gemm_4_groups takes any int8 in an expanded panel, not only -8 .. 7; 2: and without
                                  * rest it takes zw, -8 .. 7, off nibbles: rest is that of a */
#define QLM_FIELD(ret, name, args) ret(*name) args;
    QLM_COMMON_KERNELS(QLM_FIELD)
    QLM_INT16_KERNELS(QLM_FIELD)
    QLM_INT8_KERNELS(QLM_FIELD)
#undef QLM_FIELD
};

#define QLM_MAX_NR 64
#define QLM_MAX_MR 16
#define QLM_MAX_ROWS 32
/* Floats that are a range of a row: its least value, then its greatest. */
#define QLM_RANGE 2

/* Prototypes: the common kernels of an instruction set, the int16 and the int8 ones. */
#define QLM_PROTOTYPE_(ret, name, isa, args) ret qlm_##name##_##isa args;
#define QLM_PROTO_scalar(ret, name, args) QLM_PROTOTYPE_(ret, name, scalar, args)
#define QLM_PROTO_avx2(ret, name, args) QLM_PROTOTYPE_(ret, name, avx2, args)
#define QLM_PROTO_avxvnni(ret, name, args) QLM_PROTOTYPE_(ret, name, avxvnni, args)
#define QLM_PROTO_avx512(ret, name, args) QLM_PROTOTYPE_(ret, name, avx512, args)
#define QLM_PROTO_avx512vnni(ret, name, args) QLM_PROTOTYPE_(ret, name, avx512vnni, args)
#define QLM_PROTO_avx512vbmi(ret, name, args) QLM_PROTOTYPE_(ret, name, avx512vbmi, args)
#define QLM_PROTO_neon(ret, name, args) QLM_PROTOTYPE_(ret, name, neon, args)
#define QLM_PROTO_neondot(ret, name, args) QLM_PROTOTYPE_(ret, name, neondot, args)
#define QLM_PROTO_neoni8mm(ret, name, args) QLM_PROTOTYPE_(ret, name, neoni8mm, args)

QLM_COMMON_KERNELS(QLM_PROTO_scalar)
QLM_INT16_KERNELS(QLM_PROTO_scalar)
QLM_INT8_KERNELS(QLM_PROTO_scalar)
#if defined(__x86_64__)
QLM_COMMON_KERNELS(QLM_PROTO_avx2)
QLM_INT16_KERNELS(QLM_PROTO_avx2)
QLM_INT8_KERNELS(QLM_PROTO_avx2)
QLM_INT16_KERNELS(QLM_PROTO_avxvnni)
QLM_INT8_KERNELS(QLM_PROTO_avxvnni)
QLM_COMMON_KERNELS(QLM_PROTO_avx512)
QLM_INT16_KERNELS(QLM_PROTO_avx512)
QLM_INT8_KERNELS(QLM_PROTO_avx512)
QLM_INT16_KERNELS(QLM_PROTO_avx512vnni)
QLM_INT8_KERNELS(QLM_PROTO_avx512vnni)
QLM_INT8_KERNELS(QLM_PROTO_avx512vbmi)
#elif defined(__aarch64__)
QLM_COMMON_KERNELS(QLM_PROTO_neon)
QLM_INT16_KERNELS(QLM_PROTO_neon)
QLM_INT8_KERNELS(QLM_PROTO_neon)
QLM_INT8_KERNELS(QLM_PROTO_neondot)
QLM_INT8_KERNELS(QLM_PROTO_neoni8mm)
#endif

#endif
