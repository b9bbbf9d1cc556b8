/* weights.inc.h: attention's weights as codes of 8 bits, left elements of the including file's LEFT.
 *
 * A row of scores holds logarithms to the base 2.  Each weight is 255 * 2^(x - max), rounded: its error is that of the
 * rounding, so three multiply-adds are enough for 2^r (docs/fit_functions.py: within 1.0e-4, a fortieth of a code).
 * Below -30 a weight is 0 anyway.  A NaN, of infinite scores alone, counts as that.
 */
#define QLM_WEIGHT_0 0x1.619304p+7f
#define QLM_WEIGHT_1 0x1.ee1c40p+5f
#define QLM_WEIGHT_2 0x1.c0dfb4p+3f
#define QLM_WEIGHT_ONE 255.0f
#define QLM_WEIGHT_ZERO_BELOW -30.0f
#define QLM_WEIGHT_ROUND 12582912.0f /* 1.5 * 2^23: its last bit is worth 1 */
#define QLM_WEIGHT_ROUND_TO_EXPONENT 12583039.0f
#define QLM_WEIGHT_ROUND_BITS 0x4b400000

QLM_INLINE float scores_max(const float *x, size_t n)
{
    v16f lowest = v16_f_set1(-__builtin_inff()), max = lowest, other = lowest;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        max = v16_f_max(v16_f_load(x + i), max);
        other = v16_f_max(v16_f_load(x + i + 16), other);
    }
    max = v16_f_max(other, max);
    if (i + 16 <= n) {
        max = v16_f_max(v16_f_load(x + i), max);
        i += 16;
    }
    if (i < n) max = v16_f_max(v16_f_select(v16_m_first(n - i), v16_f_load_part(x + i, n - i), lowest), max);
    return v16_f_reduce_max(max);
}

/* The code plus QLM_WEIGHT_ROUND_BITS.  2^n is shifted out of n plus the bias of the exponent; times p it is exact, so
 * one fused multiply-add scales and rounds. */
QLM_INLINE v16i weight_bits(v16f x, v16f max)
{
    v16f round = v16_f_set1(QLM_WEIGHT_ROUND_TO_EXPONENT);
    v16f d = v16_f_max(v16_f_sub(x, max), v16_f_set1(QLM_WEIGHT_ZERO_BELOW));
    v16f count = v16_f_add(d, round);
    v16f r = v16_f_sub(d, v16_f_sub(count, round));
    v16f p = v16_f_fma(v16_f_set1(QLM_WEIGHT_2), r, v16_f_set1(QLM_WEIGHT_1));
    p = v16_f_fma(p, r, v16_f_set1(QLM_WEIGHT_0));
    p = v16_f_fma(p, r, v16_f_set1(QLM_WEIGHT_ONE));
    v16f power = v16_i_as_f(v16_i_shl(v16_f_as_i(count), 23));
    return v16_f_as_i(v16_f_fma(p, power, v16_f_set1(QLM_WEIGHT_ROUND)));
}

QLM_INLINE void store_weights(v16i bits, void *a, size_t i, size_t count)
{
    if (LEFT == QLM_LEFT_S16)
        v16_store_low16_n((uint16_t *)a + i, count, bits);
    else
        v16_store_low8_n((uint8_t *)a + i, count, LEFT == QLM_LEFT_S8 ? v16_i_sub(bits, v16_i_set1(128)) : bits);
}

/* 64 weights; returns the sum of their bits. */
QLM_INLINE v16i some_weights(const float *x, v16f max, void *a, size_t i)
{
    v16i w[4];
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) w[j] = weight_bits(v16_f_load(x + i + 16 * j), max);
    if (LEFT == QLM_LEFT_S16) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) store_weights(w[j], a, i + 16 * j, 16);
    } else {
        v64b codes = v64_low8(w[0], w[1], w[2], w[3]);
        v64_b_store((uint8_t *)a + i, LEFT == QLM_LEFT_S8 ? v64_b_add(codes, v64_b_set1(128)) : codes);
    }
    return v16_i_add(v16_i_add(w[0], w[1]), v16_i_add(w[2], w[3]));
}

QLM_INLINE int32_t row_weights(const float *x, size_t n, v16f max, void *a)
{
    v16f least = v16_f_set1(-__builtin_inff());
    v16i sum = v16_i_set1(0);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) sum = v16_i_add(sum, some_weights(x, max, a, i));
    for (; i < n; i += 16) {
        size_t count = n - i < 16 ? n - i : 16;
        v16f part = v16_f_load_n(x + i, count);
        v16i bits = weight_bits(count < 16 ? v16_f_select(v16_m_first(count), part, least) : part, max);
        store_weights(bits, a, i, count);
        sum = v16_i_add(sum, bits);
    }
    uint32_t vectors = (uint32_t)(n / 16 + (n % 16 != 0));
    return v16_i_reduce_add(v16_i_sub(sum, v16_i_set1((int32_t)(vectors * (uint32_t)QLM_WEIGHT_ROUND_BITS))));
}

QLM_KERNEL(void, left_weights)
(size_t m, size_t n, const float *x, size_t ldx, void *a, size_t lda, int32_t *sums)
{
    char *row = a;
    float next = m ? scores_max(x, n) : 0.0f;
    for (size_t i = 0; i < m; i++, x += ldx, row += lda) {
        v16f max = v16_f_set1(next);
        if (i + 1 < m) next = scores_max(x + ldx, n); /* its steps wait for one another, beside this row's */
        sums[i] = row_weights(x, n, max, row);
    }
}
