/* exp, tanh, erf and the activations on 16 lanes, and map_f32.
 *
 * exp, tanh and erf reduce their argument to n log(2) + r, n = rint(x / log(2)), and use one polynomial for exp(r) - 1;
 * erf has another for log(erfc), tanh one for small arguments; GELU has eight.  docs/fit_functions.py fits them.  Fused
 * multiply-adds are part of the definition.  Largest errors over all of float32, in units in the last place: exp 1.04,
 * tanh 1.50, erf 1.84.
 *
 * n: a fused multiply-add to a large constant leaves it in the low bits of the sum (ties to even, as the mode is);
 * shifted to the exponent they are 2^n, or the step that turns y into y 2^n by one integer addition.
 */
#define QLM_EXP_0 0x1.fffffep-2f
#define QLM_EXP_1 0x1.5554b4p-3f
#define QLM_EXP_2 0x1.5556f8p-5f
#define QLM_EXP_3 0x1.122534p-7f
#define QLM_EXP_4 0x1.6b953ap-10f

#define QLM_ERFC_0 0x1.06eba8p-3f
#define QLM_ERFC_1 -0x1.45f300p-1f
#define QLM_ERFC_2 0x1.a4f8c4p-4f
#define QLM_ERFC_3 0x1.39b7cap-6f
#define QLM_ERFC_4 -0x1.637a22p-13f
#define QLM_ERFC_5 -0x1.b744d4p-10f
#define QLM_ERFC_6 -0x1.4e29aap-11f
#define QLM_ERFC_7 -0x1.f28b14p-14f
#define QLM_ERFC_8 -0x1.3b02eap-17f
#define QLM_ERF_ONE 3.92f /* erf is 1 in float32 from here on */

#define QLM_TANH_0 -0x1.55554ap-2f
#define QLM_TANH_1 0x1.110cf0p-3f
#define QLM_TANH_2 -0x1.b91f20p-5f
#define QLM_TANH_3 0x1.58ec78p-6f
#define QLM_TANH_4 -0x1.99565ep-8f
#define QLM_TANH_SMALL 0.55f
#define QLM_TANH_ONE 9.1f /* tanh is 1 in float32 from here on */

#define QLM_LOG2_E 0x1.715476p+0f
#define QLM_LOG_2 0x1.62e430p-1f
#define QLM_LOG_2_LOW -0x1.05c610p-29f
#define QLM_EXP_ZERO_BELOW -87.3f
#define QLM_EXP_INF_ABOVE 0x1.62e42ep+6f /* the largest x whose exp is finite */

/* Their last bit is worth 1: 1.5 * 2^23, and the same plus the bias of the exponent. */
#define QLM_ROUND 12582912.0f
#define QLM_ROUND_TO_EXPONENT 12583039.0f

#define QLM_GELU_TANH_SCALE 0x1.988454p-1f /* sqrt(2 / pi) */
#define QLM_GELU_TANH_CUBE 0.044715f

#define QLM_GELU_END 5.5f
#define QLM_GELU_SCALE 0x1.68ba2ep+0f /* 7.75 / 5.5 */
#define QLM_GELU_DEGREE 6

