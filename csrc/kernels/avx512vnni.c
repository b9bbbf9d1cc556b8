/* The int8 kernels of AVX-512 VNNI. */
#if defined(__x86_64__)

#define QLM_ISA avx512vnni
#define QLM_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#include "avx512vnni.inc.h"

#endif
