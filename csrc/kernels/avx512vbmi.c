/* The int8 kernels of AVX-512 VNNI with VBMI and VBMI2, of which gcc 12 uses none by itself.  By hand: vpermb looks
 * nibbles up (nibbles_avx512.h).  Nothing else pays: a mask and a shift already make two registers of codes of one of
 * nibbles in three instructions, as vpmultishiftqb and masks would; vpermi2b puts four vectors of bytes together in
 * three instructions, but without the saturation that v64_high8 needs; and the codes of dense panels have nothing to
 * compress or to expand.
 */
#if defined(__x86_64__)

#define QLM_ISA avx512vbmi
#define QLM_VBMI
#define QLM_TARGET                                                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512vbmi2,avx2,fma,f16c")))
#include "avx512vnni.inc.h"

#endif
