/* qlm.h: what the C library offers; it knows no Python.
 *
 * Arrays are C-contiguous float32 or integer codes.  A driver checks no argument that its caller can check (the
 * Python binding does); sizes are trusted to describe the buffers.  Long drivers take a range [begin, end) of the
 * work, so that a caller can do it in slices: the results of disjoint ranges are the same as those of one call.
 *
 * Granularity.  A struct qlm_layout sees an array as [outer][channels][inner]; without groups the element
 * (o, c, i) uses parameter c.  With group > 0, outer is 1 and each of the `channels` rows of `inner` elements is cut
 * into ceil(inner / group) groups, the last may be short; parameter c * groups + i / group.
 *   per tensor   {1, 1, size, 0}        axis a   {prod(shape[:a]), shape[a], prod(shape[a+1:]), 0}
 *   groups       {1, rows, row_length, group_size}
 */
#ifndef QLM_H
#define QLM_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum qlm_status { QLM_OK, QLM_NO_MEMORY, QLM_NONFINITE, QLM_UNSUPPORTED };

/* Storage of codes in memory: one code an element (4-bit codes too). */
enum qlm_code { QLM_S8, QLM_U8, QLM_S16, QLM_U16 };

/* What a quantized type is: for int4: {QLM_S8, -8, 7, bits 4}. */
struct qlm_type {
    enum qlm_code code;
    int bits;
    int32_t min, max;
};

struct qlm_layout {
    size_t outer, channels, inner, group;
};
size_t qlm_layout_params(const struct qlm_layout *layout);

/* ---- cpu.c, dispatch.c --------------------------------------------------------------------------------------- */
/* The tables compiled in, best last; NULL past the end. */
const struct qlm_kernels *qlm_kernels_at(size_t index);
int qlm_kernels_usable(const struct qlm_kernels *table);
/* The best usable table, or the one called `isa`; NULL: unknown, or this CPU lacks it (usable tells which). */
const struct qlm_kernels *qlm_kernels_named(const char *isa);
const struct qlm_kernels *qlm_kernels_best(void);
/* The table in use: set once at start, before anything is packed. */
void qlm_kernels_use(const struct qlm_kernels *table);
extern const struct qlm_kernels *qlm_kernels_in_use;

/* ---- threads.c ----------------------------------------------------------------------------------------------- */
/* task(context, index, worker) for each index < tasks, on at most `qlm_threads()` threads, the caller one of them
 * (worker 0).  A call while the pool is busy, or from a worker, runs all on its own thread.  Sets the default
 * rounding and denormal mode around each task and restores the caller's. */
void qlm_parallel(size_t tasks, void (*task)(void *context, size_t index, unsigned worker), void *context);
/* Threads that a call shares its work among; within a task 1. */
unsigned qlm_threads(void);
void qlm_set_threads(unsigned n);
/* Set by qlm_float_mode_enter at each entry of the library (MXCSR / FPCR), undone by _leave (float_mode.c). */
uint64_t qlm_float_mode_enter(void);
void qlm_float_mode_leave(uint64_t saved);
/* This thread's scratch block of at least `bytes`, 64-byte aligned, kept for the next call (contents lost); NULL: no
 * memory.  One block a thread: a driver asks once for all that it needs. */
void *qlm_scratch(size_t bytes);

/* ---- qparams.c: numerics.md, "Parameters", in float64 --------------------------------------------------------- */
struct qlm_qparams {
    float scale;
    int32_t zero;
};
struct qlm_qparams qlm_choose_qparams(float min, float max, const struct qlm_type *type, int symmetric);
/* The same for many ranges: their divisions overlap, and the float mode is set once. */
void qlm_choose_many_qparams(const float *min, const float *max, size_t count, const struct qlm_type *type,
                             int symmetric, struct qlm_qparams *params);
