/* What vec_avx2.h and vec_avx512.h share: the greatest of each of 16 groups, by registers of 32 bytes.  Halving lanes
 * takes shuffles, which registers of 64 bytes have half as many of a cycle. */
#ifndef QLM_VEC_YMM_H
#define QLM_VEC_YMM_H

QLM_INLINE __m256i ymm_greater(__m256i a, __m256i b, enum order order)
{ return order == AS_SIGNED ? _mm256_max_epi32(a, b) : _mm256_max_epu32(a, b); }

/* The greatest of two vectors of floats in memory, in the order of `order`. */
QLM_INLINE __m256i ymm_greater_of(const float *a, const float *b, enum order order)
{
    __m256 x = _mm256_loadu_ps(a), y = _mm256_loadu_ps(b);
    if (order == AS_MAGNITUDES) return ymm_greater_magnitude(x, y);
    return ymm_greater(_mm256_castps_si256(x), _mm256_castps_si256(y), order);
}

QLM_INLINE __m256i ymm_greatest_of_32(const float *x, enum order order)
{ return ymm_greater(ymm_greater_of(x, x + 8, order), ymm_greater_of(x + 16, x + 24, order), order); }

QLM_INLINE __m256i ymm_greatest(const float *x, size_t n, enum order order)
{
    __m256i greatest = ymm_greatest_of_32(x, order);
    for (size_t i = 32; i < n; i += 32) greatest = ymm_greater(greatest, ymm_greatest_of_32(x + i, order), order);
    return greatest;
}

/* Each step halves the lanes of two registers and puts them side by side: those of 2, 4 and 8 groups of n. */
QLM_INLINE __m256i ymm_greatest_of_two(const float *x, size_t n, enum order order)
{
    __m256i a = ymm_greatest(x, n, order), b = ymm_greatest(x + n, n, order);
    return ymm_greater(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b), order);
}

QLM_INLINE __m256i ymm_greatest_of_four(const float *x, size_t n, enum order order)
{
    __m256i a = ymm_greatest_of_two(x, n, order), b = ymm_greatest_of_two(x + 2 * n, n, order);
    return ymm_greater(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b), order);
}

QLM_INLINE __m256i ymm_greatest_of_eight(const float *x, size_t n, enum order order)
{
    __m256i a = ymm_greatest_of_four(x, n, order), b = ymm_greatest_of_four(x + 4 * n, n, order);
    return ymm_greater(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31), order);
}

#endif