/* By power of r, then by piece. */
static const float gelu_tail[QLM_GELU_DEGREE + 1][8] = {
    {0x1.72071ap-2f, 0x1.25fc38p-3f, 0x1.376c6cp-5f, 0x1.a9dcc2p-8f, 0x1.7067f6p-11f, 0x1.8e1e84p-15f, 0x1.0a7a02p-19f,
     0x1.144508p-25f},
    {-0x1.1039e2p-2f, -0x1.4906d8p-3f, -0x1.e0a796p-5f, -0x1.a854bap-7f, -0x1.c4c582p-10f, -0x1.23f86ap-13f,
     -0x1.c72b9ep-18f, -0x1.aca638p-23f},
    {0x1.123524p-5f, 0x1.f12234p-5f, 0x1.2e9906p-5f, 0x1.75feb6p-7f, 0x1.0089c6p-9f, 0x1.945f8ap-13f, 0x1.747d7cp-17f,
     0x1.950e04p-22f},
    {0x1.3f86e6p-6f, -0x1.d5ed3cp-10f, -0x1.5a97ecp-7f, -0x1.705a82p-8f, -0x1.5da4aap-10f, -0x1.5c937cp-13f,
     -0x1.821ee8p-17f, -0x1.ecedf6p-22f},
    {-0x1.0875e6p-8f, -0x1.378600p-8f, 0x1.de24d0p-13f, 0x1.8e0ef8p-10f, 0x1.362412p-11f, 0x1.9f3976p-14f,
     0x1.1d31fep-17f, 0x1.a6a564p-22f},
    {-0x1.45f366p-10f, 0x1.afabe2p-11f, 0x1.8196eap-11f, -0x1.a4e8c6p-14f, -0x1.5c8462p-13f, -0x1.6c0b4ap-15f,
     -0x1.4efc26p-18f, -0x1.175ef6p-22f},
    {0x1.4822b0p-12f, 0x1.b397d8p-13f, -0x1.598bdcp-13f, -0x1.26b342p-14f, 0x1.777d26p-16f, 0x1.b35eacp-17f,
     0x1.17b0d4p-19f, 0x1.c60320p-23f},
};

/* The sum of the lanes, canonical. */
QLM_INLINE float reduced_sum(v16f lanes)
{
    float sum = v16_f_reduce_add(lanes);
    return sum == sum ? sum : __builtin_nanf("");
}

/* exp(r) - 1 for |r| <= log(2) / 2, with a relative error that stays small at r = 0. */
QLM_INLINE v16f exp_minus_1(v16f r)
{
    v16f p = v16_f_fma(v16_f_set1(QLM_EXP_4), r, v16_f_set1(QLM_EXP_3));
    p = v16_f_fma(p, r, v16_f_set1(QLM_EXP_2));
    p = v16_f_fma(p, r, v16_f_set1(QLM_EXP_1));
    p = v16_f_fma(p, r, v16_f_set1(QLM_EXP_0));
    return v16_f_fma(v16_f_mul(r, r), p, r);
}

/* The low bits of the result are n = rint(x log2(e)), plus the bias of the exponent where `round` has it. */
QLM_INLINE v16f exp_count(v16f x, v16f round) { return v16_f_fma(x, v16_f_set1(QLM_LOG2_E), round); }

QLM_INLINE v16f exp_power(v16f count) { return v16_i_as_f(v16_i_shl(v16_f_as_i(count), 23)); }

/* exp(r) with x = n log(2) + r, for any n: it is large enough here for the second half of log(2) to count. */
QLM_INLINE v16f exp_of_remainder(v16f x, v16f minus_n)
{
    v16f r = v16_f_fma(minus_n, v16_f_set1(QLM_LOG_2), x);
    r = v16_f_fma(minus_n, v16_f_set1(QLM_LOG_2_LOW), r);
    return v16_f_add(exp_minus_1(r), v16_f_set1(1.0f));
}

/* 2^128 is no float32, so n is added to the exponent of exp(r) instead of multiplying by 2^n. */
QLM_INLINE v16f function_exp(v16f x)
{
    v16f round = v16_f_set1(QLM_ROUND);
    v16f count = exp_count(x, round);
    v16f y = exp_of_remainder(x, v16_f_sub(round, count));
    y = v16_i_as_f(v16_i_add(v16_f_as_i(y), v16_i_shl(v16_f_as_i(count), 23)));
    y = v16_f_select(v16_f_lt(x, v16_f_set1(QLM_EXP_ZERO_BELOW)), v16_f_set1(0.0f), y);
    y = v16_f_select(v16_f_gt(x, v16_f_set1(QLM_EXP_INF_ABOVE)), v16_f_set1(__builtin_inff()), y);
    return v16_f_select(v16_f_is_nan(x), x, y);
}

