/* left.inc.h: the left operand of the int8 product, for the element type LEFT (enum qlm_left_type) of the including
 * file.
 */

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

/* In unsigned arithmetic, which wraps. */
QLM_KERNEL(int32_t, left_sum)
(const void *a, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += LEFT == QLM_LEFT_U8   ? (uint32_t)((const uint8_t *)a)[i]
               : LEFT == QLM_LEFT_S8 ? (uint32_t)((const int8_t *)a)[i]
                                     : (uint32_t)((const int16_t *)a)[i];
    return (int32_t)sum;
}