/* symmetric codes stay within the restricted range: the bounds that quantize clamps to. */
void qlm_code_bounds(const struct qlm_type *type, int symmetric, int32_t *lo, int32_t *hi);
/* Interval grid; scale, offset of [min, max]; returns QLM_UNSUPPORTED where a midpoint overflows.  constant: *scale 1,
 * *offset the value, and all codes are 0. */
enum qlm_status qlm_interval_params(float min, float max, const struct qlm_type *type, float *scale, float *offset,
                                    int *constant);
/* float32 -> float16 rounded up (towards +inf), as float32; inf past 65504. */
float qlm_round_up_half(float scale);
/* SmoothQuant: s[j] = act[j]^alpha / w[j]^(1 - alpha), both floored at 1e-5, by basic float64 operations only. */
void qlm_smoothquant_scales(const float *act, const float *w, size_t n, double alpha, float *s);

/* ---- arrays.c: element-wise drivers; [begin, end) are flat elements ------------------------------------------- */
/* min, max: one per parameter, to be set to +inf, -inf before the first slice.  *bad: the first element that is not
 * finite, SIZE_MAX if none (then min, max are those of the finite ones). */
void qlm_range(const float *x, const struct qlm_layout *layout, size_t begin, size_t end, float *min, float *max,
               size_t *bad);
/* -0.0 -> +0.0; an empty or wholly non-finite span (min > max) -> 0, 0. */
void qlm_range_finish(float *min, float *max, size_t params);
/* scale and zero: one per parameter (zero may be NULL: 0).  Returns the first element that is not finite, or SIZE_MAX.
 * codes: int8/uint8/int16/uint16 by type->code. */
size_t qlm_quantize(const float *x, const struct qlm_layout *layout, size_t begin, size_t end,
                    const struct qlm_type *type, int32_t lo, int32_t hi, const float *scale, const int32_t *zero,
                    void *codes);
/* The same of runs [begin, end), of `runs` of n elements each, by the parameters of their ranges, which go to scale and
 * zero (NULL where that is 0: symmetric, signed).  half, of types of at most 8 bits: scales are rounded up to float16,
 * infinite past 65504. */
size_t qlm_quantize_found(const float *x, size_t n, size_t runs, size_t begin, size_t end, const struct qlm_type *type,
                          int symmetric, int half, float *scale, int32_t *zero, void *codes);
size_t qlm_quantize_interval(const float *x, const struct qlm_layout *layout, size_t begin, size_t end,
                             const struct qlm_type *type, const float *min, const float *scale, const uint8_t *constant,
                             void *codes);
/* zero and offset may be NULL. */
void qlm_dequantize(const void *codes, enum qlm_code code, const struct qlm_layout *layout, size_t begin, size_t end,
                    const float *scale, const int32_t *zero, const float *offset, float *out);
/* NaN -> 0, infinities -> the given finite ends (one per parameter), for nonfinite="saturate". out may be x. */
void qlm_replace_nonfinite(const float *x, const struct qlm_layout *layout, size_t begin, size_t end, const float *min,
                           const float *max, float *out);
/* grad_scale: one float64 per parameter, to be zeroed first; sums of batches of 4096 elements of a run (float32 by
 * lanes) are added to it in ascending order. */
void qlm_fake_quantize_backward(const float *grad, const float *x, const struct qlm_layout *layout,
                                const struct qlm_type *type, const float *scale, const int32_t *zero, float *grad_x,
                                double *grad_scale);

/* ---- pack.c --------------------------------------------------------------------------------------------------- */
enum qlm_packed_kind { QLM_PACKED_F32, QLM_PACKED_4, QLM_PACKED_8, QLM_PACKED_16 };

/* A weight [n][k] in panels of nr outputs, for one table of kernels.  The k axis is cut into `groups` spans of `group`
 * elements (one span of k without groups; the last may be short); each span starts on a multiple of the kind's step.
 * Parameters are [n_padded / nr][groups][nr], so that a panel's lie together.  b' = code - shift, zero' = zero - shift.
 *
 * A weight in groups keeps what it must and no more, since at M = 1 each byte is read for every call: scales that are
 * all float16 values are kept as float16, zero points in a byte, and the kernels sum the codes where they need to. */
