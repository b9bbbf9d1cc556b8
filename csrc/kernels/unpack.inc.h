/* unpack.inc.h: int8 panels as floats, for weight-only products: into memory, or straight into the product of few rows.
 * The including file (int8.inc.h) has NR and K_STEP.
 *
 * A panel is taken sixteen outputs at a time.  Their codes of neighbouring k are one load; zero points and
 * offsets are constants of the inlined functions, so that those that are missing cost nothing.
 */
#include "unroll.h"

struct unpacking {
    v16f scale, zero, offset;
};

/* Sixteen outputs; zero, offset may be NULL: then 0 and -0.0 stand for them, which change no value. */
QLM_INLINE struct unpacking unpacking_of(const float *scale, const float *zero, const float *offset)
{
    return (struct unpacking){v16_f_load(scale), zero ? v16_f_load(zero) : v16_f_set1(0.0f),
                              offset ? v16_f_load(offset) : v16_f_set1(-0.0f)};
}

#define UNPACK_STEP (K_STEP == 2 ? 2 : 4) /* neighbours in k that one load holds */

/* From b, the panel at the first of sixteen outputs: the codes of each from k on, a multiple of UNPACK_STEP. */
QLM_INLINE v16i unpack_load(const int8_t *b, size_t k)
{
    const int8_t *groups = b + k / K_STEP * K_STEP * NR + k % K_STEP / 4 * 4;
    if (K_STEP == 2) return v16_load_s16((const int16_t *)groups);
    if (K_STEP == 4) return v16_i_load((const int32_t *)groups);
    int32_t fours[16];
    for (size_t i = 0; i < 16; i++) __builtin_memcpy(fours + i, groups + i * K_STEP, sizeof *fours);
    return v16_i_load(fours);
}

/* Element `place` of what unpack_load gave. */
QLM_INLINE v16i unpack_codes(v16i groups, size_t place)
{
    if (K_STEP == 2) return place == 0 ? v16_i_sar(v16_i_shl(groups, 24), 24) : v16_i_sar(groups, 8);
    if (place == 0) return v16_i_sar(v16_i_shl(groups, 24), 24);
    if (place == 1) return v16_i_sar(v16_i_shl(groups, 16), 24);
    if (place == 2) return v16_i_sar(v16_i_shl(groups, 8), 24);
    return v16_i_sar(groups, 24);
}

QLM_INLINE v16f unpack_value(v16i groups, size_t place, struct unpacking by, const int zero, const int offset)
{
    v16f value = v16_f_from_i(unpack_codes(groups, place));
    if (zero) value = v16_f_sub(value, by.zero);
    value = v16_f_mul(value, by.scale);
    return offset ? v16_f_add(value, by.offset) : value;
}

#define UNPACK_PASTE_(name, count) name##count
#define UNPACK_PASTE(name, count) UNPACK_PASTE_(name, count)
#define UNPACK_EACH_2(X) X(0) X(1)
#define UNPACK_EACH_4(X) X(0) X(1) X(2) X(3)
#define UNPACK_EACH_8 UNPACK_EACH_4
#define UNPACK_EACH UNPACK_PASTE(UNPACK_EACH_, K_STEP)
#define UNPACK_STORE(place) v16_f_store(out + place * NR, unpack_value(groups, place, by, zero, offset));

/* Runs `call` with constants for whether there are zero points and offsets. */
#define UNPACK_CASES(call, ...)                                                                                        \
    if (zero && offset)                                                                                                \
        call(1, 1, __VA_ARGS__);                                                                                       \
    else if (zero)                                                                                                     \
        call(1, 0, __VA_ARGS__);                                                                                       \
    else if (offset)                                                                                                   \
        call(0, 1, __VA_ARGS__);                                                                                       \
    else                                                                                                               \
        call(0, 0, __VA_ARGS__)

QLM_INLINE void unpack_one(const int zero, const int offset, struct unpacking by, const int8_t *b, size_t k, float *out)
{
    size_t place = k % UNPACK_STEP;
    v16_f_store(out, unpack_value(unpack_load(b, k - place), place, by, zero, offset));
}

QLM_INLINE void unpack_sixteen(const int zero, const int offset, struct unpacking by, const int8_t *b, size_t k,
                               size_t end, float *out)
{
    for (; k < end && k % UNPACK_STEP; k++, out += NR) unpack_one(zero, offset, by, b, k, out);
    for (; k + UNPACK_STEP <= end; k += UNPACK_STEP, out += UNPACK_STEP * NR) {
        v16i groups = unpack_load(b, k);
        UNPACK_EACH(UNPACK_STORE)
    }
    for (; k < end; k++, out += NR) unpack_one(zero, offset, by, b, k, out);
}

QLM_KERNEL(void, unpack_8)
(const int8_t *b, size_t k0, size_t count, const float *scale, const float *zero, const float *offset, float *out)
{
    for (size_t j = 0; j < NR; j += 16) {
        struct unpacking by = unpacking_of(scale + j, zero ? zero + j : NULL, offset ? offset + j : NULL);
        UNPACK_CASES(unpack_sixteen, by, b + j * K_STEP, k0, k0 + count, out + j);
    }
}

/* ---- few rows -------------------------------------------------------------------------------------------------- */

/* Up to six rows meet a weight in the registers where it is dequantized; by way of memory three rows take 1.9 times as
 * long.  Two sixteens at once, so that one's chain hides the other's latency, as long as their sums leave registers for
 * the operands; four chains and more of one do as well. */
#define GEMV_8_ROWS 6
#define GEMV_8_PAIR(m) (NR == 32 || (m) <= 2)

