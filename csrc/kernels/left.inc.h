/* left.inc.h: the left operand of the int8 product, in the element type LEFT (enum qlm_left_type) of the including
 * file. Its codes are quantize.inc.h's: the bounds that the caller shifted to the left type make the low bytes fit.
 */
#include "quantize.inc.h"

#define LEFT_BYTES (LEFT == QLM_LEFT_S16 ? 2 : 1)

QLM_KERNEL(int, left_quantize)
(const float *x, size_t n, float scale, float zero, float lo, float hi, void *a)
{ return quantize_span(x, n, (struct codes){scale, zero, lo, hi}, LEFT_BYTES, a); }

QLM_KERNEL(int, left_quantize_cols)
(const float *x, size_t n, const float *scale, float zero, float lo, float hi, void *a)
{
    struct column_codes columns = {.x = x, .scale = scale, .first_zero = zero, .lo = lo, .hi = hi};
    return quantize_columns(columns, n, LEFT_BYTES, a);
}

QLM_KERNEL(int, left_interval)
(const float *x, size_t n, float min, float scale, int levels, int lo, void *a)
{ return interval_span(x, n, min, scale, levels, lo, LEFT_BYTES, a); }

QLM_KERNEL(void, left_widen)
(const uint8_t *codes, size_t n, int codes_signed, void *a)
{
    if (LEFT == QLM_LEFT_S16) {
        int16_t *words = a;
        const uint8_t sign = codes_signed ? 0x80 : 0;
        for (size_t i = 0; i < n; i++) words[i] = (int16_t)((uint8_t)(codes[i] ^ sign) - sign);
    } else {
        uint8_t *bytes = a;
        const uint8_t flip = (LEFT == QLM_LEFT_U8) == (codes_signed != 0) ? 0x80 : 0;
        for (size_t i = 0; i < n; i++) bytes[i] = codes[i] ^ flip;
    }
}

#include "weights.inc.h"