struct qlm_packed {
    const struct qlm_kernels *kernels;
    enum qlm_packed_kind kind;
    struct qlm_type type; /* of the codes */
    size_t n, n_padded, k, k_padded, group, groups;
    int32_t shift;
    void *panels;    /* 64-byte aligned: n_padded / nr panels of k_padded * nr elements */
    float *scale;    /* this, */
    uint16_t *half;  /* or its float16 bits */
    int8_t *zero8;   /* kinds 4 and 8: zero', NULL where all are 0 */
    int32_t *zero;   /* the same of kind 16, of one span, of wide spans (pack.h); else NULL */
    float *offset;   /* NULL unless the weight has float offsets */
    int64_t *sums64; /* sum of b' over the group; like zero */
    int32_t *sums;   /* its low 32 bits, of one span of kind 8; else NULL */
    float *chain;    /* C of numerics.md: [n_padded], fma chain over groups of scale * sum (b' - zero') */
    size_t nbytes;
    void *block; /* the one allocation behind all of these */
};
/* nr is a power of two: no division, which takes a call of one row up to 25 ns (Intel before Ice Lake). */
static inline size_t qlm_packed_panels(const struct qlm_packed *packed)
{ return packed->n_padded >> __builtin_ctz(packed->kernels->nr); }
/* weight: float32 [n][k] for QLM_PACKED_F32 (parameters NULL), codes otherwise.  scale [n][groups] row-major, or one
 * value where per_tensor; zero, offset alike or NULL.  group 0: no groups. */
enum qlm_status qlm_pack(struct qlm_packed *packed, const void *weight, const struct qlm_type *type, size_t n, size_t k,
                         size_t group, int per_tensor, const float *scale, const int32_t *zero, const float *offset);
/* The same in slices: begin (the parameters), then slices of the outputs 0 .. n in any order, one at a time (outputs
 * share bytes).  Freed also where begin fails. */
enum qlm_status qlm_pack_begin(struct qlm_packed *packed, const struct qlm_type *type, size_t n, size_t k, size_t group,
                               int per_tensor, const float *scale, const int32_t *zero, const float *offset);
void qlm_pack_outputs(struct qlm_packed *packed, const void *weight, size_t begin, size_t end);
void qlm_packed_free(struct qlm_packed *packed);
/* A layout of codes: their kind and group (of k: none). */
struct qlm_fit {
    enum qlm_packed_kind kind;
    size_t group;
};
/* The same weight in another kind (8 -> 16) or with finer groups (a divisor of its own), in slices as above. */
enum qlm_status qlm_repack_begin(struct qlm_packed *to, const struct qlm_packed *from, struct qlm_fit fit);
void qlm_repack_outputs(struct qlm_packed *to, const struct qlm_packed *from, size_t begin, size_t end);

