/* gemm_4.inc.h: the kernels of 4-bit weights (kernels.h), over tiles that gemm_4_dot.inc.h or gemm_4_16.inc.h makes:
 *
 *   n4_run, n4_tile     sums and grouped tiles over panels of nibbles, 2 to the power N4_SHIFT too large
 *   e4_run, e4_tile     over panels that expand_4 made, exact
 *   n4_exact(b, out)    a step of nibbles -> 4 NR int8
 *   N4_LEFT, N4_MR, N4_COLUMNS, and what zeros_4.inc.h has
 */
#define N4_STEP_BYTES (2 * NR)

#define N4_STORE_PART(i, j, shift)                                                                                     \
    {                                                                                                                  \
        v16i part = DOT_LANES(sums[i] + (j) * (N4_COLUMNS / (NR / 16)), 0);                                            \
        v16_i_store(c + i * ldc + 16 * (j), v16_i_sar(part, shift));                                                   \
    }
#define N4_STORE_ROW(i, shift)                                                                                         \
    if (i < m) {                                                                                                       \
        N4_STORE_PART(i, 0, shift)                                                                                     \
        if (NR > 16) N4_STORE_PART(i, NR / 16 - 1, shift)                                                              \
    }
#define N4_STORE_NIBBLES(i) N4_STORE_ROW(i, N4_SHIFT)
#define N4_STORE_EXPANDED(i) N4_STORE_ROW(i, 0)

/* What gemm_4 is given but for m. */
struct nibble_product {
    size_t steps;
    const char *a;
    size_t lda;
    const char *b;
    int32_t *c;
    size_t ldc;
};

QLM_INLINE void n4_rows(const int m, const struct nibble_product *p)
{
    dot_sum sums[N4_MR][N4_COLUMNS];
    int32_t *c = p->c;
    const size_t ldc = p->ldc;
    n4_run(m, p->steps, p->a, p->lda, p->b, sums);
    QLM_EACH_ROW(N4_MR, N4_STORE_NIBBLES)
}

QLM_INLINE void e4_rows(const int m, const struct nibble_product *p)
{
    dot_sum sums[N4_MR][N4_COLUMNS];
    int32_t *c = p->c;
    const size_t ldc = p->ldc;
    e4_run(m, p->steps, p->a, p->lda, p->b, sums);
    QLM_EACH_ROW(N4_MR, N4_STORE_EXPANDED)
}

#define N4_CASE(i)                                                                                                     \
    case i + 1:                                                                                                        \
        if (expanded)                                                                                                  \
            e4_rows(i + 1, &p);                                                                                        \
        else                                                                                                           \
            n4_rows(i + 1, &p);                                                                                        \
        return;

QLM_INLINE void n4_product(size_t m, int expanded, struct nibble_product p)
{
    switch (m) {
        QLM_EACH_ROW(N4_MR, N4_CASE)
    }
}

QLM_KERNEL(void, gemm_4)
(size_t m, size_t steps, const void *a, size_t lda, const void *b, int expanded, int32_t *c, size_t ldc)
{
    for (size_t row = 0; row < m; row += N4_MR) {
        struct nibble_product p = {steps, (const char *)a + row * lda, lda, b, c + row * ldc, ldc};
        n4_product(m - row < N4_MR ? m - row : N4_MR, expanded, p);
    }
}

QLM_KERNEL(void, gemm_4_groups)
(size_t m, size_t k, size_t group, const void *a, size_t lda, const void *b, int expanded, const void *sw, int half,
 const int8_t *zw, const float *ow, const int32_t *zx, const float *rest, const float *sx, const float *centred,
 const float *ox, size_t rows, const float *scale, const float *zero, const float *shift, const float *chain,
 const float *bias, const float *residual, size_t ldr, float *out, size_t ldo, int far)
{
    struct qlm_groups g = {k,  group, a,     lda,  b,     sw,    half, zw,       ow,  zx,  rest, sx, centred,
                           ox, rows,  scale, zero, shift, chain, bias, residual, ldr, out, ldo,  far};
    if (expanded)
        e4_tile(m, &g);
    else
        n4_tile(m, &g);
}

