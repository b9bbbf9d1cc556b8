/* groups.h: what gemm_8_groups and gemm_4_groups are given (kernels.h), but for the number of rows. */
#ifndef QLM_GROUPS_H
#define QLM_GROUPS_H

#include <stddef.h>
#include <stdint.h>

struct qlm_groups {
    size_t k, group;
    const void *a;
    size_t lda;
    const void *b;
    const void *sw;
    int half;
    const int8_t *zw;
    const float *ow;
    const int32_t *zx;
    const float *rest, *sx, *centred, *ox;
    size_t rows;
    const float *scale, *zero, *shift, *chain, *bias, *residual;
    size_t ldr;
    float *out;
    size_t ldo;
    int far;
};

#endif
