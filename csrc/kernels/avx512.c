/* Every kernel but the matrix products for AVX-512. */
#if defined(__x86_64__)

#define QLM_ISA avx512
#include "vec_avx512.h"

#include "kernels.h"

#include "functions.inc.h"
#include "quantize.inc.h"
#include "elementwise.inc.h"
#include "groups.inc.h"
#include "rows.inc.h"
#include "epilogue.inc.h"

#endif