/* The same bits as function_exp for x <= 0 and NaN. */
QLM_INLINE v16f exp_of_nonpositive(v16f x)
{
    v16f round = v16_f_set1(QLM_ROUND_TO_EXPONENT);
    v16f count = exp_count(x, round);
    v16f y = v16_f_mul(exp_of_remainder(x, v16_f_sub(round, count)), exp_power(count));
    return v16_f_select(v16_f_lt(x, v16_f_set1(QLM_EXP_ZERO_BELOW)), v16_f_set1(0.0f), y);
}

/* tanh(a) for 0 <= a <= 0.55. */
QLM_INLINE v16f tanh_small(v16f a)
{
    v16f t = v16_f_mul(a, a);
    v16f p = v16_f_fma(v16_f_set1(QLM_TANH_4), t, v16_f_set1(QLM_TANH_3));
    p = v16_f_fma(p, t, v16_f_set1(QLM_TANH_2));
    p = v16_f_fma(p, t, v16_f_set1(QLM_TANH_1));
    p = v16_f_fma(p, t, v16_f_set1(QLM_TANH_0));
    return v16_f_fma(v16_f_mul(a, t), p, a);
}

/* tanh(a) = 1 - 2 / (exp(2 a) + 1) for 0.55 <= a <= 9.1. */
QLM_INLINE v16f tanh_large(v16f a)
{
    v16f twice = v16_f_add(a, a);
    v16f round = v16_f_set1(QLM_ROUND_TO_EXPONENT), one = v16_f_set1(1.0f);
    v16f count = exp_count(twice, round);
    v16f q = exp_minus_1(v16_f_fma(v16_f_sub(round, count), v16_f_set1(QLM_LOG_2), twice));
    v16f power = exp_power(count);
    v16f denominator = v16_f_add(v16_f_fma(power, q, power), one);
    return v16_f_sub(one, v16_f_div(v16_f_set1(2.0f), denominator));
}

QLM_INLINE v16f function_tanh(v16f x)
{
    v16f a = v16_f_min(v16_f_set1(QLM_TANH_ONE), v16_f_abs(x));
    v16m small = v16_f_lt(a, v16_f_set1(QLM_TANH_SMALL));
    return v16_f_copysign(v16_f_select(small, tanh_small(a), tanh_large(a)), x);
}

/* log(erfc(-b)) for -3.92 <= b <= 0. */
QLM_INLINE v16f log_erfc(v16f b)
{
    v16f p = v16_f_fma(v16_f_set1(QLM_ERFC_8), b, v16_f_set1(QLM_ERFC_7));
    p = v16_f_fma(p, b, v16_f_set1(QLM_ERFC_6));
    p = v16_f_fma(p, b, v16_f_set1(QLM_ERFC_5));
    p = v16_f_fma(p, b, v16_f_set1(QLM_ERFC_4));
    p = v16_f_fma(p, b, v16_f_set1(QLM_ERFC_3));
    p = v16_f_fma(p, b, v16_f_set1(QLM_ERFC_2));
    p = v16_f_fma(p, b, v16_f_set1(QLM_ERFC_1));
    p = v16_f_fma(p, b, v16_f_set1(QLM_ERFC_0));
    return v16_f_fma(p, b, b);
}

/* erf(a) = 1 - erfc(a) = (1 - 2^n) - 2^n (exp(r) - 1) with n log(2) + r = log(erfc(a)): one formula without branches,
 * and no cancellation for small a, where n is 0. */
QLM_INLINE v16f function_erf(v16f x)
{
    v16f b = v16_f_max(v16_f_set1(-QLM_ERF_ONE), v16_f_minus_abs(x));
    v16f exponent = log_erfc(b);
    v16f round = v16_f_set1(QLM_ROUND_TO_EXPONENT);
    v16f count = exp_count(exponent, round);
    v16f q = exp_minus_1(v16_f_fma(v16_f_sub(round, count), v16_f_set1(QLM_LOG_2), exponent));
    v16f power = exp_power(count);
    return v16_f_copysign(v16_f_fnma(power, q, v16_f_sub(v16_f_set1(1.0f), power)), x);
}

QLM_INLINE v16f function_relu(v16f x) { return v16_f_select(v16_f_le(x, v16_f_set1(0.0f)), v16_f_set1(0.0f), x); }