/* ---- products.c ----------------------------------------------------------------------------------------------- */
enum qlm_input_kind {
    QLM_INPUT_FLOAT,   /* weight-only: x stays float */
    QLM_INPUT_DYNAMIC, /* rows (or groups of rows) of x are quantized to `type` */
    QLM_INPUT_STATIC,  /* x / divisor[j] (or / scale), zero point zero[0] */
    QLM_INPUT_CODES    /* codes, with a scale and zero point (or offset) per tensor, row or group */
};
struct qlm_linear_input {
    enum qlm_input_kind kind;
    const float *x; /* [m][k] */
    size_t m, k;
    struct qlm_type type;
    int symmetric;        /* dynamic */
    int interval;         /* dynamic: grid="interval" */
    const float *ranges;  /* dynamic: [m][QLM_RANGE], of each row, as qlm_layernorm found them, or NULL */
    size_t group;         /* dynamic, codes: activations' group, 0: one per row */
    const void *codes;    /* QLM_INPUT_CODES: [m][k] */
    const float *scale;   /* static: [1]; codes: [1] or [m][groups] */
    const int32_t *zero;  /* like scale, may be NULL */
    const float *offset;  /* codes: like scale, may be NULL */
    const float *divisor; /* static: [k] = fl(scale * input_scale[j]), or NULL */
    int per_tensor;       /* codes: scale is [1] */
};
struct qlm_linear_output {
    const struct qlm_packed *weight; /* [n][k] */
    const float *bias;               /* [n] or NULL */
    int activation;                  /* enum qlm_function */
    const float *residual;           /* [m][n] or NULL */
    float *out;                      /* [m][n] */
};
/* The layout in which a weight meets this input.  Where that is not its own, qlm_linear and qlm_matmul_codes make one
 * in each call: who calls often makes it once. */
struct qlm_fit qlm_linear_fit(const struct qlm_packed *weight, const struct qlm_linear_input *input);
static inline int qlm_fits(const struct qlm_packed *weight, struct qlm_fit fit)
{ return weight->kind == fit.kind && weight->group == fit.group; }
/* Multiply-adds that a thread takes in a nanosecond, about, where the weight is laid out as `kind` (floats meet any as
 * QLM_PACKED_F32). */
size_t qlm_linear_rate(const struct qlm_kernels *kernels, enum qlm_packed_kind kind);
/* Rows [begin, end) of y = act(x W^T + bias) + residual for each of `count` outputs that share the input (quantized
 * once).  QLM_NONFINITE: *bad is the flat index in x of the first value that is not finite, among these rows; out is
 * then unspecified.  QLM_UNSUPPORTED: offsets on both sides.  Group sizes must divide one another. */
enum qlm_status qlm_linear(const struct qlm_linear_input *input, const struct qlm_linear_output *outputs, size_t count,
                           size_t begin, size_t end, size_t *bad);
/* The same for panels [from, to) of the weights, those of all outputs counted behind one another, and as many as there
 * are: for who cuts a call where its rows alone are too long.  The rows are quantized in each part. */
enum qlm_status qlm_linear_panels(const struct qlm_linear_input *input, const struct qlm_linear_output *outputs,
                                  size_t count, size_t begin, size_t end, size_t from, size_t to, size_t *bad);
/* Exact integer product of codes: c [m][n] = sum over k a b; int32 where `wide` is 0, else int64.  b is packed
 * (kind 8 or 16, scale irrelevant) from [n][k]; shifts are corrected. */
enum qlm_status qlm_matmul_codes(const void *a, const struct qlm_type *type, size_t m, const struct qlm_packed *b,
                                 int wide, size_t begin, size_t end, void *c);

/* ---- model.c: the rest of a transformer ----------------------------------------------------------------------- */
/* Tokens of several sequences lie behind one another; sequence s is rows starts[s] .. starts[s + 1]. */
/* out [t][heads * dim] = softmax(q k^T * scale) v for each head, within each sequence; q, k, v have row stride ld.
 * causal: a token sees itself and those before.  Sequences [begin, end). */
enum qlm_status qlm_attention(const float *q, const float *k, const float *v, size_t ld, const size_t *starts,
                              size_t begin, size_t end, size_t heads, size_t dim, float scale, int causal, float *out);
/* The same on codes of 8 bits (numerics.md, "Attention"); scale > 0, not causal.  QLM_NONFINITE: *bad is the flat
 * index, as rows of heads * dim, of the first value of q, k or v that is not finite. */
enum qlm_status qlm_attention_8(const float *q, const float *k, const float *v, size_t ld, const size_t *starts,
                                size_t begin, size_t end, size_t heads, size_t dim, float scale, float *out,
                                size_t *bad);
/* out = layernorm(x [+ y]) row by row; y may be NULL.  ranges: [rows][QLM_RANGE], of each row of out the least and the
 * greatest value (NaN left out), or NULL. */
