/* half.h: float16 by its bits, where it is storage alone. */
#ifndef QLM_HALF_H
#define QLM_HALF_H

#include <stdint.h>
#include <string.h>

/* The value of a finite float16, exactly. */
static inline float qlm_half_value(uint16_t half)
{
    uint32_t exponent = half >> 10 & 31, fraction = half & 1023, bits;
    float magnitude;
    if (exponent) {
        bits = (exponent + 112) << 23 | fraction << 13;
        memcpy(&magnitude, &bits, sizeof magnitude);
    } else {
        magnitude = (float)fraction * 0x1p-24f;
    }
    return half >> 15 ? -magnitude : magnitude;
}

/* Whether x >= 0 is a finite float16; *half is then its bits. */
static inline int qlm_half_exact(float x, uint16_t *half)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x >= 0x1p-14f && x <= 65504.0f) {
        *half = (uint16_t)((bits >> 13) - (112u << 10));
        return (bits & 0x1fff) == 0;
    }
    if (!(x >= 0.0f && x < 0x1p-14f)) return 0;
    uint32_t fraction = (uint32_t)(x * 0x1p24f); /* exact: a power of two */
    *half = (uint16_t)fraction;
    return bits != 0x80000000u && (float)fraction * 0x1p-24f == x;
}

#endif
