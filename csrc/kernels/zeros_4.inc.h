/* zeros_4.inc.h: the zero points of 4-bit weights, ready to be taken off a step of codes: NR outputs of four k each.
 */
typedef uint8_t n4_bytes __attribute__((vector_size(sizeof(dot_sum))));

#define N4_REGISTERS (4 * NR / sizeof(n4_bytes)) /* of a step's codes */

/* The zero points of a group, each four times. */
QLM_INLINE void n4_zeros(const int8_t *zw, n4_bytes zeros[N4_REGISTERS])
{
    for (size_t j = 0; j < NR; j += 16) {
        v16i bytes = v16_i_and(v16_load_s8(zw + j), v16_i_set1(255));
        v16_i_store((int32_t *)zeros + j, v16_i_mul(bytes, v16_i_set1(0x01010101)));
    }
}