void qlm_layernorm(const float *x, const float *y, size_t rows, size_t n, const float *gain, const float *bias,
                   float eps, float *ranges, float *out);
/* out[i] = row ids[i] of a table: float32, or codes with parameters per row (group 0) or per row and group. */
struct qlm_table {
    const float *values;
    const void *codes;
    enum qlm_code code;
    size_t n;
    size_t group;
    const float *scale;
    const int32_t *zero;
    const float *offset;
};
void qlm_gather(const struct qlm_table *table, const int64_t *ids, size_t count, float *out);
/* out[i] = a[i] + b[i] */
void qlm_add(const float *a, const float *b, size_t n, float *out);
/* out[i] = function(x[i]); enum qlm_function. */
void qlm_map(int function, const float *x, size_t n, float *out);
/* One vector a sequence: "mean" (rows added in ascending order to +0, divided by their number), "cls" (its first),
 * "max"; normalize: divided by max(sqrt(sum of squares), 1e-12). */
enum qlm_pooling { QLM_POOL_MEAN, QLM_POOL_CLS, QLM_POOL_MAX, QLM_POOL_LAST };
void qlm_pool(const float *x, const size_t *starts, size_t sequences, size_t n, enum qlm_pooling how, int normalize,
              float *out);

/* ---- program.c: a whole forward ------------------------------------------------------------------------------- */
/* Steps over rows of tokens.  Their operands lie in the rows x, which the program changes in place, or in a workspace
 * of `width` floats a token: at floats [at, at + width) of it. */
#define QLM_IN_ROWS SIZE_MAX
#define QLM_STEP_OUTPUTS 16 /* of a linear, at most */
struct qlm_slot {
    size_t at; /* QLM_IN_ROWS: the rows x themselves */
    size_t width;
};
enum qlm_step_kind {
    QLM_STEP_LINEAR,    /* slots: x, residual (width 0: none), one for each output */
    QLM_STEP_DIVIDE,    /* x, result = x / vectors[0] by column */
    QLM_STEP_ATTENTION, /* q, k, v, result, which may be q */
    QLM_STEP_ATTENTION_8,
    QLM_STEP_LAYERNORM /* x, result, which may be x; gain and bias are vectors[0] and [1] */
};
struct qlm_step {
    enum qlm_step_kind kind;
    struct qlm_slot *slots;
    struct qlm_linear_input input;     /* linear: without x and m */
    struct qlm_linear_output *outputs; /* linear: without residual and out; only the first takes the residual */
    size_t count;                      /* of outputs */
    const float *vectors[2];
    float eps, scale;
    size_t heads;
    int causal;
};
struct qlm_program {
    const struct qlm_step *steps;
    size_t count, hidden, width; /* hidden: floats of a row of x */
};
/* A forward of sequences through a program, and the memory of it, which the next one uses again. */
struct qlm_forward;
struct qlm_forward *qlm_forward_new(void);
/* x [starts[sequences]][hidden] is to be changed in place.  Sequences are cut into runs whose activations stay in L2;
 * with as many runs as threads each thread takes whole runs, else the threads share each step.  starts may go away,
 * the rest must stay.  *units: of the whole work, each about a nanosecond of the slowest kernels. */
enum qlm_status qlm_forward_begin(struct qlm_forward *forward, const struct qlm_program *program, float *x,
                                  const size_t *starts, size_t sequences, size_t *units);
/* Works until about `until` units are done, or all.  QLM_NONFINITE: see qlm_forward_fault. */
enum qlm_status qlm_forward_work(struct qlm_forward *forward, size_t until);
/* The step that failed, the row of x and the column of the step's operand that were not finite. */
void qlm_forward_fault(const struct qlm_forward *forward, size_t *step, size_t *row, size_t *column);
void qlm_forward_free(struct qlm_forward *forward);

#endif
