/* nibbles_avx512.h: steps of 4-bit weights in 512-bit registers, for the tables of 32 outputs a panel. */
QLM_INLINE void n4_values(const char *b, __m512i right[2])
{
    __m512i bytes = _mm512_loadu_si512(b);
    __m512i values = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
#ifdef QLM_VBMI
    /* vpermb looks at the lower six bits of a byte, whose two upper ones the table ignores: no mask. */
    right[0] = _mm512_permutexvar_epi8(bytes, values);
    right[1] = _mm512_permutexvar_epi8(_mm512_srli_epi16(bytes, 4), values);
#else
    __m512i lower = _mm512_set1_epi8(15);
    right[0] = _mm512_shuffle_epi8(values, _mm512_and_si512(bytes, lower));
    right[1] = _mm512_shuffle_epi8(values, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), lower));
#endif
}

QLM_INLINE void n4_exact(const char *b, int8_t *out)
{
    __m512i right[2];
    n4_values(b, right);
    _mm512_storeu_si512(out, right[0]);
    _mm512_storeu_si512(out + 64, right[1]);
}
