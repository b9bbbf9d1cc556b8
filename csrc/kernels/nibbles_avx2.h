/* nibbles_avx2.h: steps of 4-bit weights in 256-bit registers, for the tables of 16 outputs a panel; after int8.inc.h.
 */
QLM_INLINE void n4_values(const char *b, __m256i right[2])
{
    __m256i bytes = _mm256_loadu_si256((const __m256i *)b), lower = _mm256_set1_epi8(15);
    __m128i signed_values = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
    __m256i values = _mm256_broadcastsi128_si256(signed_values);
    right[0] = _mm256_shuffle_epi8(values, _mm256_and_si256(bytes, lower));
    right[1] = _mm256_shuffle_epi8(values, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), lower));
}

QLM_INLINE void n4_exact(const char *b, int8_t *out)
{
    __m256i right[2];
    n4_values(b, right);
    _mm256_storeu_si256((__m256i *)out, right[0]);
    _mm256_storeu_si256((__m256i *)out + 1, right[1]);
}
