/* unpack_8.inc.h: an int8 panel as floats, over the lanes of a vec_<isa>.h.  The including file defines K_STEP and NR.
 */

/* Element `place` of each of 16 neighbouring groups of K_STEP codes. */
QLM_INLINE v16i unpack_codes(const int8_t *groups, size_t place)
{
    if (K_STEP == 2) {
        v16i pairs = v16_load_s16((const int16_t *)groups);
        return place == 0 ? v16_i_sar(v16_i_shl(pairs, 24), 24) : v16_i_sar(pairs, 8);
    }
    v16i fours = v16_i_load((const int32_t *)groups);
    switch (place) {
    case 0:
        return v16_i_sar(v16_i_shl(fours, 24), 24);
    case 1:
        return v16_i_sar(v16_i_shl(fours, 16), 24);
    case 2:
        return v16_i_sar(v16_i_shl(fours, 8), 24);
    default:
        return v16_i_sar(fours, 24);
    }
}

QLM_KERNEL(void, unpack_8)
(const int8_t *b, size_t k0, size_t count, const float *scale, const float *zero, const float *offset, float *out)
{
    for (size_t k = k0; k < k0 + count; k++, out += NR)
        for (size_t j = 0; j < NR; j += 16) {
            v16f code = v16_f_from_i(unpack_codes(b + (k / K_STEP * NR + j) * K_STEP, k % K_STEP));
            v16f product = v16_f_mul(v16_f_sub(code, v16_f_load(zero + j)), v16_f_load(scale + j));
            v16_f_store(out + j, v16_f_add(product, v16_f_load(offset + j)));
        }
}
