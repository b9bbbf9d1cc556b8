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
#define QLM_WEIGHT_ROUND_BITS 0x4b400000

QLM_INLINE float scores_max(const float *x, size_t n)
{
    v16f lowest = v16_f_set1(-__builtin_inff()), max = lowest;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) max = v16_f_max(v16_f_load(x + i), max);
    if (i < n) max = v16_f_max(v16_f_select(v16_m_first(n - i), v16_f_load_part(x + i, n - i), lowest), max);
    return v16_f_reduce_max(max);
}

/* The code plus QLM_WEIGHT_ROUND_BITS, of d = x - max. */
QLM_INLINE v16i weight_bits(v16f d)
{
    v16f round = v16_f_set1(QLM_WEIGHT_ROUND);
    v16f clamped = v16_f_max(d, v16_f_set1(QLM_WEIGHT_ZERO_BELOW));
    v16f count = v16_f_add(clamped, round);
    v16f r = v16_f_sub(clamped, v16_f_sub(count, round));
    v16f p = v16_f_fma(v16_f_set1(QLM_WEIGHT_2), r, v16_f_set1(QLM_WEIGHT_1));
    p = v16_f_fma(p, r, v16_f_set1(QLM_WEIGHT_0));
    p = v16_f_fma(p, r, v16_f_set1(QLM_WEIGHT_ONE));
    v16f weight = v16_i_as_f(v16_i_add(v16_f_as_i(p), v16_i_shl(v16_f_as_i(count), 23)));
    return v16_f_as_i(v16_f_add(weight, round));
}

QLM_INLINE void store_weights(v16i bits, void *a, size_t i, size_t count)
{
    if (LEFT == QLM_LEFT_S16)
        v16_store_low16_n((uint16_t *)a + i, count, bits);
    else
        v16_store_low8_n((uint8_t *)a + i, count, LEFT == QLM_LEFT_S8 ? v16_i_sub(bits, v16_i_set1(128)) : bits);
}

QLM_KERNEL(int32_t, left_weights)
(const float *x, size_t n, void *a)
{
    v16f max = v16_f_set1(scores_max(x, n)), none = v16_f_set1(QLM_WEIGHT_ZERO_BELOW);
    v16i sum = v16_i_set1(0);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v16i bits = weight_bits(v16_f_sub(v16_f_load(x + i), max));
        store_weights(bits, a, i, 16);
        sum = v16_i_add(sum, bits);
    }
    if (i < n) {
        v16f d = v16_f_sub(v16_f_load_part(x + i, n - i), max);
        v16i bits = weight_bits(v16_f_select(v16_m_first(n - i), d, none));
        store_weights(bits, a, i, n - i);
        sum = v16_i_add(sum, bits);
    }
    uint32_t vectors = (uint32_t)(n / 16 + (n % 16 != 0));
    return v16_i_reduce_add(v16_i_sub(sum, v16_i_set1((int32_t)(vectors * (uint32_t)QLM_WEIGHT_ROUND_BITS))));
}