struct unpacked_pair {
    const int8_t *b0, *b1;
    struct unpacking by0, by1;
};

struct unpacked_rows {
    const float *a;
    size_t lda, k, end;
    float *c0, *c1; /* where the pair's sums of row 0 lie */
    size_t ldc;
};

typedef v16f unpacked_sums[GEMV_8_ROWS][2];

/* As in gemm.inc.h, no index may be a variable. */
#define GEMV_8_LOAD(i)                                                                                                 \
    if (i < m) {                                                                                                       \
        sums[i][0] = v16_f_load(rows.c0 + i * rows.ldc);                                                               \
        if (GEMV_8_PAIR(m)) sums[i][1] = v16_f_load(rows.c1 + i * rows.ldc);                                           \
    }
#define GEMV_8_ROW(i)                                                                                                  \
    if (i < m) {                                                                                                       \
        v16f left = v16_f_set1(a[i * lda]);                                                                            \
        sums[i][0] = v16_f_fma(left, right0, sums[i][0]);                                                              \
        if (GEMV_8_PAIR(m)) sums[i][1] = v16_f_fma(left, right1, sums[i][1]);                                          \
    }
#define GEMV_8_STORE(i)                                                                                                \
    if (i < m) {                                                                                                       \
        v16_f_store(rows.c0 + i * rows.ldc, sums[i][0]);                                                               \
        if (GEMV_8_PAIR(m)) v16_f_store(rows.c1 + i * rows.ldc, sums[i][1]);                                           \
    }

QLM_INLINE void gemv_unpacked(const int zero, const int offset, const int m, const struct unpacked_pair *pair,
                              v16i groups0, v16i groups1, size_t place, const float *a, size_t lda, unpacked_sums sums)
{
    v16f right0 = unpack_value(groups0, place, pair->by0, zero, offset), right1 = right0;
    if (GEMV_8_PAIR(m)) right1 = unpack_value(groups1, place, pair->by1, zero, offset);
    QLM_ROWS_6(GEMV_8_ROW)
}

QLM_INLINE void gemv_one(const int zero, const int offset, const int m, const struct unpacked_pair *pair, size_t k,
                         const float *a, size_t lda, unpacked_sums sums)
{
    size_t place = k % UNPACK_STEP;
    v16i groups0 = unpack_load(pair->b0, k - place), groups1 = unpack_load(pair->b1, k - place);
    gemv_unpacked(zero, offset, m, pair, groups0, groups1, place, a, lda, sums);
}

#define UNPACK_GEMV(place) gemv_unpacked(zero, offset, m, &pair, groups0, groups1, place, a + place, lda, sums);

QLM_INLINE void gemv_pair(const int zero, const int offset, const int m, struct unpacked_pair pair,
                          struct unpacked_rows rows)
{
    const float *a = rows.a;
    size_t k = rows.k, end = rows.end, lda = rows.lda;
    unpacked_sums sums;
    QLM_ROWS_6(GEMV_8_LOAD)
    for (; k < end && k % UNPACK_STEP; k++, a++) gemv_one(zero, offset, m, &pair, k, a, lda, sums);
    for (; k + UNPACK_STEP <= end; k += UNPACK_STEP, a += UNPACK_STEP) {
        v16i groups0 = unpack_load(pair.b0, k), groups1 = GEMV_8_PAIR(m) ? unpack_load(pair.b1, k) : groups0;
        UNPACK_EACH(UNPACK_GEMV)
    }
    for (; k < end; k++, a++) gemv_one(zero, offset, m, &pair, k, a, lda, sums);
    QLM_ROWS_6(GEMV_8_STORE)
}

#define GEMV_8_CASE(rows_)                                                                                             \
    case rows_:                                                                                                        \
        UNPACK_CASES(gemv_pair, rows_, pair, rows);                                                                    \
        break;
/* With more rows a missing zero point or offset costs little: there is one instance for any of the two. */
#define GEMV_8_PLAIN_CASE(rows_)                                                                                       \
    case rows_:                                                                                                        \
        if (zero || offset)                                                                                            \
            gemv_pair(1, 1, rows_, pair, rows);                                                                        \
        else                                                                                                           \
            gemv_pair(0, 0, rows_, pair, rows);                                                                        \
        break;

QLM_KERNEL(void, gemv_8)
(size_t m, size_t count, size_t panels, const float *a, size_t lda, const int8_t *b, size_t stride, size_t k0,
 const float *scale, const float *zero, const float *offset, float *c, size_t ldc)
{
    const size_t some = GEMV_8_PAIR(m) ? 32 : 16;
    for (size_t j0 = 0; j0 < panels * NR; j0 += some) {
        size_t j1 = j0 + 16 < panels * NR ? j0 + 16 : j0; /* the last of an odd number is its own neighbour */
        struct unpacked_pair pair = {
            .b0 = b + j0 / NR * stride + j0 % NR * K_STEP,
            .b1 = b + j1 / NR * stride + j1 % NR * K_STEP,
            .by0 = unpacking_of(scale + j0, zero ? zero + j0 : NULL, offset ? offset + j0 : NULL),
            .by1 = unpacking_of(scale + j1, zero ? zero + j1 : NULL, offset ? offset + j1 : NULL),
        };
        struct unpacked_rows rows = {a, lda, k0, k0 + count, c + j0, c + j1, ldc};
        switch (m) {
            GEMV_8_CASE(1)
            GEMV_8_CASE(2)
            GEMV_8_PLAIN_CASE(3)
            GEMV_8_PLAIN_CASE(4)
            GEMV_8_PLAIN_CASE(5)
            GEMV_8_PLAIN_CASE(6)
        }
    }
}
