/* nibbles_neon.h: steps of 4-bit weights in NEON registers, for the tables of 16 outputs a panel. */
QLM_INLINE void n4_load(const char *b, int8x16_t right[4])
{
    int8x16_t first = vld1q_s8((const int8_t *)b), second = vld1q_s8((const int8_t *)b + 16);
    right[0] = vshrq_n_s8(vshlq_n_s8(first, 4), 4);
    right[1] = vshrq_n_s8(vshlq_n_s8(second, 4), 4);
    right[2] = vshrq_n_s8(first, 4);
    right[3] = vshrq_n_s8(second, 4);
}

QLM_INLINE void n4_exact(const char *b, int8_t *out)
{
    int8x16_t right[4];
    n4_load(b, right);
    for (int column = 0; column < 4; column++) vst1q_s8(out + 16 * column, right[column]);
}

QLM_INLINE int8x16_t n4_four(const char *a)
{
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
