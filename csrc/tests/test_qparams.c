/* test_qparams.c: parameters at the borders that numerics.md names. */
#include <float.h>
#include <math.h>

#include "common.h"
#include "test.h"

static void check_params(float min, float max, const struct qlm_type *type, int symmetric, float scale, int32_t zero)
{
    struct qlm_qparams got = qlm_choose_qparams(min, max, type, symmetric);
    check(qlm_float_bits(got.scale) == qlm_float_bits(scale) && got.zero == zero,
          "choose_qparams(%a, %a, %d bits from %d, symmetric %d): got %a, %d, want %a, %d", (double)min, (double)max,
          type->bits, type->min, symmetric, (double)got.scale, got.zero, (double)scale, zero);
}

static void test_choose(void)
{
    const struct qlm_type *s8 = &test_types[0], *u8 = &test_types[1], *s4 = &test_types[2], *u16 = &test_types[5];
    check_params(-1.0f, 2.0f, s8, 1, (float)(2.0 / 127), 0);
    check_params(-1.0f, 2.0f, u8, 1, (float)(2.0 / 127), 128);
    check_params(-7.0f, 2.0f, s4, 1, 1.0f, 0);
    check_params(-1.0f, 2.0f, u8, 0, (float)(3.0 / 255), 85);
    check_params(-1.0f, 2.0f, s8, 0, (float)(3.0 / 255), -43);
    check_params(1.0f, 2.0f, u8, 0, (float)(2.0 / 255), 0); /* widened to hold 0 */
    check_params(-2.0f, -1.0f, u8, 0, (float)(2.0 / 255), 255);
    check_params(-0.5f, 254.5f, u8, 0, 1.0f, 0); /* a tie goes to even */
    check_params(-1.5f, 253.5f, u8, 0, 1.0f, 2);
    check_params(0.0f, 0.0f, u8, 0, 1.0f, 0);
    check_params(-0.0f, 0.0f, s8, 0, 1.0f, -128);
    check_params(INFINITY, -INFINITY, s8, 1, 1.0f, 0);   /* empty */
    check_params(0.0f, 0x1p-149f, u16, 0, 0x1p-126f, 0); /* 1 / scale would overflow */
    check_params(-FLT_MAX, FLT_MAX, u8, 0, FLT_MAX / 128, 128);
    check_params(-FLT_MAX, FLT_MAX, s8, 0, FLT_MAX / 128, 0);
    check_params(-FLT_MAX, FLT_MAX, s4, 1, (float)((double)FLT_MAX / 7), 0);
    struct qlm_qparams most = qlm_choose_qparams(-FLT_MAX, FLT_MAX, s8, 1);
    check(isfinite(most.scale * 127) && isinf(nextafterf(most.scale, INFINITY) * 127), "the largest symmetric scale");
}

static void test_interval(void)
{
    const struct qlm_type *u8 = &test_types[1], *s8 = &test_types[0];
    float scale, offset;
    int constant;
    check(qlm_interval_params(-1, 1, u8, &scale, &offset, &constant) == QLM_OK && !constant && scale == 2.0f / 256 &&
              offset == -1 + 0.5f * scale,
          "interval of uint8");
    check(qlm_interval_params(-1, 1, s8, &scale, &offset, &constant) == QLM_OK && !constant && scale == 2.0f / 256 &&
              offset == -1 + 128.5f * scale,
          "interval of int8");
    check(qlm_interval_params(3, 3, u8, &scale, &offset, &constant) == QLM_OK && constant && scale == 1 && offset == 3,
          "constant interval");
    check(qlm_interval_params(0, 0x1p-130f, u8, &scale, &offset, &constant) == QLM_OK && constant &&
              offset == 0x1p-131f,
          "interval without an inverse scale");
    check(qlm_interval_params(-FLT_MAX, FLT_MAX, u8, &scale, &offset, &constant) == QLM_UNSUPPORTED,
          "midpoints overflow");
}

static void test_round_up_half(void)
{
    static const float cases[][2] = {{1.0f, 1.0f},
                                     {0x1.001p0f, 0x1.004p0f},
                                     {0x1.fffp0f, 2.0f},
                                     {65504.0f, 65504.0f},
                                     {65505.0f, INFINITY},
                                     {0x1p-24f, 0x1p-24f},
                                     {0x1p-30f, 0x1p-24f},
                                     {0x1.8p-24f, 0x1p-23f},
                                     {0x1.ff8p-15f, 0x1.ff8p-15f},
                                     {0x1.ff9p-15f, 0x1p-14f}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float got = qlm_round_up_half(cases[i][0]);
        check(got == cases[i][1], "round_up_half(%a): got %a, want %a", (double)cases[i][0], (double)got,
              (double)cases[i][1]);
    }
}

/* Against pow in float64, which is far closer than half a unit of float32. */
static void test_smoothquant(void)
{
    struct rng rng = {7};
    for (int i = 0; i < 2000; i++) {
        float act = rng_scale(&rng) * 100, w = rng_below(&rng, 9) ? rng_scale(&rng) : 0.0f, s;
        double alpha = (double)rng_below(&rng, 1001) / 1000, floor = 1e-5;
        qlm_smoothquant_scales(&act, &w, 1, alpha, &s);
        double want = pow(act, alpha) / pow(w > floor ? w : floor, 1 - alpha);
        check(fabs(s - want) <= 0x1.00001p-24 * want, "smoothquant(%a, %a, %g): got %a, want %a", (double)act,
              (double)w, alpha, (double)s, want);
    }
}

void test_qparams(void)
{
    test_choose();
    test_interval();
    test_round_up_half();
    test_smoothquant();
}