/* gelu(x) = x Phi(x) = max(x, 0) - a Phi(-a) with a = |x|: an eighth of [0, 5.5] each has a polynomial for the normal
 * tail, whose coefficients are looked up.  Where a is 5.5 or more r is 1 / 4, and the last polynomial exactly 0; NaN
 * stays in a. */
QLM_INLINE v16f function_gelu(v16f x)
{
    v16f a = v16_f_min(v16_f_set1(QLM_GELU_END), v16_f_abs(x)), round = v16_f_set1(QLM_ROUND);
    v16f piece = v16_f_fma(a, v16_f_set1(QLM_GELU_SCALE), v16_f_set1(-0.5f));
    v16f count = v16_f_add(piece, round);
    v16f r = v16_f_sub(piece, v16_f_sub(count, round));
    v16i index = v16_f_as_i(count);
    v16f p = v16_f_lookup(gelu_tail[QLM_GELU_DEGREE], index);
#pragma GCC unroll 8
    for (int power = QLM_GELU_DEGREE - 1; power >= 0; power--)
        p = v16_f_fma(p, r, v16_f_lookup(gelu_tail[power], index));
    return v16_f_fnma(a, p, v16_f_max(x, v16_f_set1(0.0f)));
}

/* Each operation below rounds: sqrt(2 / pi) * (x + 0.044715 * ((x * x) * x)). */
QLM_INLINE v16f function_gelu_tanh(v16f x)
{
    v16f cube = v16_f_mul(v16_f_mul(x, x), x);
    v16f inner = v16_f_add(x, v16_f_mul(v16_f_set1(QLM_GELU_TANH_CUBE), cube));
    v16f tanh = function_tanh(v16_f_mul(v16_f_set1(QLM_GELU_TANH_SCALE), inner));
    return v16_f_mul(v16_f_mul(x, v16_f_set1(0.5f)), v16_f_add(tanh, v16_f_set1(1.0f)));
}

QLM_INLINE v16f function_silu(v16f x)
{
    v16f minus_x = v16_i_as_f(v16_i_add(v16_f_as_i(x), v16_i_set1((int32_t)0x80000000u)));
    return v16_f_div(x, v16_f_add(function_exp(minus_x), v16_f_set1(1.0f)));
}

/* Not canonical yet. */
QLM_INLINE v16f apply_function(int function, v16f x)
{
    switch (function) {
    case QLM_RELU:
        return function_relu(x);
    case QLM_GELU:
        return function_gelu(x);
    case QLM_GELU_TANH:
        return function_gelu_tanh(x);
    case QLM_SILU:
        return function_silu(x);
    case QLM_TANH:
        return function_tanh(x);
    case QLM_EXP:
        return function_exp(x);
    case QLM_ERF:
        return function_erf(x);
    default:
        return x;
    }
}

QLM_INLINE void map_span(int function, const float *x, size_t n, float *out)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_f_store(out + i, v16_f_canonical(apply_function(function, v16_f_load(x + i))));
    if (i < n)
        v16_f_store_part(out + i, n - i, v16_f_canonical(apply_function(function, v16_f_load_part(x + i, n - i))));
}

/* One loop for each function, so that its constants stay in registers. */
QLM_KERNEL(void, map_f32)(int function, const float *x, size_t n, float *out)
{
    switch (function) {
    case QLM_RELU:
        map_span(QLM_RELU, x, n, out);
        break;
    case QLM_GELU:
        map_span(QLM_GELU, x, n, out);
        break;
    case QLM_GELU_TANH:
        map_span(QLM_GELU_TANH, x, n, out);
        break;
    case QLM_SILU:
        map_span(QLM_SILU, x, n, out);
        break;
    case QLM_TANH:
        map_span(QLM_TANH, x, n, out);
        break;
    case QLM_EXP:
        map_span(QLM_EXP, x, n, out);
        break;
    case QLM_ERF:
        map_span(QLM_ERF, x, n, out);
        break;
    default:
        map_span(QLM_IDENTITY, x, n, out);
        break;
    }
}
