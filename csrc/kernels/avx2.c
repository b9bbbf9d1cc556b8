/* Every kernel but the matrix products for AVX2. */
#if defined(__x86_64__)

#define QLM_ISA avx2
#include "vec_avx2.h"

#include "kernels.h"

#include "functions.inc.h"
#include "quantize.inc.h"
#include "elementwise.inc.h"
#include "groups.inc.h"
#include "rows.inc.h"
#include "epilogue.inc.h"

#endif