/* A step less its zero points. */
QLM_INLINE void n4_exact_less(const char *from, const n4_bytes zeros[N4_REGISTERS], int8_t *out)
{
    int8_t step[4 * NR];
    n4_exact(from, step);
    for (size_t i = 0; i < N4_REGISTERS; i++) {
        n4_bytes codes;
        __builtin_memcpy(&codes, step + i * sizeof codes, sizeof codes);
        codes -= zeros[i];
        __builtin_memcpy(out + i * sizeof codes, &codes, sizeof codes);
    }
}

/* The same of which `count` of four k are no padding. */
QLM_INLINE void n4_exact_part(const char *from, const int8_t *zw, size_t count, int8_t *out)
{
    n4_exact(from, out);
    for (size_t i = 0; i < 4 * NR; i++) out[i] = i % 4 < count ? (int8_t)(out[i] - zw[i / 4]) : 0;
}

QLM_KERNEL(void, expand_4)
(const void *b, size_t k, size_t group, const int8_t *zw, int8_t *out)
{
    const char *from = b;
    for (size_t start = 0; start < k; start += group) {
        size_t end = start + group < k ? start + group : k;
        n4_bytes zeros[N4_REGISTERS];
        if (zw) n4_zeros(zw, zeros);
        for (size_t at = start; at < start + group; at += 4, from += N4_STEP_BYTES, out += 2 * N4_STEP_BYTES)
            if (!zw)
                n4_exact(from, out);
            else if (at + 4 <= end)
                n4_exact_less(from, zeros, out);
            else
                n4_exact_part(from, zw, at < end ? end - at : 0, out);
        if (zw) zw += NR;
    }
}

QLM_KERNEL(int32_t, left_sum_4)
(const void *a, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += N4_LEFT == QLM_LEFT_U8 ? ((const uint8_t *)a)[i] : (uint32_t)((const int8_t *)a)[i];
    return (int32_t)sum;
}

/* Code `place` of each of 16 neighbouring groups of four. */
QLM_INLINE v16i n4_codes(const int8_t *fours, size_t place)
{
    int32_t words[16];
    __builtin_memcpy(words, fours, sizeof words);
    v16i lanes = v16_i_load(words);
    if (place == 0) return v16_i_sar(v16_i_shl(lanes, 24), 24);
    if (place == 1) return v16_i_sar(v16_i_shl(lanes, 16), 24);
    if (place == 2) return v16_i_sar(v16_i_shl(lanes, 8), 24);
    return v16_i_sar(lanes, 24);
}

QLM_INLINE void n4_unpack_row(const int8_t *codes, size_t place, const float *scale, const float *zero,
                              const float *offset, float *out)
{
    for (size_t j = 0; j < NR; j += 16) {
        v16f code = v16_f_from_i(n4_codes(codes + 4 * j, place));
        v16f product = v16_f_mul(v16_f_sub(code, v16_f_load(zero + j)), v16_f_load(scale + j));
        v16_f_store(out + j, v16_f_add(product, v16_f_load(offset + j)));
    }
}

QLM_KERNEL(void, unpack_4)
(const void *b, size_t k0, size_t count, const float *scale, const float *zero, const float *offset, float *out)
{
    const char *step = (const char *)b + k0 / 4 * N4_STEP_BYTES;
    size_t k = k0, end = k0 + count;
    for (; k < end; step += N4_STEP_BYTES) {
        int8_t codes[2 * N4_STEP_BYTES];
        n4_exact(step, codes);
        do {
            n4_unpack_row(codes, k % 4, scale, zero, offset, out);
            out += NR;
        } while (++k < end && k % 4);
    }
}
