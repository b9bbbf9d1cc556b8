/* The int8 kernels of AVX-512 VNNI with VBMI and VBMI2. */
#if defined(__x86_64__)

#define QLM_ISA avx512vbmi
#define QLM_TARGET                                                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512vbmi2,avx2,fma,f16c")))
#define QLM_VBMI 1
#include "avx512vnni.inc.h"

#endif
